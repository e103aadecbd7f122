//! What a rotated row needs: centring with its size, and whole steps of coefficients.
//!
//! The rotation itself is [`crate::lmhead::logits`] with the f32 matrix whose row j is component j,
//! and the way back is the same with its transpose.
//!
//! - **Centring.** `t = x - mean`, one f32 subtraction; where t is not finite it becomes 0 and a
//!   flag is set. `rms = sqrt(sum of t * t / columns)`: the sum in 16 lanes (lane l takes columns
//!   l, l + 16, ... each by one fused multiply-add from +0), folded 8, 4, 2, 1; a division by the
//!   number of columns as f32 and a square root, both correctly rounded. A row without columns has
//!   rms 0.
//! - **Steps.** `code = clamp(round_half_even(y / step), -32767, 32767)`, a true division; 0 where
//!   the step is 0 or the quotient is NaN. Decoding is `code * step`.

use crate::cpu::Level;
use crate::flags;
use crate::int8::padded;
use crate::row::{AsBf16, AsF16, AsF32, Entries, Format, Row};
use crate::simd::{self, Op, ROUNDER, Simd, WIDTH};

/// The largest code of a step.
const TOP: f32 = 32_767.0;

/// Writes `x - mean` into the first places of `out`, whatever comes of it.
///
/// Stops at the end of the shortest of `row`, `mean` (if any) and `out`.
pub fn subtract(row: Row<'_>, mean: Option<&[f32]>, out: &mut [f32]) {
    subtract_at(Level::detect(), row, mean, out);
}

/// [`subtract`] at a given level.
pub fn subtract_at(level: Level, row: Row<'_>, mean: Option<&[f32]>, out: &mut [f32]) {
    simd::dispatch(level, Center::<false>::new(row, mean, out));
}

/// Writes `x - mean` into the first places of `out`, 0 where that is not finite; gives the root
/// mean square of what was written, and the flags.
///
/// Stops at the end of the shortest of `row`, `mean` (if any) and `out`.
pub fn center(row: Row<'_>, mean: Option<&[f32]>, out: &mut [f32]) -> (f32, u8) {
    center_at(Level::detect(), row, mean, out)
}

/// [`center`] at a given level.
pub fn center_at(level: Level, row: Row<'_>, mean: Option<&[f32]>, out: &mut [f32]) -> (f32, u8) {
    let center = Center::<true>::new(row, mean, out);
    let columns = center.length;
    let (sum, seen) = simd::dispatch(level, center);
    (if columns == 0 { 0.0 } else { (sum / columns as f32).sqrt() }, seen)
}

/// Writes each entry of `y` in whole steps into the first places of `codes`; stops at the end of
/// the shorter.
pub fn steps(y: &[f32], step: f32, codes: &mut [i16]) {
    steps_at(Level::detect(), y, step, codes);
}

/// [`steps`] at a given level.
pub fn steps_at(level: Level, y: &[f32], step: f32, codes: &mut [i16]) {
    simd::dispatch(level, Steps { y, step, codes });
}

/// Writes `code * step` into the first places of `out`; stops at the end of the shorter.
pub fn unstep(codes: &[i16], step: f32, out: &mut [f32]) {
    // One multiplication: the same bits at every level.
    for (code, out) in codes.iter().zip(out) {
        *out = f32::from(*code) * step;
    }
}

struct Center<'a, 'b, const CLEAN: bool> {
    entries: Entries<'a>,
    mean: Option<&'a [f32]>,
    out: &'b mut [f32],
    length: usize,
}

impl<'a, 'b, const CLEAN: bool> Center<'a, 'b, CLEAN> {
    fn new(row: Row<'a>, mean: Option<&'a [f32]>, out: &'b mut [f32]) -> Self {
        let length = row.len().min(out.len());
        let length = length.min(mean.map_or(length, <[f32]>::len));
        Self { entries: row.entries(), mean, out, length }
    }

    #[inline(always)]
    fn center<S: Simd, T: Format>(self, s: S, row: &[T::Bytes]) -> (f32, u8) {
        let zeros = [0.0; WIDTH];
        let (entries, entries_tail) = row[..self.length].as_chunks();
        let mean = self.mean.map_or(&[][..], |mean| &mean[..self.length]);
        let (mean, mean_tail) = mean.as_chunks();
        let (out, out_tail) = self.out[..self.length].as_chunks_mut();
        let (mut sum, mut seen) = (s.splat(0.0), 0);
        for (at, (entries, out)) in entries.iter().zip(out).enumerate() {
            let mean = mean.get(at).unwrap_or(&zeros);
            let t = s.sub(T::load(s, entries), s.load(mean));
            (sum, seen) = put::<S, CLEAN>(s, t, (sum, seen), out);
        }
        let entries = T::pad(entries_tail, T::ZERO);
        let mean = padded(mean_tail, 0.0);
        let t = s.sub(T::load(s, &entries), s.load(&mean));
        let mut last = [0.0; WIDTH];
        (sum, seen) = put::<S, CLEAN>(s, t, (sum, seen), &mut last);
        out_tail.copy_from_slice(&last[..out_tail.len()]);
        (s.sum(sum), seen)
    }
}

/// Stores a vector and adds its squares to the sum.
#[inline(always)]
fn put<S: Simd, const CLEAN: bool>(
    s: S,
    mut t: S::F,
    (sum, mut seen): (S::F, u8),
    out: &mut [f32; WIDTH],
) -> (S::F, u8) {
    s.store(t, out);
    // Infinity minus itself, too, is NaN.
    if CLEAN && s.bits(s.is_nan(s.sub(t, t))) != 0 {
        seen |= clean(out);
        t = s.load(out);
    }
    (if CLEAN { s.fma(t, t, sum) } else { sum }, seen)
}

impl<const CLEAN: bool> Op for Center<'_, '_, CLEAN> {
    type Output = (f32, u8);
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, u8) {
        match self.entries {
            Entries::F32(entries) => self.center::<S, AsF32>(s, entries),
            Entries::F16(entries) => self.center::<S, AsF16>(s, entries),
            Entries::Bf16(entries) => self.center::<S, AsBf16>(s, entries),
        }
    }
}

#[cold]
#[inline(never)]
fn clean(lanes: &mut [f32; WIDTH]) -> u8 {
    let mut seen = 0;
    for t in lanes {
        if !t.is_finite() {
            seen |= if t.is_nan() { flags::NAN } else { flags::INFINITY };
            *t = 0.0;
        }
    }
    seen
}

struct Steps<'a, 'b> {
    y: &'a [f32],
    step: f32,
    codes: &'b mut [i16],
}

impl Op for Steps<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let length = self.y.len().min(self.codes.len());
        let (y, codes) = (&self.y[..length], &mut self.codes[..length]);
        if self.step == 0.0 {
            codes.fill(0);
            return;
        }
        let (y, y_tail) = y.as_chunks();
        let (codes, codes_tail) = codes.as_chunks_mut();
        for (y, codes) in y.iter().zip(codes) {
            whole_steps(s, y, self.step, codes);
        }
        let mut last = [0; WIDTH];
        whole_steps(s, &padded(y_tail, 0.0), self.step, &mut last);
        codes_tail.copy_from_slice(&last[..codes_tail.len()]);
    }
}

#[inline(always)]
fn whole_steps<S: Simd>(s: S, y: &[f32; WIDTH], step: f32, codes: &mut [i16; WIDTH]) {
    let (zero, floor) = (s.splat(0.0), s.splat(-TOP));
    let quotient = s.div(s.load(y), s.splat(step));
    let nan = s.bits(s.is_nan(quotient));
    // min(x, TOP) is -max(-x, -TOP).
    let quotient = s.sub(zero, s.max(s.sub(zero, s.max(quotient, floor)), floor));
    let mut lanes = [0.0; WIDTH];
    s.store(s.add(quotient, s.splat(ROUNDER)), &mut lanes);
    for (code, x) in codes.iter_mut().zip(lanes) {
        // The integer is in the low bits of the sum.
        *code = x.to_bits() as i16;
    }
    if nan != 0 {
        let nans = codes.iter_mut().enumerate().filter(|(lane, _)| nan >> lane & 1 == 1);
        nans.for_each(|(_, code)| *code = 0);
    }
}
