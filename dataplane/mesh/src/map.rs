//! Who is best for something (CLUST-04, GMAP-04).

use std::collections::BinaryHeap;

use wire::mesh::AgentState;

use crate::limits::OVER_FETCH;
use crate::registry::Registry;

/// Nobody in this cluster is active and has what is asked for (CLUST-04).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCapableAgent {
    /// The cluster that was asked.
    pub cluster: u32,
}

impl Registry {
    /// The best agents for a capability (GMAP-04): active ones with a score of at most
    /// `max_score` (by default [`crate::limits::BEST_SCORE`]), lowest score first, ties by handle.
    /// Writes up to twice `count` to `best`, the second half as spares, and returns how many of
    /// them are the answer: `count`, or fewer where there are fewer.
    pub fn find_best(
        &self,
        capability: &str,
        count: usize,
        max_score: f32,
        best: &mut Vec<u32>,
    ) -> usize {
        best.clear();
        let Some(capability) = self.capability(capability) else { return 0 };
        let wanted = count.min(self.capacity() as usize).saturating_mul(OVER_FETCH);
        let mut heap = BinaryHeap::with_capacity(wanted.min(self.len() as usize) + 1);
        for handle in self.iter() {
            let score = self.score(handle);
            let fits = self.state(handle) == AgentState::Active
                && score <= max_score
                && self.is_capable(handle, capability);
            if fits && wanted > 0 {
                // Scores are 0 to 1000: as numbers and as bits they have one order.
                let rank = (score.to_bits(), handle);
                if heap.len() < wanted {
                    heap.push(rank);
                } else if heap.peek().is_some_and(|worst| rank < *worst) {
                    heap.pop();
                    heap.push(rank);
                }
            }
        }
        best.extend(heap.into_sorted_vec().iter().map(|(_, handle)| *handle));
        best.len().min(count)
    }

    /// The active agent of a cluster that has the capability and the lowest score (CLUST-04), ties
    /// by handle.
    ///
    /// # Errors
    /// [`NoCapableAgent`] where there is none, or no such cluster.
    pub fn route_within_cluster(
        &self,
        cluster: u32,
        capability: &str,
    ) -> Result<u32, NoCapableAgent> {
        let capability = self.capability(capability).ok_or(NoCapableAgent { cluster })?;
        let members = self.clusters().members(cluster);
        let active = members.filter(|handle| self.state(*handle) == AgentState::Active);
        active
            .filter(|handle| self.is_capable(*handle, capability))
            .min_by_key(|handle| (self.score(*handle).to_bits(), *handle))
            .ok_or(NoCapableAgent { cluster })
    }
}
