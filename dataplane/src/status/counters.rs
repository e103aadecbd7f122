//! Every counter of a node, in tables.

use super::INFO;
use crate::{table, units::Bytes};
use client::{Metric, Metrics};
use wire::payload::Number;

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

/// One table of counters that stand alone, and one for each that has labels.
pub(super) fn as_text(metrics: &Metrics) -> String {
    let mut groups: Vec<(&str, Vec<[String; 2]>)> = Vec::new();
    let mut single = vec![["counter", "value"].map(str::to_owned)];
    // Buckets are for machines.
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
    let mut text = table::plain(&single);
    for (_, rows) in groups {
        text.push_str("\n\n");
        text.push_str(&table::plain(&rows));
    }
    text
}
