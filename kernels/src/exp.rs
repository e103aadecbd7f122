//! The exponential and the logarithm of the normaliser, by correctly rounded operations only.
//!
//! `exp(d)` for an f32 `d`: with `n` the integer nearest to `d / ln 2` and `r = d - n ln 2`, a
//! polynomial of degree 6 in `r` gives `e^r` and `n` is added to its exponent. Relative error below
//! 1.2e-7 for `d` in `FLOOR..=CEILING`; below `FLOOR`, and for NaN, the result is +0.

use crate::simd::Simd;

/// Terms smaller than `exp(FLOOR)` = 4.5e-38 count as zero; also keeps exponents in range.
pub(crate) const FLOOR: f32 = -86.0;
/// The largest argument that a caller may rely on.
pub(crate) const CEILING: f32 = 64.0;

/// 1.5 * 2^23: adding it rounds to an integer and leaves that integer in the low bits.
const ROUNDER: f32 = 12_582_912.0;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts, the first its nearest f32.
const LN_2_HIGH: f32 = std::f32::consts::LN_2;
const LN_2_LOW: f32 = -1.904_654_3e-9;
/// (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, least relative error of e^r; highest power first.
const POLYNOMIAL: [f32; 5] =
    [0.001_381_453_9, 0.008_368_745, 0.041_668_39, 0.166_665_21, 0.499_999_94];

/// e^d in every lane: see the module.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, d: S::F) -> S::F {
    let power = s.fma(d, s.splat(LOG2_E), s.splat(ROUNDER));
    let n = s.sub(power, s.splat(ROUNDER));
    let r = s.fma(n, s.splat(-LN_2_HIGH), d);
    let r = s.fma(n, s.splat(-LN_2_LOW), r);
    let mut p = s.splat(POLYNOMIAL[0]);
    for coefficient in &POLYNOMIAL[1..] {
        p = s.fma(p, r, s.splat(*coefficient));
    }
    let p = s.fma(p, r, s.splat(1.0));
    let p = s.fma(p, r, s.splat(1.0));
    s.keep(s.at_least(d, s.splat(FLOOR)), s.shift_exponent(p, power))
}

/// The natural logarithm of a finite `x >= 0` by f64 add, multiply, fused multiply-add and divide,
/// in one fixed order; `ln(0)` is -inf. Relative error below 1e-15 away from 1, absolute near it.
///
/// The standard library's `ln` is whatever the platform's mathematics library does, so two
/// machines could differ in the last bit; this cannot.
pub(crate) fn ln(x: f64) -> f64 {
    /// The sign and exponent of sqrt(1/2), and half of its fraction: the mantissa is reduced to
    /// sqrt(1/2)..sqrt(2).
    const SQRT_HALF_BITS: u64 = 0x3fe6_a09e_667f_3bcd;
    if x <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let above = x.to_bits().wrapping_sub(SQRT_HALF_BITS).cast_signed();
    let exponent = above >> 52;
    let mantissa = f64::from_bits(x.to_bits().wrapping_sub((exponent << 52).cast_unsigned()));
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let w = z * z;
    // ln m = 2 atanh z = 2 (z + z^3/3 + z^5/5 + ...), |z| <= 0.1716: the first term left out is
    // below 1e-17 of the whole.
    let mut series = 0.0;
    for odd in (3..=21).rev().step_by(2) {
        series = w.mul_add(series, 1.0 / f64::from(odd));
    }
    let series = w.mul_add(series, 1.0);
    (exponent as f64).mul_add(std::f64::consts::LN_2, 2.0 * z * series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Level;
    use crate::simd::{self, Op};

    struct Exp([f32; 16]);
    impl Op for Exp {
        type Output = [f32; 16];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; 16] {
            let mut out = [0.0; 16];
            s.store(exp(s, s.load(&self.0)), &mut out);
            out
        }
    }

    #[test]
    fn exp_is_close_to_the_f64_exponential_and_the_same_at_every_level() {
        let mut worst = 0.0_f64;
        let steps = 40_000_u16;
        for step in (0..steps).step_by(16) {
            let at = |lane: u16| {
                let t = f32::from(step + lane) / f32::from(steps);
                t.mul_add(CEILING - FLOOR, FLOOR)
            };
            let d: [f32; 16] = std::array::from_fn(|lane| at(lane as u16));
            let fast = simd::dispatch(Level::detect(), Exp(d));
            for level in Level::ALL {
                assert_eq!(simd::dispatch(level, Exp(d)).map(f32::to_bits), fast.map(f32::to_bits));
            }
            for (d, e) in d.iter().zip(fast) {
                let exact = f64::from(*d).exp();
                worst = worst.max((f64::from(e) - exact).abs() / exact);
            }
        }
        assert!(worst < 1.2e-7, "{worst}");
    }

    #[test]
    fn exp_has_exact_ends() {
        let mut d = [0.0_f32; 16];
        d[1] = -0.0;
        d[2] = f32::NEG_INFINITY;
        d[3] = f32::NAN;
        d[4] = FLOOR.next_down();
        d[5] = f32::MIN;
        for level in Level::ALL {
            let e = simd::dispatch(level, Exp(d));
            assert_eq!(
                e[..6].iter().map(|e| e.to_bits()).collect::<Vec<_>>(),
                [1.0_f32.to_bits(), 1.0_f32.to_bits(), 0, 0, 0, 0]
            );
        }
    }

    #[test]
    fn ln_is_close_to_the_standard_one() {
        let mut x = 1e-30_f64;
        while x < 1e38 {
            let error = (ln(x) - x.ln()).abs();
            assert!(error <= 4e-16 * x.ln().abs().max(1.0), "{x}: {error}");
            x *= 1.000_37;
        }
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
    }
}
