//! An [`Overview`] out of what a node says: its figures, its map, its last gathers. Nothing here
//! asks anybody, so a node fills its own as others fill that of a node elsewhere.

mod mesh;
mod node;
mod workers;

use crate::{Batches, Copies, Overview, Rates};
use client::{Ended, Map, Metrics};
use std::collections::BTreeMap;
use wire::payload::Number;

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// What there is to see. Without a map the mesh is told from the counters alone; what only the node
/// itself knows (refusals one by one, why it is not ready) is left empty.
#[must_use]
pub fn overview(metrics: &Metrics, map: Option<&Map>, gathers: &[Ended]) -> Overview {
    let workers = workers::workers(metrics);
    Overview {
        at_ms: metrics.taken_ns / MS,
        node: node::node(metrics),
        now: rates(metrics),
        bar: mesh::bar(metrics).unwrap_or_else(|| workers::bar(&workers)),
        batches: batches(metrics),
        workers,
        mesh: mesh::mesh(metrics, map, gathers),
        sectors: map.into_iter().flat_map(|map| &map.sectors).map(mesh::sector).collect(),
        gathers: gathers.iter().map(mesh::gather).collect(),
        refusals: occurred(metrics.by_label("butterfly_refusals_total", "reason")),
        recent_refusals: Vec::new(),
        copies: copies(metrics),
    }
}

fn rates(metrics: &Metrics) -> Rates {
    let [p50_ms, p95_ms, p99_ms] = metrics.query_latency_ms.map(finite);
    let [bytes_in_per_s, bytes_out_per_s] = metrics.bytes_per_second.map(finite);
    Rates {
        queries_per_s: finite(metrics.queries_per_second),
        tokens_per_s: finite(metrics.tokens_per_second),
        bytes_in_per_s,
        bytes_out_per_s,
        p50_ms,
        p95_ms,
        p99_ms,
        error_share: finite(metrics.error_rate),
        timeout_share: finite(metrics.timeout_rate),
    }
}

fn batches(metrics: &Metrics) -> Batches {
    let by_reason = metrics.by_label("butterfly_batches_total", "closed_by");
    let requests = metrics.total("butterfly_batched_requests_total").unwrap_or(0);
    let closed = by_reason.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
    let mean_size = if closed == 0 { 0.0 } else { requests as f64 / closed as f64 };
    Batches { by_reason, requests, mean_size }
}

fn copies(metrics: &Metrics) -> BTreeMap<String, Copies> {
    let bytes = metrics.by_label("butterfly_copied_bytes_total", "stage");
    let of = |(stage, count): (String, u64)| {
        let bytes = bytes.get(&stage).copied().unwrap_or(0);
        (stage, Copies { count, bytes })
    };
    metrics.by_label("butterfly_copies_total", "stage").into_iter().map(of).collect()
}

/// Without what never occurred.
fn occurred(mut counts: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    counts.retain(|_, n| *n > 0);
    counts
}

/// Every figure of this name: its labels and its value.
fn figures<'a>(
    metrics: &'a Metrics,
    name: &'a str,
) -> impl Iterator<Item = (&'a BTreeMap<String, String>, f64)> {
    metrics.metrics.iter().filter(move |metric| metric.name == name).map(|metric| {
        let value = match metric.value {
            Number::Count(count) => count as f64,
            Number::Real(real) => finite(real),
        };
        (&metric.labels, value)
    })
}

/// The one figure of this name with this label.
fn figure(metrics: &Metrics, name: &str, label: &str, value: &str) -> Option<f64> {
    let of = |labels: &BTreeMap<String, String>| labels.get(label).is_some_and(|it| it == value);
    figures(metrics, name).find(|(labels, _)| of(labels)).map(|(_, value)| value)
}

/// JSON has no words for what is no number.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

#[cfg(test)]
mod tests;
