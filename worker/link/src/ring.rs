//! A bounded single-producer single-consumer ring of slot indices: the one lock-free structure of
//! the tree.
//!
//! ```text
//!             line of its own      line of its own      lines of their own
//!            +----------------+   +----------------+   +----+----+----+-  -+----+
//!            | tail: u32      |   | head: u32      |   | e0 | e1 | e2 | .. | en |   n + 1 = 2^c
//!            +----------------+   +----------------+   +----+----+----+-  -+----+
//!   written by   producer             consumer             producer
//!   read by      consumer             producer             consumer
//! ```
//!
//! Positions run freely over 32 bits and are masked on use; `tail - head` is the fill. Each side
//! keeps its own position privately (the shared copy is for the other side only) and remembers the
//! last value it saw of the other's, so that a poll of an empty ring costs one load and a push into
//! a roomy ring costs none.
//!
//! An entry is a slot index in 31 bits; the top bit marks the last entry of a batch. A batch is
//! published by one store, so a consumer that sees its first entry sees all of them.
//!
//! The other side lives in another process and may write anything. A position that cannot be true
//! is reported as a [`RingFault`]; entries are masked into the ring whatever the positions say;
//! what an entry names is for the caller to check. Entries are atomics, so even a wild writer is no
//! data race.

use crate::sync::{AtomicU32, Ordering};
use core::{fmt, ops::Deref};

/// The top bit of an entry: last of its batch.
const LAST: u32 = 1 << 31;

/// Largest index an entry can carry.
pub const INDEX_MAX: u32 = LAST - 1;

/// The other side's position cannot be true: its process is broken, and the ring is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ring position {theirs} cannot follow from ours at {ours} and capacity {capacity}")]
pub struct RingFault {
    /// Our own position.
    pub ours: u32,
    /// What the other side claims.
    pub theirs: u32,
    /// Entries of the ring.
    pub capacity: u32,
}

/// One entry as popped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A slot index, as the other side says; not checked.
    pub index: u32,
    /// True on the last entry of a batch.
    pub last: bool,
}

/// The memory of a ring: two positions and the entries. `W` and `E` say how they are held (shared
/// memory, a box, the model checker's atomics).
pub struct Places<W, E> {
    tail: W,
    head: W,
    entries: E,
}

impl<W, E> fmt::Debug for Places<W, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").finish_non_exhaustive()
    }
}

impl<W: Deref<Target = AtomicU32>, E: Deref<Target = [AtomicU32]>> Places<W, E> {
    /// A ring over this memory; all of it is zero at first.
    ///
    /// # Panics
    /// If the number of entries is no power of two, or over 2^31.
    #[must_use]
    pub fn new(tail: W, head: W, entries: E) -> Self {
        assert!(entries.len().is_power_of_two() && entries.len() <= 1 << 31, "ring capacity");
        Self { tail, head, entries }
    }

    fn capacity(&self) -> u32 {
        // Lossless: `new` bounds it.
        self.entries.len() as u32
    }

    /// The entry at a free-running position. Masking keeps every position inside.
    fn entry(&self, position: u32) -> &AtomicU32 {
        &self.entries[position as usize & (self.entries.len() - 1)]
    }
}

/// The side that pushes. One per ring, over all processes.
#[derive(Debug)]
pub struct Producer<W, E> {
    places: Places<W, E>,
    /// Next position to write: the truth, the shared copy follows it.
    tail: u32,
    /// The consumer's position when last looked at.
    head_seen: u32,
}

impl<W: Deref<Target = AtomicU32>, E: Deref<Target = [AtomicU32]>> Producer<W, E> {
    /// The producing side of an empty ring whose positions are both 0.
    #[must_use]
    pub const fn new(places: Places<W, E>) -> Self {
        Self { places, tail: 0, head_seen: 0 }
    }

    /// Entries that can be pushed now. Looks at the consumer's position only when fewer than
    /// `wanted` are known free.
    ///
    /// # Errors
    /// [`RingFault`] where the consumer claims to have read what was never written, or to have gone
    /// back.
    pub fn free(&mut self, wanted: u32) -> Result<u32, RingFault> {
        let capacity = self.places.capacity();
        let known = capacity - self.tail.wrapping_sub(self.head_seen);
        if known >= wanted {
            return Ok(known);
        }
        // SYNC POINT reuse: pairs with the Release store in `Consumer::publish`; the consumer's
        // loads of the entries before `head` happened before we write them again.
        let head = self.places.head.load(Ordering::Acquire);
        if head.wrapping_sub(self.head_seen) > self.tail.wrapping_sub(self.head_seen) {
            return Err(RingFault { ours: self.tail, theirs: head, capacity });
        }
        self.head_seen = head;
        Ok(capacity - self.tail.wrapping_sub(head))
    }

    /// Pushes one batch; the consumer sees all of it or nothing. Returns whether there was room.
    ///
    /// # Errors
    /// As [`Producer::free`]; nothing is pushed then.
    ///
    /// # Panics
    /// If an index is over [`INDEX_MAX`]: a mistake of the caller.
    pub fn push_batch(
        &mut self,
        batch: impl ExactSizeIterator<Item = u32>,
    ) -> Result<bool, RingFault> {
        let Ok(count) = u32::try_from(batch.len()) else { return Ok(false) };
        if count == 0 {
            return Ok(true);
        }
        if self.free(count)? < count {
            return Ok(false);
        }
        let mut left = count;
        for index in batch.take(count as usize) {
            assert!(index <= INDEX_MAX, "slot index");
            left -= 1;
            let entry = if left == 0 { index | LAST } else { index };
            // Relaxed: published by the store of `tail` below.
            self.places.entry(self.tail).store(entry, Ordering::Relaxed);
            self.tail = self.tail.wrapping_add(1);
        }
        // SYNC POINT submit: pairs with the Acquire load in `Consumer::pop`; publishes the entries
        // and all that was written to the slots they name.
        self.places.tail.store(self.tail, Ordering::Release);
        Ok(true)
    }

    /// Starts again on an empty ring.
    ///
    /// Only while the other side's process does not exist; whoever comes next learns of it by the
    /// lane's state.
    #[cfg(not(loom))]
    pub(crate) fn reset(&mut self) {
        self.tail = 0;
        self.head_seen = 0;
        self.places.tail.store(0, Ordering::Relaxed);
        self.places.head.store(0, Ordering::Relaxed);
    }
}

/// The side that pops. One per ring, over all processes.
#[derive(Debug)]
pub struct Consumer<W, E> {
    places: Places<W, E>,
    /// Next position to read: the truth, the shared copy follows it.
    head: u32,
    /// The producer's position when last looked at.
    tail_seen: u32,
}

impl<W: Deref<Target = AtomicU32>, E: Deref<Target = [AtomicU32]>> Consumer<W, E> {
    /// The consuming side of an empty ring whose positions are both 0.
    #[must_use]
    pub const fn new(places: Places<W, E>) -> Self {
        Self { places, head: 0, tail_seen: 0 }
    }

    /// The oldest entry, if there is one.
    ///
    /// # Errors
    /// [`RingFault`] where the producer claims more entries than the ring holds.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Entry>, RingFault> {
        if self.head == self.tail_seen && !self.look()? {
            return Ok(None);
        }
        let entry = self.places.entry(self.head).load(Ordering::Relaxed);
        self.head = self.head.wrapping_add(1);
        self.publish();
        Ok(Some(Entry { index: entry & INDEX_MAX, last: entry & LAST != 0 }))
    }

    /// True where `pop` would give an entry or a fault. For the re-check between setting a parked
    /// flag and sleeping.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.head != self.tail_seen || self.places.tail.load(Ordering::Relaxed) != self.head
    }

    /// Looks at the producer's position; true where there is something to read.
    fn look(&mut self) -> Result<bool, RingFault> {
        // SYNC POINT submit: pairs with the Release store in `Producer::push_batch`.
        let tail = self.places.tail.load(Ordering::Acquire);
        let capacity = self.places.capacity();
        if tail.wrapping_sub(self.head) > capacity {
            return Err(RingFault { ours: self.head, theirs: tail, capacity });
        }
        self.tail_seen = tail;
        Ok(tail != self.head)
    }

    fn publish(&self) {
        // SYNC POINT reuse: pairs with the Acquire load in `Producer::free`; our load of the entry
        // is done.
        self.places.head.store(self.head, Ordering::Release);
    }

    /// Starts again on an empty ring; as [`Producer::reset`].
    #[cfg(not(loom))]
    pub(crate) fn reset(&mut self) {
        self.head = 0;
        self.tail_seen = 0;
        self.places.tail.store(0, Ordering::Relaxed);
        self.places.head.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Positions run through 2^32 without a seam, and a lie is one there as well.
    #[test]
    fn positions_wrap() {
        let start = u32::MAX - 5;
        let word = || Arc::new(AtomicU32::new(start));
        let (tail, head) = (word(), word());
        let entries: Arc<[AtomicU32]> = (0..4).map(|_| AtomicU32::new(0)).collect();
        let places = || Places::new(Arc::clone(&tail), Arc::clone(&head), Arc::clone(&entries));
        let mut producer = Producer { places: places(), tail: start, head_seen: start };
        let mut consumer = Consumer { places: places(), head: start, tail_seen: start };
        for round in 0..6 {
            assert_eq!(producer.push_batch([round, round + 1, round + 2].into_iter()), Ok(true));
            assert_eq!(producer.push_batch([9, 9].into_iter()), Ok(false), "3 of 4 are taken");
            for at in 0..3 {
                let entry = Entry { index: round + at, last: at == 2 };
                assert_eq!(consumer.pop(), Ok(Some(entry)));
            }
            assert_eq!(consumer.pop(), Ok(None));
        }
        assert_eq!(tail.load(Ordering::Relaxed), start.wrapping_add(18));
        head.fetch_add(1, Ordering::Relaxed);
        assert!(producer.free(4).is_err(), "read what was never written");
        tail.fetch_add(5, Ordering::Relaxed);
        assert!(consumer.pop().is_err(), "more than the ring holds");
    }
}
