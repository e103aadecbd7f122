//! HEARTBEAT: liveness, four-timestamp clock exchange, load. 64 bytes without pointers: a 96-byte
//! frame.

use super::{Seal, payload};
use crate::Kind;
use rkyv::{Archive, Serialize};

/// `lane_hint`: the node chooses the lane by what it measures.
pub const LANE_AS_MEASURED: u8 = 0;
/// `lane_hint`: large frames will follow on this connection.
pub const LANE_BULK: u8 = 1;

/// A heartbeat. Sent with `received_ns` and `replied_ns` zero; the answer repeats `sent_ns` and
/// fills them in.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct Heartbeat {
    /// UUID of the sender, zero for none.
    pub sender_id: [u8; 16],
    /// When the request left, sender's clock.
    pub sent_ns: u64,
    /// When it arrived, answerer's clock.
    pub received_ns: u64,
    /// When the answer left, answerer's clock.
    pub replied_ns: u64,
    /// Queries under way at the sender.
    pub current_queries: u32,
    /// Most queries at a time.
    pub max_concurrent: u32,
    /// Mean latency of late, milliseconds.
    pub avg_latency_ms: f32,
    /// [`LANE_AS_MEASURED`] or [`LANE_BULK`]; unknown values count as 0.
    pub lane_hint: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

payload!(Heartbeat, ArchivedHeartbeat, Kind::Heartbeat, 1);

const _: () = assert!(size_of::<ArchivedHeartbeat>() == 64);
