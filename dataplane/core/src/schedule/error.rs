//! How well moments were met: a small histogram that travels and can be added up.

use crate::driver::Time;

/// Buckets per power of two.
const SUB_BITS: u32 = 4;
const SUB: usize = 1 << SUB_BITS;

/// Values of 2^36 ns (68 s) and more share the last bucket.
const TOP_BITS: u32 = 36;
const BUCKETS: usize = SUB * (TOP_BITS - SUB_BITS + 1) as usize;

/// Counts of how long after its moment a send left, 16 buckets per power of two: a quantile is at
/// most 6.25% too high. The largest value is exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FireError {
    counts: [u32; BUCKETS],
    count: u64,
    max: Time,
}

impl Default for FireError {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], count: 0, max: 0 }
    }
}

impl FireError {
    /// Counts one value, nanoseconds.
    #[inline]
    pub fn record(&mut self, error: Time) {
        let counter = &mut self.counts[bucket(error)];
        *counter = counter.saturating_add(1);
        self.count += 1;
        self.max = self.max.max(error);
    }

    /// Adds another one's counts.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// Values counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The largest; 0 for none.
    #[must_use]
    pub const fn max(&self) -> Time {
        self.max
    }

    /// Each bucket that is not empty: its largest value (of the last one, the largest seen), and
    /// how many values it holds. In ascending order.
    pub fn bins(&self) -> impl Iterator<Item = (Time, u64)> + '_ {
        let used = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        used.map(|(bucket, count)| (upper(bucket).min(self.max), u64::from(*count)))
    }

    /// A value that at least this share (0 to 1) of the values do not exceed; 0 for none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Time {
        let rank = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return upper(bucket).min(self.max);
            }
        }
        self.max
    }
}

const fn bucket(value: Time) -> usize {
    if value < SUB as u64 {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - SUB_BITS;
    let bucket = (shift as usize + 1) * SUB + ((value >> shift) as usize - SUB);
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// Largest value of a bucket.
const fn upper(bucket: usize) -> Time {
    if bucket < SUB {
        return bucket as u64;
    }
    if bucket == BUCKETS - 1 {
        return Time::MAX;
    }
    let shift = (bucket / SUB - 1) as u32;
    (((SUB + bucket % SUB) as u64 + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_values_within_a_bucket() {
        let values: Vec<Time> = (0..2_000u64).map(|n| n * n * n * 17 % 90_000_000_000).collect();
        let (mut whole, mut left, mut right) =
            (FireError::default(), FireError::default(), FireError::default());
        for (n, value) in values.iter().enumerate() {
            whole.record(*value);
            if n % 3 == 0 { left.record(*value) } else { right.record(*value) }
        }
        left.merge(&right);
        assert_eq!(left, whole, "merging is adding up");
        let mut sorted = values;
        sorted.sort_unstable();
        for share in [0.0, 0.01, 0.5, 0.9, 0.99, 1.0] {
            let exact = sorted[((share * 2_000.0) as usize).saturating_sub(1)];
            let got = whole.quantile(share);
            assert!(got >= exact, "{share}: {got} under {exact}");
            let last = exact >= 1 << TOP_BITS;
            assert!(last || got <= exact + exact / 16 + 1, "{share}: {got} over {exact}");
        }
        assert_eq!((whole.max(), whole.count()), (*sorted.last().unwrap(), 2_000));
        assert_eq!(FireError::default().quantile(0.5), 0);
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..5_000).chain((4..64).map(|bits| 1u64 << bits)).chain([Time::MAX]) {
            let at = bucket(value);
            assert!(value <= upper(at) && (at == 0 || value > upper(at - 1)), "{value}");
        }
    }
}
