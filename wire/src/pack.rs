//! Compressed payloads (WIRE-08, COMP-08, COMP-09): official LZ4 and Zstandard frames, filled up to
//! a multiple of 16.

mod lz4;

use crate::{Compression, PAYLOAD_ALIGN};
use std::cell::RefCell;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{DCtx, get_error_name};

/// Zstandard's own default: three quarters of the gain of its slow levels.
const ZSTD_LEVEL: i32 = 3;

/// The first of the sixteen magic numbers of skippable frames, which LZ4 and Zstandard share.
const SKIPPABLE: u32 = 0x184D_2A50;
/// Bytes of a skippable frame without content: magic number and length.
const SKIPPABLE_LEN: usize = 8;

/// Why bytes could not be compressed or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackFault {
    /// The restored bytes would not fit; what fitted is in the output.
    TooLong,
    /// A checksum or a stated size does not match what was restored.
    Mismatch,
    /// Not a frame of that compression, or a damaged one.
    Corrupt,
    /// A dictionary is needed, or a feature outside the official format.
    Unsupported,
}

impl core::fmt::Display for PackFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the restored payload would be longer than allowed",
            Self::Mismatch => "the restored payload has another size or checksum than stated",
            Self::Corrupt => "the compressed payload is damaged",
            Self::Unsupported => "the compressed payload needs a dictionary or an unknown feature",
        })
    }
}

impl core::error::Error for PackFault {}

thread_local! {
    /// Tables that cost more to make than to use: about 100 KiB, made on a thread's first Zstandard
    /// payload.
    static RESTORER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Replaces `out` by `bytes` in this compression, filled up to a multiple of 16 by a frame that
/// readers skip. The frame states its content's size and checksum.
///
/// # Errors
/// `Unsupported` where the compressor itself fails, which takes more memory than there is.
pub fn compress(
    compression: Compression,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), PackFault> {
    out.clear();
    match compression {
        Compression::None => {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        Compression::Lz4 => lz4::compress(bytes, out)?,
        Compression::Zstd => zstd_compress(bytes, out)?,
    }
    fill_up(out);
    Ok(())
}

/// Restores a compressed payload into `out` and returns how many bytes it has. Never writes past
/// `out`, and needs no memory in proportion to what the payload claims. `None` is a plain copy.
///
/// # Errors
/// A [`PackFault`]; `out` then holds unspecified bytes.
pub fn restore_into(
    compression: Compression,
    bytes: &[u8],
    out: &mut [u8],
) -> Result<usize, PackFault> {
    match compression {
        Compression::None => {
            out.get_mut(..bytes.len()).ok_or(PackFault::TooLong)?.copy_from_slice(bytes);
            Ok(bytes.len())
        }
        Compression::Lz4 => lz4::restore_into(bytes, out),
        Compression::Zstd if bytes.is_empty() => Err(PackFault::Corrupt),
        Compression::Zstd => RESTORER.with_borrow_mut(|restorer| {
            restorer.decompress(out, bytes).map_err(|code| zstd_fault(get_error_name(code)))
        }),
    }
}

fn zstd_compress(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), PackFault> {
    let mut compressor = Compressor::new(ZSTD_LEVEL).map_err(|_| PackFault::Unsupported)?;
    compressor.include_checksum(true).map_err(|_| PackFault::Unsupported)?;
    out.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
    compressor.compress_to_buffer(bytes, out).map_err(|_| PackFault::Unsupported)?;
    Ok(())
}

/// The library's codes are not stable across versions; its names are.
fn zstd_fault(name: &str) -> PackFault {
    match name {
        "Destination buffer is too small" => PackFault::TooLong,
        "Restored data doesn't match checksum" => PackFault::Mismatch,
        "Dictionary mismatch" | "Unsupported parameter" | "Version not supported" => {
            PackFault::Unsupported
        }
        _ => PackFault::Corrupt,
    }
}

/// Ends `out` at a multiple of 16 with one skippable frame of zeros, where it does not already.
fn fill_up(out: &mut Vec<u8>) {
    let missing = out.len().next_multiple_of(PAYLOAD_ALIGN) - out.len();
    if missing == 0 {
        return;
    }
    let frame = if missing < SKIPPABLE_LEN { missing + PAYLOAD_ALIGN } else { missing };
    let content = frame - SKIPPABLE_LEN;
    out.extend_from_slice(&SKIPPABLE.to_le_bytes());
    out.extend_from_slice(&(content as u32).to_le_bytes());
    out.resize(out.len() + content, 0);
}
