//! How long things took, with one writer and any number of readers.

use super::{Counter, Spread};

const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
/// Buckets of a histogram.
pub(super) const BUCKETS: usize = SUB * (64 - SUB_BITS as usize + 1);

/// A log-linear histogram of nanoseconds: 32 buckets per power of two, so a quantile is at most 3%
/// off. One writer, like [`Counter`].
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[Counter]>,
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        let counts = (0..BUCKETS).map(|_| Counter::default()).collect();
        Self { counts, sum: Counter::default() }
    }
}

impl Histogram {
    /// Records one value.
    #[inline]
    pub fn record(&self, ns: u64) {
        self.counts[Self::bucket(ns)].add(1);
        self.sum.add(ns);
    }

    #[inline]
    const fn bucket(ns: u64) -> usize {
        if ns < SUB as u64 {
            return ns as usize;
        }
        let shift = 63 - ns.leading_zeros() - SUB_BITS;
        (shift as usize + 1) * SUB + ((ns >> shift) as usize - SUB)
    }

    /// Largest value that falls into a bucket.
    const fn upper(bucket: usize) -> u64 {
        if bucket < SUB {
            return bucket as u64;
        }
        let shift = (bucket / SUB - 1) as u32;
        let base = (SUB + bucket % SUB) as u64;
        (base << shift) + ((1u64 << shift) - 1)
    }

    /// The same in the few buckets of exposition. A value that lies within 3% below a bound may
    /// count for the next one.
    #[must_use]
    pub fn fold(&self) -> Spread {
        let mut spread = Spread::default();
        for (bucket, counter) in self.counts.iter().enumerate() {
            let count = counter.get();
            if count > 0 {
                spread.put(Self::upper(bucket), count);
            }
        }
        spread.add_sum(self.sum.get().into());
        spread
    }

    /// Adds up the counts of several histograms by bucket.
    pub(super) fn add_to(&self, counts: &mut [u64; BUCKETS]) {
        for (sum, counter) in counts.iter_mut().zip(&self.counts) {
            *sum = sum.wrapping_add(counter.get());
        }
    }

    /// The value below which each of the fractions lies, by counts of buckets.
    pub(super) fn quantiles_of<const N: usize>(
        counts: &[u64; BUCKETS],
        fractions: [f64; N],
    ) -> [u64; N] {
        let total: u64 = counts.iter().sum();
        fractions.map(|fraction| {
            let rank = (fraction * total as f64).ceil() as u64;
            let mut seen = 0;
            for (bucket, count) in counts.iter().enumerate() {
                seen += count;
                if seen >= rank && seen > 0 {
                    return Self::upper(bucket);
                }
            }
            0
        })
    }

    /// The value below which each of the fractions lies, over several histograms together.
    #[must_use]
    pub fn quantiles<const N: usize>(parts: &[&Self], fractions: [f64; N]) -> [u64; N] {
        let mut counts = [0; BUCKETS];
        parts.iter().for_each(|part| part.add_to(&mut counts));
        Self::quantiles_of(&counts, fractions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_values_within_three_percent() {
        let exact = (0..4_096u64).chain((12..63).map(|e| (1u64 << e) + 12_345 % (1 << e)));
        for value in exact {
            let upper = Histogram::upper(Histogram::bucket(value));
            assert!(upper >= value, "{value} above its bucket {upper}");
            assert!(upper - value <= value / 31, "{value} reads as {upper}");
        }
        assert!(Histogram::bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn metr_01_folding_loses_no_value_and_understates_none() {
        let histogram = Histogram::default();
        let values = [0, 9_000, 11_000, 300_000, 20_000_000_000, u64::MAX >> 1];
        values.iter().for_each(|value| histogram.record(*value));
        let folded = histogram.fold();
        assert_eq!(folded.count(), values.len() as u64);
        for ((bound, _), (_, seen)) in super::super::BOUNDS.iter().zip(folded.buckets()) {
            let exact = values.iter().filter(|value| *value <= bound).count() as u64;
            assert_eq!(seen, exact, "at {bound} ns");
        }
        let sum = values.iter().map(|value| *value as f64).sum::<f64>() / 1e9;
        assert!((folded.sum_seconds() - sum).abs() / sum < 1e-9);
    }

    #[test]
    fn quantiles_join_several_shards() {
        let (a, b) = (Histogram::default(), Histogram::default());
        (1..=50).for_each(|v| a.record(v * 1_000));
        (51..=100).for_each(|v| b.record(v * 1_000));
        let [p50, p99] = Histogram::quantiles(&[&a, &b], [0.5, 0.99]);
        assert!((50_000..=51_600).contains(&p50), "{p50}");
        assert!((99_000..=102_200).contains(&p99), "{p99}");
        assert_eq!(Histogram::quantiles(&[&Histogram::default()], [0.5]), [0]);
    }
}
