//! Many rows in one call.

use super::{Scratch, decode, encode, plain, ranked, read_pca, rotated, rotating, unproject};
use super::{lmhead, rotation, write_pca};
use crate::basis::Basis;
use crate::{Coding, Fault};
use kernels::Row;

/// Rows that are rotated together.
pub const BATCH: usize = 32;

/// Where coded rows go: rows back to back, and the end and the flags of each outside.
#[derive(Debug)]
pub struct Room<'a> {
    /// The rows' bytes.
    pub data: &'a mut [u8],
    /// Where in `data` the first row begins.
    pub start: usize,
    /// Where each row ends, counted from the start of `data`.
    pub ends: &'a mut [u32],
    /// The flags of each row.
    pub flags: &'a mut [u8],
}

/// Coded rows, back to back.
#[derive(Clone, Copy, Debug)]
pub struct Coded<'a> {
    /// The rows' bytes.
    pub data: &'a [u8],
    /// Where in `data` the first row begins.
    pub start: usize,
    /// Where each row ends, counted from the start of `data`.
    pub ends: &'a [u32],
}

/// Codes `rows` (`[n, width]`) one after another; gives where in the data the last one ends. Each
/// has the bytes and the flags that [`encode`] gives it alone.
///
/// Takes no memory if `scratch` was made by [`Scratch::for_rows`] or has met such rows before.
///
/// # Errors
/// As [`encode`]; `Length` where the rows are not whole, `Room` where there are not as many ends
/// and flags as rows. What has been written is then of no use.
pub fn encode_rows(
    coding: Coding,
    rows: Row<'_>,
    width: usize,
    basis: Option<&Basis>,
    quality: f32,
    to: Room<'_>,
    scratch: &mut Scratch,
) -> Result<usize, Fault> {
    let Room { data, start: mut at, ends, flags } = to;
    let count = rows.len().checked_div(width).filter(|count| count * width == rows.len());
    let count = count.ok_or(Fault::Length)?;
    if ends.len() < count || flags.len() < count {
        return Err(Fault::Room);
    }
    let kept = match coding {
        Coding::Rotated => rotating(basis, width).map(|_| width)?,
        Coding::Pca => ranked(basis, width).map(|basis| basis.parts().rank as usize)?,
        _ => 0,
    };
    scratch.grow(width);
    let mut found = [(0.0, 0); BATCH];
    for (number, (end, flags)) in ends.iter_mut().zip(flags).take(count).enumerate() {
        let row = rows.part(number * width..(number + 1) * width).ok_or(Fault::Length)?;
        let out = data.get_mut(at..).ok_or(Fault::Room)?;
        let within = number % BATCH;
        let (len, seen) = match basis {
            Some(basis) if kept > 0 => {
                if within == 0 {
                    let batch = number * width..(number + BATCH).min(count) * width;
                    let batch = rows.part(batch).ok_or(Fault::Length)?;
                    project(batch, basis, kept, &mut found, scratch);
                }
                let found = found[within];
                let turned = std::mem::take(&mut scratch.turned);
                let form = turned.get(within * kept..(within + 1) * kept).unwrap_or_default();
                let written = if coding == Coding::Pca {
                    write_pca(form, found.1, out)
                } else {
                    rotated::write((row, form, found), basis, quality, out, scratch)
                };
                scratch.turned = turned;
                written?
            }
            _ => encode(coding, row, basis, quality, out, scratch)?,
        };
        at += len;
        *end = u32::try_from(at).map_err(|_| Fault::Room)?;
        *flags = seen;
    }
    Ok(at)
}

/// Puts what the rows of a batch have of the first `kept` components into the scratch, and the root
/// mean square and the flags of each into `found`.
fn project(
    batch: Row<'_>,
    basis: &Basis,
    kept: usize,
    found: &mut [(f32, u8); BATCH],
    scratch: &mut Scratch,
) {
    let (parts, width) = (basis.parts(), basis.width());
    let count = batch.len() / width;
    scratch.grow_rows(width, count);
    let rows = scratch.centred.chunks_exact_mut(width);
    for (number, (found, centred)) in found.iter_mut().zip(rows).enumerate() {
        if let Some(row) = batch.part(number * width..(number + 1) * width) {
            *found = rotation::center(row, Some(&parts.mean), centred);
        }
    }
    let matrix = Row::F32(parts.rotation.get(..kept * width).unwrap_or_default());
    let turned = scratch.turned.get_mut(..count * kept).unwrap_or_default();
    if let Some(weights) = lmhead::Weights::new(matrix, width, None) {
        // The lengths agree: `Basis` and `grow_rows` saw to it.
        let _ = lmhead::logits(&scratch.centred, &weights, turned);
    }
}

/// Restores rows (`[n, width]`, as many as there are ends), each as [`decode`] does alone.
///
/// Takes no memory if `scratch` was made by [`Scratch::for_rows`] or has met such rows before.
///
/// # Errors
/// As [`decode`]; `Length` also where ends do not ascend or lie outside the data, or `out` is not
/// as long as the rows. What has been written is then of no use.
pub fn decode_rows(
    coding: Coding,
    from: Coded<'_>,
    width: usize,
    basis: Option<&Basis>,
    out: &mut [f32],
    scratch: &mut Scratch,
) -> Result<(), Fault> {
    if width == 0 || from.ends.len().checked_mul(width) != Some(out.len()) {
        return Err(Fault::Length);
    }
    let basis_of = match coding {
        Coding::Rotated => Some(rotating(basis, width)?),
        Coding::Pca => Some(ranked(basis, width)?),
        _ => None,
    };
    let mut start = from.start;
    for (ends, out) in from.ends.chunks(BATCH).zip(out.chunks_mut(BATCH * width)) {
        if let Some(basis) = basis_of {
            unproject_rows(coding, Coded { ends, start, ..from }, basis, out, scratch)?;
        } else {
            let rows = Coded { ends, start, ..from }.rows();
            for (bytes, out) in rows.zip(out.chunks_exact_mut(width)) {
                decode(coding, bytes?, basis, out, scratch)?;
            }
        }
        start = ends.last().map_or(start, |end| *end as usize);
    }
    Ok(())
}

/// Restores the rows of a batch.
fn unproject_rows(
    coding: Coding,
    from: Coded<'_>,
    basis: &Basis,
    out: &mut [f32],
    scratch: &mut Scratch,
) -> Result<(), Fault> {
    let width = basis.width();
    scratch.grow_rows(width, from.ends.len());
    let mut turned = std::mem::take(&mut scratch.turned);
    let mut read = Ok(());
    for (bytes, form) in from.rows().zip(turned.chunks_exact_mut(width)) {
        read = bytes.and_then(|bytes| match coding {
            Coding::Pca => read_pca(bytes, basis, form),
            // It is put in its place afterwards.
            _ if rotated::is_plain(bytes) => {
                form.fill(0.0);
                Ok(())
            }
            _ => rotated::read(bytes, basis, form, scratch),
        });
        if read.is_err() {
            break;
        }
    }
    scratch.turned = turned;
    read?;
    unproject(basis, &scratch.turned, out)?;
    for (bytes, out) in from.rows().zip(out.chunks_exact_mut(width)) {
        if let Some((first, rest)) = bytes?.split_first()
            && coding == Coding::Rotated
            && rotated::is_plain(&[*first])
        {
            plain::decode(*first, rest, out)?;
        }
    }
    Ok(())
}

impl<'a> Coded<'a> {
    fn rows(self) -> impl Iterator<Item = Result<&'a [u8], Fault>> {
        let mut start = self.start;
        self.ends.iter().map(move |end| {
            let row = self.data.get(start..*end as usize).ok_or(Fault::Length);
            start = *end as usize;
            row
        })
    }
}
