//! A timing wheel with one owner: hierarchical, coarse for what is far away, exact for what is
//! near.
//!
//! Time is cut into ticks of 16 microseconds. An entry lies in the slot of its tick: level 0 holds
//! the ticks of the present round one by one, each level above holds rounds of the level below, 256
//! to a level. The level is that of the highest group of bits in which the entry's tick differs
//! from the wheel's, so every entry of a level is earlier than every entry of the levels above it,
//! and the first used slot of the lowest used level holds what comes next: two looks at bit sets.
//!
//! A slot is a chain of blocks of entries, not a list of single ones: a cascade reads memory in
//! order. When a tick comes near, its slot is sorted into `run`; what is inserted for ticks that
//! were taken already goes into the heap `late`. So nothing is ever early, and the order in which
//! entries leave is that of `(time, priority, number)` whatever the way they came.
//!
//! Inserting costs O(1), and each entry moves at most once per level. A cascade moves the whole
//! slot at once.

use crate::driver::Time;
use std::{cmp::Reverse, collections::BinaryHeap};

/// A tick is 2^14 nanoseconds: 16.4 us.
const TICK_BITS: u32 = 14;

/// Slots of a level, as bits of a tick.
const LEVEL_BITS: u32 = 8;
const SLOTS: usize = 1 << LEVEL_BITS;

/// Levels for every tick that a [`Time`] can have.
const LEVELS: usize = (Time::BITS - TICK_BITS).div_ceil(LEVEL_BITS) as usize;

/// Entries of a block: 1.5 KiB of the shard's sends.
const BLOCK: usize = 32;

/// Ticks that are sorted ahead of their time, so that no sort stands between a tick and its first
/// entry.
const AHEAD: u64 = 1;

const NONE: u32 = u32::MAX;

/// Most entries that a wheel can be made for.
pub const CAPACITY_MAX: u32 = 1 << 27;

/// Highest priority (MESHMSG-07: 0 background to 3 critical).
pub const PRIORITY_MAX: u8 = 3;

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    at: Time,
    /// `PRIORITY_MAX - priority` above 62 bits of insertion number: smaller leaves first.
    order: u64,
    item: T,
}

impl<T> Entry<T> {
    const fn key(&self) -> (Time, u64) {
        (self.at, self.order)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// A chain of blocks; only the newest, `head`, is not full.
#[derive(Clone, Copy, Debug)]
struct Slot {
    head: u32,
    /// Entries in `head`.
    fill: u32,
    /// The earliest entry's time.
    first: Time,
}

const EMPTY: Slot = Slot { head: NONE, fill: 0, first: Time::MAX };

/// Which of a level's slots are used.
#[derive(Clone, Copy, Debug, Default)]
struct Used([u64; SLOTS / 64]);

impl Used {
    const fn set(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }

    const fn clear(&mut self, slot: usize) {
        self.0[slot / 64] &= !(1 << (slot % 64));
    }

    fn first(&self) -> Option<usize> {
        let word = self.0.iter().position(|word| *word != 0)?;
        Some(word * 64 + self.0[word].trailing_zeros() as usize)
    }
}

/// Entries of `T`, each with a time, a priority and the number of its insertion.
#[derive(Debug)]
pub struct Wheel<T> {
    capacity: usize,
    len: usize,
    inserted: u64,
    /// Ticks up to and with this one have been taken out of their slots.
    tick: u64,
    /// The tick taken last, sorted, the next entry last.
    run: Vec<Entry<T>>,
    /// What came for ticks that were taken already.
    late: BinaryHeap<Reverse<Entry<T>>>,
    /// Which levels have a used slot.
    levels: u8,
    used: [Used; LEVELS],
    slots: Box<[Slot]>,
    /// Blocks, one after the other; those that were never used are not there yet.
    entries: Vec<Entry<T>>,
    /// The block behind each block in its chain.
    next: Vec<u32>,
    free: Vec<u32>,
}

/// The wheel holds as many entries as it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<T: Copy> Wheel<T> {
    /// A wheel for `capacity` entries. Room for all of them is reserved now, in each of the three
    /// places where they could be at once; the OS gives the pages when they are first used.
    ///
    /// # Panics
    /// If `capacity` is over [`CAPACITY_MAX`].
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        assert!(capacity <= CAPACITY_MAX, "{capacity} entries are more than {CAPACITY_MAX}");
        let blocks = blocks(capacity);
        let capacity = capacity as usize;
        Self {
            capacity,
            len: 0,
            inserted: 0,
            tick: 0,
            run: Vec::with_capacity(capacity),
            late: BinaryHeap::with_capacity(capacity),
            levels: 0,
            used: [Used::default(); LEVELS],
            slots: vec![EMPTY; LEVELS * SLOTS].into_boxed_slice(),
            entries: Vec::with_capacity(blocks * BLOCK),
            next: Vec::with_capacity(blocks),
            free: Vec::with_capacity(blocks),
        }
    }

    /// Bytes that [`Self::new`] reserves.
    #[must_use]
    pub const fn bytes(capacity: u32) -> u64 {
        let entry = size_of::<Entry<T>>();
        let bytes = blocks(capacity) * (BLOCK * entry + 2 * size_of::<u32>())
            + 2 * capacity as usize * entry
            + LEVELS * SLOTS * size_of::<Slot>();
        bytes as u64
    }

    /// Entries that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries that it has room for.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.capacity - self.len
    }

    /// Inserts. A time that is over already is due at once. Priorities over [`PRIORITY_MAX`] count
    /// as that.
    ///
    /// # Errors
    /// [`Full`].
    #[inline]
    pub fn insert(&mut self, at: Time, priority: u8, item: T) -> Result<(), Full> {
        if self.len == self.capacity {
            return Err(Full);
        }
        self.len += 1;
        let rank = PRIORITY_MAX.saturating_sub(priority);
        let order = u64::from(rank) << 62 | self.inserted;
        self.inserted += 1;
        self.place(Entry { at, order, item });
        Ok(())
    }

    #[inline]
    fn place(&mut self, entry: Entry<T>) {
        let tick = entry.at >> TICK_BITS;
        if tick <= self.tick {
            self.late.push(Reverse(entry));
            return;
        }
        let level = (u64::BITS - 1 - (tick ^ self.tick).leading_zeros()) / LEVEL_BITS;
        let slot = (tick >> (level * LEVEL_BITS)) as usize % SLOTS;
        let level = level as usize;
        let index = level * SLOTS + slot;
        if self.slots[index].head == NONE {
            self.slots[index] = Slot { head: self.block(NONE, entry), fill: 0, first: entry.at };
            self.used[level].set(slot);
            self.levels |= 1 << level;
        } else if self.slots[index].fill as usize == BLOCK {
            self.slots[index].head = self.block(self.slots[index].head, entry);
            self.slots[index].fill = 0;
        }
        let Slot { head, fill, first } = &mut self.slots[index];
        self.entries[*head as usize * BLOCK + *fill as usize] = entry;
        *fill += 1;
        *first = entry.at.min(*first);
    }

    /// A block in front of `behind`; one that was never used is made of `filler`. Never short: full
    /// blocks hold at most `capacity` entries, and every slot has at most one that is not full.
    fn block(&mut self, behind: u32, filler: Entry<T>) -> u32 {
        if let Some(block) = self.free.pop() {
            self.next[block as usize] = behind;
            return block;
        }
        let block = self.next.len() as u32;
        self.next.push(behind);
        self.entries.extend((0..BLOCK).map(|_| filler));
        block
    }

    /// Takes what comes within a tick of `now` out of its slots, a tick at a time.
    fn advance(&mut self, now: Time) {
        let horizon = (now >> TICK_BITS) + AHEAD;
        while self.run.is_empty() {
            let first = self.first_slot().filter(|(.., start)| *start <= horizon);
            let Some((level, slot, start)) = first else {
                // No slot starts before the horizon, so none changes its level by this.
                self.tick = self.tick.max(horizon);
                return;
            };
            self.tick = start;
            self.take(level, slot);
        }
    }

    /// Level, slot and first tick of what comes next in the slots.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.levels.trailing_zeros() as usize;
        let slot = self.used.get(level)?.first()?;
        let shift = level as u32 * LEVEL_BITS;
        let round = self.tick >> (shift + LEVEL_BITS) << LEVEL_BITS;
        Some((level, slot, (round | slot as u64) << shift))
    }

    /// Empties a slot whose time has come: into `run` from level 0, into lower levels from above.
    fn take(&mut self, level: usize, slot: usize) {
        let index = level * SLOTS + slot;
        let Slot { head: mut block, mut fill, .. } =
            core::mem::replace(&mut self.slots[index], EMPTY);
        self.used[level].clear(slot);
        if self.used[level].first().is_none() {
            self.levels &= !(1 << level);
        }
        while block != NONE {
            let from = block as usize * BLOCK;
            if level == 0 {
                self.run.extend_from_slice(&self.entries[from..from + fill as usize]);
            } else {
                for at in from..from + fill as usize {
                    self.place(self.entries[at]);
                }
            }
            // Freed only after its entries were placed: they may need another.
            self.free.push(block);
            block = self.next[block as usize];
            fill = BLOCK as u32;
        }
        if level == 0 {
            self.run.sort_unstable_by_key(|entry| Reverse(entry.key()));
        }
    }

    /// Whether the next entry of those that left their slots is in `run`; `None` for no such entry.
    #[inline]
    fn next_in_run(&self) -> Option<bool> {
        match (self.run.last(), self.late.peek()) {
            (Some(run), Some(Reverse(late))) => Some(run < late),
            (Some(_), None) => Some(true),
            (None, Some(_)) => Some(false),
            (None, None) => None,
        }
    }

    /// The next entry in order, if it is due at `now`.
    #[inline]
    pub fn peek(&mut self, now: Time) -> Option<(Time, T)> {
        if self.run.is_empty() {
            self.advance(now);
        }
        let entry = if self.next_in_run()? { self.run.last()? } else { &self.late.peek()?.0 };
        (entry.at <= now).then_some((entry.at, entry.item))
    }

    /// Takes the next entry in order, if it is due at `now`.
    #[inline]
    pub fn pop(&mut self, now: Time) -> Option<(Time, T)> {
        if self.run.is_empty() {
            self.advance(now);
        }
        let entry = if self.next_in_run()? {
            self.run.pop_if(|entry| entry.at <= now)?
        } else {
            let Reverse(late) = self.late.peek()?;
            if late.at > now {
                return None;
            }
            self.late.pop()?.0
        };
        self.len -= 1;
        Some((entry.at, entry.item))
    }

    /// When the next entry is due, exactly.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let run = self.run.last().map(|entry| entry.at);
        let late = self.late.peek().map(|Reverse(entry)| entry.at);
        match (run, late) {
            (Some(run), Some(late)) => Some(run.min(late)),
            (None, None) => {
                let (level, slot, _) = self.first_slot()?;
                Some(self.slots[level * SLOTS + slot].first)
            }
            (run, late) => run.or(late),
        }
    }
}

/// Blocks that can be in use at once.
const fn blocks(capacity: u32) -> usize {
    capacity as usize / BLOCK + LEVELS * SLOTS
}
