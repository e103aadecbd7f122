//! GATHER: an operator, or the node above, asks for one message to reach many agents together.

use crate::{
    Kind,
    payload::{Seal, Text, mesh::Signature, payload},
};
use rkyv::{Archive, Serialize};

/// `phase`: all of it.
pub const PHASE_WHOLE: u8 = 0;
/// `phase`: say whether you are there and how long you need; send nothing yet.
pub const PHASE_PREPARE: u8 = 1;
/// `phase`: what was prepared under the same `correlation_id` goes out now.
pub const PHASE_COMMIT: u8 = 2;

/// What to send to whom, and when all should be READY (SCATTER-01..07, CASCADE-01..08). Zero in
/// `at_*`, `window_ns`, `timeout_ns` and the rates means: the node's default.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct Gather {
    /// For the agents.
    pub payload: Vec<u8>,
    /// Whom, for select ids.
    pub ids: Vec<[u8; 16]>,
    /// What the agents must be able to do besides.
    pub requires_capabilities: Vec<Text>,
    /// Whom, for select capability.
    pub capability: Text,
    /// Of operators, or of the node above; empty for an order that nobody signed.
    pub signatures: Vec<Signature>,
    /// Time-ordered.
    pub message_id: [u8; 16],
    /// Of the operation this belongs to.
    pub correlation_id: [u8; 16],
    /// Of the message that caused this one; zero for none.
    pub causation_id: [u8; 16],
    /// Who asks.
    pub source_agent_id: [u8; 16],
    /// Hybrid logical clock.
    pub hlc: u64,
    /// When all should be READY: nanoseconds since the Unix epoch; 0: as soon as it can be.
    pub at_epoch_ns: u64,
    /// The same on the asking node's monotonic clock, from a parent to a child; 0 for none.
    pub at_node_ns: u64,
    /// How long after that moment answers still count.
    pub window_ns: u64,
    /// Longest time for the whole call.
    pub timeout_ns: u64,
    /// Milliseconds after which copies that were not sent or not acted on are dropped; 0: never.
    pub ttl_ms: u32,
    /// Estimated complexity of the payload.
    pub payload_weight: f32,
    /// The dial: wanted share of agents that are READY in time, 0.5 to 0.9999.
    pub on_time: f32,
    /// READY answers over messages sent, at least.
    pub min_rate: f32,
    /// CONFLICT answers over targets, at most.
    pub max_conflict: f32,
    /// Targets under way, at most, for a decision other than to wait.
    pub max_transit: f32,
    /// Whom, for select sector and cluster.
    pub sector: u16,
    /// Whom, for select cluster.
    pub cluster: u16,
    /// Whom, for select class: code of [`crate::mesh::AgentClass`].
    pub class: u8,
    /// Code of [`crate::mesh::SelectBy`].
    pub select: u8,
    /// Code of [`crate::mesh::Verb`].
    pub verb: u8,
    /// 0 background to 3 critical.
    pub priority: u8,
    /// Code of [`crate::mesh::Strategy`].
    pub strategy: u8,
    /// Agents hold until the moment; without it they act when they are READY.
    pub hold: bool,
    /// [`PHASE_WHOLE`], [`PHASE_PREPARE`] or [`PHASE_COMMIT`].
    pub phase: u8,
    /// Report progress while it lasts.
    pub progress: bool,
    /// Zero.
    pub reserved: [u8; 4],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

payload!(Gather, ArchivedGather, Kind::Gather, 2);
