//! Whether to poll for a while before sleeping, learned from what came of it.
//!
//! A wake-up costs 15 to 28 microseconds; polling for longer than what comes next takes costs more,
//! and where cores are few it takes them from whoever would bring what is waited for. So a waiter
//! polls while the last gaps were short, like the branch predictor of a processor: two misses in a
//! row change its mind, one does not.

/// Gaps that were worth polling through, at most this many are remembered.
const CREDIT_MAX: u8 = 3;
/// As many are reason enough to poll.
const CREDIT_MIN: u8 = 2;

/// A guess about the next gap.
#[derive(Clone, Copy, Debug)]
pub struct Spin {
    longest_ns: u64,
    credit: u8,
}

impl Spin {
    /// Never polls for longer than this; begins with hope.
    #[must_use]
    pub const fn new(longest_ns: u64) -> Self {
        Self { longest_ns, credit: CREDIT_MAX }
    }

    /// A gap has ended that took this long.
    pub const fn learn(&mut self, gap_ns: u64) {
        self.credit = if gap_ns < self.longest_ns {
            if self.credit < CREDIT_MAX { self.credit + 1 } else { CREDIT_MAX }
        } else {
            self.credit.saturating_sub(1)
        };
    }

    /// True if it is worth polling on in a gap that has taken this long.
    #[must_use]
    pub const fn pays(&self, gap_ns: u64) -> bool {
        self.credit >= CREDIT_MIN && gap_ns < self.longest_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_up_to_its_bound_at_first() {
        let spin = Spin::new(50);
        assert!(spin.pays(0) && spin.pays(49) && !spin.pays(50));
    }

    #[test]
    fn two_long_gaps_end_it_and_two_short_ones_begin_it_again() {
        let mut spin = Spin::new(50);
        spin.learn(50);
        assert!(spin.pays(0), "one may be an exception");
        spin.learn(1_000);
        assert!(!spin.pays(0));
        (0..9).for_each(|_| spin.learn(1_000));
        spin.learn(49);
        assert!(!spin.pays(0), "one may be an exception");
        spin.learn(0);
        assert!(spin.pays(0));
    }

    #[test]
    fn nothing_is_worth_no_time() {
        let mut spin = Spin::new(0);
        spin.learn(0);
        assert!(!spin.pays(0));
    }
}
