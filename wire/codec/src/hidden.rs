//! Rows of hidden states, coded with what was learned about their channels (C13 to C25 of
//! `FORMAT-CODINGS.md`).
//!
//! | coding | bytes of a row | needs of a [`Basis`] |
//! | --- | --- | --- |
//! | `int8-channel` | 1 per channel | mean, scale |
//! | `int8-group` | 1 per channel, 2 per 32 channels | nothing |
//! | `int8-centred` | 1 per channel, 2 per outlier, 4 | mean, outliers |
//! | `rotated` | as many as the quality asks for | mean, rotation, spread |
//! | `pca` | 1 per kept component, 4 | mean, rotation, rank |
//!
//! `rotated` is the dial: rows are rotated, rounded to steps of `quality` times the row's root mean
//! square, and entropy-coded. The error is about 0.29 steps in every direction, so a quality of 1/8
//! costs 3.6% relative error. `pca` drops what lies outside the kept components, which on other
//! text than it learned from is a lot: measure before use. Nothing chooses it by itself.
//!
//! Rows that are rotated are best coded and restored together, by [`encode_rows`] and
//! [`decode_rows`]: the rotation is then read once for [`BATCH`] rows. The bytes are the same.
//!
//! A row that is not finite, and one that would not become shorter, is carried by `rotated` as it
//! is. The other codings code NaN as 0 and infinities as the largest code, with a flag.

mod plain;
mod rotated;
mod rows;

use crate::basis::{Basis, BasisId};
use crate::models::Choice;
use crate::{Coding, Fault, Full};
use half::f16;
use kernels::int8::{self, centred, channel, group};
use kernels::{Element, Row, lmhead, rotation};
use wire::Dtype;

pub use rotated::{pack, step};
pub use rows::{BATCH, Coded, Room, decode_rows, encode_rows};

/// The quality that `rotated` has if nobody says otherwise.
pub const QUALITY: f32 = 0.125;

/// What coding and decoding need besides their output. Made once, grows to the widest row it meets.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    row: Vec<f32>,
    rotated: Vec<f32>,
    codes: Vec<i16>,
    scales: Vec<f16>,
    /// Rows of a batch, centred and rotated.
    centred: Vec<f32>,
    turned: Vec<f32>,
    choices: Choices,
}

/// The distribution of each channel, and the basis and quality that they are for.
#[derive(Clone, Debug, Default)]
struct Choices {
    of: Option<(BasisId, i32)>,
    all: Vec<Choice>,
}

impl Choices {
    fn find(&mut self, basis: &Basis, quality: i32) -> &[Choice] {
        if self.of != Some((basis.id(), quality)) {
            self.all.clear();
            let spread = basis.parts().spread.iter();
            self.all.extend(spread.map(|spread| Choice::of(*spread, quality)));
            self.of = Some((basis.id(), quality));
        }
        &self.all
    }
}

impl Scratch {
    /// Room for rows of up to `width` entries, and for [`BATCH`] of them at a time.
    #[must_use]
    pub fn for_rows(width: usize) -> Self {
        let mut scratch = Self::new(width);
        scratch.grow_rows(width, BATCH);
        scratch
    }

    fn grow_rows(&mut self, width: usize, count: usize) {
        self.grow(width);
        self.centred.resize(width * count, 0.0);
        self.turned.resize(width * count, 0.0);
        self.choices.all.reserve(width);
    }

    /// Room for rows of up to `width` entries.
    #[must_use]
    pub fn new(width: usize) -> Self {
        let mut scratch = Self::default();
        scratch.grow(width);
        scratch
    }

    fn grow(&mut self, width: usize) {
        self.row.resize(width, 0.0);
        self.rotated.resize(width, 0.0);
        self.codes.resize(width, 0);
        self.scales.resize(width.div_ceil(group::GROUP), f16::ZERO);
    }
}

/// A row that was centred and projected elsewhere: by `center_<t>` and `project_f32` of
/// `kernels::cuda`, or by `kernels::rotation::center` and `kernels::lmhead::logits`.
#[derive(Clone, Copy, Debug)]
pub struct Projected<'a> {
    /// `[width]` for `rotated`, `[rank]` for `pca`: what the row has of each component.
    pub components: &'a [f32],
    /// Root mean square of the centred row.
    pub rms: f32,
    /// What was seen while it was centred, see [`wire::flags`].
    pub flags: u8,
}

/// The most bytes of a row of `cols` entries of `dtype`; 0 for a coding that is not for hidden
/// states.
#[must_use]
pub const fn worst_len(coding: Coding, cols: u32, dtype: Dtype) -> usize {
    let cols = cols as usize;
    match coding {
        Coding::Int8Channel => cols,
        Coding::Int8Group => cols + 2 * cols.div_ceil(group::GROUP),
        // Each channel may be an outlier.
        Coding::Int8Centred => 4 + 3 * cols,
        Coding::Rotated => 1 + cols * dtype.size(),
        Coding::Pca => 4 + cols,
        _ => 0,
    }
}

/// Writes a row at the start of `out`; gives the number of bytes, at most [`worst_len`], and the
/// row's flags (see [`wire::flags`]).
///
/// # Errors
/// `Room` where `out` is too short, `Coding` for a coding that is not for hidden states, `Basis`
/// where the coding needs a part of a basis that is not there, or the basis has another width.
pub fn encode(
    coding: Coding,
    row: Row<'_>,
    basis: Option<&Basis>,
    quality: f32,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(usize, u8), Fault> {
    let width = row.len();
    scratch.grow(width);
    match coding {
        Coding::Int8Channel => {
            let parts = fitting(basis, width)?.parts();
            let codes = as_codes(out.get_mut(..width).ok_or(Full)?);
            Ok((width, channel::quantize(row, Some(&parts.mean), &parts.scale, codes)))
        }
        Coding::Int8Group => encode_group(row, out, scratch),
        Coding::Int8Centred => encode_centred(row, fitting(basis, width)?, out, scratch),
        Coding::Rotated => rotated::encode(row, rotating(basis, width)?, quality, out, scratch),
        Coding::Pca => encode_pca(row, ranked(basis, width)?, out, scratch),
        _ => Err(Fault::Coding),
    }
}

/// [`encode`] of a row of `element`s that was projected elsewhere, for `rotated` and `pca`. `None`
/// where the row has to be carried as it is, see [`carry`].
///
/// # Errors
/// As [`encode`]; `Length` where there are not as many components as the coding has.
pub fn encode_projected(
    coding: Coding,
    projected: &Projected<'_>,
    element: Element,
    basis: &Basis,
    quality: f32,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<Option<(usize, u8)>, Fault> {
    let width = basis.width();
    scratch.grow(width);
    let (basis, count) = match coding {
        Coding::Rotated => (rotating(Some(basis), width)?, width),
        Coding::Pca => (ranked(Some(basis), width)?, basis.parts().rank as usize),
        _ => return Err(Fault::Coding),
    };
    if projected.components.len() != count {
        return Err(Fault::Length);
    }
    if coding == Coding::Pca {
        return write_pca(projected.components, projected.flags, out).map(Some);
    }
    scratch.grow(projected.components.len());
    Ok(rotated::in_steps(projected, element, basis, quality, out, scratch))
}

/// Writes a row as it is, which is what `rotated` does with rows that are not finite or would not
/// become shorter; gives the number of bytes.
///
/// # Errors
/// [`Full`] where `out` is too short.
pub fn carry(row: Row<'_>, out: &mut [u8], scratch: &mut Scratch) -> Result<usize, Full> {
    scratch.grow(row.len());
    plain::encode(row, &mut scratch.row, out)
}

/// Restores the row of `out.len()` entries that takes all of `bytes`.
///
/// # Errors
/// `Basis` where the coding needs a part of a basis that is not there, or the basis has another
/// width; `Coding` for a coding that is not for hidden states; else what is wrong with the bytes.
pub fn decode(
    coding: Coding,
    bytes: &[u8],
    basis: Option<&Basis>,
    out: &mut [f32],
    scratch: &mut Scratch,
) -> Result<(), Fault> {
    let width = out.len();
    scratch.grow(width);
    match coding {
        Coding::Int8Channel => {
            let parts = fitting(basis, width)?.parts();
            let codes = exactly(bytes, width)?;
            channel::restore(codes, Some(&parts.mean), &parts.scale, out);
            Ok(())
        }
        Coding::Int8Group => decode_group(bytes, out, scratch),
        Coding::Int8Centred => decode_centred(bytes, fitting(basis, width)?, out),
        Coding::Rotated => rotated::decode(bytes, rotating(basis, width)?, out, scratch),
        Coding::Pca => decode_pca(bytes, ranked(basis, width)?, out, scratch),
        _ => Err(Fault::Coding),
    }
}

fn fitting(basis: Option<&Basis>, width: usize) -> Result<&Basis, Fault> {
    basis.filter(|basis| basis.width() == width).ok_or(Fault::Basis)
}

fn rotating(basis: Option<&Basis>, width: usize) -> Result<&Basis, Fault> {
    fitting(basis, width).and_then(|b| if b.has_rotation() { Ok(b) } else { Err(Fault::Basis) })
}

fn ranked(basis: Option<&Basis>, width: usize) -> Result<&Basis, Fault> {
    rotating(basis, width).and_then(|b| if b.parts().rank > 0 { Ok(b) } else { Err(Fault::Basis) })
}

fn as_codes(bytes: &mut [u8]) -> &mut [i8] {
    bytemuck::cast_slice_mut(bytes)
}

/// The bytes as `count` codes, neither more nor fewer.
fn exactly(bytes: &[u8], count: usize) -> Result<&[i8], Fault> {
    if bytes.len() == count { Ok(bytemuck::cast_slice(bytes)) } else { Err(Fault::Length) }
}

fn encode_group(row: Row<'_>, out: &mut [u8], scratch: &mut Scratch) -> Result<(usize, u8), Fault> {
    let scales_len = 2 * scratch.scales.len();
    let len = scales_len + row.len();
    let (scales, codes) = out.get_mut(..len).ok_or(Full)?.split_at_mut(scales_len);
    let seen = group::quantize(row, as_codes(codes), &mut scratch.scales);
    for (to, scale) in scales.chunks_exact_mut(2).zip(&scratch.scales) {
        to.copy_from_slice(&scale.to_le_bytes());
    }
    Ok((len, seen))
}

fn decode_group(bytes: &[u8], out: &mut [f32], scratch: &mut Scratch) -> Result<(), Fault> {
    let scales_len = 2 * scratch.scales.len();
    let (scales, codes) = bytes.split_at_checked(scales_len).ok_or(Fault::Length)?;
    for (to, scale) in scratch.scales.iter_mut().zip(scales.as_chunks().0) {
        *to = scale_of(f16::from_le_bytes(*scale))?;
    }
    group::restore(exactly(codes, out.len())?, &scratch.scales, out);
    Ok(())
}

fn scale_of(scale: f16) -> Result<f16, Fault> {
    if scale.is_finite() && !scale.is_sign_negative() { Ok(scale) } else { Err(Fault::Invalid) }
}

fn row_scale(bytes: &mut &[u8]) -> Result<f32, Fault> {
    let (first, rest) = bytes.split_first_chunk().ok_or(Fault::Length)?;
    *bytes = rest;
    let scale = f32::from_le_bytes(*first);
    if scale.is_finite() && !scale.is_sign_negative() { Ok(scale) } else { Err(Fault::Invalid) }
}

fn encode_centred(
    row: Row<'_>,
    basis: &Basis,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(usize, u8), Fault> {
    let parts = basis.parts();
    let outliers_len = 2 * parts.outliers.len();
    let len = 4 + outliers_len + row.len();
    let (scale_to, rest) = out.get_mut(..len).ok_or(Full)?.split_at_mut(4);
    let (outliers, codes) = rest.split_at_mut(outliers_len);
    // What they hold beyond the mean is smaller than what they hold, so f16 keeps more of it.
    rotation::subtract(row, Some(&parts.mean), &mut scratch.row);
    let mut seen = 0;
    for (to, channel) in outliers.chunks_exact_mut(2).zip(&parts.outliers) {
        let t = scratch.row.get(*channel as usize).copied().unwrap_or(0.0);
        seen |= if t.is_nan() { wire::flags::NAN } else { 0 };
        seen |= if t.is_infinite() { wire::flags::NON_FINITE } else { 0 };
        let t = if t.is_nan() { 0.0 } else { t.clamp(-f16::MAX.to_f32(), f16::MAX.to_f32()) };
        to.copy_from_slice(&f16::from_f32(t).to_le_bytes());
    }
    let center = centred::Center { mean: Some(&parts.mean), masked: &parts.outliers };
    let (scale, of_codes) = centred::quantize(row, center, &mut scratch.row, as_codes(codes));
    scale_to.copy_from_slice(&scale.to_le_bytes());
    Ok((len, seen | of_codes))
}

fn decode_centred(mut bytes: &[u8], basis: &Basis, out: &mut [f32]) -> Result<(), Fault> {
    let parts = basis.parts();
    let scale = row_scale(&mut bytes)?;
    let split = bytes.split_at_checked(2 * parts.outliers.len());
    let (outliers, codes) = split.ok_or(Fault::Length)?;
    centred::restore(exactly(codes, out.len())?, scale, Some(&parts.mean), out);
    for (channel, bytes) in parts.outliers.iter().zip(outliers.as_chunks().0) {
        let t = f16::from_le_bytes(*bytes);
        if !t.is_finite() {
            return Err(Fault::Invalid);
        }
        let mean = parts.mean.get(*channel as usize);
        if let (Some(out), Some(mean)) = (out.get_mut(*channel as usize), mean) {
            *out = t.to_f32() + mean;
        }
    }
    Ok(())
}

/// What a row has of the first components.
fn project(row: Row<'_>, basis: &Basis, count: usize, scratch: &mut Scratch) -> (f32, u8) {
    let parts = basis.parts();
    let center = rotation::center(row, Some(&parts.mean), &mut scratch.row);
    let rows = parts.rotation.get(..count * basis.width()).unwrap_or_default();
    let out = scratch.rotated.get_mut(..count).unwrap_or_default();
    if let Some(weights) = lmhead::Weights::new(Row::F32(rows), basis.width(), None) {
        // The lengths agree: `Basis` and `Scratch::grow` saw to it.
        let _ = lmhead::logits(&scratch.row, &weights, out);
    }
    center
}

/// The rows with these components.
fn unproject(basis: &Basis, rotated: &[f32], out: &mut [f32]) -> Result<(), Fault> {
    let (matrix, mean) = (Row::F32(basis.transposed()), Some(&basis.parts().mean[..]));
    let weights = lmhead::Weights::new(matrix, basis.width(), mean).ok_or(Fault::Basis)?;
    lmhead::logits(rotated, &weights, out).map_err(|_| Fault::Length)
}

fn encode_pca(
    row: Row<'_>,
    basis: &Basis,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(usize, u8), Fault> {
    let rank = basis.parts().rank as usize;
    let (_, flags) = project(row, basis, rank, scratch);
    write_pca(scratch.rotated.get(..rank).unwrap_or_default(), flags, out)
}

/// Writes what a row has of the kept components.
fn write_pca(kept: &[f32], flags: u8, out: &mut [u8]) -> Result<(usize, u8), Fault> {
    let len = 4 + kept.len();
    let (scale_to, codes) = out.get_mut(..len).ok_or(Full)?.split_at_mut(4);
    let (scale, of_codes) = int8::quantize(Row::F32(kept), as_codes(codes));
    scale_to.copy_from_slice(&scale.to_le_bytes());
    Ok((len, flags | of_codes))
}

fn decode_pca(
    bytes: &[u8],
    basis: &Basis,
    out: &mut [f32],
    scratch: &mut Scratch,
) -> Result<(), Fault> {
    read_pca(bytes, basis, &mut scratch.rotated)?;
    unproject(basis, &scratch.rotated, out)
}

/// A row's components: 0 for those that were dropped.
fn read_pca(mut bytes: &[u8], basis: &Basis, rotated: &mut [f32]) -> Result<(), Fault> {
    let scale = row_scale(&mut bytes)?;
    let codes = exactly(bytes, basis.parts().rank as usize)?;
    rotated.fill(0.0);
    int8::dequantize(codes, scale, rotated);
    Ok(())
}
