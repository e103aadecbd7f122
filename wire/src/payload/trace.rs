//! TRACE_QUERY and TRACE_REPORT: the lives of requests, for whoever asks why.

use super::{Seal, Text, payload};
use crate::Kind;
use rkyv::{Archive, Serialize};

/// Asks for the lives of requests.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct TraceQuery {
    /// Only of the sender with this name; empty for all.
    pub sender: Text,
    /// For select query.
    pub query_id: [u8; 16],
    /// For select message.
    pub message_id: u64,
    /// Only of this connection of a shard, or [`crate::trace::EVERY_CONNECTION`].
    pub connection: u32,
    /// Only of this shard, or [`crate::trace::EVERY_SHARD`].
    pub shard: u16,
    /// Most requests in the answer; 0 for the node's limit.
    pub limit: u16,
    /// Code of [`crate::trace::Select`].
    pub select: u8,
    /// Zero.
    pub reserved: [u8; 15],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// The answer.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct TraceReport {
    /// The requests.
    pub traces: Vec<Trace>,
    /// Requests that the node remembered and looked through.
    pub searched: u64,
    /// Zero.
    pub reserved: [u8; 8],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// The life of one request. Times in nanoseconds since `at_ns`, or [`crate::trace::NEVER`].
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct Trace {
    /// Who asked.
    pub sender: Text,
    /// What computed.
    pub backend: Text,
    /// Why there.
    pub backend_reason: Text,
    /// Why its batch closed.
    pub closed_by: Text,
    /// What it waited for before it was read, comma-separated.
    pub waited_for: Text,
    /// More on why it was refused.
    pub cause: Text,
    /// Its id over all tries.
    pub query_id: [u8; 16],
    /// Its id on its connection.
    pub message_id: u64,
    /// When its header was let in, nanoseconds since the Unix epoch.
    pub at_ns: u64,
    /// It got its slot.
    pub slot_ns: u64,
    /// It was there whole.
    pub whole_ns: u64,
    /// Its batch closed.
    pub closed_ns: u64,
    /// A worker got it first.
    pub lent_ns: u64,
    /// The worker got it that had it last.
    pub lent_last_ns: u64,
    /// That worker took it up.
    pub started_ns: u64,
    /// It was answered, refused, or found to be nobody's.
    pub ended_ns: u64,
    /// The OS took the last byte of that.
    pub sent_ns: u64,
    /// What its batch computed until it was done.
    pub compute_ns: u64,
    /// Its deadline.
    pub deadline_ns: u64,
    /// Its connection in its shard.
    pub connection: u32,
    /// Rows.
    pub rows: u32,
    /// Payload bytes as carried.
    pub carried: u32,
    /// Payload bytes once restored.
    pub payload: u32,
    /// Bytes of the answer's frames.
    pub reply: u32,
    /// Bytes copied by stage.
    pub copied: Copied,
    /// Its shard.
    pub shard: u16,
    /// The worker that had it last, or 65,535.
    pub worker: u16,
    /// Requests of its batch.
    pub batch: u16,
    /// Code of the [`crate::ErrorCode`] that it was refused with, or 0.
    pub refusal: u16,
    /// Code of [`crate::trace::End`].
    pub end: u8,
    /// Code of [`crate::Operation`], or 255 where it was not read.
    pub operation: u8,
    /// Code of [`crate::Priority`].
    pub priority: u8,
    /// It came by the bulk lane.
    pub bulk: bool,
    /// Times that it was lent to a worker.
    pub tries: u8,
    /// Which of the asker's tries it was, from 0.
    pub attempt: u8,
    /// Its answer was asked for by an earlier try.
    pub taken_over: bool,
    /// Zero.
    pub reserved: [u8; 5],
}

/// Bytes of a request and of its answer that were copied in user space, by stage.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct Copied {
    /// From the receive buffer into a small slot.
    pub small_lane: u32,
    /// The part of a bulk frame that came before its connection changed lanes.
    pub lane_switch: u32,
    /// Restored into a second slot.
    pub restore: u32,
    /// Moved into a bulk slot for the sake of the answer.
    pub promote: u32,
    /// The answer, into a chunk.
    pub reply_inline: u32,
    /// By the worker.
    pub worker: u32,
}

payload!(TraceQuery, ArchivedTraceQuery, Kind::TraceQuery, 1);
payload!(TraceReport, ArchivedTraceReport, Kind::TraceReport, 1);
