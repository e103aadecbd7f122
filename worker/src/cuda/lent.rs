//! Device memory that other processes lend: their tensors are computed where they lie.
//!
//! A lease names an allocation by its CUDA IPC handle. Opening one maps it into this process, which
//! takes a fraction of a millisecond, so the last few stay open. One is closed when it is no longer
//! among these and nothing under way uses it. Whatever a lease says is checked against the
//! allocation before a kernel hears of it; what cannot be opened is refused.

use super::{
    devices::{Closed, device},
    driver::{Context, DeviceMemory, Imported},
};
use std::rc::Rc;
use wire::{ErrorCode, Work, lease::Lease};

/// Allocations that stay open.
const OPEN_MAX: usize = 8;

/// Rows in lent memory, kept open while this exists.
#[derive(Clone, Debug)]
pub(super) struct Leased {
    /// Address of the first row.
    pub(super) rows: u64,
    /// Bytes from one row to the next.
    pub(super) stride: u64,
    _memory: Rc<Imported>,
}

/// What is open.
#[derive(Debug)]
pub(super) struct Lenders {
    /// The device that is computed on.
    device: u32,
    /// The one used last comes last.
    open: Vec<([u8; 64], Rc<Imported>)>,
}

impl Lenders {
    pub(super) const fn new(device: u16) -> Self {
        Self { device: device as u32, open: Vec::new() }
    }

    /// The rows of `work`, which a lease stands for.
    pub(super) fn rows(
        &mut self,
        context: &Rc<Context>,
        work: &Work,
        data: &[u8],
    ) -> Result<Leased, ErrorCode> {
        let lease = Lease::read(data).ok_or(ErrorCode::BadRequest)?;
        if lease.device.get() != self.device {
            // Another worker's, if anybody's.
            return Err(ErrorCode::NoCapableWorker);
        }
        let memory = self.open(context, &lease.handle)?;
        let (offset, stride) = place(&lease, work, memory.len())?;
        Ok(Leased { rows: memory.address() + offset, stride, _memory: memory })
    }

    fn open(
        &mut self,
        context: &Rc<Context>,
        handle: &[u8; 64],
    ) -> Result<Rc<Imported>, ErrorCode> {
        if let Some(at) = self.open.iter().position(|(other, _)| other == handle) {
            let found = self.open.remove(at);
            let memory = Rc::clone(&found.1);
            self.open.push(found);
            return Ok(memory);
        }
        // Stale, of another machine, or made up: the request is at fault. A device that is lost
        // shows at the next launch.
        let memory = Imported::open(context, handle).map_err(|_| ErrorCode::BadRequest)?;
        let memory = Rc::new(memory);
        if self.open.len() == OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push((*handle, Rc::clone(&memory)));
        Ok(memory)
    }
}

/// Device memory that this process lends: the other side of a lease.
#[derive(Debug)]
pub struct Loan {
    memory: DeviceMemory,
    handle: [u8; 64],
}

impl Loan {
    /// Puts bytes on a device, to be lent for as long as the loan lives.
    ///
    /// # Errors
    /// Why there is no such device, or what its driver refused.
    pub fn new(ordinal: u16, bytes: &[u8]) -> Result<Self, Closed> {
        let device = device(ordinal)?;
        let lend = || {
            let context = Context::open(i32::from(ordinal))?;
            let memory = DeviceMemory::new(&context, bytes.len())?;
            memory.fill(0, bytes)?;
            let handle = memory.handle()?;
            Ok(Self { memory, handle })
        };
        lend().map_err(|fault| Closed::Device { device, fault })
    }

    /// For [`Lease::handle`].
    #[must_use]
    pub const fn handle(&self) -> [u8; 64] {
        self.handle
    }

    /// Bytes that are lent.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.memory.len()
    }

    /// Never: there is at least one byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Offset and stride of a lease that stays within an allocation of `len` bytes, and whose rows lie
/// where their elements can be read.
fn place(lease: &Lease, work: &Work, len: u64) -> Result<(u64, u64), ErrorCode> {
    let size = work.dtype.size() as u64;
    let row_len = u64::from(work.cols) * size;
    let end = lease.end(work.rows, row_len).ok_or(ErrorCode::BadRequest)?;
    let (offset, stride) = (lease.offset.get(), lease.stride.get());
    let aligned = offset.is_multiple_of(size) && stride.is_multiple_of(size);
    if end > len || !aligned {
        return Err(ErrorCode::BadRequest);
    }
    Ok((offset, stride))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::{Coding, Dtype, Operation, Source};

    fn lease(offset: u64, stride: u64) -> Lease {
        let mut bytes = [0; wire::lease::LEASE_LEN];
        bytes[64..72].copy_from_slice(&offset.to_le_bytes());
        bytes[72..80].copy_from_slice(&stride.to_le_bytes());
        Lease::read(&bytes).expect("its length")
    }

    fn work(rows: u32, cols: u32) -> Work {
        Work {
            operation: Operation::Int8,
            dtype: Dtype::Bf16,
            values: Dtype::F32,
            coding: Coding::Plain,
            source: Source::CudaIpc,
            quality: 0.0,
            streaming: false,
            k: 0,
            rows,
            cols,
            data_offset: 0,
            data_len: 96,
            check: None,
        }
    }

    proptest! {
        /// Whatever a lease says: rows that are accepted lie within the allocation, aligned and
        /// apart; and no lease makes the check overflow.
        #[test]
        fn accepted_rows_lie_within(
            offset in prop_oneof![0_u64..5_000, any::<u64>()],
            stride in prop_oneof![0_u64..5_000, any::<u64>()],
            rows in 1_u32..70_000, cols in 1_u32..300_000, len in 0_u64..1 << 40,
        ) {
            if let Ok((at, step)) = place(&lease(offset, stride), &work(rows, cols), len) {
                let row_len = u128::from(cols) * 2;
                let end = u128::from(at) + u128::from(rows - 1) * u128::from(step) + row_len;
                prop_assert!(end <= u128::from(len));
                prop_assert!(u128::from(step) >= row_len && at % 2 == 0 && step % 2 == 0);
            }
        }
    }

    #[test]
    fn the_last_byte_counts() {
        let place = |len| place(&lease(10, 8), &work(3, 4), len);
        assert_eq!(place(34), Ok((10, 8)));
        assert_eq!(place(33), Err(ErrorCode::BadRequest));
    }
}
