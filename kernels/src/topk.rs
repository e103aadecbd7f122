//! The k best entries of a row and its normaliser, in one call.
//!
//! # Which entries
//! Value descending, then index ascending. -0 equals +0 and is returned as +0. NaN is never chosen
//! and sets [`flags::NAN`]. -inf is a value like any other. With fewer than k entries that are
//! not NaN, `count` says how many there are and [`flags::FEWER_THAN_K`] is set; the places beyond
//! `count` keep what they held.
//!
//! # The normaliser
//! `max` is the largest entry and `log_sum = ln(sum of exp(x - max))`, so that
//! `x - max - log_sum` is a log-probability and `max + log_sum` the usual logsumexp. Exactly:
//!
//! - the *anchor* a is 0 if max lies in -48..=48, else max: with a = 0 no term overflows and none
//!   that matters is lost, and a row can be summed before its maximum is known;
//! - entry i adds e(x_i - a) to lane i mod 4096, in order of i, by f32 addition from +0, where e is
//!   the polynomial of `exp.rs`. NaN counts as -inf, and a term is never less than exp(-86), which
//!   is 4.5e-38 and nothing beside the sum;
//! - the lanes are folded: lane j += lane j + 2048 for j < 2048, then 1024, and so on down to 1;
//! - `log_sum` is `ln(s) + (a - max)` in f64 by the series of `exp.rs`, rounded to f32.
//!
//! If max is infinite ([`flags::INFINITY`]), each entry equal to it counts 1 and every other 0:
//! `log_sum` is the logarithm of their number. A row without any valid entry has max and log_sum
//! -inf.
//!
//! # How
//! One pass keeps the largest entry of up to 4,096 groups and sums the exponentials. At least k
//! groups reach their k-th largest maximum, so at least k entries do: it bounds the answer from
//! below. A second pass looks only into groups that reach the bound, and collects about k entries
//! in index order. If more come than there is room for (ties, clusters), the k best so far are kept
//! and from then on an entry must be strictly better than the worst of them, as a later equal one
//! would lose: this keeps every input linear. The passes are in `topk/normal.rs` and
//! `topk/select.rs`.

mod normal;
mod select;

use self::select::{Best, ROOM};
use crate::cpu::Level;
use crate::flags;
use crate::row::{AsBf16, AsF16, AsF32, Entries, Format, Row};
use crate::simd::{self, Op, Simd, WIDTH};

/// The largest k.
pub const MAX_K: usize = 1024;

/// Entries that are looked at together.
const BLOCK: usize = 4 * WIDTH;
/// Lanes of the sum, in blocks: 4,096 lanes.
const LANES: usize = 4096 / BLOCK;
/// Groups of entries, in vectors: 4,096 groups.
const GROUPS: usize = 4096 / WIDTH;

/// What a row gave besides its entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowSummary {
    /// Number of entries written: k, or fewer if the row has fewer that are not NaN.
    pub count: u32,
    /// The largest entry, -inf if there is none.
    pub max: f32,
    /// `ln(sum of exp(x - max))`, in nats.
    pub log_sum: f32,
    /// [`flags::NAN`], [`flags::FEWER_THAN_K`], [`flags::INFINITY`].
    pub flags: u8,
}

/// The scratch of top-k: 64 KiB, allocated once, used for any number of rows.
#[derive(Debug)]
pub struct TopK {
    level: Level,
    scratch: Box<Scratch>,
}

#[derive(Debug)]
struct Scratch {
    lanes: [[f32; BLOCK]; LANES],
    maxima: [[f32; WIDTH]; GROUPS],
    /// Entries as `pack` makes them, so that the smallest is the best.
    keys: [u64; ROOM],
}

impl Default for TopK {
    fn default() -> Self {
        Self::new()
    }
}

impl TopK {
    /// Scratch for the highest level of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::with_level(Level::detect())
    }

    /// Scratch for `level`, or the highest level of this machine if that is lower.
    #[must_use]
    pub fn with_level(level: Level) -> Self {
        let scratch = Scratch {
            lanes: [[0.0; BLOCK]; LANES],
            maxima: [[0.0; WIDTH]; GROUPS],
            keys: [0; ROOM],
        };
        Self { level: level.min(Level::detect()), scratch: Box::new(scratch) }
    }

    /// The level that rows are computed at.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Writes the k best entries of `row` into `indices` and `values`, best first.
    ///
    /// `k` is lowered to [`MAX_K`] and to the room in `indices` and `values`; an answer of fewer
    /// than the `k` asked for is flagged. A row has at most 2^32 entries; further ones are ignored.
    pub fn run(
        &mut self,
        row: Row<'_>,
        k: usize,
        indices: &mut [u32],
        values: &mut [f32],
    ) -> RowSummary {
        let room = k.min(MAX_K).min(indices.len()).min(values.len());
        let scratch = &mut *self.scratch;
        let find = Find { scratch, entries: row.entries(), k: room };
        let Found { count, nan, max, log_sum } = simd::dispatch(self.level, find);
        let best = scratch.keys[..count].iter();
        for ((key, index), value) in best.zip(indices).zip(values) {
            (*index, *value) = select::unpack(*key);
        }
        let mut seen = 0;
        for (flag, is_set) in [
            (flags::NAN, nan),
            (flags::FEWER_THAN_K, count < k),
            (flags::INFINITY, max.is_infinite() && !row.is_empty()),
        ] {
            seen |= if is_set { flag } else { 0 };
        }
        RowSummary { count: count as u32, max, log_sum, flags: seen }
    }
}

struct Find<'a, 'b> {
    scratch: &'b mut Scratch,
    entries: Entries<'a>,
    k: usize,
}

struct Found {
    count: usize,
    nan: bool,
    max: f32,
    log_sum: f32,
}

impl Op for Find<'_, '_> {
    type Output = Found;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Found {
        match self.entries {
            Entries::F32(entries) => find::<S, AsF32>(s, entries, self.k, self.scratch),
            Entries::F16(entries) => find::<S, AsF16>(s, entries, self.k, self.scratch),
            Entries::Bf16(entries) => find::<S, AsBf16>(s, entries, self.k, self.scratch),
        }
    }
}

#[inline(always)]
fn find<S: Simd, T: Format>(s: S, entries: &[T::Bytes], k: usize, scratch: &mut Scratch) -> Found {
    let entries = &entries[..entries.len().min(u32::MAX as usize)];
    let grouping = Grouping::of(entries.len());
    normal::scan::<S, T>(s, entries, grouping, scratch);
    let maxima = &scratch.maxima[..grouping.groups];
    let max = select::largest(s, maxima);
    let (log_sum, nan) = normal::normalise::<S, T>(s, entries, max, &mut scratch.lanes);
    let bound = select::bound(s, maxima, k, max);
    let mut best = Best::new(k, bound, &mut scratch.keys);
    if k > 0 {
        select::collect::<S, T>(s, entries, grouping, maxima, &mut best);
    }
    Found { count: best.finish(), nan, max, log_sum }
}

/// How a row is cut: group g * 16 + l holds lane l of the vectors of `size` consecutive blocks
/// from block g * `size` on.
#[derive(Clone, Copy)]
struct Grouping {
    size: usize,
    groups: usize,
}

impl Grouping {
    const fn of(entries: usize) -> Self {
        let blocks = entries.div_ceil(BLOCK);
        let size = if blocks <= GROUPS { 1 } else { blocks.div_ceil(GROUPS) };
        Self { size, groups: blocks.div_ceil(size) }
    }
}
