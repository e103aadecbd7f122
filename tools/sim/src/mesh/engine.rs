//! The queue of what will happen: a hierarchical wheel that pops in the one canonical order.
//!
//! Order is `(time, node, sequence)`: two things due at the same nanosecond happen in the order of
//! the nodes they happen to, and on one node in the order in which they were asked for. Any queue
//! that keeps this order replays a run to the bit; a heap and this wheel are compared in a test.
//!
//! Time is cut into ticks of 262 us. Level 0 holds the ticks of the present round one by one, each
//! level above holds rounds of the level below, 1,024 to a level; an entry's level is that of the
//! highest group of bits in which its tick differs from the wheel's, so the first used slot of the
//! lowest used level holds what comes next: three looks at bit sets. A slot of level 0 is sorted
//! when its tick comes. What is asked for within the present tick goes into a small heap.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Nanoseconds of virtual time.
pub type Time = u64;

const TICK_BITS: u32 = 18;
const LEVEL_BITS: u32 = 10;
const SLOTS: usize = 1 << LEVEL_BITS;
const WORDS: usize = SLOTS / 64;
const LEVELS: usize = (Time::BITS - TICK_BITS).div_ceil(LEVEL_BITS) as usize;

/// Bits of the sequence within an entry's key: 2^40 things asked for in one run.
const SEQUENCE_BITS: u32 = 40;

/// Nodes that can be told apart.
pub const NODES_MAX: u32 = 1 << (u64::BITS - SEQUENCE_BITS);

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    at: Time,
    /// Node above sequence.
    key: u64,
    item: T,
}

impl<T> Entry<T> {
    /// Time above the key, in one number: compared without a branch.
    #[inline]
    const fn order(&self) -> u128 {
        (self.at as u128) << 64 | self.key as u128
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
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
        self.order().cmp(&other.order())
    }
}

/// Which slots of a level are used: a bit for each, and a bit for each word of those.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    words: [u64; WORDS],
    summary: u64,
}

impl Used {
    const fn set(&mut self, slot: usize) {
        self.words[slot / 64] |= 1 << (slot % 64);
        self.summary |= 1 << (slot / 64);
    }

    const fn clear(&mut self, slot: usize) {
        self.words[slot / 64] &= !(1 << (slot % 64));
        if self.words[slot / 64] == 0 {
            self.summary &= !(1 << (slot / 64));
        }
    }

    const fn first(&self) -> usize {
        let word = self.summary.trailing_zeros() as usize;
        word * 64 + self.words[word].trailing_zeros() as usize
    }
}

/// What will happen, popped in canonical order.
#[derive(Debug)]
pub struct Queue<T> {
    len: usize,
    sequence: u64,
    /// Ticks up to and with this one have been taken out of their slots.
    tick: u64,
    /// The tick taken last, the next entry last.
    run: Vec<Entry<T>>,
    /// Entries at the front of `run` that [`Self::coming`] has not shown.
    hidden: usize,
    /// What was asked for within ticks that were taken already.
    late: BinaryHeap<Reverse<Entry<T>>>,
    levels: u32,
    used: [Used; LEVELS],
    slots: Vec<Vec<Entry<T>>>,
    /// Emptied slots' memory, for the next slot that fills.
    spare: Vec<Vec<Entry<T>>>,
}

impl<T: Copy> Queue<T> {
    /// An empty queue at time 0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            len: 0,
            sequence: 0,
            tick: 0,
            run: Vec::new(),
            hidden: 0,
            late: BinaryHeap::new(),
            levels: 0,
            used: [Used::default(); LEVELS],
            slots: (0..LEVELS * SLOTS).map(|_| Vec::new()).collect(),
            spare: Vec::new(),
        }
    }

    /// Things that will happen.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Nothing will happen.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `item` happens to `node` (below [`NODES_MAX`]) at `at`; a time that is over means at once.
    #[inline]
    pub fn push(&mut self, at: Time, node: u32, item: T) {
        debug_assert!(node < NODES_MAX);
        let key = u64::from(node) << SEQUENCE_BITS | self.sequence;
        self.sequence += 1;
        self.len += 1;
        let entry = Entry { at, key, item };
        if at >> TICK_BITS <= self.tick {
            self.late.push(Reverse(entry));
        } else {
            self.place(entry);
        }
    }

    /// Into the slot of its tick, which is not the present one.
    #[inline]
    fn place(&mut self, entry: Entry<T>) {
        let tick = entry.at >> TICK_BITS;
        let level = (u64::BITS - 1 - (tick ^ self.tick).leading_zeros()) / LEVEL_BITS;
        let slot = (tick >> (level * LEVEL_BITS)) as usize % SLOTS;
        let level = level as usize;
        let entries = &mut self.slots[level * SLOTS + slot];
        if entries.capacity() == 0 {
            *entries = self.spare.pop().unwrap_or_default();
        }
        if entries.is_empty() {
            self.used[level].set(slot);
            self.levels |= 1 << level;
        }
        entries.push(entry);
    }

    /// Takes the next slot into `run`, sorted. Only when `run` and `late` are empty.
    fn advance(&mut self) {
        while self.run.is_empty() && self.levels != 0 {
            let level = self.levels.trailing_zeros();
            let at = level as usize;
            let slot = self.used[at].first();
            self.used[at].clear(slot);
            if self.used[at].summary == 0 {
                self.levels &= !(1 << level);
            }
            let shift = level * LEVEL_BITS;
            let round = (self.tick >> shift) & !(SLOTS as u64 - 1);
            self.tick = (round | slot as u64) << shift;
            let mut entries = std::mem::take(&mut self.slots[at * SLOTS + slot]);
            if level == 0 {
                std::mem::swap(&mut self.run, &mut entries);
            } else {
                for entry in entries.drain(..) {
                    if entry.at >> TICK_BITS == self.tick {
                        self.run.push(entry);
                    } else {
                        self.place(entry);
                    }
                }
            }
            self.spare.push(entries);
        }
        self.run.sort_unstable_by_key(|entry| Reverse(entry.order()));
        self.hidden = self.run.len();
    }

    /// Puts the next things, so many at the most, into `out`, in any order. Each is shown once,
    /// when those shown before have happened; what is asked for within its tick never is.
    #[inline]
    pub fn coming(&mut self, most: usize, out: &mut Vec<(u32, T)>) {
        if self.run.is_empty() && self.late.is_empty() {
            self.advance();
        }
        if self.run.len() > self.hidden {
            return;
        }
        let from = self.hidden.saturating_sub(most);
        let next = self.run[from..].iter().rev();
        out.extend(next.map(|entry| ((entry.key >> SEQUENCE_BITS) as u32, entry.item)));
        self.hidden = from;
    }

    /// The next thing: when, to which node, what. Time never goes back, except that what was asked
    /// for too late happens as soon as it can.
    #[inline]
    pub fn pop(&mut self) -> Option<(Time, u32, T)> {
        if self.run.is_empty() && self.late.is_empty() {
            self.advance();
        }
        let from_late = match (self.run.last(), self.late.peek()) {
            (Some(run), Some(Reverse(late))) => late < run,
            (None, Some(_)) => true,
            _ => false,
        };
        let entry = if from_late { self.late.pop()?.0 } else { self.run.pop()? };
        self.len -= 1;
        Some((entry.at, (entry.key >> SEQUENCE_BITS) as u32, entry.item))
    }
}

impl<T: Copy> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// A heap that keeps the same order.
    #[derive(Default)]
    struct Heap {
        heap: BinaryHeap<Reverse<(Time, u32, u64, u64)>>,
        sequence: u64,
    }

    impl Heap {
        fn push(&mut self, at: Time, node: u32, item: u64) {
            self.heap.push(Reverse((at, node, self.sequence, item)));
            self.sequence += 1;
        }
    }

    #[test]
    fn the_wheel_and_a_heap_pop_the_same_things_in_the_same_order() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let (mut wheel, mut heap) = (Queue::new(), Heap::default());
            let mut now = 0;
            let reach = 1 << rng.range(1, 45);
            for item in 0..2_000 {
                if rng.chance(55) {
                    // Equal times and nodes are frequent, and a few times are over already.
                    let near = rng.below(8) << rng.range(0, 40);
                    let ahead = if rng.chance(50) { near } else { rng.below(reach) };
                    let at = if rng.chance(3) { now / 2 } else { now + ahead };
                    let node = rng.below(4) as u32;
                    wheel.push(at, node, item);
                    heap.push(at, node, item);
                } else {
                    let expected = heap.heap.pop().map(|Reverse((at, node, _, item))| {
                        now = at.max(now);
                        (at, node, item)
                    });
                    assert_eq!(wheel.pop(), expected, "seed {seed}");
                }
                assert_eq!(wheel.len(), heap.heap.len());
            }
            while let Some(Reverse((at, node, _, item))) = heap.heap.pop() {
                assert_eq!(wheel.pop(), Some((at, node, item)), "seed {seed}");
            }
            assert!(wheel.pop().is_none() && wheel.is_empty());
        }
    }

    #[test]
    fn what_comes_is_shown_once_before_it_happens() {
        let mut rng = Rng::new(3);
        let mut wheel = Queue::new();
        for item in 0..3_000 {
            wheel.push((rng.below(40) << TICK_BITS) + rng.below(1_000), 7, item);
        }
        let (mut shown, mut seen) = (Vec::new(), [0; 3_000]);
        loop {
            wheel.coming(16, &mut shown);
            for (node, item) in shown.drain(..) {
                assert_eq!(node, 7);
                seen[item as usize] += 1;
            }
            let Some((at, _, item)) = wheel.pop() else { break };
            assert_eq!(seen[item as usize], i32::from(at >> TICK_BITS > 0));
        }
    }

    #[test]
    fn the_last_time_of_all_is_reached() {
        let mut wheel = Queue::new();
        wheel.push(Time::MAX, NODES_MAX - 1, 'z');
        wheel.push(1, 0, 'a');
        assert_eq!(wheel.pop(), Some((1, 0, 'a')));
        assert_eq!(wheel.pop(), Some((Time::MAX, NODES_MAX - 1, 'z')));
    }
}
