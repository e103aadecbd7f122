//! What a measured run found, for people and for machines.

use super::{fault::Kind, measure::Row, world::World};
use fleet::{MS, SECOND};
use std::fmt::Write as _;
use wire::mesh::AgentClass;

const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

fn ms(time: Option<u64>) -> f64 {
    time.unwrap_or(0) as f64 / MS as f64
}

/// Classes that got messages.
fn classes(rows: &[Row; 6]) -> impl Iterator<Item = (AgentClass, &Row)> {
    AgentClass::ALL.iter().copied().zip(rows).filter(|(_, row)| row.sent > 0)
}

/// Virtual seconds over real ones.
fn times(world: &World, took: f64) -> f64 {
    world.now as f64 / SECOND as f64 / took
}

/// When the fleet steps, if it does.
fn step(world: &World) -> Option<u64> {
    let steps = |kind| matches!(kind, Kind::LinkStep | Kind::ServiceStep);
    let fault = world.plan.faults.iter().rfind(|fault| steps(fault.kind))?;
    Some(fault.at(world.plan.duration))
}

/// One line for each class.
fn rows_text(out: &mut String, rows: &[Row; 6]) {
    for (class, row) in classes(rows) {
        let oracle = row.beside.oracle_in_time as f64 / row.beside.count.max(1) as f64;
        let _ = writeln!(
            out,
            "{:<5} {:>9}  {:>9.3}  {:>17.1} {:>6.1} {:>6.1}  {:>9.3}  {:>8.3}",
            class.name(),
            row.sent,
            100.0 * row.on_time(),
            row.mean_ms(),
            ms(row.earliness.quantile(0.5)),
            ms(row.earliness.quantile(0.99)),
            row.price().unwrap_or(0.0),
            100.0 * oracle
        );
    }
}

/// For people.
#[must_use]
pub(super) fn text(world: &World, took: f64) -> String {
    let mut out = String::new();
    let (plan, totals) = (&world.plan, &world.totals);
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{} agents, {} s of {}, seed {}: {} events, {} heartbeats, {} copies, {} answers",
        plan.agents,
        plan.duration / SECOND,
        plan.network.name(),
        plan.seed,
        totals.events,
        totals.beats,
        totals.sent,
        totals.answers
    );
    for (dial, rows) in world.measure.rows.iter().enumerate() {
        let wanted = f64::from(plan.dials[dial]);
        let [targets, scheduled, skipped] = world.measure.reach[dial];
        let coverage = 100.0 * scheduled as f64 / targets.max(1) as f64;
        let _ = writeln!(
            out,
            "dialled {:.2} %: coverage {coverage:.2} %, {skipped} skips of {targets} targets",
            100.0 * wanted
        );
        let _ = writeln!(
            out,
            "class      sent  on time %  earliness ms mean    p50    p99   / oracle  oracle %"
        );
        rows_text(&mut out, rows);
        for q in QUANTILES {
            if let Some((error, ratio)) = world.measure.error_at(dial, q) {
                let error = ms(Some(error));
                let _ = writeln!(
                    out,
                    "prediction error p{:.0}: {error:.2} ms, {ratio:.3} of the oracle's",
                    100.0 * q
                );
            }
        }
        if let Some(step) = step(world) {
            let back = world.measure.recovery(step, wanted);
            let _ = writeln!(out, "back within a point after the step: {back:?} messages");
        }
    }
    let spread = |q| world.measure.spread.quantile(q).unwrap_or(0) as f64 / 1e3;
    let _ = writeln!(
        out,
        "acting off the moment (clocks): p50 {:.1} us, p99 {:.1} us, max {:.1} us",
        spread(0.5),
        spread(0.99),
        spread(1.0)
    );
    let _ = writeln!(
        out,
        "{:.2} M events/s, {:.0} times faster than real time, {took:.2} s; hash {:016x}",
        totals.events as f64 / took / 1e6,
        times(world, took),
        world.hash
    );
    out
}

/// For machines.
#[must_use]
pub(super) fn json(world: &World, took: f64) -> String {
    let dials: Vec<String> = world
        .measure
        .rows
        .iter()
        .enumerate()
        .map(|(dial, rows)| dial_json(world, dial, rows))
        .collect();
    format!(
        "{{\"agents\":{},\"seconds\":{},\"network\":\"{}\",\"seed\":{},\"events\":{},\
         \"events_per_second\":{:.0},\"times_real\":{:.2},\"hash\":\"{:016x}\",\"dials\":[{}]}}",
        world.plan.agents,
        world.plan.duration / SECOND,
        world.plan.network.name(),
        world.plan.seed,
        world.totals.events,
        world.totals.events as f64 / took,
        times(world, took),
        world.hash,
        dials.join(",")
    )
}

fn dial_json(world: &World, dial: usize, rows: &[Row; 6]) -> String {
    let classes: Vec<String> = classes(rows)
        .map(|(class, row)| {
            format!(
                "{{\"class\":\"{}\",\"sent\":{},\"on_time\":{:.5},\"earliness_ms\":{:.3},\
                 \"earliness_over_oracle\":{:.4}}}",
                class.name(),
                row.sent,
                row.on_time(),
                row.mean_ms(),
                row.price().unwrap_or(0.0)
            )
        })
        .collect();
    let [targets, scheduled, skipped] = world.measure.reach[dial];
    let (error, ratio) = world.measure.error_at(dial, 0.9).unwrap_or_default();
    format!(
        "{{\"dial\":{},\"targets\":{targets},\"scheduled\":{scheduled},\"skipped\":{skipped},\
         \"prediction_error_p90_ms\":{:.3},\"prediction_error_over_oracle\":{ratio:.4},\
         \"classes\":[{}]}}",
        world.plan.dials[dial],
        ms(Some(error)),
        classes.join(",")
    )
}
