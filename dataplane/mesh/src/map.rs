//! The global map (GMAP-01..04) and who is best for something.

use std::collections::BinaryHeap;

use wire::mesh::AgentState;

use crate::Time;
use crate::limits::{HEALTHY_RATE, MAP_EVERY, OVER_FETCH};
use crate::registry::Registry;
use crate::sketch::Sketch;
use crate::summary::{Sector, SectorSummary, Summaries, p95_ms};

/// The fleet as a whole (GMAP-03). Scores are milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GlobalStats {
    /// When this was computed.
    pub updated: Time,
    /// Sectors with agents.
    pub sectors: u32,
    /// Clusters with agents.
    pub clusters: u32,
    /// Agents known.
    pub agents: u32,
    /// Those that are active.
    pub active: u32,
    /// Those that are degraded.
    pub degraded: u32,
    /// Those whose latency varies too much.
    pub unstable: u32,
    /// Active of all, 0 to 1.
    pub active_rate: Option<f32>,
    /// Mean score over the agents that serve.
    pub mean: Option<f32>,
    /// Score that 95% of them are at or below, within 1%.
    pub p95: Option<f32>,
    /// Sectors with more than 95% of their agents active.
    pub sectors_healthy: u32,
    /// All others.
    pub sectors_degraded: u32,
}

/// One line of the map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapSector {
    /// The child node that has this sector; none: this node.
    pub child: Option<u32>,
    /// Its summary at the time of the map.
    pub summary: SectorSummary,
}

/// True where more than 95% of a sector's agents are active (GMAP-03).
#[must_use]
pub fn is_healthy(sector: &SectorSummary) -> bool {
    sector.active as f32 > HEALTHY_RATE * sector.agents as f32
}

/// The map: computed from summaries, at most every 10 s (GMAP-01, Y-11).
#[derive(Clone, Debug, Default)]
pub struct GlobalMap {
    stats: GlobalStats,
    sectors: Vec<MapSector>,
    made: bool,
}

impl GlobalMap {
    /// The map of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The fleet as a whole, as of the last update.
    #[must_use]
    pub const fn stats(&self) -> &GlobalStats {
        &self.stats
    }

    /// Sectors: this node's, then its children's.
    #[must_use]
    pub fn sectors(&self) -> &[MapSector] {
        &self.sectors
    }

    /// When [`Self::update`] has something to do.
    #[must_use]
    pub const fn due(&self) -> Time {
        if self.made { self.stats.updated.saturating_add(MAP_EVERY) } else { 0 }
    }

    /// Computes the map anew where the last one is 10 s old. True where it did.
    pub fn update(&mut self, now: Time, summaries: &Summaries) -> bool {
        if now < self.due() {
            return false;
        }
        self.made = true;
        self.sectors.clear();
        self.stats = GlobalStats { updated: now, ..GlobalStats::default() };
        let mut scores = Sketch::new();
        let (mut sum, mut weight) = (0.0, 0_u64);
        let own = summaries.sectors().iter().map(|sector| (None, sector));
        let remote = summaries.remote().map(|(child, sector)| (Some(child), sector));
        for (child, Sector { summary, scores: its }) in own.chain(remote) {
            self.sectors.push(MapSector { child, summary: *summary });
            self.add(summary);
            sum += f64::from(summary.mean.unwrap_or(0.0)) * f64::from(summary.weight);
            weight += u64::from(summary.weight);
            scores.merge(its);
        }
        let stats = &mut self.stats;
        stats.mean = (weight > 0).then(|| (sum / weight as f64) as f32);
        stats.p95 = p95_ms(&scores);
        let rate = stats.active as f32 / stats.agents as f32;
        stats.active_rate = (stats.agents > 0).then_some(rate);
        true
    }

    /// Adds up what children say too, so sums end at the largest number instead of wrapping.
    fn add(&mut self, sector: &SectorSummary) {
        let stats = &mut self.stats;
        let add = |sum: &mut u32, more: u32| *sum = sum.saturating_add(more);
        add(&mut stats.clusters, sector.clusters);
        add(&mut stats.agents, sector.agents);
        add(&mut stats.active, sector.active);
        add(&mut stats.degraded, sector.degraded);
        add(&mut stats.unstable, sector.unstable);
        if sector.agents > 0 {
            stats.sectors += 1;
            let healthy = u32::from(is_healthy(sector));
            stats.sectors_healthy += healthy;
            stats.sectors_degraded += 1 - healthy;
        }
    }
}

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
