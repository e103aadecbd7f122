//! Histograms of durations as reports carry them (W73 of `FORMAT.md`): each power of two of
//! nanoseconds is cut into 64 bins.

use crate::mesh::BINS_MAX;

/// log2 of the shortest duration that is told from none, nanoseconds.
const LOW: u32 = 9;
/// log2 of the bins in a power of two.
const CUT: u32 = 6;

/// The bin of a duration in nanoseconds.
#[must_use]
pub const fn bin_of(ns: u64) -> u16 {
    if ns < 1 << LOW {
        return 0;
    }
    let power = ns.ilog2();
    let part = (ns >> (power - CUT)) as u32 - (1 << CUT);
    let bin = ((power - LOW) << CUT) + part;
    if bin < BINS_MAX as u32 { bin as u16 } else { BINS_MAX as u16 - 1 }
}

/// The duration in the middle of a bin, nanoseconds; of the last one for bins beyond.
#[must_use]
pub const fn bin_middle(bin: u16) -> u64 {
    let bin = if (bin as usize) < BINS_MAX { bin as u32 } else { BINS_MAX as u32 - 1 };
    let power = LOW + (bin >> CUT);
    let part = (bin & ((1 << CUT) - 1)) as u64;
    let width = 1_u64 << (power - CUT);
    (1 << power) + part * width + width / 2
}

/// The first of the eight bins that this one lies among: where an eighth of a power of two is fine
/// enough.
#[must_use]
pub const fn coarse(bin: u16) -> u16 {
    bin & !7
}

/// The shortest duration of a bin, nanoseconds; of bin 0, none.
#[must_use]
pub const fn bin_start(bin: u16) -> u64 {
    if bin == 0 {
        return 0;
    }
    let bin = if (bin as usize) < BINS_MAX { bin as u32 } else { BINS_MAX as u32 - 1 };
    let power = LOW + (bin >> CUT);
    (1 << power) + (((bin & ((1 << CUT) - 1)) as u64) << (power - CUT))
}

/// The duration, nanoseconds, that a share `q` (0 to 1) of all is at or below, within 1 %, of bins
/// in rising order. None: nothing was counted.
#[must_use]
pub fn quantile(bins: &[(u16, u64)], q: f64) -> Option<u64> {
    let total: u64 = bins.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
    if total == 0 {
        return None;
    }
    let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total);
    let mut below = 0_u64;
    bins.iter()
        .find(|(_, count)| {
            below = below.saturating_add(*count);
            below >= rank
        })
        .map(|(bin, _)| bin_middle(*bin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// W73 as it is written.
    fn bin_by_definition(ns: u64) -> u64 {
        let Some(p) = (9..=41).find(|p| (1 << p) <= ns && ns < 1 << (p + 1)) else {
            return if ns < 512 { 0 } else { 2_112 };
        };
        (p - 9) * 64 + ns / (1 << (p - 6)) - 64
    }

    proptest! {
        #[test]
        fn bins_are_those_of_the_definition(shift in 0..64_u32, low: u64) {
            let ns = low >> shift;
            prop_assert_eq!(u64::from(bin_of(ns)), bin_by_definition(ns));
            if (1_000..1 << 42).contains(&ns) {
                prop_assert!(bin_middle(bin_of(ns)).abs_diff(ns) * 100 <= ns);
            }
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_values(
            mut values in proptest::collection::vec(1_000..1_u64 << 41, 1..200),
            q in 0.0..=1.0_f64,
        ) {
            values.sort_unstable();
            let bins: Vec<(u16, u64)> = values.iter().map(|ns| (bin_of(*ns), 1)).collect();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let (exact, got) = (values[rank - 1], quantile(&bins, q).expect("values"));
            prop_assert!(got.abs_diff(exact) * 100 <= exact, "{exact} {got}");
        }
    }

    #[test]
    fn w97_a_coarse_bin_holds_eight_and_begins_where_its_first_does() {
        for bin in 1..BINS_MAX as u16 {
            assert_eq!(bin_of(bin_start(bin)), bin, "the start lies inside");
            assert_eq!(bin_of(bin_start(bin) - 1), bin - 1, "what is shorter lies before");
            let first = coarse(bin);
            assert!(first <= bin && bin - first < 8 && first.is_multiple_of(8));
        }
        assert_eq!((bin_start(0), coarse(7), coarse(8)), (0, 0, 8));
        assert_eq!(bin_start(u16::MAX), bin_start(2_112));
    }

    #[test]
    fn nothing_counted_has_no_quantile_and_no_bin_is_too_far() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(3, 0)], 0.5), None);
        assert_eq!(quantile(&[(1, u64::MAX), (2, u64::MAX)], 1.0), Some(bin_middle(1)));
        assert_eq!(bin_middle(u16::MAX), bin_middle(2_112));
        assert_eq!(bin_of(u64::MAX), 2_112);
    }
}
