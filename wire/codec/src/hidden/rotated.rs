//! Rotated, rounded to steps of the row's size, entropy-coded (C22 to C25).

use super::{Projected, Scratch, plain, project, unproject};
use crate::basis::Basis;
use crate::models::{Choice, sixteenths};
use crate::range::{RangeReader, RangeWriter};
use crate::{Fault, Full};
use half::bf16;
use kernels::{Element, Row, rotation};

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

pub(super) fn encode(
    row: Row<'_>,
    basis: &Basis,
    quality: f32,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(usize, u8), Fault> {
    let (rms, flags) = project(row, basis, row.len(), scratch);
    let Scratch { rotated, codes, .. } = scratch;
    let projected = Projected { components: rotated, rms, flags };
    if let Some(done) = in_steps(&projected, row.element(), basis, quality, out, codes) {
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
    codes: &mut [i16],
) -> Option<(usize, u8)> {
    let &Projected { components, rms, flags } = projected;
    let step = step(quality, rms);
    let usable = step.is_finite() && (step > 0.0 || rms == 0.0);
    if flags != 0 || !usable || !components.iter().all(|y| y.is_finite()) {
        return None;
    }
    rotation::steps(components, step, codes);
    let as_it_is = 1 + components.len() * element.size();
    let room = as_it_is.min(out.len());
    // There is no room for this where the row as it is would be shorter.
    let len = pack(codes, step, quality, basis, out.get_mut(..room)?).ok()?;
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
    if codes.iter().any(|code| code.unsigned_abs() >= CUT) {
        return Err(Fault::Bounds);
    }
    let byte = quality_byte(quality);
    let quality = sixteenths(FINEST) + i32::from(byte);
    let (head, body) = out.split_at_mut_checked(HEAD).ok_or(Full)?;
    let [low, high] = bf16::from_f32(step).to_le_bytes();
    head.copy_from_slice(&[STEPS, byte, low, high]);
    let mut writer = RangeWriter::new(body);
    for (code, spread) in codes.iter().zip(spread) {
        Choice::of(*spread, quality).put(*code, &mut writer)?;
    }
    Ok(HEAD + writer.finish()?)
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
    let (head, body) = rest.split_first_chunk::<3>().ok_or(Fault::Length)?;
    let [byte, low, high] = *head;
    let step = bf16::from_le_bytes([low, high]).to_f32();
    if !step.is_finite() || step.is_sign_negative() || byte > 223 {
        return Err(Fault::Invalid);
    }
    let quality = sixteenths(FINEST) + i32::from(byte);
    let mut reader = RangeReader::new(body)?;
    for (code, spread) in scratch.codes.iter_mut().zip(&basis.parts().spread) {
        *code = Choice::of(*spread, quality).take(&mut reader)?;
    }
    reader.finish()?;
    rotation::unstep(&scratch.codes, step, &mut scratch.rotated);
    unproject(basis, out, scratch)
}
