//! The memory a shard works on: request slots shared with workers, and private egress chunks.

use crate::driver::WorkerId;
use wire::{Order, Outcome};

/// Index of a slot within its shard. Slots `0..small` are small, the rest are bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u32);

/// Index of an egress chunk within its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub u32);

/// Sizes of one shard's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Slots for small requests.
    pub small_slots: u32,
    /// Bytes a small slot keeps for a payload (the header's 32 bytes come on top).
    pub small_request: u32,
    /// Bytes of a small slot's reply area.
    pub small_reply: u32,
    /// Slots for bulk requests.
    pub bulk_slots: u32,
    /// Bytes a bulk slot keeps for a payload: the largest payload the node accepts.
    pub bulk_request: u32,
    /// Bytes of a bulk slot's reply area.
    pub bulk_reply: u32,
    /// Egress chunks.
    pub chunks: u32,
    /// Bytes of an egress chunk.
    pub chunk_len: u32,
}

impl Geometry {
    /// Small and bulk slots together.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.small_slots + self.bulk_slots
    }

    /// True for slots of the small class.
    #[must_use]
    pub const fn is_small(&self, slot: SlotId) -> bool {
        slot.0 < self.small_slots
    }

    /// Payload capacity of a slot.
    #[must_use]
    pub const fn request_cap(&self, slot: SlotId) -> u32 {
        if self.is_small(slot) { self.small_request } else { self.bulk_request }
    }

    /// Reply capacity of a slot.
    #[must_use]
    pub const fn reply_cap(&self, slot: SlotId) -> u32 {
        if self.is_small(slot) { self.small_reply } else { self.bulk_reply }
    }
}

/// Access to slot and chunk bytes. The shard only touches a slot while it owns it (see `slot`),
/// which is what makes the shared-memory implementation sound.
pub trait Memory {
    /// Sizes, fixed for the life of the memory.
    fn geometry(&self) -> Geometry;
    /// The payload part of the request area, `request_cap` bytes, 64-byte aligned.
    fn request(&self, slot: SlotId) -> &[u8];
    /// The same, writable.
    fn request_mut(&mut self, slot: SlotId) -> &mut [u8];
    /// Request of one slot (shared) and of another (writable), for restoring compressed payloads.
    ///
    /// # Panics
    /// If both are the same slot.
    fn request_pair(&mut self, from: SlotId, to: SlotId) -> (&[u8], &mut [u8]);
    /// The reply area, `reply_cap` bytes.
    fn reply(&self, slot: SlotId) -> &[u8];
    /// Writes the order that the worker will read.
    fn set_order(&mut self, slot: SlotId, order: &Order);
    /// Reads what the worker said.
    fn outcome(&self, slot: SlotId) -> Outcome;
    /// A chunk's bytes.
    fn chunk(&self, chunk: ChunkId) -> &[u8];
    /// A chunk's bytes, writable.
    fn chunk_mut(&mut self, chunk: ChunkId) -> &mut [u8];
    /// Copies from a slot's reply area into a chunk: one memory copy, `len` bytes.
    fn copy_reply(&mut self, slot: SlotId, from: u32, chunk: ChunkId, to: u32, len: u32);
    /// Tells whoever watches over the workers that this one broke its word, so that it is replaced.
    /// Memory without processes behind it has nobody to tell.
    fn accuse(&mut self, _worker: WorkerId) {}
}
