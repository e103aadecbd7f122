//! The end of an order that the device has computed: texts, roots, headers, and codings.
//!
//! Plain parts lie in their frames already, and so do rows of a fixed length. Where the length of a
//! row depends on what is in it, the host codes it from what the device made (see `results`), while
//! other waves compute: sets take it a few microseconds a row. Rows that are projected come back as
//! f32: entropy coding on one core is far slower than the bus, so shorter numbers would gain
//! nothing, and the row's step is rounded by the same code as on the CPU.

use super::{
    driver::Stream,
    lent::Leased,
    results::{Results, group_stride, row_len},
    wave::{Around, Flight},
};
use crate::{
    authors::stamp,
    coded::{Coder, Rows},
    job::{Job, Turn, Written, element},
};
use codec::hidden::Projected;
use kernels::{Row, topk::RowSummary};
use wire::{
    Coding, ErrorCode, HEADER_LEN, Work,
    reply::{self, Chunk, Layout, TopKReply},
};

/// What the rest of a wave gives to the end of an order.
pub(super) struct Finish<'a> {
    /// Pinned memory from the order's own results on.
    pub(super) results: &'a mut [u8],
    /// For rows that are needed once more.
    pub(super) stream: &'a Stream,
}

/// Ends the frames of an order whose parts the device has filled.
pub(super) fn sign(
    flight: &mut Flight<'_>,
    around: &mut Around<'_>,
    turn: &Turn<'_>,
    finish: Finish<'_>,
) -> Result<Written, ErrorCode> {
    let Finish { mut results, stream } = finish;
    let order = *flight.lent.order();
    let (payload, out) = flight.lent.parts()?;
    let job = Job::check(&order, payload)?;
    let shape = around.model.shape(&job.work).ok_or(ErrorCode::NoCapableWorker)?;
    let origin = Origin { job: &job, leased: flight.leased.as_ref(), stream };
    let mut written = Written { author: flight.author.code(), ..Written::default() };
    for chunk in reply::chunks(&job.work) {
        let mut layout = Layout::of(&shape, &chunk).ok_or(ErrorCode::NoCapableWorker)?;
        let frame = out.get_mut(written.len..).ok_or(ErrorCode::ReplyTooLong)?;
        // Where the device has written into this frame, it has put the next behind it.
        let mut expected = None;
        let stretch = Results::of(&shape, &chunk);
        if stretch.is_none() {
            let parts = layout.end();
            expected = Some(around.authors.frame_len(flight.author, shape.operation, parts));
        }
        if let Layout::Coded(coded) = &mut layout {
            let payload = frame.get_mut(HEADER_LEN..).ok_or(ErrorCode::ReplyTooLong)?;
            let mut rows = Rows::begin(*coded, payload)?;
            match stretch {
                Some(stretch) => {
                    let mut desk = Desk { coder: around.coder, rows: &mut rows, beat: turn.beat };
                    desk.code(&stretch, results, &origin, &chunk)?;
                    results = results.get_mut(stretch.len()..).unwrap_or_default();
                }
                None => end_rows(&mut rows, &shape, &chunk)?,
            }
            *coded = around.coder.finish(rows);
        }
        let stamp = stamp(&job, turn.elapsed_ns(), chunk);
        let len = around.authors.sign(flight.author, frame, &layout, &stamp)?;
        if expected.is_some_and(|expected| expected != len) {
            return Err(ErrorCode::WorkerFailed);
        }
        written.len += len;
        written.frames += 1;
    }
    Ok(written)
}

/// Ends rows that the device has written whole.
fn end_rows(rows: &mut Rows<'_>, shape: &Work, chunk: &Chunk) -> Result<(), ErrorCode> {
    let len = row_len(shape.coding, shape.cols as usize);
    (0..chunk.rows).try_for_each(|_| rows.end_there(len))
}

/// Where the rows of an order are, for the few that are needed once more.
struct Origin<'a> {
    job: &'a Job<'a>,
    leased: Option<&'a Leased>,
    stream: &'a Stream,
}

impl<'a> Origin<'a> {
    /// A row of the request, or of the lender through `room`.
    fn row<'r>(&'r self, number: usize, room: &'r mut Vec<u8>) -> Result<Row<'r>, ErrorCode> {
        let Some(leased) = self.leased else {
            return self.job.row(number).ok_or(ErrorCode::BadRequest);
        };
        room.resize(self.job.row_len(), 0);
        let from = leased.rows + number as u64 * leased.stride;
        // SAFETY: the row lies within the lent memory, which was checked when the lease was taken,
        // and which `leased` keeps mapped.
        let read = unsafe { self.stream.read(from, room) };
        // A device that is lost has no such memory any more.
        read.map_err(|_| ErrorCode::NoCapableWorker)?;
        let element = element(self.job.work.dtype).ok_or(ErrorCode::BadRequest)?;
        Row::from_bytes(element, room).ok_or(ErrorCode::BadRequest)
    }
}

/// Codes the rows of a chunk, one after the other.
struct Desk<'a, 'r> {
    coder: &'a mut Coder,
    rows: &'a mut Rows<'r>,
    beat: &'a dyn Fn(),
}

impl Desk<'_, '_> {
    fn code(
        &mut self,
        stretch: &Results,
        results: &mut [u8],
        origin: &Origin<'_>,
        chunk: &Chunk,
    ) -> Result<(), ErrorCode> {
        match *stretch {
            Results::Sets(layout) => self.sets(&layout, results),
            Results::Projected { rows, components, .. } => {
                let (all, behind) = results
                    .split_at_mut_checked(stretch.behind())
                    .ok_or(ErrorCode::WorkerFailed)?;
                let (rms, flags) =
                    behind.split_at_checked(rows * 4).ok_or(ErrorCode::WorkerFailed)?;
                let all = floats(all)?.chunks_exact(components);
                let rows = all.zip(floats(rms)?).zip(flags).map(|((components, rms), flags)| {
                    Projected { components, rms: *rms, flags: *flags }
                });
                self.projected(rows, origin, chunk)
            }
            Results::Groups { rows, cols } => {
                let (len, stride) = (row_len(Coding::Int8Group, cols), group_stride(cols));
                let (all, flags) =
                    results.split_at_checked(rows * stride).ok_or(ErrorCode::WorkerFailed)?;
                for (row, flags) in all.chunks_exact(stride).zip(flags) {
                    (self.beat)();
                    self.rows.copy(row.get(..len).unwrap_or_default(), *flags)?;
                }
                Ok(())
            }
        }
    }

    /// From plain sets.
    fn sets(&mut self, sets: &TopKReply, results: &mut [u8]) -> Result<(), ErrorCode> {
        let parts = sets.parts(results).map_err(|_| ErrorCode::WorkerFailed)?;
        let k = sets.k as usize;
        let values = floats(parts.values)?.chunks_exact(k);
        let chosen = parts.indices.chunks_exact(k).zip(values);
        for (row, (indices, values)) in chosen.enumerate() {
            (self.beat)();
            let summary = RowSummary {
                count: parts.counts[row].min(sets.k),
                max: parts.max[row],
                log_sum: parts.log_sum[row],
                flags: parts.flags[row],
            };
            let (indices_room, values_room) = self.coder.room(k);
            indices_room.copy_from_slice(indices);
            values_room.copy_from_slice(values);
            self.coder.set(self.rows, &summary)?;
        }
        Ok(())
    }

    /// From projected rows.
    fn projected<'p>(
        &mut self,
        rows: impl Iterator<Item = Projected<'p>>,
        origin: &Origin<'_>,
        chunk: &Chunk,
    ) -> Result<(), ErrorCode> {
        let element = element(origin.job.work.dtype).ok_or(ErrorCode::BadRequest)?;
        let mut room = Vec::new();
        for (number, projected) in (chunk.first_row as usize..).zip(rows) {
            (self.beat)();
            if !self.coder.projected(self.rows, &projected, element)? {
                let row = origin.row(number, &mut room)?;
                self.coder.carry(self.rows, row, projected.flags)?;
            }
        }
        Ok(())
    }
}

/// Numbers that lie as they should in pinned memory.
fn floats(bytes: &[u8]) -> Result<&[f32], ErrorCode> {
    bytemuck::try_cast_slice(bytes).map_err(|_| ErrorCode::WorkerFailed)
}
