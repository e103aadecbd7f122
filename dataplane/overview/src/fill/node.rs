//! Who a node is, and what it runs in place of something better.

use super::{MS, figures};
use crate::Node;
use client::Metrics;
use std::collections::BTreeMap;

/// The figure whose labels are what the node says of itself.
const INFO: &str = "butterfly_info";

pub(super) fn node(metrics: &Metrics) -> Node {
    let info = figures(metrics, INFO).next().map(|(labels, _)| labels.clone());
    let mut facts = info.unwrap_or_default();
    let fallbacks = fallbacks(metrics, &facts);
    let mut take = |key: &str| facts.remove(key).unwrap_or_default();
    let (name, version) = (take("name"), take("version"));
    let (backend, backend_reason) = (take("backend"), take("backend_reason"));
    let (security, started) = (take("security"), take("started_ms"));
    let now_ms = metrics.taken_ns / MS;
    let ready = metrics.active_workers > 0;
    Node {
        name,
        version,
        uptime_ms: started.parse().map_or(0, |started: u64| now_ms.saturating_sub(started)),
        ready,
        not_ready_because: if ready { "" } else { "no worker answers" }.to_owned(),
        backend,
        backend_reason,
        insecure: metrics.total("butterfly_insecure").is_some_and(|n| n > 0),
        security,
        fallbacks,
        connections: metrics.total("butterfly_connections_open").unwrap_or(0),
        facts,
    }
}

/// A sentence for each thing that runs in place of a better one.
fn fallbacks(metrics: &Metrics, facts: &BTreeMap<String, String>) -> Vec<String> {
    let fact = |key: &str| facts.get(key).map(String::as_str);
    let mut found = Vec::new();
    let backend = fact("backend").unwrap_or_default();
    if fact("backend_asked") == Some("auto") && !backend.is_empty() && !backend.starts_with("cuda")
    {
        let why = fact("backend_reason").unwrap_or("no reason given");
        found.push(format!("the CPU computes in place of a GPU: {why}"));
    }
    match metrics.total("butterfly_worker_degraded_total") {
        None | Some(0) => {}
        Some(1) => found.push("a worker gave up its GPU for the CPU".to_owned()),
        Some(n) => found.push(format!("{n} times a worker gave up its GPU for the CPU")),
    }
    if fact("huge_page_bytes") == Some("0") {
        found.push("small pages in place of huge ones".to_owned());
    }
    found.extend(open_sandbox(metrics, fact("worker_sandbox")));
    if metrics.total("butterfly_mesh_state_works") == Some(0) {
        found.push("the mesh's state does not reach the disk: kept in memory only".to_owned());
    }
    found
}

/// Parts of the sandbox that are not closed around every ready worker.
fn open_sandbox(metrics: &Metrics, asked: Option<&str>) -> Option<String> {
    let ready = metrics.total("butterfly_workers_ready").filter(|ready| *ready > 0)?;
    if asked == Some("off") {
        return Some("workers run without a sandbox, as was asked for".to_owned());
    }
    let parts = metrics.by_label("butterfly_worker_sandbox", "part");
    let open: Vec<&str> =
        parts.iter().filter(|(_, n)| **n < ready).map(|(part, _)| part.as_str()).collect();
    (!open.is_empty()).then(|| format!("workers' sandbox lacks {}", open.join(", ")))
}
