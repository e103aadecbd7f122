//! Rows of an answer in a coding: what comes after a kernel and before the reply.

use codec::set::{self, Set};
use kernels::topk::RowSummary;
use wire::{Coding, ErrorCode, reply::CodedReply, work::K_MAX};

/// What coding needs, allocated once.
#[derive(Debug)]
pub(crate) struct Coder {
    sets: set::Scratch,
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
    pub(crate) fn new() -> Self {
        Self {
            sets: set::Scratch::new(K_MAX as usize),
            indices: vec![0; K_MAX as usize].into(),
            values: vec![0.0; K_MAX as usize].into(),
        }
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
        rows.push(summary.flags, |out| {
            set::encode(coding, &set, cols, quality, out, scratch)
                .map_err(|_| ErrorCode::ReplyTooLong)
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

    /// How the rows are coded.
    pub(crate) const fn coding(&self) -> Coding {
        self.layout.coding
    }

    /// The next row: `write` puts its bytes at the start of what it is given and says how many.
    fn push(
        &mut self,
        flags: u8,
        write: impl FnOnce(&mut [u8]) -> Result<usize, ErrorCode>,
    ) -> Result<(), ErrorCode> {
        let too_long = ErrorCode::ReplyTooLong;
        let room = self.data.get_mut(self.len..).ok_or(too_long)?;
        self.len += write(room)?;
        *self.ends.get_mut(self.row).ok_or(too_long)? = self.len as u32;
        *self.flags.get_mut(self.row).ok_or(too_long)? = flags;
        self.row += 1;
        Ok(())
    }

    /// The layout of what was written.
    pub(crate) fn finish(self, basis: [u8; 32]) -> CodedReply {
        self.layout.filled(self.len, basis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coded_row_fits_the_room_that_the_format_bounds() {
        for coding in Coding::ALL.iter().filter(|coding| coding.is_set()) {
            for (k, cols) in [(1, 1), (1, 262_144), (100, 30_522), (1024, 262_144), (1024, 7)] {
                let worst = set::worst_len(*coding, k, cols);
                let room = coding.row_max(k as usize, cols as usize);
                assert!(worst <= room, "{coding} k={k} cols={cols}: {worst} over {room}");
            }
        }
    }
}
