//! One agent: it queues what it is asked, serves one message after the other, holds each until its
//! moment, acts, and says what came of it. Beside that it estimates the node's clock, profiles
//! itself and beats (PROF-01..05, MESHMSG-14..16, TRIN-01).
//!
//! All times are of the agent's own clock where nothing else is said. The caller tells when
//! something happened, how much other work the host has (`backlog`), and when a service that the
//! agent began is over; it does what [`Output`] says, and calls [`Agent::timer`] at
//! [`Agent::next_timer`].
//!
//! What the agent keeps to, whatever comes: it never acts before the target moment as it sees it
//! (where asked to hold), never after the message's time to live, and not twice on a message that
//! comes again while it is in hand or among the last four answered.

mod job;
mod records;
#[cfg(test)]
mod tests;
mod vigil;

pub use records::{Ack, Order};
pub use vigil::NodeKey;

use crate::{MS, SECOND, Time, clock::OffsetFilter, profile::Profile};
use job::{Job, Jobs, Stage};
use vigil::{LATE_MOST, Stamps};
use wire::{
    mesh::{AgentState, Trinary},
    payload::mesh::{AgentHeartbeat, Place},
};

/// Between two heartbeats, where the node names no other interval (PROF-02).
pub const BEAT_EVERY: Time = 5 * SECOND;
/// The first heartbeats come four times as often: one round trip is a poor estimate of a clock.
const SETTLING_BEATS: u8 = 4;
/// The phase has been waited for.
const SETTLED: u8 = u8::MAX;
/// Shortest and longest interval that a node can ask for.
const BEAT_RANGE: (Time, Time) = (10 * MS, 3_600 * SECOND);
/// A message that has not been acted on after this long is answered with TRANSIT, once.
pub const TRANSIT_AFTER: Time = 2 * SECOND;
/// Messages that an agent has in hand at most; the next one is answered with CONFLICT.
pub const QUEUE_MAX: usize = 64;
/// What that answer says.
pub const QUEUE_FULL: &str = "queue full";
/// What the answer to a message that is to be held says while no exchange has shown what the node's
/// clock is.
pub const CLOCK_UNKNOWN: &str = "clock unknown";

/// Answered messages that an agent knows again; one that comes back later than that is acted on
/// once more, unless its time to live is over.
const REMEMBERED: usize = 4;

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The work is done.
    Ready,
    /// The agent knows better: why.
    Conflict(&'static str),
}

/// Why a message was not acted on, and not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Its time to live is over.
    Expired,
    /// It is for another agent, or for an earlier registration.
    Stale,
    /// It came before.
    Repeated,
    /// The node did not sign it, or not lately, or it was taken up before: for agents that ask.
    Unverified,
}

/// What the caller does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output {
    /// Send a heartbeat.
    Beat(AgentHeartbeat),
    /// Send an answer.
    Ack(Ack),
    /// A service begins: call [`Agent::finished`] when it is over.
    Begin {
        /// Complexity of the message.
        weight: f32,
        /// Messages that waited when it came.
        queue: u32,
    },
    /// Nothing: count it.
    Dropped([u8; 16], Dropped),
}

/// One agent. Under 700 bytes with its profile, under 250 without, and about 90 for each message in
/// hand.
#[derive(Clone, Debug)]
pub struct Agent {
    clock: OffsetFilter,
    jobs: Jobs,
    profile: Option<Box<Profile>>,
    /// Only what the node signed is taken up: by these stamps nothing is twice.
    stamps: Option<Box<Stamps>>,
    /// Messages that were answered last, the newest first: they may come again.
    done: [[u8; 16]; REMEMBERED],
    hlc: u64,
    context: u64,
    /// `sent_ns` of the heartbeat that waits for its answer.
    asked: Time,
    /// The node's `sent_ns` as last seen, and when that came.
    peer_sent: Time,
    peer_received: Time,
    beat_every: Time,
    next_beat: Time,
    /// The next moment at which something is due.
    timer: Time,
    handle: u32,
    generation: u32,
    /// Heartbeats that still come faster.
    settling: u8,
    /// Whole quarters of the interval in its phase, until they were waited for: then [`SETTLED`].
    quarters: u8,
}

impl Agent {
    /// An agent that is not registered. `phase` is any number: it spreads the heartbeats of many.
    #[must_use]
    pub fn new(phase: u64) -> Self {
        Self { profile: Some(Box::default()), ..Self::light(phase) }
    }

    /// The same without a profile of itself: it reports no durations, for simulations that look at
    /// answers alone.
    #[must_use]
    pub const fn light(phase: u64) -> Self {
        Self {
            clock: OffsetFilter::new(),
            jobs: Jobs::new(),
            profile: None,
            stamps: None,
            done: [[0; 16]; REMEMBERED],
            hlc: 0,
            context: 0,
            asked: 0,
            peer_sent: 0,
            peer_received: 0,
            beat_every: BEAT_EVERY,
            // Until it is registered, the phase.
            next_beat: phase,
            timer: Time::MAX,
            handle: 0,
            generation: 0,
            settling: SETTLING_BEATS,
            quarters: 0,
        }
    }

    /// The node gave it a place. `asked` is when the registration left, `sent` the node's clock
    /// when the answer left, `every` the interval it expects (0 for the default).
    pub fn registered(&mut self, asked: Time, now: Time, place: &Place, sent: Time, every: Time) {
        (self.handle, self.generation) = (place.handle, place.generation);
        // It may be another node, or one that started anew.
        self.clock.sample_first(asked, sent, sent, now);
        (self.peer_sent, self.peer_received) = (sent, now);
        if every > 0 {
            self.beat_every = every.clamp(BEAT_RANGE.0, BEAT_RANGE.1);
        }
        let quarter = self.beat_every / 4;
        self.quarters = (self.next_beat / quarter % 4) as u8;
        self.next_beat = now.saturating_add(self.next_beat % quarter);
        self.settle();
    }

    /// Its handle and the generation of it.
    #[must_use]
    pub const fn place(&self) -> (u32, u32) {
        (self.handle, self.generation)
    }

    /// What it estimates of the node's clock.
    #[must_use]
    pub const fn clock(&self) -> &OffsetFilter {
        &self.clock
    }

    /// Messages in hand that are not ready yet: they count for the queue depth.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.jobs.unready()
    }

    /// Messages in hand, ready ones that are held included.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.jobs.len()
    }

    /// Reads what messages will change, and changes nothing: as [`crate::node::Mesh::touch`].
    #[must_use]
    pub fn touch(&self) -> u64 {
        let done = u64::from(self.done[0][0] ^ self.done[REMEMBERED - 1][0]);
        let clock = self.clock.rtt_min().unwrap_or(0);
        done ^ clock ^ self.hlc ^ self.timer ^ self.next_beat ^ self.jobs.len() as u64
    }

    /// Likewise the message that waits longest.
    #[must_use]
    pub fn touch_job(&self) -> u64 {
        self.jobs.first().map_or(0, |job| job.origin ^ job.ready)
    }

    /// From now on it takes up only what the node signed, as [`Order::is_verified`] says (SIGN-04).
    pub fn demand_signatures(&mut self) {
        self.stamps.get_or_insert_default();
    }

    /// What the agent works with (IMPED-11); repeated in heartbeats and answers.
    pub const fn set_context(&mut self, hash: u64) {
        self.context = hash;
    }

    /// When [`Self::timer`] is to be called at the latest; [`Time::MAX`] for never.
    #[must_use]
    pub const fn next_timer(&self) -> Time {
        self.timer
    }

    /// When the next held message is to be acted on, if one is held.
    #[must_use]
    pub fn next_release(&self) -> Option<Time> {
        self.jobs.held().map(|job| job.target).min()
    }

    /// A COORDINATE came.
    pub fn order(&mut self, now: Time, order: &Order, backlog: u32, out: &mut Vec<Output>) {
        if (order.handle, order.generation) != self.place() {
            out.push(Output::Dropped(order.message_id, Dropped::Stale));
            return;
        }
        if !self.is_trusted(now, order) {
            out.push(Output::Dropped(order.message_id, Dropped::Unverified));
            return;
        }
        self.hlc = self.hlc.max(order.hlc).saturating_add(1);
        self.note_arrival(now, order.sent_ns);
        if self.done.contains(&order.message_id) || self.jobs.has(&order.message_id) {
            out.push(Output::Dropped(order.message_id, Dropped::Repeated));
            return;
        }
        let own = |node: Time| self.clock.to_own(node, now);
        // By a clock that nobody knows: as if the message had taken no time.
        let rest = order.expires_ns.saturating_sub(order.sent_ns);
        let expires = match order.expires_ns {
            Time::MAX => Time::MAX,
            node => own(node).unwrap_or_else(|| now.saturating_add(rest)),
        };
        let job = Job {
            message_id: order.message_id,
            origin: order.sent_ns,
            received: now,
            target: own(order.target_ns).unwrap_or(now),
            expires,
            began: now,
            ready: 0,
            queue_found: backlog.saturating_add(self.queue()),
            weight: order.weight,
            stage: Stage::Waiting,
            hold: order.hold,
            told: false,
        };
        if now > job.expires {
            self.expire(now, &job, out);
        } else if let Some(detail) = self.refusal(order) {
            self.count(now, false);
            let ack = self.ack(now, &job, backlog, Trinary::Conflict);
            out.push(Output::Ack(Ack { conflict_detail: detail, ..ack }));
        } else {
            self.jobs.push(job);
            self.begin(now, out);
            self.settle();
        }
    }

    /// Whether a message is the node's own, lately, and for the first time, where that matters.
    fn is_trusted(&mut self, now: Time, order: &Order) -> bool {
        let Some(stamps) = &mut self.stamps else { return true };
        let moment = self.clock.to_own(order.target_ns, now);
        let late = moment.is_some_and(|moment| now.saturating_sub(moment) > LATE_MOST);
        order.is_verified && !late && stamps.take(order.hlc)
    }

    /// Why it cannot take a message, if so.
    const fn refusal(&self, order: &Order) -> Option<&'static str> {
        if self.jobs.len() == QUEUE_MAX {
            Some(QUEUE_FULL)
        } else if order.hold && !self.clock.is_known() {
            Some(CLOCK_UNKNOWN)
        } else {
            None
        }
    }

    /// The service that began last is over.
    pub fn finished(&mut self, now: Time, verdict: Verdict, backlog: u32, out: &mut Vec<Output>) {
        let Some(index) = self.jobs.serving() else { return };
        let job = self.jobs.at_mut(index);
        job.ready = now;
        job.stage = Stage::Held;
        let job = *job;
        if let Some(profile) = &mut self.profile {
            profile.processing.add(job.processing());
        }
        if now > job.expires {
            self.jobs.remove(index);
            self.expire(now, &job, out);
        } else if let Verdict::Conflict(detail) = verdict {
            self.jobs.remove(index);
            self.close(now, &job);
            let ack = self.ack(now, &job, backlog, Trinary::Conflict);
            out.push(Output::Ack(Ack { conflict_detail: detail, ready_ns: 0, ..ack }));
        } else if !job.hold || now >= job.target {
            self.jobs.remove(index);
            self.act(now, &job, backlog, out);
        }
        self.begin(now, out);
        self.settle();
    }

    /// The moment of [`Self::next_timer`] has come: acts on what is held and due, drops what is
    /// past its time to live, beats. Earlier it does nothing.
    pub fn timer(&mut self, now: Time, backlog: u32, out: &mut Vec<Output>) {
        if now < self.timer {
            return;
        }
        while let Some(index) = self.jobs.position(|job| job.is_over(now)) {
            let job = self.jobs.remove(index);
            if now > job.expires {
                self.expire(now, &job, out);
            } else {
                self.act(now, &job, backlog, out);
            }
        }
        while let Some(index) = self.jobs.position(|job| job.is_slow(now)) {
            self.jobs.at_mut(index).told = true;
            let job = *self.jobs.at_mut(index);
            let ack = self.ack(now, &job, backlog, Trinary::Transit);
            out.push(Output::Ack(ack));
        }
        if now >= self.next_beat {
            let late = now - self.next_beat;
            let gap = self.next_gap();
            self.next_beat = now.saturating_add(gap - late % gap);
            out.push(Output::Beat(self.beat(now, backlog)));
        }
        self.settle();
    }

    /// A heartbeat out of turn: for the caller that decides itself when they leave.
    pub fn beat(&mut self, now: Time, backlog: u32) -> AgentHeartbeat {
        self.hlc = self.hlc.saturating_add(1);
        self.asked = now;
        let profile = self.profile.as_deref();
        let ms = |time: Option<Time>| time.unwrap_or(0) as f32 / MS as f32;
        let latency_ms = ms(profile.and_then(|profile| profile.latency.median()));
        let processing_ms = ms(profile.and_then(|profile| profile.processing.median()));
        let queue_depth = backlog.saturating_add(self.queue());
        AgentHeartbeat {
            handle: self.handle,
            generation: self.generation,
            hlc: self.hlc,
            origin_ns: self.peer_sent,
            received_ns: self.peer_received,
            sent_ns: now,
            context_hash: self.context,
            latency_ms,
            processing_ms,
            queue_depth,
            impedance: impedance(latency_ms, processing_ms, queue_depth),
            reliability: profile.map_or(1.0, |profile| profile.reliability(now)),
            drift: profile.map_or(0.0, Profile::drift),
            state: AgentState::Active.code(),
            ..AgentHeartbeat::default()
        }
    }

    /// Heartbeats leave only by [`Self::beat`] from now on.
    pub fn beat_by_hand(&mut self) {
        self.next_beat = Time::MAX;
        self.settle();
    }

    /// The node answered a heartbeat. False for an answer to none, or with impossible times; it
    /// changes nothing.
    pub fn answered(&mut self, now: Time, answer: &AgentHeartbeat) -> bool {
        let mine = (answer.handle, answer.generation) == self.place();
        if !mine || answer.origin_ns != self.asked || self.asked == 0 {
            return false;
        }
        if !self.clock.sample(self.asked, answer.received_ns, answer.sent_ns, now) {
            return false;
        }
        self.asked = 0;
        self.hlc = self.hlc.max(answer.hlc).saturating_add(1);
        self.note_arrival(now, answer.sent_ns);
        true
    }

    /// Something came that left the node at `sent`: its one-way delay, by the estimate of the
    /// node's clock.
    fn note_arrival(&mut self, now: Time, sent: Time) {
        (self.peer_sent, self.peer_received) = (sent, now);
        let left = self.clock.to_own(sent, now);
        if let (Some(profile), Some(left)) = (&mut self.profile, left) {
            profile.latency.add(now.saturating_sub(left));
        }
    }

    /// Starts the service of the message that waits longest, if none is served.
    fn begin(&mut self, now: Time, out: &mut Vec<Output>) {
        while self.jobs.serving().is_none() {
            let waits = |job: &Job| job.stage == Stage::Waiting;
            let Some(index) = self.jobs.position(waits) else { return };
            let job = self.jobs.at_mut(index);
            if now > job.expires {
                let job = self.jobs.remove(index);
                self.expire(now, &job, out);
                continue;
            }
            (job.stage, job.began) = (Stage::Serving, now);
            out.push(Output::Begin { weight: job.weight, queue: job.queue_found });
        }
    }

    fn act(&mut self, now: Time, job: &Job, backlog: u32, out: &mut Vec<Output>) {
        self.close(now, job);
        let ack = self.ack(now, job, backlog, Trinary::Ready);
        out.push(Output::Ack(Ack { acted_ns: now, ..ack }));
    }

    fn close(&mut self, now: Time, job: &Job) {
        self.done.rotate_right(1);
        self.done[0] = job.message_id;
        self.count(now, true);
    }

    fn expire(&mut self, now: Time, job: &Job, out: &mut Vec<Output>) {
        self.count(now, false);
        out.push(Output::Dropped(job.message_id, Dropped::Expired));
    }

    fn count(&mut self, now: Time, success: bool) {
        if let Some(profile) = &mut self.profile {
            profile.outcomes.count(now, success);
        }
    }

    fn ack(&mut self, now: Time, job: &Job, backlog: u32, state: Trinary) -> Ack {
        self.hlc = self.hlc.saturating_add(1);
        Ack {
            message_id: job.message_id,
            handle: self.handle,
            generation: self.generation,
            hlc: self.hlc,
            origin_ns: job.origin,
            received_ns: job.received,
            ready_ns: job.ready,
            acted_ns: 0,
            sent_ns: now,
            target_own_ns: job.target,
            processing_ns: job.processing(),
            context_hash: self.context,
            queue_found: job.queue_found,
            queue_depth: backlog.saturating_add(self.queue()),
            state: state.code(),
            conflict_detail: "",
        }
    }

    /// Until the next heartbeat, one being due. Behind the faster ones the phase is kept over the
    /// whole interval, not over their quarter of it: many agents would beat in bunches.
    const fn next_gap(&mut self) -> Time {
        let quarter = self.beat_every / 4;
        self.settling = self.settling.saturating_sub(1);
        match (self.settling, self.quarters) {
            (0, SETTLED) => self.beat_every,
            (0, quarters) => {
                self.quarters = SETTLED;
                quarter * (quarters as Time + 1)
            }
            _ => quarter,
        }
    }

    fn settle(&mut self) {
        self.timer = self.jobs.next_due().min(self.next_beat);
    }
}

/// The impedance score in milliseconds (IMPED-07): one-way delay and processing, each waiting
/// operation adding a tenth of it, 0 to 1000.
fn impedance(latency_ms: f32, processing_ms: f32, queue: u32) -> f32 {
    (latency_ms + processing_ms * (1.0 + 0.1 * queue as f32)).clamp(0.0, 1_000.0)
}
