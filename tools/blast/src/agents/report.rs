//! The result of a fleet's run: arithmetic over the truth, JSON, and tables for people.

use super::{
    config::Config,
    truth::{Sample, Truth},
};
use comfy_table::{Table, presets};
use fleet::{Fleet, World};
use hdrhistogram::Histogram;
use mesh::Time;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use wire::mesh::AgentClass;

/// Messages of a class that the oracle is asked about: it takes some 0.1 ms for each.
const ORACLE_SAMPLES: usize = 1_000;
/// Shares on time that the oracle is dialled to.
const DIALS: [f64; 2] = [0.99, 0.999];
/// Counts that make a run unclean.
const FAULTS: [&str; 8] = [
    "agents_refused",
    "connections_lost",
    "bad_streams",
    "bad_frames",
    "unknown_handles",
    "unwritten",
    "orders_unverified",
    "node_keys",
];

/// When things happened, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the first connection until the last place.
    pub registered: Time,
    /// How long the fleet stayed after that.
    pub stayed: Time,
    /// CPU time of this process meanwhile.
    pub cpu: Time,
}

/// What a run of agents found.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Report {
    /// Agents asked for.
    pub agents: u32,
    /// Agents that got a place.
    pub registered: u64,
    /// Seconds from the first connection until the last place.
    pub registered_s: f64,
    /// Connections.
    pub connections: u32,
    /// Name of the model.
    pub network: String,
    /// Seed.
    pub seed: u64,
    /// Seconds from then until the end.
    pub stayed_s: f64,
    /// CPU time of this process over `stayed_s`: 1 is one core.
    pub cores: f64,
    /// By class, and of all as `all`.
    pub classes: BTreeMap<String, ClassReport>,
    /// Between the target moment and the act, of agents that held and were ready on time.
    pub act_error_us: Quantiles,
    /// Share of these acts that came before the moment, by the true clock.
    pub acted_before: f64,
    /// Between the first act of a message and half of them, 99% of them, the last: the median
    /// message's.
    pub spread_us: Spread,
    /// From a heartbeat (or its plan) to its answer.
    pub beat_us: Quantiles,
    /// Answered heartbeats per second of `stayed_s`.
    pub beats_per_second: f64,
    /// Everything that was counted, by name.
    pub counts: BTreeMap<String, u64>,
}

/// Quantiles in the unit that their name says; nothing where nothing was seen.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Quantiles {
    /// Half.
    pub p50: Option<f64>,
    /// 99%.
    pub p99: Option<f64>,
    /// 99.9%.
    pub p999: Option<f64>,
    /// All.
    pub max: Option<f64>,
}

/// How far apart the acts of a message are.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Spread {
    /// Half of them.
    pub p50: Option<f64>,
    /// 99% of them.
    pub p99: Option<f64>,
    /// The last.
    pub max: Option<f64>,
}

/// What one class did.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ClassReport {
    /// Messages that reached an agent.
    pub orders: u64,
    /// Answered READY.
    pub ready: u64,
    /// Answered CONFLICT.
    pub conflicts: u64,
    /// Of those answered READY, the share that was at the target moment.
    pub on_time: Option<f64>,
    /// Milliseconds before the moment, of those on time.
    pub earliness_ms: Quantiles,
    /// Mean of that.
    pub earliness_mean_ms: Option<f64>,
    /// Milliseconds behind it, of the others.
    pub lateness_ms: Quantiles,
    /// Against someone who knows the model; not without a model.
    pub oracle: Option<Oracle>,
}

/// What was achieved, and what someone who knows the model would have: over the same messages.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Oracle {
    /// Messages compared.
    pub samples: usize,
    /// Share of these that was ready in time.
    pub on_time: f64,
    /// Mean earliness of these, milliseconds.
    pub earliness_ms: f64,
    /// Of the oracle, by the share on time that it aims at.
    pub dials: Vec<Dialled>,
    /// 90% of processing times were within this of what the node expected, milliseconds.
    pub processing_error_p90_ms: f64,
    /// The same for the model's median.
    pub oracle_processing_error_p90_ms: f64,
}

/// The oracle's leads at one setting.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Dialled {
    /// What it aims at.
    pub dial: f64,
    /// What it got with the same draws.
    pub on_time: f64,
    /// Mean earliness of those on time, milliseconds.
    pub earliness_ms: f64,
    /// Our mean earliness over that.
    pub earliness_ratio: f64,
}

impl Quantiles {
    /// Of a histogram of nanoseconds, in units of `unit` nanoseconds.
    fn of(histogram: &Histogram<u64>, unit: f64) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |share| Some(histogram.value_at_quantile(share) as f64 / unit);
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Some(histogram.max() as f64 / unit),
        }
    }
}

impl Report {
    /// The report of a run with these counts.
    #[must_use]
    pub fn new(config: &Config, fleet: &Fleet, truth: &Truth, timing: Timing) -> Self {
        let stayed_s = timing.stayed as f64 / 1e9;
        let spread = truth.spread().map(|all| all.map(|ns| Some(ns / 1e3)));
        let [p50, p99, max] = spread.unwrap_or_default();
        let acts = truth.act_error.len().max(1);
        Self {
            agents: config.count,
            registered: truth.of("agents_registered"),
            registered_s: timing.registered as f64 / 1e9,
            connections: config.connections(),
            network: config.world.name().to_owned(),
            seed: config.seed,
            stayed_s,
            cores: timing.cpu as f64 / (timing.stayed as f64).max(1.0),
            classes: classes(fleet, truth),
            act_error_us: Quantiles::of(&truth.act_error, 1e3),
            acted_before: truth.acted_before as f64 / acts as f64,
            spread_us: Spread { p50, p99, max },
            beat_us: Quantiles::of(&truth.beat_ns, 1e3),
            beats_per_second: truth.of("beat_answers") as f64 / stayed_s.max(1e-9),
            counts: truth.counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
        }
    }

    /// All agents registered, and nothing broke.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.registered == u64::from(self.agents)
            && FAULTS.iter().all(|fault| !self.counts.contains_key(*fault))
    }
}

fn classes(fleet: &Fleet, truth: &Truth) -> BTreeMap<String, ClassReport> {
    let mut reports = BTreeMap::new();
    let mut all = ClassReport::default();
    let (mut on_time, mut earliness) = (0, None::<Histogram<u64>>);
    for (class, seen) in AgentClass::ALL.iter().zip(&truth.classes) {
        if seen.orders == 0 {
            continue;
        }
        all.orders += seen.orders;
        all.ready += seen.ready;
        all.conflicts += seen.conflicts;
        on_time += seen.on_time;
        match &mut earliness {
            // Both have the same bounds.
            Some(sum) => _ = sum.add(&seen.earliness),
            None => earliness = Some(seen.earliness.clone()),
        }
        let samples = truth.samples.iter().filter(|one| fleet.class(one.agent) == *class);
        let samples: Vec<_> = samples.take(ORACLE_SAMPLES).copied().collect();
        let report = ClassReport {
            orders: seen.orders,
            ready: seen.ready,
            conflicts: seen.conflicts,
            on_time: share(seen.on_time, seen.ready),
            earliness_ms: Quantiles::of(&seen.earliness, 1e6),
            earliness_mean_ms: mean(&seen.earliness),
            lateness_ms: Quantiles::of(&seen.lateness, 1e6),
            oracle: Oracle::of(fleet, &samples),
        };
        reports.insert(class.name().to_owned(), report);
    }
    if let Some(earliness) = earliness {
        all.on_time = share(on_time, all.ready);
        all.earliness_ms = Quantiles::of(&earliness, 1e6);
        all.earliness_mean_ms = mean(&earliness);
        reports.insert("all".to_owned(), all);
    }
    reports
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn mean(histogram: &Histogram<u64>) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.mean() / 1e6)
}

impl Oracle {
    fn of(fleet: &Fleet, samples: &[Sample]) -> Option<Self> {
        if samples.is_empty() || fleet.world() == World::Off {
            return None;
        }
        let (on_time, earliness_ms) = outcome(samples, |sample| sample.lead);
        let dials = DIALS
            .iter()
            .map(|&dial| {
                let (on_time, theirs) = outcome(samples, |sample| {
                    let Sample { agent, sent, weight, queue, .. } = *sample;
                    fleet.oracle_quantile(agent, sent, dial, weight, queue)
                });
                let earliness_ratio = earliness_ms / theirs.max(1e-9);
                Dialled { dial, on_time, earliness_ms: theirs, earliness_ratio }
            })
            .collect();
        let model = |sample: &Sample| {
            let agent = fleet.agent(sample.agent);
            agent.service_median(sample.sent, sample.weight, sample.queue) as Time
        };
        Some(Self {
            samples: samples.len(),
            on_time,
            earliness_ms,
            dials,
            processing_error_p90_ms: p90_error(samples, |sample| sample.expected),
            oracle_processing_error_p90_ms: p90_error(samples, model),
        })
    }
}

/// Share on time, and mean earliness of these in milliseconds, of messages that leave with this
/// lead.
fn outcome(samples: &[Sample], lead: impl Fn(&Sample) -> Time) -> (f64, f64) {
    let early: Vec<_> =
        samples.iter().filter_map(|sample| lead(sample).checked_sub(sample.delay)).collect();
    let sum: f64 = early.iter().map(|ns| *ns as f64 / 1e6).sum();
    (early.len() as f64 / samples.len() as f64, sum / (early.len() as f64).max(1.0))
}

/// 90% of processing times are within this of a prediction, milliseconds.
fn p90_error(samples: &[Sample], predicted: impl Fn(&Sample) -> Time) -> f64 {
    let mut errors: Vec<_> =
        samples.iter().map(|sample| sample.processing.abs_diff(predicted(sample))).collect();
    errors.sort_unstable();
    errors.get(errors.len() * 9 / 10).map_or(0.0, |ns| *ns as f64 / 1e6)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agents, registered, registered_s, connections, network, seed, .. } = self;
        writeln!(
            f,
            "{registered} of {agents} agents registered over {connections} connections in \
             {registered_s:.3} s; network {network}, seed {seed}"
        )?;
        writeln!(f, "stayed {:.1} s on {:.3} cores", self.stayed_s, self.cores)?;
        self.table(f)?;
        let us = |f: &mut fmt::Formatter<'_>, what: &str, all: &[Option<f64>]| match all {
            [Some(p50), Some(p99), .., Some(max)] => {
                writeln!(f, "{what}: p50 {p50:.1} us, p99 {p99:.1} us, max {max:.1} us")
            }
            _ => Ok(()),
        };
        let Quantiles { p50, p99, max, .. } = self.act_error_us;
        us(f, "acts from the target moment", &[p50, p99, max])?;
        let Spread { p50, p99, max } = self.spread_us;
        us(f, "acts of a message from its first", &[p50, p99, max])?;
        let Quantiles { p50, p99, max, .. } = self.beat_us;
        us(f, "heartbeats answered within", &[p50, p99, max])?;
        writeln!(f, "{:.1} heartbeats answered per second", self.beats_per_second)?;
        let counts: Vec<_> =
            self.counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
        write!(f, "{}", counts.join(", "))
    }
}

impl Report {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.classes.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header([
            "class",
            "orders",
            "ready",
            "conflict",
            "on time %",
            "early ms",
            "p99",
            "oracle 99",
            "oracle 99.9",
            "work error p90",
            "oracle",
        ]);
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        for (name, class) in &self.classes {
            let oracle = class.oracle.as_ref();
            let dial = |which: usize| {
                oracle.and_then(|oracle| oracle.dials.get(which)).map_or_else(
                    || "-".to_owned(),
                    |one| format!("{:.2} ({:.2}x)", one.earliness_ms, one.earliness_ratio),
                )
            };
            table.add_row([
                name.clone(),
                class.orders.to_string(),
                class.ready.to_string(),
                class.conflicts.to_string(),
                number(class.on_time.map(|share| share * 100.0), 3),
                number(class.earliness_mean_ms, 3),
                number(class.earliness_ms.p99, 3),
                dial(0),
                dial(1),
                number(oracle.map(|oracle| oracle.processing_error_p90_ms), 2),
                number(oracle.map(|oracle| oracle.oracle_processing_error_p90_ms), 2),
            ]);
        }
        writeln!(f, "{table}")
    }
}
