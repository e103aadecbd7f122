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
//! would lose: this keeps every input linear.

use std::ops::RangeInclusive;

use crate::cpu::Level;
use crate::exp;
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
/// Room for entries that reach the bound. Well above `MAX_K`, so that making room is rare.
const ROOM: usize = 4096;
/// Blocks between the one asked for and the one computed.
const AHEAD: usize = 16;
/// Bytes of a cache line.
const LINE: usize = 64;
/// The anchor is 0 for maxima in this range.
const UNANCHORED: RangeInclusive<f32> = -48.0..=48.0;

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
            (*index, *value) = unpack(*key);
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

/// A key that is smaller for larger values and, among equal ones, for smaller indices.
#[inline(always)]
fn pack(value: f32, index: u32) -> u64 {
    u64::from(!order(value)) << 32 | u64::from(index)
}

/// The index and the value of a key.
#[inline(always)]
fn unpack(key: u64) -> (u32, f32) {
    (key as u32, value_at(!(key >> 32) as u32))
}

/// An integer that orders like `value`, which is not NaN.
#[inline(always)]
fn order(value: f32) -> u32 {
    // Adding +0 makes -0 the same as +0.
    let bits = (value + 0.0).to_bits();
    let negative = (bits.cast_signed() >> 31).cast_unsigned();
    bits ^ (negative | 0x8000_0000)
}

/// The inverse of [`order`].
#[inline(always)]
const fn value_at(order: u32) -> f32 {
    let positive = (order.cast_signed() >> 31).cast_unsigned();
    f32::from_bits(order ^ (!positive | 0x8000_0000))
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
    scan::<S, T>(s, entries, grouping, scratch);
    let maxima = &scratch.maxima[..grouping.groups];
    let max = largest(s, maxima);
    let (log_sum, nan) = normalise::<S, T>(s, entries, max, &mut scratch.lanes);
    let bound = bound(s, maxima, k, max);
    let mut best = Best { k, bound, len: 0, keys: &mut scratch.keys };
    if k > 0 {
        collect::<S, T>(s, entries, grouping, maxima, &mut best);
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

/// Fills the maxima of all groups, and the lanes with anchor 0. NaN reaches the lanes.
#[inline(always)]
fn scan<S: Simd, T: Format>(s: S, entries: &[T::Bytes], grouping: Grouping, scratch: &mut Scratch) {
    scratch.lanes.fill([0.0; BLOCK]);
    let (blocks, tail) = entries.as_chunks::<BLOCK>();
    let lowest = s.splat(f32::NEG_INFINITY);
    // Arithmetic fills the processor's window long before the next cache misses come into view.
    let mut ahead = blocks.get(AHEAD..).unwrap_or_default().iter();
    let mut lane = 0;
    for (group, maximum) in blocks.chunks(grouping.size).zip(&mut scratch.maxima) {
        let mut top = lowest;
        for block in group {
            if let Some(block) = ahead.next() {
                for line in block.chunks(LINE / size_of::<T::Bytes>()) {
                    s.prefetch(&line[0]);
                }
            }
            let x = T::load_block(s, block);
            top = highest(s, x, top);
            add(s, exp::exp_block(s, x), &mut scratch.lanes[lane % LANES]);
            lane += 1;
        }
        s.store(top, maximum);
    }
    if !tail.is_empty() {
        let x = T::load_block(s, &T::pad(tail, T::LOWEST));
        add_first::<S, T>(s, exp::exp_block(s, x), tail.len(), &mut scratch.lanes[lane % LANES]);
        // The tail's group may have been started by whole blocks.
        let started = !blocks.len().is_multiple_of(grouping.size);
        let maximum = &mut scratch.maxima[grouping.groups - 1];
        let top = if started { s.load(maximum) } else { lowest };
        s.store(highest(s, x, top), maximum);
    }
}

/// The largest in each lane, of `top` and a block; NaN is passed over.
#[inline(always)]
fn highest<S: Simd>(s: S, [a, b, c, d]: [S::F; 4], top: S::F) -> S::F {
    s.max(a, s.max(b, s.max(c, s.max(d, top))))
}

#[inline(always)]
fn load<S: Simd>(s: S, from: &[f32; BLOCK]) -> [S::F; 4] {
    let mut to = [s.splat(0.0); 4];
    for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
        *to = s.load(from);
    }
    to
}

#[inline(always)]
fn add<S: Simd>(s: S, terms: [S::F; 4], sums: &mut [f32; BLOCK]) {
    for (sum, term) in sums.as_chunks_mut().0.iter_mut().zip(terms) {
        s.store(s.add(s.load(sum), term), sum);
    }
}

/// Adds the terms of the first `count` entries of a block.
#[inline(always)]
fn add_first<S: Simd, T: Format>(s: S, terms: [S::F; 4], count: usize, sums: &mut [f32; BLOCK]) {
    let mut padded = [0.0; BLOCK];
    add(s, terms, &mut padded);
    for (place, (sum, term)) in sums.iter_mut().zip(padded).enumerate() {
        if T::entry_at(place) < count {
            *sum += term;
        }
    }
}

/// `log_sum` from lanes that `scan` filled; whether there is a NaN.
#[inline(always)]
fn normalise<S: Simd, T: Format>(
    s: S,
    entries: &[T::Bytes],
    max: f32,
    lanes: &mut [[f32; BLOCK]; LANES],
) -> (f32, bool) {
    if max.is_infinite() {
        let (mut equal, mut nan) = (0_u32, false);
        for entry in entries {
            let x = T::widen(*entry);
            equal += u32::from(x == max);
            nan |= x.is_nan();
        }
        return (exp::ln(f64::from(equal)) as f32, nan);
    }
    let anchor = if UNANCHORED.contains(&max) { 0.0 } else { max };
    let mut sum = fold::<S, T>(s, lanes);
    let mut nan = false;
    if anchor != 0.0 || sum.is_nan() {
        nan = sum_again::<S, T>(s, entries, anchor, lanes);
        sum = fold::<S, T>(s, lanes);
    }
    ((exp::ln(f64::from(sum)) + (f64::from(anchor) - f64::from(max))) as f32, nan)
}

/// Fills the lanes with any anchor, NaN as -inf; tells whether there is a NaN.
#[inline(always)]
fn sum_again<S: Simd, T: Format>(
    s: S,
    entries: &[T::Bytes],
    anchor: f32,
    lanes: &mut [[f32; BLOCK]; LANES],
) -> bool {
    lanes.fill([0.0; BLOCK]);
    let (anchor, lowest) = (s.splat(anchor), s.splat(f32::NEG_INFINITY));
    let mut nan = s.is_nan(lowest);
    let (blocks, tail) = entries.as_chunks::<BLOCK>();
    let padded = T::pad(tail, T::LOWEST);
    for (place, block) in blocks.iter().chain([&padded]).enumerate() {
        let mut d = T::load_block(s, block);
        for d in &mut d {
            *d = s.sub(*d, anchor);
            nan = s.or(nan, s.is_nan(*d));
            *d = s.max(*d, lowest);
        }
        let (terms, sums) = (exp::exp_block(s, d), &mut lanes[place % LANES]);
        if place < blocks.len() {
            add(s, terms, sums);
        } else {
            add_first::<S, T>(s, terms, tail.len(), sums);
        }
    }
    s.bits(nan) != 0
}

/// Folds the lanes onto the first.
#[inline(always)]
fn fold<S: Simd, T: Format>(s: S, lanes: &mut [[f32; BLOCK]; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            add(s, load(s, high), low);
        }
        half /= 2;
    }
    let mut last = [0.0; BLOCK];
    for (place, sum) in lanes[0].iter().enumerate() {
        last[T::entry_at(place)] = *sum;
    }
    let [a, b, c, d] = load(s, &last);
    s.sum(s.add(s.add(a, c), s.add(b, d)))
}

/// The largest of all maxima, +0 rather than -0.
#[inline(always)]
fn largest<S: Simd>(s: S, maxima: &[[f32; WIDTH]]) -> f32 {
    let mut top = s.splat(f32::NEG_INFINITY);
    for maximum in maxima {
        top = s.max(s.load(maximum), top);
    }
    s.largest(top) + 0.0
}

/// A value that at least `k` entries reach and, ties aside, not many more; -inf if there is none.
#[inline(always)]
fn bound<S: Simd>(s: S, maxima: &[[f32; WIDTH]], k: usize, max: f32) -> f32 {
    /// Halvings of the value range before those of the bit range, which always end.
    const BY_VALUE: usize = 12;
    // Invariant: at least k reach `low`, or it is -inf; fewer than k reach `high`.
    let (mut low, mut high) = (f32::NEG_INFINITY, max);
    if reaching(s, maxima, high) >= k {
        return high;
    }
    let mut steps = 0;
    loop {
        let (below, above) = (order(low), order(high));
        if above - below <= 1 {
            return low;
        }
        let by_value = low.midpoint(high);
        let middle = if steps < BY_VALUE && low < by_value && by_value < high {
            by_value
        } else {
            value_at(below + (above - below) / 2)
        };
        let reached = reaching(s, maxima, middle);
        if reached < k {
            high = middle;
        } else if reached <= k + k / 8 + WIDTH {
            return middle;
        } else {
            low = middle;
        }
        steps += 1;
    }
}

/// Number of groups that reach `bound`.
#[inline(always)]
fn reaching<S: Simd>(s: S, maxima: &[[f32; WIDTH]], bound: f32) -> usize {
    let bound = s.splat(bound);
    let mut reached = 0;
    for maximum in maxima {
        reached += s.bits(s.at_least(s.load(maximum), bound)).count_ones();
    }
    reached as usize
}

/// The best entries so far.
struct Best<'a> {
    k: usize,
    /// What an entry must reach to be taken; NaN when none can.
    bound: f32,
    len: usize,
    keys: &'a mut [u64; ROOM],
}

impl Best<'_> {
    /// Keeps the k best, and asks of later entries to be better than all but those.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        let (_, worst, _) = self.keys[..self.len].select_nth_unstable(self.k - 1);
        let (_, value) = unpack(*worst);
        self.bound = if value == f32::INFINITY { f32::NAN } else { value.next_up() };
        self.len = self.k;
    }

    /// Sorts; gives the number of entries found.
    fn finish(&mut self) -> usize {
        let count = self.len.min(self.k);
        if self.len > 2 * self.k && self.k > 0 {
            self.keys[..self.len].select_nth_unstable(self.k - 1);
            self.len = self.k;
        }
        self.keys[..self.len].sort_unstable();
        count
    }

    /// Takes the entries of a block that `reached` has a bit for.
    #[inline(always)]
    fn take<T: Format>(&mut self, block: &[T::Bytes; BLOCK], first: usize, mut reached: u64) {
        while reached != 0 {
            let place = reached.trailing_zeros() as usize % BLOCK;
            reached &= reached - 1;
            let key = pack(T::widen(block[place]), (first + place) as u32);
            self.keys[self.len % ROOM] = key;
            self.len += 1;
        }
        if self.len > ROOM - BLOCK {
            self.make_room();
        }
    }
}

/// Takes every entry that reaches the bound, in order of index.
#[inline(always)]
fn collect<S: Simd, T: Format>(
    s: S,
    entries: &[T::Bytes],
    grouping: Grouping,
    maxima: &[[f32; WIDTH]],
    best: &mut Best<'_>,
) {
    let groups = entries.chunks(grouping.size * BLOCK).zip(maxima).enumerate();
    for (number, (group, maximum)) in groups {
        if s.bits(s.at_least(s.load(maximum), s.splat(best.bound))) == 0 {
            continue;
        }
        let mut first = number * grouping.size * BLOCK;
        let (blocks, tail) = group.as_chunks::<BLOCK>();
        for block in blocks {
            let reached = reached::<S, T>(s, block, best.bound);
            if reached != 0 {
                best.take::<T>(block, first, reached);
            }
            first += BLOCK;
        }
        if !tail.is_empty() {
            let block = T::pad(tail, T::LOWEST);
            let real = (1 << tail.len()) - 1;
            let reached = reached::<S, T>(s, &block, best.bound);
            best.take::<T>(&block, first, reached & real);
        }
    }
}

/// A bit for every entry of a block that reaches `bound`.
#[inline(always)]
fn reached<S: Simd, T: Format>(s: S, block: &[T::Bytes; BLOCK], bound: f32) -> u64 {
    let bound = s.splat(bound);
    let mut reached = 0;
    for (vector, place) in block.as_chunks().0.iter().zip([0, 16, 32, 48]) {
        reached |= u64::from(s.bits(s.at_least(T::load(s, vector), bound))) << place;
    }
    reached
}
