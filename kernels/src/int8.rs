//! Symmetric int8, one scale per row; with learned numbers in [`channel`], [`group`] and
//! [`centred`].
//!
//! `scale = absmax / 127`, one f32 division, where absmax is the largest magnitude among the finite
//! entries. `code = clamp(round_half_even(x / scale), -127, 127)`, a true division. -128 is never
//! used. Decoding is `code * scale`.
//!
//! | row | scale | codes | flag |
//! | --- | --- | --- | --- |
//! | no finite entry differs from 0 (or no entry) | 0 | 0 | [`flags::ZERO_ROW`] |
//! | scale subnormal | as computed | as computed | [`flags::DENORMAL_SCALE`] |
//! | absmax so small that scale became 0 | 0 | 0 | [`flags::DENORMAL_SCALE`] |
//! | NaN at a place | from the finite entries | 0 at that place | [`flags::NAN`] |
//! | +inf or -inf at a place | from the finite entries | 127 or -127 there | [`flags::INFINITY`] |

pub mod centred;
pub mod channel;
pub mod group;

use crate::cpu::Level;
use crate::flags;
use crate::row::{AsBf16, AsF16, AsF32, Entries, Format, Row};
use crate::simd::{self, Op, ROUNDER, Simd, WIDTH};

/// Entries that are coded together.
const BLOCK: usize = 4 * WIDTH;

/// Writes the codes of `row` into the first places of `codes`; gives the scale and the flags.
///
/// If `codes` is shorter than the row, the row is cut to that length first.
pub fn quantize(row: Row<'_>, codes: &mut [i8]) -> (f32, u8) {
    quantize_at(Level::detect(), row, codes)
}

/// [`quantize`] at a given level.
pub fn quantize_at(level: Level, row: Row<'_>, codes: &mut [i8]) -> (f32, u8) {
    simd::dispatch(level, Quantize { entries: row.entries(), codes })
}

/// Writes `code * scale` into the first places of `out`; stops at the end of the shorter.
pub fn dequantize(codes: &[i8], scale: f32, out: &mut [f32]) {
    dequantize_at(Level::detect(), codes, scale, out);
}

/// [`dequantize`] at a given level.
pub fn dequantize_at(level: Level, codes: &[i8], scale: f32, out: &mut [f32]) {
    simd::dispatch(level, Dequantize { codes, scale, out });
}

struct Quantize<'a, 'b> {
    entries: Entries<'a>,
    codes: &'b mut [i8],
}

impl Op for Quantize<'_, '_> {
    type Output = (f32, u8);
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, u8) {
        match self.entries {
            Entries::F32(entries) => quantize_row::<S, AsF32>(s, entries, self.codes),
            Entries::F16(entries) => quantize_row::<S, AsF16>(s, entries, self.codes),
            Entries::Bf16(entries) => quantize_row::<S, AsBf16>(s, entries, self.codes),
        }
    }
}

#[inline(always)]
fn quantize_row<S: Simd, T: Format>(s: S, row: &[T::Bytes], codes: &mut [i8]) -> (f32, u8) {
    let length = row.len().min(codes.len());
    let (row, codes) = (&row[..length], &mut codes[..length]);
    let absmax = absmax::<S, T>(s, row);
    if !absmax.is_finite() {
        return quantize_unusual::<T>(row, codes);
    }
    let scale = absmax / 127.0;
    if scale == 0.0 {
        codes.fill(0);
    } else if scale < f32::MIN_POSITIVE {
        encode::<S, T, true>(s, row, scale, codes);
    } else {
        encode::<S, T, false>(s, row, scale, codes);
    }
    (scale, scale_flags(absmax, scale))
}

fn scale_flags(absmax: f32, scale: f32) -> u8 {
    if absmax == 0.0 {
        flags::ZERO_ROW
    } else if scale < f32::MIN_POSITIVE {
        flags::DENORMAL_SCALE
    } else {
        0
    }
}

/// The largest magnitude; not finite if any entry is not.
#[inline(always)]
fn absmax<S: Simd, T: Format>(s: S, row: &[T::Bytes]) -> f32 {
    let mut tops = [s.splat(0.0); 4];
    let (blocks, tail) = row.as_chunks::<BLOCK>();
    let padded = T::pad(tail, T::ZERO);
    for block in blocks.iter().chain([&padded]) {
        let entries = T::load_block(s, block);
        for (top, x) in tops.iter_mut().zip(&entries) {
            *top = s.max_magnitude(*x, *top);
        }
    }
    let [a, b, c, d] = tops;
    let top = s.max_magnitude(s.max_magnitude(a, b), s.max_magnitude(c, d));
    let mut lanes = [0.0; WIDTH];
    s.store(top, &mut lanes);
    // Of magnitudes, the order of the bits is the order of the numbers, with NaN at the top.
    f32::from_bits(lanes.iter().fold(0, |top, x| top.max(x.to_bits())))
}

/// Codes of a row without NaN or infinity, scale above 0.
///
/// No quotient exceeds 127 by more than its rounding, unless the scale is subnormal and so has few
/// bits: only then `CLAMP` has anything to do.
#[inline(always)]
fn encode<S: Simd, T: Format, const CLAMP: bool>(
    s: S,
    row: &[T::Bytes],
    scale: f32,
    codes: &mut [i8],
) {
    let (blocks, tail) = row.as_chunks::<BLOCK>();
    let (codes, codes_tail) = codes.as_chunks_mut::<BLOCK>();
    for (block, codes) in blocks.iter().zip(codes) {
        encode_block::<S, T, CLAMP>(s, block, scale, codes);
    }
    let mut last = [0; BLOCK];
    encode_block::<S, T, CLAMP>(s, &T::pad(tail, T::ZERO), scale, &mut last);
    codes_tail.copy_from_slice(&last[..codes_tail.len()]);
}

#[inline(always)]
fn encode_block<S: Simd, T: Format, const CLAMP: bool>(
    s: S,
    block: &[T::Bytes; BLOCK],
    scale: f32,
    codes: &mut [i8; BLOCK],
) {
    let rounder = s.splat(ROUNDER);
    for (vector, codes) in block.as_chunks().0.iter().zip(codes.as_chunks_mut().0) {
        let mut quotient = s.div(T::load(s, vector), s.splat(scale));
        if CLAMP {
            quotient = clamp(s, quotient);
        }
        s.store_i8(s.add(quotient, rounder), codes);
    }
}

/// Every lane to -127..=127. Lanes are not NaN.
#[inline(always)]
fn clamp<S: Simd>(s: S, x: S::F) -> S::F {
    let (zero, floor) = (s.splat(0.0), s.splat(-127.0));
    // min(x, 127) is -max(-x, -127).
    s.sub(zero, s.max(s.sub(zero, s.max(x, floor)), floor))
}

/// Up to sixteen numbers, the missing ones replaced by `filler`.
#[inline(always)]
pub(crate) fn padded(numbers: &[f32], filler: f32) -> [f32; WIDTH] {
    let mut whole = [filler; WIDTH];
    for (to, from) in whole.iter_mut().zip(numbers) {
        *to = *from;
    }
    whole
}

/// A row with NaN or infinity: entry by entry, the same formula.
#[cold]
#[inline(never)]
fn quantize_unusual<T: Format>(row: &[T::Bytes], codes: &mut [i8]) -> (f32, u8) {
    let mut absmax = 0.0_f32;
    let mut seen = 0;
    for entry in row {
        let x = T::widen(*entry);
        if x.is_nan() {
            seen |= flags::NAN;
        } else if x.is_infinite() {
            seen |= flags::INFINITY;
        } else {
            absmax = absmax.max(x.abs());
        }
    }
    let scale = absmax / 127.0;
    for (entry, code) in row.iter().zip(codes) {
        let x = T::widen(*entry);
        *code = if x.is_nan() || (scale == 0.0 && x.is_finite()) {
            0
        } else {
            (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8
        };
    }
    (scale, seen | scale_flags(absmax, scale))
}

struct Dequantize<'a, 'b> {
    codes: &'a [i8],
    scale: f32,
    out: &'b mut [f32],
}

impl Op for Dequantize<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let length = self.codes.len().min(self.out.len());
        let (codes, codes_tail) = self.codes[..length].as_chunks();
        let (out, out_tail) = self.out[..length].as_chunks_mut();
        let scale = s.splat(self.scale);
        for (codes, out) in codes.iter().zip(out) {
            s.store(s.mul(s.load_i8(codes), scale), out);
        }
        for (code, out) in codes_tail.iter().zip(out_tail) {
            *out = f32::from(*code) * self.scale;
        }
    }
}
