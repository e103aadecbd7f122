//! int8 with an f16 scale per group of 32 consecutive channels.
//!
//! The last group may be shorter. With absmax the largest magnitude among a group's finite entries:
//! `scale = absmax / 127`, one f32 division, rounded to the nearest f16 (ties to even) and at most
//! 65504. `code = clamp(round_half_even(x / scale), -127, 127)`, a true division by the scale
//! widened again; 0 where the scale is 0. NaN is coded 0 ([`flags::NAN`]), an infinity 127 or -127,
//! or 0 where the scale is 0 ([`flags::INFINITY`]). Decoding is `code * scale`.

use half::f16;

use crate::cpu::Level;
use crate::flags;
use crate::row::{AsBf16, AsF16, AsF32, Entries, Format, Row};
use crate::simd::{self, Op, ROUNDER, Simd, WIDTH};

/// Channels that share a scale.
pub const GROUP: usize = 32;

/// Writes the codes of `row` into the first places of `codes` and a scale per group into those of
/// `scales`; gives the flags.
///
/// If `codes` or `scales` have less room than the row needs, the row is cut first.
pub fn quantize(row: Row<'_>, codes: &mut [i8], scales: &mut [f16]) -> u8 {
    quantize_at(Level::detect(), row, codes, scales)
}

/// [`quantize`] at a given level.
pub fn quantize_at(level: Level, row: Row<'_>, codes: &mut [i8], scales: &mut [f16]) -> u8 {
    let length = row.len().min(codes.len()).min(scales.len().saturating_mul(GROUP));
    let Some(row) = row.part(0..length) else { return 0 };
    let codes = &mut codes[..length];
    simd::dispatch(level, Quantize { entries: row.entries(), codes, scales })
}

/// Writes `code * scale` into the first places of `out`.
///
/// Stops at the end of the shortest of `codes`, what `scales` cover, and `out`.
pub fn restore(codes: &[i8], scales: &[f16], out: &mut [f32]) {
    restore_at(Level::detect(), codes, scales, out);
}

/// [`restore`] at a given level.
pub fn restore_at(level: Level, codes: &[i8], scales: &[f16], out: &mut [f32]) {
    simd::dispatch(level, Restore { codes, scales, out });
}

struct Quantize<'a, 'b> {
    entries: Entries<'a>,
    codes: &'b mut [i8],
    scales: &'b mut [f16],
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
        let mut seen = 0;
        let groups = row.chunks(GROUP).zip(self.codes.chunks_mut(GROUP));
        for ((row, codes), scale) in groups.zip(self.scales) {
            let entries: [T::Bytes; GROUP] = T::pad(row, T::ZERO);
            let [low, high] = entries.as_chunks::<WIDTH>().0 else { unreachable!() };
            let [low, high] = [T::load(s, low), T::load(s, high)];
            let mut lanes = [0.0; WIDTH];
            s.store(s.max_magnitude(low, s.max_magnitude(high, s.splat(0.0))), &mut lanes);
            // Of magnitudes, the order of the bits is the order of the numbers, NaN at the top.
            let absmax = f32::from_bits(lanes.iter().fold(0, |top, x| top.max(x.to_bits())));
            if !absmax.is_finite() {
                let mut all = [0.0; GROUP];
                for (to, from) in all.as_chunks_mut().0.iter_mut().zip([low, high]) {
                    s.store(from, to);
                }
                seen |= unusual(&all[..row.len()], codes, scale);
                continue;
            }
            *scale = scale_of(absmax);
            if *scale == f16::ZERO {
                codes.fill(0);
                continue;
            }
            let divisor = s.splat(scale.to_f32_const());
            let mut coded = [0; GROUP];
            for (to, from) in coded.as_chunks_mut().0.iter_mut().zip([low, high]) {
                let quotient = super::clamp(s, s.div(from, divisor));
                s.store_i8(s.add(quotient, s.splat(ROUNDER)), to);
            }
            codes.copy_from_slice(&coded[..codes.len()]);
        }
        seen
    }
}

fn scale_of(absmax: f32) -> f16 {
    let scale = f16::from_f32_const(absmax / 127.0);
    if scale.is_finite() { scale } else { f16::MAX }
}

/// A group with NaN or infinity: entry by entry, the same formula.
#[cold]
#[inline(never)]
fn unusual(group: &[f32], codes: &mut [i8], scale: &mut f16) -> u8 {
    let (mut absmax, mut seen) = (0.0_f32, 0);
    for x in group {
        if x.is_nan() {
            seen |= flags::NAN;
        } else if x.is_infinite() {
            seen |= flags::INFINITY;
        } else {
            absmax = absmax.max(x.abs());
        }
    }
    *scale = scale_of(absmax);
    let divisor = scale.to_f32_const();
    for (x, code) in group.iter().zip(codes) {
        *code = if divisor == 0.0 || x.is_nan() {
            0
        } else {
            (x / divisor).round_ties_even().clamp(-127.0, 127.0) as i8
        };
    }
    seen
}

struct Restore<'a, 'b> {
    codes: &'a [i8],
    scales: &'a [f16],
    out: &'b mut [f32],
}

impl Op for Restore<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let length = self.codes.len().min(self.out.len());
        let groups = self.codes[..length].chunks(GROUP).zip(self.out[..length].chunks_mut(GROUP));
        for ((codes, out), scale) in groups.zip(self.scales) {
            let scale = scale.to_f32_const();
            let (codes, codes_tail) = codes.as_chunks();
            let (out, out_tail) = out.as_chunks_mut();
            for (codes, out) in codes.iter().zip(out) {
                s.store(s.mul(s.load_i8(codes), s.splat(scale)), out);
            }
            for (code, out) in codes_tail.iter().zip(out_tail) {
                *out = f32::from(*code) * scale;
            }
        }
    }
}
