//! Leads of clusters and who stands in for a sector (HIER-04, HIER-08, HIER-09).

use wire::mesh::AgentState;

use super::Registry;
use crate::Time;
use crate::cluster::NONE;

impl Registry {
    /// Sees to it that a cluster is led by an active agent, where it has one. A lead that is active
    /// stays (HIER-09 promotes when it is needed, not with every heartbeat).
    pub(super) fn mend_lead(&mut self, now: Time, cluster: u32) {
        let lead = self.clusters.lead(cluster);
        if lead.is_some_and(|lead| self.state(lead) == AgentState::Active) {
            return;
        }
        let mut best = NONE;
        for handle in self.clusters.members(cluster) {
            let better = best == NONE || self.rank(now, handle) < self.rank(now, best);
            if self.state(handle) == AgentState::Active && better {
                best = handle;
            }
        }
        let seat = (best != NONE).then(|| self.columns.seat(best as usize));
        self.clusters.set_lead(cluster, seat);
    }

    /// Most reliable first, in steps of a hundredth so that speed has a say; then fastest.
    fn rank(&self, now: Time, handle: u32) -> (u32, u32, u32) {
        let unreliable = ((1.0 - self.reliability(now, handle)) * 100.0).round() as u32;
        (unreliable, self.score(handle).to_bits(), handle)
    }
}
