//! What comes to an agent and what leaves it, as small values: an engine that simulates many need
//! not serialise them.

use crate::{MS, Time, node::AckView};
use wire::payload::{
    Text,
    mesh::{self, ArchivedCoordinate},
};

/// What of a COORDINATE matters to its agent. Times of the node's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    /// Of the message.
    pub message_id: [u8; 16],
    /// Hybrid logical clock.
    pub hlc: u64,
    /// When this copy left.
    pub sent_ns: Time,
    /// When the agent should be READY.
    pub target_ns: Time,
    /// Not to be acted on after this; [`Time::MAX`] for never.
    pub expires_ns: Time,
    /// Recipient.
    pub handle: u32,
    /// Of its registration.
    pub generation: u32,
    /// How long before the target moment it was to leave, microseconds.
    pub lead_us: u32,
    /// Processing time that the node expects, microseconds.
    pub expected_us: u32,
    /// Estimated complexity; 0 is the least.
    pub weight: f32,
    /// Act at the target moment, not before.
    pub hold: bool,
    /// The node's signature was looked at, and holds.
    pub is_verified: bool,
}

impl Order {
    /// Reads a message that left at `epoch_ns`, the frame's timestamp.
    ///
    /// The time to live counts from `created_ns`; `epoch_ns` is that and the time until it left
    /// on the node's monotonic clock (W66), so that the difference of the two is its age then. From
    /// there the same clock counts. No step of a wall clock changes either.
    #[must_use]
    pub fn of(message: &ArchivedCoordinate, epoch_ns: u64) -> Self {
        let sent_ns = message.sent_ns.to_native();
        let age = epoch_ns.saturating_sub(message.created_ns.to_native());
        let left = (u64::from(message.ttl_ms.to_native()) * MS).saturating_sub(age);
        let weight = message.payload_weight.to_native();
        Self {
            message_id: message.message_id,
            hlc: message.hlc.to_native(),
            sent_ns,
            target_ns: message.target_ns.to_native(),
            expires_ns: match message.ttl_ms.to_native() {
                0 => Time::MAX,
                _ => sent_ns.saturating_add(left),
            },
            handle: message.handle.to_native(),
            generation: message.generation.to_native(),
            lead_us: message.lead_us.to_native(),
            expected_us: message.expected_us.to_native(),
            weight: if weight.is_finite() { weight.max(0.0) } else { 0.0 },
            hold: message.hold,
            is_verified: false,
        }
    }
}

/// An ACK that leaves an agent. Its texts are known when the program is built.
pub type Ack = AckView<'static>;

impl Ack {
    /// The payload.
    #[must_use]
    pub fn payload(&self) -> mesh::Ack {
        mesh::Ack {
            conflict_detail: Text::literal(self.conflict_detail),
            message_id: self.message_id,
            handle: self.handle,
            generation: self.generation,
            hlc: self.hlc,
            origin_ns: self.origin_ns,
            received_ns: self.received_ns,
            ready_ns: self.ready_ns,
            acted_ns: self.acted_ns,
            sent_ns: self.sent_ns,
            target_own_ns: self.target_own_ns,
            processing_ns: self.processing_ns,
            context_hash: self.context_hash,
            queue_found: self.queue_found,
            queue_depth: self.queue_depth,
            state: self.state,
            ..mesh::Ack::default()
        }
    }
}
