//! Drawing runs and stretches of runs with replacement. Neighbouring stretches are alike, so they
//! are drawn in blocks; where a side has several runs, whole runs are drawn first, as runs differ
//! more from each other than parts of one do.

use super::Named;
use crate::timeline::Slice;
use std::collections::BTreeMap;

/// SplitMix64: the same seed, the same draws, on every machine.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// Below `end`; every one as often as the others but for one in 2^64 / `end`.
    pub(super) const fn below(&mut self, end: usize) -> usize {
        ((self.next() as u128 * end as u128) >> 64) as usize
    }
}

/// The figures of a draw: rate, then quantiles of the latency in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Drawn {
    pub(super) values: [Option<f64>; Self::NAMES.len()],
}

impl Drawn {
    pub(super) const NAMES: [&str; 5] = ["rate", "p50", "p90", "p99", "p999"];
    const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];
}

/// A stretch, with its latencies by class.
#[derive(Clone, Debug)]
struct Stretch {
    answered: u64,
    seconds: f64,
    latency: Vec<(u32, u32)>,
}

/// All stretches of one side, run by run.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// Classes of latency, microseconds, rising.
    classes: Vec<f64>,
    runs: Vec<Vec<Stretch>>,
}

impl Pool {
    pub(super) fn of(runs: &[Named]) -> Self {
        let mut classes = BTreeMap::new();
        for slice in runs.iter().flat_map(|named| &named.run.timeline.slices) {
            slice.latency_ns.pairs().iter().for_each(|(ns, _)| _ = classes.insert(*ns, 0_u32));
        }
        classes.values_mut().zip(0..).for_each(|(at, n)| *at = n);
        let stretches = |named: &Named| {
            let (line, asked) = (&named.run.timeline, &named.run.report.load);
            let stretch = |(at, slice): (usize, &Slice)| {
                // The last one may be cut short by the end of the run.
                let left = asked.duration_s - at as f64 * line.slice_s;
                let seconds = left.min(line.slice_s).max(1e-9);
                let pairs = slice.latency_ns.pairs().iter();
                let latency = pairs
                    .map(|(ns, count)| (classes[ns], u32::try_from(*count).unwrap_or(u32::MAX)));
                Stretch { answered: slice.answered, seconds, latency: latency.collect() }
            };
            line.slices.iter().enumerate().map(stretch).collect::<Vec<_>>()
        };
        let runs = runs.iter().map(stretches).filter(|run| !run.is_empty()).collect();
        Self { runs, classes: classes.into_keys().map(|ns| ns as f64 / 1e3).collect() }
    }

    /// Stretches with answers.
    pub(super) fn len(&self) -> usize {
        self.runs.iter().flatten().filter(|stretch| !stretch.latency.is_empty()).count()
    }

    /// Every stretch once.
    pub(super) fn as_it_is(&self) -> Drawn {
        self.figures(self.runs.iter().flatten())
    }

    /// As many runs and stretches as there are, drawn with replacement.
    pub(super) fn draw(&self, rng: &mut Rng) -> Drawn {
        let mut drawn = Vec::new();
        for _ in 0..self.runs.len() {
            let run = &self.runs[rng.below(self.runs.len())];
            // The cube root of the count, as is usual where nothing is known of how neighbours
            // depend on each other.
            let block = (run.len() as f64).cbrt().ceil() as usize;
            let mut left = run.len();
            while left > 0 {
                let from = rng.below(run.len());
                let count = block.min(left);
                drawn.extend((from..from + count).map(|at| &run[at % run.len()]));
                left -= count;
            }
        }
        self.figures(drawn)
    }

    /// Latency by share of the answers, as far as ten of them are beyond.
    pub(super) fn curve(&self) -> Vec<(f64, f64)> {
        let counts = self.counts(self.runs.iter().flatten());
        let total: u64 = counts.iter().sum();
        let shares = (0..=40).map(|n| 1.0 - 0.75_f64.powi(n));
        let known = shares.take_while(|share| (1.0 - share) * total as f64 >= 10.0);
        known.filter_map(|share| Some((share, self.quantile(&counts, total, share)?))).collect()
    }

    fn counts<'a>(&self, stretches: impl IntoIterator<Item = &'a Stretch>) -> Vec<u64> {
        let mut counts = vec![0_u64; self.classes.len()];
        for (class, n) in stretches.into_iter().flat_map(|stretch| &stretch.latency) {
            counts[*class as usize] += u64::from(*n);
        }
        counts
    }

    fn quantile(&self, counts: &[u64], total: u64, share: f64) -> Option<f64> {
        let wanted = ((share * total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        self.classes.get(at).copied()
    }

    fn figures<'a>(&self, stretches: impl IntoIterator<Item = &'a Stretch> + Clone) -> Drawn {
        let (mut answered, mut seconds) = (0, 0.0);
        for stretch in stretches.clone() {
            answered += stretch.answered;
            seconds += stretch.seconds;
        }
        let rate = (seconds > 0.0).then(|| answered as f64 / seconds);
        let counts = self.counts(stretches);
        let total: u64 = counts.iter().sum();
        let [p50, p90, p99, p999] = Drawn::SHARES.map(|share| self.quantile(&counts, total, share));
        Drawn { values: [rate, p50, p90, p99, p999] }
    }
}
