//! NODE_JOIN and MESH_SUMMARY: a node below another one.

use crate::{
    Kind,
    payload::{Seal, Text, mesh::ClusterRow, payload},
};
use rkyv::{Archive, Serialize};

/// A node asks to be a child; the parent answers with the same message, `handle` filled in. From
/// then on the child beats with AGENT_HEARTBEAT under that handle, sends MESH_SUMMARY, and takes
/// GATHER.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct NodeJoin {
    /// For people.
    pub name: Text,
    /// Who joins, or who answers.
    pub node_id: [u8; 16],
    /// When this leaves, own clock.
    pub sent_ns: u64,
    /// Given by the parent, with `generation`; 0 in the question.
    pub handle: u32,
    /// Counts the child's joins.
    pub generation: u32,
    /// Code of [`crate::mesh::Role`]: of who writes this.
    pub role: u8,
    /// Zero.
    pub reserved: [u8; 15],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// A child's clusters (RATE-01): every five seconds, and after a change of many.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct MeshSummary {
    /// All clusters of the child; sector numbers are the child's own.
    pub clusters: Vec<ClusterRow>,
    /// Scores of all active agents, for true percentiles.
    pub scores: Vec<super::Bin>,
    /// The child.
    pub node_id: [u8; 16],
    /// Hybrid logical clock.
    pub hlc: u64,
    /// Zero.
    pub reserved: [u8; 16],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

payload!(NodeJoin, ArchivedNodeJoin, Kind::NodeJoin, 1);
payload!(MeshSummary, ArchivedMeshSummary, Kind::MeshSummary, 1);
