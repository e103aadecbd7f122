//! Probabilities from logits and their normaliser, the same bits on every machine.
//!
//! The standard library's `exp` and `ln` are whatever the platform's mathematics library does. What
//! an encoder decides by (how many entries a mass asks for, how fine a step must be) and what a
//! merge answers should not depend on the machine, so both functions here use correctly rounded
//! f64 operations in one fixed order.

use crate::cpu::Level;
use crate::exp;
use crate::simd::{self, Op, Simd};

/// Below this `exp` is 0: the result would be under 1e-304.
const FLOOR: f64 = -700.0;
/// Above this `exp` is infinite.
const CEILING: f64 = 709.0;

/// 1.5 * 2^52: adding it rounds to an integer, ties to even, which is then in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts; the first has so many zero bits at its end that its product with an exponent
/// is exact.
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// 1 / n! for n from 13 down to 0, each by one division.
const SERIES: [f64; 14] = {
    let (mut series, mut factorial, mut n) = ([1.0; 14], 1.0, 1);
    while n < series.len() {
        factorial *= n as f64;
        series[13 - n] = 1.0 / factorial;
        n += 1;
    }
    series
};

/// e^x. 0 below -700 and for NaN, infinite above 709; relative error below 1e-15 between.
#[must_use]
pub fn exp(x: f64) -> f64 {
    if x.is_nan() || x < FLOOR {
        return 0.0;
    }
    if x > CEILING {
        return f64::INFINITY;
    }
    within(x)
}

/// e^x for an x from [`FLOOR`] to [`CEILING`].
#[inline(always)]
fn within(x: f64) -> f64 {
    let shifted = x * std::f64::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    // The series of e^r for |r| <= ln(2) / 2: the first term left out is below 1e-17.
    let mut series = 0.0;
    for coefficient in SERIES {
        series = series * r + coefficient;
    }
    // The low twelve bits of what was shifted are those of n.
    let power = shifted.to_bits().wrapping_add(1023) << 52;
    series * f64::from_bits(power)
}

/// The natural logarithm of a finite `x >= 0`; -inf for 0, for what is below 0, and for NaN.
#[must_use]
pub fn ln(x: f64) -> f64 {
    if x.is_nan() { f64::NEG_INFINITY } else { exp::ln(x) }
}

/// The probability of an entry: `exp(value - max - log_sum)`.
///
/// `max` and `log_sum` are a [`crate::topk::RowSummary`]'s. Where the maximum is infinite each
/// entry equal to it has `exp(-log_sum)` and every other none; where there is no valid entry
/// (`log_sum` is -inf) none has any.
#[must_use]
pub fn of(value: f32, max: f32, log_sum: f32) -> f64 {
    if log_sum == f32::NEG_INFINITY {
        0.0
    } else if value == max {
        exp(-f64::from(log_sum))
    } else {
        exp(f64::from(value) - f64::from(max) - f64::from(log_sum))
    }
}

/// [`of`] of each value, the same bits, into the first places of `out`; stops at the end of the
/// shorter. Several times as fast as one by one.
pub fn each(values: &[f32], max: f32, log_sum: f32, out: &mut [f64]) {
    each_at(Level::detect(), values, max, log_sum, out);
}

/// [`each()`] at a given level.
pub fn each_at(level: Level, values: &[f32], max: f32, log_sum: f32, out: &mut [f64]) {
    if max.is_finite() && log_sum != f32::NEG_INFINITY {
        let (max, log_sum) = (f64::from(max), f64::from(log_sum));
        simd::dispatch(level, Each { values, max, log_sum, out });
    } else {
        for (value, out) in values.iter().zip(out) {
            *out = of(*value, max, log_sum);
        }
    }
}

struct Each<'a, 'b> {
    values: &'a [f32],
    max: f64,
    log_sum: f64,
    out: &'b mut [f64],
}

impl Op for Each<'_, '_> {
    type Output = ();
    /// No vectors by name: without branches the compiler makes them, from what the level offers.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (max, log_sum) = (self.max, self.log_sum);
        for (value, out) in self.values.iter().zip(self.out) {
            // Of the maximum itself this is 0 - log_sum.
            let x = f64::from(*value) - max - log_sum;
            let low = if x >= FLOOR { x } else { FLOOR };
            let e = within(if low > CEILING { CEILING } else { low });
            let e = if x > CEILING { f64::INFINITY } else { e };
            *out = if x >= FLOOR { e } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_standard_one() {
        let mut x = FLOOR;
        while x < CEILING {
            let error = (exp(x) / x.exp() - 1.0).abs();
            assert!(error < 1e-15, "{x}: {error:e}");
            x += 0.037;
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!((exp(f64::NEG_INFINITY), exp(f64::NAN)), (0.0, 0.0));
        assert_eq!(exp(f64::INFINITY), f64::INFINITY);
    }

    #[test]
    fn odd_rows_have_probabilities() {
        let (inf, two) = (f32::INFINITY, 2.0_f32.ln());
        assert!((of(inf, inf, two) - 0.5).abs() < 1e-7);
        assert_eq!(of(3.0, inf, two), 0.0);
        assert_eq!(of(-inf, -inf, -inf), 0.0);
        assert_eq!(of(1.0, 1.0, 0.0), 1.0);
        assert_eq!(of(-inf, 1.0, 0.0), 0.0);
        assert_eq!((ln(1.0), ln(0.0), ln(f64::NAN)), (0.0, -f64::INFINITY, -f64::INFINITY));
    }

    #[test]
    fn many_at_once_have_the_same_bits() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let mut values = vec![0.0, -0.0, inf, -inf, nan, f32::MAX, f32::MIN, 1e-40];
        values.extend((0..3000_u16).map(|step| f32::from(step).mul_add(0.531, -800.0)));
        for max in [0.0, -0.0, 12.5, -3.0, f32::MAX, inf, -inf, nan] {
            for log_sum in [0.0, -0.0, 4.605, 11.0, 720.0, -720.0, inf, -inf, nan] {
                let mut all = vec![7.0; values.len()];
                for level in Level::ALL {
                    each_at(level, &values, max, log_sum, &mut all);
                    for (value, p) in values.iter().zip(&all) {
                        let alone = of(*value, max, log_sum);
                        assert_eq!(p.to_bits(), alone.to_bits(), "{value} {max} {log_sum}");
                    }
                }
            }
        }
    }
}
