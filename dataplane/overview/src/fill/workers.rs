//! Worker processes: how busy each is, and its checks.

use super::{figure, figures, finite};
use crate::{Bar, Check, Gpu, Standing, Worker};
use client::Metrics;

/// At least this share of the time at work is busy, less is idle.
const BUSY: f64 = 0.5;

pub(super) fn workers(metrics: &Metrics) -> Vec<Worker> {
    let backend = metrics.fact("backend").unwrap_or_default();
    let up = metrics.active_workers as usize;
    let of = |(at, (id, busy)): (usize, &(String, f64))| {
        let checks = checks(metrics, id);
        let reachable = checks.iter().find(|check| check.name == "reachable");
        let healthy = figure(metrics, "butterfly_worker_healthy", "worker", id);
        // Before the first check a node says how many answer, not which.
        let is_up = reachable.map_or(at < up, |check| check.holds);
        Worker {
            id: id.clone(),
            up: is_up,
            busy: finite(*busy).clamp(0.0, 1.0),
            backend: backend.to_owned(),
            healthy: healthy.map_or(is_up, |healthy| healthy > 0.0),
            checks,
            gpu: if backend.starts_with("cuda") { gpu(metrics, at) } else { None },
        }
    };
    metrics.worker_utilization.iter().enumerate().map(of).collect()
}

fn checks(metrics: &Metrics, id: &str) -> Vec<Check> {
    let of = |name: &str, holds: f64| {
        let canary = name.strip_prefix("canary_").unwrap_or_default();
        let took = figures(metrics, "butterfly_worker_canary_seconds").find(|(labels, _)| {
            labels.get("worker").is_some_and(|it| it == id)
                && labels.get("canary").is_some_and(|it| it == canary)
        });
        let detail = took.map(|(_, seconds)| format!("{:.1} ms", seconds * 1e3));
        Check { name: name.to_owned(), holds: holds > 0.0, detail: detail.unwrap_or_default() }
    };
    figures(metrics, "butterfly_worker_check")
        .filter(|(labels, _)| labels.get("worker").is_some_and(|worker| worker == id))
        .filter_map(|(labels, holds)| Some(of(labels.get("check")?, holds)))
        .collect()
}

/// The GPU of this number: each worker has the one of its own.
fn gpu(metrics: &Metrics, number: usize) -> Option<Gpu> {
    let label = number.to_string();
    let of = |name: &str| figure(metrics, name, "gpu", &label);
    Some(Gpu {
        name: format!("GPU {number}"),
        memory_total: of("butterfly_gpu_memory_total_bytes")? as u64,
        memory_used: of("butterfly_gpu_memory_used_bytes").unwrap_or(0.0) as u64,
        busy: of("butterfly_gpu_utilization_ratio").unwrap_or(0.0),
        celsius: of("butterfly_gpu_temperature_celsius").unwrap_or(0.0) as u32,
    })
}

/// The bar of a node without agents. A worker that does not answer is offline; one with a check
/// that does not hold is unknown; one that works half of the time or more is busy; of the others
/// those that passed their checks are trusted, and those that had none yet are ready.
pub(super) fn bar(workers: &[Worker]) -> Bar {
    let mut counts = [0; Standing::ALL.len()];
    for worker in workers {
        let standing = match worker {
            Worker { up: false, .. } => Standing::Offline,
            Worker { healthy: false, .. } => Standing::Unknown,
            Worker { busy, .. } if *busy >= BUSY => Standing::Busy,
            Worker { checks, .. } if checks.is_empty() => Standing::Ready,
            _ => Standing::Trusted,
        };
        counts[standing as usize] += 1;
    }
    Bar::new("workers", counts)
}
