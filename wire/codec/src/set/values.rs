//! Values of a set as small numbers, by the distance of each to the row's maximum.

use super::steps::Steps;
use super::{BEST, Head, take};
use crate::numbers::Code;
use crate::{Coding, Fault, Full};
use half::{bf16, f16};

/// The most bytes that a tier's values say of themselves: those of [`Steps`].
pub(super) const HEAD_MAX: usize = 1 + 3 + 1;

/// Far more than any distance between logits, and far from where bf16 becomes infinite.
const BF16_FURTHEST: f32 = 1e38;

/// How the values of a row are written: the upper three bits of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    U8,
    Tiered,
    Steps,
}

impl Kind {
    pub(super) const fn of(coding: Coding) -> Option<Self> {
        match coding {
            Coding::Plain => Some(Self::F32),
            Coding::SetF16 => Some(Self::F16),
            Coding::SetBf16 => Some(Self::Bf16),
            Coding::SetU8 => Some(Self::U8),
            Coding::SetTiered => Some(Self::Tiered),
            Coding::SetSteps => Some(Self::Steps),
            _ => None,
        }
    }

    pub(super) const fn code(self) -> u8 {
        self as u8
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::F32),
            1 => Some(Self::F16),
            2 => Some(Self::Bf16),
            3 => Some(Self::U8),
            4 => Some(Self::Tiered),
            5 => Some(Self::Steps),
            _ => None,
        }
    }

    /// This kind, or f16 for a row whose values only that can hold (C7).
    pub(super) fn suited(self, max: f32, values: &[f32]) -> Self {
        // One comparison each and no way out: the compiler makes vectors of it.
        let within = |most: f32| {
            max.is_finite() && values.iter().fold(true, |all, value| all & (max - value <= most))
        };
        let holds = match self {
            Self::F32 | Self::F16 => true,
            Self::Bf16 => within(BF16_FURTHEST),
            // Codes times an f16 scale of at most 65504.
            Self::U8 | Self::Tiered => within(f16::MAX.to_f32()),
            Self::Steps => within(Steps::FURTHEST),
        };
        if holds { self } else { Self::F16 }
    }

    /// Entries of the first tier in a set of `count`.
    pub(super) fn first_tier(self, count: usize) -> usize {
        if self == Self::Tiered { BEST.min(count) } else { count }
    }
}

/// What the numbers of a tier mean.
#[derive(Clone, Copy, Debug)]
pub(super) enum Model {
    /// The value's own bits.
    F32,
    /// f16 bits of the distance to a finite maximum, else of the value.
    F16 { max: f32 },
    /// bf16 bits of the same.
    Bf16 { max: f32 },
    /// `max - number * scale`.
    Byte { max: f32, scale: f16 },
    /// `max - base - (number + 1/2) * scale`.
    Pair { max: f32, base: f16, scale: f16 },
    /// See [`Steps`].
    Steps { max: f32, steps: Steps },
}

impl Model {
    /// The model of a tier, by number, from its values and their probabilities.
    pub(super) fn fit(
        kind: Kind,
        tier: usize,
        max: f32,
        values: &[f32],
        probabilities: &[f64],
    ) -> Self {
        let distances = || values.iter().map(|value| below(max, *value));
        let furthest = || distances().fold(0.0, f32::max);
        match (kind, tier) {
            (Kind::F32, _) => Self::F32,
            (Kind::F16, _) => Self::F16 { max },
            (Kind::Bf16, _) => Self::Bf16 { max },
            (Kind::U8, _) | (Kind::Tiered, 0) => {
                Self::Byte { max, scale: round_up(furthest() / 255.0) }
            }
            (Kind::Tiered, _) => {
                let nearest = distances().fold(f32::INFINITY, f32::min);
                let base = round_down(nearest);
                let scale = round_up((furthest() - base.to_f32()).max(0.0) / 4.0);
                Self::Pair { max, base, scale }
            }
            (Kind::Steps, _) => Self::Steps { max, steps: Steps::fit(max, values, probabilities) },
        }
    }

    /// The numbers for values.
    pub(super) fn codes(&self, values: &[f32], to: &mut [u32]) {
        let pairs = values.iter().zip(to);
        if let Self::Steps { max, steps } = *self {
            // What is asked for each value otherwise is asked once.
            pairs.for_each(|(value, to)| *to = steps.code(below(max, *value)));
        } else {
            pairs.for_each(|(value, to)| *to = self.code(*value));
        }
    }

    /// The values for numbers.
    pub(super) fn values(&self, numbers: &[u32], to: &mut [f32]) {
        let pairs = numbers.iter().zip(to);
        if let Self::Steps { max, steps } = *self {
            pairs.for_each(|(number, to)| *to = max - steps.distance(*number) + 0.0);
        } else {
            pairs.for_each(|(number, to)| *to = self.value(*number));
        }
    }

    /// The number for a value.
    fn code(&self, value: f32) -> u32 {
        match *self {
            Self::F32 => value.to_bits(),
            Self::F16 { max } => u32::from(narrow(reference(max, value)).to_bits()),
            Self::Bf16 { max } => u32::from(bf16::from_f32(reference(max, value)).to_bits()),
            Self::Byte { max, scale } => quotient(below(max, value), scale, 255.0),
            Self::Pair { max, base, scale } => {
                let distance = below(max, value) - base.to_f32();
                if scale == f16::ZERO {
                    0
                } else {
                    (distance / scale.to_f32()).clamp(0.0, 3.0) as u32
                }
            }
            Self::Steps { max, steps } => steps.code(below(max, value)),
        }
    }

    /// The value that was written as `code`.
    #[inline]
    pub(super) fn read(&self, code: u32) -> Result<f32, Fault> {
        let number = match self {
            Self::Steps { steps, .. } => steps.number(code)?,
            _ => code,
        };
        let value = self.value(number);
        if value.is_nan() { Err(Fault::Invalid) } else { Ok(value) }
    }

    /// The value for a number.
    fn value(&self, code: u32) -> f32 {
        let value = match *self {
            Self::F32 => f32::from_bits(code),
            Self::F16 { max } => from_reference(max, f16::from_bits(code as u16).to_f32()),
            Self::Bf16 { max } => from_reference(max, bf16::from_bits(code as u16).to_f32()),
            Self::Byte { max, scale } => max - code as f32 * scale.to_f32(),
            Self::Pair { max, base, scale } => {
                max - (base.to_f32() + (code as f32 + 0.5) * scale.to_f32())
            }
            Self::Steps { max, steps } => max - steps.distance(code),
        };
        value + 0.0
    }

    /// The largest number whose successor still is a number further from the maximum.
    pub(super) fn last_but_one(&self) -> Option<u32> {
        match self {
            Self::F32 => None,
            Self::F16 { max } => max.is_finite().then(|| u32::from(f16::MAX.to_bits()) - 1),
            Self::Bf16 { .. } => Some(u32::from(bf16::MAX.to_bits()) - 1),
            Self::Byte { .. } => Some(254),
            Self::Pair { .. } => Some(2),
            Self::Steps { .. } => Some(0xFFFE),
        }
    }

    /// Writes what the values say of themselves, and gives the code of their numbers.
    pub(super) fn put_head(&self, codes: &mut [u32], head: &mut Head<'_>) -> Result<Code, Full> {
        match *self {
            Self::F32 => Ok(Code::Fixed(32)),
            Self::F16 { .. } | Self::Bf16 { .. } => Ok(Code::Fixed(16)),
            Self::Byte { scale, .. } => {
                head.put(&scale.to_le_bytes())?;
                Ok(Code::Fixed(8))
            }
            Self::Pair { base, scale, .. } => {
                head.put(&base.to_le_bytes())?;
                head.put(&scale.to_le_bytes())?;
                Ok(Code::Fixed(2))
            }
            Self::Steps { steps, .. } => steps.put_head(codes, head),
        }
    }

    /// Reads what [`Model::put_head`] wrote.
    pub(super) fn take_head(
        kind: Kind,
        tier: usize,
        max: f32,
        rest: &mut &[u8],
    ) -> Result<(Self, Code), Fault> {
        if !matches!(kind, Kind::F32 | Kind::F16) && !max.is_finite() {
            return Err(Fault::Invalid);
        }
        let mut half = || -> Result<f16, Fault> {
            let half = f16::from_le_bytes(*take(rest)?);
            let fine = half.is_finite() && !half.is_sign_negative();
            if fine { Ok(half) } else { Err(Fault::Invalid) }
        };
        match (kind, tier) {
            (Kind::F32, _) => Ok((Self::F32, Code::Fixed(32))),
            (Kind::F16, _) => Ok((Self::F16 { max }, Code::Fixed(16))),
            (Kind::Bf16, _) => Ok((Self::Bf16 { max }, Code::Fixed(16))),
            (Kind::U8, _) | (Kind::Tiered, 0) => {
                Ok((Self::Byte { max, scale: half()? }, Code::Fixed(8)))
            }
            (Kind::Tiered, _) => {
                let (base, scale) = (half()?, half()?);
                Ok((Self::Pair { max, base, scale }, Code::Fixed(2)))
            }
            (Kind::Steps, _) => {
                let (steps, code) = Steps::take_head(rest)?;
                Ok((Self::Steps { max, steps }, code))
            }
        }
    }
}

/// How far a value lies below the maximum; never negative, 0 for NaN, finite for finite values.
pub(super) fn below(max: f32, value: f32) -> f32 {
    let distance = (max - value).max(0.0);
    if value.is_finite() { distance.min(f32::MAX) } else { distance }
}

/// What the two-byte kinds hold.
fn reference(max: f32, value: f32) -> f32 {
    if max.is_finite() { below(max, value) } else { value }
}

fn from_reference(max: f32, reference: f32) -> f32 {
    match (max.is_finite(), reference.is_finite()) {
        // Rounding may have moved what lies at the end of all numbers beyond it.
        (true, true) => (max - reference).max(f32::MIN),
        (true, false) => max - reference,
        (false, _) => reference,
    }
}

/// Rounded to nearest even; a finite number stays finite.
fn narrow(x: f32) -> f16 {
    let half = f16::from_f32(x);
    if half.is_infinite() && x.is_finite() { f16::MAX.copysign(half) } else { half }
}

/// The smallest f16 that is not below a number of 0 to 65504.
fn round_up(x: f32) -> f16 {
    let half = f16::from_f32(x);
    if half.to_f32() < x { f16::from_bits(half.to_bits() + 1) } else { half }
}

/// The largest f16 that is not above a number of 0 to 65504.
fn round_down(x: f32) -> f16 {
    let half = f16::from_f32(x);
    if half.to_f32() > x { f16::from_bits(half.to_bits() - 1) } else { half }
}

fn quotient(distance: f32, scale: f16, top: f32) -> u32 {
    if scale == f16::ZERO {
        return 0;
    }
    (distance / scale.to_f32()).round_ties_even().clamp(0.0, top) as u32
}
