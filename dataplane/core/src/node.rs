//! What a node says of itself: all shards' counters added up, and the figures of METR-01..07.

use crate::{
    driver::Time,
    stats::{CloseCause, Histogram, Place, Source, Stats},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use wire::{
    ErrorCode,
    payload::{Counter, MetricsUpdate, Text, Utilization},
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
    pub fn set_facts(&self, facts: Vec<(&'static str, String)>) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = facts;
    }

    /// A fact that is another now.
    pub fn change_fact(&self, key: &'static str, value: String) {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fact) = facts.iter_mut().find(|(other, _)| *other == key) {
            fact.1 = value;
        }
    }

    /// Every counter once, shards and sources added up, in a stable order.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<(&'static str, String), u64> {
        let mut all = BTreeMap::new();
        let mut visit = |name: &'static str, label: &'static str, value: &str, n: u64| {
            let labels =
                if label.is_empty() { String::new() } else { format!("{label}=\"{value}\"") };
            *all.entry((name, labels)).or_insert(0) += n;
        };
        for shard in &self.shards {
            shard.visit(&mut visit);
        }
        for source in self.sources.get().into_iter().flatten() {
            source.visit(&mut visit);
        }
        // Quantiles cannot be added up: these are taken over all shards together.
        let errors: Vec<&Histogram> = self.shards.iter().map(|s| &s.fire_error).collect();
        let quantiles = Histogram::quantiles(&errors, [0.5, 0.99, 0.999]);
        for (label, value) in ["0.5", "0.99", "0.999"].into_iter().zip(quantiles) {
            visit("butterfly_schedule_fire_error_ns", "quantile", label, value);
        }
        all
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
        let histograms: Vec<&Histogram> = self.shards.iter().map(|s| &s.latency).collect();
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
            worker_utilization: (0..usize::from(self.workers).min(Stats::WORKERS))
                .map(|w| Utilization {
                    share: (rate(from.busy_ns[w], to.busy_ns[w]) / 1e9).clamp(0.0, 1.0),
                    worker_id: Text::from(format!("worker-{w}")),
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
        let mut list: Vec<Counter> = self
            .counters()
            .into_iter()
            .map(|((name, labels), n)| Counter::count(Text::literal(name), Text::from(labels), n))
            .collect();
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if !facts.is_empty() {
            let labels = facts
                .iter()
                .map(|(key, value)| format!("{key}=\"{}\"", value.replace('"', "'")))
                .collect::<Vec<_>>()
                .join(",");
            list.push(Counter::count(Text::literal("butterfly_info"), Text::from(labels), 1));
        }
        list
    }
}
