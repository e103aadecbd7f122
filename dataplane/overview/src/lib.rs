//! What a person sees of a node at one moment: one structure that the status page, `butterfly
//! status` and `butterfly top` show, and that travels as JSON. Plain data: units are in the names,
//! shares are 0 to 1, moments are milliseconds since the Unix epoch.
#![forbid(unsafe_code)]

mod bar;
pub mod fill;

pub use bar::{Bar, Part};
pub use wire::mesh::Standing;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node at one moment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Overview {
    /// When this was taken.
    pub at_ms: u64,
    /// Who the node is and how it is set up.
    pub node: Node,
    /// Rates and latency of the last second or so.
    pub now: Rates,
    /// Agents, or workers where there are no agents, by how they stand.
    pub bar: Bar,
    /// Batches since the start.
    pub batches: Batches,
    /// Every worker process.
    pub workers: Vec<Worker>,
    /// Agents as a whole.
    pub mesh: Mesh,
    /// Every sector, lowest number first.
    pub sectors: Vec<Sector>,
    /// The last gathers, newest first.
    pub gathers: Vec<Gather>,
    /// Refused requests since the start, by reason; reasons that never occurred are left out.
    pub refusals: BTreeMap<String, u64>,
    /// The last refusals, newest first.
    pub recent_refusals: Vec<Refusal>,
    /// Copies of payload bytes in user space since the start, by stage.
    pub copies: BTreeMap<String, Copies>,
}

/// Who a node is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Node {
    /// The name others see.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Since it was ready.
    pub uptime_ms: u64,
    /// It takes requests: workers answer, no drain has begun.
    pub ready: bool,
    /// Why it is not ready, or empty.
    pub not_ready_because: String,
    /// Where requests are computed: `cpu-avx512`, `cuda`.
    pub backend: String,
    /// Why there.
    pub backend_reason: String,
    /// How connections are secured, in words.
    pub security: String,
    /// Plaintext beyond this host was asked for.
    pub insecure: bool,
    /// What runs in place of something better, a sentence each: the CPU for a GPU, small pages for
    /// huge ones, a worker without its sandbox.
    pub fallbacks: Vec<String>,
    /// Connections open now.
    pub connections: u64,
    /// Everything else that the node says of itself.
    pub facts: BTreeMap<String, String>,
}

/// Rates over the last second or more.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Rates {
    /// Queries answered per second.
    pub queries_per_s: f64,
    /// Rows per second; a row is a token's worth of work.
    pub tokens_per_s: f64,
    /// Bytes received per second.
    pub bytes_in_per_s: f64,
    /// Bytes sent per second.
    pub bytes_out_per_s: f64,
    /// Median time from complete request to queued reply.
    pub p50_ms: f64,
    /// Its 95th percentile.
    pub p95_ms: f64,
    /// Its 99th percentile.
    pub p99_ms: f64,
    /// Queries that were refused.
    pub error_share: f64,
    /// Queries whose deadline passed.
    pub timeout_share: f64,
}

/// One second of the past, for curves.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Point {
    /// When.
    pub at_ms: u64,
    /// The rates of that second.
    pub rates: Rates,
}

/// Batches and why they closed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Batches {
    /// Batches closed, by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// Requests in all of them.
    pub requests: u64,
    /// Requests in a batch, on average.
    pub mean_size: f64,
}

/// One worker process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Worker {
    /// `worker-0`.
    pub id: String,
    /// It answers.
    pub up: bool,
    /// Share of time at work.
    pub busy: f64,
    /// Where it computes, with the device's name where there is one.
    pub backend: String,
    /// All its checks hold.
    pub healthy: bool,
    /// Its checks, or none where it was not checked yet.
    pub checks: Vec<Check>,
    /// What its GPU says, where it has one.
    pub gpu: Option<Gpu>,
}

/// One check of a worker's health.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Check {
    /// `reachable`, `canary_topk`, `latency`, `cpu`, `memory`, `gpu`.
    pub name: String,
    /// It holds.
    pub holds: bool,
    /// What was measured and against what bound, in words.
    pub detail: String,
}

/// A GPU.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Share of time that it computed.
    pub busy: f64,
    /// Memory in use, bytes.
    pub memory_used: u64,
    /// Memory it has, bytes.
    pub memory_total: u64,
    /// Degrees Celsius.
    pub celsius: u32,
}

/// Agents as a whole.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Mesh {
    /// Agents that the registry knows.
    pub agents: u64,
    /// Active ones.
    pub active: u64,
    /// Agents by state.
    pub by_state: BTreeMap<String, u64>,
    /// Sectors.
    pub sectors: u64,
    /// Sectors with more than 0.95 of their agents active.
    pub sectors_healthy: u64,
    /// Mean impedance score, milliseconds.
    pub impedance_mean_ms: f64,
    /// Its 95th percentile.
    pub impedance_p95_ms: f64,
    /// Conflicts that agents reported within the last hour.
    pub conflicts_last_hour: u64,
    /// `normal`, `frozen`, `partly frozen`, `alone` (its parent is away).
    pub mode: String,
    /// When the last gather ended; 0 for never.
    pub last_gather_ms: u64,
    /// Shares of the last hour by indicator (`success`, `window_hit`, `accuracy`, `conflict`,
    /// `availability`, `recovery`); those without a case are left out.
    pub kpi: BTreeMap<String, f64>,
    /// 95th percentile of the last hundred gathers, milliseconds.
    pub cascade_p95_ms: f64,
}

/// One sector.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Sector {
    /// Its number.
    pub sector: u16,
    /// The node that coordinates it; empty for this one.
    pub node: String,
    /// Clusters.
    pub clusters: u32,
    /// Agents.
    pub agents: u32,
    /// Active ones.
    pub active: u32,
    /// Mean impedance score, milliseconds.
    pub mean_ms: f64,
    /// Its 95th percentile.
    pub p95_ms: f64,
}

/// One gather that ended.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Gather {
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// When it ended.
    pub at_ms: u64,
    /// `proceed`, `wait`, `resolve_conflicts`, `retry`.
    pub decision: String,
    /// Why, in words.
    pub reason: String,
    /// Agents that were asked for.
    pub targets: u32,
    /// Agents that a message was sent to.
    pub sent: u32,
    /// READY by the moment.
    pub in_time: u32,
    /// READY after it.
    pub late: u32,
    /// CONFLICT.
    pub conflicts: u32,
    /// No answer.
    pub silent: u32,
    /// Said only that they were under way.
    pub transit: u32,
    /// Left out, with their numbers.
    pub skipped: u32,
    /// How long it took, milliseconds.
    pub took_ms: f64,
    /// Arrivals about the moment: upper edge of a bin in milliseconds (negative: before it) and how
    /// many.
    pub arrivals: Vec<(f64, u64)>,
}

/// One refusal.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Refusal {
    /// When.
    pub at_ms: u64,
    /// Its reason, as in the registry of error codes.
    pub reason: String,
    /// The request, as it is said to `butterfly why`.
    pub request: String,
}

/// Copies made at one stage.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Copies {
    /// How often.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}
