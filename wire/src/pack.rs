//! Compressed payloads: LZ4 and Zstandard frames, restored into memory of fixed size.

use crate::Compression;
use std::io::{Read, Write};

/// Why a payload cannot be compressed or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackFault {
    /// The bytes are no whole frame of that format.
    Corrupt,
    /// The restored payload would be longer than the room for it.
    TooLong,
}

/// Replaces `out` by the compressed form of `payload`.
///
/// # Errors
/// `Corrupt` where the encoder fails; it has no reason to.
pub fn compress(compression: Compression, payload: &[u8], out: &mut Vec<u8>) -> Result<(), PackFault> {
    out.clear();
    match compression {
        Compression::None => out.extend_from_slice(payload),
        Compression::Zstd => {
            zstd::stream::copy_encode(payload, out, 3).map_err(|_| PackFault::Corrupt)?;
        }
        Compression::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new()
                .content_size(Some(payload.len() as u64))
                .content_checksum(true);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
            encoder.write_all(payload).map_err(|_| PackFault::Corrupt)?;
            encoder.finish().map_err(|_| PackFault::Corrupt)?;
        }
    }
    Ok(())
}

/// Restores into `out`, never past its end; returns how many bytes it wrote.
///
/// # Errors
/// See [`PackFault`].
pub fn restore_into(
    compression: Compression,
    packed: &[u8],
    out: &mut [u8],
) -> Result<usize, PackFault> {
    match compression {
        Compression::None => {
            out.get_mut(..packed.len()).ok_or(PackFault::TooLong)?.copy_from_slice(packed);
            Ok(packed.len())
        }
        Compression::Zstd => {
            let decoder =
                zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| PackFault::Corrupt)?;
            fill(decoder.single_frame(), out)
        }
        Compression::Lz4 => fill(lz4_flex::frame::FrameDecoder::new(packed), out),
    }
}

fn fill(mut source: impl Read, out: &mut [u8]) -> Result<usize, PackFault> {
    let mut at = 0;
    while at < out.len() {
        match source.read(&mut out[at..]).map_err(|_| PackFault::Corrupt)? {
            0 => return Ok(at),
            n => at += n,
        }
    }
    match source.read(&mut [0; 1]).map_err(|_| PackFault::Corrupt)? {
        0 => Ok(at),
        _ => Err(PackFault::TooLong),
    }
}
