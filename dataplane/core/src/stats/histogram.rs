//! How long things took, with one writer and any number of readers.

use super::Counter;

const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
const BUCKETS: usize = SUB * (64 - SUB_BITS as usize + 1);

/// A log-linear histogram of nanoseconds: 32 buckets per power of two, so a quantile is at most 3%
/// off. One writer, like [`Counter`].
#[derive(Debug)]
pub struct Histogram(Box<[Counter]>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| Counter::default()).collect())
    }
}

impl Histogram {
    /// Records one value.
    #[inline]
    pub fn record(&self, ns: u64) {
        self.0[Self::bucket(ns)].add(1);
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

    /// The value below which each of the fractions lies, over several histograms together.
    #[must_use]
    pub fn quantiles<const N: usize>(parts: &[&Self], fractions: [f64; N]) -> [u64; N] {
        let at = |b: usize| parts.iter().map(|h| h.0[b].get()).sum::<u64>();
        let total: u64 = (0..BUCKETS).map(at).sum();
        fractions.map(|fraction| {
            let rank = (fraction * total as f64).ceil() as u64;
            let mut seen = 0;
            for bucket in 0..BUCKETS {
                seen += at(bucket);
                if seen >= rank && seen > 0 {
                    return Self::upper(bucket);
                }
            }
            0
        })
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
