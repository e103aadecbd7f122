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
use super::{Entry, Head, Set, take};
use crate::numbers::{Code, put_leb128, take_leb128};
use crate::{Fault, Full};
use kernels::probability;

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

    pub(super) fn fit(set: &Set<'_>, entries: &[Entry]) -> Self {
        let (mut allowed, mut zones) = (0.0, [0.0; COARSER as usize + 1]);
        for entry in entries {
            let p = probability::of(entry.value, set.max, set.log_sum);
            let spacing = f64::from(f16_spacing(entry.value));
            allowed += p * spacing * spacing;
            let distance = below(set.max, entry.value);
            // The best entry has distance 0 and no error.
            if distance > 0.0
                && let Some(zone) = zones.get_mut(zone_of(distance, COARSER) as usize)
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
    const fn before(self, zone: u32) -> u32 {
        3 * ((1 << self.fine) - (1 << (self.fine - zone)))
    }

    fn step(self, zone: u32) -> f32 {
        2.0_f32.powi(zone as i32 - self.fine as i32)
    }

    pub(super) fn code(self, distance: f32) -> u32 {
        let zone = zone_of(distance, self.coarser);
        let inside = (distance - ZONE * zone as f32) / self.step(zone);
        self.before(zone) + inside.round_ties_even() as u32
    }

    /// The number that was written as `lacking`.
    pub(super) fn number(self, lacking: u32) -> Result<u32, Fault> {
        self.top.checked_sub(lacking).ok_or(Fault::Invalid)
    }

    pub(super) fn distance(self, number: u32) -> f32 {
        let zone =
            (1..=self.coarser).take_while(|zone| self.before(*zone) <= number).count() as u32;
        ZONE * zone as f32 + (number - self.before(zone)) as f32 * self.step(zone)
    }

    pub(super) fn put_head(self, codes: &mut [u32], head: &mut Head<'_>) -> Result<Code, Full> {
        let top = codes.iter().copied().max().unwrap_or(0);
        codes.iter_mut().for_each(|code| *code = top - *code);
        head.put(&[(self.fine | self.coarser << 4) as u8])?;
        put_leb128(top, head.out, &mut head.at)?;
        let code = Code::best(codes.iter().copied()).0;
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

/// Zones before a distance, at most `last`.
fn zone_of(distance: f32, last: u32) -> u32 {
    // Exact: ZONE and its small multiples are.
    (1..=last).take_while(|zone| distance >= ZONE * *zone as f32).count() as u32
}

/// What lies between neighbouring f16 numbers at `x`.
fn f16_spacing(x: f32) -> f32 {
    const DIGITS: i32 = 10;
    const LOWEST: i32 = -14;
    let exponent = (x.to_bits() >> 23 & 0xFF) as i32 - 127;
    2.0_f32.powi(exponent.max(LOWEST) - DIGITS)
}
