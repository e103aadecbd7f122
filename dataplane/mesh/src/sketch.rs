//! A histogram of durations that can be merged. Its bins are those that reports carry
//! ([`wire::mesh::bin_of`]), so a value read back is off by less than 1 %.

use crate::Time;
use wire::mesh::{BINS_MAX, bin_middle, bin_of};

/// How often durations between 1 us and 1 h were seen. 8.5 KB, whatever is added.
#[derive(Clone, Debug)]
pub struct Sketch {
    bins: Box<[u32]>,
    count: u64,
}

impl Default for Sketch {
    fn default() -> Self {
        Self::new()
    }
}

impl Sketch {
    /// One without values.
    #[must_use]
    pub fn new() -> Self {
        Self { bins: vec![0; BINS_MAX].into_boxed_slice(), count: 0 }
    }

    /// Counts one value.
    pub fn add(&mut self, value: Time) {
        self.put(usize::from(bin_of(value)), 1);
    }

    /// Counts one value so many times.
    pub fn add_many(&mut self, value: Time, count: u64) {
        self.put(usize::from(bin_of(value)), count);
    }

    /// Counts what the other has counted. Order and grouping of merges do not matter.
    pub fn merge(&mut self, other: &Self) {
        for (bin, count) in other.bins() {
            self.put(usize::from(bin), count);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bins.fill(0);
        self.count = 0;
    }

    /// A full bin stays full: 2^32 - 1 values.
    fn put(&mut self, bin: usize, count: u64) {
        let room = u64::from(u32::MAX - self.bins[bin]);
        let taken = count.min(room);
        self.bins[bin] += taken as u32;
        self.count += taken;
    }

    /// The value with a share `q` (0..=1) of all at or below it, within 1 %. None: no values.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Time> {
        if self.count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut below = 0;
        for (bin, &count) in self.bins.iter().enumerate() {
            below += u64::from(count);
            if below >= rank {
                return Some(bin_middle(bin as u16));
            }
        }
        None
    }

    /// How many values were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The bins that are not empty, in rising order: (number, count).
    pub fn bins(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let filled = self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bin, &count)| (bin as u16, u64::from(count)))
    }

    /// A sketch of these bins. A number that no bin has counts for the last one.
    #[must_use]
    pub fn from_bins(bins: impl IntoIterator<Item = (u16, u64)>) -> Self {
        let mut sketch = Self::new();
        for (bin, count) in bins {
            sketch.put(usize::from(bin).min(BINS_MAX - 1), count);
        }
        sketch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_comes_back_within_one_percent(value in 1_000_u64..3_600_000_000_000) {
            let mut sketch = Sketch::new();
            sketch.add(value);
            let back = sketch.quantile(0.5).unwrap();
            prop_assert!(back.abs_diff(value) * 100 <= value, "{value} {back}");
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_values(
            mut values in proptest::collection::vec(1_000_u64..10_000_000_000, 1..200),
            q in 0.0_f64..=1.0,
        ) {
            let mut sketch = Sketch::new();
            values.iter().for_each(|&v| sketch.add(v));
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let (exact, got) = (values[rank - 1], sketch.quantile(q).unwrap());
            prop_assert!(got.abs_diff(exact) * 100 <= exact, "{exact} {got}");
        }

        #[test]
        fn merging_is_counting_together_and_bins_carry_everything(
            left in proptest::collection::vec(any::<u64>(), 0..100),
            right in proptest::collection::vec(any::<u64>(), 0..100),
        ) {
            let of = |values: &[u64]| {
                let mut sketch = Sketch::new();
                values.iter().for_each(|&v| sketch.add(v));
                sketch
            };
            let both: Vec<u64> = left.iter().chain(&right).copied().collect();
            let mut merged = of(&left);
            merged.merge(&Sketch::from_bins(of(&right).bins()));
            prop_assert!(merged.bins().eq(of(&both).bins()));
            prop_assert_eq!(merged.count(), both.len() as u64);
        }

        #[test]
        fn any_bins_from_outside_are_taken(
            bins in proptest::collection::vec(any::<(u16, u64)>(), 0..50),
        ) {
            let sketch = Sketch::from_bins(bins);
            prop_assert_eq!(sketch.count(), sketch.bins().map(|(_, n)| n).sum::<u64>());
            prop_assert_eq!(sketch.quantile(0.5).is_some(), sketch.count() > 0);
        }
    }

    #[test]
    fn bins_rise_without_gaps() {
        for bin in 0..BINS_MAX - 1 {
            assert_eq!(usize::from(bin_of(bin_middle(bin as u16))), bin);
            assert!(bin_middle(bin as u16) < bin_middle(bin as u16 + 1));
        }
        assert_eq!(usize::from(bin_of(u64::MAX)), BINS_MAX - 1);
        assert_eq!(bin_of(0), 0);
    }
}
