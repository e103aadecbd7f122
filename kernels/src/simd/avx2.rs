//! AVX2 with FMA and F16C: one vector is two registers, lanes 0..8 and 8..16.

use std::arch::x86_64::*;

use super::{Op, ROUNDER, Simd, WIDTH};

/// Exists only inside [`enter`].
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Runs `op` compiled for this level.
#[target_feature(enable = "avx2,fma,f16c,popcnt,bmi1")]
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

/// The two halves of an array.
#[inline(always)]
fn halves<T, const N: usize>(from: &[T; N]) -> [*const T; 2] {
    let (low, high) = from.split_at(N / 2);
    [low.as_ptr(), high.as_ptr()]
}

/// The two halves of an array.
#[inline(always)]
fn halves_mut<T>(to: &mut [T; WIDTH]) -> [*mut T; 2] {
    let (low, high) = to.split_at_mut(WIDTH / 2);
    [low.as_mut_ptr(), high.as_mut_ptr()]
}

/// The same for the lower and the upper register of each name. Not a closure: see `simd`.
macro_rules! both {
    (|$($name:ident),*| $half:expr) => {
        [{ $(let $name = $name[0];)* $half }, { $(let $name = $name[1];)* $half }]
    };
}

impl Avx2 {
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

    /// Sixteen lanes folded to eight and to four.
    #[inline(always)]
    fn fold(self, a: F) -> __m128 {
        let eight = on!(_mm256_add_ps(a[0], a[1]));
        let (low, high) = self.split(eight);
        on!(_mm_add_ps(low, high))
    }

    /// The lower and the upper four lanes.
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
    fn prefetch<T>(self, from: &T) {
        // SAFETY: a hint, for an address that is valid; every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(from).cast()) }
    }
    #[inline(always)]
    fn splat(self, value: f32) -> F {
        let half = on!(_mm256_set1_ps(value));
        [half, half]
    }
    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> F {
        let from = halves(from);
        // SAFETY: reads 32 bytes of a half of `from`, at any alignment; features as in `on`.
        both!(|from| unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    fn load_f32(self, from: &[[u8; 4]; WIDTH]) -> F {
        let from = halves(from);
        // SAFETY: reads 32 bytes of a half of `from`, at any alignment; features as in `on`.
        both!(|from| unsafe { _mm256_loadu_ps(from.cast()) })
    }
    #[inline(always)]
    fn load_f16(self, from: &[[u8; 2]; WIDTH]) -> F {
        let from = halves(from);
        both!(|from| {
            // SAFETY: reads 16 bytes of a half of `from`, at any alignment; features as in `on`.
            let half = unsafe { _mm_loadu_si128(from.cast()) };
            on!(_mm256_cvtph_ps(half))
        })
    }
    #[inline(always)]
    fn load_bf16(self, from: &[[u8; 2]; WIDTH]) -> F {
        let from = halves(from);
        both!(|from| {
            // SAFETY: reads 16 bytes of a half of `from`, at any alignment; features as in `on`.
            let half = unsafe { _mm_loadu_si128(from.cast()) };
            let wide = on!(_mm256_cvtepu16_epi32(half));
            let bits = on!(_mm256_slli_epi32::<16>(wide));
            on!(_mm256_castsi256_ps(bits))
        })
    }
    #[inline(always)]
    fn load_bf16_split(self, from: &[[u8; 2]; 2 * WIDTH]) -> [F; 2] {
        let upper = on!(_mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
        let from = halves(from);
        // SAFETY: reads 32 bytes of a half of `from`, at any alignment; features as in `on`.
        let pairs = both!(|from| unsafe { _mm256_loadu_si256(from.cast()) });
        let even = both!(|pairs| on!(_mm256_slli_epi32::<16>(pairs)));
        let odd = both!(|pairs| on!(_mm256_and_si256(pairs, upper)));
        [both!(|even| on!(_mm256_castsi256_ps(even))), both!(|odd| on!(_mm256_castsi256_ps(odd)))]
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; WIDTH]) -> F {
        let from = halves(from);
        both!(|from| {
            // SAFETY: reads 8 bytes of a half of `from`, at any alignment; features as in `on`.
            let half = unsafe { _mm_loadl_epi64(from.cast()) };
            let wide = on!(_mm256_cvtepi8_epi32(half));
            on!(_mm256_cvtepi32_ps(wide))
        })
    }
    #[inline(always)]
    fn store(self, value: F, to: &mut [f32; WIDTH]) {
        let to = halves_mut(to);
        // SAFETY: writes 32 bytes of a half of `to`, at any alignment; features as in `on`.
        let _: [(); 2] = both!(|to, value| unsafe { _mm256_storeu_ps(to, value) });
    }

    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        both!(|a, b| on!(_mm256_add_ps(a, b)))
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        both!(|a, b| on!(_mm256_sub_ps(a, b)))
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        both!(|a, b| on!(_mm256_mul_ps(a, b)))
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        both!(|a, b| on!(_mm256_div_ps(a, b)))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        both!(|a, b, c| on!(_mm256_fmadd_ps(a, b, c)))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        both!(|a, b| on!(_mm256_max_ps(a, b)))
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        let sign = self.splat(-0.0);
        both!(|sign, a| on!(_mm256_andnot_ps(sign, a)))
    }
    #[inline(always)]
    fn max_magnitude(self, a: F, top: F) -> F {
        let a = self.abs(a);
        both!(|a, top| {
            let a = on!(_mm256_castps_si256(a));
            let top = on!(_mm256_castps_si256(top));
            let max = on!(_mm256_max_epu32(a, top));
            on!(_mm256_castsi256_ps(max))
        })
    }
    #[inline(always)]
    fn shift_exponent(self, a: F, power: F) -> F {
        both!(|a, power| {
            let power = on!(_mm256_castps_si256(power));
            let power = on!(_mm256_slli_epi32::<23>(power));
            let a = on!(_mm256_castps_si256(a));
            let sum = on!(_mm256_add_epi32(a, power));
            on!(_mm256_castsi256_ps(sum))
        })
    }

    #[inline(always)]
    fn at_least(self, a: F, b: F) -> F {
        both!(|a, b| on!(_mm256_cmp_ps::<_CMP_GE_OQ>(a, b)))
    }
    #[inline(always)]
    fn is_nan(self, a: F) -> F {
        both!(|a| on!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a)))
    }
    #[inline(always)]
    fn or(self, a: F, b: F) -> F {
        both!(|a, b| on!(_mm256_or_ps(a, b)))
    }
    #[inline(always)]
    fn bits(self, mask: F) -> u32 {
        let [low, high] = both!(|mask| on!(_mm256_movemask_ps(mask)));
        (low | high << 8) as u32
    }

    #[inline(always)]
    fn store_i8(self, value: F, to: &mut [i8; WIDTH]) {
        let rounder = on!(_mm256_set1_epi32(ROUNDER.to_bits().cast_signed()));
        let [low, high] = both!(|value| {
            let bits = on!(_mm256_castps_si256(value));
            on!(_mm256_sub_epi32(bits, rounder))
        });
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
        let value = both!(|value| self.round_f16(value));
        let to = halves_mut(to);
        // SAFETY: writes 16 bytes of a half of `to`, at any alignment; features as in `on`.
        let _: [(); 2] = both!(|to, value| unsafe { _mm_storeu_si128(to.cast(), value) });
    }
    #[inline(always)]
    fn store_bf16(self, value: F, to: &mut [u16; WIDTH]) {
        let [low, high] = both!(|value| self.round_bf16(value));
        let packed = self.pack_u16(low, high);
        // SAFETY: writes the 32 bytes of `to`, at any alignment; features as in `on`.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), packed) }
    }

    #[inline(always)]
    fn sum(self, a: F) -> f32 {
        let four = self.fold(a);
        let high = on!(_mm_movehl_ps(four, four));
        let two = on!(_mm_add_ps(four, high));
        let high = on!(_mm_shuffle_ps::<1>(two, two));
        let one = on!(_mm_add_ss(two, high));
        on!(_mm_cvtss_f32(one))
    }
    #[inline(always)]
    fn sum_four(self, [a, b, c, d]: [F; 4]) -> [f32; 4] {
        // A transposition on the way: the same additions as `sum`, for four at once.
        let [a, b, c, d] = [self.fold(a), self.fold(b), self.fold(c), self.fold(d)];
        let low = on!(_mm_movelh_ps(a, b));
        let high = on!(_mm_movehl_ps(b, a));
        let ab = on!(_mm_add_ps(low, high));
        let low = on!(_mm_movelh_ps(c, d));
        let high = on!(_mm_movehl_ps(d, c));
        let cd = on!(_mm_add_ps(low, high));
        let low = on!(_mm_shuffle_ps::<0b10_00_10_00>(ab, cd));
        let high = on!(_mm_shuffle_ps::<0b11_01_11_01>(ab, cd));
        let ones = on!(_mm_add_ps(low, high));
        let mut sums = [0.0; 4];
        // SAFETY: writes the 16 bytes of `sums`, at any alignment; features as in `on`.
        unsafe { _mm_storeu_ps(sums.as_mut_ptr(), ones) };
        sums
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
