//! MESH_QUERY and MESH_VIEW: what the registry, the map and the last gathers say.

use super::{Bin, Counts};
use crate::{
    Kind,
    payload::{Seal, Text, payload},
};
use rkyv::{Archive, Serialize};

/// `sector`: all of them.
pub const EVERY_SECTOR: u16 = u16::MAX;

/// Asks for agents, for the map or for the last gathers.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct MeshQuery {
    /// Only agents that can do this; empty for all.
    pub capability: Text,
    /// Most agents in the answer; 0 for the node's limit.
    pub limit: u32,
    /// Only this sector, or [`EVERY_SECTOR`].
    pub sector: u16,
    /// Code of [`crate::mesh::View`].
    pub view: u8,
    /// Code of [`crate::mesh::SortBy`].
    pub sort: u8,
    /// Zero.
    pub reserved: [u8; 8],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// The answer.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct MeshView {
    /// For view agents.
    pub agents: Vec<AgentRow>,
    /// For view map.
    pub sectors: Vec<SectorRow>,
    /// For view map.
    pub clusters: Vec<ClusterRow>,
    /// For view gathers, newest first.
    pub gathers: Vec<GatherRow>,
    /// The whole.
    pub global: GlobalRow,
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// One agent (IMPED-02..12).
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct AgentRow {
    /// What it can do.
    pub capabilities: Vec<Text>,
    /// `S07-C04-A12`.
    pub name: Text,
    /// Its id.
    pub agent_id: [u8; 16],
    /// Hash of its context.
    pub context_hash: u64,
    /// Nanoseconds since its last sign of life.
    pub silent_ns: u64,
    /// One-way delay, milliseconds.
    pub latency_ms: f32,
    /// Processing time, milliseconds.
    pub processing_ms: f32,
    /// Operations that wait.
    pub queue_depth: u32,
    /// 0 to 1000 milliseconds.
    pub impedance: f32,
    /// Share of successes.
    pub reliability: f32,
    /// Coefficient of variation.
    pub drift: f32,
    /// Code of [`crate::mesh::AgentClass`].
    pub class: u8,
    /// Code of [`crate::mesh::AgentState`].
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

/// One cluster (CLUST-03).
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct ClusterRow {
    /// Name of the agent with the highest score.
    pub slowest: Text,
    /// Name of the agent with the lowest score.
    pub fastest: Text,
    /// Its lead.
    pub lead: Text,
    /// Nanoseconds since the summary was made.
    pub age_ns: u64,
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
    /// Sector.
    pub sector: u16,
    /// Number within the sector.
    pub cluster: u16,
    /// Zero.
    pub reserved: [u8; 4],
}

/// One sector (GMAP-02).
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct SectorRow {
    /// Name of the node that coordinates it; empty for this one.
    pub node: Text,
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
    /// Number.
    pub sector: u16,
    /// Cluster with the lowest mean.
    pub healthiest: u16,
    /// Cluster with the highest mean.
    pub sickest: u16,
    /// Zero.
    pub reserved: [u8; 2],
}

/// One gather that ended (SCATTER-06).
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct GatherRow {
    /// Target moment minus READY, of those in time: bins, eight to a power of two.
    pub earliness: Vec<Bin>,
    /// READY minus target moment, of those READY too late: likewise.
    pub lateness: Vec<Bin>,
    /// Why this decision.
    pub reason: Text,
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
    /// Code of [`crate::mesh::Decision`].
    pub decision: u8,
    /// Code of [`crate::mesh::Strategy`].
    pub strategy: u8,
    /// Code of [`crate::mesh::Verb`].
    pub verb: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// The whole (GMAP-03, CONS-01).
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct GlobalRow {
    /// Nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// When the last gather ended, likewise; 0 where none has.
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
    /// Code of [`crate::mesh::Mode`].
    pub mode: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

payload!(MeshQuery, ArchivedMeshQuery, Kind::MeshQuery, 1);
payload!(MeshView, ArchivedMeshView, Kind::MeshView, 2);
