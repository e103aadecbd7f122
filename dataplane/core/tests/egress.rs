//! Egress against a plain model: each outbox is the bytes that were put into it and did not leave
//! yet.

mod common;

use common::{geometry, sending};
use dataplane_core::{
    Geometry,
    driver::{SEGMENTS_MAX, Segment},
    egress::{Egress, Outbox},
    memory::{ChunkId, Memory, SlotId},
    slot::SlotTable,
};
use proptest::prelude::*;
use std::collections::VecDeque;
use wire::{Order, Outcome};

const CHUNKS: u32 = 6;
const CHUNK_LEN: u32 = 100;
const SLOTS: u32 = 5;
const OUTBOXES: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    /// Bytes that stay together.
    Append(usize, u32),
    /// Bytes over as many chunks as it takes.
    Long(usize, usize),
    /// A reply by reference.
    Reply(usize, u32),
    /// The OS takes this share (of 255) of what it is shown.
    Advance(usize, u8),
    /// The connection is gone.
    Clear(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let outbox = 0..OUTBOXES;
    prop_oneof![
        5 => (outbox.clone(), 1..CHUNK_LEN + 20).prop_map(|(o, len)| Op::Append(o, len)),
        2 => (outbox.clone(), 1..400usize).prop_map(|(o, len)| Op::Long(o, len)),
        3 => (outbox.clone(), 1..256u32).prop_map(|(o, len)| Op::Reply(o, len)),
        6 => (outbox.clone(), any::<u8>()).prop_map(|(o, share)| Op::Advance(o, share)),
        1 => outbox.prop_map(Op::Clear),
    ]
}

/// Chunks and replies; requests do not matter here.
struct Bytes {
    geometry: Geometry,
    chunks: Vec<Vec<u8>>,
    replies: Vec<Vec<u8>>,
}

impl Memory for Bytes {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn request(&self, _: SlotId) -> &[u8] {
        &[]
    }
    fn request_mut(&mut self, _: SlotId) -> &mut [u8] {
        &mut []
    }
    fn request_pair(&mut self, _: SlotId, _: SlotId) -> (&[u8], &mut [u8]) {
        (&[], &mut [])
    }
    fn reply(&self, slot: SlotId) -> &[u8] {
        &self.replies[slot.0 as usize]
    }
    fn set_order(&mut self, _: SlotId, _: &Order) {}
    fn outcome(&self, _: SlotId) -> Outcome {
        Outcome::default()
    }
    fn chunk(&self, chunk: ChunkId) -> &[u8] {
        &self.chunks[chunk.0 as usize]
    }
    fn chunk_mut(&mut self, chunk: ChunkId) -> &mut [u8] {
        &mut self.chunks[chunk.0 as usize]
    }
    fn copy_reply(&mut self, slot: SlotId, from: u32, chunk: ChunkId, to: u32, len: u32) {
        let (from, to, len) = (from as usize, to as usize, len as usize);
        let bytes = self.replies[slot.0 as usize][from..from + len].to_vec();
        self.chunks[chunk.0 as usize][to..to + len].copy_from_slice(&bytes);
    }
}

struct Pair {
    egress: Egress,
    table: SlotTable,
    mem: Bytes,
    outboxes: [Outbox; OUTBOXES],
    model: [VecDeque<u8>; OUTBOXES],
    next: u8,
}

impl Pair {
    fn new() -> Self {
        let geometry = geometry(SLOTS, CHUNKS, CHUNK_LEN);
        Self {
            egress: Egress::new(&geometry),
            table: SlotTable::new(geometry, std::sync::Arc::default(), 1),
            mem: Bytes {
                geometry,
                chunks: vec![vec![0; CHUNK_LEN as usize]; CHUNKS as usize],
                replies: vec![vec![0; 256]; SLOTS as usize],
            },
            outboxes: [Outbox::default(); OUTBOXES],
            model: Default::default(),
            next: 0,
        }
    }

    /// So many bytes that were never used in this neighbourhood.
    fn fresh(&mut self, len: usize) -> Vec<u8> {
        let from = self.next;
        self.next = self.next.wrapping_add(len as u8).wrapping_add(1);
        (0..len).map(|at| from.wrapping_add(at as u8)).collect()
    }

    /// What the OS would be shown of an outbox.
    fn shown(&self, which: usize) -> (usize, Vec<u8>) {
        let mut segments = [Segment::Chunk { chunk: ChunkId(0), from: 0, len: 0 }; SEGMENTS_MAX];
        let count = self.egress.segments(&self.outboxes[which], &mut segments);
        let bytes = segments[..count].iter().flat_map(|segment| match segment {
            Segment::Chunk { chunk, from, len } => {
                &self.mem.chunk(*chunk)[*from as usize..(*from + *len) as usize]
            }
            Segment::Reply { slot, from, len } => {
                &self.mem.reply(*slot)[*from as usize..(*from + *len) as usize]
            }
        });
        (count, bytes.copied().collect())
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Append(which, len) => {
                let had_room = self.egress.has_room(&self.outboxes[which], len);
                let place = self.egress.append(&mut self.outboxes[which], len);
                prop_assert_eq!(place.is_some(), had_room && len <= CHUNK_LEN);
                if let Some((chunk, at)) = place {
                    let bytes = self.fresh(len as usize);
                    let at = at as usize;
                    self.mem.chunk_mut(chunk)[at..at + bytes.len()].copy_from_slice(&bytes);
                    self.model[which].extend(bytes);
                }
            }
            Op::Long(which, len) => {
                let bytes = self.fresh(len);
                let outbox = &mut self.outboxes[which];
                let before = self.egress.free_chunks();
                if self.egress.append_long(&mut self.mem, outbox, &bytes) {
                    self.model[which].extend(bytes);
                } else {
                    prop_assert_eq!(self.egress.free_chunks(), before, "nothing was taken");
                }
            }
            Op::Reply(which, len) => {
                let Some(slot) = sending(&mut self.table) else { return Ok(()) };
                let bytes = self.fresh(len as usize);
                self.mem.replies[slot.id().0 as usize][..bytes.len()].copy_from_slice(&bytes);
                let linked = self.egress.append_reply(&mut self.outboxes[which], slot, 0, len);
                prop_assert!(linked.is_ok(), "there is a node for every chunk and every slot");
                self.model[which].extend(bytes);
            }
            Op::Advance(which, share) => {
                let (_, shown) = self.shown(which);
                let taken = shown.len() * usize::from(share) / 255;
                let table = &mut self.table;
                let done = |slot| table.drop_sent(slot);
                self.egress.advance(&mut self.outboxes[which], taken as u64, done);
                let left: Vec<u8> = self.model[which].drain(..taken).collect();
                prop_assert_eq!(&left[..], &shown[..taken]);
            }
            Op::Clear(which) => {
                let table = &mut self.table;
                self.egress.clear(&mut self.outboxes[which], |slot| table.drop_sent(slot));
                self.model[which].clear();
            }
        }
        self.compare()
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        for which in 0..OUTBOXES {
            let (count, shown) = self.shown(which);
            let model: Vec<u8> = self.model[which].iter().copied().collect();
            prop_assert_eq!(self.outboxes[which].bytes, model.len() as u64);
            prop_assert_eq!(self.outboxes[which].is_empty(), model.is_empty());
            // All of it, or as much as one transmit can name.
            let whole = count < SEGMENTS_MAX;
            let same = if whole { shown == model } else { model.starts_with(&shown) };
            prop_assert!(same, "shown {:?} of {:?}", shown, model);
        }
        prop_assert_eq!(self.egress.is_idle(), self.model.iter().all(VecDeque::is_empty));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_leaves_is_what_was_put_in_and_nothing_is_lost(
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut pair = Pair::new();
        for op in ops {
            pair.step(op)?;
        }
        for which in 0..OUTBOXES {
            pair.step(Op::Clear(which))?;
        }
        prop_assert_eq!(pair.egress.free_chunks(), CHUNKS as usize);
        prop_assert_eq!(pair.table.ledger().free, SLOTS);
    }
}
