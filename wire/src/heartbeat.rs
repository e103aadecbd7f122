//! Answers to heartbeats: the asker's timestamp, and when this side received and answered.

use crate::{
    HEADER_LEN, Header, Kind,
    check::crc16,
    payload::{ArchivedHeartbeat, Heartbeat, Payload},
};
use zerocopy::{
    Immutable, IntoBytes,
    byteorder::little_endian::{F32, U16, U32, U64},
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

/// The root of a heartbeat, field by field as [`ArchivedHeartbeat`] has it. It holds no pointer, so
/// it can be written without a serialiser: heartbeats are the most frequent messages there are.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Root {
    sender_id: [u8; 16],
    sent_ns: U64,
    received_ns: U64,
    replied_ns: U64,
    current_queries: U32,
    max_concurrent: U32,
    avg_latency_ms: F32,
    lane_hint: u8,
    reserved: [u8; 3],
    check: U32,
    seal_reserved: U16,
    schema: U16,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Root>() == size_of::<ArchivedHeartbeat>());
    assert!(offset_of!(Root, sent_ns) == offset_of!(ArchivedHeartbeat, sent_ns));
    assert!(offset_of!(Root, received_ns) == offset_of!(ArchivedHeartbeat, received_ns));
    assert!(offset_of!(Root, replied_ns) == offset_of!(ArchivedHeartbeat, replied_ns));
    assert!(offset_of!(Root, current_queries) == offset_of!(ArchivedHeartbeat, current_queries));
    assert!(offset_of!(Root, max_concurrent) == offset_of!(ArchivedHeartbeat, max_concurrent));
    assert!(offset_of!(Root, avg_latency_ms) == offset_of!(ArchivedHeartbeat, avg_latency_ms));
    assert!(offset_of!(Root, lane_hint) == offset_of!(ArchivedHeartbeat, lane_hint));
    assert!(offset_of!(Root, check) == offset_of!(ArchivedHeartbeat, seal));
};

/// Writes the answer to `asked` at the start of `out` and returns [`FRAME_LEN`], or 0 where `out`
/// is shorter.
#[must_use]
pub fn write_reply(
    out: &mut [u8],
    asked: &ArchivedHeartbeat,
    message_id: u64,
    pulse: &Pulse,
) -> usize {
    let Some((head, payload)) = out.get_mut(..FRAME_LEN).map(|out| out.split_at_mut(HEADER_LEN))
    else {
        return 0;
    };
    let root = Root {
        sender_id: pulse.sender_id,
        sent_ns: U64::new(asked.sent_ns.to_native()),
        received_ns: U64::new(pulse.received_ns),
        replied_ns: U64::new(pulse.replied_ns),
        current_queries: U32::new(pulse.current_queries),
        max_concurrent: U32::new(pulse.max_concurrent),
        avg_latency_ms: F32::new(pulse.avg_latency_ms),
        lane_hint: asked.lane_hint,
        reserved: [0; 3],
        check: U32::new(0),
        seal_reserved: U16::new(0),
        schema: U16::new(Heartbeat::SCHEMA),
    };
    let bytes = root.as_bytes();
    payload.copy_from_slice(bytes);
    let len = bytes.len() as u32;
    let header = Header::new(Kind::Heartbeat, message_id, pulse.replied_ns, len, crc16(bytes));
    head.copy_from_slice(header.as_bytes());
    FRAME_LEN
}
