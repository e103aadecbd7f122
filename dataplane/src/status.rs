//! `butterfly status`: a node's counters, grouped for people or as JSON for programs.

use crate::{cli::StatusArgs, failure::Failure, reach::Reach, say, table, units::Bytes};
use client::{Metric, Metrics, Pool};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use wire::payload::Number;

/// The pseudo-counter whose labels are the node's facts.
const INFO: &str = "butterfly_info";

/// Runs the command.
pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let metrics = Reach::new(&args.addr, &args.security)?.ask(Pool::metrics)?;
    if args.json {
        say::out(format!("{:#}", as_json(&metrics)));
    } else {
        say::out(as_text(&metrics));
    }
    Ok(())
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

/// Counters by name; labelled ones as objects by label value, one in the other where there are
/// several, the bounds of histograms last.
pub(crate) fn as_json(metrics: &Metrics) -> Value {
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
    })
}

/// What a counter's name says without the common prefix and suffix.
fn title(name: &str) -> String {
    let name = name.strip_prefix("butterfly_").unwrap_or(name);
    name.strip_suffix("_total").unwrap_or(name).replace('_', " ")
}

fn shown(name: &str, value: Number) -> String {
    match value {
        Number::Count(bytes) if name.contains("bytes") => Bytes(bytes).to_string(),
        Number::Count(count) => count.to_string(),
        Number::Real(real) => format!("{real:.3}"),
    }
}

fn head(metrics: &Metrics) -> String {
    let [p50, p95, p99] = metrics.query_latency_ms;
    let [received, sent] = metrics.bytes_per_second;
    let mut text = String::new();
    for (key, value) in facts(metrics) {
        text.push_str(&format!("{key}: {value}\n"));
    }
    text.push_str(&format!("workers: {} ready", metrics.active_workers));
    for (id, share) in &metrics.worker_utilization {
        text.push_str(&format!(", {id} {:.0}% busy", share * 100.0));
    }
    text.push_str(&format!(
        "\nlatency: p50 {p50:.3} ms, p95 {p95:.3} ms, p99 {p99:.3} ms\n\
         now: {:.0} queries/s, {}/s in, {}/s out\n\n",
        metrics.queries_per_second,
        Bytes(received as u64),
        Bytes(sent as u64),
    ));
    text
}

fn as_text(metrics: &Metrics) -> String {
    let mut groups: Vec<(&str, Vec<[String; 2]>)> = Vec::new();
    let mut single = vec![["counter", "value"].map(str::to_owned)];
    // Buckets are for machines; quantiles stand at the head.
    let plain = |metric: &&Metric| metric.name != INFO && !metric.labels.contains_key("le");
    for metric in metrics.metrics.iter().filter(plain) {
        let value = shown(&metric.name, metric.value);
        if metric.labels.is_empty() {
            single.push([title(&metric.name), value]);
            continue;
        }
        let join = |parts: Vec<&String>| {
            parts.iter().map(|part| part.as_str()).collect::<Vec<_>>().join(", ")
        };
        let key = join(metric.labels.keys().collect());
        let label = join(metric.labels.values().collect());
        // A reason that never occurred says nothing; JSON has them all.
        if matches!(metric.value, Number::Count(0)) {
            continue;
        }
        let row = [label, value];
        match groups.iter_mut().find(|(name, _)| *name == metric.name) {
            Some((_, rows)) => rows.push(row),
            None => {
                let header = [format!("{} by {key}", title(&metric.name)), String::new()];
                groups.push((&metric.name, vec![header, row]));
            }
        }
    }
    let mut text = head(metrics);
    text.push_str(&table::plain(&single));
    for (_, rows) in groups {
        text.push_str("\n\n");
        text.push_str(&table::plain(&rows));
    }
    text
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
        let json = as_json(&sample());
        assert_eq!(json["counters"]["butterfly_pings_total"], 7);
        assert_eq!(json["counters"]["butterfly_refusals_total"]["bad_k"], 3);
        assert_eq!(json["counters"]["butterfly_refusals_total"]["overloaded"], 0);
        assert_eq!(json["counters"]["butterfly_worker_check"]["cpu"]["worker-0"], 1);
        assert_eq!(json["counters"]["butterfly_x_seconds_bucket"]["topk"]["1"], 5);
        assert_eq!(json["info"]["backend"], "cpu-avx512");
        assert_eq!(json["active_workers"], 2);
    }

    #[test]
    fn text_leaves_out_what_never_happened() {
        let text = as_text(&sample());
        assert!(text.contains("bad_k") && text.contains("2 KiB") && text.contains("cpu-avx512"));
        assert!(!text.contains("overloaded") && !text.contains("bucket"));
        assert!(text.contains("by check, worker") && text.contains("cpu, worker-0"));
    }
}
