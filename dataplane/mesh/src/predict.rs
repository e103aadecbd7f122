//! How long an agent will need: one-way delay, processing, and the margin that a wanted share on
//! time demands.
//!
//! expected = owd + base(class) x rate x load, load = (1 + 0.5 weight)(1 + 0.1 queue) (SCHED-03);
//! lead = expected + margin (SCHED-04). Learned per agent: owd (clipped moving average of one-way
//! delays), rate (moving average of the logarithm of processing over base and load), spread (mean
//! deviation of actual over expected, drawn towards the class's). Learned per class and stage of
//! experience: the distribution of misses (actual - expected) in units of the agent's spread,
//! beyond four spreads in units of its retransmission delay. The margin is that distribution's
//! quantile at the dial.
//!
//! A miss counts for the pool that its forecast was read from, whatever the lead was: each answered
//! message says for every dial whether it would have been on time. So the realised share is the
//! dialled one for any mixture of agents in a pool, and late messages need no feedback.
//!
//! # What was tried
//! `cargo run -p mesh --release --example calibrate -- agents 1400 [ablate]`: three model worlds,
//! seed 1, all classes together. Earliness (at 99, at 99.9) and p90 of the error are over those of
//! an oracle that knows the model.
//!
//! As built: 98.97 to 99.00 % and 99.90 to 99.91 % on time; earliness 1.03 to 1.07, 1.04 to 1.11;
//! error 1.01 to 1.03.
//!
//! - Misses in spreads only, no knee: earliness 1.13, 1.35 in the hostile world.
//! - The class's spread for every agent: earliness 1.06, 1.13 in the datacentre.
//! - An agent's spread that starts at a constant, not as a share of its class's: 98.4 % where 99
//!   was dialled, for hundreds of messages.
//! - Rate gain 1/8 for 1/24: error 1.05, earliness 1.07 in the datacentre.
//! - Delay gain 1/8 for 1/24: error of class A 1.08 for 1.07 (WAN), 1.07 for 1.04 (hostile).
//! - A memory of 8,192 misses for 32,768: alike at 99; at 99.9 earliness 1.16 for 1.14 (WAN).
//! - No stages of experience: alike where nobody joins or shifts.
//! - Large misses count for the class only while the agent has credit for them: 99.7 % where 99.9
//!   was dialled. Not kept.
//! - Not built: a pinball step per dial (a histogram has all dials at once), feedback on the
//!   realised late share (nothing was left to correct).
//!
//! # Liars
//! Who always claims the same share of the truth is learned as such. Who exaggerates now and then
//! ends up among the wild (see `Stage`), who pay for each other; until found they cost the others
//! earliness, not lateness. One in ten saying ten times the truth in every fifth answer: the honest
//! are 99.4 to 99.7 % on time where 99 is dialled, 1.3 to 2.3 times as early (at 99.9: 3 to 14
//! times). Lies rarer than the wild's threshold are not found at all.

mod dial;
mod pool;
mod row;

use wire::mesh::AgentClass;

use crate::class::{CLASSES, base_processing};
use crate::sketch::Sketch;
use crate::{SECOND, Time};
pub use dial::Dial;
use pool::Pool;
use row::{Common, Row, Stage};

/// No delay is taken to be longer than this: a day.
const LONGEST: f32 = (24 * 3600 * SECOND) as f32;
/// Least retransmission delay of TCP on Linux, to which a round trip is added.
const RETRANSMISSION: f32 = 200.0e6;
/// Weights beyond this are taken as this.
const WEIGHT_MOST: f32 = 16.0;
/// An agent is not kept out for being uneven by more than so many times what is expected of it: a
/// host that stood still for a moment makes short delays look wild.
const STEADY_MOST: f32 = 3.0;
/// No miss within so many spreads is wide, however even a class's agents are.
const WIDE_LEAST: f32 = 2.0;
/// Queues beyond this are taken as this.
const QUEUE_MOST: u32 = 10_000;

/// What waits on an agent, and what the message adds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Payload weight: 0 is light, 1 is the specification's "heavy".
    pub weight: f32,
    /// Messages queued there, as last reported.
    pub queue: u32,
}

impl Work {
    /// Factor on the processing time (SCHED-03). Whatever was reported: between 1 and 9009.
    #[must_use]
    pub fn load(self) -> f32 {
        // Not so for a NaN.
        let weight = if self.weight > 0.0 { self.weight.min(WEIGHT_MOST) } else { 0.0 };
        (1.0 + 0.5 * weight) * (1.0 + 0.1 * self.queue.min(QUEUE_MOST) as f32)
    }
}

/// What is expected of one message to one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// One-way delay to the agent.
    pub owd: Time,
    /// Processing there.
    pub processing: Time,
    /// With this much time the message is ready with the dial's probability.
    pub lead: Time,
    /// The part of it that the agent's own unevenness asks for; the rest is for what is rare and
    /// alike for all, such as a lost packet.
    pub steady: Time,
}

impl Forecast {
    /// When READY is expected after the send: no margin in it.
    #[must_use]
    pub const fn ready_delay(&self) -> Time {
        self.owd + self.processing
    }
}

/// One answered message: what it carried, and what came of it. All times as the node sees them,
/// the agent's clock converted with its estimated offset.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// What the forecast was made for.
    pub work: Work,
    /// What the forecast was dialled to.
    pub dial: Dial,
    /// From send to receive.
    pub one_way: Time,
    /// From receive to ready, by the agent's clock.
    pub processing: Time,
    /// From send to ready.
    pub ready_delay: Time,
    /// Ready after the target time.
    pub late: bool,
    /// The lead it was sent with.
    pub lead: Time,
    /// What it teaches is for its agent alone, not for the class.
    pub alone: bool,
}

/// What the predictor does and how fast it learns. The default is what measured best; the rest is
/// for showing that it does (`cargo run -p mesh --release --example calibrate -- ablate`).
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Least gain of the rate's average.
    pub rate_gain: f32,
    /// Least gain of the one-way delay's average.
    pub owd_gain: f32,
    /// How many messages the class's spread counts for against the agent's own. Infinite: the
    /// class's alone.
    pub spread_prior: f32,
    /// Misses beyond this many spreads are measured in retransmission delays instead: those are
    /// alike for all agents, however even their links are. Infinite: never.
    pub knee: f32,
    /// Deviations beyond this many spreads count for that many in an agent's spread.
    pub spread_clip: f32,
    /// Misses that a pool remembers: it forgets by halves.
    pub memory: u32,
    /// Whether shifts of an agent's rate or path are looked for.
    pub shifts: bool,
    /// Whether agents that miss far more than their class have a pool of their own.
    pub wild: bool,
    /// Whether agents with little experience have a pool of their own.
    pub stages: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            rate_gain: 1.0 / 24.0,
            owd_gain: 1.0 / 24.0,
            spread_prior: 40.0,
            knee: 4.0,
            spread_clip: 4.0,
            memory: 32_768,
            shifts: true,
            wild: true,
            stages: true,
        }
    }
}

/// Between misses in nanoseconds and in the units that pools count: spreads of the agent up to a
/// knee, shares of a retransmission delay beyond it.
struct Ruler {
    spread: f32,
    knee: f32,
    beyond: f32,
}

impl Ruler {
    fn new(tuning: &Tuning, expected: f32, owd: f32, spread: f32) -> Self {
        let spread = (expected * spread).max(1.0);
        let again = RETRANSMISSION + 2.0 * owd;
        Self { spread, knee: tuning.knee, beyond: (again / 8.0).max(spread / 4.0) }
    }

    fn units(&self, miss: f32) -> f32 {
        let plain = miss / self.spread;
        if plain <= self.knee {
            plain
        } else {
            self.knee + (miss - self.knee * self.spread) / self.beyond
        }
    }

    fn nanoseconds(&self, units: f32) -> f32 {
        if units <= self.knee {
            units * self.spread
        } else {
            self.knee * self.spread + (units - self.knee) * self.beyond
        }
    }
}

/// What is known of every agent's delays. Indexed by handle; knows nothing of the registry. Fixed
/// memory: 32 bytes per agent and 180 KB.
#[derive(Clone, Debug)]
pub struct Predictor {
    rows: Vec<Row>,
    classes: Vec<ClassState>,
    tuning: Tuning,
    shifts: u64,
}

#[derive(Clone, Debug)]
struct ClassState {
    common: Common,
    pools: [Pool; Stage::COUNT],
    record: Record,
}

/// What came of a class's messages, for reports: coverage and its price.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Answered messages.
    pub answered: u64,
    /// Those that were late...
    pub late: u64,
    /// ...and how many of them the dials allowed.
    pub allowed: f64,
    /// Ready delays.
    pub ready: Sketch,
    /// How early those on time were.
    pub earliness: Sketch,
}

impl Record {
    fn note(&mut self, seen: &Observed) {
        self.answered += 1;
        self.allowed += 1.0 - seen.dial.share();
        self.ready.add(seen.ready_delay);
        if seen.late {
            self.late += 1;
        } else {
            self.earliness.add(seen.lead.saturating_sub(seen.ready_delay));
        }
    }
}

impl Predictor {
    /// Bytes of an agent.
    pub const ROW_BYTES: usize = size_of::<Row>();

    /// Room for handles below `capacity`.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self::with_tuning(capacity, Tuning::default())
    }

    /// As [`Predictor::new`], learning in this way.
    #[must_use]
    pub fn with_tuning(capacity: u32, tuning: Tuning) -> Self {
        let class = |_| ClassState {
            common: Common::new(),
            pools: Stage::ALL.map(|stage| Pool::new(tuning.memory, stage.prior(), 1.0)),
            record: Record::default(),
        };
        Self {
            rows: vec![Row::new(AgentClass::Edge); capacity as usize],
            classes: (0..CLASSES).map(class).collect(),
            tuning,
            shifts: 0,
        }
    }

    /// An agent with this handle begins, nothing known of it but its class. A handle beyond the
    /// capacity is not taken: its forecasts are the class's.
    pub fn join(&mut self, handle: u32, class: AgentClass) {
        if let Some(row) = self.rows.get_mut(handle as usize) {
            *row = Row::new(class);
        }
    }

    /// The agent is gone and what was known of it is forgotten.
    pub fn leave(&mut self, handle: u32) {
        self.join(handle, AgentClass::Edge);
    }

    /// What to expect of a message. Reads one row and one table.
    #[must_use]
    pub fn forecast(&self, handle: u32, work: Work, dial: Dial) -> Forecast {
        let unknown = Row::new(AgentClass::Edge);
        let row = self.rows.get(handle as usize).unwrap_or(&unknown);
        let class = &self.classes[row.class as usize];
        let stage = self.stage(row);
        let owd = row.owd(&class.common);
        let processing = base_processing(row.class) as f32 * row.rate(&class.common) * work.load();
        let processing = processing.min(LONGEST);
        let dial = if stage == Stage::Cold && dial != Dial::MEDIAN {
            dial.at_least(Dial::P999)
        } else {
            dial
        };
        let miss = class.pools[stage as usize].quantile(dial);
        let ruler = Ruler::new(&self.tuning, owd + processing, owd, row.spread(&class.common));
        let lead = (owd + processing + ruler.nanoseconds(miss)).max(0.0);
        let uneven = ruler.nanoseconds(miss.min(ruler.knee)).min(STEADY_MOST * (owd + processing));
        let steady = (owd + processing + uneven).max(0.0);
        Forecast {
            owd: owd as Time,
            processing: processing as Time,
            lead: lead.min(LONGEST) as Time,
            steady: steady.min(LONGEST) as Time,
        }
    }

    /// Learns from an answered message. True where it missed its forecast widely, to either side:
    /// by more than one in twenty of its class's experienced agents does.
    pub fn observe(&mut self, handle: u32, seen: &Observed) -> bool {
        let tuning = self.tuning;
        let Some(row) = self.rows.get(handle as usize) else { return false };
        let stage = self.stage(row);
        let row = &mut self.rows[handle as usize];
        let class = &mut self.classes[row.class as usize];
        class.record.note(seen);
        let base = base_processing(row.class) as f32 * seen.work.load();
        let owd = row.owd(&class.common);
        let expected = (owd + base * row.rate(&class.common)).max(1_000.0);
        let ruler = Ruler::new(&tuning, expected, owd, row.spread(&class.common));
        let miss = (seen.ready_delay as f32).min(LONGEST) - expected;
        let units = ruler.units(miss);
        let usual = class.pools[Stage::Warm as usize].quantile(Dial::P95);
        if stage != Stage::Cold {
            row.note(units > usual);
        }
        if !seen.alone {
            class.pools[stage as usize].add(units);
        }
        let deviation = miss / expected;
        let ratio = ((seen.processing as f32).min(LONGEST) / base).max(1e-6);
        let mut aside = class.common.clone();
        let common = if seen.alone { &mut aside } else { &mut class.common };
        let shifted = row.learn(common, &tuning, deviation, ratio);
        row.learn_owd(common, &tuning, (seen.one_way as f32).min(LONGEST));
        self.shifts += u64::from(shifted);
        units.abs() > usual.max(WIDE_LEAST)
    }

    /// Learns from a one-way delay without work (heartbeats); for its agent `alone`, or for the
    /// class as well.
    pub fn observe_rtt(&mut self, handle: u32, one_way: Time, alone: bool) {
        let Some(row) = self.rows.get_mut(handle as usize) else { return };
        let common = &mut self.classes[row.class as usize].common;
        let mut aside = common.clone();
        let common = if alone { &mut aside } else { common };
        row.learn_owd(common, &self.tuning, (one_way as f32).min(LONGEST));
    }

    /// What came of a class's messages so far.
    #[must_use]
    pub fn record(&self, class: AgentClass) -> &Record {
        &self.classes[class as usize].record
    }

    /// How many shifts of agents' rates were found.
    #[must_use]
    pub const fn shifts(&self) -> u64 {
        self.shifts
    }

    /// Answered messages of this agent since it joined or shifted, up to 255.
    #[must_use]
    pub fn experience(&self, handle: u32) -> u8 {
        self.rows.get(handle as usize).map_or(0, Row::experience)
    }

    /// The margin of experienced agents of a class at a dial, as a share of the expected ready
    /// delay, for reports.
    #[must_use]
    pub fn class_margin(&self, class: AgentClass, dial: Dial) -> f64 {
        let state = &self.classes[class as usize];
        f64::from(state.pools[Stage::Warm as usize].quantile(dial) * state.common.spread)
    }

    fn stage(&self, row: &Row) -> Stage {
        match row.stage() {
            _ if !self.tuning.stages => Stage::Warm,
            Stage::Wild if !self.tuning.wild => Stage::Warm,
            stage => stage,
        }
    }
}

#[cfg(test)]
mod tests;
