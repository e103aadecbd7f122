//! One top-k set from several: a mixture of distributions of which only the best entries are known.
//!
//! The mixture of rows with weights w (made to sum to 1) has at index i the probability
//! `P(i) = sum over rows of w * p(i)`. Of a row's distribution p its set tells
//!
//! - p(i) of each kept entry, by its value and the normaliser;
//! - the *tail* t = 1 - sum of the kept p(i), which all other indices share;
//! - that none of them has more than `u = min(t, the smallest kept p)`, because the set holds the
//!   best;
//! - that none has less than `l = max(0, t - (columns - kept - 1) * u)`, because the others cannot
//!   take more than u each.
//!
//! So for every index, in a set or in none,
//!
//! ```text
//! sum of w * (p(i) or l)  <=  P(i)  <=  sum of w * (p(i) or u)
//! ```
//!
//! A kept entry is *estimated* by crediting a row that lacks it with the middle of what is
//! possible, `(l + u) / 2`, or with an equal share of that row's tail where the union of all sets
//! is so large that the middle would give away more than the tail. The estimates of the union never
//! sum to more than 1, and each is within `max(P - low, high - P)` of the truth.
//!
//! What lies outside the answer has together at least `1 - sum of high` and at most `1 - sum of
//! low` (and at least 0), and no index of it has more than [`Merged::others`].
//!
//! The bounds hold for values and normalisers as given. A normaliser is rounded to f32, which moves
//! probabilities by about one part in a million; values that went through a coarse coding move them
//! by what that coding says.
//!
//! Arithmetic is f64 in one fixed order by `probability`, so every machine gives the same bits.

use std::cmp::Ordering;

use crate::probability;

/// One row's set and how much it counts.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Above 0 and finite; only the proportions between sources matter.
    pub weight: f32,
    /// The best entries of the row, each once, in any order.
    pub indices: &'a [u32],
    /// Their values.
    pub values: &'a [f32],
    /// The row's largest entry.
    pub max: f32,
    /// `ln(sum of exp(x - max))` over the whole row.
    pub log_sum: f32,
}

/// An entry of the mixture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Its place in the row.
    pub index: u32,
    /// The logarithm of its estimated probability, nats.
    pub log_probability: f32,
    /// It has at least this probability,
    pub low: f32,
    /// and at most this.
    pub high: f32,
}

/// A probability that is not known exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded {
    /// At least this.
    pub low: f64,
    /// The estimate.
    pub estimate: f64,
    /// At most this.
    pub high: f64,
}

/// What a merge gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Merged<'a> {
    /// The best entries of the union, by log-probability descending, then by index.
    pub entries: &'a [Entry],
    /// All that is not in `entries`, together.
    pub tail: Bounded,
    /// No index outside `entries` has more than this.
    pub others: f64,
    /// Sources that had a distribution. Rows without a valid entry have none, and do not count.
    pub sources: usize,
}

/// Why sets cannot be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MergeError {
    /// A weight is not finite or not above 0.
    Weight,
    /// An index is not below the number of columns, or comes twice in a source.
    Index,
    /// A source has not as many values as indices, or a value, maximum or normaliser is NaN, or a
    /// value is above the maximum.
    Values,
    /// No source has a distribution.
    Nothing,
}

impl std::fmt::Display for MergeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Weight => "a weight is not finite or not above 0",
            Self::Index => "an index is too large or comes twice",
            Self::Values => "values do not fit their indices or their maximum",
            Self::Nothing => "no source has a valid entry",
        })
    }
}

impl std::error::Error for MergeError {}

/// Merges sets; keeps its memory between calls.
#[derive(Clone, Debug, Default)]
pub struct Merge {
    known: Vec<Known>,
    rests: Vec<Rest>,
    entries: Vec<Entry>,
    mixed: Vec<(f32, u32, Bounded)>,
}

/// A kept entry of a source.
#[derive(Clone, Copy, Debug)]
struct Known {
    index: u32,
    source: u32,
    p: f64,
}

/// What a source's set says of an index that it lacks.
#[derive(Clone, Copy, Debug)]
struct Rest {
    weight: f64,
    kept: usize,
    tail: f64,
    credit: Bounded,
}

impl Merge {
    /// Takes no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The `k` best entries of the mixture of `sources`, whose rows all have `columns` entries.
    ///
    /// # Errors
    /// A [`MergeError`].
    pub fn run(
        &mut self,
        sources: &[Source<'_>],
        columns: u32,
        k: usize,
    ) -> Result<Merged<'_>, MergeError> {
        self.collect(sources, columns)?;
        self.known.sort_unstable_by_key(|known| (known.index, known.source));
        if self.known.windows(2).any(|w| (w[0].index, w[0].source) == (w[1].index, w[1].source)) {
            return Err(MergeError::Index);
        }
        let union = self.known.chunk_by(|a, b| a.index == b.index).count();
        for rest in &mut self.rests {
            let lacking = union - rest.kept;
            let middle = f64::midpoint(rest.credit.low, rest.credit.high);
            let share = if lacking > 0 { rest.tail / lacking as f64 } else { 0.0 };
            rest.credit.estimate = middle.min(share);
        }
        let none = self.rests.iter().fold(NOTHING, |sum, rest| sum.plus(rest.weight, &rest.credit));
        self.mixed.clear();
        for group in self.known.chunk_by(|a, b| a.index == b.index) {
            let mixed = mix(group, &self.rests);
            let log_probability = probability::ln(mixed.estimate) as f32;
            self.mixed.push((log_probability, group[0].index, mixed));
        }
        self.mixed.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Ok(self.answer(k, none.high))
    }

    /// Fills `known` and `rests`.
    fn collect(&mut self, sources: &[Source<'_>], columns: u32) -> Result<(), MergeError> {
        self.known.clear();
        self.rests.clear();
        let mut total = 0.0;
        for source in sources {
            if !source.weight.is_finite() || source.weight <= 0.0 {
                return Err(MergeError::Weight);
            }
            let (max, log_sum) = (source.max, source.log_sum);
            let sound = source.values.iter().all(|value| *value <= max) && !log_sum.is_nan();
            if source.indices.len() != source.values.len() || max.is_nan() || !sound {
                return Err(MergeError::Values);
            }
            if source.indices.iter().any(|index| *index >= columns) {
                return Err(MergeError::Index);
            }
            // A row without valid entries, and one whose normaliser leaves nothing to anyone.
            if !log_sum.is_finite() {
                continue;
            }
            let (mut sum, mut smallest) = (0.0, 1.0_f64);
            let number = self.rests.len() as u32;
            for (index, value) in source.indices.iter().zip(source.values) {
                let p = probability::of(*value, max, log_sum);
                sum += p;
                smallest = smallest.min(p);
                self.known.push(Known { index: *index, source: number, p });
            }
            let kept = source.indices.len();
            let others = (columns as usize).saturating_sub(kept);
            let tail = if others == 0 { 0.0 } else { (1.0 - sum).max(0.0) };
            let high = tail.min(smallest);
            let low = (tail - others.saturating_sub(1) as f64 * high).clamp(0.0, high);
            let credit = Bounded { low, estimate: 0.0, high };
            let weight = f64::from(source.weight);
            total += weight;
            self.rests.push(Rest { weight, kept, tail, credit });
        }
        if self.rests.is_empty() {
            return Err(MergeError::Nothing);
        }
        self.rests.iter_mut().for_each(|rest| rest.weight /= total);
        Ok(())
    }

    /// The first `k` of the mixture as entries. An index in no set has at most `none`.
    fn answer(&mut self, k: usize, none: f64) -> Merged<'_> {
        self.entries.clear();
        let mut inside = NOTHING;
        let mut others = none;
        for (place, (log_probability, index, mixed)) in self.mixed.iter().enumerate() {
            if place >= k {
                others = others.max(mixed.high);
                continue;
            }
            inside = inside.plus(1.0, mixed);
            self.entries.push(Entry {
                index: *index,
                log_probability: *log_probability,
                low: rounded(mixed.low, Ordering::Less),
                high: rounded(mixed.high, Ordering::Greater),
            });
        }
        let tail = Bounded {
            low: (1.0 - inside.high).max(0.0),
            estimate: (1.0 - inside.estimate).max(0.0),
            high: (1.0 - inside.low).clamp(0.0, 1.0),
        };
        let others = others.min(tail.high);
        Merged { entries: &self.entries, tail, others, sources: self.rests.len() }
    }
}

const NOTHING: Bounded = Bounded { low: 0.0, estimate: 0.0, high: 0.0 };

impl Bounded {
    fn plus(self, weight: f64, other: &Self) -> Self {
        Self {
            low: self.low + weight * other.low,
            estimate: self.estimate + weight * other.estimate,
            high: self.high + weight * other.high,
        }
    }
}

/// The mixture at one index: `group` holds the sources that kept it, in order.
fn mix(group: &[Known], rests: &[Rest]) -> Bounded {
    let mut group = group.iter().peekable();
    let mut sum = NOTHING;
    for (number, rest) in rests.iter().enumerate() {
        let known = group.next_if(|known| known.source as usize == number);
        let credit = known.map_or(rest.credit, |Known { p, .. }| Bounded {
            low: *p,
            estimate: *p,
            high: *p,
        });
        sum = sum.plus(rest.weight, &credit);
    }
    sum
}

/// A bound as f32, rounded to the given side.
fn rounded(x: f64, side: Ordering) -> f32 {
    let near = x as f32;
    match (side, f64::from(near).total_cmp(&x)) {
        (Ordering::Less, Ordering::Greater) => near.next_down(),
        (Ordering::Greater, Ordering::Less) => near.next_up(),
        _ => near,
    }
}
