//! int8 of what a row has beyond a learned mean, one scale per row, some channels left out.
//!
//! `t = x - mean`, one f32 subtraction; a masked channel counts as 0, whatever it holds. Then
//! [`super::quantize`] over t. Decoding is `fma(code, scale, mean)`; masked channels travel beside
//! the codes.

use crate::cpu::Level;
use crate::rotation;
use crate::row::{Element, Row};
use crate::simd::{self, Op, Simd, WIDTH};

/// What is subtracted and what is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Center<'a> {
    /// The mean of each channel; absent: 0.
    pub mean: Option<&'a [f32]>,
    /// Channels that count as 0, ascending; those beyond the row are ignored.
    pub masked: &'a [u32],
}

/// Writes the codes of `row` into the first places of `codes`; gives the scale and the flags.
///
/// `t` is scratch, at least as long as the row. The row is cut to the shortest of `mean` (if any),
/// `t` and `codes` first.
pub fn quantize(row: Row<'_>, center: Center<'_>, t: &mut [f32], codes: &mut [i8]) -> (f32, u8) {
    quantize_at(Level::detect(), row, center, t, codes)
}

/// [`quantize`] at a given level.
pub fn quantize_at(
    level: Level,
    row: Row<'_>,
    center: Center<'_>,
    t: &mut [f32],
    codes: &mut [i8],
) -> (f32, u8) {
    let length = row.len().min(t.len()).min(codes.len());
    let length = length.min(center.mean.map_or(length, <[f32]>::len));
    let t = &mut t[..length];
    if center.mean.is_none() && center.masked.is_empty() && row.element() == Element::F32 {
        let row = row.part(0..length).unwrap_or(Row::F32(&[]));
        return super::quantize_at(level, row, codes);
    }
    rotation::subtract_at(level, row, center.mean, t);
    for channel in center.masked {
        if let Some(t) = t.get_mut(*channel as usize) {
            *t = 0.0;
        }
    }
    super::quantize_at(level, Row::F32(t), codes)
}

/// Writes `code * scale + mean`, rounded once, into the first places of `out`.
///
/// Stops at the end of the shortest of `codes`, `mean` (if any) and `out`.
pub fn restore(codes: &[i8], scale: f32, mean: Option<&[f32]>, out: &mut [f32]) {
    restore_at(Level::detect(), codes, scale, mean, out);
}

/// [`restore`] at a given level.
pub fn restore_at(level: Level, codes: &[i8], scale: f32, mean: Option<&[f32]>, out: &mut [f32]) {
    let Some(mean) = mean else { return super::dequantize_at(level, codes, scale, out) };
    simd::dispatch(level, Restore { codes, scale, mean, out });
}

struct Restore<'a, 'b> {
    codes: &'a [i8],
    scale: f32,
    mean: &'a [f32],
    out: &'b mut [f32],
}

impl Op for Restore<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let length = self.codes.len().min(self.out.len()).min(self.mean.len());
        let (codes, codes_tail) = self.codes[..length].as_chunks::<WIDTH>();
        let (mean, mean_tail) = self.mean[..length].as_chunks::<WIDTH>();
        let (out, out_tail) = self.out[..length].as_chunks_mut::<WIDTH>();
        let scale = s.splat(self.scale);
        for ((codes, mean), out) in codes.iter().zip(mean).zip(out) {
            s.store(s.fma(s.load_i8(codes), scale, s.load(mean)), out);
        }
        for ((code, mean), out) in codes_tail.iter().zip(mean_tail).zip(out_tail) {
            *out = f32::from(*code).mul_add(self.scale, *mean);
        }
    }
}
