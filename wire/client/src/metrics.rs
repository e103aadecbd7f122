//! A node's figures, taken out of a METRICS_UPDATE.

use crate::Buffer;
use std::collections::BTreeMap;
use wire::{
    HEADER_LEN, frame,
    payload::{self, ArchivedMetricsUpdate, MetricsUpdate, Number},
};

/// One counter or gauge of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// What is counted, `butterfly_requests_total` for example.
    pub name: String,
    /// What sets it apart from others of the same name.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: Number,
}

/// The figures of a node at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// When they were taken, nanoseconds since the Unix epoch by the node's clock.
    pub taken_ns: u64,
    /// Queries answered per second.
    pub queries_per_second: f64,
    /// Rows of answers per second: a row is a token's worth of work.
    pub tokens_per_second: f64,
    /// Latency of queries inside the node, milliseconds: median, 95th and 99th percentile.
    pub query_latency_ms: [f64; 3],
    /// Bytes per second: received, sent.
    pub bytes_per_second: [f64; 2],
    /// Queries that failed, 0 to 1.
    pub error_rate: f64,
    /// Queries whose deadline passed, 0 to 1.
    pub timeout_rate: f64,
    /// Workers that answer.
    pub active_workers: u32,
    /// How busy each worker is: its id, and its share of time at work.
    pub worker_utilization: Vec<(String, f64)>,
    /// Everything else that is counted.
    pub metrics: Vec<Metric>,
}

impl Metrics {
    /// The sum of all counters of this name, or `None` where the node has none. Measured quantities
    /// are left out.
    #[must_use]
    pub fn total(&self, name: &str) -> Option<u64> {
        let counts = self.named(name).filter_map(|metric| match metric.value {
            Number::Count(count) => Some(count),
            Number::Real(_) => None,
        });
        counts.fold(None, |sum: Option<u64>, count| Some(sum.unwrap_or(0).wrapping_add(count)))
    }

    /// The counters of this name by the value of one label; counters without that label are left
    /// out.
    #[must_use]
    pub fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for metric in self.named(name) {
            if let (Some(value), Number::Count(count)) = (metric.labels.get(label), metric.value) {
                let sum: &mut u64 = sums.entry(value.clone()).or_default();
                *sum = sum.wrapping_add(count);
            }
        }
        sums
    }

    /// What a label says, from the first metric of any name that has it and is not 0.
    #[must_use]
    pub fn fact(&self, label: &str) -> Option<&str> {
        self.metrics
            .iter()
            .filter(|metric| metric.value != Number::Count(0))
            .find_map(|metric| metric.labels.get(label))
            .map(String::as_str)
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Metric> {
        self.metrics.iter().filter(move |metric| metric.name == name)
    }
}

impl From<&ArchivedMetricsUpdate> for Metrics {
    fn from(update: &ArchivedMetricsUpdate) -> Self {
        Self {
            taken_ns: update.taken_ns.to_native(),
            queries_per_second: update.queries_per_second.to_native(),
            tokens_per_second: update.tokens_per_second.to_native(),
            query_latency_ms: [
                update.query_latency_p50.to_native(),
                update.query_latency_p95.to_native(),
                update.query_latency_p99.to_native(),
            ],
            bytes_per_second: [
                update.bytes_received_per_second.to_native(),
                update.bytes_sent_per_second.to_native(),
            ],
            error_rate: update.error_rate.to_native(),
            timeout_rate: update.timeout_rate.to_native(),
            active_workers: update.active_workers.to_native(),
            worker_utilization: update
                .worker_utilization
                .iter()
                .map(|worker| (worker.worker_id.to_string(), worker.share.to_native()))
                .collect(),
            metrics: update
                .counters
                .iter()
                .filter_map(|counter| {
                    Some(Metric {
                        name: counter.name.to_string(),
                        labels: labels(&counter.labels),
                        value: counter.value()?,
                    })
                })
                .collect(),
        }
    }
}

/// As a node gives them to itself: read as others read them, so that there is one reading.
impl From<&MetricsUpdate> for Metrics {
    fn from(update: &MetricsUpdate) -> Self {
        let mut bytes = Vec::new();
        // Only payloads of 2 GiB cannot be written, and what was written just now can be read.
        if frame::append(&mut bytes, update, 0, 0).is_err() {
            return Self::default();
        }
        let payload = Buffer::copy_of(&bytes[HEADER_LEN..]);
        payload::open::<MetricsUpdate>(payload.as_slice()).map(Self::from).unwrap_or_default()
    }
}

/// Splits `key="value",key="value"`. A value may contain commas and, behind a backslash, quotes.
/// What does not parse ends the list: labels describe, nothing hangs on them.
fn labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((key, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped)) => value.push(escaped),
                    None => return labels,
                },
                Some((_, plain)) => value.push(plain),
                None => return labels,
            }
        };
        labels.insert(key.trim().to_owned(), value);
        let tail = rest.get(end + 1..).unwrap_or_default();
        text = tail.strip_prefix(',').unwrap_or_default();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::payload::{Counter, Text, Utilization};

    fn metric(name: &str, text: &str, value: Number) -> Metric {
        Metric { name: name.to_owned(), labels: labels(text), value }
    }

    #[test]
    fn labels_are_split_and_nonsense_is_left_out() {
        let pairs = |text| {
            labels(text).into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(";")
        };
        assert_eq!(pairs(""), "");
        assert_eq!(pairs(r#"reason="bad_k""#), "reason=bad_k");
        assert_eq!(pairs(r#"a="1,2", b="say \"x\"\\""#), r#"a=1,2;b=say "x"\"#);
        assert_eq!(pairs(r#"a="1",b="open"#), "a=1");
        assert_eq!(pairs(r#"a="1"b="2""#), "a=1");
        assert_eq!(pairs("plain"), "");
    }

    #[test]
    fn a_node_reads_its_own_figures_as_others_do() {
        let count = |name: &'static str, labels: &'static str, n| {
            Counter::count(Text::literal(name), Text::literal(labels), n)
        };
        let update = MetricsUpdate {
            taken_ns: 7,
            tokens_per_second: 12.5,
            active_workers: 2,
            worker_utilization: vec![Utilization { share: 0.5, worker_id: "worker-0".into() }],
            counters: vec![count("copies", r#"stage="a""#, 9), count("turns", "", 3)],
            ..MetricsUpdate::default()
        };
        let metrics = Metrics::from(&update);
        assert_eq!((metrics.taken_ns, metrics.tokens_per_second), (7, 12.5));
        assert_eq!(metrics.worker_utilization, [("worker-0".to_owned(), 0.5)]);
        assert_eq!(
            (metrics.total("turns"), metrics.by_label("copies", "stage")["a"]),
            (Some(3), 9)
        );
    }

    #[test]
    fn sums_are_by_name_and_by_label_and_absence_is_told_from_zero() {
        let metrics = Metrics {
            metrics: vec![
                metric("copies", r#"stage="a""#, Number::Count(2)),
                metric("copies", r#"stage="b""#, Number::Count(3)),
                metric("copies", r#"stage="a""#, Number::Count(5)),
                metric("info", r#"poll="frugal""#, Number::Count(0)),
                metric("info", r#"poll="latency""#, Number::Count(1)),
                metric("load", "", Number::Real(0.5)),
            ],
            ..Metrics::default()
        };
        assert_eq!(metrics.total("copies"), Some(10));
        assert_eq!(metrics.total("load"), None);
        assert_eq!(metrics.total("absent"), None);
        let by_stage = metrics.by_label("copies", "stage");
        assert_eq!(by_stage, BTreeMap::from([("a".to_owned(), 7), ("b".to_owned(), 3)]));
        assert_eq!(metrics.fact("poll"), Some("latency"));
        assert_eq!(metrics.fact("absent"), None);
    }
}
