//! A run in equal stretches of time: what shows a stall that a percentile over the whole run hides,
//! and what tells how much of a difference between two runs is chance.
//!
//! A latency belongs to the stretch in which its request was planned, as a stall is felt by those
//! who wanted to send in it. An answer or a refusal belongs to the stretch in which it came.

use dataplane_core::driver::Time;
use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Most stretches of a run; at least a third of this.
const SLICES_MAX: u64 = 60;
/// Most stretches that a file may have, and most different latencies in one of them.
const READ_MAX: usize = 4_096;
/// Longest latency told apart from longer ones: an hour.
pub(crate) const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// A stretch while it is counted.
#[derive(Clone, Debug)]
struct Counting {
    answered: u64,
    refused: u64,
    latency: Histogram<u64>,
}

/// The counts of a run by stretch; none where nobody asked for them.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    from: Time,
    width: Time,
    slices: Vec<Counting>,
}

impl Recorder {
    /// For requests that are planned from `from` until `to`.
    #[must_use]
    pub fn new(from: Time, to: Time) -> Self {
        let span = to.saturating_sub(from).max(1);
        let width = width(span);
        let slice = || Counting {
            answered: 0,
            refused: 0,
            // Two digits: a stretch is looked at beside others, the run as a whole has three.
            latency: Histogram::new_with_bounds(1, LATENCY_MAX_NS, 2).expect("sound bounds"),
        };
        let slices = (0..span.div_ceil(width)).map(|_| slice()).collect();
        Self { from, width, slices }
    }

    /// A good answer.
    #[inline]
    pub fn answer(&mut self, planned: Time, now: Time) {
        if let Some(slice) = self.slice(now) {
            slice.answered += 1;
        }
        if let Some(slice) = self.slice(planned) {
            slice.latency.saturating_record(now.saturating_sub(planned));
        }
    }

    /// A refusal.
    #[inline]
    pub fn refuse(&mut self, now: Time) {
        if let Some(slice) = self.slice(now) {
            slice.refused += 1;
        }
    }

    #[inline]
    fn slice(&mut self, time: Time) -> Option<&mut Counting> {
        let at = time.checked_sub(self.from)?.checked_div(self.width)?;
        self.slices.get_mut(usize::try_from(at).ok()?)
    }

    /// Adds another thread's counts of the same run.
    pub fn merge(&mut self, other: &Self) {
        if self.slices.is_empty() {
            *self = other.clone();
            return;
        }
        for (sum, one) in self.slices.iter_mut().zip(&other.slices) {
            sum.answered += one.answered;
            sum.refused += one.refused;
            sum.latency.add(&one.latency).expect("equal bounds");
        }
    }

    /// What was counted, as it is kept.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        let slice = |counting: &Counting| Slice {
            answered: counting.answered,
            refused: counting.refused,
            latency_ns: Counts::of(&counting.latency),
        };
        let slices = self.slices.iter().map(slice).collect();
        Timeline { slice_s: self.width as f64 / 1e9, slices }
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that parts the span into no more than are
/// wanted.
fn width(span: Time) -> Time {
    let mut power = 1;
    loop {
        for width in [power, 2 * power, 5 * power] {
            if span.div_ceil(width) <= SLICES_MAX {
                return width;
            }
        }
        power *= 10;
    }
}

/// A run in equal stretches of time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Timeline {
    /// Seconds of each stretch; the last one may be cut short.
    pub slice_s: f64,
    /// The stretches, first to last.
    #[serde(deserialize_with = "bounded")]
    pub slices: Vec<Slice>,
}

/// One stretch of time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Slice {
    /// Good answers that came in it.
    pub answered: u64,
    /// Refusals that came in it.
    pub refused: u64,
    /// Latencies of the requests that were planned in it.
    pub latency_ns: Counts,
}

fn bounded<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Slice>, D::Error> {
    let slices = Vec::<Slice>::deserialize(from)?;
    if slices.len() > READ_MAX {
        return Err(de::Error::custom(format!("over {READ_MAX} slices")));
    }
    Ok(slices)
}

/// How often each latency occurred, in nanoseconds, lowest first. In JSON one text, `10240x5
/// 10304x12`: a run has thousands of these pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<(u64, u64)>);

impl Counts {
    fn of(histogram: &Histogram<u64>) -> Self {
        let seen = histogram.iter_recorded();
        Self(seen.map(|at| (at.value_iterated_to(), at.count_at_value())).collect())
    }

    /// Latencies and how often each occurred.
    #[must_use]
    pub fn pairs(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The latency that this share of them was within, in microseconds.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> Option<f64> {
        let total = self.total();
        let wanted = ((share * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        self.0.iter().find_map(|(ns, count)| {
            seen += count;
            (seen >= wanted).then_some(*ns as f64 / 1e3)
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut pairs: Vec<(u64, u64)> = Vec::new();
        for pair in text.split_ascii_whitespace() {
            let parsed = pair.split_once('x').and_then(|(ns, count)| {
                Some((ns.parse::<u64>().ok()?, count.parse::<u32>().ok()?))
            });
            let Some((ns, count)) = parsed else {
                return Err(format!("`{pair}` is not NANOSECONDSxCOUNT"));
            };
            if pairs.last().is_some_and(|(last, _)| *last >= ns) || ns > 2 * LATENCY_MAX_NS {
                return Err(format!("`{pair}` is out of order or over two hours"));
            }
            if pairs.len() == READ_MAX {
                return Err(format!("over {READ_MAX} different latencies in a slice"));
            }
            pairs.push((ns, count.into()));
        }
        Ok(Self(pairs))
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let pairs: Vec<String> = self.0.iter().map(|(ns, count)| format!("{ns}x{count}")).collect();
        to.serialize_str(&pairs.join(" "))
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Time = 1_000_000;

    #[test]
    fn stretches_are_round_and_neither_few_nor_many() {
        let spans = [1, 300, 1_000, 10_000, 60_000, 600_000, 3_600_000];
        let widths = spans.map(|span| width(span * MS) as f64 / MS as f64);
        assert_eq!(widths, [0.02, 5.0, 20.0, 200.0, 1_000.0, 10_000.0, 100_000.0]);
        for span in spans {
            let count = (span * MS).div_ceil(width(span * MS));
            assert!((SLICES_MAX / 3..=SLICES_MAX).contains(&count), "{span}: {count}");
        }
    }

    #[test]
    fn a_latency_is_felt_where_it_was_planned_and_an_answer_comes_where_it_comes() {
        let mut recorder = Recorder::new(100 * MS, 400 * MS);
        recorder.answer(101 * MS, 112 * MS);
        recorder.answer(399 * MS, 401 * MS);
        recorder.answer(99 * MS, 100 * MS);
        recorder.refuse(100 * MS);
        recorder.refuse(401 * MS);
        let mut sum = Recorder::default();
        sum.merge(&recorder);
        sum.merge(&recorder);
        let line = sum.timeline();
        assert_eq!((line.slice_s, line.slices.len()), (0.005, 60));
        let counts = |at: usize| {
            let slice = &line.slices[at];
            (slice.answered, slice.refused, slice.latency_ns.total())
        };
        assert_eq!([counts(0), counts(2), counts(59)], [(2, 2, 2), (2, 0, 0), (0, 0, 2)]);
        let late = line.slices[0].latency_ns.quantile_us(1.0).expect("one");
        assert!((late / 11_000.0 - 1.0).abs() < 0.01, "{late}");
        // Nobody asked: nothing is kept.
        let mut none = Recorder::default();
        none.answer(5, 6);
        none.refuse(7);
        assert_eq!(none.timeline(), Timeline::default());
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        for bad in
            ["5", "5x", "x5", "5x-1", "5x1 5x1", "9x1 8x1", "1x4294967296", "8000000000000x1"]
        {
            assert!(Counts::read(bad).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..=READ_MAX).map(|ns| format!("{ns}x1")).collect();
        assert!(Counts::read(&many.join(" ")).is_err());
    }

    proptest! {
        #[test]
        fn counts_survive_the_file_and_know_their_quantiles(
            mut seen in prop::collection::vec(1..LATENCY_MAX_NS, 1..200),
            share in 0.0..=1.0f64,
        ) {
            let mut histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 2).expect("sound");
            seen.iter().for_each(|ns| histogram.record(*ns).expect("in bounds"));
            let counts = Counts::of(&histogram);
            let text = serde_json::to_string(&counts).expect("json");
            prop_assert_eq!(&serde_json::from_str::<Counts>(&text).expect("back"), &counts);
            prop_assert_eq!(counts.total(), seen.len() as u64);
            seen.sort_unstable();
            let at = ((share * seen.len() as f64).ceil() as usize).max(1) - 1;
            let (got, exact) = (counts.quantile_us(share).expect("some"), seen[at] as f64 / 1e3);
            prop_assert!((got / exact - 1.0).abs() < 0.01, "{} {}", got, exact);
        }
    }
}
