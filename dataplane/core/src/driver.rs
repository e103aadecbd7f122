//! The seam between the shard and the world. Two implementations exist: io_uring, and virtual time.
//!
//! Reading, in the small lane: after [`Event::Accepted`] and a [`Driver::start_stream`] the driver
//! delivers [`Event::Bytes`] as they come. The shard consumes a prefix. When it consumes less than
//! it was offered, the driver keeps the rest, stops the stream by itself, and offers the rest again
//! first after the next `start_stream`. Reading, in the bulk lane: the shard orders exactly one
//! `fill_header` or `fill_slot` at a time.
//!
//! Changing lanes: `stop_stream`; bytes already received still come as [`Event::Bytes`]; then
//! [`Event::StreamStopped`]. When all of them were used, fills may be ordered from there on. When
//! the shard used fewer (it waits for room), the driver keeps the rest as always, offers it no more
//! before `StreamStopped`, and the shard goes on with `start_stream`, never with a fill.
//!
//! Writing: at most one `transmit` per connection is under way; [`Event::Sent`] ends it.
//!
//! Closing: after `close` the driver cancels what is under way and delivers [`Event::Closed`] as
//! the very last event of that connection. Only then may memory that a fill or a transmit named be
//! used again, and only then may the id come back with another `Accepted`.

use crate::{
    memory::{ChunkId, SlotId},
    probe::{Probe, Probed},
};
use wire::Roles;

/// Monotonic nanoseconds. The driver's clock, or the simulator's.
pub type Time = u64;

/// Index of a connection in the shard's table. Reused after [`Event::Closed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

/// Index of a worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

/// Who is at the other end of a connection, as far as the driver could make sure: it tells of a
/// connection only once that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Which identity of the node's table. 0 is everybody who connects without proving who it is.
    pub identity: u32,
    /// What it may be.
    pub roles: Roles,
}

impl Caller {
    /// A peer of this machine that proved nothing: trusted as whoever can open its sockets is.
    pub const LOCAL: Self = Self { identity: 0, roles: Roles::ALL };
}

/// Everything that can happen to a shard.
#[derive(Debug)]
pub enum Event<'a> {
    /// A peer connected.
    Accepted {
        /// Its id.
        conn: ConnId,
        /// Who it is.
        who: Caller,
    },
    /// Bytes of a stream, or of a header that was ordered.
    Bytes {
        /// Whose.
        conn: ConnId,
        /// What came, never empty.
        bytes: &'a [u8],
    },
    /// The stream is stopped: no more `Bytes` until it is started again.
    StreamStopped {
        /// Whose.
        conn: ConnId,
    },
    /// The ordered part of a slot is filled.
    Filled {
        /// Whose.
        conn: ConnId,
    },
    /// The peer will send nothing more; it may still read.
    Eof {
        /// Who.
        conn: ConnId,
    },
    /// A transmit ended with this many bytes taken by the OS (possibly fewer than ordered).
    Sent {
        /// Whose.
        conn: ConnId,
        /// Bytes taken.
        bytes: u32,
    },
    /// Reading or writing failed: the connection is of no more use. The shard answers with `close`.
    Failed {
        /// Whose.
        conn: ConnId,
    },
    /// The connection is gone and nothing of it is under way.
    Closed {
        /// Whose.
        conn: ConnId,
    },
    /// A worker finished a slot.
    Completed {
        /// Which worker.
        worker: WorkerId,
        /// Which slot (as the worker says; the shard checks).
        slot: SlotId,
    },
    /// A worker is ready for these operations (bit = operation code).
    WorkerUp {
        /// Which.
        worker: WorkerId,
        /// Operations served.
        operations: u32,
    },
    /// A worker process is gone: the OS says so, and it will not write again. Its completions were
    /// delivered.
    WorkerDown {
        /// Which.
        worker: WorkerId,
    },
    /// Whether all checks of a worker hold, as its supervisor sees it: while not, batches go to
    /// others, where there are any.
    WorkerHealth {
        /// Which.
        worker: WorkerId,
        /// What was found.
        healthy: bool,
    },
    /// A worker is to be asked what its answer to is known.
    Probe(Probe),
    /// Take no new work; close when all is answered.
    Drain,
    /// Another process takes new connections: peers are asked to leave, and answered until then.
    Leave,
}

/// A stretch of bytes to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// From an egress chunk.
    Chunk {
        /// Which.
        chunk: ChunkId,
        /// First byte.
        from: u32,
        /// Bytes.
        len: u32,
    },
    /// From a slot's reply area.
    Reply {
        /// Which.
        slot: SlotId,
        /// First byte.
        from: u32,
        /// Bytes.
        len: u32,
    },
}

impl Segment {
    /// Bytes of this stretch.
    #[must_use]
    pub const fn len(&self) -> u32 {
        match self {
            Self::Chunk { len, .. } | Self::Reply { len, .. } => *len,
        }
    }

    /// True for a stretch of no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Most segments of one transmit.
pub const SEGMENTS_MAX: usize = 32;

/// What feeds a shard and acts for it.
pub trait Driver {
    /// Monotonic time.
    fn now(&mut self) -> Time;
    /// Nanoseconds since the Unix epoch, for header timestamps.
    fn epoch_ns(&mut self) -> u64;

    /// The next thing that happened, if anything has. Never waits.
    fn next_event(&mut self) -> Option<Event<'_>>;
    /// How much of the last [`Event::Bytes`] was used.
    fn consumed(&mut self, bytes: usize);

    /// Deliver the stream of this connection (kept bytes first).
    fn start_stream(&mut self, conn: ConnId);
    /// Stop delivering; ends with [`Event::StreamStopped`].
    fn stop_stream(&mut self, conn: ConnId);
    /// Bulk lane: receive `len` (<= 32) bytes of header, delivered whole as [`Event::Bytes`].
    fn fill_header(&mut self, conn: ConnId, len: u32);
    /// Bulk lane: receive exactly `len` bytes into the slot's payload from byte `from`; ends with
    /// [`Event::Filled`].
    fn fill_slot(&mut self, conn: ConnId, slot: SlotId, from: u32, len: u32);
    /// Send these stretches in order.
    fn transmit(&mut self, conn: ConnId, segments: &[Segment]);
    /// Tell the peer that nothing more will be sent (a half close), and go on reading. After a
    /// fault the shard does this first and discards what still comes, so that the peer can read
    /// why: closing with unread bytes would reset the connection and could take the report with it.
    fn finish(&mut self, conn: ConnId);
    /// End the connection.
    fn close(&mut self, conn: ConnId);

    /// Lend these slots to a worker as one batch.
    fn lend(&mut self, worker: WorkerId, batch: &[SlotId]);

    /// A probe has ended. For drivers that deliver none, nothing to do.
    fn probed(&mut self, _probed: Probed) {}

    /// Something went up to the mesh: wake it if it sleeps. For drivers of shards without a mesh,
    /// nothing to do.
    fn wake_mesh(&mut self) {}

    /// Hand all orders to the OS. `idle` says that this turn had no event; `until` when the shard
    /// must run again at the latest. May wait, spin or return at once, as the driver's policy says.
    fn flush(&mut self, idle: bool, until: Option<Time>);
}
