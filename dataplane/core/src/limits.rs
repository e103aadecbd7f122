//! Every bound of a shard in one place. What is over a bound is refused or waits, and is counted.

use crate::driver::Time;

/// One millisecond of [`Time`].
pub const MS: Time = 1_000_000;

/// Events a shard handles before it drains its outputs, so that one busy connection cannot starve
/// the others or the clock.
pub const EVENTS_PER_TURN: usize = 256;

/// Bytes of streams that it takes in before it does so: what workers wait for is handed to them
/// every 1,000 small requests or so, however fast the rest comes.
pub const BYTES_PER_TURN: usize = 256 << 10;

/// Replies up to this many bytes are copied into an egress chunk, where they share a send with
/// their neighbours; longer ones are sent from the slot. A copy of 2 KiB (about 40 ns) costs less
/// than a segment of its own in the kernel.
pub const INLINE_REPLY_MAX: u32 = 2_048;

/// Times a request is lent before the node gives up on it. A request that kills every worker it
/// meets must not kill them all.
pub const LENDINGS_MAX: u32 = 3;

/// Batches that can collect at once, one per operation and shape class.
pub const OPEN_BATCHES: usize = 16;

/// Batches a worker may hold: one it works on, one that waits, so that it is never idle between.
pub const WORKER_DEPTH: usize = 2;

/// Small frames in a row after which a connection leaves the bulk lane again.
pub const SMALL_RUN: u8 = 4;

/// Scheduled sends that leave in one turn, so that receiving is not starved by a volley.
pub const FIRES_PER_TURN: usize = 512;

/// Connections that they leave for. A transmit costs the kernel 4 to 6 us: with these many, the
/// time that a send states is at most 0.2 ms from when it leaves.
pub const FIRED_CONNECTIONS_PER_TURN: usize = 32;

/// Sends of volleys that are put into the wheel in one turn: about 20 us.
pub const INSERTS_PER_TURN: usize = 512;

/// Messages of the mesh that a shard takes in one turn; each may be a transmit.
pub const DOWNS_PER_TURN: usize = 64;

/// Volleys under way at once. One more is refused as a whole.
pub const VOLLEYS_MAX: usize = 4_096;

/// Of the queue target, the share that requests of each priority may wait for, in eighths.
pub const QUEUE_SHARES: [u64; 4] = [4, 6, 7, 8];

/// How often it is decided whether the queue stands, in targets: it is no burst then, and what is
/// let into it only waits longer.
pub const STANDING_TARGETS: u64 = 2;

/// What a standing queue is cut to: one part in so many of the target. It stands for as long as
/// more than one request in so many is refused.
pub const STANDING_PART: u64 = 10;

/// Estimates count once requests are seen to wait for one part in so many of what they may.
pub const LATE_PART: u64 = 4;

/// Targets for which a request waits at most while others overtake it.
pub const STARVED_TARGETS: u64 = 4;

/// Longest hint on when to try again.
pub const RETRY_AFTER_MAX: Time = 1_000 * MS;

/// Requests with an id of their own that a node remembers, to know a retry by.
pub const REMEMBERED: usize = 1 << 16;

/// For how long it does.
pub const REMEMBERED_FOR: Time = 30_000 * MS;

/// Short answers that it keeps for retries.
pub const ANSWERS_KEPT: usize = 1 << 10;

/// What may come at once of a rate: that of a quarter of a second.
pub const RATE_BURST: Time = 250 * MS;

/// Times its usual rate that an identity may send to a busy node (SEC-09).
pub const SURGE: u64 = 10;

/// Frames in a second that count as usual for anybody, so that who starts to work is not taken for
/// a flood.
pub const BASELINE_MIN: u64 = 1_000;

/// Seconds over which the usual rate is averaged, exponentially.
pub const BASELINE_WEIGHT: u64 = 64;

/// Share of the slots in use from which on a shard is busy, in hundredths.
pub const BUSY_PERCENT: u32 = 75;

/// Refusals in a row, for what a peer may not do or for being over its rate, after which its
/// connection is ended: it does not learn.
pub const REFUSALS_IN_A_ROW: u32 = 1_000;

/// Connections looked over at a time for peers that are too slow or idle: about 20 us.
pub const SWEPT_AT_A_TIME: u32 = 1_024;

/// Identities looked at for one that holds less than its share, before the first is taken.
pub const SHARES_LOOKED_AT: usize = 8;

/// Records of requests that a search looks at in one turn: about 10 us.
pub const SEARCHED_PER_TURN: usize = 512;

/// Longest batch a shard can be configured for.
pub const BATCH_CAP: usize = 256;

/// Bounds that an operator may set. `dataplane` validates them as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of this shard.
    pub connections: u32,
    /// Requests of one connection that are admitted and not yet answered.
    pub requests_per_connection: u32,
    /// Bytes of replies waiting for one connection before the shard stops reading from it.
    pub unsent_per_connection: u64,
    /// Requests of a batch (BATCH-01).
    pub batch_max: usize,
    /// How long an open batch waits at most (BATCH-02).
    pub batch_wait: Time,
    /// Bytes of request rows in a batch.
    pub batch_bytes: u64,
    /// How long a request of the highest priority may wait for a worker; lower ones may less.
    pub queue_target: Time,
    /// A frame must be complete this long after its first byte.
    pub frame_timeout: Time,
    /// A peer must take some bytes of its replies within this time.
    pub write_timeout: Time,
    /// A worker that keeps a request for longer is reported, whatever its pulse says.
    pub hold_timeout: Time,
    /// Operations that workers of this node serve (bit = operation code).
    pub operations: u32,
    /// Hint in refusals: try again after this many milliseconds.
    pub retry_after_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            requests_per_connection: 1_024,
            unsent_per_connection: 4 << 20,
            batch_max: 32,
            batch_wait: 10 * MS,
            batch_bytes: 16 << 20,
            queue_target: 50 * MS,
            frame_timeout: 10_000 * MS,
            write_timeout: 10_000 * MS,
            hold_timeout: 60_000 * MS,
            operations: 0,
            retry_after_ms: 50,
        }
    }
}

const _: () = {
    assert!(EVENTS_PER_TURN > 0 && OPEN_BATCHES > 0 && WORKER_DEPTH > 0);
    assert!(FIRES_PER_TURN > 0 && FIRED_CONNECTIONS_PER_TURN > 0 && INSERTS_PER_TURN > 0);
    assert!(DOWNS_PER_TURN > 0 && BYTES_PER_TURN > 0);
    assert!(REMEMBERED.is_power_of_two() && ANSWERS_KEPT.is_power_of_two());
    assert!(BASELINE_WEIGHT > 1 && SWEPT_AT_A_TIME > 0 && SHARES_LOOKED_AT > 0);
    assert!(LENDINGS_MAX >= 2, "a request must survive the death of one worker");
};
