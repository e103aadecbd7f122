//! Answers to heartbeats: the asker's timestamp, and when this side received and answered.

use crate::{
    HEADER_LEN, frame,
    payload::{ArchivedHeartbeat, Heartbeat},
};

/// Bytes of a heartbeat's frame (one with a payload; a ping has 32).
pub const FRAME_LEN: usize = HEADER_LEN + size_of::<ArchivedHeartbeat>();

/// What the answering side says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pulse {
    /// UUID of the node, zero for none.
    pub sender_id: [u8; 16],
    /// When the heartbeat arrived, nanoseconds since the Unix epoch.
    pub received_ns: u64,
    /// When the answer leaves, likewise; also the answer's header timestamp.
    pub replied_ns: u64,
    /// Requests under way.
    pub current_queries: u32,
    /// Most requests at a time.
    pub max_concurrent: u32,
    /// Mean latency of late, milliseconds.
    pub avg_latency_ms: f32,
}

/// Writes the answer to `asked` at the start of `out` and returns [`FRAME_LEN`], or 0 where `out` is shorter.
#[must_use]
pub fn write_reply(
    out: &mut [u8],
    asked: &ArchivedHeartbeat,
    message_id: u64,
    pulse: &Pulse,
) -> usize {
    let answer = Heartbeat {
        sender_id: pulse.sender_id,
        sent_ns: asked.sent_ns.to_native(),
        received_ns: pulse.received_ns,
        replied_ns: pulse.replied_ns,
        current_queries: pulse.current_queries,
        max_concurrent: pulse.max_concurrent,
        avg_latency_ms: pulse.avg_latency_ms,
        lane_hint: asked.lane_hint,
        ..Heartbeat::default()
    };
    frame::write(out, &answer, message_id, pulse.replied_ns).unwrap_or(0)
}
