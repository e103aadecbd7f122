//! Rotated, rounded to steps of the row's size, entropy-coded (C22 to C25).

use super::{Projected, Scratch, plain, project, unproject};
use crate::basis::Basis;
use crate::models::{Choice, sixteenths};
use crate::range::{RangeReader, RangeWriter};
use crate::{Fault, Full};
use half::bf16;
use kernels::{Element, Row, rotation};
use std::borrow::Borrow;

/// The first byte of a row in steps.
const STEPS: u8 = 0;
/// First byte, quality, step.
const HEAD: usize = 1 + 1 + 2;

/// The magnitude that codes are cut to.
const CUT: u16 = 32_767;

/// The finest quality; the coarsest is 2^14 times that.
const FINEST: f32 = 1.0 / 4096.0;

/// The step for a row: quality times its root mean square, rounded to the bf16 that the row
/// carries.
///
/// Coefficients must be rounded with exactly this step.
#[must_use]
pub fn step(quality: f32, rms: f32) -> f32 {
    bf16::from_f32(quality * rms).to_f32()
}

/// A quality as the row's byte: sixteenths of an octave above the finest.
fn quality_byte(quality: f32) -> u8 {
    let above = sixteenths(quality.max(FINEST)) - sixteenths(FINEST);
    above.clamp(0, 223) as u8
}

/// The quality of a byte, as [`sixteenths`].
fn quality_of(byte: u8) -> i32 {
    sixteenths(FINEST) + i32::from(byte)
}

pub(super) fn encode(
    row: Row<'_>,
    basis: &Basis,
    quality: f32,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(usize, u8), Fault> {
    let found = project(row, basis, row.len(), scratch);
    let rotated = std::mem::take(&mut scratch.rotated);
    let written = write((row, &rotated, found), basis, quality, out, scratch);
    scratch.rotated = rotated;
    written
}

/// Writes a row, of which its rotated form and its root mean square and flags are known.
pub(super) fn write(
    (row, rotated, (rms, flags)): (Row<'_>, &[f32], (f32, u8)),
    basis: &Basis,
    quality: f32,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(usize, u8), Fault> {
    let projected = Projected { components: rotated, rms, flags };
    if let Some(done) = in_steps(&projected, row.element(), basis, quality, out, scratch) {
        return Ok(done);
    }
    Ok((plain::encode(row, &mut scratch.row, out)?, flags))
}

/// Writes a row in steps; `None` where it has to be carried as it is.
pub(super) fn in_steps(
    projected: &Projected<'_>,
    element: Element,
    basis: &Basis,
    quality: f32,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Option<(usize, u8)> {
    let &Projected { components, rms, flags } = projected;
    let step = step(quality, rms);
    let usable = step.is_finite() && (step > 0.0 || rms == 0.0);
    // No way out of the loop: the compiler makes vectors of it.
    let finite = |y: &[f32]| y.iter().fold(true, |all, y| all & y.is_finite());
    if flags != 0 || !usable || !finite(components) {
        return None;
    }
    let codes = scratch.codes.get_mut(..components.len())?;
    rotation::steps(components, step, codes);
    // There is no room for this where the row as it is would be shorter.
    let as_it_is = 1 + components.len() * element.size();
    let room = as_it_is.min(out.len());
    let byte = quality_byte(quality);
    let choices = scratch.choices.find(basis, quality_of(byte));
    let len = put(codes, step, byte, choices, out.get_mut(..room)?).ok()?;
    Some((len, if rms == 0.0 { wire::flags::ZERO } else { 0 }))
}

/// Writes the codes of a row whose coefficients were rounded elsewhere, by
/// `kernels::rotation::steps`; gives the number of bytes.
///
/// `step` is that of [`step()`], and `quality` what it was made of.
///
/// # Errors
/// `Room` where `out` is too short; `Bounds` where a code may have been cut, because it is 32767 or
/// -32767 (such a row must be carried as it is); `Basis` where the basis has no spread for as many
/// codes.
pub fn pack(
    codes: &[i16],
    step: f32,
    quality: f32,
    basis: &Basis,
    out: &mut [u8],
) -> Result<usize, Fault> {
    let spread = &basis.parts().spread;
    if spread.len() != codes.len() {
        return Err(Fault::Basis);
    }
    let byte = quality_byte(quality);
    let quality = quality_of(byte);
    let choices = spread.iter().map(|spread| Choice::of(*spread, quality));
    put(codes, step, byte, choices, out)
}

fn put(
    codes: &[i16],
    step: f32,
    quality: u8,
    choices: impl IntoIterator<Item: Borrow<Choice>>,
    out: &mut [u8],
) -> Result<usize, Fault> {
    if codes.iter().fold(0, |most, code| most.max(code.unsigned_abs())) >= CUT {
        return Err(Fault::Bounds);
    }
    let (head, body) = out.split_at_mut_checked(HEAD).ok_or(Full)?;
    let [low, high] = bf16::from_f32(step).to_le_bytes();
    head.copy_from_slice(&[STEPS, quality, low, high]);
    let mut writer = RangeWriter::new(body);
    for (code, choice) in codes.iter().zip(choices) {
        choice.borrow().put(*code, &mut writer)?;
    }
    Ok(HEAD + writer.finish()?)
}

/// Whether a row is not in steps but as it is.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first != STEPS)
}

pub(super) fn decode(
    bytes: &[u8],
    basis: &Basis,
    out: &mut [f32],
    scratch: &mut Scratch,
) -> Result<(), Fault> {
    let (first, rest) = bytes.split_first().ok_or(Fault::Length)?;
    if *first != STEPS {
        return plain::decode(*first, rest, out);
    }
    let mut rotated = std::mem::take(&mut scratch.rotated);
    let read = read(bytes, basis, &mut rotated, scratch);
    scratch.rotated = rotated;
    read?;
    unproject(basis, &scratch.rotated, out)
}

/// The rotated form of a row in steps.
pub(super) fn read(
    bytes: &[u8],
    basis: &Basis,
    rotated: &mut [f32],
    scratch: &mut Scratch,
) -> Result<(), Fault> {
    let (head, body) = bytes.split_first_chunk::<HEAD>().ok_or(Fault::Length)?;
    let [_, byte, low, high] = *head;
    let step = bf16::from_le_bytes([low, high]).to_f32();
    if !step.is_finite() || step.is_sign_negative() || byte > 223 {
        return Err(Fault::Invalid);
    }
    let mut reader = RangeReader::new(body)?;
    let choices = scratch.choices.find(basis, quality_of(byte));
    for (code, choice) in scratch.codes.iter_mut().zip(choices) {
        *code = choice.take(&mut reader)?;
    }
    reader.finish()?;
    rotation::unstep(&scratch.codes, step, rotated);
    Ok(())
}
