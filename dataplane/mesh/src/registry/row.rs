//! Reading: one agent as a whole, or one property of many.

use wire::mesh::{AgentClass, AgentState};

use super::names::NO_CAPABILITY;
use super::{AgentRef, Link, NO_LINK, Registry};
use crate::Time;
use crate::cluster::{Name, Seat};
use crate::limits::{FRESH_FOR, SPIKE, UNSTABLE_DRIFT};

/// One agent, for reports.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRow {
    /// Handle and generation.
    pub agent: AgentRef,
    /// 128-bit id.
    pub id: [u8; 16],
    /// Impedance class.
    pub class: AgentClass,
    /// Operational state.
    pub state: AgentState,
    /// Sector, cluster, place: `S07-C04-A12`.
    pub name: Name,
    /// True where it leads its cluster.
    pub lead: bool,
    /// Its connection, if it has one.
    pub link: Option<Link>,
    /// Round trip, rolling average.
    pub latency: Time,
    /// Processing time, rolling average.
    pub processing: Time,
    /// Pending operations.
    pub queue: u32,
    /// Last heartbeat (or registration).
    pub heartbeat: Time,
    /// Impedance score, 0 to 1000 ms.
    pub score: f32,
    /// The score's historical average.
    pub average: f32,
    /// Success rate of the last hour, 0 to 1.
    pub reliability: f32,
    /// Coefficient of variation of its latency.
    pub drift: f32,
    /// True above a drift of 0.5.
    pub unstable: bool,
    /// Hash of its context.
    pub context: u64,
    /// What it can do.
    pub capabilities: Vec<String>,
}

/// Single properties, for loops over many agents. Handles come from this registry: an unknown one
/// has the values of an agent that is offline, a handle outside the capacity panics.
impl Registry {
    /// All about one agent. `now` is for its success rate.
    #[must_use]
    pub fn row(&self, now: Time, handle: u32) -> Option<AgentRow> {
        let at = self.at(handle)?;
        let columns = &self.columns;
        let seat = columns.seat(at);
        let held = columns.capabilities[at].iter().filter(|id| **id != NO_CAPABILITY);
        Some(AgentRow {
            agent: AgentRef { handle, generation: columns.generation[at] },
            id: columns.id[at],
            class: columns.class[at],
            state: columns.state[at],
            name: seat.name(),
            lead: self.clusters.lead(seat.cluster) == Some(handle),
            link: self.link(handle),
            latency: columns.latency[at],
            processing: columns.processing[at],
            queue: columns.queue[at],
            heartbeat: columns.heartbeat[at],
            score: columns.score[at],
            average: columns.average[at],
            reliability: self.reliability(now, handle),
            drift: columns.drift[at],
            unstable: self.unstable(handle),
            context: columns.context[at],
            capabilities: held.filter_map(|id| self.names.text(*id)).map(String::from).collect(),
        })
    }

    /// Impedance class.
    #[must_use]
    #[inline]
    pub fn class(&self, handle: u32) -> AgentClass {
        self.columns.class[handle as usize]
    }

    /// Operational state.
    #[must_use]
    #[inline]
    pub fn state(&self, handle: u32) -> AgentState {
        self.columns.state[handle as usize]
    }

    /// 128-bit id.
    #[must_use]
    #[inline]
    pub fn id(&self, handle: u32) -> &[u8; 16] {
        &self.columns.id[handle as usize]
    }

    /// Present generation.
    #[must_use]
    #[inline]
    pub fn generation(&self, handle: u32) -> u32 {
        self.columns.generation[handle as usize]
    }

    /// Its connection, if it has one.
    #[must_use]
    #[inline]
    pub fn link(&self, handle: u32) -> Option<Link> {
        let link = self.columns.link[handle as usize];
        (link != NO_LINK).then_some(link)
    }

    /// Its place.
    #[must_use]
    #[inline]
    pub fn seat(&self, handle: u32) -> Seat {
        self.columns.seat(handle as usize)
    }

    /// Round trip, rolling average.
    #[must_use]
    #[inline]
    pub fn latency(&self, handle: u32) -> Time {
        self.columns.latency[handle as usize]
    }

    /// Processing time, rolling average.
    #[must_use]
    #[inline]
    pub fn processing(&self, handle: u32) -> Time {
        self.columns.processing[handle as usize]
    }

    /// Pending operations.
    #[must_use]
    #[inline]
    pub fn queue(&self, handle: u32) -> u32 {
        self.columns.queue[handle as usize]
    }

    /// Impedance score, 0 to 1000 ms (IMPED-07).
    #[must_use]
    #[inline]
    pub fn score(&self, handle: u32) -> f32 {
        self.columns.score[handle as usize]
    }

    /// Coefficient of variation of its latency (IMPED-09).
    #[must_use]
    #[inline]
    pub fn drift(&self, handle: u32) -> f32 {
        self.columns.drift[handle as usize]
    }

    /// Hash of its context (IMPED-11).
    #[must_use]
    #[inline]
    pub fn context(&self, handle: u32) -> u64 {
        self.columns.context[handle as usize]
    }

    /// Last heartbeat, or registration (IMPED-06).
    #[must_use]
    #[inline]
    pub fn last_heartbeat(&self, handle: u32) -> Time {
        self.columns.heartbeat[handle as usize]
    }

    /// True where the last heartbeat is under 10 s old (SCHED-07).
    #[must_use]
    #[inline]
    pub fn fresh(&self, now: Time, handle: u32) -> bool {
        now.saturating_sub(self.last_heartbeat(handle)) < FRESH_FOR
    }

    /// Success rate of the last hour, 0 to 1 (IMPED-08): what was seen here, or what the agent
    /// says while nothing was.
    #[must_use]
    #[inline]
    pub fn reliability(&self, now: Time, handle: u32) -> f32 {
        let seen = self.columns.outcomes[handle as usize].rate(now);
        seen.unwrap_or(self.columns.reported[handle as usize])
    }

    /// True above a drift of 0.5 (CLUST-02).
    #[must_use]
    #[inline]
    pub fn unstable(&self, handle: u32) -> bool {
        self.drift(handle) > UNSTABLE_DRIFT
    }

    /// True where the score is over twice its historical average (FAIL-03).
    #[must_use]
    #[inline]
    pub fn spiked(&self, handle: u32) -> bool {
        self.score(handle) > SPIKE * self.columns.average[handle as usize]
    }
}
