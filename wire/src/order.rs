//! What a shard tells a worker about a slot, and what the worker answers: plain data in shared
//! memory.
//!
//! Both sides are one release of one binary (the segment's layout hash says so), hence native byte
//! order.

use crate::{Coding, Dtype, ErrorCode, Operation, Source, Work};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One order: compute this, from the slot's request area into its reply area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(8))]
pub struct Order {
    /// Repeated in the header of every reply frame.
    pub message_id: u64,
    /// CLOCK_MONOTONIC nanoseconds after which the answer is useless; 0 for none.
    pub deadline_ns: u64,
    /// CLOCK_MONOTONIC nanoseconds at which the request was complete.
    pub arrived_ns: u64,
    /// Bytes of the request's payload, which starts behind the header in the request area.
    pub payload_len: u32,
    quality: u32,
    rows: u32,
    cols: u32,
    data_offset: u32,
    data_len: u32,
    check: u32,
    /// Which lending of the slot this is; the outcome repeats it.
    pub lending: u32,
    k: u16,
    operation: u8,
    dtype: u8,
    values: u8,
    flags: u8,
    coding: u8,
    source: u8,
}

const FLAG_STREAMING: u8 = 1;
const FLAG_CHECK: u8 = 2;

const _: () = assert!(size_of::<Order>() == 64);

impl Order {
    /// An order for checked work.
    #[must_use]
    pub fn new(
        work: &Work,
        message_id: u64,
        payload_len: u32,
        arrived_ns: u64,
        deadline_ns: u64,
        lending: u32,
    ) -> Self {
        let mut flags = 0;
        if work.streaming {
            flags |= FLAG_STREAMING;
        }
        if work.check.is_some() {
            flags |= FLAG_CHECK;
        }
        Self {
            message_id,
            deadline_ns,
            arrived_ns,
            payload_len,
            quality: work.quality.to_bits(),
            // Checked work has no larger one.
            k: u16::try_from(work.k).unwrap_or(u16::MAX),
            rows: work.rows,
            cols: work.cols,
            data_offset: work.data_offset,
            data_len: work.data_len,
            check: work.check.unwrap_or(0),
            operation: work.operation.code(),
            dtype: work.dtype.code(),
            values: work.values.code(),
            flags,
            lending,
            coding: work.coding.code(),
            source: work.source.code(),
        }
    }

    /// The work, checked again: the memory is shared, so its bytes prove nothing.
    ///
    /// # Errors
    /// `BadRequest` for codes outside the registries, otherwise as [`Work::check`].
    pub fn work(&self) -> Result<Work, ErrorCode> {
        Work {
            operation: Operation::from_code(self.operation).ok_or(ErrorCode::BadRequest)?,
            dtype: Dtype::from_code(self.dtype).ok_or(ErrorCode::BadRequest)?,
            values: Dtype::from_code(self.values).ok_or(ErrorCode::BadRequest)?,
            coding: Coding::from_code(self.coding).ok_or(ErrorCode::BadRequest)?,
            source: Source::from_code(self.source).ok_or(ErrorCode::BadRequest)?,
            quality: f32::from_bits(self.quality),
            streaming: self.flags & FLAG_STREAMING != 0,
            k: self.k.into(),
            rows: self.rows,
            cols: self.cols,
            data_offset: self.data_offset,
            data_len: self.data_len,
            check: (self.flags & FLAG_CHECK != 0).then_some(self.check),
        }
        .check()
    }
}

/// What a worker says of one order. `status` 0 means that whole reply frames lie in the reply area.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C, align(8))]
pub struct Outcome {
    /// The order's lending.
    pub lending: u32,
    /// 0, or an [`ErrorCode`] that the shard reports in the worker's place.
    pub status: u16,
    /// Reply frames in the reply area, back to back.
    pub frames: u16,
    /// Bytes of all reply frames.
    pub reply_len: u32,
    /// Bytes the worker had to copy besides computing.
    pub copied: u32,
    /// Nanoseconds the batch's computation took, shared by its members.
    pub compute_ns: u64,
    /// CLOCK_MONOTONIC nanoseconds at which the worker took the order up.
    pub started_ns: u64,
    /// Which of its signatures (backend, and why that one) stands on the reply, from 1; 0 for none.
    pub author: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<Outcome>() == 40);

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    fn work() -> Work {
        Work {
            operation: Operation::LmHead,
            dtype: Dtype::Bf16,
            values: Dtype::F16,
            coding: Coding::SetSteps,
            source: Source::Inline,
            quality: 0.5,
            streaming: true,
            k: 100,
            rows: 3,
            cols: 384,
            data_offset: 64,
            data_len: 3 * 384 * 2,
            check: Some(0),
        }
    }

    #[test]
    fn an_order_carries_work_through_shared_memory() {
        for (streaming, check) in [(true, Some(0)), (false, Some(9)), (true, None)] {
            let work = Work { streaming, check, ..work() };
            let order = Order::new(&work, 1, 2, 3, 4, 5);
            let read = Order::read_from_bytes(order.as_bytes()).expect("64 bytes");
            assert_eq!(read.work(), Ok(work));
            assert_eq!((read.message_id, read.payload_len, read.lending), (1, 2, 5));
            assert_eq!((read.arrived_ns, read.deadline_ns), (3, 4));
        }
    }

    #[test]
    fn an_order_is_believed_only_after_a_check() {
        let order = Order::new(&work(), 1, 2, 3, 4, 5);
        let bad = |change: fn(&mut Order)| {
            let mut order = order;
            change(&mut order);
            order.work()
        };
        assert_eq!(bad(|order| order.operation = 99), Err(ErrorCode::BadRequest));
        assert_eq!(bad(|order| order.dtype = 99), Err(ErrorCode::BadRequest));
        assert_eq!(bad(|order| order.coding = 99), Err(ErrorCode::BadRequest));
        assert_eq!(bad(|order| order.source = 99), Err(ErrorCode::BadRequest));
        assert_eq!(bad(|order| order.quality = u32::MAX), Err(ErrorCode::BadRequest));
        assert_eq!(bad(|order| order.k = 0), Err(ErrorCode::BadK));
        assert_eq!(bad(|order| order.data_len += 1), Err(ErrorCode::BadRequest));
    }
}
