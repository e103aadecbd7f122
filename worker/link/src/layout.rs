//! What a segment is made of, with its limits and its sum. Where each part lies is for `map`.

use crate::map::{LINE, Map, PAGE};
use core::mem::size_of;
use wire::{Order, Outcome};

/// First bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"BUTTSEGM";
/// Version of the arrangement. Raise it with any change to the drawing in `map.rs`.
pub(crate) const VERSION: u32 = 2;
/// Room in front of a payload; the frame's header ends where the payload starts.
pub const HEADER_ROOM: usize = 64;

/// Most shards: their doorbells travel in one control message, which carries at most 253
/// descriptors.
pub const SHARDS_MAX: u16 = 240;
/// Most workers.
pub const WORKERS_MAX: u16 = 1_024;
/// Most slots of a shard, small and bulk together.
pub const SLOTS_MAX: u32 = 1 << 20;
/// Longest segment, bytes.
pub const SEGMENT_MAX: u64 = 1 << 42;

/// What a segment is made of. Every byte count is per slot, every slot count per shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Shards of the node.
    pub shards: u16,
    /// Worker processes it may have.
    pub workers: u16,
    /// Slots for small requests.
    pub small_slots: u32,
    /// Payload bytes of a small request.
    pub small_request: u32,
    /// Bytes of a small slot's reply area.
    pub small_reply: u32,
    /// Slots for bulk requests.
    pub bulk_slots: u32,
    /// Payload bytes of a bulk request.
    pub bulk_request: u32,
    /// Bytes of a bulk slot's reply area.
    pub bulk_reply: u32,
}

/// A layout that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Too few or too many shards.
    #[error("{0} shards: need 1 to {SHARDS_MAX}")]
    Shards(u16),
    /// Too few or too many workers.
    #[error("{0} workers: need 1 to {WORKERS_MAX}")]
    Workers(u16),
    /// Too few or too many slots.
    #[error("{0} slots per shard: need 1 to {SLOTS_MAX}")]
    Slots(u64),
    /// The sum is over what one segment may be.
    #[error("the segment would have {0} bytes: the most is {SEGMENT_MAX}")]
    Length(u64),
}

/// The itemised sum of a segment's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Name and bytes of each part, in the order in which they lie.
    pub parts: [(&'static str, u64); 7],
}

impl Bytes {
    /// All parts together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Layout {
    /// Slots of one shard, small and bulk together.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.small_slots.saturating_add(self.bulk_slots)
    }

    /// Payload bytes of a slot.
    #[must_use]
    pub const fn request_cap(&self, slot: u32) -> u32 {
        if slot < self.small_slots { self.small_request } else { self.bulk_request }
    }

    /// Reply bytes of a slot.
    #[must_use]
    pub const fn reply_cap(&self, slot: u32) -> u32 {
        if slot < self.small_slots { self.small_reply } else { self.bulk_reply }
    }

    /// The sum of all parts, to be printed before the memory is asked for.
    ///
    /// # Errors
    /// [`LayoutError`], naming the limit.
    pub fn bytes(&self) -> Result<Bytes, LayoutError> {
        Ok(Map::new(*self)?.bytes())
    }

    /// A number that differs where two builds would disagree about any place in the segment
    /// (FNV-1a).
    #[must_use]
    pub fn hash(&self) -> u64 {
        let facts = [
            u64::from(VERSION),
            size_of::<Order>() as u64,
            size_of::<Outcome>() as u64,
            HEADER_ROOM as u64,
            LINE,
            PAGE,
            u64::from(self.shards),
            u64::from(self.workers),
            u64::from(self.small_slots),
            u64::from(self.small_request),
            u64::from(self.small_reply),
            u64::from(self.bulk_slots),
            u64::from(self.bulk_request),
            u64::from(self.bulk_reply),
        ];
        facts
            .iter()
            .flat_map(|fact| fact.to_le_bytes())
            .fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
            })
    }
}
