//! Summaries of clusters and sectors (CLUST-01..03, GMAP-02, X-17): what goes up instead of every
//! agent's record.
//!
//! Means and percentiles are over the agents that serve (active or degraded) and are machines:
//! class F takes seconds to hours and would drown the rest (Y-17). Where there is none, they are
//! none. A sector's percentile comes from a histogram that merges, never from percentiles.

use wire::mesh::{AgentClass, AgentState};

use crate::cluster::sector_of;
use crate::limits::{CLUSTER_AGENTS, DEGRADED_SCORE, SUMMARY_EVERY, UNSTABLE_DRIFT};
use crate::registry::Registry;
use crate::sketch::Sketch;
use crate::{MS, Time};

/// One cluster (CLUST-03). Scores are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClusterSummary {
    /// Number in the fleet: sector x 10 + cluster of the sector.
    pub cluster: u32,
    /// Its sector.
    pub sector: u16,
    /// Agents that have a seat in it.
    pub agents: u32,
    /// Those that are active.
    pub active: u32,
    /// Those that serve with a score over 800, or call themselves degraded.
    pub degraded: u32,
    /// Those that serve with a drift over 0.5.
    pub unstable: u32,
    /// Agents behind `mean` and `p95`.
    pub weight: u32,
    /// Mean score.
    pub mean: Option<f32>,
    /// Score that 95% are at or below: exact, by nearest rank.
    pub p95: Option<f32>,
    /// Handle of the agent with the highest score.
    pub slowest: Option<u32>,
    /// Handle of the agent with the lowest score.
    pub fastest: Option<u32>,
    /// Handle of its lead.
    pub lead: Option<u32>,
    /// When this was made.
    pub updated: Time,
}

/// One sector (GMAP-02). Scores are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SectorSummary {
    /// Its number.
    pub sector: u16,
    /// Clusters with agents.
    pub clusters: u32,
    /// Agents that have a seat in it.
    pub agents: u32,
    /// Those that are active.
    pub active: u32,
    /// As a cluster's.
    pub degraded: u32,
    /// As a cluster's.
    pub unstable: u32,
    /// Agents behind `mean` and `p95`.
    pub weight: u32,
    /// Mean score over agents, not over clusters.
    pub mean: Option<f32>,
    /// Score that 95% are at or below, within 1%.
    pub p95: Option<f32>,
    /// Cluster with the lowest mean.
    pub healthiest: Option<u32>,
    /// Cluster with the highest mean.
    pub sickest: Option<u32>,
    /// When this was made.
    pub updated: Time,
}

/// A sector with the histogram of its scores, so that it can be merged with others.
#[derive(Clone, Debug)]
pub struct Sector {
    /// What people read.
    pub summary: SectorSummary,
    /// Scores, as nanoseconds.
    pub scores: Sketch,
}

impl Sector {
    fn new(sector: u16, now: Time) -> Self {
        let summary = SectorSummary {
            sector,
            clusters: 0,
            agents: 0,
            active: 0,
            degraded: 0,
            unstable: 0,
            weight: 0,
            mean: None,
            p95: None,
            healthiest: None,
            sickest: None,
            updated: now,
        };
        Self { summary, scores: Sketch::new() }
    }
}

/// Summaries of a node's own agents.
#[derive(Debug, Default)]
pub struct Summaries {
    clusters: Vec<ClusterSummary>,
    sectors: Vec<Sector>,
    refreshed: Option<Time>,
}

impl Summaries {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Clusters that have agents, ascending.
    #[must_use]
    pub fn clusters(&self) -> &[ClusterSummary] {
        &self.clusters
    }

    /// Sectors that have agents here, ascending.
    #[must_use]
    pub fn sectors(&self) -> &[Sector] {
        &self.sectors
    }

    /// When [`Self::refresh`] has something to do.
    #[must_use]
    pub fn due(&self) -> Time {
        self.refreshed.map_or(0, |at| at.saturating_add(SUMMARY_EVERY))
    }

    /// Makes the summaries of the node's own agents anew, at most every 5 s (Y-11). True where it
    /// did.
    pub fn refresh(&mut self, now: Time, registry: &Registry) -> bool {
        if now < self.due() {
            return false;
        }
        self.refreshed = Some(now);
        self.clusters.clear();
        self.sectors.clear();
        for cluster in 0..registry.clusters().count() {
            if registry.clusters().taken(cluster) == 0 {
                continue;
            }
            let number = sector_of(cluster);
            if self.sectors.last().is_none_or(|last| last.summary.sector != number) {
                self.sectors.push(Sector::new(number, now));
            }
            if let Some(sector) = self.sectors.last_mut() {
                let summary = summarize(now, registry, cluster, &mut sector.scores);
                self.clusters.push(summary);
            }
        }
        let mut rest = &self.clusters[..];
        for sector in &mut self.sectors {
            let own = rest.partition_point(|it| it.sector == sector.summary.sector);
            add_up(&mut sector.summary, &rest[..own], &sector.scores);
            rest = &rest[own..];
        }
        true
    }

    /// One row per sector for a store of trends (IMPED-13), added to `out`.
    pub fn history(&self, out: &mut Vec<HistoryPoint>) {
        out.extend(self.sectors.iter().map(|it| HistoryPoint::of(&it.summary)));
    }
}

/// One cluster's numbers; its scores are added to the sector's histogram.
fn summarize(now: Time, registry: &Registry, cluster: u32, scores: &mut Sketch) -> ClusterSummary {
    let (mut all, mut weight) = ([0.0_f32; CLUSTER_AGENTS], 0);
    let mut summary = ClusterSummary {
        cluster,
        sector: sector_of(cluster),
        agents: 0,
        active: 0,
        degraded: 0,
        unstable: 0,
        weight: 0,
        mean: None,
        p95: None,
        slowest: None,
        fastest: None,
        lead: registry.clusters().lead(cluster),
        updated: now,
    };
    for handle in registry.clusters().members(cluster) {
        let (state, score) = (registry.state(handle), registry.score(handle));
        let machine = registry.class(handle) != AgentClass::Human;
        summary.agents += 1;
        summary.active += u32::from(state == AgentState::Active);
        if !matches!(state, AgentState::Active | AgentState::Degraded) {
            continue;
        }
        let slow = machine && score > DEGRADED_SCORE;
        summary.degraded += u32::from(state == AgentState::Degraded || slow);
        summary.unstable += u32::from(registry.drift(handle) > UNSTABLE_DRIFT);
        if machine {
            all[weight] = score;
            weight += 1;
            scores.add((f64::from(score) * MS as f64) as Time);
            let slower = |other: u32| score > registry.score(other);
            if summary.slowest.is_none_or(slower) {
                summary.slowest = Some(handle);
            }
            if summary.fastest.is_none_or(|other| score < registry.score(other)) {
                summary.fastest = Some(handle);
            }
        }
    }
    summary.weight = weight as u32;
    let all = &mut all[..weight];
    all.sort_unstable_by(f32::total_cmp);
    if weight > 0 {
        summary.mean = Some(all.iter().sum::<f32>() / weight as f32);
        // Nearest rank: the smallest score with 95% at or below it.
        summary.p95 = Some(all[(weight * 95).div_ceil(100) - 1]);
    }
    summary
}

fn add_up(sector: &mut SectorSummary, clusters: &[ClusterSummary], scores: &Sketch) {
    let mut sum = 0.0;
    for it in clusters {
        sector.clusters += 1;
        sector.agents += it.agents;
        sector.active += it.active;
        sector.degraded += it.degraded;
        sector.unstable += it.unstable;
        sector.weight += it.weight;
        sum += f64::from(it.mean.unwrap_or(0.0)) * f64::from(it.weight);
    }
    sector.mean = (sector.weight > 0).then(|| (sum / f64::from(sector.weight)) as f32);
    sector.p95 = p95_ms(scores);
    let means = || clusters.iter().filter_map(|it| Some((it.cluster, it.mean?)));
    let by_mean = |a: &(u32, f32), b: &(u32, f32)| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0));
    sector.healthiest = means().min_by(by_mean).map(|it| it.0);
    sector.sickest = means().max_by(by_mean).map(|it| it.0);
}

/// The 95th percentile of a histogram of scores, in milliseconds.
fn p95_ms(scores: &Sketch) -> Option<f32> {
    scores.quantile(0.95).map(|time| (time as f64 / MS as f64) as f32)
}

/// One row of a sector's history, 36 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryPoint {
    /// When, by the node's clock.
    pub at: Time,
    /// Sector.
    pub sector: u16,
    /// Agents, active, degraded, unstable.
    pub counts: [u32; 4],
    /// Mean score in ms.
    pub mean: Option<f32>,
    /// 95th percentile in ms.
    pub p95: Option<f32>,
}

impl HistoryPoint {
    /// Bytes of a row.
    pub const BYTES: usize = 36;

    fn of(it: &SectorSummary) -> Self {
        Self {
            at: it.updated,
            sector: it.sector,
            counts: [it.agents, it.active, it.degraded, it.unstable],
            mean: it.mean,
            p95: it.p95,
        }
    }

    /// Little-endian: time, sector, two zero bytes, counts, mean and percentile (NaN for none).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.at.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.sector.to_le_bytes());
        for (at, count) in self.counts.iter().enumerate() {
            bytes[12 + 4 * at..][..4].copy_from_slice(&count.to_le_bytes());
        }
        for (at, score) in [self.mean, self.p95].iter().enumerate() {
            let score = score.unwrap_or(f32::NAN).to_le_bytes();
            bytes[28 + 4 * at..][..4].copy_from_slice(&score);
        }
        bytes
    }

    /// The row of these bytes; none where the two bytes are not zero.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|it| bytes[at + it]));
        let score = |at: usize| Some(f32::from_bits(word(at))).filter(|it| !it.is_nan());
        (bytes[10..12] == [0, 0]).then(|| Self {
            at: u64::from(word(4)) << 32 | u64::from(word(0)),
            sector: word(8) as u16,
            counts: core::array::from_fn(|at| word(12 + 4 * at)),
            mean: score(28),
            p95: score(32),
        })
    }
}
