//! LZ4 frames. Reading walks the frame here and restores each block straight into the output, so
//! that a frame that claims large blocks costs no memory.

use super::{PackFault, SKIPPABLE};
use lz4_flex::{
    block::{DecompressError, decompress_into, decompress_into_with_dict},
    frame::{BlockMode, FrameEncoder, FrameInfo},
};
use std::io::Write as _;
use twox_hash::XxHash32;

const MAGIC: u32 = 0x184D_2204;

const FLAG_VERSION_MASK: u8 = 0b1100_0000;
const FLAG_VERSION: u8 = 0b0100_0000;
const FLAG_INDEPENDENT: u8 = 0b0010_0000;
const FLAG_BLOCK_CHECKSUM: u8 = 0b0001_0000;
const FLAG_CONTENT_SIZE: u8 = 0b0000_1000;
const FLAG_CONTENT_CHECKSUM: u8 = 0b0000_0100;
const FLAG_RESERVED: u8 = 0b0000_0010;
const FLAG_DICTIONARY: u8 = 0b0000_0001;

/// High bit of a block's size: its bytes are stored as they are.
const STORED: u32 = 1 << 31;

/// How far linked blocks may point back.
const WINDOW: usize = 64 * 1024;

/// Appends one frame of independent blocks with content size and content checksum.
pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), PackFault> {
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .content_size(Some(bytes.len() as u64))
        .content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(bytes).map_err(|_| PackFault::Unsupported)?;
    encoder.finish().map_err(|_| PackFault::Unsupported)?;
    Ok(())
}

/// Restores the frames of `bytes`, one behind the other; skippable ones hold nothing.
pub(super) fn restore_into(bytes: &[u8], out: &mut [u8]) -> Result<usize, PackFault> {
    let mut input = Input { rest: bytes };
    let mut restored = 0;
    let mut frames = 0;
    while !input.rest.is_empty() {
        let magic = input.u32()?;
        if magic & !0xF == SKIPPABLE {
            let len = input.u32()?;
            input.take(len as usize)?;
            continue;
        }
        if magic != MAGIC {
            return Err(PackFault::Corrupt);
        }
        let room = out.get_mut(restored..).ok_or(PackFault::TooLong)?;
        restored += restore_frame(&mut input, room)?;
        frames += 1;
    }
    if frames == 0 { Err(PackFault::Corrupt) } else { Ok(restored) }
}

/// What a frame's descriptor says.
struct Descriptor {
    independent: bool,
    block_checksum: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    block_max: usize,
}

impl Descriptor {
    fn read(input: &mut Input<'_>) -> Result<Self, PackFault> {
        let descriptor = input.rest;
        let flags = input.u8()?;
        let blocks = input.u8()?;
        if flags & FLAG_VERSION_MASK != FLAG_VERSION || flags & FLAG_RESERVED != 0 {
            return Err(PackFault::Unsupported);
        }
        if flags & FLAG_DICTIONARY != 0 {
            return Err(PackFault::Unsupported);
        }
        // 4, 5, 6 and 7 stand for 64 KiB, 256 KiB, 1 MiB and 4 MiB.
        let block_max = match (blocks & 0b1000_1111, blocks >> 4) {
            (0, code @ 4..=7) => 1_usize << (8 + 2 * code),
            _ => return Err(PackFault::Unsupported),
        };
        let content_size = if flags & FLAG_CONTENT_SIZE != 0 { Some(input.u64()?) } else { None };
        let len = descriptor.len() - input.rest.len();
        let descriptor = descriptor.get(..len).unwrap_or_default();
        let [_, check, _, _] = XxHash32::oneshot(0, descriptor).to_le_bytes();
        if input.u8()? != check {
            return Err(PackFault::Mismatch);
        }
        Ok(Self {
            independent: flags & FLAG_INDEPENDENT != 0,
            block_checksum: flags & FLAG_BLOCK_CHECKSUM != 0,
            content_checksum: flags & FLAG_CONTENT_CHECKSUM != 0,
            content_size,
            block_max,
        })
    }
}

/// Restores one frame, whose magic number has been read, to the start of `out`.
fn restore_frame(input: &mut Input<'_>, out: &mut [u8]) -> Result<usize, PackFault> {
    let frame = Descriptor::read(input)?;
    if frame.content_size.is_some_and(|size| size > out.len() as u64) {
        return Err(PackFault::TooLong);
    }
    let mut done = 0;
    loop {
        let head = input.u32()?;
        if head == 0 {
            break;
        }
        let len = (head & !STORED) as usize;
        if len > frame.block_max {
            return Err(PackFault::Corrupt);
        }
        let block = input.take(len)?;
        if frame.block_checksum && input.u32()? != XxHash32::oneshot(0, block) {
            return Err(PackFault::Mismatch);
        }
        let (before, room) = out.split_at_mut_checked(done).ok_or(PackFault::TooLong)?;
        let fits = room.len();
        let room = room.get_mut(..fits.min(frame.block_max)).unwrap_or_default();
        done += if head & STORED != 0 {
            room.get_mut(..len).ok_or(PackFault::TooLong)?.copy_from_slice(block);
            len
        } else {
            let window = before.get(before.len().saturating_sub(WINDOW)..).unwrap_or_default();
            let restored = if frame.independent {
                decompress_into(block, room)
            } else {
                decompress_into_with_dict(block, room, window)
            };
            restored.map_err(|fault| match fault {
                // More than the block may hold is damage; more than there is room for is a bomb.
                DecompressError::OutputTooSmall { .. } if fits < frame.block_max => {
                    PackFault::TooLong
                }
                _ => PackFault::Corrupt,
            })?
        };
    }
    let content = out.get(..done).unwrap_or_default();
    if frame.content_checksum && input.u32()? != XxHash32::oneshot(0, content) {
        return Err(PackFault::Mismatch);
    }
    if frame.content_size.is_some_and(|size| size != done as u64) {
        return Err(PackFault::Mismatch);
    }
    Ok(done)
}

/// Bytes still to be read.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], PackFault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(PackFault::Corrupt)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PackFault> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(PackFault::Corrupt)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, PackFault> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, PackFault> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, PackFault> {
        self.array().map(u64::from_le_bytes)
    }
}
