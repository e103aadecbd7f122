//! Slots and chunks in plain vectors, poisoned wherever nothing may be read any more.

use crate::custody::Custody;
use dataplane_core::memory::{ChunkId, Geometry, Memory, SlotId};
use std::rc::Rc;
use wire::{Order, Outcome};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What freed memory holds, so that a stale read shows.
pub const POISON: u8 = 0xCD;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes that start at a multiple of 64.
pub(crate) struct Area {
    lines: Vec<Line>,
    len: usize,
}

/// A copy at an address that archives can be read at.
pub(crate) fn aligned(bytes: &[u8]) -> Area {
    let mut area = Area::new(bytes.len() as u32);
    area.bytes_mut().copy_from_slice(bytes);
    area
}

impl Area {
    fn new(len: u32) -> Self {
        let lines = vec![Line([POISON; 64]); (len as usize).div_ceil(64)];
        Self { lines, len: len as usize }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.lines.as_bytes()[..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.lines.as_mut_bytes()[..self.len]
    }
}

struct Slot {
    request: Area,
    reply: Area,
    order: Option<Order>,
    outcome: Outcome,
}

/// The shard's memory in the simulator. The [`Memory`] face is the shard's and checks custody on
/// every access; the inherent face is the OS's and the workers'.
pub struct SimMemory {
    geometry: Geometry,
    slots: Vec<Slot>,
    chunks: Vec<Area>,
    custody: Rc<Custody>,
}

impl std::fmt::Debug for SimMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimMemory").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl SimMemory {
    /// All of it poisoned.
    #[must_use]
    pub fn new(geometry: Geometry, custody: Rc<Custody>) -> Self {
        let slot = |index| Slot {
            request: Area::new(geometry.request_cap(SlotId(index))),
            reply: Area::new(geometry.reply_cap(SlotId(index))),
            order: None,
            outcome: Outcome::default(),
        };
        Self {
            geometry,
            slots: (0..geometry.slots()).map(slot).collect(),
            chunks: (0..geometry.chunks).map(|_| Area::new(geometry.chunk_len)).collect(),
            custody,
        }
    }

    /// The OS writes received bytes into a slot's request area.
    pub fn receive(&mut self, slot: SlotId, at: u32, bytes: &[u8]) {
        let area = self.slots[slot.0 as usize].request.bytes_mut();
        area[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// What the OS would send from a slot's reply area.
    #[must_use]
    pub fn outgoing(&self, slot: SlotId) -> &[u8] {
        self.slots[slot.0 as usize].reply.bytes()
    }

    /// What the OS would send from a chunk.
    #[must_use]
    pub fn outgoing_chunk(&self, chunk: ChunkId) -> &[u8] {
        self.chunks[chunk.0 as usize].bytes()
    }

    /// What a worker sees of a slot: its order, its request area, its reply area.
    ///
    /// # Panics
    /// If the shard never wrote an order for this slot.
    pub fn lent(&mut self, slot: SlotId) -> (Order, &[u8], &mut [u8]) {
        let slot = &mut self.slots[slot.0 as usize];
        let order = slot.order.expect("a lent slot has its order");
        (order, slot.request.bytes(), slot.reply.bytes_mut())
    }

    /// A worker states its outcome.
    pub fn state_outcome(&mut self, slot: SlotId, outcome: Outcome) {
        self.slots[slot.0 as usize].outcome = outcome;
    }

    /// The order last written for a slot.
    #[must_use]
    pub fn order(&self, slot: SlotId) -> Option<&Order> {
        self.slots.get(slot.0 as usize)?.order.as_ref()
    }

    /// The outcome last stated for a slot.
    #[must_use]
    pub fn stated(&self, slot: SlotId) -> Outcome {
        self.slots[slot.0 as usize].outcome
    }

    /// Nobody may read this request any more.
    pub fn poison_request(&mut self, slot: SlotId) {
        self.slots[slot.0 as usize].request.bytes_mut().fill(POISON);
    }

    /// Nobody may read this reply any more.
    pub fn poison_reply(&mut self, slot: SlotId) {
        self.slots[slot.0 as usize].reply.bytes_mut().fill(POISON);
    }
}

impl Memory for SimMemory {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn request(&self, slot: SlotId) -> &[u8] {
        self.custody.owned(slot, "reads the request of");
        self.slots[slot.0 as usize].request.bytes()
    }

    fn request_mut(&mut self, slot: SlotId) -> &mut [u8] {
        self.custody.owned(slot, "writes the request of");
        self.slots[slot.0 as usize].request.bytes_mut()
    }

    fn request_pair(&mut self, from: SlotId, to: SlotId) -> (&[u8], &mut [u8]) {
        self.custody.owned(from, "reads the request of");
        self.custody.owned(to, "writes the request of");
        let [from, to] = self
            .slots
            .get_disjoint_mut([from.0 as usize, to.0 as usize])
            .expect("two different slots");
        (from.request.bytes(), to.request.bytes_mut())
    }

    fn reply(&self, slot: SlotId) -> &[u8] {
        self.custody.owned(slot, "reads the reply of");
        self.slots[slot.0 as usize].reply.bytes()
    }

    fn set_order(&mut self, slot: SlotId, order: &Order) {
        self.custody.owned(slot, "writes the order of");
        self.slots[slot.0 as usize].order = Some(*order);
    }

    fn outcome(&self, slot: SlotId) -> Outcome {
        // A lying completion makes the shard look at outcomes of slots it does not own; that is
        // allowed.
        self.slots[slot.0 as usize].outcome
    }

    fn chunk(&self, chunk: ChunkId) -> &[u8] {
        self.chunks[chunk.0 as usize].bytes()
    }

    fn chunk_mut(&mut self, chunk: ChunkId) -> &mut [u8] {
        self.chunks[chunk.0 as usize].bytes_mut()
    }

    fn copy_reply(&mut self, slot: SlotId, from: u32, chunk: ChunkId, to: u32, len: u32) {
        self.custody.owned(slot, "copies the reply of");
        let reply = self.slots[slot.0 as usize].reply.bytes_mut();
        let reply = &mut reply[from as usize..(from + len) as usize];
        let out = self.chunks[chunk.0 as usize].bytes_mut();
        out[to as usize..(to + len) as usize].copy_from_slice(reply);
        reply.fill(POISON);
    }
}
