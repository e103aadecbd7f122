//! COORDINATE and ACK: what is to be done at which moment, and what came of it.

use crate::{
    Kind,
    payload::{Seal, Text, payload},
};
use rkyv::{Archive, Serialize};

/// A message to one agent, to be READY at `target_ns` (MESHMSG-01..13, -15). The fields from
/// `sent_ns` to `confidence` differ between the recipients of a message; all others are shared,
/// and the signature covers them.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct Coordinate {
    /// For the agent.
    pub payload: Vec<u8>,
    /// What the agent must be able to do.
    pub requires_capabilities: Vec<Text>,
    /// Ed25519, 64 bytes, by the node's key over the shared fields; empty for none (SIGN-04).
    pub signature: Vec<u8>,
    /// Time-ordered.
    pub message_id: [u8; 16],
    /// Of the operation this belongs to.
    pub correlation_id: [u8; 16],
    /// Of the message that caused this one; zero for none.
    pub causation_id: [u8; 16],
    /// Who sends it.
    pub source_agent_id: [u8; 16],
    /// SHA-256 of `payload`.
    pub payload_hash: [u8; 32],
    /// First bytes of the SHA-256 of the public key that signed; zero for none.
    pub key_id: [u8; 8],
    /// Hybrid logical clock.
    pub hlc: u64,
    /// Nanoseconds since the Unix epoch on the sender's clock.
    pub created_ns: u64,
    /// When recipients should be READY, node time.
    pub target_ns: u64,
    /// When this copy left, node time.
    pub sent_ns: u64,
    /// Recipient.
    pub handle: u32,
    /// Of its registration.
    pub generation: u32,
    /// How long before `target_ns` it was to leave, microseconds (MESHMSG-10).
    pub lead_us: u32,
    /// Processing time expected, microseconds.
    pub expected_us: u32,
    /// 0 to 1.
    pub confidence: f32,
    /// Dropped when older, milliseconds after `created_ns`; 0 for never.
    pub ttl_ms: u32,
    /// Estimated complexity; 0 is the least.
    pub payload_weight: f32,
    /// Code of [`crate::mesh::Routing`].
    pub routing: u8,
    /// Code of [`crate::mesh::Verb`].
    pub verb: u8,
    /// 0 background to 3 critical.
    pub priority: u8,
    /// Code of [`crate::mesh::Trinary`]: what is expected of the recipient.
    pub expectation: u8,
    /// Act at `target_ns`, not before.
    pub hold: bool,
    /// Zero.
    pub reserved: [u8; 7],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// What an agent made of a COORDINATE (MESHMSG-16). Sent once it acted; a Transit may come before.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct Ack {
    /// Why not, for a Conflict.
    pub conflict_detail: Text,
    /// Ed25519, 64 bytes, by the agent's key over all other fields; empty for none.
    pub signature: Vec<u8>,
    /// Of the COORDINATE.
    pub message_id: [u8; 16],
    /// Handle.
    pub handle: u32,
    /// Its generation.
    pub generation: u32,
    /// Hybrid logical clock.
    pub hlc: u64,
    /// The COORDINATE's `sent_ns`, node time.
    pub origin_ns: u64,
    /// When it came, own clock.
    pub received_ns: u64,
    /// When the agent was READY, own clock; 0 for not.
    pub ready_ns: u64,
    /// When it acted, own clock; 0 for not.
    pub acted_ns: u64,
    /// When this leaves, own clock.
    pub sent_ns: u64,
    /// The agent's clock at the message's `target_ns`, as the agent saw it.
    pub target_own_ns: u64,
    /// Time spent on it, nanoseconds.
    pub processing_ns: u64,
    /// Hash of the context the agent works with.
    pub context_hash: u64,
    /// Operations that waited when it came.
    pub queue_found: u32,
    /// Operations that wait now.
    pub queue_depth: u32,
    /// Code of [`crate::mesh::Trinary`].
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 15],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

payload!(Coordinate, ArchivedCoordinate, Kind::Coordinate, 2);
payload!(Ack, ArchivedAck, Kind::Ack, 2);

const _: () = assert!(size_of::<ArchivedCoordinate>() == 208);
const _: () = assert!(size_of::<ArchivedAck>() == 144);
