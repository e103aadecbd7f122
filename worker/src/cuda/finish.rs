//! The end of an order that the device has computed: texts, roots, headers, and codings.
//!
//! Plain parts lie in their frames already. Sets that are to be coded come as plain ones into the
//! pinned memory of the wave, and the host codes them: a few microseconds a row, while other waves
//! compute.

use super::wave::{ALIGN, Around, Flight, shape};
use crate::{
    authors::stamp,
    coded::Rows,
    job::{Job, Turn, Written},
};
use kernels::topk::RowSummary;
use wire::{
    Dtype, ErrorCode, HEADER_LEN, Work,
    reply::{self, Chunk, CodedReply, Layout, TopKReply},
};

/// The plain sets that a chunk of coded ones is made from: values as they are computed, f32.
pub(super) const fn plain_sets(shape: &Work, chunk: &Chunk) -> TopKReply {
    TopKReply::layout(chunk.rows, shape.k, shape.cols, Dtype::F32)
}

/// Ends the frames of an order whose parts the device has filled. `results` is the pinned memory
/// from the order's own results on.
pub(super) fn sign(
    flight: &mut Flight<'_>,
    around: &mut Around<'_>,
    turn: &Turn<'_>,
    mut results: &mut [u8],
) -> Result<Written, ErrorCode> {
    let order = *flight.lent.order();
    let (payload, out) = flight.lent.parts()?;
    let job = Job::check(&order, payload)?;
    let shape = shape(&job.work, around.head);
    let mut written = Written::default();
    for chunk in reply::chunks(&job.work) {
        let mut layout = Layout::of(&shape, &chunk).ok_or(ErrorCode::NoCapableWorker)?;
        let frame = out.get_mut(written.len..).ok_or(ErrorCode::ReplyTooLong)?;
        let mut expected = None;
        if let Layout::Coded(coded) = &mut layout {
            let sets = plain_sets(&shape, &chunk);
            let payload = frame.get_mut(HEADER_LEN..).ok_or(ErrorCode::ReplyTooLong)?;
            let rows = Rows::begin(*coded, payload)?;
            *coded = code(&sets, results, rows, around)?;
            let used = sets.end().next_multiple_of(ALIGN);
            results = results.get_mut(used..).unwrap_or_default();
        } else {
            // The device has put the next chunk where this length says.
            let parts = layout.end();
            expected = Some(around.authors.frame_len(flight.author, shape.operation, parts));
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

/// Codes plain sets, row by row.
fn code(
    sets: &TopKReply,
    results: &mut [u8],
    mut rows: Rows<'_>,
    around: &mut Around<'_>,
) -> Result<CodedReply, ErrorCode> {
    let parts = sets.parts(results).map_err(|_| ErrorCode::WorkerFailed)?;
    let k = sets.k as usize;
    let values: &[f32] = bytemuck::try_cast_slice(parts.values).unwrap_or_default();
    let chosen = parts.indices.chunks_exact(k).zip(values.chunks_exact(k));
    for (row, (indices, values)) in chosen.enumerate() {
        let summary = RowSummary {
            count: parts.counts[row].min(sets.k),
            max: parts.max[row],
            log_sum: parts.log_sum[row],
            flags: parts.flags[row],
        };
        let (indices_room, values_room) = around.coder.room(k);
        indices_room.copy_from_slice(indices);
        values_room.copy_from_slice(values);
        around.coder.set(&mut rows, &summary)?;
    }
    Ok(around.coder.finish(rows))
}
