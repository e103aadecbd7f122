//! `butterfly status`: a node at a glance, its counters on demand, or all of it as JSON for
//! programs.

mod counters;
mod summary;

use crate::{cli::StatusArgs, failure::Failure, reach::Reach, say, screen::Screen};
use client::{ClientError, Gathers, Map as MeshMap, Metrics, Pool};
use overview::{Overview, fill};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use wire::payload::Number;

/// The pseudo-counter whose labels are the node's facts.
const INFO: &str = "butterfly_info";

/// Runs the command.
pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let (metrics, overview) = Reach::new(&args.addr, &args.security)?.ask(look)?;
    if args.json {
        say::out(format!("{:#}", as_json(&metrics, &overview)));
        return Ok(());
    }
    say::out(summary::as_text(&overview, Screen::of_output()));
    if args.counters {
        say::out(format!("\n{}", counters::as_text(&metrics)));
    }
    Ok(())
}

/// A node's figures, and what there is to see of it. Who may not ask about the mesh, and who asks a
/// node that speaks of it otherwise, sees what the figures say.
pub(crate) fn look(node: &Pool) -> Result<(Metrics, Overview), ClientError> {
    let metrics = node.metrics()?;
    let map: Option<MeshMap> = allowed(node.map(None))?;
    let gathers: Option<Gathers> = if map.is_some() { allowed(node.gathers())? } else { None };
    let rows = gathers.map(|gathers| gathers.rows).unwrap_or_default();
    let overview = fill::overview(&metrics, map.as_ref(), &rows);
    Ok((metrics, overview))
}

/// What a node gave; nothing where it does not give this to this asker.
pub(crate) fn allowed<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::Refused(_) | ClientError::Protocol { .. }) => Ok(None),
        Err(why) => Err(why),
    }
}

/// The node's facts: backend and why, polling, limits.
pub(crate) fn facts(metrics: &Metrics) -> BTreeMap<String, String> {
    let info = metrics.metrics.iter().find(|metric| metric.name == INFO);
    info.map(|info| info.labels.clone()).unwrap_or_default()
}

fn number(value: Number) -> Value {
    match value {
        Number::Count(count) => json!(count),
        Number::Real(real) => json!(real),
    }
}

/// The overview; and counters by name, labelled ones as objects by label value, one in the other
/// where there are several, the bounds of histograms last.
pub(crate) fn as_json(metrics: &Metrics, overview: &Overview) -> Value {
    let mut counters = Map::new();
    for metric in metrics.metrics.iter().filter(|metric| metric.name != INFO) {
        let mut labels: Vec<_> = metric.labels.iter().collect();
        labels.sort_by_key(|(key, _)| *key == "le");
        let mut place = counters.entry(metric.name.clone()).or_insert(Value::Null);
        for (_, label) in labels {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[label.as_str()];
        }
        *place = number(metric.value);
    }
    let [p50, p95, p99] = metrics.query_latency_ms;
    let [received, sent] = metrics.bytes_per_second;
    let busy: BTreeMap<_, _> = metrics.worker_utilization.iter().cloned().collect();
    json!({
        "info": facts(metrics),
        "active_workers": metrics.active_workers,
        "worker_utilization": busy,
        "latency_ms": { "p50": p50, "p95": p95, "p99": p99 },
        "per_second": {
            "queries": metrics.queries_per_second,
            "tokens": metrics.tokens_per_second,
            "bytes_received": received,
            "bytes_sent": sent,
        },
        "share": { "refused": metrics.error_rate, "expired": metrics.timeout_rate },
        "counters": counters,
        "overview": overview,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Metrics {
        let metric = |name: &str, labels: &[(&str, &str)], value| Metric {
            name: name.to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            value: Number::Count(value),
        };
        Metrics {
            active_workers: 2,
            metrics: vec![
                metric("butterfly_pings_total", &[], 7),
                metric("butterfly_bytes_total", &[("direction", "in")], 2048),
                metric("butterfly_refusals_total", &[("reason", "bad_k")], 3),
                metric("butterfly_refusals_total", &[("reason", "overloaded")], 0),
                metric("butterfly_worker_check", &[("check", "cpu"), ("worker", "worker-0")], 1),
                metric("butterfly_x_seconds_bucket", &[("le", "1"), ("operation", "topk")], 5),
                metric(INFO, &[("backend", "cpu-avx512"), ("poll", "balanced")], 1),
            ],
            ..Metrics::default()
        }
    }

    #[test]
    fn json_has_every_counter_and_the_facts() {
        let metrics = sample();
        let json = as_json(&metrics, &fill::overview(&metrics, None, &[]));
        assert_eq!(json["counters"]["butterfly_pings_total"], 7);
        assert_eq!(json["counters"]["butterfly_refusals_total"]["bad_k"], 3);
        assert_eq!(json["counters"]["butterfly_refusals_total"]["overloaded"], 0);
        assert_eq!(json["counters"]["butterfly_worker_check"]["cpu"]["worker-0"], 1);
        assert_eq!(json["counters"]["butterfly_x_seconds_bucket"]["topk"]["1"], 5);
        assert_eq!(json["info"]["backend"], "cpu-avx512");
        assert_eq!(json["active_workers"], 2);
        assert_eq!(json["overview"]["node"]["backend"], "cpu-avx512");
    }

    #[test]
    fn text_leaves_out_what_never_happened() {
        let text = counters::as_text(&sample());
        assert!(text.contains("bad_k") && text.contains("2 KiB") && text.contains("pings"));
        assert!(!text.contains("overloaded") && !text.contains("bucket"));
        assert!(text.contains("by check, worker") && text.contains("cpu, worker-0"));
    }
}
