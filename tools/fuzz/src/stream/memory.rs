//! Slots and chunks in plain vectors.

use crate::bytes::aligned;
use dataplane_core::{
    Geometry,
    memory::{ChunkId, Memory, SlotId},
};
use rkyv::util::AlignedVec;
use wire::{Order, Outcome};

#[derive(Debug)]
pub(super) struct Slots {
    geometry: Geometry,
    pub(super) requests: Vec<AlignedVec<64>>,
    pub(super) replies: Vec<Vec<u8>>,
    pub(super) orders: Vec<Option<Order>>,
    pub(super) outcomes: Vec<Outcome>,
    chunks: Vec<AlignedVec<64>>,
}

impl Slots {
    pub(super) fn new(geometry: Geometry) -> Self {
        let slots = || (0..geometry.slots()).map(SlotId);
        let zeros = |len: u32| aligned(&vec![0; len as usize]);
        Self {
            geometry,
            requests: slots().map(|slot| zeros(geometry.request_cap(slot))).collect(),
            replies: slots().map(|slot| vec![0; geometry.reply_cap(slot) as usize]).collect(),
            orders: vec![None; geometry.slots() as usize],
            outcomes: vec![Outcome::default(); geometry.slots() as usize],
            chunks: (0..geometry.chunks).map(|_| zeros(geometry.chunk_len)).collect(),
        }
    }
}

impl Memory for Slots {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn request(&self, slot: SlotId) -> &[u8] {
        &self.requests[slot.0 as usize]
    }

    fn request_mut(&mut self, slot: SlotId) -> &mut [u8] {
        &mut self.requests[slot.0 as usize]
    }

    fn request_pair(&mut self, from: SlotId, to: SlotId) -> (&[u8], &mut [u8]) {
        let both = self.requests.get_disjoint_mut([from.0 as usize, to.0 as usize]);
        let [from, to] = both.expect("two different slots");
        (from, to)
    }

    fn reply(&self, slot: SlotId) -> &[u8] {
        &self.replies[slot.0 as usize]
    }

    fn set_order(&mut self, slot: SlotId, order: &Order) {
        self.orders[slot.0 as usize] = Some(*order);
    }

    fn outcome(&self, slot: SlotId) -> Outcome {
        self.outcomes[slot.0 as usize]
    }

    fn chunk(&self, chunk: ChunkId) -> &[u8] {
        &self.chunks[chunk.0 as usize]
    }

    fn chunk_mut(&mut self, chunk: ChunkId) -> &mut [u8] {
        &mut self.chunks[chunk.0 as usize]
    }

    fn copy_reply(&mut self, slot: SlotId, from: u32, chunk: ChunkId, to: u32, len: u32) {
        let reply = &self.replies[slot.0 as usize][from as usize..][..len as usize];
        self.chunks[chunk.0 as usize][to as usize..][..len as usize].copy_from_slice(reply);
    }
}
