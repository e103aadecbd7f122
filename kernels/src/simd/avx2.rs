//! AVX2 with FMA and F16C: one vector is two registers, lanes 0..8 and 8..16.

use std::arch::x86_64::*;

use super::{Op, Simd, WIDTH};

/// Exists only inside [`enter`].
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Runs `op` compiled for this level.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn enter<O: Op>(op: O) -> O::Output {
    op.run(Avx2(()))
}

/// An instruction that touches registers only.
macro_rules! on {
    ($instruction:expr) => {{
        // SAFETY: `self` is an `Avx2`, which only `enter` makes, and `enter` can only be called
        // where its target features exist; no instruction here needs more than those.
        unsafe { $instruction }
    }};
}

type F = [__m256; 2];

/// The two halves of an array of sixteen.
#[inline(always)]
fn halves<T>(from: &[T; WIDTH]) -> [*const T; 2] {
    let (low, high) = from.split_at(WIDTH / 2);
    [low.as_ptr(), high.as_ptr()]
}

/// The two halves of an array of sixteen.
#[inline(always)]
fn halves_mut<T>(to: &mut [T; WIDTH]) -> [*mut T; 2] {
    let (low, high) = to.split_at_mut(WIDTH / 2);
    [low.as_mut_ptr(), high.as_mut_ptr()]
}

impl Avx2 {
    #[inline(always)]
    fn pairs(self, a: F, b: F, f: impl Fn(__m256, __m256) -> __m256) -> F {
        [f(a[0], b[0]), f(a[1], b[1])]
    }

    /// Two registers of eight i32 as sixteen u16; the lanes are already in range.
    #[inline(always)]
    fn pack_u16(self, low: __m256i, high: __m256i) -> __m256i {
        let mixed = on!(_mm256_packus_epi32(low, high));
        on!(_mm256_permute4x64_epi64::<0b11_01_10_00>(mixed))
    }

    #[inline(always)]
    fn round_bf16(self, a: __m256) -> __m256i {
        let bits = on!(_mm256_castps_si256(a));
        let upper = on!(_mm256_srli_epi32::<16>(bits));
        let one = on!(_mm256_set1_epi32(1));
        let odd = on!(_mm256_and_si256(upper, one));
        let half = on!(_mm256_set1_epi32(0x7fff));
        let carry = on!(_mm256_add_epi32(odd, half));
        let sum = on!(_mm256_add_epi32(bits, carry));
        let upper = on!(_mm256_srli_epi32::<16>(sum));
        let nan = on!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
        let nan = on!(_mm256_castps_si256(nan));
        let canonical = on!(_mm256_set1_epi32(0x7fc0));
        on!(_mm256_blendv_epi8(upper, canonical, nan))
    }

    #[inline(always)]
    fn round_f16(self, a: __m256) -> __m128i {
        let nan = on!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
        let canonical = on!(_mm256_set1_ps(f32::NAN));
        let a = on!(_mm256_blendv_ps(a, canonical, nan));
        on!(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a))
    }

    /// The lower four lanes, after the upper four were folded onto them.
    #[inline(always)]
    fn split(self, eight: __m256) -> (__m128, __m128) {
        let low = on!(_mm256_castps256_ps128(eight));
        let high = on!(_mm256_extractf128_ps::<1>(eight));
        (low, high)
    }
}

impl Simd for Avx2 {
    type F = F;
    /// All bits of a lane set, or none.
    type M = F;
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, value: f32) -> F {
        let half = on!(_mm256_set1_ps(value));
        [half, half]
    }
    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> F {
        // SAFETY: reads 32 bytes of a half of `from`, at any alignment; features as in `on`.
        halves(from).map(|half| unsafe { _mm256_loadu_ps(half) })
    }
    #[inline(always)]
    fn load_f32(self, from: &[[u8; 4]; WIDTH]) -> F {
        // SAFETY: reads 32 bytes of a half of `from`, at any alignment; features as in `on`.
        halves(from).map(|half| unsafe { _mm256_loadu_ps(half.cast()) })
    }
    #[inline(always)]
    fn load_f16(self, from: &[[u8; 2]; WIDTH]) -> F {
        halves(from).map(|half| {
            // SAFETY: reads 16 bytes of a half of `from`, at any alignment; features as in `on`.
            let half = unsafe { _mm_loadu_si128(half.cast()) };
            on!(_mm256_cvtph_ps(half))
        })
    }
    #[inline(always)]
    fn load_bf16(self, from: &[[u8; 2]; WIDTH]) -> F {
        halves(from).map(|half| {
            // SAFETY: reads 16 bytes of a half of `from`, at any alignment; features as in `on`.
            let half = unsafe { _mm_loadu_si128(half.cast()) };
            let wide = on!(_mm256_cvtepu16_epi32(half));
            let bits = on!(_mm256_slli_epi32::<16>(wide));
            on!(_mm256_castsi256_ps(bits))
        })
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; WIDTH]) -> F {
        halves(from).map(|half| {
            // SAFETY: reads 8 bytes of a half of `from`, at any alignment; features as in `on`.
            let half = unsafe { _mm_loadl_epi64(half.cast()) };
            let wide = on!(_mm256_cvtepi8_epi32(half));
            on!(_mm256_cvtepi32_ps(wide))
        })
    }
    #[inline(always)]
    fn store(self, value: F, to: &mut [f32; WIDTH]) {
        for (half, value) in halves_mut(to).into_iter().zip(value) {
            // SAFETY: writes 32 bytes of a half of `to`, at any alignment; features as in `on`.
            unsafe { _mm256_storeu_ps(half, value) }
        }
    }

    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        self.pairs(a, b, |a, b| on!(_mm256_add_ps(a, b)))
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        self.pairs(a, b, |a, b| on!(_mm256_sub_ps(a, b)))
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        self.pairs(a, b, |a, b| on!(_mm256_mul_ps(a, b)))
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        self.pairs(a, b, |a, b| on!(_mm256_div_ps(a, b)))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        [on!(_mm256_fmadd_ps(a[0], b[0], c[0])), on!(_mm256_fmadd_ps(a[1], b[1], c[1]))]
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        self.pairs(a, b, |a, b| on!(_mm256_max_ps(a, b)))
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        let sign = on!(_mm256_set1_ps(-0.0));
        a.map(|a| on!(_mm256_andnot_ps(sign, a)))
    }
    #[inline(always)]
    fn round(self, a: F) -> F {
        a.map(|a| on!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)))
    }
    #[inline(always)]
    fn shift_exponent(self, a: F, power: F) -> F {
        self.pairs(a, power, |a, power| {
            let power = on!(_mm256_castps_si256(power));
            let power = on!(_mm256_slli_epi32::<23>(power));
            let a = on!(_mm256_castps_si256(a));
            let sum = on!(_mm256_add_epi32(a, power));
            on!(_mm256_castsi256_ps(sum))
        })
    }

    #[inline(always)]
    fn at_least(self, a: F, b: F) -> F {
        self.pairs(a, b, |a, b| on!(_mm256_cmp_ps::<_CMP_GE_OQ>(a, b)))
    }
    #[inline(always)]
    fn is_nan(self, a: F) -> F {
        a.map(|a| on!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a)))
    }
    #[inline(always)]
    fn or(self, a: F, b: F) -> F {
        self.pairs(a, b, |a, b| on!(_mm256_or_ps(a, b)))
    }
    #[inline(always)]
    fn keep(self, mask: F, a: F) -> F {
        self.pairs(mask, a, |mask, a| on!(_mm256_and_ps(mask, a)))
    }
    #[inline(always)]
    fn bits(self, mask: F) -> u32 {
        let [low, high] = mask.map(|half| on!(_mm256_movemask_ps(half)));
        (low | high << 8) as u32
    }

    #[inline(always)]
    fn store_i8(self, value: F, to: &mut [i8; WIDTH]) {
        let [low, high] = value.map(|half| on!(_mm256_cvtps_epi32(half)));
        let mixed = on!(_mm256_packs_epi32(low, high));
        let words = on!(_mm256_permute4x64_epi64::<0b11_01_10_00>(mixed));
        let low = on!(_mm256_castsi256_si128(words));
        let high = on!(_mm256_extracti128_si256::<1>(words));
        let bytes = on!(_mm_packs_epi16(low, high));
        // SAFETY: writes the 16 bytes of `to`, at any alignment; features as in `on`.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), bytes) }
    }
    #[inline(always)]
    fn store_f16(self, value: F, to: &mut [u16; WIDTH]) {
        let value = value.map(|half| self.round_f16(half));
        for (half, value) in halves_mut(to).into_iter().zip(value) {
            // SAFETY: writes 16 bytes of a half of `to`, at any alignment; features as in `on`.
            unsafe { _mm_storeu_si128(half.cast(), value) }
        }
    }
    #[inline(always)]
    fn store_bf16(self, value: F, to: &mut [u16; WIDTH]) {
        let [low, high] = value.map(|half| self.round_bf16(half));
        let packed = self.pack_u16(low, high);
        // SAFETY: writes the 32 bytes of `to`, at any alignment; features as in `on`.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), packed) }
    }

    #[inline(always)]
    fn sum(self, a: F) -> f32 {
        let eight = on!(_mm256_add_ps(a[0], a[1]));
        let (low, high) = self.split(eight);
        let four = on!(_mm_add_ps(low, high));
        let high = on!(_mm_movehl_ps(four, four));
        let two = on!(_mm_add_ps(four, high));
        let high = on!(_mm_shuffle_ps::<1>(two, two));
        let one = on!(_mm_add_ss(two, high));
        on!(_mm_cvtss_f32(one))
    }
    #[inline(always)]
    fn largest(self, a: F) -> f32 {
        let eight = on!(_mm256_max_ps(a[0], a[1]));
        let (low, high) = self.split(eight);
        let four = on!(_mm_max_ps(low, high));
        let high = on!(_mm_movehl_ps(four, four));
        let two = on!(_mm_max_ps(four, high));
        let high = on!(_mm_shuffle_ps::<1>(two, two));
        let one = on!(_mm_max_ss(two, high));
        on!(_mm_cvtss_f32(one))
    }
}
