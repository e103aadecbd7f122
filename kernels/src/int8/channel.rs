//! int8 with learned scales, one per channel.
//!
//! `t = x - mean`, one f32 subtraction. `code = clamp(round_half_even(t / scale), -127, 127)`, a
//! true division. Decoding is `fma(code, scale, mean)`.
//!
//! | entry | code | flag |
//! | --- | --- | --- |
//! | the channel's scale is 0 or not finite | 0 | as below |
//! | t is NaN | 0 | [`flags::NAN`] |
//! | t is infinite | 127 or -127 | [`flags::INFINITY`] |

use crate::cpu::Level;
use crate::flags;
use crate::row::{AsBf16, AsF16, AsF32, Entries, Format, Row};
use crate::simd::{self, Op, ROUNDER, Simd, WIDTH};

/// Writes the codes of `row` into the first places of `codes`; gives the flags.
///
/// Stops at the end of the shortest of `row`, `scale`, `mean` (if any) and `codes`.
pub fn quantize(row: Row<'_>, mean: Option<&[f32]>, scale: &[f32], codes: &mut [i8]) -> u8 {
    quantize_at(Level::detect(), row, mean, scale, codes)
}

/// [`quantize`] at a given level.
pub fn quantize_at(
    level: Level,
    row: Row<'_>,
    mean: Option<&[f32]>,
    scale: &[f32],
    codes: &mut [i8],
) -> u8 {
    let length = row.len().min(scale.len()).min(codes.len());
    let length = length.min(mean.map_or(length, <[f32]>::len));
    let Some(row) = row.part(0..length) else { return 0 };
    let (scale, codes) = (&scale[..length], &mut codes[..length]);
    let mean = mean.map(|mean| &mean[..length]);
    simd::dispatch(level, Quantize { entries: row.entries(), mean, scale, codes })
}

/// Writes `code * scale + mean`, rounded once, into the first places of `out`.
///
/// Stops at the end of the shortest of `codes`, `scale`, `mean` (if any) and `out`.
pub fn restore(codes: &[i8], mean: Option<&[f32]>, scale: &[f32], out: &mut [f32]) {
    restore_at(Level::detect(), codes, mean, scale, out);
}

/// [`restore`] at a given level.
pub fn restore_at(
    level: Level,
    codes: &[i8],
    mean: Option<&[f32]>,
    scale: &[f32],
    out: &mut [f32],
) {
    let length = codes.len().min(scale.len()).min(out.len());
    let length = length.min(mean.map_or(length, <[f32]>::len));
    let (codes, scale, out) = (&codes[..length], &scale[..length], &mut out[..length]);
    simd::dispatch(level, Restore { codes, mean, scale, out });
}

struct Quantize<'a, 'b> {
    entries: Entries<'a>,
    mean: Option<&'a [f32]>,
    scale: &'a [f32],
    codes: &'b mut [i8],
}

impl Op for Quantize<'_, '_> {
    type Output = u8;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> u8 {
        match self.entries {
            Entries::F32(entries) => self.encode::<S, AsF32>(s, entries),
            Entries::F16(entries) => self.encode::<S, AsF16>(s, entries),
            Entries::Bf16(entries) => self.encode::<S, AsBf16>(s, entries),
        }
    }
}

impl Quantize<'_, '_> {
    #[inline(always)]
    fn encode<S: Simd, T: Format>(self, s: S, row: &[T::Bytes]) -> u8 {
        let zeros = [0.0; WIDTH];
        let (entries, entries_tail) = row.as_chunks();
        let (scale, scale_tail) = self.scale.as_chunks();
        let (codes, codes_tail) = self.codes.as_chunks_mut();
        let (mean, mean_tail) = self.mean.unwrap_or_default().as_chunks();
        let mut seen = 0;
        for (at, ((entries, scale), codes)) in entries.iter().zip(scale).zip(codes).enumerate() {
            let mean = mean.get(at).unwrap_or(&zeros);
            seen |= vector::<S, T>(s, entries, mean, scale, codes);
        }
        let entries = T::pad(entries_tail, T::ZERO);
        let mean = super::padded(mean_tail, 0.0);
        let mut last = [0; WIDTH];
        seen |= vector::<S, T>(s, &entries, &mean, &super::padded(scale_tail, 1.0), &mut last);
        codes_tail.copy_from_slice(&last[..codes_tail.len()]);
        seen
    }
}

#[inline(always)]
fn vector<S: Simd, T: Format>(
    s: S,
    entries: &[T::Bytes; WIDTH],
    mean: &[f32; WIDTH],
    scale: &[f32; WIDTH],
    codes: &mut [i8; WIDTH],
) -> u8 {
    let t = s.sub(T::load(s, entries), s.load(mean));
    let quotient = s.div(t, s.load(scale));
    // Infinity minus itself, too, is NaN: it stands for all that is unusual.
    if s.bits(s.is_nan(s.sub(quotient, quotient))) == 0 {
        s.store_i8(s.add(super::clamp(s, quotient), s.splat(ROUNDER)), codes);
        return 0;
    }
    let mut lanes = [0.0; WIDTH];
    s.store(t, &mut lanes);
    unusual(&lanes, scale, codes)
}

/// Entry by entry, the same formula.
#[cold]
#[inline(never)]
fn unusual(t: &[f32; WIDTH], scale: &[f32; WIDTH], codes: &mut [i8; WIDTH]) -> u8 {
    let mut seen = 0;
    for ((t, scale), code) in t.iter().zip(scale).zip(codes) {
        if t.is_nan() {
            seen |= flags::NAN;
        } else if t.is_infinite() {
            seen |= flags::INFINITY;
        }
        *code = if *scale == 0.0 || !scale.is_finite() || t.is_nan() {
            0
        } else {
            (t / scale).round_ties_even().clamp(-127.0, 127.0) as i8
        };
    }
    seen
}

struct Restore<'a, 'b> {
    codes: &'a [i8],
    mean: Option<&'a [f32]>,
    scale: &'a [f32],
    out: &'b mut [f32],
}

impl Op for Restore<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let zeros = [0.0; WIDTH];
        let whole = self.codes.len() / WIDTH * WIDTH;
        for at in (0..whole).step_by(WIDTH) {
            let codes: &[i8; WIDTH] = &self.codes[at..].as_chunks().0[0];
            let scale: &[f32; WIDTH] = &self.scale[at..].as_chunks().0[0];
            let mean = self.mean.map_or(&zeros, |mean| &mean[at..].as_chunks().0[0]);
            let out: &mut [f32; WIDTH] = &mut self.out[at..].as_chunks_mut().0[0];
            s.store(s.fma(s.load_i8(codes), s.load(scale), s.load(mean)), out);
        }
        for at in whole..self.codes.len() {
            let mean = self.mean.map_or(0.0, |mean| mean[at]);
            self.out[at] = f32::from(self.codes[at]).mul_add(self.scale[at], mean);
        }
    }
}
