//! Probabilities from logits and their normaliser, the same bits on every machine.
//!
//! The standard library's `exp` and `ln` are whatever the platform's mathematics library does. What
//! an encoder decides by (how many entries a mass asks for, how fine a step must be) and what a
//! merge answers should not depend on the machine, so both functions here use correctly rounded
//! f64 operations in one fixed order.

use crate::exp;

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
    let shifted = x * std::f64::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    // The series of e^r for |r| <= ln(2) / 2: the first term left out is below 1e-17.
    let mut series = 0.0;
    for coefficient in SERIES {
        series = series * r + coefficient;
    }
    let power = (n as i64 + 1023).cast_unsigned() << 52;
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
}
