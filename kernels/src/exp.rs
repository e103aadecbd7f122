//! The exponential and the logarithm of the normaliser, by correctly rounded operations only.
//!
//! `exp(d)` for an f32 `d`: with `n` the integer nearest to `d / ln 2` and `r = d - n ln 2`, a
//! polynomial of degree 5 in `r` gives `e^r`, and `n` is added to its exponent. The relative error
//! is below 4e-7, and below 2.4e-7 for |d| <= 30: less than the rounding of a usual normaliser.

use crate::simd::{ROUNDER, Simd};

/// Arguments below this give `exp(FLOOR)` = 4.5e-38, which keeps exponents in range.
pub(crate) const FLOOR: f32 = -86.0;

/// e^r for |r| <= ln(2) / 2, least relative error with e^0 = 1; highest power first.
const POLYNOMIAL: [f32; 6] = [0.008_312_502, 0.041_890_334, 0.166_671_16, 0.499_992_3, 1.0, 1.0];

/// e^d in every lane for `d` up to 88; NaN stays NaN.
///
/// Several vectors at once: a step depends on the one before, and a processor overlaps more of
/// them when they stand side by side.
#[inline(always)]
pub(crate) fn exp<S: Simd, const N: usize>(s: S, d: [S::F; N]) -> [S::F; N] {
    let (mut r, mut power, mut p) = (d, d, [s.splat(POLYNOMIAL[0]); N]);
    for (r, power) in r.iter_mut().zip(&mut power) {
        *r = s.max(s.splat(FLOOR), *r);
        *power = s.fma(*r, s.splat(std::f32::consts::LOG2_E), s.splat(ROUNDER));
    }
    for (r, power) in r.iter_mut().zip(&power) {
        let n = s.sub(*power, s.splat(ROUNDER));
        *r = s.fma(n, s.splat(-std::f32::consts::LN_2), *r);
    }
    for coefficient in &POLYNOMIAL[1..] {
        for (p, r) in p.iter_mut().zip(&r) {
            *p = s.fma(*p, *r, s.splat(*coefficient));
        }
    }
    for (p, power) in p.iter_mut().zip(&power) {
        *p = s.shift_exponent(*p, *power);
    }
    p
}

/// [`exp`] of four vectors, as many at once as the registers hold.
#[inline(always)]
pub(crate) fn exp_block<S: Simd>(s: S, d: [S::F; 4]) -> [S::F; 4] {
    if S::REGISTERS >= 32 {
        return exp(s, d);
    }
    let [a, b, c, d] = d;
    let [[a], [b], [c], [d]] = [exp(s, [a]), exp(s, [b]), exp(s, [c]), exp(s, [d])];
    [a, b, c, d]
}

/// The natural logarithm of a finite `x >= 0` by f64 add, multiply, fused multiply-add and divide,
/// in one fixed order; `ln(0)` is -inf. Relative error below 1e-15 away from 1, absolute near it.
///
/// The standard library's `ln` is whatever the platform's mathematics library does, so two
/// machines could differ in the last bit; this cannot.
pub(crate) fn ln(x: f64) -> f64 {
    /// sqrt(1/2): the mantissa is reduced to sqrt(1/2)..sqrt(2).
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
            let [e] = exp(s, [s.load(&self.0)]);
            s.store(e, &mut out);
            out
        }
    }

    #[test]
    fn exp_is_close_to_the_f64_exponential_and_the_same_at_every_level() {
        let (mut worst, mut worst_near) = (0.0_f64, 0.0_f64);
        let steps = 40_000_u16;
        for step in (0..steps).step_by(16) {
            let at = |lane: u16| {
                let t = f32::from(step + lane) / f32::from(steps);
                t.mul_add(64.0 - FLOOR, FLOOR)
            };
            let d: [f32; 16] = std::array::from_fn(|lane| at(lane as u16));
            let fast = simd::dispatch(Level::detect(), Exp(d));
            for level in Level::ALL {
                assert_eq!(simd::dispatch(level, Exp(d)).map(f32::to_bits), fast.map(f32::to_bits));
            }
            for (d, e) in d.iter().zip(fast) {
                let exact = f64::from(*d).exp();
                let error = (f64::from(e) - exact).abs() / exact;
                worst = worst.max(error);
                if d.abs() <= 30.0 {
                    worst_near = worst_near.max(error);
                }
            }
        }
        assert!(worst < 4e-7 && worst_near < 2.4e-7, "{worst} {worst_near}");
    }

    #[test]
    fn exp_has_exact_ends() {
        let low = [f32::NEG_INFINITY, FLOOR.next_down(), f32::MIN, FLOOR];
        let mut d = [0.0_f32; 16];
        d[1] = -0.0;
        d[2] = f32::NAN;
        d[3..7].copy_from_slice(&low);
        for level in Level::ALL {
            let e = simd::dispatch(level, Exp(d));
            assert_eq!((e[0], e[1]), (1.0, 1.0));
            assert!(e[2].is_nan());
            assert!(e[3..7].iter().all(|low| *low == e[6] && *low > 0.0 && *low < 1e-37), "{e:?}");
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
