//! When an idle shard polls, and when it sleeps.
//!
//! Waking a sleeper costs 15 to 28 microseconds, polling costs the core. `Balanced` polls for as
//! long as a wake-up would take a few times over, and sleeps after that.

use dataplane_core::driver::Time;

/// What a shard does while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Always polls: the lowest latency, a whole core.
    Latency,
    /// Polls for this long after the last event, then sleeps.
    Balanced {
        /// Nanoseconds of polling.
        spin_ns: u64,
    },
    /// Sleeps at once: the least work, a wake-up per burst.
    Frugal,
}

impl Default for Policy {
    fn default() -> Self {
        Self::Balanced { spin_ns: 50_000 }
    }
}

/// What to do at the end of an idle turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Look again at once.
    Poll,
    /// Sleep until something happens, or until this many nanoseconds are over.
    Sleep(Option<u64>),
}

impl Policy {
    /// What to do at `now`, the last event having been at `last`, with something due at `until`, to
    /// be met by waking `early` nanoseconds ahead.
    pub(crate) fn rest(self, now: Time, last: Time, until: Option<Time>, early: u64) -> Rest {
        let (spin, early) = match self {
            Self::Latency => return Rest::Poll,
            Self::Balanced { spin_ns } => (spin_ns, early),
            Self::Frugal => (0, 0),
        };
        if now.saturating_sub(last) < spin {
            return Rest::Poll;
        }
        match until {
            None => Rest::Sleep(None),
            Some(until) => match until.saturating_sub(now.saturating_add(early)) {
                0 => Rest::Poll,
                left => Rest::Sleep(Some(left)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_never_sleeps() {
        assert_eq!(Policy::Latency.rest(1_000_000, 0, None, 0), Rest::Poll);
    }

    #[test]
    fn balanced_polls_then_sleeps_until_shortly_before_what_is_due() {
        let policy = Policy::Balanced { spin_ns: 50 };
        assert_eq!(policy.rest(149, 100, None, 10), Rest::Poll);
        assert_eq!(policy.rest(150, 100, None, 10), Rest::Sleep(None));
        assert_eq!(policy.rest(150, 100, Some(200), 10), Rest::Sleep(Some(40)));
        assert_eq!(policy.rest(190, 100, Some(200), 10), Rest::Poll);
        assert_eq!(policy.rest(900, 100, Some(200), 10), Rest::Poll);
    }

    #[test]
    fn frugal_sleeps_at_once_and_to_the_point() {
        assert_eq!(Policy::Frugal.rest(100, 100, None, 10), Rest::Sleep(None));
        assert_eq!(Policy::Frugal.rest(100, 100, Some(105), 10), Rest::Sleep(Some(5)));
        assert_eq!(Policy::Frugal.rest(100, 100, Some(100), 10), Rest::Poll);
    }
}
