//! The open-loop plan: when each send is due, decided before the run and never moved by what the
//! server does.

use dataplane_core::driver::Time;

/// One thread's share of an evenly spaced plan: of all sends, every `threads`-th, beginning with
/// its own.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Time,
    offset: f64,
    period: f64,
}

impl Schedule {
    /// The share of thread `index` of `threads` in a plan of `rate` sends per second that begins at
    /// `start`.
    ///
    /// # Panics
    /// If the rate is not positive and finite, or the index is not below the number of threads.
    #[must_use]
    pub fn new(start: Time, rate: f64, index: u32, threads: u32) -> Self {
        assert!(rate.is_finite() && rate > 0.0 && index < threads);
        let gap = 1e9 / rate;
        Self { start, offset: f64::from(index) * gap, period: f64::from(threads) * gap }
    }

    /// When send `n` (from 0) of this thread is due. Computed from `n` each time, so no error adds
    /// up.
    #[must_use]
    #[inline]
    pub fn planned(&self, n: u64) -> Time {
        self.start.saturating_add(self.period.mul_add(n as f64, self.offset) as u64)
    }

    /// How many sends of this thread are due before `end`.
    #[must_use]
    pub fn count_before(&self, end: Time) -> u64 {
        let span = end.saturating_sub(self.start) as f64;
        // Near the answer by division, exact by the same formula that the sends use.
        let mut n = ((span - self.offset) / self.period).max(0.0) as u64;
        while n > 0 && self.planned(n - 1) >= end {
            n -= 1;
        }
        while self.planned(n) < end {
            n += 1;
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plan_is_even_and_threads_interleave() {
        let shares: Vec<_> = (0..4).map(|index| Schedule::new(1_000, 1e6, index, 4)).collect();
        let mut all: Vec<Time> =
            shares.iter().flat_map(|share| (0..100).map(|n| share.planned(n))).collect();
        all.sort_unstable();
        let expected: Vec<Time> = (0..400).map(|n| 1_000 + n * 1_000).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn no_error_adds_up_over_an_hour() {
        let share = Schedule::new(0, 3_000_000.0, 0, 1);
        assert_eq!(share.planned(3 * 3_600_000_000), 3_600_000_000_000);
    }

    proptest! {
        #[test]
        fn counting_agrees_with_the_plan(
            rate in 0.5f64..5e7,
            start in 0..1_000_000_000u64,
            end in 0..3_000_000_000u64,
            threads in 1..9u32,
        ) {
            for index in 0..threads {
                let share = Schedule::new(start, rate, index, threads);
                let count = share.count_before(end);
                prop_assert!(count == 0 || share.planned(count - 1) < end);
                prop_assert!(share.planned(count) >= end);
            }
        }
    }
}
