//! What came of a gather: tables for people, an object for programs.

use crate::{
    arrivals::{self, Arrivals, duration},
    say::grouped,
    table,
};
use client::{ClassPart, Report, Skip};
use serde_json::{Value, json};
use std::fmt::Write as _;
use wire::mesh::{Decision, quantile};

/// Rows of the histogram, and characters of its longest bar.
const HISTOGRAM: (usize, usize) = (18, 56);

/// A quantile in a unit of so many nanoseconds; null for nothing.
fn at(bins: &[(u16, u64)], q: f64, unit: f64) -> Value {
    quantile(bins, q).map_or(Value::Null, |ns| rounded(ns as f64 / unit, 1e3))
}

/// A share as it was carried: 0.99, not 0.9900000095.
fn share(value: f32) -> Value {
    rounded(f64::from(value), 1e6)
}

fn rounded(value: f64, steps: f64) -> Value {
    json!((value * steps).round() / steps)
}

/// Everything, for programs.
pub(crate) fn as_json(report: &Report) -> Value {
    const US: f64 = 1e3;
    const MS: f64 = 1e6;
    let counts = &report.counts;
    let mut value = json!({
        "targets": counts.targets,
        "scheduled": counts.scheduled,
        "skipped": counts.skipped,
        "sent": counts.sent,
        "ready": counts.ready,
        "in_time": counts.in_time,
        "late": counts.late,
        "conflicts": counts.conflicts,
        "transit": counts.transit,
        "stragglers": counts.stragglers,
        "duplicates": counts.duplicates,
        "foreign": counts.foreign,
        "coverage": share(report.coverage),
        "response_rate": share(report.response_rate),
        "on_time": share(report.on_time),
        "confidence": share(report.confidence),
        "earliness_ms": {
            "p50": at(&report.earliness, 0.5, MS),
            "p99": at(&report.earliness, 0.99, MS),
        },
        "spread_us": tail(&report.spread, US),
        "prediction_error_ms": {
            "p50": at(&report.prediction_error, 0.5, MS),
            "p90": at(&report.prediction_error, 0.9, MS),
            "p99": at(&report.prediction_error, 0.99, MS),
        },
        "fire_error_us": tail(&report.fire_error, US),
        "plan_us": rounded(report.plan_ns as f64 / US, 1e3),
        "total_ms": rounded(report.total_ns as f64 / MS, 1e3),
        "decision": report.decision.name(),
        "reason": report.reason,
        "recommendation": report.recommendation,
    });
    value["target_epoch_ns"] = json!(report.target_epoch_ns);
    value["window_ms"] = rounded(report.window_ns as f64 / MS, 1e3);
    value["lead_max_ms"] = rounded(report.lead_max_ns as f64 / MS, 1e3);
    value["sectors_reached"] = json!(report.sectors_reached);
    value["clusters_reached"] = json!(report.clusters_reached);
    value["skips"] = report.skips.iter().map(skip_json).collect();
    value["classes"] = report.classes.iter().map(class_json).collect();
    value["phases"] = phases_json(report);
    value["straggler_names"] = json!(report.stragglers);
    value["conflict_rows"] = conflicts_json(report);
    value
}

fn tail(bins: &[(u16, u64)], unit: f64) -> Value {
    json!({ "p50": at(bins, 0.5, unit), "p99": at(bins, 0.99, unit), "max": at(bins, 1.0, unit) })
}

fn skip_json(skip: &Skip) -> Value {
    json!({
        "reason": skip.reason.name(),
        "count": skip.count,
        "would_need_ms": rounded(f64::from(skip.would_need_us) / 1e3, 1e3),
        "available_ms": rounded(f64::from(skip.available_us) / 1e3, 1e3),
    })
}

fn class_json(class: &ClassPart) -> Value {
    let [p50, p99] = class.earliness_us.map(|us| rounded(f64::from(us) / 1e3, 1e3));
    json!({
        "class": class.class.name(),
        "targets": class.targets,
        "sent": class.sent,
        "ready": class.ready,
        "in_time": class.in_time,
        "on_time": rounded(part(class.in_time, class.sent), 1e6),
        "earliness_ms": { "p50": p50, "p99": p99 },
        "lead_ms": { "p50": rounded(f64::from(class.lead_p50_us) / 1e3, 1e3) },
    })
}

fn phases_json(report: &Report) -> Value {
    let phase = |phase: &client::Phase| {
        json!({
            "name": phase.name,
            "reached": phase.reached,
            "of": phase.of,
            "needed": share(phase.needed),
            "took_ms": rounded(phase.took_ns as f64 / 1e6, 1e3),
        })
    };
    report.phases.iter().map(phase).collect()
}

fn conflicts_json(report: &Report) -> Value {
    let row = |row: &client::Conflict| {
        let context = format!("{:016x}", row.context_hash);
        json!({ "name": row.name, "detail": row.detail, "context_hash": context })
    };
    report.conflicts.iter().map(row).collect()
}

fn part(some: u32, of: u32) -> f64 {
    if of == 0 { 0.0 } else { f64::from(some) / f64::from(of) }
}

/// Shares near 1 differ in their last digits: 99.97%.
fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

fn shown(bins: &[(u16, u64)], q: f64) -> String {
    quantile(bins, q).map_or_else(|| "-".to_owned(), duration)
}

/// PROCEED, as people write it.
fn decision(decision: Decision) -> String {
    decision.name().replace('_', " ").to_uppercase()
}

/// Tables, and on a terminal the histogram, for people.
pub(crate) fn as_text(report: &Report, is_terminal: bool) -> String {
    let mut text = head(report);
    if !report.classes.is_empty() {
        let _ = write!(text, "\n\n{}", classes(&report.classes));
    }
    if !report.skips.is_empty() {
        let _ = write!(text, "\n\n{}", skips(&report.skips));
    }
    if !report.phases.is_empty() {
        let _ = write!(text, "\n\n{}", phases(report));
    }
    let ready = Arrivals::from_bins(&report.earliness, &report.lateness);
    if is_terminal && ready.count() > 0 {
        let (rows, width) = HISTOGRAM;
        let _ = write!(text, "\n\n{}", arrivals::draw(&[("ready, around T", &ready)], rows, width));
    }
    if !report.stragglers.is_empty() {
        let more =
            u64::from(report.counts.stragglers).saturating_sub(report.stragglers.len() as u64);
        let _ = write!(text, "\n\nno answer: {}", report.stragglers.join(", "));
        if more > 0 {
            let _ = write!(text, " and {} more", grouped(more));
        }
    }
    for conflict in &report.conflicts {
        let _ = write!(text, "\nconflict: {}: {}", conflict.name, conflict.detail);
    }
    text
}

fn head(report: &Report) -> String {
    let counts = &report.counts;
    let n = |count: u32| grouped(count.into());
    let mut rows = vec![
        [decision(report.decision), report.reason.clone()],
        [
            "targets".to_owned(),
            format!(
                "{} = {} scheduled + {} skipped; {} sent",
                n(counts.targets),
                n(counts.scheduled),
                n(counts.skipped),
                n(counts.sent)
            ),
        ],
        [
            "answers".to_owned(),
            format!(
                "{} ready ({} in time, {} late), {} conflicts, {} under way, {} silent",
                n(counts.ready),
                n(counts.in_time),
                n(counts.late),
                n(counts.conflicts),
                n(counts.transit),
                n(counts.stragglers)
            ),
        ],
        // These three only mean something together.
        [
            "on time".to_owned(),
            format!(
                "{} of the sent, {} early (p50, p99: {}); coverage {}, {} skipped",
                percent(report.on_time.into()),
                shown(&report.earliness, 0.5),
                shown(&report.earliness, 0.99),
                percent(report.coverage.into()),
                n(counts.skipped)
            ),
        ],
        ["spread at T".to_owned(), row(&report.spread, &[0.5, 0.99, 1.0])],
        ["prediction error".to_owned(), row(&report.prediction_error, &[0.5, 0.9, 0.99])],
        ["fire error".to_owned(), row(&report.fire_error, &[0.5, 0.99, 1.0])],
        [
            "time".to_owned(),
            format!(
                "planned in {}, window {}, {} in all",
                duration(report.plan_ns),
                duration(report.window_ns),
                duration(report.total_ns)
            ),
        ],
    ];
    if counts.duplicates > 0 || counts.foreign > 0 {
        let text = format!(
            "{} answers more than once, {} in another's name or to nothing",
            n(counts.duplicates),
            n(counts.foreign)
        );
        rows.push(["not counted".to_owned(), text]);
    }
    if !report.recommendation.is_empty() {
        rows.push(["advice".to_owned(), report.recommendation.clone()]);
    }
    table::plain(&rows)
}

/// `p50 12 us, p99 80 us, max 200 us`.
fn row(bins: &[(u16, u64)], quantiles: &[f64]) -> String {
    let name = |q: f64| if q >= 1.0 { "max".to_owned() } else { format!("p{:.0}", q * 100.0) };
    let parts: Vec<String> =
        quantiles.iter().map(|q| format!("{} {}", name(*q), shown(bins, *q))).collect();
    if bins.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

fn classes(classes: &[ClassPart]) -> String {
    let heads =
        ["class", "targets", "sent", "ready", "on time", "early p50", "early p99", "lead p50"];
    let us = |us: u32| duration(u64::from(us) * 1_000);
    let row = |class: &ClassPart| {
        [
            class.class.name().to_owned(),
            grouped(class.targets.into()),
            grouped(class.sent.into()),
            grouped(class.ready.into()),
            percent(part(class.in_time, class.sent)),
            us(class.earliness_us[0]),
            us(class.earliness_us[1]),
            us(class.lead_p50_us),
        ]
    };
    let rows: Vec<_> =
        std::iter::once(heads.map(str::to_owned)).chain(classes.iter().map(row)).collect();
    table::plain(&rows)
}

fn skips(skips: &[Skip]) -> String {
    let heads = ["skipped because", "agents", "would need", "had"];
    let us = |us: u32| if us == 0 { "-".to_owned() } else { duration(u64::from(us) * 1_000) };
    let row = |skip: &Skip| {
        [
            skip.reason.name().replace('_', " "),
            grouped(skip.count.into()),
            us(skip.would_need_us),
            us(skip.available_us),
        ]
    };
    let rows: Vec<_> =
        std::iter::once(heads.map(str::to_owned)).chain(skips.iter().map(row)).collect();
    table::plain(&rows)
}

fn phases(report: &Report) -> String {
    let heads = ["phase", "reached", "of", "needed", "took"];
    let row = |phase: &client::Phase| {
        [
            phase.name.clone(),
            grouped(phase.reached.into()),
            grouped(phase.of.into()),
            percent(phase.needed.into()),
            duration(phase.took_ns),
        ]
    };
    let rows: Vec<_> =
        std::iter::once(heads.map(str::to_owned)).chain(report.phases.iter().map(row)).collect();
    table::plain(&rows)
}

#[cfg(test)]
mod tests;
