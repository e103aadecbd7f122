//! What leaves for a connection: short bytes gathered in chunks, long replies by reference, in
//! order, all of a turn in one transmit.

use crate::{
    driver::{SEGMENTS_MAX, Segment},
    memory::{ChunkId, Geometry, Memory},
    slot::Sending,
};

const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Stretch {
    Unused,
    Chunk { chunk: ChunkId, from: u32, len: u32 },
    Reply { slot: Sending, from: u32, len: u32 },
}

#[derive(Debug)]
struct Node {
    stretch: Stretch,
    next: u32,
}

/// The outbox of one connection: a list of stretches in the shard's node table.
#[derive(Clone, Copy, Debug)]
pub struct Outbox {
    head: u32,
    tail: u32,
    /// Bytes not yet taken by the OS.
    pub bytes: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, bytes: 0 }
    }
}

impl Outbox {
    /// Nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.head == NONE
    }
}

/// Chunks and list nodes of all outboxes of a shard. Fixed in size; nothing is allocated later.
#[derive(Debug)]
pub struct Egress {
    nodes: Vec<Node>,
    free_nodes: Vec<u32>,
    free_chunks: Vec<ChunkId>,
    chunk_len: u32,
}

impl Egress {
    /// Every chunk and every slot can be in an outbox at once, so nodes never run out.
    #[must_use]
    pub fn new(geometry: &Geometry) -> Self {
        let nodes = geometry.chunks + geometry.slots();
        Self {
            nodes: (0..nodes).map(|_| Node { stretch: Stretch::Unused, next: NONE }).collect(),
            free_nodes: (0..nodes).rev().collect(),
            free_chunks: (0..geometry.chunks).rev().map(ChunkId).collect(),
            chunk_len: geometry.chunk_len,
        }
    }

    /// Chunks nobody uses.
    #[must_use]
    pub fn free_chunks(&self) -> usize {
        self.free_chunks.len()
    }

    /// True while no outbox holds anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.free_nodes.len() == self.nodes.len()
    }

    /// Whether `len` contiguous bytes can be appended now.
    #[must_use]
    pub fn has_room(&self, outbox: &Outbox, len: u32) -> bool {
        !self.free_chunks.is_empty() || self.tail_room(outbox) >= len
    }

    fn tail_room(&self, outbox: &Outbox) -> u32 {
        if outbox.tail == NONE {
            return 0;
        }
        match self.nodes[outbox.tail as usize].stretch {
            Stretch::Chunk { from, len, .. } => self.chunk_len - (from + len),
            _ => 0,
        }
    }

    fn link(&mut self, outbox: &mut Outbox, stretch: Stretch) -> bool {
        let Some(node) = self.free_nodes.pop() else { return false };
        self.nodes[node as usize] = Node { stretch, next: NONE };
        if outbox.tail == NONE {
            outbox.head = node;
        } else {
            self.nodes[outbox.tail as usize].next = node;
        }
        outbox.tail = node;
        true
    }

    /// Room for `len` contiguous bytes at the end of the outbox: which chunk, and from where.
    /// `None` when no chunk is free (or `len` is more than a chunk).
    pub fn append(&mut self, outbox: &mut Outbox, len: u32) -> Option<(ChunkId, u32)> {
        if len > self.chunk_len {
            return None;
        }
        if self.tail_room(outbox) < len || outbox.tail == NONE {
            let chunk = self.free_chunks.pop()?;
            if !self.link(outbox, Stretch::Chunk { chunk, from: 0, len: 0 }) {
                self.free_chunks.push(chunk);
                return None;
            }
        }
        outbox.bytes += u64::from(len);
        match &mut self.nodes[outbox.tail as usize].stretch {
            Stretch::Chunk { chunk, from, len: used } => {
                let at = *from + *used;
                *used += len;
                Some((*chunk, at))
            }
            _ => None,
        }
    }

    /// Appends bytes over as many chunks as needed. False, and nothing appended, when too few are
    /// free.
    pub fn append_long<M: Memory>(
        &mut self,
        mem: &mut M,
        outbox: &mut Outbox,
        mut bytes: &[u8],
    ) -> bool {
        if bytes.len().div_ceil(self.chunk_len as usize) > self.free_chunks.len() {
            return false;
        }
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(self.chunk_len as usize));
            let Some((chunk, at)) = self.append(outbox, part.len() as u32) else { return false };
            mem.chunk_mut(chunk)[at as usize..at as usize + part.len()].copy_from_slice(part);
            bytes = rest;
        }
        true
    }

    /// Appends `len` bytes of a reply, those at `from` and behind, by reference; gives the slot
    /// back when no node is free.
    pub fn append_reply(
        &mut self,
        outbox: &mut Outbox,
        slot: Sending,
        from: u32,
        len: u32,
    ) -> Result<(), Sending> {
        if self.free_nodes.is_empty() {
            return Err(slot);
        }
        outbox.bytes += u64::from(len);
        self.link(outbox, Stretch::Reply { slot, from, len });
        Ok(())
    }

    /// The stretches to send next, and how many there are.
    pub fn segments(&self, outbox: &Outbox, out: &mut [Segment; SEGMENTS_MAX]) -> usize {
        let mut at = outbox.head;
        let mut count = 0;
        while at != NONE && count < SEGMENTS_MAX {
            let node = &self.nodes[at as usize];
            out[count] = match &node.stretch {
                Stretch::Chunk { chunk, from, len } => {
                    Segment::Chunk { chunk: *chunk, from: *from, len: *len }
                }
                Stretch::Reply { slot, from, len } => {
                    Segment::Reply { slot: slot.id(), from: *from, len: *len }
                }
                Stretch::Unused => break,
            };
            count += 1;
            at = node.next;
        }
        count
    }

    /// The OS took `bytes` from the front; slots that are sent whole are handed to `done`.
    pub fn advance(&mut self, outbox: &mut Outbox, bytes: u64, mut done: impl FnMut(Sending)) {
        let mut left = bytes.min(outbox.bytes);
        outbox.bytes -= left;
        while outbox.head != NONE {
            let node = &mut self.nodes[outbox.head as usize];
            let (from, len) = match &mut node.stretch {
                Stretch::Chunk { from, len, .. } | Stretch::Reply { from, len, .. } => (from, len),
                Stretch::Unused => return,
            };
            let taken = left.min(u64::from(*len)) as u32;
            *from += taken;
            *len -= taken;
            left -= u64::from(taken);
            if *len > 0 {
                return;
            }
            self.unlink_head(outbox, &mut done);
        }
    }

    /// Gives everything back, for a connection that is gone.
    pub fn clear(&mut self, outbox: &mut Outbox, mut done: impl FnMut(Sending)) {
        while outbox.head != NONE {
            self.unlink_head(outbox, &mut done);
        }
        outbox.bytes = 0;
    }

    fn unlink_head(&mut self, outbox: &mut Outbox, done: &mut impl FnMut(Sending)) {
        let index = outbox.head;
        let node = &mut self.nodes[index as usize];
        let stretch = core::mem::replace(&mut node.stretch, Stretch::Unused);
        outbox.head = node.next;
        if outbox.head == NONE {
            outbox.tail = NONE;
        }
        self.free_nodes.push(index);
        match stretch {
            Stretch::Chunk { chunk, .. } => self.free_chunks.push(chunk),
            Stretch::Reply { slot, .. } => done(slot),
            Stretch::Unused => {}
        }
    }
}
