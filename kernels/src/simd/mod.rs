//! Sixteen f32 lanes, on whatever the machine has.
//!
//! An algorithm is written once, as an [`Op`] generic over [`Simd`], and compiled per level. The
//! width is sixteen at every level, so the order of every reduction is part of the algorithm and
//! not of the machine: that is what makes the levels agree bit for bit.
//!
//! Everything on the way from [`dispatch`] to an instruction is `#[inline(always)]`: only then does
//! it become part of the one function that is compiled with the level's instructions. Vectors must
//! not pass through closures or the standard library's adapters (`array::map`, `from_fn`, `fold`)
//! for the same reason: those are compiled for the lowest level and would be called, not inlined.

mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::cpu::Level;

/// Lanes of a vector.
pub(crate) const WIDTH: usize = 16;

/// 1.5 * 2^23: adding it rounds to an integer, ties to even, and leaves that integer in the low
/// bits.
pub(crate) const ROUNDER: f32 = 12_582_912.0;

/// Vector operations. A value of an implementing type proves that its instructions exist.
///
/// Arithmetic is IEEE with round to nearest even, subnormal numbers kept.
pub(crate) trait Simd: Copy {
    /// Sixteen f32.
    type F: Copy;
    /// One truth per lane.
    type M: Copy;
    /// Vectors of sixteen that fit into the registers.
    const REGISTERS: usize;

    /// Asks for the first cache line of `from`, which will be read soon.
    fn prefetch<T>(self, from: &T);

    fn splat(self, value: f32) -> Self::F;
    fn load(self, from: &[f32; WIDTH]) -> Self::F;
    fn load_f32(self, from: &[[u8; 4]; WIDTH]) -> Self::F;
    fn load_f16(self, from: &[[u8; 2]; WIDTH]) -> Self::F;
    fn load_bf16(self, from: &[[u8; 2]; WIDTH]) -> Self::F;
    /// The even entries and the odd ones: cheaper than in order.
    fn load_bf16_split(self, from: &[[u8; 2]; 2 * WIDTH]) -> [Self::F; 2];
    fn load_i8(self, from: &[i8; WIDTH]) -> Self::F;
    fn store(self, value: Self::F, to: &mut [f32; WIDTH]);

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a` where it is greater than `b`, else `b`: a NaN in `a` yields `b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// The larger of `|a|` and `top`, compared as bits: infinity is above all numbers, NaN above
    /// infinity.
    fn max_magnitude(self, a: Self::F, top: Self::F) -> Self::F;
    /// Adds the low bits of `power` to the exponent of `a`: see `exp`.
    fn shift_exponent(self, a: Self::F, power: Self::F) -> Self::F;

    /// False where either is NaN.
    fn at_least(self, a: Self::F, b: Self::F) -> Self::M;
    fn is_nan(self, a: Self::F) -> Self::M;
    fn or(self, a: Self::M, b: Self::M) -> Self::M;
    /// Bit i is lane i.
    fn bits(self, mask: Self::M) -> u32;

    /// The integers that were added to [`ROUNDER`]; they are in -128..=127.
    fn store_i8(self, value: Self::F, to: &mut [i8; WIDTH]);
    /// Round to nearest even; every NaN becomes 0x7e00.
    fn store_f16(self, value: Self::F, to: &mut [u16; WIDTH]);
    /// Round to nearest even; every NaN becomes 0x7fc0.
    fn store_bf16(self, value: Self::F, to: &mut [u16; WIDTH]);

    /// Folds the upper half onto the lower until one lane is left: 8, 4, 2, 1.
    fn sum(self, a: Self::F) -> f32;
    /// [`Simd::sum`] of each.
    fn sum_four(self, vectors: [Self::F; 4]) -> [f32; 4];
    /// The largest lane. Lanes are not NaN.
    fn largest(self, a: Self::F) -> f32;
}

/// A computation to be compiled once per level. `run` must be `#[inline(always)]`.
pub(crate) trait Op {
    type Output;
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Runs `op` at `level`, or at the highest level of this machine if that is lower.
pub(crate) fn dispatch<O: Op>(level: Level, op: O) -> O::Output {
    match level.min(Level::detect()) {
        Level::Scalar => op.run(scalar::Scalar),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => {
            // SAFETY: `detect` found every feature that `enter` is compiled with.
            unsafe { avx2::enter(op) }
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => {
            // SAFETY: `detect` found every feature that `enter` is compiled with.
            unsafe { avx512::enter(op) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::Avx512 => op.run(scalar::Scalar),
    }
}
