//! Distances to the maximum in steps of a power of two (C10, C11).
//!
//! What an error of a value costs grows with the entry's probability: an error of e nats in an
//! entry of probability p adds about p e^2 / 2 to the divergence. So steps need to be fine where
//! probability is, and may double where it has fallen to a quarter. Distances are cut into zones of
//! [`ZONE`] = 1.5 nats (e^-1.5 is 0.22), and the step doubles from zone to zone, `coarser` times;
//! the last zone has no end.
//!
//! The finest step is the largest power of two whose expected divergence, p step^2 / 24 summed over
//! the entries, is no more than [`NEGLIGIBLE`], or than what values rounded to f16 would cost by
//! the same formula with the spacing of f16 at each value, if that is more. (Rounding them costs
//! more than that: it also moves the probability of everything outside the set, which here is
//! kept.)

use super::values::below;
use super::{Head, take};
use crate::numbers::{Code, put_leb128, take_leb128};
use crate::{Fault, Full};

/// Nats per zone.
const ZONE: f32 = 1.5;
/// How often the step doubles.
const COARSER: u32 = 4;
/// A divergence that nobody sees, nats: a top-100 set without any rounding has 1,000 times as much.
const NEGLIGIBLE: f64 = 1.0 / 65_536.0;
/// The finest step is 2^-`FINE_MIN` to 2^-`FINE_MAX` nats.
const FINE_MIN: u32 = 6;
const FINE_MAX: u32 = 10;

/// A way from distances to numbers and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    /// The finest step is 2^-fine nats.
    fine: u32,
    /// How often it doubles; below `fine`.
    coarser: u32,
    /// The largest number in the row: numbers are written as what they lack to it.
    top: u32,
}

impl Steps {
    /// The largest distance that can be written, nats; further ones have no probability to speak of
    /// but still deserve their value, which f16 then gives.
    pub(super) const FURTHEST: f32 = 120.0;

    /// For the values of a row with this maximum, whose probabilities are known.
    pub(super) fn fit(max: f32, values: &[f32], probabilities: &[f64]) -> Self {
        let (mut allowed, mut zones) = (0.0, [0.0; COARSER as usize + 1]);
        for (value, p) in values.iter().zip(probabilities) {
            let spacing = f64::from(f16_spacing(*value));
            allowed += p * spacing * spacing;
            let distance = below(max, *value);
            // The best entry has distance 0 and no error.
            if distance > 0.0
                && let Some(zone) = zones.get_mut(zone_of(distance) as usize)
            {
                *zone += p;
            }
        }
        // In units of the finest step, squared.
        let cost = zones.iter().rev().fold(0.0, |sum, p| 4.0 * sum + p);
        let mut fine = FINE_MIN;
        let mut square = f64::from(1_u32 << (2 * FINE_MIN)).recip();
        while fine < FINE_MAX && cost * square > allowed.max(24.0 * NEGLIGIBLE) {
            fine += 1;
            square /= 4.0;
        }
        Self { fine, coarser: COARSER, top: 0 }
    }

    /// Numbers before a zone: three halves of 2^fine, 2^(fine - 1), ... added up.
    #[inline(always)]
    const fn before(self, zone: u32) -> u32 {
        3 * ((1 << self.fine) - (1 << (self.fine - zone)))
    }

    /// The number of a distance of 0 to [`Steps::FURTHEST`], in steps that `fit` chose.
    #[inline(always)]
    pub(super) fn code(self, distance: f32) -> u32 {
        /// Adding it rounds to an integer, ties to even, which is then in the low bits.
        const ROUNDER: f32 = 12_582_912.0;
        let zone = zone_of(distance);
        let inside = (distance - ZONE * zone as i32 as f32) * power(self.fine as i32 - zone as i32);
        // At most 120 * 2^10.
        self.before(zone) + ((inside + ROUNDER).to_bits() & 0x3F_FFFF)
    }

    /// The number that was written as `lacking`.
    pub(super) fn number(self, lacking: u32) -> Result<u32, Fault> {
        self.top.checked_sub(lacking).ok_or(Fault::Invalid)
    }

    /// The last zone that is not behind a number: before(zone) <= number where 2^(fine - zone) is
    /// not below 2^fine - number / 3.
    #[inline(always)]
    const fn zone_at(self, number: u32) -> u32 {
        let least = (1_u32 << self.fine).saturating_sub(number / 3);
        let bits = u32::BITS - least.saturating_sub(1).leading_zeros();
        let zone = self.fine - bits;
        if zone < self.coarser { zone } else { self.coarser }
    }

    #[inline(always)]
    pub(super) fn distance(self, number: u32) -> f32 {
        let zone = self.zone_at(number);
        let inside = number - self.before(zone);
        ZONE * zone as i32 as f32 + inside as i32 as f32 * power(zone as i32 - self.fine as i32)
    }

    pub(super) fn put_head(self, codes: &mut [u32], head: &mut Head<'_>) -> Result<Code, Full> {
        let top = codes.iter().copied().max().unwrap_or(0);
        codes.iter_mut().for_each(|code| *code = top - *code);
        head.put(&[(self.fine | self.coarser << 4) as u8])?;
        put_leb128(top, head.out, &mut head.at)?;
        let code = Code::best(codes).0;
        head.put(&[code.byte()])?;
        Ok(code)
    }

    pub(super) fn take_head(rest: &mut &[u8]) -> Result<(Self, Code), Fault> {
        let byte = u32::from(take::<1>(rest)?[0]);
        let (fine, coarser) = (byte & 0xF, byte >> 4);
        let top = take_leb128(rest)?;
        if coarser > fine || top > 0xFFFF {
            return Err(Fault::Invalid);
        }
        let code = Code::from_byte(take::<1>(rest)?[0])?;
        Ok((Self { fine, coarser, top }, code))
    }
}

/// Zones before a distance, at most [`COARSER`].
#[inline(always)]
fn zone_of(distance: f32) -> u32 {
    let mut zone = 0;
    for begun in 1..=COARSER {
        // Exact: ZONE and its small multiples are.
        zone += u32::from(distance >= ZONE * begun as f32);
    }
    zone
}

/// 2^exponent, for exponents of normal numbers.
#[inline(always)]
const fn power(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// What lies between neighbouring f16 numbers at `x`.
fn f16_spacing(x: f32) -> f32 {
    const DIGITS: i32 = 10;
    const LOWEST: i32 = -14;
    let exponent = (x.to_bits() >> 23 & 0xFF) as i32 - 127;
    power(exponent.max(LOWEST) - DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_the_last_zone_that_begins_at_or_before_it() {
        for fine in 0..16 {
            for coarser in 0..=fine {
                let steps = Steps { fine, coarser, top: 0xFFFF };
                for number in (0..0x1_0000).step_by(1 + fine as usize % 3) {
                    let begun = (1..=coarser).take_while(|zone| steps.before(*zone) <= number);
                    assert_eq!(steps.zone_at(number), begun.count() as u32, "{steps:?} {number}");
                }
            }
        }
    }

    #[test]
    fn the_nearest_number_is_found_as_the_rule_says() {
        for fine in FINE_MIN..=FINE_MAX {
            let steps = Steps { fine, coarser: COARSER, top: 0 };
            for place in 0..240_000_u32 {
                let distance = place as f32 / 2000.0 + f32::EPSILON;
                let zone = (distance / ZONE).floor().min(COARSER as f32);
                let step = 2.0_f32.powi(zone as i32 - fine as i32);
                let inside = ((distance - ZONE * zone) / step).round_ties_even();
                let number = steps.before(zone as u32) + inside as u32;
                assert_eq!(steps.code(distance), number, "{steps:?} {distance}");
                assert!((steps.distance(number) - distance).abs() <= step / 2.0 + 1e-5);
            }
        }
    }
}
