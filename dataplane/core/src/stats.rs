//! Plain counters with one writer, the shard. Others read them whenever they like; nothing is
//! copied out and nothing is ever read back into a decision.

mod histogram;
mod load;
pub mod names;
mod recent;
mod series;
mod shown;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use wire::{ErrorCode, Kind, Operation, Priority, Role, Roles};

pub use histogram::Histogram;
pub use load::{Cancel, Retry, Shed};
pub use recent::{Lately, Recent};
pub use series::{BOUNDS, Show, Source, Spread, Value, Visit, labels};

/// A counter with a single writer: an increment is a plain load, add, store.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owner of the counter calls it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets, for gauges.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Why a batch closed (recorded for each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It has `batch_max` requests.
    Full,
    /// It has `batch_bytes` bytes.
    Bytes,
    /// A worker had nothing to do.
    WorkerIdle,
    /// `batch_wait` passed since its first request.
    Age,
    /// Waiting longer would miss a deadline.
    Deadline,
    /// The node is draining.
    Drain,
    /// Its place was needed for another shape class.
    Displaced,
    /// Its worker died; the requests go to another one at once.
    Retry,
}

impl CloseReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 8] = [
        Self::Full,
        Self::Bytes,
        Self::WorkerIdle,
        Self::Age,
        Self::Deadline,
        Self::Drain,
        Self::Displaced,
        Self::Retry,
    ];

    /// Label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Bytes => "bytes",
            Self::WorkerIdle => "worker_idle",
            Self::Age => "age",
            Self::Deadline => "deadline",
            Self::Drain => "drain",
            Self::Displaced => "displaced",
            Self::Retry => "retry",
        }
    }
}

/// Where a copy of payload bytes was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// A small frame, from the receive buffer into its slot.
    SmallLane,
    /// The part of a bulk frame that came before its connection changed lanes.
    LaneSwitch,
    /// A compressed payload, restored into a second slot.
    Restore,
    /// A small request whose reply needs a bulk slot.
    Promote,
    /// A short reply, from its slot into an egress chunk.
    ReplyInline,
    /// A heartbeat whose archive lay misaligned.
    Realign,
    /// Whatever the worker copied besides computing (echo).
    Worker,
}

impl Copy {
    /// Every stage, in the order of the counters.
    pub const ALL: [Self; 7] = [
        Self::SmallLane,
        Self::LaneSwitch,
        Self::Restore,
        Self::Promote,
        Self::ReplyInline,
        Self::Realign,
        Self::Worker,
    ];

    /// Label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SmallLane => "small_lane",
            Self::LaneSwitch => "lane_switch",
            Self::Restore => "restore",
            Self::Promote => "promote",
            Self::ReplyInline => "reply_inline",
            Self::Realign => "realign",
            Self::Worker => "worker",
        }
    }
}

/// Where a request was when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In an open batch.
    Batch,
    /// In a closed batch that waits for a worker.
    Queue,
    /// With a worker.
    Worker,
}

impl Place {
    /// Every place, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::Batch, Self::Queue, Self::Worker];

    /// Label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Queue => "queue",
            Self::Worker => "worker",
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The peer ended it between frames.
    Peer,
    /// The peer ended it inside a frame.
    Truncated,
    /// The socket failed.
    Io,
    /// A fault that makes the stream untrustworthy.
    Fault,
    /// Too slow to send a frame.
    SlowSender,
    /// Too slow to read its replies.
    SlowReader,
    /// No room for another connection.
    Full,
    /// The mesh had it ended.
    Mesh,
    /// Nothing moved for as long as its peer may be idle.
    Idle,
    /// Its peer went on with what it may not do, or past its rate.
    Refused,
}

impl CloseCause {
    /// Every cause, in the order of the counters.
    pub const ALL: [Self; 10] = [
        Self::Peer,
        Self::Truncated,
        Self::Io,
        Self::Fault,
        Self::SlowSender,
        Self::SlowReader,
        Self::Full,
        Self::Mesh,
        Self::Idle,
        Self::Refused,
    ];

    /// Label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Truncated => "truncated",
            Self::Io => "io",
            Self::Fault => "fault",
            Self::SlowSender => "slow_sender",
            Self::SlowReader => "slow_reader",
            Self::Full => "full",
            Self::Mesh => "mesh",
            Self::Idle => "idle",
            Self::Refused => "refused",
        }
    }
}

/// Room for the mesh's message types by the lower byte of their codes.
const MESH_KINDS: usize = 32;
const CODES: usize = 64;
const OPERATIONS: usize = 8;

/// The counters of one shard.
#[derive(Debug, Default)]
pub struct Stats {
    requests: [Counter; OPERATIONS],
    refusals: Box<[Counter]>,
    batches: [Counter; CloseReason::ALL.len()],
    batch_priorities: [Counter; Priority::ALL.len()],
    sheds: [Counter; Shed::ALL.len()],
    shed_priorities: [Counter; Priority::ALL.len()],
    cancels: [Counter; Cancel::ALL.len()],
    retries: [Counter; Retry::ALL.len()],
    copies: [Counter; Copy::ALL.len()],
    copied_bytes: [Counter; Copy::ALL.len()],
    expired: [Counter; Place::ALL.len()],
    worker_busy_ns: Box<[Counter]>,
    closes: [Counter; CloseCause::ALL.len()],
    mesh_frames: [Counter; MESH_KINDS],
    /// By role; then whoever has several (the local ones do), then whoever has none.
    turned_down: [Counter; Role::ALL.len() + 2],
    /// Requests in all closed batches.
    pub batched: Counter,
    /// Requests answered by a worker.
    pub replies: Counter,
    /// Empty heartbeats answered.
    pub pings: Counter,
    /// Heartbeats with a payload answered.
    pub heartbeats: Counter,
    /// Frames received in the small lane.
    pub frames_small: Counter,
    /// Frames received in the bulk lane.
    pub frames_bulk: Counter,
    /// Changes into the bulk lane.
    pub to_bulk: Counter,
    /// Changes back into the small lane.
    pub to_small: Counter,
    /// Bytes received.
    pub bytes_in: Counter,
    /// Bytes the OS took.
    pub bytes_out: Counter,
    /// Transmits ordered.
    pub transmits: Counter,
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections open now.
    pub open: Counter,
    /// Times a connection had to wait for a slot, a chunk or credit.
    pub waits: Counter,
    /// Slots lent again after a worker died.
    pub reclaimed: Counter,
    /// Answers whose connection was gone.
    pub orphaned: Counter,
    /// Completions that no lending matches.
    pub link_faults: Counter,
    /// Requests that a worker kept for too long.
    pub overdue: Counter,
    /// Peers that were asked to leave for another process.
    pub asked_to_leave: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Workers that are up, as this shard knows.
    pub workers_up: Counter,
    /// Rows of answered requests (a row is a token's worth of work).
    pub rows_out: Counter,
    /// Row bytes of admitted requests.
    pub row_bytes: Counter,
    /// Bytes of their replies.
    pub reply_bytes: Counter,
    /// By operation: from complete request to queued reply.
    latency: [Histogram; OPERATIONS],
    /// Beats that found the ring to the mesh full, and were answered but not passed on.
    pub mesh_beats_dropped: Counter,
    /// Times a frame found the ring to the mesh full.
    pub mesh_full: Counter,
    /// Frames of the mesh sent at once.
    pub mesh_sent: Counter,
    /// Such frames whose connection was gone, or took too little.
    pub mesh_dropped: Counter,
    /// Scheduled sends that wait now.
    pub schedule_pending: Counter,
    /// Those that left.
    pub schedule_fired: Counter,
    /// Those whose message had expired.
    pub schedule_expired: Counter,
    /// Those whose connection was gone.
    pub schedule_gone: Counter,
    /// Those for which there was no room.
    pub schedule_refused: Counter,
    /// Times the next send had to wait for an egress chunk.
    pub schedule_blocked: Counter,
    /// How long after its moment each scheduled send left.
    pub fire_error: Histogram,
}

impl Stats {
    /// All zero, to be shared with readers.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let zeros = |n| (0..n).map(|_| Counter::default()).collect();
        let (refusals, worker_busy_ns) = (zeros(CODES), zeros(Self::WORKERS));
        Arc::new(Self { refusals, worker_busy_ns, ..Self::default() })
    }

    /// Workers whose business is counted one by one.
    pub const WORKERS: usize = 64;

    /// A worker computed for so long.
    pub fn busy(&self, worker: usize, ns: u64) {
        if let Some(counter) = self.worker_busy_ns.get(worker) {
            counter.add(ns);
        }
    }

    /// Nanoseconds a worker computed for this shard.
    #[must_use]
    pub fn worker_busy(&self, worker: usize) -> u64 {
        self.worker_busy_ns.get(worker).map_or(0, Counter::get)
    }

    /// A request was admitted.
    #[inline]
    pub fn request(&self, operation: Operation) {
        self.requests[operation as usize].add(1);
    }

    /// A request was answered so long after it was complete.
    #[inline]
    pub fn answered(&self, operation: Operation, ns: u64) {
        self.latency[operation as usize].record(ns);
    }

    /// How long the answers to one operation took.
    #[must_use]
    pub fn latency(&self, operation: Operation) -> &Histogram {
        &self.latency[operation as usize]
    }

    /// Requests admitted of one operation.
    #[must_use]
    pub fn requests(&self, operation: Operation) -> u64 {
        self.requests[operation as usize].get()
    }

    /// An ERROR_REPORT was queued.
    pub fn refusal(&self, code: ErrorCode) {
        self.refusals[code as usize].add(1);
    }

    /// ERROR_REPORTs of one code.
    #[must_use]
    pub fn refusals(&self, code: ErrorCode) -> u64 {
        self.refusals[code as usize].get()
    }

    /// A request was refused because of load.
    pub fn shed(&self, reason: Shed, priority: Priority) {
        self.sheds[reason as usize].add(1);
        self.shed_priorities[priority as usize].add(1);
    }

    /// Requests refused because of load, for one reason.
    #[must_use]
    pub fn sheds(&self, reason: Shed) -> u64 {
        self.sheds[reason as usize].get()
    }

    /// Requests of one priority refused because of load.
    #[must_use]
    pub fn sheds_of(&self, priority: Priority) -> u64 {
        self.shed_priorities[priority as usize].get()
    }

    /// A request was to be taken back.
    pub fn cancel(&self, outcome: Cancel) {
        self.cancels[outcome as usize].add(1);
    }

    /// Requests to be taken back, by what became of that.
    #[must_use]
    pub fn cancels(&self, outcome: Cancel) -> u64 {
        self.cancels[outcome as usize].get()
    }

    /// A retry came.
    pub fn retry(&self, outcome: Retry) {
        self.retries[outcome as usize].add(1);
    }

    /// Retries, by what became of them.
    #[must_use]
    pub fn retries(&self, outcome: Retry) -> u64 {
        self.retries[outcome as usize].get()
    }

    /// A batch closed with so many requests.
    pub fn batch(&self, reason: CloseReason, priority: Priority, requests: usize) {
        self.batches[reason as usize].add(1);
        self.batch_priorities[priority as usize].add(1);
        self.batched.add(requests as u64);
    }

    /// Batches closed for one reason.
    #[must_use]
    pub fn batches(&self, reason: CloseReason) -> u64 {
        self.batches[reason as usize].get()
    }

    /// Payload bytes were copied in user space.
    #[inline]
    pub fn copy(&self, stage: Copy, bytes: u64) {
        self.copies[stage as usize].add(1);
        self.copied_bytes[stage as usize].add(bytes);
    }

    /// Copies made at one stage.
    #[must_use]
    pub fn copies(&self, stage: Copy) -> u64 {
        self.copies[stage as usize].get()
    }

    /// A deadline passed.
    pub fn expire(&self, place: Place) {
        self.expired[place as usize].add(1);
    }

    /// Deadlines that passed in one place.
    #[must_use]
    pub fn expired(&self, place: Place) -> u64 {
        self.expired[place as usize].get()
    }

    /// A frame of the mesh was taken in.
    #[inline]
    pub fn mesh_frame(&self, kind: Kind) {
        if let Some(counter) = self.mesh_frames.get(usize::from(kind.code() & 0xFF)) {
            counter.add(1);
        }
    }

    /// Frames of the mesh of one type.
    #[must_use]
    pub fn mesh_frames(&self, kind: Kind) -> u64 {
        self.mesh_frames.get(usize::from(kind.code() & 0xFF)).map_or(0, Counter::get)
    }

    /// Somebody was refused for who it is, not for what the frame says.
    pub fn turned_down(&self, roles: Roles) {
        let mut each = roles.iter();
        let index = match (each.next(), each.next()) {
            (Some(role), None) => role as usize,
            (Some(_), Some(_)) => Role::ALL.len(),
            (None, _) => Role::ALL.len() + 1,
        };
        self.turned_down[index].add(1);
    }

    /// A connection ended.
    pub fn close(&self, cause: CloseCause) {
        self.closes[cause as usize].add(1);
    }

    /// Connections that ended for one cause.
    #[must_use]
    pub fn closes(&self, cause: CloseCause) -> u64 {
        self.closes[cause as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_operation_has_its_counter() {
        assert!(ErrorCode::ALL.iter().all(|c| (*c as usize) < CODES));
        assert!(Operation::ALL.iter().all(|o| (*o as usize) < OPERATIONS));
    }
}
