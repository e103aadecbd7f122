//! Whether runs are of one kind: only then is what differs between them the node.

use super::Named;

/// What sets runs apart that should be alike, a few words each.
pub(super) fn differences(a: &[Named], b: &[Named]) -> Vec<String> {
    let first = settings(&a[0]);
    let mut found: Vec<String> = Vec::new();
    for other in a.iter().chain(b).skip(1) {
        for ((name, ours), (_, theirs)) in first.iter().zip(settings(other)) {
            let what = format!("{name}: {ours} in {}, {theirs} in {}", a[0].file, other.file);
            let known = found.iter().any(|known| known.starts_with(&format!("{name}: ")));
            if *ours != theirs && !known {
                found.push(what);
            }
        }
    }
    found
}

/// What must be alike, by name.
fn settings(named: &Named) -> Vec<(&'static str, String)> {
    let (load, server) = (&named.run.report.load, &named.run.report.server);
    let or = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_owned());
    vec![
        ("operation", load.op.clone()),
        (
            "pace",
            load.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate}/s planned")),
        ),
        ("connections", load.connections.to_string()),
        ("depth", load.depth.to_string()),
        ("threads", load.threads.to_string()),
        ("bytes of a request", load.request_bytes.to_string()),
        ("rows of a request", load.rows.to_string()),
        ("k", load.k.map_or_else(|| "none".to_owned(), |k| k.to_string())),
        ("values", or(&load.values, "none")),
        ("tensor", or(&load.tensor, "made up")),
        ("timeout", format!("{} ms", load.timeout_ms)),
        ("priority", load.priority.clone()),
        ("polling of blast", load.poll.clone()),
        ("backend of the node", or(&server.backend, "unknown")),
        ("polling of the node", or(&server.poll, "unknown")),
        ("machine", named.machine.clone()),
    ]
}
