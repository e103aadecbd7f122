//! AGENT_REGISTRATION, AGENT_REGISTERED, AGENT_HEARTBEAT: who is there, under which handle, and how
//! it fares.

use crate::{
    Kind,
    payload::{Seal, Text, payload},
};
use rkyv::{Archive, Serialize};

/// Agents that are reached by this connection: one, or all of a host.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct AgentRegistration {
    /// The agents.
    pub agents: Vec<AgentRecord>,
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// What an agent says of itself when it comes (IMPED-02, -12).
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct AgentRecord {
    /// What it can do.
    pub capabilities: Vec<Text>,
    /// Chosen by the agent, kept for its life.
    pub agent_id: [u8; 16],
    /// Its Ed25519 public key; zero for none (SEC-01).
    pub public_key: [u8; 32],
    /// One-way delay that it expects, milliseconds; 0 for unknown.
    pub latency_ms: f32,
    /// Processing time of a message of weight 0, milliseconds; 0 for unknown.
    pub processing_ms: f32,
    /// Code of [`crate::mesh::AgentClass`].
    pub class: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// The answer to a registration: a place for each agent, in its order.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct AgentRegistered {
    /// One for each record.
    pub places: Vec<Place>,
    /// The node.
    pub node_id: [u8; 16],
    /// Its Ed25519 public key, which signs what it coordinates; zero for none.
    pub node_key: [u8; 32],
    /// When the answer left, node time: the first `origin_ns`.
    pub sent_ns: u64,
    /// Seconds between two heartbeats that the node expects.
    pub heartbeat_s: f32,
    /// Answers of agents that have a key count only with a signature.
    pub signed_acks: bool,
    /// Zero.
    pub reserved: [u8; 3],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// Where an agent was put, or why not.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct Place {
    /// The agent.
    pub agent_id: [u8; 16],
    /// Names the agent on this connection from now on, together with `generation`.
    pub handle: u32,
    /// Counts the registrations of the handle: an old pair is refused.
    pub generation: u32,
    /// Number of its sector.
    pub sector: u16,
    /// Number of its cluster within the sector.
    pub cluster: u16,
    /// Its number within the cluster.
    pub position: u16,
    /// 0, or code of the [`crate::ErrorCode`] that kept it out; the rest is zero then.
    pub fault: u16,
}

/// The impedance record and the clock exchange (MESHMSG-14, IMPED-03..11). The node answers with
/// the same record: its own times in `received_ns` (arrival) and `sent_ns`, the agent's `sent_ns`
/// in `origin_ns`.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct AgentHeartbeat {
    /// Handle.
    pub handle: u32,
    /// Its generation.
    pub generation: u32,
    /// Hybrid logical clock.
    pub hlc: u64,
    /// The other side's `sent_ns` as last seen, on the other side's clock; 0 for none.
    pub origin_ns: u64,
    /// When that came, own clock.
    pub received_ns: u64,
    /// When this leaves, own clock.
    pub sent_ns: u64,
    /// Hash of the context the agent works with (IMPED-11).
    pub context_hash: u64,
    /// Median one-way delay of the last hundred messages, milliseconds.
    pub latency_ms: f32,
    /// Median processing time of the last hundred messages, milliseconds.
    pub processing_ms: f32,
    /// Operations that wait.
    pub queue_depth: u32,
    /// 0 to 1000 milliseconds.
    pub impedance: f32,
    /// Share of successes in the last hour.
    pub reliability: f32,
    /// Coefficient of variation of the one-way delay.
    pub drift: f32,
    /// Code of [`crate::mesh::AgentState`].
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 15],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

payload!(AgentRegistration, ArchivedAgentRegistration, Kind::AgentRegistration, 2);
payload!(AgentRegistered, ArchivedAgentRegistered, Kind::AgentRegistered, 2);
payload!(AgentHeartbeat, ArchivedAgentHeartbeat, Kind::AgentHeartbeat, 1);

const _: () = assert!(size_of::<ArchivedAgentHeartbeat>() == 96);
