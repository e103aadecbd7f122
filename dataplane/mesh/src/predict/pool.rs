//! The distribution of what forecasts missed, pooled over the agents of a class.
//!
//! A miss is (actual / predicted - 1) over the agent's own relative spread: without dimension and
//! alike for all agents of a class, so that one agent's rare events teach all the others. A
//! histogram with bins of 2 % forgets by halving all its counts, and a table of its quantiles is
//! kept ready for forecasts.

use std::sync::LazyLock;

use super::dial::{Dial, GRID, late_share};

/// Bins are even in asinh(4 z): 2 % of large misses, 0.005 around zero.
const STEP: f64 = 0.02;
const LOWEST: f64 = -4.0;
const BINS: usize = 700;
/// What one miss counts, so that halving keeps rare ones for long.
const UNIT: u32 = 256;
/// The table follows after this share of new misses...
const FOLLOW: u64 = 64;
/// ...or after this many.
const FOLLOW_MOST: u64 = 256;

/// Misses of one class at one stage of experience.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    bins: Box<[u32]>,
    /// Sum of all bins.
    total: u64,
    /// Misses since the table was made.
    fresh: u64,
    /// Misses after which all counts are halved.
    memory: u64,
    table: [f32; GRID],
}

impl Pool {
    /// Starts with the weight of `prior` misses that nobody saw: half of them below zero, the rest
    /// with an exponential tail of mean `spread`.
    pub(crate) fn new(memory: u32, prior: u32, spread: f64) -> Self {
        let bins = vec![0; BINS].into_boxed_slice();
        let memory = u64::from(memory.max(prior).max(64));
        let mut pool = Self { bins, total: 0, fresh: 0, memory, table: [0.0; GRID] };
        for bin in 0..BINS {
            let (low, high) = (edge(bin), edge(bin + 1));
            let share = if high <= 0.0 {
                // The half below zero: evenly between -1 and 0.
                0.5 * (high.max(-1.0) - low.max(-1.0))
            } else {
                0.5 * ((-low.max(0.0) / spread).exp() - (-high / spread).exp())
            };
            let count = (share * f64::from(prior) * f64::from(UNIT)) as u32;
            pool.bins[bin] = count;
            pool.total += u64::from(count);
        }
        pool.tabulate();
        pool
    }

    /// Counts one miss.
    pub(crate) fn add(&mut self, miss: f32) {
        let at = ((f64::from(miss) * 4.0).asinh() - LOWEST) / STEP;
        let bin = (at.max(0.0) as usize).min(BINS - 1);
        self.bins[bin] += UNIT;
        self.total += u64::from(UNIT);
        self.fresh += 1;
        let seen = self.total / u64::from(UNIT);
        if seen > self.memory * 2 {
            self.bins.iter_mut().for_each(|bin| *bin >>= 1);
            self.total = self.bins.iter().map(|&bin| u64::from(bin)).sum();
        }
        if self.fresh >= (seen / FOLLOW).min(FOLLOW_MOST) {
            self.tabulate();
        }
    }

    /// The miss that a share `dial` of all stay below.
    #[inline]
    pub(crate) fn quantile(&self, dial: Dial) -> f32 {
        dial.read(&self.table)
    }

    /// Reads the upper half of the quantile function off the bins, from the top down.
    fn tabulate(&mut self) {
        self.fresh = 0;
        let total = self.total as f64;
        let mut bin = BINS - 1;
        // Counted above `bin`'s upper edge.
        let mut above = 0.0;
        for point in (0..GRID).rev() {
            let wanted = late_share(point) * total;
            while bin > 0 && above + f64::from(self.bins[bin]) < wanted {
                above += f64::from(self.bins[bin]);
                bin -= 1;
            }
            let inside = f64::from(self.bins[bin]).max(1.0);
            let part = ((wanted - above) / inside).clamp(0.0, 1.0);
            let (low, high) = (edge(bin), edge(bin + 1));
            self.table[point] = (high - part * (high - low)) as f32;
        }
    }
}

/// Lower edges of all bins, and the upper one of the last.
static EDGES: LazyLock<Box<[f64]>> =
    LazyLock::new(|| (0..=BINS).map(|bin| (LOWEST + bin as f64 * STEP).sinh() / 4.0).collect());

/// Lower edge of a bin.
fn edge(bin: usize) -> f64 {
    EDGES[bin]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(share: f64) -> Dial {
        Dial::new(share).unwrap()
    }

    #[test]
    fn quantiles_follow_what_was_counted() {
        let mut pool = Pool::new(100_000, 0, 1.0);
        for k in 0..100_000_u32 {
            pool.add((k % 10_000) as f32 / 1000.0);
        }
        for (share, value) in [(0.5, 5.0), (0.9, 9.0), (0.99, 9.9), (0.999, 9.99)] {
            assert!((pool.quantile(dial(share)) - value).abs() < 0.01 * value, "{share}");
        }
    }

    #[test]
    fn the_realised_share_is_the_dialled_one() {
        let mut pool = Pool::new(32_768, 100, 1.0);
        let mut rng = fleet::Rng::new(3);
        let mut late = [0_u32; 2];
        for k in 0..400_000 {
            let miss = (0.15 * rng.normal()).exp_m1() / 0.12;
            if k >= 100_000 {
                late[0] += u32::from(miss > f64::from(pool.quantile(dial(0.99))));
                late[1] += u32::from(miss > f64::from(pool.quantile(dial(0.999))));
            }
            pool.add(miss as f32);
        }
        assert!(late[0].abs_diff(3_000) < 240 && late[1].abs_diff(300) < 80, "{late:?}");
    }

    #[test]
    fn a_prior_stands_until_something_is_known_and_old_misses_are_forgotten() {
        let mut pool = Pool::new(1_000, 200, 1.0);
        assert!((pool.quantile(dial(0.999)) - 6.2).abs() < 0.5);
        (0..20_000).for_each(|_| pool.add(0.1));
        assert!((pool.quantile(dial(0.999)) - 0.1).abs() < 0.01);
        (0..20_000).for_each(|_| pool.add(2.0));
        assert!((pool.quantile(dial(0.5)) - 2.0).abs() < 0.1);
    }

    #[test]
    fn nothing_that_floats_can_say_breaks_it() {
        let mut pool = Pool::new(100, 10, 1.0);
        for miss in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1.0] {
            (0..300).for_each(|_| pool.add(miss));
            assert!(pool.quantile(dial(0.9999)).is_finite());
        }
    }
}
