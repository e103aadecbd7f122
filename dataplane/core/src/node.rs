//! What a node says of itself: all shards' counters added up, and the figures of METR-01..07.

use crate::{
    driver::Time,
    stats::{CloseCause, Histogram, Place, Source, Stats, Value, labels},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use wire::{
    ErrorCode, Operation,
    payload::{Counter, MetricsUpdate, Number, Text, Utilization},
};

/// A rate needs some time to be measured over.
const WINDOW_MIN: Time = 1_000_000_000;

/// Sums at one moment.
#[derive(Clone, Copy, Debug)]
struct Sums {
    at: Time,
    replies: u64,
    rows_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    busy_ns: [u64; Stats::WORKERS],
}

impl Default for Sums {
    fn default() -> Self {
        let busy_ns = [0; Stats::WORKERS];
        Self { at: 0, replies: 0, rows_out: 0, bytes_in: 0, bytes_out: 0, busy_ns }
    }
}

/// Two moments to measure rates between.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    from: Sums,
    to: Sums,
}

/// All counters of a node, readable by any thread.
pub struct NodeStats {
    shards: Vec<Arc<Stats>>,
    sources: OnceLock<Vec<Arc<dyn Source>>>,
    facts: Mutex<Vec<(&'static str, String)>>,
    workers: u16,
    window: Mutex<Window>,
}

impl std::fmt::Debug for NodeStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeStats").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

fn put(facts: &mut Vec<(&'static str, String)>, key: &'static str, value: String) {
    match facts.iter_mut().find(|(other, _)| *other == key) {
        Some(fact) => fact.1 = value,
        None => facts.push((key, value)),
    }
}

impl NodeStats {
    /// A node of these shards and so many workers.
    #[must_use]
    pub fn new(shards: Vec<Arc<Stats>>, workers: u16) -> Arc<Self> {
        Arc::new(Self {
            shards,
            sources: OnceLock::new(),
            facts: Mutex::default(),
            workers,
            window: Mutex::default(),
        })
    }

    /// The shards' counters.
    #[must_use]
    pub fn shards(&self) -> &[Arc<Stats>] {
        &self.shards
    }

    /// Adds the counters of drivers and supervisors. Once, before the node listens.
    pub fn set_sources(&self, sources: Vec<Arc<dyn Source>>) {
        // A second call would be a mistake of assembly; the first one stands.
        let _ = self.sources.set(sources);
    }

    /// Facts such as the backend and why it was chosen; they travel as labels of `butterfly_info`.
    /// What has changed before, while the node still started, stays as it is.
    pub fn set_facts(&self, facts: Vec<(&'static str, String)>) {
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = std::mem::replace(&mut *known, facts);
        changed.into_iter().for_each(|(key, value)| put(&mut known, key, value));
    }

    /// A fact that is another now.
    pub fn change_fact(&self, key: &'static str, value: String) {
        put(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner), key, value);
    }

    /// Every series once, shards and sources added up, in a stable order: by name, then by labels
    /// as they are written.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<(&'static str, String), Value> {
        let mut all = BTreeMap::new();
        let mut show = |name: &'static str, pairs: &[(&str, &str)], value: Value| {
            all.entry((name, labels(pairs)))
                .and_modify(|sum: &mut Value| sum.add(&value))
                .or_insert(value);
        };
        let shards = self.shards.iter().map(|shard| &**shard as &dyn Source);
        let sources = self.sources.get().into_iter().flatten().map(|source| &**source);
        for source in shards.chain(sources) {
            source.visit(&mut |name, label, value, n| {
                show(name, &[(label, value)], Value::Count(n));
            });
            source.show(&mut show);
        }
        for worker in 0..self.workers_counted() {
            let busy = self.sum(|s| s.worker_busy(worker)) as f64 / 1e9;
            let id = [("worker", &*worker_id(worker))];
            show("butterfly_worker_busy_seconds_total", &id, Value::Real(busy));
        }
        // METR-06 and METR-07: nothing finds, agrees or debates yet.
        show("butterfly_byzantine_detections_total", &[], Value::Count(0));
        show("butterfly_consensus_rounds_avg", &[], Value::Real(0.0));
        show("butterfly_debate_duration_avg_seconds", &[], Value::Real(0.0));
        all
    }

    /// What the node says of itself beside its counters, by name.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn workers_counted(&self) -> usize {
        usize::from(self.workers).min(Stats::WORKERS)
    }

    fn sum(&self, get: impl Fn(&Stats) -> u64) -> u64 {
        self.shards.iter().map(|s| get(s)).sum()
    }

    fn sums(&self, at: Time) -> Sums {
        let mut busy_ns = [0; Stats::WORKERS];
        for (worker, busy) in busy_ns.iter_mut().enumerate() {
            *busy = self.sum(|s| s.worker_busy(worker));
        }
        Sums {
            at,
            replies: self.sum(|s| s.replies.get()),
            rows_out: self.sum(|s| s.rows_out.get()),
            bytes_in: self.sum(|s| s.bytes_in.get()),
            bytes_out: self.sum(|s| s.bytes_out.get()),
            busy_ns,
        }
    }

    /// The window to measure rates over: at least a second long once the node is that old.
    fn window(&self, now: Time) -> Window {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= window.to.at + WINDOW_MIN {
            window.from = window.to;
            window.to = self.sums(now);
        }
        if window.from.at == 0 { Window { from: window.from, to: self.sums(now) } } else { *window }
    }

    /// The METRICS_UPDATE of this moment. Rates are over the last whole second or more.
    #[must_use]
    pub fn metrics_update(&self, now: Time) -> MetricsUpdate {
        let Window { from, to } = self.window(now);
        // The first window starts with the node's first request for metrics, not with the epoch.
        let seconds = (to.at.saturating_sub(from.at).max(1)) as f64 / 1e9;
        let rate = |a: u64, b: u64| if from.at == 0 { 0.0 } else { (b - a) as f64 / seconds };
        let histograms: Vec<&Histogram> = (self.shards.iter())
            .flat_map(|s| Operation::ALL.iter().map(move |op| s.latency(*op)))
            .collect();
        let [p50, p95, p99] = Histogram::quantiles(&histograms, [0.50, 0.95, 0.99]);
        let refused = self.sum(|s| ErrorCode::ALL.iter().map(|c| s.refusals(*c)).sum());
        let expired = self.sum(|s| Place::ALL.iter().map(|p| s.expired(*p)).sum());
        let truncated = self.sum(|s| s.closes(CloseCause::Truncated));
        let answered = self.sum(|s| s.replies.get()) + refused;
        let share = |n: u64| if answered == 0 { 0.0 } else { n as f64 / answered as f64 };
        MetricsUpdate {
            query_latency_p50: p50 as f64 / 1e6,
            query_latency_p95: p95 as f64 / 1e6,
            query_latency_p99: p99 as f64 / 1e6,
            queries_per_second: rate(from.replies, to.replies),
            tokens_per_second: rate(from.rows_out, to.rows_out),
            bytes_sent_per_second: rate(from.bytes_out, to.bytes_out),
            bytes_received_per_second: rate(from.bytes_in, to.bytes_in),
            // A stream loses no packets that we could see; what we see is frames cut off.
            packet_loss_rate: share(truncated),
            error_rate: share(refused),
            timeout_rate: share(expired),
            active_workers: self.active_workers(),
            worker_utilization: (0..self.workers_counted())
                .map(|w| Utilization {
                    share: (rate(from.busy_ns[w], to.busy_ns[w]) / 1e9).clamp(0.0, 1.0),
                    worker_id: Text::from(worker_id(w)),
                })
                .collect(),
            counters: self.counter_list(),
            ..MetricsUpdate::default()
        }
    }

    fn active_workers(&self) -> u32 {
        self.shards.iter().map(|s| s.workers_up.get()).min().unwrap_or(0) as u32
    }

    fn counter_list(&self) -> Vec<Counter> {
        let mut list = Vec::new();
        for ((name, labels), value) in self.counters() {
            value.spell(name, &labels, &mut |name, labels, number| {
                let (name, labels) = (Text::from(name), Text::from(labels));
                list.push(match number {
                    Number::Count(count) => Counter::count(name, labels, count),
                    Number::Real(real) => Counter::real(name, labels, real),
                });
            });
        }
        let facts = self.facts();
        if !facts.is_empty() {
            let pairs: Vec<_> = facts.iter().map(|(key, value)| (*key, &**value)).collect();
            let labels = Text::from(labels(&pairs));
            list.push(Counter::count(Text::literal("butterfly_info"), labels, 1));
        }
        list
    }
}

/// A worker's name in figures.
#[must_use]
pub fn worker_id(worker: usize) -> String {
    format!("worker-{worker}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::names::{self, Kind};

    #[test]
    fn metr_every_series_of_shards_and_node_has_a_name_of_its_kind_and_labels() {
        let node = NodeStats::new(vec![Stats::new(), Stats::new()], 2);
        let all = node.counters();
        assert!(all.len() > 150);
        for ((name, labels), value) in &all {
            let known = names::find(name).unwrap_or_else(|| panic!("{name} has no entry"));
            let kinds: &[Kind] = match value {
                Value::Count(_) | Value::Real(_) => &[Kind::Counter, Kind::Gauge],
                Value::Spread(_) => &[Kind::Histogram],
            };
            assert!(kinds.contains(&known.kind), "{name} is no {:?}", known.kind);
            let keys: Vec<&str> =
                labels.split(',').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
            assert_eq!(keys, known.labels, "{name}");
        }
    }

    #[test]
    fn metr_01_05_latency_is_by_operation_and_busy_time_by_worker() {
        let shards = [Stats::new(), Stats::new()];
        let node = NodeStats::new(shards.to_vec(), 2);
        shards[0].answered(Operation::TopK, 1_000_000);
        shards[1].answered(Operation::TopK, 3_000_000);
        shards[1].answered(Operation::Echo, 20_000);
        shards[0].busy(1, 1_500_000_000);
        let all = node.counters();
        let series = |name, labels: &str| all[&(name, labels.to_owned())];
        let Value::Spread(topk) = series("butterfly_request_seconds", "operation=\"topk\"") else {
            panic!("a histogram");
        };
        assert_eq!(topk.count(), 2);
        assert!((topk.sum_seconds() - 0.004).abs() < 1e-12);
        let busy = series("butterfly_worker_busy_seconds_total", "worker=\"worker-1\"");
        assert_eq!(busy, Value::Real(1.5));
        let update = node.metrics_update(1);
        let sum = update.counters.iter().find(|counter| {
            counter.name.as_str() == "butterfly_request_seconds_count"
                && counter.labels.as_str() == "operation=\"topk\""
        });
        assert_eq!(sum.map(|counter| counter.bits), Some(2));
        assert!(update.query_latency_p99 > 2.9 && update.query_latency_p50 < 1.1);
    }

    #[test]
    fn a_fact_that_changed_during_the_start_stays_changed() {
        let node = NodeStats::new(Vec::new(), 0);
        node.change_fact("backend", "cpu".to_owned());
        node.set_facts(vec![("version", "1".to_owned()), ("backend", "cuda".to_owned())]);
        let facts = node.facts.lock().expect("nobody panicked").clone();
        assert_eq!(facts, [("version", "1".to_owned()), ("backend", "cpu".to_owned())]);
    }
}
