//! Butterfly's wire format: bytes to types and back. No I/O, no clock, no unsafe code.
//!
//! `FORMAT.md` beside this crate states the same in numbered rules; code and tests cite the numbers.
#![forbid(unsafe_code)]

pub mod check;
pub mod header;
pub mod kind;
pub mod order;
pub mod work;

pub use header::{HEADER_LEN, Header, HeaderFault};
pub use kind::{Compression, ErrorCode, Kind};
pub use order::{Order, Outcome};
pub use work::{Dtype, Operation, Work};

/// Protocol version carried in every header.
pub const VERSION: u16 = 0x0001;

/// Every payload is a multiple of this, so that frames stay aligned in a stream.
pub const PAYLOAD_ALIGN: usize = 16;

/// Payloads longer than this carry a 32-bit check inside (CRC-16 loses its two-bit guarantee).
pub const CHECKED_PAYLOAD_MIN: usize = 4_096;

/// Rounds `len` up to the payload granule.
#[must_use]
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(PAYLOAD_ALIGN)
}
