//! One order, checked: what every backend does before it computes, and after.

use crate::clock;
use core::ops::Range;
use kernels::{Element, Row, cast};
use link::Lent;
use wire::{Dtype, ErrorCode, Operation, Order, Outcome, Work, reply, request, work::K_MAX};

/// Bits that kernels set are the bits that the format defines.
const _: () = {
    use kernels::flags as ours;
    use wire::flags as theirs;
    assert!(ours::NAN == theirs::NAN && ours::FEWER_THAN_K == theirs::SHORT);
    assert!(ours::INFINITY == theirs::NON_FINITE && ours::ZERO_ROW == theirs::ZERO);
    assert!(ours::DENORMAL_SCALE == theirs::SUBNORMAL);
    assert!(kernels::topk::MAX_K == K_MAX as usize);
};

/// What was written for an order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) frames: u16,
    pub(crate) len: usize,
    pub(crate) copied: u32,
    /// Who signed.
    pub(crate) author: u16,
}

/// One batch, as its orders see it.
pub(crate) struct Turn<'a> {
    pub(crate) started_ns: u64,
    pub(crate) beat: &'a dyn Fn(),
}

impl<'a> Turn<'a> {
    pub(crate) fn now(beat: &'a dyn Fn()) -> Self {
        Self { started_ns: clock::monotonic_ns(), beat }
    }

    pub(crate) fn elapsed_ns(&self) -> u64 {
        clock::monotonic_ns().saturating_sub(self.started_ns)
    }

    /// What is said of an order that was taken up in this turn.
    pub(crate) fn outcome(&self, answer: Result<Written, ErrorCode>) -> Outcome {
        let outcome = match answer {
            Ok(Written { frames, len, copied, author }) => {
                Outcome { frames, reply_len: len as u32, copied, author, ..Outcome::default() }
            }
            Err(code) => Outcome { status: code.code(), ..Outcome::default() },
        };
        Outcome { compute_ns: self.elapsed_ns(), started_ns: self.started_ns, ..outcome }
    }
}

/// One order while it is computed.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) order: &'a Order,
    pub(crate) work: Work,
    pub(crate) payload: &'a [u8],
    /// The tensor within the payload.
    pub(crate) data: &'a [u8],
}

impl<'a> Job<'a> {
    /// The order as work over its payload: codes, shape and lengths fit together.
    pub(crate) fn check(order: &'a Order, payload: &'a [u8]) -> Result<Self, ErrorCode> {
        let work = order.work()?;
        let data = request::rows(payload, &work).ok_or(ErrorCode::BadRequest)?;
        Ok(Self { order, work, payload, data })
    }

    /// All that has to hold before an order is computed: in time, consistent, unspoilt, and with
    /// room for its answer. `width` is that of the weights, where there are any.
    pub(crate) fn admit(lent: &'a Lent<'_>, width: Option<usize>) -> Result<Self, ErrorCode> {
        let order = lent.order();
        if order.deadline_ns != 0 && clock::monotonic_ns() >= order.deadline_ns {
            return Err(ErrorCode::DeadlineExceeded);
        }
        let job = Self::check(order, lent.payload()?)?;
        if !request::verify(job.payload, &job.work) {
            return Err(ErrorCode::BadCheck);
        }
        if reply::reply_len(&job.work) > lent.places().1.len() as u64 {
            return Err(ErrorCode::ReplyTooLong);
        }
        if job.work.operation == Operation::LmHead {
            let width = width.ok_or(ErrorCode::NoCapableWorker)?;
            if job.work.cols as usize != width {
                return Err(ErrorCode::BadShape);
            }
        }
        Ok(job)
    }

    /// Bytes of one row.
    pub(crate) const fn row_len(&self) -> usize {
        self.work.cols as usize * self.work.dtype.size()
    }

    /// A row of floating-point numbers, in place.
    pub(crate) fn row(&self, number: usize) -> Option<Row<'a>> {
        self.rows(number..number.checked_add(1)?)
    }

    /// Neighbouring rows as one, in place.
    pub(crate) fn rows(&self, numbers: Range<usize>) -> Option<Row<'a>> {
        let len = self.row_len();
        let place = numbers.start.checked_mul(len)?..numbers.end.checked_mul(len)?;
        Row::from_bytes(element(self.work.dtype)?, self.data.get(place)?)
    }
}

pub(crate) const fn element(dtype: Dtype) -> Option<Element> {
    match dtype {
        Dtype::F32 => Some(Element::F32),
        Dtype::F16 => Some(Element::F16),
        Dtype::Bf16 => Some(Element::Bf16),
        Dtype::U8 => None,
    }
}

/// Rounds values into their places, which are aligned as every part of a reply is.
pub(crate) fn store(dtype: Dtype, values: &[f32], places: &mut [u8]) {
    match dtype {
        Dtype::F16 => cast::to_f16(values, bytemuck::cast_slice_mut(places)),
        Dtype::Bf16 => cast::to_bf16(values, bytemuck::cast_slice_mut(places)),
        Dtype::F32 | Dtype::U8 => places.copy_from_slice(bytemuck::cast_slice(values)),
    }
}
