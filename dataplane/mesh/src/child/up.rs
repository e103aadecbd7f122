//! The node above: joining it, and keeping its clock in sight. Without it the node serves its own
//! agents and operators on (HIER-03).

use crate::{MS, SECOND, Time, clock::OffsetFilter, limits::BEAT_EVERY, node::Peer};

/// How long the answer to a NODE_JOIN may take before the node asks again.
const REJOIN_EVERY: Time = 2 * SECOND;
/// Beats right after joining, closer together, until the clocks are known.
const FIRST_BEATS: u32 = 8;
const FIRST_EVERY: Time = 50 * MS;

/// The connection to the parent.
#[derive(Debug)]
pub(crate) struct Up {
    pub peer: Peer,
    /// Handle and generation, once it answered.
    pub joined: Option<(u32, u32)>,
    /// Its clock against ours.
    pub clock: OffsetFilter,
    /// Its last `sent_ns`, and when that came.
    pub last: Option<(u64, Time)>,
    beats: u32,
    /// When the next join, beat or summary is due.
    pub beat_at: Time,
    pub summary_at: Time,
}

impl Up {
    /// A connection that was just made: the join is due at once.
    pub(crate) const fn new(now: Time, peer: Peer) -> Self {
        Self {
            peer,
            joined: None,
            clock: OffsetFilter::new(),
            last: None,
            beats: 0,
            beat_at: now,
            summary_at: Time::MAX,
        }
    }

    /// The parent answered the join.
    pub(crate) const fn join(&mut self, now: Time, handle: u32, generation: u32) {
        self.joined = Some((handle, generation));
        self.beats = 0;
        self.beat_at = now;
        self.summary_at = now;
    }

    /// Sets when the next beat (or join) is due.
    pub(crate) const fn beaten(&mut self, now: Time) {
        let after = if self.joined.is_none() {
            REJOIN_EVERY
        } else if self.beats < FIRST_BEATS {
            FIRST_EVERY
        } else {
            BEAT_EVERY
        };
        self.beats = self.beats.saturating_add(1);
        self.beat_at = now.saturating_add(after);
    }

    /// When something is due.
    pub(crate) fn due(&self) -> Time {
        self.beat_at.min(self.summary_at)
    }
}
