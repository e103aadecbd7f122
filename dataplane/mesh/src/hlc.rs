//! The hybrid logical clock of every mesh message: ordered like wall time where wall time is
//! right, and never backwards where it is not.
//!
//! A stamp is 48 bits of wall time in units of 2^16 ns (about 65.5 us) and 16 bits of counter. The
//! counter overflows into the time part, which keeps stamps growing.

/// How far a foreign stamp may lie ahead of the own wall clock before it is not believed. Clocks
/// that a time daemon keeps differ by milliseconds; half a second leaves room for a slow one and
/// bounds how far a liar moves everybody's stamps.
pub const AHEAD_MAX_NS: u64 = 500_000_000;

/// A hybrid logical clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hlc {
    last: u64,
}

/// The stamp of a wall time, counter 0.
const fn stamp(epoch_ns: u64) -> u64 {
    epoch_ns & !0xFFFF
}

impl Hlc {
    /// A clock that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: 0 }
    }

    /// The stamp of a message that leaves at this wall time: greater than every stamp before.
    pub fn tick(&mut self, epoch_ns: u64) -> u64 {
        self.last = stamp(epoch_ns).max(self.last.saturating_add(1));
        self.last
    }

    /// Takes a foreign stamp in. False: it lay more than [`AHEAD_MAX_NS`] ahead of the own wall
    /// clock and was taken as if it lay exactly that far ahead.
    pub fn merge(&mut self, foreign: u64, epoch_ns: u64) -> bool {
        let most = stamp(epoch_ns.saturating_add(AHEAD_MAX_NS));
        self.last = self.last.max(stamp(epoch_ns)).max(foreign.min(most));
        foreign <= most
    }

    /// The greatest stamp made or seen.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 86_400_000_000_000;

    #[test]
    fn x_19_a_stamp_follows_what_it_answers() {
        let (mut fast, mut slow) = (Hlc::new(), Hlc::new());
        let asked = fast.tick(20_000 * DAY + 300_000_000);
        assert!(slow.merge(asked, 20_000 * DAY));
        assert!(slow.tick(20_000 * DAY) > asked, "an answer is stamped after its question");
    }

    #[test]
    fn x_19_a_liar_moves_nobody_further_than_the_bound() {
        let mut clock = Hlc::new();
        let now = 20_000 * DAY;
        assert!(!clock.merge(u64::MAX, now));
        assert!(clock.last() <= now + AHEAD_MAX_NS);
        assert!(!clock.merge(now + 2 * AHEAD_MAX_NS, now));
        assert!(clock.tick(now) <= now + AHEAD_MAX_NS + 1);
    }

    proptest! {
        #[test]
        fn x_19_stamps_only_grow(
            steps in prop::collection::vec(any::<(bool, u64, u64)>(), 1..200),
        ) {
            let mut clock = Hlc::new();
            let mut last = 0;
            for (receives, foreign, wall) in steps {
                if receives {
                    clock.merge(foreign, wall);
                    prop_assert!(clock.last() >= last);
                } else if last < u64::MAX {
                    prop_assert!(clock.tick(wall) > last);
                }
                last = clock.last();
            }
        }
    }
}
