//! How agents stand, for the status bar (BAR-01).

use super::Registry;
use crate::{
    Time,
    limits::{TRUSTED_OUTCOMES, TRUSTED_RATE},
};
use wire::mesh::{AgentState, Standing};

impl Registry {
    /// How one agent stands. Ready: active, and nothing waits with it. Trusted: the same, and at
    /// least 0.99 of 20 or more messages of the last hour were answered. Busy: something waits with
    /// it, or it is degraded by load. Unknown: its last heartbeat is 10 s old or more, its delays
    /// drift (over 0.5), or it is quarantined. Offline: as it says.
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
