//! A device tensor that another process lends: what a request carries in place of its rows.

use crate::DATA_ALIGN;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

/// Bytes of a [`Lease`].
pub const LEASE_LEN: usize = size_of::<Lease>();

/// Where the rows lie on a CUDA device of the node's own machine.
///
/// The lender keeps the allocation, and what it holds, as they are until the answer has come: the
/// worker reads it at any moment before.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Lease {
    /// What `cuIpcGetMemHandle` gave for the allocation.
    pub handle: [u8; 64],
    /// Bytes from the start of the allocation to the first row.
    pub offset: U64,
    /// Bytes from one row to the next; at least a row's own.
    pub stride: U64,
    /// Which device, as the driver numbers them for the node.
    pub device: U32,
    /// Zero.
    pub reserved: [u8; 12],
}

const _: () = assert!(LEASE_LEN == 96 && LEASE_LEN > DATA_ALIGN);

impl Lease {
    /// The lease that a request's data is; `None` for data of another length.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<Self> {
        Self::read_from_bytes(data).ok()
    }

    /// The end of the last of `rows` rows of `row_len` bytes, counted from the start of the
    /// allocation. `None` where that does not fit 64 bits, or where rows would overlap.
    #[must_use]
    pub fn end(&self, rows: u32, row_len: u64) -> Option<u64> {
        let stride = self.stride.get();
        if rows == 0 || stride < row_len {
            return None;
        }
        let last = u64::from(rows - 1).checked_mul(stride)?;
        self.offset.get().checked_add(last)?.checked_add(row_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(offset: u64, stride: u64) -> Lease {
        Lease {
            handle: [7; 64],
            offset: U64::new(offset),
            stride: U64::new(stride),
            device: U32::new(1),
            reserved: [0; 12],
        }
    }

    #[test]
    fn a_lease_comes_back_from_its_bytes() {
        let lease = lease(512, 4096);
        assert_eq!(Lease::read(lease.as_bytes()), Some(lease));
        assert_eq!(Lease::read(&[0; LEASE_LEN - 1]), None);
    }

    #[test]
    fn its_end_is_found_or_refused() {
        assert_eq!(lease(100, 64).end(3, 60), Some(100 + 2 * 64 + 60));
        assert_eq!(lease(0, 59).end(2, 60), None, "rows overlap");
        assert_eq!(lease(u64::MAX, 64).end(1, 1), None);
        assert_eq!(lease(0, u64::MAX).end(u32::MAX, 1), None);
        assert_eq!(lease(0, 64).end(0, 64), None);
    }
}
