//! AVX-512 F, BW, DQ and VL: one vector is one register.

use std::arch::x86_64::*;

use super::{Op, Simd, WIDTH};

/// Exists only inside [`enter`].
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Runs `op` compiled for this level.
#[target_feature(enable = "avx2,fma,f16c,popcnt,bmi1,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn enter<O: Op>(op: O) -> O::Output {
    op.run(Avx512(()))
}

/// An instruction that touches registers only.
macro_rules! on {
    ($instruction:expr) => {{
        // SAFETY: `self` is an `Avx512`, which only `enter` makes, and `enter` can only be called
        // where its target features exist; no instruction here needs more than those.
        unsafe { $instruction }
    }};
}

type F = __m512;
type M = __mmask16;

impl Simd for Avx512 {
    type F = F;
    type M = M;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn prefetch<T>(self, from: &T) {
        // SAFETY: a hint, for an address that is valid; every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(from).cast()) }
    }
    #[inline(always)]
    fn splat(self, value: f32) -> F {
        on!(_mm512_set1_ps(value))
    }
    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> F {
        // SAFETY: reads the 64 bytes of `from`, at any alignment; features as in `on`.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn load_f32(self, from: &[[u8; 4]; WIDTH]) -> F {
        // SAFETY: reads the 64 bytes of `from`, at any alignment; features as in `on`.
        unsafe { _mm512_loadu_ps(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_f16(self, from: &[[u8; 2]; WIDTH]) -> F {
        // SAFETY: reads the 32 bytes of `from`, at any alignment; features as in `on`.
        let halves = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
        on!(_mm512_cvtph_ps(halves))
    }
    #[inline(always)]
    fn load_bf16(self, from: &[[u8; 2]; WIDTH]) -> F {
        // SAFETY: reads the 32 bytes of `from`, at any alignment; features as in `on`.
        let halves = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
        // Word i becomes the upper half of lane i: one shuffle, where widening takes two steps.
        let upper = on!(_mm512_set_epi16(
            15, 0, 14, 0, 13, 0, 12, 0, 11, 0, 10, 0, 9, 0, 8, 0, 7, 0, 6, 0, 5, 0, 4, 0, 3, 0, 2,
            0, 1, 0, 0, 0,
        ));
        let halves = on!(_mm512_castsi256_si512(halves));
        let bits = on!(_mm512_maskz_permutexvar_epi16(0xaaaa_aaaa, upper, halves));
        on!(_mm512_castsi512_ps(bits))
    }
    #[inline(always)]
    fn load_bf16_split(self, from: &[[u8; 2]; 2 * WIDTH]) -> [F; 2] {
        // SAFETY: reads the 64 bytes of `from`, at any alignment; features as in `on`.
        let pairs = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
        let even = on!(_mm512_slli_epi32::<16>(pairs));
        let upper = on!(_mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
        let odd = on!(_mm512_and_si512(pairs, upper));
        [on!(_mm512_castsi512_ps(even)), on!(_mm512_castsi512_ps(odd))]
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; WIDTH]) -> F {
        // SAFETY: reads the 16 bytes of `from`, at any alignment; features as in `on`.
        let bytes = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
        let wide = on!(_mm512_cvtepi8_epi32(bytes));
        on!(_mm512_cvtepi32_ps(wide))
    }
    #[inline(always)]
    fn store(self, value: F, to: &mut [f32; WIDTH]) {
        // SAFETY: writes the 64 bytes of `to`, at any alignment; features as in `on`.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        on!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        on!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        on!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        on!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        on!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        on!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        on!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn max_magnitude(self, a: F, top: F) -> F {
        let a = on!(_mm512_castps_si512(self.abs(a)));
        let top = on!(_mm512_castps_si512(top));
        let max = on!(_mm512_max_epu32(a, top));
        on!(_mm512_castsi512_ps(max))
    }
    #[inline(always)]
    fn shift_exponent(self, a: F, power: F) -> F {
        let power = on!(_mm512_castps_si512(power));
        let power = on!(_mm512_slli_epi32::<23>(power));
        let a = on!(_mm512_castps_si512(a));
        let sum = on!(_mm512_add_epi32(a, power));
        on!(_mm512_castsi512_ps(sum))
    }

    #[inline(always)]
    fn at_least(self, a: F, b: F) -> M {
        on!(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b))
    }
    #[inline(always)]
    fn is_nan(self, a: F) -> M {
        on!(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a))
    }
    #[inline(always)]
    fn or(self, a: M, b: M) -> M {
        a | b
    }
    #[inline(always)]
    fn bits(self, mask: M) -> u32 {
        u32::from(mask)
    }

    #[inline(always)]
    fn store_i8(self, value: F, to: &mut [i8; WIDTH]) {
        let bits = on!(_mm512_castps_si512(value));
        let bytes = on!(_mm512_cvtepi32_epi8(bits));
        // SAFETY: writes the 16 bytes of `to`, at any alignment; features as in `on`.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), bytes) }
    }
    #[inline(always)]
    fn store_f16(self, value: F, to: &mut [u16; WIDTH]) {
        let nan = self.is_nan(value);
        let rounded =
            on!(_mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(value));
        let canonical = on!(_mm256_set1_epi16(0x7e00));
        let halves = on!(_mm256_mask_mov_epi16(rounded, nan, canonical));
        // SAFETY: writes the 32 bytes of `to`, at any alignment; features as in `on`.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), halves) }
    }
    #[inline(always)]
    fn store_bf16(self, value: F, to: &mut [u16; WIDTH]) {
        let nan = self.is_nan(value);
        let bits = on!(_mm512_castps_si512(value));
        let upper = on!(_mm512_srli_epi32::<16>(bits));
        let one = on!(_mm512_set1_epi32(1));
        let odd = on!(_mm512_and_si512(upper, one));
        let half = on!(_mm512_set1_epi32(0x7fff));
        let carry = on!(_mm512_add_epi32(odd, half));
        let sum = on!(_mm512_add_epi32(bits, carry));
        let upper = on!(_mm512_srli_epi32::<16>(sum));
        let canonical = on!(_mm512_set1_epi32(0x7fc0));
        let upper = on!(_mm512_mask_mov_epi32(upper, nan, canonical));
        let halves = on!(_mm512_cvtepi32_epi16(upper));
        // SAFETY: writes the 32 bytes of `to`, at any alignment; features as in `on`.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), halves) }
    }

    #[inline(always)]
    fn sum(self, a: F) -> f32 {
        let low = on!(_mm512_castps512_ps256(a));
        let high = on!(_mm512_extractf32x8_ps::<1>(a));
        let eight = on!(_mm256_add_ps(low, high));
        let low = on!(_mm256_castps256_ps128(eight));
        let high = on!(_mm256_extractf128_ps::<1>(eight));
        let four = on!(_mm_add_ps(low, high));
        let high = on!(_mm_movehl_ps(four, four));
        let two = on!(_mm_add_ps(four, high));
        let high = on!(_mm_shuffle_ps::<1>(two, two));
        let one = on!(_mm_add_ss(two, high));
        on!(_mm_cvtss_f32(one))
    }
    #[inline(always)]
    fn sum_four(self, [a, b, c, d]: [F; 4]) -> [f32; 4] {
        // A transposition on the way: the same additions as `sum`, for four at once.
        let low = on!(_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b));
        let high = on!(_mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
        let ab = self.add(low, high);
        let low = on!(_mm512_shuffle_f32x4::<0b01_00_01_00>(c, d));
        let high = on!(_mm512_shuffle_f32x4::<0b11_10_11_10>(c, d));
        let cd = self.add(low, high);
        let low = on!(_mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd));
        let high = on!(_mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd));
        let fours = self.add(low, high);
        let high = on!(_mm512_permute_ps::<0b11_10_11_10>(fours));
        let twos = self.add(fours, high);
        let high = on!(_mm512_permute_ps::<0b01_01_01_01>(twos));
        let ones = self.add(twos, high);
        let packed = on!(_mm512_maskz_compress_ps(0x1111, ones));
        let packed = on!(_mm512_castps512_ps128(packed));
        let mut sums = [0.0; 4];
        // SAFETY: writes the 16 bytes of `sums`, at any alignment; features as in `on`.
        unsafe { _mm_storeu_ps(sums.as_mut_ptr(), packed) };
        sums
    }
    #[inline(always)]
    fn largest(self, a: F) -> f32 {
        on!(_mm512_reduce_max_ps(a))
    }
}
