//! What time alone does: silence makes agents offline, long changes of speed move them.

use wire::mesh::AgentState;

use super::beat::SETTLED;
use super::{NO_LINK, Registry};
use crate::Time;
use crate::cluster::key_of;
use crate::limits::{MOVE_AFTER, MOVES_PER_SWEEP, SILENT_AFTER};

/// What a sweep did; the vectors are used again.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Agents that became offline by silence.
    pub silent: Vec<u32>,
    /// Agents that sit in another cluster now (HIER-10): their names changed.
    pub moved: Vec<u32>,
}

impl Registry {
    /// Passes over all agents: those silent for 30 s are offline from now on (their connection may
    /// still be open), those whose score has been in another band for a minute move to a cluster
    /// of their kind where there is room, a bounded number of them per sweep.
    pub fn sweep(&mut self, now: Time, swept: &mut Swept) {
        swept.silent.clear();
        swept.moved.clear();
        for handle in 0..self.fresh {
            let at = handle as usize;
            if !self.columns.known[at] || self.columns.link[at] == NO_LINK {
                continue;
            }
            let serves =
                matches!(self.columns.state[at], AgentState::Active | AgentState::Degraded);
            if serves && now.saturating_sub(self.columns.heartbeat[at]) >= SILENT_AFTER {
                self.set_state(now, handle, AgentState::Offline);
                swept.silent.push(handle);
            }
            let strayed = self.columns.strayed[at];
            let due = strayed != SETTLED && now.saturating_sub(strayed) >= MOVE_AFTER;
            if due && (swept.moved.len() as u32) < MOVES_PER_SWEEP && self.resettle(now, handle) {
                swept.moved.push(handle);
            }
        }
    }

    /// Moves an agent among its kind. Where there is no room the next try is a minute away.
    fn resettle(&mut self, now: Time, handle: u32) -> bool {
        let at = handle as usize;
        let from = self.columns.seat(at);
        let key = key_of(self.columns.class[at], self.columns.band[at]);
        let Some(seat) = self.clusters.transfer(handle, from, key) else {
            self.columns.strayed[at] = now;
            return false;
        };
        self.columns.set_seat(at, seat);
        self.columns.strayed[at] = SETTLED;
        self.mend_lead(now, from.cluster);
        self.mend_lead(now, seat.cluster);
        true
    }
}
