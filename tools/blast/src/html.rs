//! Reports as pages: charts, tables beside them, and what is needed to believe them or to measure
//! again.

mod agents;
mod compare;
mod overload;
mod remarks;
mod run;
mod sweep;

use crate::{
    document::{Body, Document},
    origin::Origin,
    report::{Asked, Latency},
    server::Server,
};
use plot::{
    Axis, Mark, Page, Point, Scale, Series,
    text::{bytes, count, micros, short},
};

/// The page of a report.
#[must_use]
pub fn page(document: &Document) -> String {
    let Document { origin, body, .. } = document;
    match body {
        Body::Run(run) => run::page(origin, run),
        Body::Overload(overload) => overload::page(origin, overload),
        Body::Sweep(sweep) => sweep::page(origin, sweep),
        Body::Compare(comparison) => compare::page(origin, comparison),
        Body::Agents(report) => agents::page(origin, report),
    }
}

/// The line below the title: when, of what, where.
fn line(origin: &Origin, server: Option<&Server>) -> String {
    let mut parts = vec![origin.started(), format!("blast {}", origin.blast)];
    if let Some(version) = server.and_then(|server| server.facts.get("version")) {
        parts.push(format!("node {version}"));
    }
    if !origin.host.cpu.is_empty() {
        parts.push(origin.host.cpu.clone());
    }
    parts.join(" · ")
}

/// What is needed to measure again.
fn provenance(
    page: &mut Page,
    origin: &Origin,
    load: Option<(&Asked, &str)>,
    server: Option<&Server>,
) {
    if !origin.command.is_empty() {
        page.heading("Command");
        page.typed(&origin.typed());
    }
    if let Some((load, pace)) = load {
        page.heading("Load");
        page.facts(&settings(load, pace));
    }
    if let Some(server) = server {
        page.heading("Node");
        page.facts(&node(server));
    }
    page.heading("Machine of the load");
    let host = &origin.host;
    let memory =
        if host.memory_bytes == 0 { String::new() } else { bytes(host.memory_bytes as f64) };
    let facts = [
        ("processor", host.cpu.clone()),
        ("cores for blast", host.cores.to_string()),
        ("memory", memory),
        ("kernel", host.kernel.clone()),
    ];
    page.facts(&known(facts));
}

fn known<const N: usize>(facts: [(&str, String); N]) -> Vec<(String, String)> {
    let facts = facts.into_iter().filter(|(_, what)| !what.is_empty());
    facts.map(|(name, what)| (name.to_owned(), what)).collect()
}

fn settings(load: &Asked, pace: &str) -> Vec<(String, String)> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let time = |seconds: f64| micros(seconds * 1e6);
    // Heartbeats have no rows.
    let rows = !matches!(load.op.as_str(), "ping" | "heartbeat");
    let tensor = || load.tensor.clone().unwrap_or_else(|| "made up".to_owned());
    let of_rows = |what: &dyn Fn() -> String| if rows { what() } else { String::new() };
    known([
        ("address", load.addr.clone()),
        ("operation", load.op.clone()),
        ("pace", pace.to_owned()),
        ("connections", count(load.connections.into())),
        ("requests under way", format!("up to {} on each connection", load.depth)),
        ("threads", load.threads.to_string()),
        ("polling of blast", load.poll.clone()),
        ("bytes of a request", count(load.request_bytes as u64)),
        ("different requests", count(load.distinct as u64)),
        ("rows of a request", of_rows(&|| load.rows.to_string())),
        ("k", load.k.map_or_else(String::new, |k| k.to_string())),
        ("values", text(&load.values)),
        ("tensor", of_rows(&tensor)),
        (
            "timeout",
            match load.timeout_ms {
                0 => "the node's".to_owned(),
                ms => format!("{ms} ms"),
            },
        ),
        ("priority", load.priority.clone()),
        ("counted", format!("{} after {} of warm-up", time(load.duration_s), time(load.warmup_s))),
    ])
}

fn node(server: &Server) -> Vec<(String, String)> {
    let unknown = || "unknown: the node gave no metrics".to_owned();
    let mut facts = vec![
        ("backend".to_owned(), server.backend.clone().unwrap_or_else(unknown)),
        ("polling".to_owned(), server.poll.clone().unwrap_or_else(unknown)),
    ];
    let ratio = |value: Option<f64>| value.map_or_else(String::new, plot::text::digits);
    let batches: Vec<String> =
        server.batches.iter().map(|(why, n)| format!("{why} {}", count(*n))).collect();
    facts.extend(known([
        ("copies per request", ratio(server.copies_per_request)),
        ("bytes copied per request", ratio(server.copied_bytes_per_request)),
        ("requests per batch", ratio(server.batch_mean)),
        ("batches closed by", batches.join(", ")),
        ("run again after a worker died", server.reclaimed.map_or_else(String::new, count)),
    ]));
    let said = server.facts.iter().filter(|(name, _)| !matches!(name.as_str(), "backend" | "poll"));
    facts.extend(said.map(|(name, what)| (name.replace('_', " "), what.clone())));
    facts
}

/// Percentiles as the head of a table, and their cells.
const PERCENTILES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

fn percentiles(latency: &Latency) -> Vec<String> {
    let Latency { p50, p90, p99, p999, max } = *latency;
    [p50, p90, p99, p999, max].map(time).to_vec()
}

/// Microseconds, or a dash.
fn time(us: Option<f64>) -> String {
    us.map_or_else(|| "-".to_owned(), micros)
}

/// A latency axis: equal factors take equal room, so that a tail does not flatten the rest.
fn latency_axis(values: impl IntoIterator<Item = f64>) -> Axis {
    Axis::new("latency, logarithmic", Scale::logarithmic(values), micros)
}

/// A rate as it stands on an axis.
fn per_second(rate: f64) -> String {
    format!("{}/s", short(rate))
}

/// A series; points without a number are gaps.
fn series(
    name: &str,
    tone: u8,
    mark: Mark,
    points: impl IntoIterator<Item = (f64, Option<f64>)>,
) -> Series {
    let points = points.into_iter().map(|(x, y)| Point::new(x, y.unwrap_or(f64::NAN)));
    Series { name: name.to_owned(), tone, mark, points: points.collect() }
}

/// All heights of some series.
fn heights(series: &[Series]) -> Vec<f64> {
    series.iter().flat_map(|one| &one.points).map(|point| point.y).collect()
}

/// The axis of a percentile curve: each nine takes as much room as the one before.
fn share_axis(most: f64) -> Axis {
    let ticks = [
        (1.0, "0%"),
        (2.0, "50%"),
        (10.0, "90%"),
        (100.0, "99%"),
        (1e3, "99.9%"),
        (1e4, "99.99%"),
        (1e5, "99.999%"),
        (1e6, "99.9999%"),
        (1e7, "99.99999%"),
    ];
    let write = |x: f64| format!("{}%", plot::text::digits(100.0 * (1.0 - 1.0 / x.max(1.0))));
    let mut axis = Axis::new("share of the answers", Scale::logarithmic([1.0, most]), write);
    axis.ticks = ticks.map(|(x, name)| (x, name.to_owned())).to_vec();
    axis
}

/// A percentile curve: (share, microseconds) to where it stands. Its end is where one answer of
/// `total` is left.
fn shares(curve: &[(f64, f64)], total: u64) -> Vec<(f64, Option<f64>)> {
    let most = (total as f64).max(2.0);
    let place = |share: f64| (1.0 / (1.0 - share).max(1e-12)).clamp(1.0, most);
    curve.iter().map(|(share, us)| (place(*share), Some(*us))).collect()
}

/// Counts by name as rows of a table.
fn counted<'a>(
    what: &str,
    counts: impl IntoIterator<Item = (&'a String, &'a u64)>,
) -> Vec<Vec<String>> {
    let row = |(name, n): (&String, &u64)| vec![what.to_owned(), name.clone(), count(*n)];
    counts.into_iter().map(row).collect()
}
