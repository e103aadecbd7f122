//! MESH_VIEW, taken out of its frame.

use super::{report, unknown};
use crate::{Buffer, ClientError};
use wire::{
    HEADER_LEN, frame,
    mesh::{AgentClass, AgentState, Decision, Mode, Strategy, Verb},
    payload::{
        self,
        mesh::{
            ArchivedAgentRow, ArchivedClusterRow, ArchivedGatherRow, ArchivedGlobalRow,
            ArchivedMeshView, ArchivedSectorRow, Counts, MeshView,
        },
    },
};

/// One agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// `S07-C04-A12`.
    pub name: String,
    /// Its id.
    pub agent_id: [u8; 16],
    /// What it is.
    pub class: AgentClass,
    /// How it is.
    pub state: AgentState,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// 0 to 1000 milliseconds.
    pub impedance: f32,
    /// One-way delay, milliseconds.
    pub latency_ms: f32,
    /// Processing time, milliseconds.
    pub processing_ms: f32,
    /// Operations that wait.
    pub queue_depth: u32,
    /// Share of successes.
    pub reliability: f32,
    /// Coefficient of variation of the one-way delay.
    pub drift: f32,
    /// Hash of its context.
    pub context_hash: u64,
    /// Nanoseconds since its last sign of life.
    pub silent_ns: u64,
}

/// Agents, as a query chose and sorted them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The agents.
    pub agents: Vec<Agent>,
    /// The whole mesh that they are of.
    pub global: Global,
}

/// The whole mesh of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    /// The sums.
    pub global: Global,
    /// Every sector.
    pub sectors: Vec<Sector>,
    /// Every cluster.
    pub clusters: Vec<Cluster>,
}

/// The last gathers of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathers {
    /// The sums of the mesh that they are of.
    pub global: Global,
    /// Those that ended, newest first.
    pub rows: Vec<Ended>,
}

/// A gather that ended. Histograms are bins of durations, numbered as W97 of the format has it,
/// with their counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Target moment minus READY, of those in time.
    pub earliness: Vec<(u16, u64)>,
    /// READY minus target moment, of those READY too late.
    pub lateness: Vec<(u16, u64)>,
    /// Why this decision.
    pub reason: String,
    /// Of the message.
    pub message_id: [u8; 16],
    /// When it ended, nanoseconds since the Unix epoch.
    pub ended_ns: u64,
    /// Time since the GATHER came.
    pub total_ns: u64,
    /// The counts.
    pub counts: Counts,
    /// Scheduled over targets.
    pub coverage: f32,
    /// READY in time over sent.
    pub on_time: f32,
    /// What was decided.
    pub decision: Decision,
    /// How it went through the mesh.
    pub strategy: Strategy,
    /// What was asked of the agents.
    pub verb: Verb,
}

/// The sums of a mesh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Global {
    /// When they were made, nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// When the last gather ended, likewise; 0 for never.
    pub last_gather_ns: u64,
    /// Sectors.
    pub sectors: u32,
    /// Clusters.
    pub clusters: u32,
    /// Agents.
    pub count: u32,
    /// Active ones.
    pub active: u32,
    /// Sectors with more than 0.95 of their agents active.
    pub sectors_healthy: u32,
    /// The other sectors.
    pub sectors_degraded: u32,
    /// Mean score, milliseconds.
    pub mean: f32,
    /// 95th percentile of the score.
    pub p95: f32,
    /// CONFLICT answers of the last hour.
    pub conflicts: u32,
    /// How the mesh is run now.
    pub mode: Mode,
}

/// One sector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sector {
    /// Number.
    pub sector: u16,
    /// The node that coordinates it; empty for the one that was asked.
    pub node: String,
    /// Clusters.
    pub clusters: u32,
    /// Agents.
    pub count: u32,
    /// Active ones.
    pub active: u32,
    /// Mean score, milliseconds.
    pub mean: f32,
    /// 95th percentile of the score.
    pub p95: f32,
    /// Cluster with the lowest mean.
    pub healthiest: u16,
    /// Cluster with the highest mean.
    pub sickest: u16,
}

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Sector.
    pub sector: u16,
    /// Number within the sector.
    pub cluster: u16,
    /// Name of its lead.
    pub lead: String,
    /// Name of the agent with the highest score.
    pub slowest: String,
    /// Name of the agent with the lowest score.
    pub fastest: String,
    /// Agents.
    pub count: u32,
    /// Active ones.
    pub active: u32,
    /// Degraded ones.
    pub degraded: u32,
    /// Unstable ones.
    pub unstable: u32,
    /// Mean score, milliseconds.
    pub mean: f32,
    /// 95th percentile of the score.
    pub p95: f32,
    /// Nanoseconds since the summary was made.
    pub age_ns: u64,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            timestamp_ns: 0,
            last_gather_ns: 0,
            sectors: 0,
            clusters: 0,
            count: 0,
            active: 0,
            sectors_healthy: 0,
            sectors_degraded: 0,
            mean: 0.0,
            p95: 0.0,
            conflicts: 0,
            mode: Mode::Normal,
        }
    }
}

impl Agent {
    pub(super) fn read(row: &ArchivedAgentRow) -> Result<Self, ClientError> {
        Ok(Self {
            name: row.name.to_string(),
            agent_id: row.agent_id,
            class: AgentClass::from_code(row.class).ok_or_else(|| unknown("class", row.class))?,
            state: AgentState::from_code(row.state).ok_or_else(|| unknown("state", row.state))?,
            capabilities: row.capabilities.iter().map(|name| name.to_string()).collect(),
            impedance: row.impedance.to_native(),
            latency_ms: row.latency_ms.to_native(),
            processing_ms: row.processing_ms.to_native(),
            queue_depth: row.queue_depth.to_native(),
            reliability: row.reliability.to_native(),
            drift: row.drift.to_native(),
            context_hash: row.context_hash.to_native(),
            silent_ns: row.silent_ns.to_native(),
        })
    }
}

impl Listing {
    pub(crate) fn read(view: &ArchivedMeshView) -> Result<Self, ClientError> {
        let agents = view.agents.iter().map(Agent::read).collect::<Result<_, _>>()?;
        Ok(Self { agents, global: global(&view.global)? })
    }
}

impl Map {
    pub(crate) fn read(view: &ArchivedMeshView) -> Result<Self, ClientError> {
        Ok(Self {
            global: global(&view.global)?,
            sectors: view.sectors.iter().map(sector).collect(),
            clusters: view.clusters.iter().map(cluster).collect(),
        })
    }
}

impl Gathers {
    pub(crate) fn read(view: &ArchivedMeshView) -> Result<Self, ClientError> {
        let rows = view.gathers.iter().map(Ended::read).collect::<Result<_, _>>()?;
        Ok(Self { global: global(&view.global)?, rows })
    }
}

/// As a node gives it to itself: read as others read it, so that there is one reading.
impl TryFrom<&MeshView> for Map {
    type Error = ClientError;

    fn try_from(view: &MeshView) -> Result<Self, ClientError> {
        as_received(view, Self::read)
    }
}

/// Likewise.
impl TryFrom<&MeshView> for Gathers {
    type Error = ClientError;

    fn try_from(view: &MeshView) -> Result<Self, ClientError> {
        as_received(view, Self::read)
    }
}

fn as_received<T>(
    view: &MeshView,
    read: fn(&ArchivedMeshView) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let mut bytes = Vec::new();
    frame::append(&mut bytes, view, 0, 0)
        .map_err(|_| ClientError::Request(wire::ErrorCode::PayloadTooLong))?;
    let payload = Buffer::copy_of(&bytes[HEADER_LEN..]);
    read(
        payload::open::<MeshView>(payload.as_slice())
            .map_err(|fault| ClientError::protocol(fault.to_string()))?,
    )
}

impl Ended {
    fn read(row: &ArchivedGatherRow) -> Result<Self, ClientError> {
        let (decision, strategy, verb) = (row.decision, row.strategy, row.verb);
        Ok(Self {
            earliness: report::bins(&row.earliness),
            lateness: report::bins(&row.lateness),
            reason: row.reason.to_string(),
            message_id: row.message_id,
            ended_ns: row.ended_ns.to_native(),
            total_ns: row.total_ns.to_native(),
            counts: report::counts(&row.counts),
            coverage: row.coverage.to_native(),
            on_time: row.on_time.to_native(),
            decision: Decision::from_code(decision).ok_or_else(|| unknown("decision", decision))?,
            strategy: Strategy::from_code(strategy).ok_or_else(|| unknown("strategy", strategy))?,
            verb: Verb::from_code(verb).ok_or_else(|| unknown("verb", verb))?,
        })
    }
}

fn global(row: &ArchivedGlobalRow) -> Result<Global, ClientError> {
    Ok(Global {
        timestamp_ns: row.timestamp_ns.to_native(),
        last_gather_ns: row.last_gather_ns.to_native(),
        sectors: row.sectors.to_native(),
        clusters: row.clusters.to_native(),
        count: row.count.to_native(),
        active: row.active.to_native(),
        sectors_healthy: row.sectors_healthy.to_native(),
        sectors_degraded: row.sectors_degraded.to_native(),
        mean: row.mean.to_native(),
        p95: row.p95.to_native(),
        conflicts: row.conflicts.to_native(),
        mode: Mode::from_code(row.mode).ok_or_else(|| unknown("mode", row.mode))?,
    })
}

fn sector(row: &ArchivedSectorRow) -> Sector {
    Sector {
        sector: row.sector.to_native(),
        node: row.node.to_string(),
        clusters: row.clusters.to_native(),
        count: row.count.to_native(),
        active: row.active.to_native(),
        mean: row.mean.to_native(),
        p95: row.p95.to_native(),
        healthiest: row.healthiest.to_native(),
        sickest: row.sickest.to_native(),
    }
}

fn cluster(row: &ArchivedClusterRow) -> Cluster {
    Cluster {
        sector: row.sector.to_native(),
        cluster: row.cluster.to_native(),
        lead: row.lead.to_string(),
        slowest: row.slowest.to_string(),
        fastest: row.fastest.to_string(),
        count: row.count.to_native(),
        active: row.active.to_native(),
        degraded: row.degraded.to_native(),
        unstable: row.unstable.to_native(),
        mean: row.mean.to_native(),
        p95: row.p95.to_native(),
        age_ns: row.age_ns.to_native(),
    }
}
