//! The result of a run: arithmetic over the counts, JSON, and a table for people.

use crate::{
    config::{Config, Op, Pace},
    server::Server,
    tally::Tally,
    terminal::framed,
    timeline::Timeline,
};
use client::Addr;
use dataplane_core::driver::Time;
use dataplane_uring::Policy;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, net::IpAddr};

/// A busier thread than this had no time to be on time.
const BUSY_MAX: f64 = 0.9;
/// Share of sends that may be late by this program's own fault.
const LATE_OWN_MAX: f64 = 0.01;

/// What a run found. Requests of the warm-up are in none of the counts; faults always are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Report {
    /// Sends whose planned time lay in the measured interval.
    pub planned: u64,
    /// Those that left.
    pub sent: u64,
    /// Answers that passed every check.
    pub ok: u64,
    /// Requests refused by the node, and connections that it refused as a whole.
    pub refused: u64,
    /// Replies that failed a check, and connections that failed.
    pub errors: u64,
    /// Requests with neither reply nor refusal.
    pub lost: u64,
    /// Sends that left more than 1 ms after their planned time.
    pub late: u64,
    /// Seconds from the first counted send to the last counted answer, at least the measured
    /// interval.
    pub duration_s: f64,
    /// Good answers per second of that.
    pub rps: f64,
    /// Bytes of the counted replies, headers included.
    pub bytes_in: u64,
    /// Bytes of the counted requests, headers included.
    pub bytes_out: u64,
    /// Microseconds from planned send to checked answer.
    pub latency_us: Latency,
    /// Microseconds from planned send to refusal.
    pub refused_us: Latency,
    /// What the node says of itself, over warm-up and run.
    pub server: Server,
    /// Refusals by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Errors by kind.
    pub error_kinds: BTreeMap<String, u64>,
    /// Connections that died and were replaced.
    pub reconnects: u64,
    /// This program, not the node, set the limit: the numbers say little about the node.
    pub client_bound: bool,
    /// Why that is so.
    pub client_bound_reason: Option<String>,
    /// Share of its time that the busiest thread had something to do.
    pub busy: f64,
    /// What was asked for.
    pub load: Asked,
}

/// Latency in microseconds; nothing where there was no good answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Latency {
    /// Half of the answers came within this.
    pub p50: Option<f64>,
    /// 90%.
    pub p90: Option<f64>,
    /// 99%.
    pub p99: Option<f64>,
    /// 99.9%.
    pub p999: Option<f64>,
    /// All.
    pub max: Option<f64>,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let us = |ns: u64| (!histogram.is_empty()).then_some(ns as f64 / 1e3);
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        // The top bucket's upper end may lie above the largest value, which is known exactly.
        let max = us(histogram.max());
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

/// The run as it was asked for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Asked {
    /// The node.
    pub addr: String,
    /// What was asked for.
    pub op: String,
    /// Planned sends per second; nothing for a closed loop.
    pub rate: Option<f64>,
    /// Connections.
    pub connections: u32,
    /// Requests under way on each.
    pub depth: u32,
    /// Threads.
    pub threads: u32,
    /// Bytes of one request, header included.
    pub request_bytes: usize,
    /// Distinct requests.
    pub distinct: usize,
    /// Rows of one request.
    pub rows: u32,
    /// Entries per row, for top-k and lm-head.
    pub k: Option<u32>,
    /// Type of returned values, for the same.
    pub values: Option<String>,
    /// Where the rows came from; nothing for made-up ones.
    pub tensor: Option<String>,
    /// Milliseconds after which the node may give a request up; 0 for its default.
    pub timeout_ms: u32,
    /// What goes first.
    pub priority: String,
    /// Seconds that requests counted.
    pub duration_s: f64,
    /// Seconds that they flowed before.
    pub warmup_s: f64,
    /// What a thread did while nothing happened.
    pub poll: String,
    /// The node is on the machine that the load came from, as far as its address tells.
    pub same_host: bool,
}

impl Asked {
    /// What was asked for, with requests of so many bytes, of which so many differ.
    fn of(config: &Config, (request_bytes, distinct): (usize, usize)) -> Self {
        let picks = matches!(config.op, Op::Work(wire::Operation::TopK | wire::Operation::LmHead));
        Self {
            addr: config.addr.to_string(),
            op: config.op.name().to_owned(),
            rate: match config.pace {
                Pace::Open { rate } => Some(rate),
                Pace::Closed => None,
            },
            connections: config.connections,
            depth: config.depth,
            threads: config.threads_used(),
            request_bytes,
            distinct,
            rows: config.rows,
            k: picks.then_some(config.k),
            values: picks.then(|| format!("{:?}", config.values).to_lowercase()),
            tensor: config.tensor.as_ref().map(ToString::to_string),
            timeout_ms: config.timeout_ms,
            priority: config.priority.name().to_owned(),
            duration_s: config.duration.as_secs_f64(),
            warmup_s: config.warmup.as_secs_f64(),
            poll: match config.poll {
                Policy::Latency => "latency",
                Policy::Balanced { .. } => "balanced",
                Policy::Frugal => "frugal",
            }
            .to_owned(),
            same_host: is_here(&config.addr),
        }
    }
}

/// True for addresses that do not leave this machine.
fn is_here(addr: &Addr) -> bool {
    match addr {
        Addr::Unix(_) => true,
        Addr::Tcp { host, .. } | Addr::Tls { host, .. } | Addr::Quic { host, .. } => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

/// A report, and what a page or a comparison needs beside it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Run {
    /// The report.
    #[serde(flatten)]
    pub report: Report,
    /// Latency by share of the answers: (share, microseconds), rising.
    #[serde(default)]
    pub curve: Vec<(f64, f64)>,
    /// The run in equal stretches of time.
    #[serde(default)]
    pub timeline: Timeline,
}

/// Latency by share of the answers, with more points where fewer are left.
pub(crate) fn curve(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    if latency.is_empty() {
        return Vec::new();
    }
    let points = latency.iter_quantiles(4).map(|at| {
        // The upper end of the last bucket may lie above the largest value, which is known exactly.
        let ns = at.value_iterated_to().min(latency.max());
        (at.quantile_iterated_to(), ns as f64 / 1e3)
    });
    points.collect()
}

/// What a report is made from.
#[derive(Debug)]
pub struct Findings<'a> {
    /// The run.
    pub config: &'a Config,
    /// Bytes of one request, and how many distinct ones there were.
    pub requests: (usize, usize),
    /// When counting began, and when no more was planned.
    pub interval: (Time, Time),
    /// The sum over threads.
    pub tally: &'a Tally,
    /// Share of its time that the busiest thread had something to do.
    pub busy: f64,
    /// What the node says.
    pub server: Server,
}

impl Report {
    /// Does the arithmetic.
    #[must_use]
    pub fn new(findings: Findings<'_>) -> Self {
        let Findings { config, requests, interval: (from, to), tally, busy, server } = findings;
        let end = tally.last_reply.max(tally.ended.min(to)).max(from);
        let duration_s = (end - from) as f64 / 1e9;
        let rps = if duration_s > 0.0 { tally.ok as f64 / duration_s } else { 0.0 };
        let client_bound_reason = bound(tally, busy);
        Self {
            planned: tally.planned,
            sent: tally.sent,
            ok: tally.ok,
            refused: tally.refused(),
            errors: tally.errors(),
            lost: tally.lost,
            late: tally.late,
            duration_s,
            rps,
            bytes_in: tally.bytes_in,
            bytes_out: tally.bytes_out,
            latency_us: Latency::of(&tally.latency),
            refused_us: Latency::of(&tally.refused_after),
            server,
            refusals: tally.refusals(),
            error_kinds: tally.fault_kinds(),
            reconnects: tally.reconnects,
            client_bound: client_bound_reason.is_some(),
            client_bound_reason,
            busy,
            load: Asked::of(config, requests),
        }
    }

    /// True where every request was answered or refused, and nothing was wrong.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.errors == 0 && self.lost == 0
    }
}

/// Whether, and why, the numbers measure this program more than the node.
fn bound(tally: &Tally, busy: f64) -> Option<String> {
    if busy > BUSY_MAX {
        return Some(format!(
            "a thread of blast was busy {:.0}% of the time: give it more --threads, or cores of \
             its own",
            busy * 100.0
        ));
    }
    let share = tally.late_own as f64 / (tally.sent as f64).max(1.0);
    (share > LATE_OWN_MAX).then(|| {
        format!(
            "{:.1}% of the sends left late although their windows had room: the machine is too \
             busy",
            share * 100.0
        )
    })
}

impl Report {
    /// For people, in so many columns.
    #[must_use]
    pub fn text(&self, columns: u16) -> String {
        let mut rows = self.counts();
        rows.extend(self.times());
        rows.push(["node".to_owned(), self.server.to_string()]);
        for (reason, count) in &self.refusals {
            rows.push(["refused".to_owned(), format!("{count} {reason}")]);
        }
        for (kind, count) in &self.error_kinds {
            rows.push(["error".to_owned(), format!("{count} {kind}")]);
        }
        if self.sent < self.planned {
            let unsent = self.planned - self.sent;
            let what = format!(
                "{unsent} planned sends never left: the node is slower than the rate, latency is \
                 at least this"
            );
            rows.push(["behind".to_owned(), what]);
        }
        if self.reconnects > 0 {
            rows.push(["connections".to_owned(), format!("{} replaced", self.reconnects)]);
        }
        if let Some(reason) = &self.client_bound_reason {
            rows.push(["blast-bound".to_owned(), reason.clone()]);
        }
        framed(&rows, columns)
    }

    fn counts(&self) -> Vec<[String; 2]> {
        let Asked { op, connections, depth, threads, request_bytes, .. } = &self.load;
        let pace = match self.load.rate {
            Some(rate) => format!("open loop, {}/s planned", number(rate)),
            None => "closed loop".to_owned(),
        };
        let load =
            format!("{op}, {request_bytes} B, {connections} x {depth}, {threads} threads, {pace}");
        let per_second = |bytes: u64| number(bytes as f64 / self.duration_s.max(1e-9));
        let (out, back) = (per_second(self.bytes_out), per_second(self.bytes_in));
        [
            ("load", load),
            ("requests", format!("{} planned, {} sent", self.planned, self.sent)),
            ("answers", format!("{} ok, {} refused", self.ok, self.refused)),
            ("faults", format!("{} errors, {} lost, {} late", self.errors, self.lost, self.late)),
            ("rate", format!("{}/s over {:.2} s", number(self.rps), self.duration_s)),
            ("bytes", format!("{out}B/s out, {back}B/s in")),
        ]
        .map(|(name, what)| [name.to_owned(), what])
        .to_vec()
    }

    fn times(&self) -> Vec<[String; 2]> {
        let mut rows = Vec::new();
        let Latency { p50, p90, p99, p999, max } = self.latency_us;
        if let (Some(p50), Some(p90), Some(p99), Some(p999), Some(max)) = (p50, p90, p99, p999, max)
        {
            let line = format!(
                "p50 {p50:.1}  p90 {p90:.1}  p99 {p99:.1}  p99.9 {p999:.1}  max {max:.1} us"
            );
            rows.push(["latency".to_owned(), line]);
        }
        let Latency { p50, p99, max, .. } = self.refused_us;
        if let (Some(p50), Some(p99), Some(max)) = (p50, p99, max) {
            let line = format!("p50 {p50:.1}  p99 {p99:.1}  max {max:.1} us");
            rows.push(["refused in".to_owned(), line]);
        }
        rows
    }
}

/// The table, for a wide terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(120))
    }
}

/// A number people can read: three digits and a unit of thousands.
pub(crate) fn number(value: f64) -> String {
    for (unit, name) in [(1e9, " G"), (1e6, " M"), (1e3, " k")] {
        if value >= unit {
            return format!("{:.3}{name}", value / unit);
        }
    }
    format!("{value:.1} ")
}
