//! When an idle shard polls, and when it sleeps.
//!
//! Waking a sleeper costs 15 to 28 microseconds, polling costs the core. `Balanced` polls for as
//! long as a wake-up would take a few times over, and sleeps after that; where polling has not paid
//! lately it sleeps at once. Waiting for a worker and waiting for peers are two things to learn.

use dataplane_core::driver::Time;
use link::spin::Spin;

/// What a shard does while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Always polls: the lowest latency, a whole core.
    Latency,
    /// Polls for this long after the last event where that has paid lately, then sleeps.
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

/// A shard's rests: what it does in them, and what it has learned of them.
#[derive(Debug)]
pub(crate) struct Resting {
    policy: Policy,
    /// Gaps in which peers only were waited for, and those in which a worker had something to do.
    spins: [Spin; 2],
    /// When the first idle turn after the last event was.
    since: Time,
    /// Since then a worker has had something to do.
    on_worker: bool,
    /// No idle turn has been since the last event.
    busy: bool,
}

impl Resting {
    pub(crate) const fn new(policy: Policy) -> Self {
        let spin_ns = match policy {
            Policy::Balanced { spin_ns } => spin_ns,
            Policy::Latency | Policy::Frugal => 0,
        };
        Self { policy, spins: [Spin::new(spin_ns); 2], since: 0, on_worker: false, busy: true }
    }

    /// Something happened, as a look at `now` has shown.
    #[inline]
    pub(crate) const fn end(&mut self, now: Time) {
        if !self.busy {
            self.busy = true;
            self.spins[self.on_worker as usize].learn(now.saturating_sub(self.since));
        }
    }

    /// What to do at `now`, with a worker at work or not, and something due at `until`, to be met
    /// by waking `early` nanoseconds ahead.
    pub(crate) fn next(
        &mut self,
        now: Time,
        on_worker: bool,
        until: Option<Time>,
        early: u64,
    ) -> Rest {
        if self.busy {
            (self.busy, self.since, self.on_worker) = (false, now, on_worker);
        }
        let early = match self.policy {
            Policy::Latency => return Rest::Poll,
            Policy::Balanced { .. } => early,
            Policy::Frugal => 0,
        };
        if self.spins[usize::from(self.on_worker)].pays(now.saturating_sub(self.since)) {
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

    /// At rest since this moment.
    fn resting(policy: Policy, since: Time) -> Resting {
        let mut resting = Resting::new(policy);
        resting.next(since, false, None, 0);
        resting
    }

    #[test]
    fn latency_never_sleeps() {
        assert_eq!(resting(Policy::Latency, 0).next(1_000_000, false, None, 0), Rest::Poll);
    }

    #[test]
    fn balanced_polls_then_sleeps_until_shortly_before_what_is_due() {
        let mut resting = resting(Policy::Balanced { spin_ns: 50 }, 100);
        assert_eq!(resting.next(149, false, None, 10), Rest::Poll);
        assert_eq!(resting.next(150, false, None, 10), Rest::Sleep(None));
        assert_eq!(resting.next(150, false, Some(200), 10), Rest::Sleep(Some(40)));
        assert_eq!(resting.next(190, false, Some(200), 10), Rest::Poll);
        assert_eq!(resting.next(900, false, Some(200), 10), Rest::Poll);
    }

    #[test]
    fn balanced_learns_of_peers_and_of_workers_apart() {
        let mut resting = resting(Policy::Balanced { spin_ns: 50 }, 0);
        let mut now = 0;
        for _ in 0..4 {
            // A request comes long after the last, its answer soon.
            now += 1_000;
            resting.end(now);
            assert_eq!(resting.next(now, true, None, 0), Rest::Poll);
            now += 20;
            resting.end(now);
            resting.next(now, false, None, 0);
        }
        assert_eq!(resting.next(now, false, None, 0), Rest::Sleep(None));
        // They come closer together.
        for _ in 0..4 {
            now += 10;
            resting.end(now);
            resting.next(now, false, None, 0);
        }
        assert_eq!(resting.next(now + 49, false, None, 0), Rest::Poll);
    }

    #[test]
    fn a_busy_stretch_is_no_gap() {
        let mut resting = resting(Policy::Balanced { spin_ns: 50 }, 0);
        for turn in 0..4 {
            resting.end(turn * 1_000 + 10);
            resting.end(turn * 1_000 + 900);
            assert_eq!(resting.next((turn + 1) * 1_000, false, None, 0), Rest::Poll);
        }
    }

    #[test]
    fn frugal_sleeps_at_once_and_to_the_point() {
        let mut resting = resting(Policy::Frugal, 100);
        assert_eq!(resting.next(100, false, None, 10), Rest::Sleep(None));
        assert_eq!(resting.next(100, false, Some(105), 10), Rest::Sleep(Some(5)));
        assert_eq!(resting.next(100, false, Some(100), 10), Rest::Poll);
    }
}
