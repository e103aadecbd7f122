//! What heartbeats and answers say of an agent's speed, and the score made of it.

use wire::mesh::{AgentClass, AgentState};

use super::{AgentRef, RefFault, Registry};
use crate::Time;
use crate::cluster::{band_of, key_of};
use crate::limits::{
    DEGRADED_SCORE, DRIFT_MAX, LATENCY_MAX, PROCESSING_MAX, QUEUE_SHARE, SCORE_MAX,
};

/// An agent's report of itself (IMPED-03..05, -08..11). Whatever it says is brought into range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impedance {
    /// Round trip: the median of its ring.
    pub latency: Time,
    /// Processing time: the median of its ring.
    pub processing: Time,
    /// Pending operations.
    pub queue: u32,
    /// Success rate of the last hour, 0 to 1.
    pub reliability: f32,
    /// Coefficient of variation of its latency.
    pub drift: f32,
    /// The state it claims: it may call itself degraded, offline (it leaves) or quarantined.
    pub state: AgentState,
    /// Hash of its context.
    pub context: u64,
}

/// Weight of one answer in the rolling averages (RFC 6298's for round trips).
const ANSWER_SHIFT: u32 = 3;
/// Weight of one heartbeat in the score's historical average: half of it is 3.7 minutes old.
const HISTORY: f32 = 1.0 / 64.0;
/// No move to another cluster is due.
pub(super) const SETTLED: Time = Time::MAX;

/// The impedance score (IMPED-07, Y-17): one-way delay (half the round trip), processing and queue
/// delay in milliseconds, clamped to 0 to 1000. Each pending operation delays by a tenth of the
/// processing time (SCHED-03).
#[must_use]
pub fn score_of(latency: Time, processing: Time, queue: u32) -> f32 {
    let ms = |time: Time| time as f64 / crate::MS as f64;
    let work = ms(processing) * (1.0 + f64::from(QUEUE_SHARE) * f64::from(queue));
    ((ms(latency) / 2.0 + work) as f32).clamp(0.0, SCORE_MAX)
}

/// A number from 0 to `most`; none where it is negative or not a number.
pub(super) fn believe(value: f32, most: f32) -> Option<f32> {
    (value >= 0.0).then(|| value.min(most))
}

impl Registry {
    /// Takes a heartbeat: a silent agent is back with it.
    ///
    /// # Errors
    /// Unknown or stale references, and agents without a connection. Whether it came by the
    /// agent's own connection says [`Registry::verify`].
    pub fn heartbeat(
        &mut self,
        now: Time,
        agent: AgentRef,
        impedance: &Impedance,
    ) -> Result<(), RefFault> {
        let handle = self.get(agent)?;
        if self.link(handle).is_none() {
            return Err(RefFault::Gone);
        }
        self.take(now, handle, impedance);
        let at = handle as usize;
        self.columns.average[at] += (self.columns.score[at] - self.columns.average[at]) * HISTORY;
        Ok(())
    }

    /// One answered (or missed) message: counts for the success rate; durations move the rolling
    /// averages by an eighth. A failure says nothing about durations.
    pub fn outcome(
        &mut self,
        now: Time,
        handle: u32,
        success: bool,
        latency: Time,
        processing: Time,
    ) {
        let Some(at) = self.at(handle) else { return };
        let columns = &mut self.columns;
        columns.outcomes[at].count(now, success);
        if !success {
            return;
        }
        let blend = |old: Time, new: Time| old - (old >> ANSWER_SHIFT) + (new >> ANSWER_SHIFT);
        columns.latency[at] = blend(columns.latency[at], latency.min(LATENCY_MAX));
        columns.processing[at] = blend(columns.processing[at], processing.min(PROCESSING_MAX));
        self.rescore(now, handle);
    }

    /// Takes a report over, brought into range.
    pub(super) fn take(&mut self, now: Time, handle: u32, impedance: &Impedance) {
        let at = handle as usize;
        let columns = &mut self.columns;
        columns.heartbeat[at] = now;
        columns.latency[at] = impedance.latency.min(LATENCY_MAX);
        columns.processing[at] = impedance.processing.min(PROCESSING_MAX);
        columns.queue[at] = impedance.queue;
        columns.reported[at] = believe(impedance.reliability, 1.0).unwrap_or(0.0);
        columns.drift[at] = believe(impedance.drift, DRIFT_MAX).unwrap_or(DRIFT_MAX);
        columns.context[at] = impedance.context;
        self.rescore(now, handle);
        let state = match (self.state(handle), impedance.state) {
            (AgentState::Quarantined, _) => AgentState::Quarantined,
            (_, AgentState::Active) if self.slow(handle) => AgentState::Degraded,
            (_, claimed) => claimed,
        };
        self.set_state(now, handle, state);
    }

    /// A score over 800 is degraded (CLUST-02). People take their time: class F is not judged.
    fn slow(&self, handle: u32) -> bool {
        self.class(handle) != AgentClass::Human && self.score(handle) > DEGRADED_SCORE
    }

    /// Reads what a report of this agent will change: see [`crate::node::Mesh::touch`].
    pub(crate) fn touch(&self, handle: u32) -> u64 {
        let Some(at) = self.at(handle) else { return 0 };
        let columns = &self.columns;
        let small = columns.generation[at] ^ columns.link[at].conn ^ columns.cluster[at];
        let floats = columns.score[at] + columns.average[at] + columns.reported[at];
        let bytes = columns.state[at] as u8 ^ columns.class[at] as u8 ^ columns.band[at];
        columns.latency[at]
            ^ columns.processing[at]
            ^ columns.heartbeat[at]
            ^ columns.context[at]
            ^ columns.strayed[at]
            ^ u64::from(small ^ columns.queue[at] ^ (floats + columns.drift[at]).to_bits())
            ^ u64::from(bytes)
            ^ u64::from(columns.outcomes[at].newest())
    }

    fn rescore(&mut self, now: Time, handle: u32) {
        let at = handle as usize;
        let columns = &mut self.columns;
        let score = score_of(columns.latency[at], columns.processing[at], columns.queue[at]);
        columns.score[at] = score;
        let band = band_of(score);
        let key = key_of(columns.class[at], band);
        if self.clusters.key(columns.cluster[at]) == Some(key) {
            columns.strayed[at] = SETTLED;
        } else if columns.band[at] != band || columns.strayed[at] == SETTLED {
            columns.strayed[at] = now;
        }
        columns.band[at] = band;
    }

    /// Keeps an agent from all work, or gives it back: it comes back offline or active as its
    /// next heartbeat says. False for a handle that nobody has.
    pub fn quarantine(&mut self, now: Time, handle: u32, on: bool) -> bool {
        if self.at(handle).is_none() {
            return false;
        }
        if on {
            self.set_state(now, handle, AgentState::Quarantined);
        } else if self.state(handle) == AgentState::Quarantined {
            self.set_state(now, handle, AgentState::Offline);
        }
        true
    }

    /// Calls an agent degraded until its next heartbeat, for one whose answers say so.
    pub fn degrade(&mut self, now: Time, handle: u32) {
        if self.at(handle).is_some() && self.state(handle) == AgentState::Active {
            self.set_state(now, handle, AgentState::Degraded);
        }
    }

    /// Every change of a state goes through here: counts and leads follow.
    pub(super) fn set_state(&mut self, now: Time, handle: u32, state: AgentState) {
        let at = handle as usize;
        let old = self.columns.state[at];
        if old == state {
            return;
        }
        self.counts[usize::from(old.code())] -= 1;
        self.counts[usize::from(state.code())] += 1;
        self.columns.state[at] = state;
        self.mend_lead(now, self.columns.cluster[at]);
    }
}
