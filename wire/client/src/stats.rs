//! What a pool counts.

use crate::Transport;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What a pool has done, and how it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections now, opening and closing ones included.
    pub connections: usize,
    /// Calls under way now.
    pub in_flight: usize,
    /// What the newest connection runs over.
    pub transport: Option<Transport>,
    /// Calls so far.
    pub calls: u64,
    /// Tries beyond the first of their call.
    pub retries: u64,
    /// Requests taken back from the node.
    pub cancelled: u64,
    /// Answers that came after their call was over; dropped.
    pub late: u64,
    /// Connections made.
    pub connected: u64,
    /// Attempts to connect that failed.
    pub failures: u64,
    /// Pings before a connection was used again.
    pub pings: u64,
    /// Times that UDP was silent and TLS over TCP took its place.
    pub fallbacks: u64,
    /// Connections whose 0-RTT data the node took.
    pub early: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) calls: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) pings: AtomicU64,
    pub(crate) fallbacks: AtomicU64,
    pub(crate) early: AtomicU64,
    /// Calls that wait for a place now.
    pub(crate) waiting: AtomicUsize,
}

impl Counts {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            calls: self.calls.load(Relaxed),
            retries: self.retries.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            late: self.late.load(Relaxed),
            connected: self.connected.load(Relaxed),
            failures: self.failures.load(Relaxed),
            pings: self.pings.load(Relaxed),
            fallbacks: self.fallbacks.load(Relaxed),
            early: self.early.load(Relaxed),
            ..Stats::default()
        }
    }
}
