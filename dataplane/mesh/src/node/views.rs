//! MESH_QUERY: agents, the map and the last gathers, for people.

use super::{Effects, Mesh, Now, Peer};
use crate::{
    MS, Time,
    limits::{HEALTHY_RATE, SECTOR_CLUSTERS},
    sketch::Sketch,
};
use wire::{
    ErrorCode, Kind,
    mesh::{GATHERS_MAX, SortBy, View},
    payload::{
        Text,
        mesh::{
            AgentRow, ArchivedMeshQuery, ClusterRow, EVERY_SECTOR, GlobalRow, MeshView, SectorRow,
        },
    },
};

/// Agents in one answer, at most.
const VIEW_AGENTS: usize = 4_096;
/// Clusters (and sectors) in one answer, at most.
const VIEW_CLUSTERS: usize = 4_096;

fn ms(time: Time) -> f32 {
    (time as f64 / MS as f64) as f32
}

/// What somebody wants to see.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Which view.
    pub view: View,
    /// Order of agents.
    pub sort: SortBy,
    /// One sector, or [`EVERY_SECTOR`].
    pub sector: u16,
    /// Agents with this capability only, unless it is empty.
    pub capability: &'a str,
    /// Agents at most; 0 for as many as an answer holds.
    pub limit: usize,
}

impl Wanted<'_> {
    /// All of one view.
    #[must_use]
    pub const fn all(view: View) -> Self {
        Self { view, sort: SortBy::Name, sector: EVERY_SECTOR, capability: "", limit: 0 }
    }
}

impl Mesh {
    pub(super) fn query(
        &mut self,
        now: Now,
        from: Peer,
        message_id: u64,
        query: &ArchivedMeshQuery,
        out: &mut Effects,
    ) {
        let view = View::from_code(query.view);
        let (Some(view), Some(sort)) = (view, SortBy::from_code(query.sort)) else {
            self.counters.bad_orders += 1;
            let code = ErrorCode::BadRequest;
            self.refuse(now, from, Kind::MeshQuery, message_id, code, out);
            return;
        };
        self.counters.views += 1;
        let (sector, limit) = (query.sector.to_native(), query.limit.to_native() as usize);
        let wanted = Wanted { view, sort, sector, capability: &query.capability, limit };
        let answer = self.view(now, &wanted);
        self.send(now, from, message_id, &answer, out);
    }

    /// A view, for whoever holds the machine itself.
    #[must_use]
    pub fn view(&mut self, now: Now, wanted: &Wanted<'_>) -> MeshView {
        self.sum_up(now);
        let mut answer = MeshView::default();
        let Wanted { view, sort, sector, capability, limit } = *wanted;
        let clusters = self.all_clusters(now);
        match view {
            View::Agents => {
                let limit = if limit == 0 { VIEW_AGENTS } else { limit.min(VIEW_AGENTS) };
                answer.agents = self.agents(now, capability, sector, sort, limit);
            }
            View::Map => answer.sectors = self.sectors(&clusters),
            View::Gathers => {
                let limit = if limit == 0 { GATHERS_MAX } else { limit };
                answer.gathers = self.past.newest(limit);
            }
        }
        answer.global = self.global(now, &clusters);
        if view == View::Map {
            answer.sectors.retain(|row| sector == EVERY_SECTOR || row.sector == sector);
            answer.clusters = clusters;
            answer.clusters.retain(|row| sector == EVERY_SECTOR || row.sector == sector);
            answer.clusters.truncate(VIEW_CLUSTERS);
            answer.sectors.truncate(VIEW_CLUSTERS);
        }
        answer
    }

    fn agents(
        &self,
        now: Now,
        capability: &str,
        sector: u16,
        sort: SortBy,
        limit: usize,
    ) -> Vec<AgentRow> {
        let registry = &self.registry;
        let known = registry.capability(capability);
        let fits = |handle: &u32| {
            (sector == EVERY_SECTOR || registry.seat(*handle).sector() == sector)
                && (capability.is_empty()
                    || known.is_some_and(|known| registry.is_capable(*handle, known)))
        };
        let mut handles: Vec<u32> = registry.iter().filter(fits).collect();
        let worst_first = |value: fn(&Self, Now, u32) -> f32| {
            move |a: &u32, b: &u32| {
                value(self, now, *b).total_cmp(&value(self, now, *a)).then(a.cmp(b))
            }
        };
        match sort {
            SortBy::Name => handles.sort_unstable_by_key(|handle| {
                let seat = registry.seat(*handle);
                (seat.cluster, seat.position)
            }),
            SortBy::Impedance => {
                handles.sort_unstable_by(worst_first(|it, _, handle| it.registry.score(handle)))
            }
            SortBy::Reliability => handles.sort_unstable_by(worst_first(|it, now, handle| {
                -it.registry.reliability(now.node, handle)
            })),
            SortBy::Drift => {
                handles.sort_unstable_by(worst_first(|it, _, handle| it.registry.drift(handle)))
            }
        }
        handles.truncate(limit);
        handles.into_iter().filter_map(|handle| self.agent_row(now, handle)).collect()
    }

    fn agent_row(&self, now: Now, handle: u32) -> Option<AgentRow> {
        let row = self.registry.row(now.node, handle)?;
        Some(AgentRow {
            capabilities: row.capabilities.into_iter().map(Text::from).collect(),
            name: row.name.to_string().into(),
            agent_id: row.id,
            context_hash: row.context,
            silent_ns: now.node.saturating_sub(row.heartbeat),
            // The registry keeps round trips.
            latency_ms: ms(row.latency / 2),
            processing_ms: ms(row.processing),
            queue_depth: row.queue,
            impedance: row.score,
            reliability: row.reliability,
            drift: row.drift,
            class: row.class.code(),
            state: row.state.code(),
            ..AgentRow::default()
        })
    }

    /// Clusters of this node, from its summaries.
    pub(super) fn own_clusters(&self, now: Now) -> Vec<ClusterRow> {
        let name = |handle: Option<u32>| {
            handle.map_or(Text::literal(""), |handle| {
                self.registry.seat(handle).name().to_string().into()
            })
        };
        let row = |it: &crate::summary::ClusterSummary| ClusterRow {
            slowest: name(it.slowest),
            fastest: name(it.fastest),
            lead: name(it.lead),
            age_ns: now.node.saturating_sub(it.updated),
            count: it.agents,
            active: it.active,
            degraded: it.degraded,
            unstable: it.unstable,
            mean: it.mean.unwrap_or(0.0),
            p95: it.p95.unwrap_or(0.0),
            sector: it.sector,
            cluster: (it.cluster % SECTOR_CLUSTERS as u32) as u16,
            ..ClusterRow::default()
        };
        self.summaries.clusters().iter().map(row).collect()
    }

    /// Scores of this node's agents.
    pub(super) fn own_scores(&self) -> Sketch {
        let mut scores = Sketch::new();
        for sector in self.summaries.sectors() {
            scores.merge(&sector.scores);
        }
        scores
    }

    /// Clusters of this node and those below, sectors in this node's numbering.
    fn all_clusters(&self, now: Now) -> Vec<ClusterRow> {
        let mut rows = self.own_clusters(now);
        for (handle, child) in self.children.iter().filter(|(_, child)| child.peer.is_some()) {
            let age = child.summary_at.map_or(0, |at| now.node.saturating_sub(at));
            for row in &child.clusters {
                let Some(sector) = self.children.number(handle, row.sector) else { continue };
                let age_ns = row.age_ns.saturating_add(age);
                rows.push(ClusterRow { sector, age_ns, ..row.clone() });
            }
        }
        rows.sort_by_key(|row| (row.sector, row.cluster));
        rows
    }

    /// Sectors out of their clusters. The percentile of a node's own sector is exact to 1 %; of a
    /// sector below only its clusters' are known, and the largest is shown: not less than the true
    /// one.
    fn sectors(&self, clusters: &[ClusterRow]) -> Vec<SectorRow> {
        let mut rows: Vec<SectorRow> = Vec::new();
        for group in clusters.chunk_by(|a, b| a.sector == b.sector) {
            let sector = group[0].sector;
            let by_mean = |a: &&ClusterRow, b: &&ClusterRow| a.mean.total_cmp(&b.mean);
            let serving = || group.iter().filter(|row| row.mean > 0.0);
            let weight: f64 = serving().map(|row| f64::from(row.count)).sum();
            let sum: f64 = serving().map(|row| f64::from(row.mean) * f64::from(row.count)).sum();
            let mean = if weight > 0.0 { (sum / weight) as f32 } else { 0.0 };
            let own = self.summaries.sectors().iter().find(|it| it.summary.sector == sector);
            let owner = self.children.owner(sector);
            let child = owner.and_then(|(child, _)| self.children.get(child));
            let most = group.iter().map(|row| row.p95).fold(0.0, f32::max);
            rows.push(SectorRow {
                node: child.map_or(Text::literal(""), |child| child.name.as_str().into()),
                clusters: group.len() as u32,
                count: group.iter().fold(0, |sum, row| row.count.saturating_add(sum)),
                active: group.iter().fold(0, |sum, row| row.active.saturating_add(sum)),
                mean: own.and_then(|own| own.summary.mean).unwrap_or(mean),
                p95: own.and_then(|own| own.summary.p95).unwrap_or(most),
                sector,
                healthiest: serving().min_by(by_mean).map_or(0, |row| row.cluster),
                sickest: serving().max_by(by_mean).map_or(0, |row| row.cluster),
                ..SectorRow::default()
            });
        }
        rows
    }

    /// Agents behind a sector's mean. A summary from below does not say how many of its agents are
    /// machines that serve: all of them count.
    fn weight(&self, row: &SectorRow) -> f64 {
        let own = self.summaries.sectors().iter().find(|it| it.summary.sector == row.sector);
        let below = if row.mean > 0.0 { row.count } else { 0 };
        own.map_or(below, |own| own.summary.weight).into()
    }

    fn global(&self, now: Now, clusters: &[ClusterRow]) -> GlobalRow {
        let sectors = self.sectors(clusters);
        let mut scores = self.own_scores();
        for (_, child) in self.children.iter().filter(|(_, child)| child.peer.is_some()) {
            scores.merge(&child.scores);
        }
        let healthy = |row: &&SectorRow| row.active as f32 > HEALTHY_RATE * row.count as f32;
        let sectors_healthy = sectors.iter().filter(healthy).count() as u32;
        let weight: f64 = sectors.iter().map(|row| self.weight(row)).sum();
        let sum: f64 = sectors.iter().map(|row| f64::from(row.mean) * self.weight(row)).sum();
        GlobalRow {
            timestamp_ns: now.epoch_ns,
            last_gather_ns: self.past.last(),
            sectors: sectors.len() as u32,
            clusters: clusters.len() as u32,
            count: sectors.iter().fold(0, |sum, row| row.count.saturating_add(sum)),
            active: sectors.iter().fold(0, |sum, row| row.active.saturating_add(sum)),
            sectors_healthy,
            sectors_degraded: sectors.len() as u32 - sectors_healthy,
            mean: if weight > 0.0 { (sum / weight) as f32 } else { 0.0 },
            p95: scores.quantile(0.95).map_or(0.0, ms),
            conflicts: u32::try_from(self.kpi.conflicts(now.node)).unwrap_or(u32::MAX),
            mode: self.mode().code(),
            ..GlobalRow::default()
        }
    }
}
