//! Frames: made, and read from aligned memory as a receiver would.

use super::engine::Time;
use ::mesh::agent::Order;
use fleet::MS;
use wire::{
    HEADER_LEN, Header, Kind,
    check::crc16,
    frame,
    mesh::{PerAgent, Template},
    payload::{
        Payload,
        mesh::{AgentHeartbeat, ArchivedAgentHeartbeat, Coordinate},
        open,
    },
};
use zerocopy::IntoBytes;

/// A whole frame.
///
/// # Panics
/// For payloads over 2 GiB, which nobody makes here.
#[must_use]
pub(super) fn frame_of<T: Payload>(value: &T, message_id: u64, epoch_ns: u64) -> Vec<u8> {
    let mut out = Vec::new();
    frame::append(&mut out, value, message_id, epoch_ns).expect("short enough");
    out
}

/// A frame's header, and its payload where it is aligned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened<'a> {
    /// What it is.
    pub(super) kind: Kind,
    /// Sequence number of its sender.
    pub(super) message_id: u64,
    /// The sender's wall clock.
    pub(super) timestamp_ns: u64,
    /// The payload.
    pub(super) payload: &'a [u8],
}

/// Aligned memory to read payloads from.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk(Vec<u128>);

impl Desk {
    /// What is in these bytes. None for bytes that no shard would pass on:
    /// shorter than they say, or with a wrong checksum.
    pub(super) fn open(&mut self, bytes: &[u8]) -> Option<Opened<'_>> {
        let header = Header::peek(bytes)?;
        let payload = bytes.get(HEADER_LEN..)?;
        let kind = header.kind().ok()?;
        if payload.len() != header.payload_len() as usize || header.checksum() != crc16(payload) {
            return None;
        }
        self.0.resize(payload.len().div_ceil(16), 0);
        let desk = &mut self.0.as_mut_bytes()[..payload.len()];
        desk.copy_from_slice(payload);
        let (message_id, timestamp_ns) = (header.message_id(), header.timestamp_ns());
        Some(Opened { kind, message_id, timestamp_ns, payload: desk })
    }
}

/// A heartbeat as it was written.
#[must_use]
pub(super) fn beat_of(read: &ArchivedAgentHeartbeat) -> AgentHeartbeat {
    AgentHeartbeat {
        handle: read.handle.to_native(),
        generation: read.generation.to_native(),
        hlc: read.hlc.to_native(),
        origin_ns: read.origin_ns.to_native(),
        received_ns: read.received_ns.to_native(),
        sent_ns: read.sent_ns.to_native(),
        context_hash: read.context_hash.to_native(),
        latency_ms: read.latency_ms.to_native(),
        processing_ms: read.processing_ms.to_native(),
        queue_depth: read.queue_depth.to_native(),
        impedance: read.impedance.to_native(),
        reliability: read.reliability.to_native(),
        drift: read.drift.to_native(),
        state: read.state,
        ..AgentHeartbeat::default()
    }
}

/// What all copies share: the order, when it was made, the time to live, the operation.
pub(super) fn read_template(
    template: &Template,
    node: Time,
) -> Option<(Order, Time, Time, [u8; 16])> {
    let mut frame = vec![0; template.frame_len()];
    let len = template.write(&mut frame, 0, node, &PerAgent::default());
    let mut desk = Desk::default();
    let read = desk.open(frame.get(..len)?)?;
    debug_assert_eq!(len, HEADER_LEN + read.payload.len());
    let message = open::<Coordinate>(read.payload).ok()?;
    let ttl = Time::from(message.ttl_ms.to_native()) * MS;
    let age = read.timestamp_ns.saturating_sub(message.created_ns.to_native());
    let order = Order::of(message, read.timestamp_ns);
    Some((order, node.saturating_sub(age), ttl, message.correlation_id))
}
