//! What the node says of itself, from its metrics before and after the run. Everything may be
//! missing.

use client::{Client, Metrics};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

const REQUESTS: [&str; 3] =
    ["butterfly_requests_total", "butterfly_pings_total", "butterfly_heartbeats_total"];
const COPIES: &str = "butterfly_copies_total";
const COPIED_BYTES: &str = "butterfly_copied_bytes_total";
const BATCHES: &str = "butterfly_batches_total";
const BATCHED: &str = "butterfly_batched_requests_total";
const INFO: &str = "butterfly_info";
const RECLAIMED: &str = "butterfly_reclaimed_total";

/// Facts about the node, and what it did per request of this run (and of anyone else meanwhile).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Server {
    /// What computes, `cpu-avx512` for example.
    pub backend: Option<String>,
    /// How its shards wait.
    pub poll: Option<String>,
    /// Requests, pings and heartbeats that it took.
    pub requests: Option<u64>,
    /// Copies of payload bytes in user space, per request.
    pub copies_per_request: Option<f64>,
    /// The same by stage, stages without copies left out.
    pub copies: BTreeMap<String, f64>,
    /// Bytes so copied, per request.
    pub copied_bytes_per_request: Option<f64>,
    /// Requests per batch.
    pub batch_mean: Option<f64>,
    /// Batches by why they closed.
    pub batches: BTreeMap<String, u64>,
    /// Requests run again because their worker died.
    pub reclaimed: Option<u64>,
    /// Everything that the node says of itself beside its counters: version, security, limits.
    pub facts: BTreeMap<String, String>,
}

/// Asks for the metrics; a node that does not give them is a fact too.
pub(crate) fn look(client: &mut Client) -> Option<Metrics> {
    client.metrics().ok()
}

impl Server {
    /// The difference between two looks.
    #[must_use]
    pub fn between(before: Option<&Metrics>, after: Option<&Metrics>) -> Self {
        let (Some(before), Some(after)) = (before, after) else { return Self::default() };
        let fact = |label| after.fact(label).map(str::to_owned);
        let grown =
            |name: &str| Some(after.total(name)?.saturating_sub(before.total(name).unwrap_or(0)));
        let grown_by = |name: &str, label: &str| -> BTreeMap<String, u64> {
            let old = before.by_label(name, label);
            let new = after.by_label(name, label).into_iter();
            new.map(|(key, count)| {
                let count = count.saturating_sub(old.get(&key).copied().unwrap_or(0));
                (key, count)
            })
            .filter(|(_, count)| *count > 0)
            .collect()
        };
        let requests = REQUESTS.iter().filter_map(|name| grown(name)).reduce(|a, b| a + b);
        // The look before is answered before it counts itself, so a run without requests really has
        // none.
        let per_request = |count: u64| match requests {
            Some(requests) if requests > 0 => Some(count as f64 / requests as f64),
            _ => None,
        };
        let batches = grown_by(BATCHES, "closed_by");
        let closed: u64 = batches.values().sum();
        Self {
            backend: fact("backend"),
            poll: fact("poll"),
            requests,
            copies_per_request: grown(COPIES).and_then(per_request),
            copies: grown_by(COPIES, "stage")
                .into_iter()
                .filter_map(|(stage, count)| Some((stage, per_request(count)?)))
                .collect(),
            copied_bytes_per_request: grown(COPIED_BYTES).and_then(per_request),
            batch_mean: grown(BATCHED)
                .filter(|_| closed > 0)
                .map(|batched| batched as f64 / closed as f64),
            batches,
            reclaimed: grown(RECLAIMED),
            facts: after
                .metrics
                .iter()
                .find(|metric| metric.name == INFO)
                .map(|info| info.labels.clone())
                .unwrap_or_default(),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".to_owned());
        write!(f, "backend {}, poll {}", text(&self.backend), text(&self.poll))?;
        if let Some(copies) = self.copies_per_request {
            write!(f, ", {copies:.2} copies per request")?;
        }
        if let Some(mean) = self.batch_mean {
            write!(f, ", {mean:.1} requests per batch")?;
        }
        if let Some(reclaimed) = self.reclaimed.filter(|count| *count > 0) {
            write!(f, ", {reclaimed} run again")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Metric;
    use wire::payload::Number;

    fn metrics(counts: &[(&str, &str, &str, u64)]) -> Metrics {
        let metrics = counts
            .iter()
            .map(|(name, key, value, count)| Metric {
                name: (*name).to_owned(),
                labels: match *key {
                    "" => BTreeMap::new(),
                    key => BTreeMap::from([(key.to_owned(), (*value).to_owned())]),
                },
                value: Number::Count(*count),
            })
            .collect();
        Metrics { metrics, ..Metrics::default() }
    }

    #[test]
    fn the_run_is_the_difference_of_two_looks() {
        let before = metrics(&[
            (REQUESTS[0], "operation", "topk", 100),
            (COPIES, "stage", "small_lane", 7),
            (COPIES, "stage", "worker", 9),
            (BATCHES, "closed_by", "full", 3),
            (BATCHED, "", "", 90),
        ]);
        let after = metrics(&[
            (REQUESTS[0], "operation", "topk", 300),
            (REQUESTS[1], "", "", 0),
            (COPIES, "stage", "small_lane", 107),
            (COPIES, "stage", "worker", 9),
            (BATCHES, "closed_by", "full", 3),
            (BATCHES, "closed_by", "age", 50),
            (BATCHED, "", "", 290),
            ("butterfly_info", "poll", "latency", 1),
        ]);
        let server = Server::between(Some(&before), Some(&after));
        assert_eq!(server.requests, Some(200));
        assert_eq!(server.copies_per_request, Some(0.5));
        assert_eq!(server.copies, BTreeMap::from([("small_lane".to_owned(), 0.5)]));
        assert_eq!(server.batches, BTreeMap::from([("age".to_owned(), 50)]));
        assert_eq!(server.batch_mean, Some(4.0));
        assert_eq!(server.poll.as_deref(), Some("latency"));
        assert_eq!(server.facts, BTreeMap::from([("poll".to_owned(), "latency".to_owned())]));
        assert_eq!((server.backend, server.reclaimed), (None, None));
    }

    #[test]
    fn a_silent_node_gives_no_facts() {
        let some = metrics(&[(COPIES, "stage", "worker", 5)]);
        assert_eq!(Server::between(None, Some(&some)), Server::default());
        let server = Server::between(Some(&some), Some(&some));
        assert_eq!((server.requests, server.copies_per_request), (None, None));
    }
}
