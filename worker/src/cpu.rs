//! The CPU backend: checks an order once more, computes it, and writes its reply frames in place.

use crate::{
    clock,
    coded::{Coder, Rows},
    lm_head::{LmHead, Tag},
    weights::Projection,
};
use kernels::{Element, Level, Row, cast, int8, topk::TopK};
use link::{Lent, LinkFault};
use wire::{
    Dtype, ErrorCode, HEADER_LEN, Operation, Order, Outcome, Work,
    reply::{self, Author, Chunk, CodedReply, EchoReply, Int8Reply, Layout, Stamp, TopKReply},
    request,
    work::K_MAX,
};

/// Bits that kernels set are the bits that the format defines.
const _: () = {
    use kernels::flags as ours;
    use wire::flags as theirs;
    assert!(ours::NAN == theirs::NAN && ours::FEWER_THAN_K == theirs::SHORT);
    assert!(ours::INFINITY == theirs::NON_FINITE && ours::ZERO_ROW == theirs::ZERO);
    assert!(ours::DENORMAL_SCALE == theirs::SUBNORMAL);
    assert!(kernels::topk::MAX_K == K_MAX as usize);
};

/// Everything the CPU backend needs, allocated once.
#[derive(Debug)]
pub struct Cpu<'w> {
    author: Author,
    topk: TopK,
    /// Values of one row, before they are rounded.
    values: Box<[f32]>,
    head: Option<LmHead<'w>>,
    coder: Coder,
}

/// What was written for an order.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    frames: u16,
    len: usize,
    copied: u32,
}

/// One batch, as its orders see it.
struct Turn<'a> {
    started_ns: u64,
    beat: &'a dyn Fn(),
}

/// One order while it is computed.
#[derive(Clone, Copy)]
struct Job<'a> {
    order: &'a Order,
    work: Work,
    payload: &'a [u8],
    /// The tensor within the payload.
    data: &'a [u8],
}

impl<'w> Cpu<'w> {
    /// `worker` and `reason` are named in every reply; `projection` enables lm-head.
    #[must_use]
    pub fn new(worker: u16, reason: &str, projection: Option<Projection<'w>>) -> Self {
        Self {
            author: Author::new(&format!("worker-{worker}"), "cpu", reason),
            topk: TopK::new(),
            values: vec![0.0; K_MAX as usize].into(),
            head: projection.map(LmHead::new),
            coder: Coder::new(),
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

    /// Answers a batch, see [`crate::Backend::run`].
    ///
    /// # Errors
    /// A [`LinkFault`]: the node broke its word.
    pub fn run(&mut self, batch: &mut Vec<Lent<'_>>, beat: &dyn Fn()) -> Result<(), LinkFault> {
        let turn = Turn { started_ns: clock::monotonic_ns(), beat };
        // From here on the next order is the last of the vector.
        batch.reverse();
        while let Some(mut lent) = batch.pop() {
            beat();
            let outcome = match self.answer(&mut lent, batch, &turn) {
                Ok(Written { frames, len, copied }) => {
                    Outcome { frames, reply_len: len as u32, copied, ..Outcome::default() }
                }
                Err(code) => Outcome { status: code.code(), ..Outcome::default() },
            };
            lent.complete(Outcome {
                compute_ns: turn.elapsed_ns(),
                started_ns: turn.started_ns,
                ..outcome
            })?;
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
        if order.deadline_ns != 0 && clock::monotonic_ns() >= order.deadline_ns {
            return Err(ErrorCode::DeadlineExceeded);
        }
        let (payload, out) = lent.parts()?;
        let job = Job::check(&order, payload)?;
        if !request::verify(payload, &job.work) {
            return Err(ErrorCode::BadCheck);
        }
        if reply::reply_len(&job.work) > out.len() as u64 {
            return Err(ErrorCode::ReplyTooLong);
        }
        if job.work.operation == Operation::LmHead {
            let head = self.head.as_mut().ok_or(ErrorCode::NoCapableWorker)?;
            if job.work.cols as usize != head.projection().width() {
                return Err(ErrorCode::BadShape);
            }
            head.begin(rest.len());
        }
        self.write(&job, rest, out, turn)
    }

    /// Writes the frames of a checked order.
    fn write(
        &mut self,
        job: &Job<'_>,
        rest: &[Lent<'_>],
        out: &mut [u8],
        turn: &Turn<'_>,
    ) -> Result<Written, ErrorCode> {
        let mut written = Written::default();
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
            let stamp = Stamp {
                message_id: job.order.message_id,
                timestamp_ns: clock::epoch_ns(),
                query_id: request::query_id(job.payload),
                operation: job.work.operation,
                compute_ns: turn.elapsed_ns(),
                chunk,
            };
            written.len += reply::finish(frame, &layout, &mut self.author, &stamp)?;
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
        for number in (chunk.first_row as usize..).take(chunk.rows as usize) {
            beat();
            let row = logits(&mut self.head, job, rest, number).ok_or(ErrorCode::BadRequest)?;
            let k = job.work.k as usize;
            let (indices, values) = self.coder.room(k);
            let summary = self.topk.run(row, k, indices, values);
            self.coder.set(&mut rows, &summary)?;
        }
        Ok(rows.finish([0; 32]))
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
            head.next(tag, job.tagged(tag, number).chain(rows_behind(rest)))
        }
        _ => job.row(number),
    }
}

impl Turn<'_> {
    fn elapsed_ns(&self) -> u64 {
        clock::monotonic_ns().saturating_sub(self.started_ns)
    }
}

impl<'a> Job<'a> {
    /// The order as work over its payload: codes, shape and lengths fit together.
    fn check(order: &'a Order, payload: &'a [u8]) -> Result<Self, ErrorCode> {
        let work = order.work()?;
        let data = request::rows(payload, &work).ok_or(ErrorCode::BadRequest)?;
        Ok(Self { order, work, payload, data })
    }

    /// A row of floating-point numbers, in place.
    fn row(&self, number: usize) -> Option<Row<'a>> {
        let len = self.work.cols as usize * self.work.dtype.size();
        let bytes = self.data.get(number.checked_mul(len)?..)?.get(..len)?;
        Row::from_bytes(element(self.work.dtype)?, bytes)
    }

    /// The rows from `number` on, under the tag `tag`.
    fn tagged(self, tag: Tag, number: usize) -> impl Iterator<Item = (Tag, Row<'a>)> {
        (number..self.work.rows as usize).map_while(move |number| Some((tag, self.row(number)?)))
    }
}

/// The rows of the lm-head orders behind the current one, in the order in which their turns come.
fn rows_behind<'a>(rest: &'a [Lent<'_>]) -> impl Iterator<Item = (Tag, Row<'a>)> {
    let jobs = rest.iter().enumerate().rev().filter_map(|(tag, lent)| {
        let job = Job::check(lent.order(), lent.payload().ok()?).ok()?;
        (job.work.operation == Operation::LmHead).then_some((tag, job))
    });
    jobs.flat_map(|(tag, job)| job.tagged(tag, 0))
}

const fn element(dtype: Dtype) -> Option<Element> {
    match dtype {
        Dtype::F32 => Some(Element::F32),
        Dtype::F16 => Some(Element::F16),
        Dtype::Bf16 => Some(Element::Bf16),
        Dtype::U8 => None,
    }
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

/// Rounds values into their places, which are aligned as every part of a reply is.
fn store(dtype: Dtype, values: &[f32], places: &mut [u8]) {
    match dtype {
        Dtype::F16 => cast::to_f16(values, bytemuck::cast_slice_mut(places)),
        Dtype::Bf16 => cast::to_bf16(values, bytemuck::cast_slice_mut(places)),
        Dtype::F32 | Dtype::U8 => places.copy_from_slice(bytemuck::cast_slice(values)),
    }
}
