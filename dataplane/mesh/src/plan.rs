//! When to send to whom, so that all are ready at the same instant (SCHED-01..09, -11).
//!
//! For a target time T each agent gets send time T - lead. A send that *holds* has the lead of the
//! dial (the agent is ready early and waits for T); a *plain* one has the median lead (its READY
//! comes before T as often as after). Without a given T it is far enough away for nearly all leads
//! . Who cannot make it is skipped, with numbers (SCHED-05).
//!
//! Sends that one core makes are kept `send_gap` apart by walking back from T: a send is moved
//! forward in time only, never closer to T than its lead. Where that would be before `now` the gap
//! gives way, not the target.

mod links;

use wire::mesh::{AgentClass, SkipReason};

use crate::class::is_machine;
use crate::predict::{Dial, Forecast, Predictor, Work};
use crate::{MS, Time};
use links::Links;

/// Leads that machine classes can be compensated by (SCHED-09). People are beyond it: they have
/// deadlines, not arrival windows (Y-13).
pub const COMPENSATION_RANGE: Time = 1_000 * MS;
/// Without a given target time it is set for this share of the leads: the specification asks for
/// 95 % at least; what lies beyond is skipped.
pub const LEAD_QUANTILE: f64 = 0.999;
/// Time to plan and to hand the sends over, kept free before the first one...
pub const PREPARE: Time = 5 * MS;
/// ...and for each send on top; reasoned, not measured.
pub const PREPARE_EACH: Time = 150;
/// What a send on a connection of its own costs a shard: sends of one message are planned this far
/// apart, so that none waits for the one before it.
pub const SEND_GAP: Time = 7_000;
/// Sends are counted in buckets of this length (SCHED-08).
pub const BUCKET: Time = 10 * MS;
/// The confidence formula cannot give more.
pub const CONFIDENCE_MOST: f32 = 0.7;
/// Targets of one plan; what lies beyond is not looked at.
pub const TARGETS_MOST: usize = 1 << 24;

/// Part of its time that a core may spend on the sends of one message before targets of one
/// connection have to share them.
const SEND_SHARE: f64 = 0.25;
/// Bits of a sort key that hold the target's index.
const INDEX_BITS: u32 = 24;
/// Leads are rounded up to this, and sorted so.
const GRAIN: Time = 1_000;

/// Somebody to send to.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its index in the registry and the predictor.
    pub handle: u32,
    /// Messages queued there, as last reported.
    pub queue: u32,
    /// Its class.
    pub class: AgentClass,
    /// Connection: owner core in the upper 8 bits. Sends over one connection need no gap.
    pub link: u32,
    /// Share of its messages that succeeded.
    pub reliability: f32,
    /// Coefficient of variation of its latency.
    pub drift: f32,
    /// Whether its last heartbeat is less than 10 s old.
    pub fresh: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Node time.
    pub now: Time,
    /// T, if given.
    pub target_time: Option<Time>,
    /// Least distance of a T that is not given.
    pub window: Option<Time>,
    /// Wanted share on time.
    pub dial: Dial,
    /// Payload weight.
    pub weight: f32,
    /// Agents hold until T. Else the send is plain.
    pub hold: bool,
    /// Sends made by one core are at least this far apart.
    pub send_gap: Time,
    /// Class F was chosen explicitly: people are planned for, by their own long leads.
    pub humans: bool,
}

/// Why a target gets no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Its send time is past (SCHED-05).
    InsufficientLead {
        /// The lead that it needs.
        would_need: Time,
        /// What is left until T.
        available: Time,
    },
    /// Its lead is beyond the compensation range; for people also: they were not chosen explicitly.
    OverRange {
        /// The lead that it needs.
        would_need: Time,
        /// The range.
        available: Time,
    },
}

impl Skip {
    /// The reason's code.
    #[must_use]
    pub const fn reason(self) -> SkipReason {
        match self {
            Self::InsufficientLead { .. } => SkipReason::InsufficientLeadTime,
            Self::OverRange { .. } => SkipReason::OverRange,
        }
    }

    /// (lead that it needs, lead that there is).
    #[must_use]
    pub const fn numbers(self) -> (Time, Time) {
        match self {
            Self::InsufficientLead { would_need, available }
            | Self::OverRange { would_need, available } => (would_need, available),
        }
    }
}

/// One send (SCHED-06).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// When to send, node time.
    pub send_at: Time,
    /// Lead by the forecast; the send may be earlier by what smoothing took.
    pub lead: Time,
    /// Expected one-way delay.
    pub owd: Time,
    /// Expected processing.
    pub processing: Time,
    /// Index into the targets.
    pub target: u32,
    /// The specification's score, 0..=0.7 (SCHED-07).
    pub confidence_raw: f32,
    /// That over 0.7, 0..=1.
    pub confidence: f32,
}

impl Planned {
    /// When the message is expected at the agent.
    #[must_use]
    pub const fn expected_arrival(&self) -> Time {
        self.send_at + self.owd
    }

    /// When the agent is expected to be ready.
    #[must_use]
    pub const fn expected_ready(&self) -> Time {
        self.send_at + self.owd + self.processing
    }
}

/// The sends of one message.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// T, node time.
    pub target_time: Time,
    /// From `now` to T.
    pub window: Time,
    /// By send time.
    pub sends: Vec<Planned>,
    /// (index into the targets, reason), grouped by reason.
    pub skips: Vec<(u32, Skip)>,
    /// Buckets of 10 ms with sends in them (SCHED-08).
    pub buckets: u32,
    /// Sends in the fullest bucket.
    pub fullest: u32,
    /// Sends for which the gap gave way.
    pub crowded: u32,
    /// The most that smoothing moved a send ahead.
    pub smoothing: Time,
}

/// Room for planning that is kept between plans.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// (lead in grains, index), packed so that sorting sorts by lead.
    order: Vec<u64>,
    /// (distance of the send from T in grains, index), likewise.
    slots: Vec<u64>,
    /// Forecasts by index.
    forecasts: Vec<Forecast>,
    /// The connections.
    links: Links,
}

/// confidence = clamp(0.5 reliability - 0.3 drift + 0.2 if fresh, 0, 1) (SCHED-07): at most 0.7.
#[must_use]
pub fn confidence_raw(reliability: f32, drift: f32, fresh: bool) -> f32 {
    let fresh = if fresh { 0.2 } else { 0.0 };
    // `min` and `max` drop a NaN before it counts.
    (0.5 * reliability.min(1.0) - 0.3 * drift.max(0.0) + fresh).clamp(0.0, CONFIDENCE_MOST)
}

/// Plans the sends of one message. Nothing is allocated per target once `scratch` is large enough,
/// except what is returned.
#[must_use]
pub fn plan(predictor: &Predictor, targets: &[Target], ask: &Ask, scratch: &mut Scratch) -> Plan {
    let targets = &targets[..targets.len().min(TARGETS_MOST)];
    let mut plan = Plan::default();
    forecast(predictor, targets, ask, scratch, &mut plan.skips);
    scratch.order.sort_unstable();
    smooth(targets, ask.send_gap, scratch, &mut plan);
    plan.target_time = ask.target_time.unwrap_or_else(|| free_target(ask, &scratch.slots));
    plan.window = plan.target_time.saturating_sub(ask.now);
    place(targets, ask.now, scratch, &mut plan);
    count_buckets(&mut plan);
    plan
}

/// Leads of all targets into `scratch.order`, in ascending index; those out of range to `skips`.
fn forecast(
    predictor: &Predictor,
    targets: &[Target],
    ask: &Ask,
    scratch: &mut Scratch,
    skips: &mut Vec<(u32, Skip)>,
) {
    let dial = if ask.hold { ask.dial } else { Dial::MEDIAN };
    scratch.order.clear();
    scratch.order.reserve(targets.len());
    scratch.forecasts.clear();
    scratch.forecasts.reserve(targets.len());
    for (index, target) in targets.iter().enumerate() {
        let work = Work { weight: ask.weight, queue: target.queue };
        let mut forecast = predictor.forecast(target.handle, work, dial);
        let human = !is_machine(target.class);
        let ranged = if human { !ask.humans } else { forecast.steady > COMPENSATION_RANGE };
        let would_need = forecast.lead;
        if !human {
            // What is rare keeps nobody out: whoever is passed over is never seen again, and one
            // bad moment of all would last for ever.
            forecast.lead = forecast.lead.min(COMPENSATION_RANGE);
        }
        scratch.forecasts.push(forecast);
        if ranged {
            let available = COMPENSATION_RANGE;
            skips.push((index as u32, Skip::OverRange { would_need, available }));
        } else {
            scratch.order.push(packed(forecast.lead.div_ceil(GRAIN), index as u32));
        }
    }
}

/// Walks back from T: every send at its lead, or as much earlier as keeps the gap to the one that
/// the same core makes after it. Targets of one connection with leads close together share a send.
fn smooth(targets: &[Target], gap: Time, scratch: &mut Scratch, plan: &mut Plan) {
    let gap = gap.div_ceil(GRAIN);
    // Per core: distance from T of its earliest send so far.
    let mut cores = [None::<u64>; 256];
    let shared_for = shared_for(targets, gap, scratch);
    scratch.slots.clear();
    scratch.slots.reserve(scratch.order.len());
    for &key in &scratch.order {
        let (lead, index) = unpacked(key);
        let link = targets[index as usize].link;
        let last = &mut cores[(link >> 24) as usize];
        let shared = scratch.links.at(link);
        if shared.slot < lead || shared.slot == 0 {
            // With company to come, early enough for those whose leads are a little longer.
            let ahead = if shared.targets > 1 { shared_for[(link >> 24) as usize] } else { 0 };
            let free = last.map_or(0, |last| last + gap);
            shared.slot = (lead + ahead).max(free).clamp(1, FARTHEST);
            *last = Some(shared.slot);
        }
        let slot = shared.slot;
        plan.smoothing = plan.smoothing.max((slot - lead) * GRAIN);
        scratch.slots.push(packed(slot, index));
    }
    // By send time, latest first; nearly sorted already.
    scratch.slots.sort_unstable();
}

/// By core: how much earlier, in grains, a send may leave so that others of its connection can
/// share it. Nothing where the core has time for a send of each target. Else so much that a send to
/// every connection in turn takes [`SEND_SHARE`] of it, and a bucket at most. Fills the table of
/// connections.
fn shared_for(targets: &[Target], gap: u64, scratch: &mut Scratch) -> [u64; 256] {
    let mut sends = [(0_u64, 0_u64); 256];
    scratch.links.begin(targets.len());
    for &key in &scratch.order {
        let link = targets[unpacked(key).1 as usize].link;
        let entry = scratch.links.at(link);
        let (count, links) = &mut sends[(link >> 24) as usize];
        *count += 1;
        *links += u64::from(entry.targets == 0);
        entry.targets += 1;
    }
    // The middle 98 % of the leads.
    let edge = scratch.order.len() / 100;
    let ends = scratch.order.get(edge).zip(scratch.order.iter().rev().nth(edge));
    let span = ends.map_or(0, |(near, far)| unpacked(*far).0 - unpacked(*near).0);
    sends.map(|(count, links)| {
        let busy = (count * gap) as f64;
        if busy <= span as f64 * SEND_SHARE {
            return 0;
        }
        (((links * gap) as f64 / SEND_SHARE) as u64).min(BUCKET / GRAIN)
    })
}

/// A target time that is near, but far enough for nearly all.
fn free_target(ask: &Ask, slots: &[u64]) -> Time {
    let nearly_all = (slots.len() as f64 * LEAD_QUANTILE).ceil() as usize;
    let need = match nearly_all.checked_sub(1) {
        Some(rank) => {
            let prepare = PREPARE + PREPARE_EACH * slots.len() as Time;
            unpacked(slots[rank]).0 * GRAIN + prepare
        }
        None => 0,
    };
    ask.now.saturating_add(need.max(ask.window.unwrap_or(0)))
}

/// Turns slots into sends, earliest first, and skips those that are too late.
fn place(targets: &[Target], now: Time, scratch: &Scratch, plan: &mut Plan) {
    plan.sends.reserve_exact(scratch.slots.len());
    for &key in scratch.slots.iter().rev() {
        let (slot, index) = unpacked(key);
        let Forecast { owd, processing, lead, .. } = scratch.forecasts[index as usize];
        if lead > plan.window {
            let (would_need, available) = (lead, plan.window);
            plan.skips.push((index, Skip::InsufficientLead { would_need, available }));
            continue;
        }
        let ahead = slot * GRAIN;
        plan.crowded += u32::from(ahead > plan.window && slot > lead.div_ceil(GRAIN));
        let target = &targets[index as usize];
        let raw = confidence_raw(target.reliability, target.drift, target.fresh);
        plan.sends.push(Planned {
            send_at: now + (plan.window - ahead.min(plan.window)),
            lead,
            owd,
            processing,
            target: index,
            confidence_raw: raw,
            confidence: raw / CONFIDENCE_MOST,
        });
    }
}

fn count_buckets(plan: &mut Plan) {
    let (mut bucket, mut inside) = (Time::MAX, 0);
    for send in &plan.sends {
        if send.send_at / BUCKET != bucket {
            bucket = send.send_at / BUCKET;
            plan.buckets += 1;
            inside = 0;
        }
        inside += 1;
        plan.fullest = plan.fullest.max(inside);
    }
}

/// The most that a sort key holds: 12 days.
const FARTHEST: u64 = (1 << (64 - INDEX_BITS)) - 1;

const fn packed(grains: u64, index: u32) -> u64 {
    (grains << INDEX_BITS) | index as u64
}

const fn unpacked(key: u64) -> (u64, u32) {
    (key >> INDEX_BITS, (key & ((1 << INDEX_BITS) - 1)) as u32)
}

#[cfg(test)]
mod tests;
