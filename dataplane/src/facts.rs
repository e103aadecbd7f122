//! What a node says of itself beside its counters: the labels of `butterfly_info`.

use crate::{http::HttpPlan, plan::Plan, security::Security, workers::Ready};
use std::time::{SystemTime, UNIX_EPOCH};

/// All of it, by name.
pub(crate) fn of(
    plan: &Plan,
    ready: &Ready,
    basis: String,
    huge_bytes: u64,
) -> Vec<(&'static str, String)> {
    vec![
        ("name", plan.mesh.name.clone()),
        ("started_ms", epoch_ms().to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("backend", ready.backend.clone()),
        ("backend_reason", ready.text.clone()),
        ("backend_asked", plan.backend.name().to_owned()),
        ("poll", plan.poll.name().to_owned()),
        ("worker_sandbox", plan.worker_sandbox.name().to_owned()),
        ("shards", plan.shards().to_string()),
        ("workers", plan.workers.to_string()),
        ("gpus", plan.devices.to_string()),
        ("max_payload", plan.limits.max_payload.to_string()),
        ("lm_head", plan.lm_head.as_ref().map_or("off", |_| "on").to_owned()),
        ("basis", basis),
        ("security", security(plan).to_owned()),
        ("trace_records", plan.trace.records.to_string()),
        ("otlp", plan.trace.otlp.as_ref().map_or_else(|| "off".to_owned(), ToString::to_string)),
        ("http", plan.http.as_ref().map_or("off", HttpPlan::openness).to_owned()),
        ("huge_page_bytes", huge_bytes.to_string()),
    ]
}

/// Milliseconds since the Unix epoch; 0 for a clock before it.
fn epoch_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

/// How this node is secured, in words.
const fn security(plan: &Plan) -> &'static str {
    match &plan.security {
        Security { tls: Some(_), plain_loopback: false, .. } => "TLS 1.3, mutual",
        Security { tls: Some(_), .. } => "TLS 1.3, mutual; plaintext on loopback",
        Security { insecure: true, .. } => "plaintext, insecure",
        Security { .. } => "plaintext, loopback",
    }
}
