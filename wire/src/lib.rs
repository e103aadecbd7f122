//! Butterfly's wire format: bytes to types and back. No I/O, no clock, no unsafe code.
//!
//! `FORMAT.md` beside this crate states the same in numbered rules; code and tests cite the
//! numbers.
#![forbid(unsafe_code)]

pub mod check;
pub mod coding;
pub mod error;
pub mod flags;
pub mod frame;
pub mod header;
pub mod heartbeat;
pub mod kind;
pub mod lease;
pub mod mesh;
pub mod order;
pub mod pack;
pub mod payload;
pub mod reply;
pub mod request;
pub mod response;
pub mod role;
pub mod tokens;
pub mod trace;
pub mod work;

pub use coding::Coding;
pub use header::{HEADER_LEN, Header, HeaderFault};
pub use kind::{Compression, ErrorCode, Kind};
pub use order::{Order, Outcome};
pub use pack::PackFault;
pub use payload::{Full, Payload, PayloadFault};
pub use role::{Role, Roles};
pub use work::{Dtype, Operation, Priority, Source, Work};

// Tensors are read and written where they lie, and the format is little-endian.
#[cfg(not(target_endian = "little"))]
compile_error!("wire needs a little-endian machine");

/// Protocol version carried in every header.
pub const VERSION: u16 = 0x0001;

/// Every payload is a multiple of this, so that frames stay aligned in a stream.
pub const PAYLOAD_ALIGN: usize = 16;

/// Payloads of this length and more carry a 32-bit check inside: two flipped bits 32,767 apart,
/// which first fit into 4,096 bytes, escape every CRC-16.
pub const CHECKED_PAYLOAD_MIN: usize = 4_096;

/// Tensor data starts at a multiple of this within its payload, and payloads at a multiple of it
/// within a slot.
pub const DATA_ALIGN: usize = 64;

/// Rounds `len` up to the payload granule.
#[must_use]
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(PAYLOAD_ALIGN)
}
