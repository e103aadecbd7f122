//! f32 to f16 and bf16: round to nearest, ties to even.
//!
//! Every NaN becomes the one positive quiet NaN without payload (0x7e00, 0x7fc0). Values beyond the
//! largest finite number round to infinity as IEEE says; subnormal results are kept.
//! The way back is exact: [`crate::Row::widen`].

use half::{bf16, f16};

use crate::cpu::Level;
use crate::simd::{self, Op, Simd, WIDTH};

/// Rounds `from` into the first places of `to`; stops at the end of the shorter.
pub fn to_f16(from: &[f32], to: &mut [f16]) {
    to_f16_at(Level::detect(), from, to);
}

/// [`to_f16`] at a given level.
pub fn to_f16_at(level: Level, from: &[f32], to: &mut [f16]) {
    simd::dispatch(level, Cast::<false> { from, to: bytemuck::cast_slice_mut(to) });
}

/// Rounds `from` into the first places of `to`; stops at the end of the shorter.
pub fn to_bf16(from: &[f32], to: &mut [bf16]) {
    to_bf16_at(Level::detect(), from, to);
}

/// [`to_bf16`] at a given level.
pub fn to_bf16_at(level: Level, from: &[f32], to: &mut [bf16]) {
    simd::dispatch(level, Cast::<true> { from, to: bytemuck::cast_slice_mut(to) });
}

struct Cast<'a, const BF16: bool> {
    from: &'a [f32],
    to: &'a mut [u16],
}

impl<const BF16: bool> Op for Cast<'_, BF16> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let length = self.from.len().min(self.to.len());
        let (from, from_tail) = self.from[..length].as_chunks();
        let (to, to_tail) = self.to[..length].as_chunks_mut();
        for (from, to) in from.iter().zip(to) {
            round::<S, BF16>(s, from, to);
        }
        let mut last = [0.0; WIDTH];
        let mut rounded = [0; WIDTH];
        last[..from_tail.len()].copy_from_slice(from_tail);
        round::<S, BF16>(s, &last, &mut rounded);
        to_tail.copy_from_slice(&rounded[..to_tail.len()]);
    }
}

#[inline(always)]
fn round<S: Simd, const BF16: bool>(s: S, from: &[f32; WIDTH], to: &mut [u16; WIDTH]) {
    if BF16 { s.store_bf16(s.load(from), to) } else { s.store_f16(s.load(from), to) }
}
