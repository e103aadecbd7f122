//! How agents stand, for the status bar (BAR-01).

use super::Registry;
use crate::{
    Time,
    limits::{TRUSTED_OUTCOMES, TRUSTED_RATE},
};
use wire::mesh::AgentState;

/// How an agent stands: in exactly one of these ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Active and idle: nothing waits with it.
    Ready,
    /// The same, and at least 0.99 of 20 or more messages of the last hour were answered.
    Trusted,
    /// At work: something waits with it, or it is degraded by load.
    Busy,
    /// Nothing certain is known of it: its last heartbeat is 10 s old or more, its delays drift
    /// (over 0.5), or it is quarantined.
    Unknown,
    /// Offline.
    Offline,
}

impl Standing {
    /// Every standing, in the order of the bar.
    pub const ALL: [Self; 5] =
        [Self::Ready, Self::Trusted, Self::Busy, Self::Unknown, Self::Offline];

    /// Label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Trusted => "trusted",
            Self::Busy => "busy",
            Self::Unknown => "unknown",
            Self::Offline => "offline",
        }
    }
}

impl Registry {
    /// How one agent stands.
    #[must_use]
    pub fn standing(&self, now: Time, handle: u32) -> Standing {
        match self.state(handle) {
            AgentState::Offline => Standing::Offline,
            AgentState::Quarantined => Standing::Unknown,
            _ if !self.fresh(now, handle) || self.unstable(handle) => Standing::Unknown,
            AgentState::Degraded => Standing::Busy,
            AgentState::Active if self.queue(handle) > 0 => Standing::Busy,
            AgentState::Active if self.is_proven(now, handle) => Standing::Trusted,
            AgentState::Active => Standing::Ready,
        }
    }

    /// Only what was seen here counts, not what the agent says of itself.
    fn is_proven(&self, now: Time, handle: u32) -> bool {
        let (good, all) = self.columns.outcomes[handle as usize].totals(now);
        all >= TRUSTED_OUTCOMES && good as f32 >= TRUSTED_RATE * all as f32
    }

    /// How many stand how, in the order of [`Standing::ALL`]: their sum is the registry's length.
    #[must_use]
    pub fn standings(&self, now: Time) -> [u32; Standing::ALL.len()] {
        let mut counts = [0; Standing::ALL.len()];
        for handle in self.iter() {
            counts[self.standing(now, handle) as usize] += 1;
        }
        counts
    }
}
