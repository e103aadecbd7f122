//! The CPU backend: computes an order and writes its reply frames in place.

use crate::{
    authors::{AuthorId, Authors, stamp},
    coded::{Coder, Rows},
    job::{Job, Turn, Written, store},
    lm_head::{LmHead, Tag},
    weights::Projection,
};
use codec::{Basis, hidden::BATCH};
use kernels::{Level, Row, int8, topk::TopK};
use link::{Lent, LinkFault};
use wire::{
    Dtype, ErrorCode, HEADER_LEN, Operation, Source,
    reply::{self, Chunk, CodedReply, EchoReply, Int8Reply, Layout, TopKReply},
    work::K_MAX,
};

/// Learned numbers that a node gives to its workers.
#[derive(Debug, Default)]
pub struct Model<'w> {
    /// Enables lm-head.
    pub projection: Option<Projection<'w>>,
    /// Enables the codings of hidden rows that need one, and fetch.
    pub basis: Option<Basis>,
}

/// What finishes replies: signatures and codings.
pub(crate) type Desk<'a> = (&'a mut Authors, &'a mut Coder);

/// Everything the CPU backend needs, allocated once.
#[derive(Debug)]
pub struct Cpu<'w> {
    authors: Authors,
    /// Who signs what is computed next.
    author: AuthorId,
    topk: TopK,
    /// Values of one row, before they are rounded.
    values: Box<[f32]>,
    head: Option<LmHead<'w>>,
    coder: Coder,
}

impl<'w> Cpu<'w> {
    /// `worker` and `reason` are named in every reply.
    #[must_use]
    pub fn new(worker: u16, reason: &str, model: Model<'w>) -> Self {
        let mut authors = Authors::new(worker);
        let author = authors.who("cpu", reason);
        Self {
            authors,
            author,
            topk: TopK::new(),
            values: vec![0.0; K_MAX as usize].into(),
            head: model.projection.map(LmHead::new),
            coder: Coder::new(model.basis),
        }
    }

    /// The vector instructions in use.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.topk.level()
    }

    /// True where lm-head is served.
    #[must_use]
    pub const fn has_projection(&self) -> bool {
        self.head.is_some()
    }

    /// True where there is a basis to code with and to fetch.
    #[must_use]
    pub const fn has_basis(&self) -> bool {
        self.coder.basis().is_some()
    }

    /// What hidden rows are coded with.
    pub(crate) const fn basis(&self) -> Option<&Basis> {
        self.coder.basis()
    }

    /// Whether the basis is there that an order needs.
    pub(crate) fn admit(&self, job: &Job<'_>) -> Result<(), ErrorCode> {
        self.coder.admit(job)
    }

    /// The weights of lm-head.
    pub(crate) fn projection(&self) -> Option<&Projection<'w>> {
        self.head.as_ref().map(LmHead::projection)
    }

    /// Entries of a row that lm-head takes.
    pub(crate) fn width(&self) -> Option<usize> {
        self.projection().map(Projection::width)
    }

    /// The signatures of this worker.
    pub(crate) const fn authors(&mut self) -> &mut Authors {
        &mut self.authors
    }

    /// What replies that a device has computed are finished with.
    pub(crate) const fn desk(&mut self) -> Desk<'_> {
        (&mut self.authors, &mut self.coder)
    }

    /// From now on replies give this reason for the CPU.
    pub(crate) fn explain(&mut self, reason: &str) {
        self.author = self.authors.who("cpu", reason);
    }

    /// From now on replies are signed by `author`.
    pub(crate) const fn sign_as(&mut self, author: AuthorId) {
        self.author = author;
    }

    /// Answers a batch, see [`crate::Backend::submit`].
    ///
    /// # Errors
    /// A [`LinkFault`]: the node broke its word.
    pub fn run(&mut self, batch: &mut Vec<Lent<'_>>, beat: &dyn Fn()) -> Result<(), LinkFault> {
        let turn = Turn::now(beat);
        // From here on the next order is the last of the vector.
        batch.reverse();
        while let Some(mut lent) = batch.pop() {
            beat();
            let answer = self.answer(&mut lent, batch, &turn);
            lent.complete(turn.outcome(answer))?;
        }
        Ok(())
    }

    /// Checks and computes one order. `rest` holds those behind it, next last.
    fn answer(
        &mut self,
        lent: &mut Lent<'_>,
        rest: &[Lent<'_>],
        turn: &Turn<'_>,
    ) -> Result<Written, ErrorCode> {
        let order = *lent.order();
        let work = Job::admit(lent, self.width())?.work;
        if work.source != Source::Inline {
            // The rows are in a device's memory, which no CPU reads.
            return Err(ErrorCode::NoCapableWorker);
        }
        if work.operation == Operation::LmHead {
            let head = self.head.as_mut().ok_or(ErrorCode::NoCapableWorker)?;
            head.begin(rest.len());
        }
        let (payload, out) = lent.parts()?;
        let job = Job::check(&order, payload)?;
        self.coder.admit(&job)?;
        if work.operation == Operation::Fetch {
            return self.fetch(&job, out, turn);
        }
        self.write(&job, rest, out, turn)
    }

    /// A piece of the basis, as an echo.
    fn fetch(
        &mut self,
        job: &Job<'_>,
        out: &mut [u8],
        turn: &Turn<'_>,
    ) -> Result<Written, ErrorCode> {
        let piece = self.coder.piece(job.work.k).ok_or(ErrorCode::BadRequest)?;
        let layout = EchoReply::layout(1, piece.len() as u32, Dtype::U8);
        let payload = out.get_mut(HEADER_LEN..).ok_or(ErrorCode::ReplyTooLong)?;
        let parts = layout.parts(payload).map_err(|_| ErrorCode::ReplyTooLong)?;
        parts.data.copy_from_slice(piece);
        let copied = piece.len() as u32;
        let chunk = Chunk { index: 0, first_row: 0, rows: 1, is_final: true };
        let stamp = stamp(job, turn.elapsed_ns(), chunk);
        let len = self.authors.sign(self.author, out, &Layout::Echo(layout), &stamp)?;
        Ok(Written { frames: 1, len, copied, author: self.author.code() })
    }

    /// Writes the frames of a checked order.
    fn write(
        &mut self,
        job: &Job<'_>,
        rest: &[Lent<'_>],
        out: &mut [u8],
        turn: &Turn<'_>,
    ) -> Result<Written, ErrorCode> {
        let mut written = Written { author: self.author.code(), ..Written::default() };
        // The sets of lm-head are chosen from the projection's outputs, not from the order's
        // columns.
        let mut shape = job.work;
        if let (Operation::LmHead, Some(head)) = (shape.operation, &self.head) {
            shape.cols = head.projection().vocabulary() as u32;
        }
        for chunk in reply::chunks(&job.work) {
            let mut layout = Layout::of(&shape, &chunk).ok_or(ErrorCode::NoCapableWorker)?;
            let frame = out.get_mut(written.len..).ok_or(ErrorCode::ReplyTooLong)?;
            let payload = frame.get_mut(HEADER_LEN..).ok_or(ErrorCode::ReplyTooLong)?;
            match &mut layout {
                Layout::Echo(parts) => written.copied += echo(job, &chunk, parts, payload)?,
                Layout::Int8(parts) => quantize(job, &chunk, parts, payload, turn.beat)?,
                Layout::TopK(parts) => self.select(job, rest, &chunk, parts, payload, turn.beat)?,
                Layout::Coded(parts) => {
                    let rows = Rows::begin(*parts, payload)?;
                    *parts = self.code(job, rest, &chunk, rows, turn.beat)?;
                }
            }
            let stamp = stamp(job, turn.elapsed_ns(), chunk);
            written.len += self.authors.sign(self.author, frame, &layout, &stamp)?;
            written.frames += 1;
        }
        Ok(written)
    }

    /// Top-k of a chunk's rows: of the order's own, or of the logits that lm-head makes of them.
    fn select(
        &mut self,
        job: &Job<'_>,
        rest: &[Lent<'_>],
        chunk: &Chunk,
        layout: &TopKReply,
        payload: &mut [u8],
        beat: &dyn Fn(),
    ) -> Result<(), ErrorCode> {
        let parts = layout.parts(payload).map_err(|_| ErrorCode::ReplyTooLong)?;
        let k = layout.k as usize;
        let size = layout.values_dtype.size();
        let places = parts.indices.chunks_exact_mut(k).zip(parts.values.chunks_exact_mut(k * size));
        for (at, (indices, places)) in places.enumerate() {
            beat();
            let number = chunk.first_row as usize + at;
            let row = logits(&mut self.head, job, rest, number).ok_or(ErrorCode::BadRequest)?;
            let values = &mut self.values[..k];
            let summary = self.topk.run(row, k, indices, values);
            store(layout.values_dtype, values, places);
            parts.counts[at] = summary.count;
            parts.max[at] = summary.max;
            parts.log_sum[at] = summary.log_sum;
            parts.flags[at] = summary.flags;
        }
        Ok(())
    }

    /// A chunk's rows in a coding; gives the layout of what was written.
    fn code(
        &mut self,
        job: &Job<'_>,
        rest: &[Lent<'_>],
        chunk: &Chunk,
        mut rows: Rows<'_>,
        beat: &dyn Fn(),
    ) -> Result<CodedReply, ErrorCode> {
        let all = chunk.first_row as usize..(chunk.first_row + chunk.rows) as usize;
        if job.work.operation == Operation::Hidden {
            for first in all.clone().step_by(BATCH) {
                beat();
                let batch = job.rows(first..all.end.min(first + BATCH));
                self.coder.hidden(&mut rows, batch.ok_or(ErrorCode::BadRequest)?)?;
            }
            return Ok(self.coder.finish(rows));
        }
        for number in all {
            beat();
            let row = logits(&mut self.head, job, rest, number).ok_or(ErrorCode::BadRequest)?;
            let k = job.work.k as usize;
            let (indices, values) = self.coder.room(k);
            let summary = self.topk.run(row, k, indices, values);
            self.coder.set(&mut rows, &summary)?;
        }
        Ok(self.coder.finish(rows))
    }
}

/// The row to choose from: the order's own, or the next that lm-head makes.
fn logits<'r>(
    head: &'r mut Option<LmHead<'_>>,
    job: &Job<'r>,
    rest: &[Lent<'_>],
    number: usize,
) -> Option<Row<'r>> {
    match (job.work.operation, head) {
        (Operation::LmHead, Some(head)) => {
            let tag = rest.len();
            head.next(tag, tagged(*job, tag, number).chain(rows_behind(rest)))
        }
        _ => job.row(number),
    }
}

/// The rows from `number` on, under the tag `tag`.
fn tagged(job: Job<'_>, tag: Tag, number: usize) -> impl Iterator<Item = (Tag, Row<'_>)> {
    (number..job.work.rows as usize).map_while(move |number| Some((tag, job.row(number)?)))
}

/// The rows of the lm-head orders behind the current one, in the order in which their turns come.
fn rows_behind<'a>(rest: &'a [Lent<'_>]) -> impl Iterator<Item = (Tag, Row<'a>)> {
    let jobs = rest.iter().enumerate().rev().filter_map(|(tag, lent)| {
        let job = Job::check(lent.order(), lent.payload().ok()?).ok()?;
        (job.work.operation == Operation::LmHead).then_some((tag, job))
    });
    jobs.flat_map(|(tag, job)| tagged(job, tag, 0))
}

/// Copies a chunk's rows into the reply. Returns how many bytes that were.
fn echo(
    job: &Job<'_>,
    chunk: &Chunk,
    layout: &EchoReply,
    payload: &mut [u8],
) -> Result<u32, ErrorCode> {
    let parts = layout.parts(payload).map_err(|_| ErrorCode::ReplyTooLong)?;
    let from = chunk.first_row as usize * job.work.cols as usize * job.work.dtype.size();
    let rows = job.data.get(from..).and_then(|rows| rows.get(..parts.data.len()));
    parts.data.copy_from_slice(rows.ok_or(ErrorCode::BadRequest)?);
    Ok(parts.data.len() as u32)
}

/// Quantises a chunk's rows into the reply.
fn quantize(
    job: &Job<'_>,
    chunk: &Chunk,
    layout: &Int8Reply,
    payload: &mut [u8],
    beat: &dyn Fn(),
) -> Result<(), ErrorCode> {
    let parts = layout.parts(payload).map_err(|_| ErrorCode::ReplyTooLong)?;
    let codes = parts.codes.chunks_exact_mut(layout.cols as usize);
    for (at, (codes, scale)) in codes.zip(parts.scales).enumerate() {
        beat();
        let row = job.row(chunk.first_row as usize + at).ok_or(ErrorCode::BadRequest)?;
        (*scale, parts.flags[at]) = int8::quantize(row, codes);
    }
    Ok(())
}
