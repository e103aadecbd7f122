//! GATHER_REPORT out of the books: own targets, and what the nodes below said, added up.

use super::{
    Run,
    kids::{self, KidState},
    tally::{bins, unbin},
    targets::State,
};
use crate::{Time, class::CLASSES, registry::Registry, sketch::Sketch, trinary};
use std::collections::BTreeSet;
use wire::{
    mesh::{AgentClass, NAMES_MAX},
    payload::{
        Text,
        mesh::{Bin, ClassRow, ConflictRow, Counts, GatherReport, SkipRow},
    },
};

/// The own part of the counts. `now`: copies due later have not left yet. In progress a target
/// whose phase has not come counts as scheduled, so that the sums hold all the time.
pub(crate) fn own_counts(run: &Run, now: Time, is_final: bool) -> Counts {
    let tally = &run.tally;
    let mut counts = Counts {
        skipped: tally.skipped(),
        in_time: tally.in_time,
        late: tally.late,
        duplicates: tally.duplicates,
        foreign: tally.foreign,
        ..Counts::default()
    };
    for row in run.targets.rows() {
        match row.state {
            State::Skipped => continue,
            State::Waiting => {}
            State::Silent | State::Lost => {
                let left = is_final || row.send_at <= now;
                counts.sent += u32::from(left);
                counts.stragglers += u32::from(is_final);
            }
            State::Transit => {
                counts.sent += 1;
                counts.transit += 1;
            }
            State::Ready => {
                counts.sent += 1;
                counts.ready += 1;
            }
            State::Conflict => {
                counts.sent += 1;
                counts.conflicts += 1;
            }
        }
        counts.scheduled += 1;
    }
    counts.targets = counts.scheduled + counts.skipped;
    counts
}

/// All counts.
pub(crate) fn counts(run: &Run, now: Time, is_final: bool) -> Counts {
    let mut sum = own_counts(run, now, is_final);
    for kid in &run.kids {
        kids::add(&mut sum, &kid.counts(is_final));
    }
    sum
}

/// Sectors and clusters with a READY agent of this node.
fn reached(run: &Run, registry: &Registry) -> (u32, u32) {
    let mut clusters = BTreeSet::new();
    let mut sectors = BTreeSet::new();
    for row in run.targets.rows().iter().filter(|row| row.state == State::Ready) {
        let seat = registry.seat(row.handle);
        if clusters.insert(seat.cluster) {
            sectors.insert(seat.sector());
        }
    }
    (sectors.len() as u32, clusters.len() as u32)
}

fn class_rows(run: &Run) -> Vec<ClassRow> {
    let us =
        |time: Option<Time>| time.map_or(0, |time| u32::try_from(time / 1_000).unwrap_or(u32::MAX));
    let mut rows = [ClassRow::default(); CLASSES];
    for row in run.targets.rows() {
        let class = &mut rows[row.class as usize];
        class.targets += 1;
        let left = !matches!(row.state, State::Waiting | State::Skipped);
        class.sent += u32::from(left);
        class.ready += u32::from(row.state == State::Ready);
    }
    for ((row, class), tally) in rows.iter_mut().zip(AgentClass::ALL).zip(&run.tally.classes) {
        row.class = class.code();
        row.targets += tally.unreachable;
        row.in_time = tally.in_time;
        row.earliness_p50_us = us(tally.earliness.quantile(0.5));
        row.earliness_p99_us = us(tally.earliness.quantile(0.99));
        row.lead_p50_us = us(tally.leads.quantile(0.5));
    }
    rows.into_iter().filter(|row| row.targets > 0).collect()
}

fn names(run: &Run, registry: &Registry, kid_name: &dyn Fn(u32) -> String) -> Vec<Text> {
    let mut names: Vec<Text> = Vec::new();
    for kid in run.kids.iter().filter(|kid| kid.state != KidState::Done) {
        names.push(format!("node {}", kid_name(kid.child)).into());
    }
    let silent = |state| matches!(state, State::Silent | State::Lost);
    let rows = run.targets.rows().iter().filter(|row| silent(row.state));
    names.extend(rows.take(NAMES_MAX).map(|row| name(registry, row.handle)));
    for kid in &run.kids {
        names.extend(kid.said(true).into_iter().flat_map(|said| said.straggler_names.clone()));
    }
    names.truncate(NAMES_MAX);
    names
}

fn name(registry: &Registry, handle: u32) -> Text {
    registry.seat(handle).name().to_string().into()
}

fn conflict_rows(run: &Run, registry: &Registry) -> Vec<ConflictRow> {
    let own = run.tally.quarrels.iter().map(|quarrel| ConflictRow {
        name: name(registry, quarrel.handle),
        detail: quarrel.detail.as_str().into(),
        context_hash: quarrel.context_hash,
    });
    let below = run.kids.iter().filter_map(|kid| kid.said(true));
    let below = below.flat_map(|said| said.conflict_rows.iter().cloned());
    own.chain(below).take(NAMES_MAX).collect()
}

fn histogram(run: &Run, own: &Sketch, of: fn(&GatherReport) -> &[Bin]) -> Vec<Bin> {
    let said: Vec<_> = run.kids.iter().filter_map(|kid| kid.said(true)).map(of).collect();
    if said.iter().all(|bins| bins.is_empty()) {
        return bins(own);
    }
    let mut sum = own.clone();
    for part in said {
        sum.merge(&unbin(part));
    }
    bins(&sum)
}

fn skip_rows(run: &Run, is_final: bool) -> Vec<SkipRow> {
    let mut rows = run.tally.skip_rows();
    for kid in &run.kids {
        if let Some(said) = kid.said(is_final) {
            kids::add_skips(&mut rows, &said.skips);
        }
        if let Some((reason, count)) = kid.unsaid_skip(is_final).filter(|(_, count)| *count > 0) {
            let row = SkipRow { count, reason: reason.code(), ..SkipRow::default() };
            kids::add_skips(&mut rows, &[row]);
        }
    }
    rows
}

/// The report of a gather, without its decision and its times.
pub(crate) fn build(
    run: &Run,
    registry: &Registry,
    kid_name: &dyn Fn(u32) -> String,
    now: Time,
    is_final: bool,
) -> GatherReport {
    let counts = counts(run, now, is_final);
    let tally = &run.tally;
    let mut report = GatherReport {
        skips: skip_rows(run, is_final),
        phases: run.phases.clone(),
        correlation_id: run.order.correlation_id,
        target_ns: run.target,
        window_ns: run.window,
        plan_ns: run.plan_ns,
        total_ns: now.saturating_sub(run.began),
        lead_max_ns: run.lead_max,
        coverage: trinary::share(counts.scheduled, counts.targets),
        response_rate: trinary::share(counts.ready, counts.sent),
        on_time: trinary::share(counts.in_time, counts.sent),
        counts,
        is_final,
        ..GatherReport::default()
    };
    if !is_final {
        return report;
    }
    report.earliness = histogram(run, &tally.earliness, |said| &said.earliness);
    report.lateness = histogram(run, &tally.lateness, |said| &said.lateness);
    report.spread = histogram(run, &tally.spread, |said| &said.spread);
    report.prediction_error =
        histogram(run, &tally.prediction_error, |said| &said.prediction_error);
    report.fire_error = histogram(run, &tally.fire_error, |said| &said.fire_error);
    report.classes = class_rows(run);
    report.straggler_names = names(run, registry, kid_name);
    report.conflict_rows = conflict_rows(run, registry);
    (report.sectors_reached, report.clusters_reached) = reached(run, registry);
    for said in run.kids.iter().filter_map(|kid| kid.said(true)) {
        kids::add_classes(&mut report.classes, &said.classes);
        report.sectors_reached = report.sectors_reached.saturating_add(said.sectors_reached);
        report.clusters_reached = report.clusters_reached.saturating_add(said.clusters_reached);
        report.plan_ns = report.plan_ns.max(said.plan_ns);
        report.lead_max_ns = report.lead_max_ns.max(said.lead_max_ns);
    }
    report
}
