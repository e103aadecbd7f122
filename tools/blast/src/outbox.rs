//! What leaves for each connection: short frames gathered in chunks, long payloads by reference to
//! chunks that were filled once and never change.

use dataplane_core::{
    driver::{SEGMENTS_MAX, Segment},
    memory::ChunkId,
};
use std::collections::VecDeque;

/// The chunks that frames are gathered in. Chunks below the first hold payloads and are never free.
#[derive(Debug)]
pub struct Pool {
    first: u32,
    chunk_len: u32,
    free: Vec<ChunkId>,
    /// Segments in some outbox that name the chunk, from `first` on.
    named: Vec<u32>,
}

impl Pool {
    /// Chunks `first..first + count` of `chunk_len` bytes.
    #[must_use]
    pub fn new(first: u32, count: u32, chunk_len: u32) -> Self {
        Self {
            first,
            chunk_len,
            free: (first..first + count).rev().map(ChunkId).collect(),
            named: vec![0; count as usize],
        }
    }

    /// Chunks in no outbox.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    fn name(&mut self, chunk: ChunkId) {
        self.named[(chunk.0 - self.first) as usize] += 1;
    }

    /// True when that was the last segment that named the chunk, which is free from now on.
    fn unname(&mut self, chunk: ChunkId) -> bool {
        if chunk.0 < self.first {
            return false;
        }
        let named = &mut self.named[(chunk.0 - self.first) as usize];
        *named -= 1;
        if *named == 0 {
            self.free.push(chunk);
        }
        *named == 0
    }
}

/// The bytes that wait for one connection, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Segment>,
    /// The chunk that grows, and how much of it is used.
    tail: Option<(ChunkId, u32)>,
}

impl Outbox {
    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Room for `len` contiguous bytes at the end: which chunk, and from where. `None` when no
    /// chunk is free.
    #[inline]
    pub fn append(&mut self, pool: &mut Pool, len: u32) -> Option<(ChunkId, u32)> {
        let (chunk, from) = match self.tail {
            Some((chunk, used)) if used + len <= pool.chunk_len => (chunk, used),
            _ if len > pool.chunk_len => return None,
            _ => (pool.free.pop()?, 0),
        };
        self.tail = Some((chunk, from + len));
        match self.queue.back_mut() {
            Some(Segment::Chunk { chunk: last, from: start, len: have })
                if *last == chunk && *start + *have == from =>
            {
                *have += len;
            }
            _ => {
                pool.name(chunk);
                self.queue.push_back(Segment::Chunk { chunk, from, len });
            }
        }
        Some((chunk, from))
    }

    /// Adds segments of payload chunks.
    pub fn refer(&mut self, segments: &[Segment]) {
        self.queue.extend(segments);
    }

    /// The first segments, as many as one transmit takes, and their number.
    #[must_use]
    pub fn front(&self) -> ([Segment; SEGMENTS_MAX], usize) {
        let mut segments = [Segment::Chunk { chunk: ChunkId(0), from: 0, len: 0 }; SEGMENTS_MAX];
        let mut count = 0;
        for (place, segment) in segments.iter_mut().zip(&self.queue) {
            *place = *segment;
            count += 1;
        }
        (segments, count)
    }

    /// The OS took this many bytes. False if that is more than was waiting.
    pub fn sent(&mut self, pool: &mut Pool, mut bytes: u32) -> bool {
        while bytes > 0 {
            let Some(Segment::Chunk { chunk, from, len }) = self.queue.front_mut() else {
                return false;
            };
            if bytes < *len {
                *from += bytes;
                *len -= bytes;
                return true;
            }
            bytes -= *len;
            let done = *chunk;
            self.queue.pop_front();
            self.release(pool, done);
        }
        true
    }

    /// Forgets all that waits, once nothing of it is under way.
    pub fn clear(&mut self, pool: &mut Pool) {
        while let Some(segment) = self.queue.pop_front() {
            if let Segment::Chunk { chunk, .. } = segment {
                self.release(pool, chunk);
            }
        }
    }

    fn release(&mut self, pool: &mut Pool, chunk: ChunkId) {
        if pool.unname(chunk) && self.tail.is_some_and(|(tail, _)| tail == chunk) {
            self.tail = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAYLOAD: Segment = Segment::Chunk { chunk: ChunkId(0), from: 8, len: 100 };

    #[test]
    fn neighbours_share_a_segment_and_payloads_lie_between() {
        let mut pool = Pool::new(1, 2, 64);
        let mut outbox = Outbox::default();
        assert_eq!(outbox.append(&mut pool, 32), Some((ChunkId(1), 0)));
        assert_eq!(outbox.append(&mut pool, 16), Some((ChunkId(1), 32)));
        outbox.refer(&[PAYLOAD]);
        assert_eq!(outbox.append(&mut pool, 16), Some((ChunkId(1), 48)));
        assert_eq!(outbox.append(&mut pool, 1), Some((ChunkId(2), 0)));
        assert_eq!(outbox.append(&mut pool, 64), None, "no chunk is free");
        let (segments, count) = outbox.front();
        let seg = |chunk, from, len| Segment::Chunk { chunk: ChunkId(chunk), from, len };
        assert_eq!(segments[..count], [seg(1, 0, 48), PAYLOAD, seg(1, 48, 16), seg(2, 0, 1)]);
        assert!(outbox.sent(&mut pool, 148), "the first two are gone");
        assert_eq!(pool.free(), 0);
        assert!(outbox.sent(&mut pool, 17));
        assert!(outbox.is_empty() && pool.free() == 2);
        assert!(!outbox.sent(&mut pool, 1), "more than was waiting");
    }

    proptest! {
        #[test]
        fn every_byte_leaves_once_in_order_and_chunks_come_back(
            steps in prop::collection::vec((0..3u8, 1..70u32), 1..200)
        ) {
            // Bytes are named by a running number; chunks remember which numbers were written
            // where.
            let mut pool = Pool::new(1, 4, 64);
            let mut outboxes = [Outbox::default(), Outbox::default()];
            let mut chunks = vec![vec![0u32; 64]; 5];
            let mut queued: [VecDeque<u32>; 2] = Default::default();
            let mut next = 1;
            for (at, (what, len)) in steps.into_iter().enumerate() {
                let which = at % 2;
                let outbox = &mut outboxes[which];
                match what {
                    0 => if let Some((chunk, from)) = outbox.append(&mut pool, len.min(64)) {
                        for place in 0..len.min(64) {
                            chunks[chunk.0 as usize][(from + place) as usize] = next;
                            queued[which].push_back(next);
                            next += 1;
                        }
                    },
                    1 => {
                        outbox.refer(&[Segment::Chunk { chunk: ChunkId(0), from: 0, len: 3 }]);
                        queued[which].extend([0, 0, 0]);
                    }
                    _ => {
                        let (segments, count) = outbox.front();
                        let bytes: Vec<u32> = segments[..count].iter().flat_map(|segment| {
                            let Segment::Chunk { chunk, from, len } = *segment else { panic!() };
                            chunks[chunk.0 as usize][from as usize..(from + len) as usize].to_vec()
                        }).collect();
                        let taken = bytes.len().min(len as usize);
                        for byte in &bytes[..taken] {
                            prop_assert_eq!(queued[which].pop_front(), Some(*byte));
                        }
                        prop_assert!(outbox.sent(&mut pool, taken as u32));
                    }
                }
            }
            for outbox in &mut outboxes {
                outbox.clear(&mut pool);
                prop_assert!(outbox.is_empty());
            }
            prop_assert_eq!(pool.free(), 4);
        }
    }
}
