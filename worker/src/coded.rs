//! Rows of an answer in a coding: what comes after a kernel and before the reply.

use crate::job::Job;
use codec::{
    Basis, Fault,
    hidden::{self, Projected},
    set::{self, Set},
};
use kernels::{Element, Row, topk::RowSummary};
use wire::{
    ErrorCode, Operation,
    reply::CodedReply,
    request,
    work::{FETCH_PIECE, K_MAX},
};

/// What coding needs, allocated once.
#[derive(Debug)]
pub(crate) struct Coder {
    sets: set::Scratch,
    hidden: hidden::Scratch,
    basis: Option<Basis>,
    /// The set of one row.
    indices: Box<[u32]>,
    values: Box<[f32]>,
}

/// The parts of a coded reply while its rows are written.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    layout: CodedReply,
    ends: &'a mut [u32],
    flags: &'a mut [u8],
    data: &'a mut [u8],
    row: usize,
    len: usize,
}

impl Coder {
    pub(crate) fn new(basis: Option<Basis>) -> Self {
        let width = basis.as_ref().map_or(0, Basis::width);
        Self {
            sets: set::Scratch::new(K_MAX as usize),
            hidden: hidden::Scratch::for_rows(width),
            basis,
            indices: vec![0; K_MAX as usize].into(),
            values: vec![0.0; K_MAX as usize].into(),
        }
    }

    pub(crate) const fn basis(&self) -> Option<&Basis> {
        self.basis.as_ref()
    }

    /// Whether the basis is there that an order needs, the one that it names, and as wide as its
    /// rows.
    pub(crate) fn admit(&self, job: &Job<'_>) -> Result<(), ErrorCode> {
        let unknown = ErrorCode::UnknownBasis;
        let needed = job.work.coding.needs_basis();
        if !needed && job.work.operation != Operation::Fetch {
            return Ok(());
        }
        let basis = self.basis.as_ref().ok_or(unknown)?;
        let named = request::basis(job.payload);
        if named != [0; 8] && basis.id().0[..8] != named {
            return Err(unknown);
        }
        if needed && basis.width() != job.work.cols as usize {
            return Err(ErrorCode::BadShape);
        }
        Ok(())
    }

    /// Bytes of a piece of the basis; `None` behind the last.
    pub(crate) fn piece(&self, number: u32) -> Option<&[u8]> {
        let file = self.basis.as_ref()?.as_bytes();
        let start = number as usize * FETCH_PIECE as usize;
        let piece = file.get(start..)?;
        Some(&piece[..piece.len().min(FETCH_PIECE as usize)])
    }

    /// Writes hidden rows, `[n, cols]`, as the next rows.
    pub(crate) fn hidden(&mut self, rows: &mut Rows<'_>, batch: Row<'_>) -> Result<(), ErrorCode> {
        let CodedReply { coding, cols, quality, .. } = rows.layout;
        let (basis, width) = (self.basis.as_ref(), cols as usize);
        let too_long = ErrorCode::ReplyTooLong;
        let to = hidden::Room {
            data: rows.data,
            start: rows.len,
            ends: rows.ends.get_mut(rows.row..).ok_or(too_long)?,
            flags: rows.flags.get_mut(rows.row..).ok_or(too_long)?,
        };
        let scratch = &mut self.hidden;
        rows.len = hidden::encode_rows(coding, batch, width, basis, quality, to, scratch)
            .map_err(refusal)?;
        rows.row += batch.len() / width.max(1);
        Ok(())
    }

    /// Writes a hidden row of `element`s, projected elsewhere, as the next row. False where it has
    /// to be carried as it is.
    pub(crate) fn projected(
        &mut self,
        rows: &mut Rows<'_>,
        projected: &Projected<'_>,
        element: Element,
    ) -> Result<bool, ErrorCode> {
        let CodedReply { coding, quality, .. } = rows.layout;
        let basis = self.basis.as_ref().ok_or(ErrorCode::UnknownBasis)?;
        let (out, scratch) = (rows.room()?, &mut self.hidden);
        let written =
            hidden::encode_projected(coding, projected, element, basis, quality, out, scratch);
        match written.map_err(refusal)? {
            Some((len, flags)) => rows.end_row(len, flags).map(|()| true),
            None => Ok(false),
        }
    }

    /// Writes a hidden row as it is as the next row.
    pub(crate) fn carry(
        &mut self,
        rows: &mut Rows<'_>,
        row: Row<'_>,
        flags: u8,
    ) -> Result<(), ErrorCode> {
        let scratch = &mut self.hidden;
        rows.push(|out| Ok((hidden::carry(row, out, scratch)?, flags)))
    }

    /// The layout of what was written.
    pub(crate) fn finish(&self, rows: Rows<'_>) -> CodedReply {
        let basis = self.basis.as_ref().filter(|_| rows.layout.coding.needs_basis());
        rows.layout.filled(rows.len, basis.map_or([0; 32], |basis| basis.id().0))
    }

    /// Room for the set of one row: indices and values.
    pub(crate) fn room(&mut self, k: usize) -> (&mut [u32], &mut [f32]) {
        (&mut self.indices[..k], &mut self.values[..k])
    }

    /// Writes the set that lies in [`Coder::room`] as the next row.
    pub(crate) fn set(
        &mut self,
        rows: &mut Rows<'_>,
        summary: &RowSummary,
    ) -> Result<(), ErrorCode> {
        let count = summary.count as usize;
        let set = Set {
            indices: &self.indices[..count],
            values: &self.values[..count],
            max: summary.max,
            log_sum: summary.log_sum,
            flags: summary.flags,
        };
        let CodedReply { coding, cols, quality, .. } = rows.layout;
        let scratch = &mut self.sets;
        rows.push(|out| {
            let len = set::encode(coding, &set, cols, quality, out, scratch)?;
            Ok((len, summary.flags))
        })
    }
}

impl<'a> Rows<'a> {
    /// The rows of one frame, none written yet.
    pub(crate) fn begin(layout: CodedReply, payload: &'a mut [u8]) -> Result<Self, ErrorCode> {
        let parts = layout.parts(payload).map_err(|_| ErrorCode::ReplyTooLong)?;
        let (ends, flags, data) = (parts.ends, parts.flags, parts.data);
        Ok(Self { layout, ends, flags, data, row: 0, len: 0 })
    }

    /// The next row: `write` puts its bytes at the start of what it is given, and says how many and
    /// what the row is flagged with.
    fn push(
        &mut self,
        write: impl FnOnce(&mut [u8]) -> Result<(usize, u8), Fault>,
    ) -> Result<(), ErrorCode> {
        let (len, flags) = write(self.room()?).map_err(refusal)?;
        self.end_row(len, flags)
    }

    /// Where the next row goes.
    fn room(&mut self) -> Result<&mut [u8], ErrorCode> {
        self.data.get_mut(self.len..).ok_or(ErrorCode::ReplyTooLong)
    }

    /// Ends the row whose `len` bytes were put at the start of the room.
    fn end_row(&mut self, len: usize, flags: u8) -> Result<(), ErrorCode> {
        *self.flags.get_mut(self.row).ok_or(ErrorCode::ReplyTooLong)? = flags;
        self.end_there(len)
    }

    /// The same of a row whose flags, too, are there already.
    pub(crate) fn end_there(&mut self, len: usize) -> Result<(), ErrorCode> {
        self.len += len;
        *self.ends.get_mut(self.row).ok_or(ErrorCode::ReplyTooLong)? = self.len as u32;
        self.row += 1;
        Ok(())
    }

    /// A row of these bytes as the next row.
    pub(crate) fn copy(&mut self, bytes: &[u8], flags: u8) -> Result<(), ErrorCode> {
        let room = self.room()?.get_mut(..bytes.len()).ok_or(ErrorCode::ReplyTooLong)?;
        room.copy_from_slice(bytes);
        self.end_row(bytes.len(), flags)
    }
}

/// What the asker is told.
const fn refusal(fault: Fault) -> ErrorCode {
    match fault {
        Fault::Basis => ErrorCode::UnknownBasis,
        Fault::Room => ErrorCode::ReplyTooLong,
        Fault::Length | Fault::Invalid | Fault::Bounds | Fault::Coding => ErrorCode::BadRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Coding;

    #[test]
    fn a_coded_row_fits_the_room_that_the_format_bounds() {
        for coding in Coding::ALL.iter().filter(|coding| coding.is_set()) {
            for (k, cols) in [(1, 1), (1, 262_144), (100, 30_522), (1024, 262_144), (1024, 7)] {
                let worst = set::worst_len(*coding, k, cols);
                let room = coding.row_max(k as usize, cols as usize);
                assert!(worst <= room, "{coding} k={k} cols={cols}: {worst} over {room}");
            }
        }
        for coding in Coding::ALL.iter().filter(|coding| coding.is_hidden()) {
            for cols in [1, 31, 384, 16_384] {
                let worst = hidden::worst_len(*coding, cols, wire::Dtype::F32);
                let room = coding.row_max(0, cols as usize);
                assert!(worst <= room, "{coding} cols={cols}: {worst} over {room}");
            }
        }
    }
}
