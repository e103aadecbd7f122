//! The first pass over a row, and the normaliser: defined in [`super`].

use std::ops::RangeInclusive;

use super::{BLOCK, Grouping, LANES, Scratch};
use crate::exp;
use crate::row::Format;
use crate::simd::Simd;

/// Blocks between the one asked for and the one computed.
const AHEAD: usize = 16;
/// Bytes of a cache line.
const LINE: usize = 64;
/// The anchor is 0 for maxima in this range.
const UNANCHORED: RangeInclusive<f32> = -48.0..=48.0;

/// Fills the maxima of all groups, and the lanes with anchor 0. NaN reaches the lanes.
#[inline(always)]
pub(super) fn scan<S: Simd, T: Format>(
    s: S,
    entries: &[T::Bytes],
    grouping: Grouping,
    scratch: &mut Scratch,
) {
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
pub(super) fn normalise<S: Simd, T: Format>(
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
