//! A shard's side: its slots, and one lane to every worker.
//!
//! Who owns a slot is written down twice, once in each process and never in shared memory. Here it
//! is the ledger `lent`: a slot is the shard's own, or it is lent to one worker. A slot is lent by
//! pushing its index on that worker's submission ring, and is the shard's again when
//! - that worker's completion ring brings the index back (an index it does not hold is a
//!   [`LinkFault`]), or
//! - the worker's process is gone and [`ShardSide::reset`] takes all it held.
//!
//! Slices are made of own slots only; asking for one of a lent slot is a mistake of the caller and
//! panics.

use crate::{
    Segment,
    door::{self, Door},
    place::{Shared, Slots, ring},
    ring::{Consumer, Producer, RingFault},
    sync::{AtomicU32, Ordering},
};
use core::{iter, ptr::NonNull};
use std::sync::Arc;
use wire::{Order, Outcome};

/// The lane is empty, its positions are 0, and no worker uses it yet.
pub(crate) const LANE_FRESH: u32 = 0;
/// A worker uses the lane. Only [`ShardSide::reset`] leads back.
pub(crate) const LANE_OPEN: u32 = 1;

/// The other process said what cannot be true. Its lane is closed; end that process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// A ring position that cannot be.
    #[error(transparent)]
    Position(#[from] RingFault),
    /// The ring, which can hold every slot, is said to be full.
    #[error("the ring is full although it can hold every slot")]
    Full,
    /// An index that is no slot, or a slot that the other side does not hold (or, to a worker:
    /// already holds).
    #[error("slot {0} is not the other side's to name")]
    Slot(u32),
    /// What it says of a slot cannot be: another lending, or more reply than the slot has room for.
    #[error("what is said of slot {0} cannot be")]
    Outcome(u32),
}

/// One lane: the rings to and from one worker.
#[derive(Debug)]
struct Lane {
    state: Shared<AtomicU32>,
    submissions: Producer<Shared<AtomicU32>, Shared<[AtomicU32]>>,
    completions: Consumer<Shared<AtomicU32>, Shared<[AtomicU32]>>,
    parked: Shared<AtomicU32>,
    door: Arc<Door>,
    /// Set by a fault: nothing more is believed until the reset.
    broken: bool,
    /// A fault found while lending, told with the next look at the completions.
    untold: Option<LinkFault>,
}

impl Lane {
    fn fault(&mut self, fault: LinkFault) {
        self.broken = true;
        self.untold = Some(fault);
    }
}

/// One shard's end of the shared memory. There is one per shard; it goes with the shard's thread.
#[derive(Debug)]
pub struct ShardSide {
    slots: Slots,
    lanes: Box<[Lane]>,
    /// Per slot: 0 for own, else the number of the worker plus one.
    lent: Box<[u16]>,
    /// How many of them are lent.
    out: u32,
    /// Per slot: the lending that its last order names.
    lendings: Box<[u32]>,
    /// Per slot: what was last said of it. Private: a worker that thinks better of it later changes
    /// nothing.
    outcomes: Box<[Outcome]>,
    parked: Shared<AtomicU32>,
    door: Arc<Door>,
}

impl ShardSide {
    /// The side of `shard`, which sleeps on `door` and rings `workers`, one door per worker of the
    /// layout.
    ///
    /// # Panics
    /// If the side was given out before, if this process attached to the segment instead of
    /// creating it, or if the number of doors is wrong: mistakes of the caller.
    #[must_use]
    pub fn new(segment: &Arc<Segment>, shard: u16, door: Arc<Door>, workers: &[Arc<Door>]) -> Self {
        let map = segment.offsets();
        assert_eq!(workers.len(), usize::from(map.layout.workers), "one door per worker");
        assert!(segment.take_shard(shard), "shard {shard} has its side already, or never here");
        let lanes = iter::zip(0.., workers)
            .map(|(worker, door)| {
                let at = map.lane(shard, worker);
                Lane {
                    state: Shared::word(segment, at.state),
                    submissions: Producer::new(ring(segment, at.submissions)),
                    completions: Consumer::new(ring(segment, at.completions)),
                    parked: Shared::word(segment, map.worker_parked(worker)),
                    door: Arc::clone(door),
                    broken: false,
                    untold: None,
                }
            })
            .collect();
        Self {
            slots: Slots::new(segment, shard),
            lanes,
            lent: vec![0; map.layout.slots() as usize].into(),
            out: 0,
            lendings: vec![0; map.layout.slots() as usize].into(),
            outcomes: vec![Outcome::default(); map.layout.slots() as usize].into(),
            parked: Shared::word(segment, map.shard_parked(shard)),
            door,
        }
    }

    /// The segment this is a side of.
    #[must_use]
    pub const fn segment(&self) -> &Arc<Segment> {
        self.slots.segment()
    }

    /// A slot's payload area, whole.
    ///
    /// # Panics
    /// If the slot is lent or does not exist; so do all methods that take a slot.
    #[must_use]
    #[inline]
    pub fn request(&self, slot: u32) -> &[u8] {
        self.assert_own(slot);
        // SAFETY: inside the segment, which `self` keeps mapped; shared memory starts zeroed, so it
        // is initialised. The slot is own: no worker writes to it, and this process makes `&mut` of
        // it through `&mut self` only.
        unsafe { self.slots.request(slot).as_ref() }
    }

    /// A slot's payload area, whole, writable.
    ///
    /// # Panics
    /// As [`ShardSide::request`].
    #[must_use]
    #[inline]
    pub fn request_mut(&mut self, slot: u32) -> &mut [u8] {
        self.assert_own(slot);
        // SAFETY: as in `request`; and through `&mut self` there is no other reference to any own
        // slot.
        unsafe { self.slots.request(slot).as_mut() }
    }

    /// The payload of one slot, and of another, writable.
    ///
    /// # Panics
    /// As [`ShardSide::request`], and if both are the same slot.
    #[must_use]
    pub fn request_pair(&mut self, from: u32, to: u32) -> (&[u8], &mut [u8]) {
        self.assert_own(from);
        self.assert_own(to);
        assert_ne!(from, to, "two slots");
        let (source, mut target) = (self.slots.request(from), self.slots.request(to));
        // SAFETY: as in `request`, borrowed from `self`.
        let source = unsafe { source.as_ref() };
        // SAFETY: as in `request_mut`; areas of different slots do not overlap.
        (source, unsafe { target.as_mut() })
    }

    /// A slot's reply area, whole.
    ///
    /// # Panics
    /// As [`ShardSide::request`].
    #[must_use]
    #[inline]
    pub fn reply(&self, slot: u32) -> &[u8] {
        self.assert_own(slot);
        // SAFETY: as in `request`; no method gives out a `&mut` of a reply area here.
        unsafe { self.slots.reply(slot).as_ref() }
    }

    /// Where a slot's payload lies, for the OS to fill; the 64 bytes before it are the slot's as
    /// well.
    ///
    /// # Panics
    /// As [`ShardSide::request`].
    #[must_use]
    #[inline]
    pub fn request_ptr(&self, slot: u32) -> *mut u8 {
        self.assert_own(slot);
        self.slots.request(slot).cast().as_ptr()
    }

    /// Where a slot's reply area lies, for the OS to send.
    ///
    /// # Panics
    /// As [`ShardSide::request`].
    #[must_use]
    #[inline]
    pub fn reply_ptr(&self, slot: u32) -> *const u8 {
        self.assert_own(slot);
        self.slots.reply(slot).cast().as_ptr()
    }

    /// All request areas of this shard in one stretch, page-aligned: for registering with the OS.
    #[must_use]
    pub fn requests(&self) -> NonNull<[u8]> {
        self.slots.requests()
    }

    /// All reply areas of this shard in one stretch, page-aligned: for registering with the OS.
    #[must_use]
    pub fn replies(&self) -> NonNull<[u8]> {
        self.slots.replies()
    }

    /// Writes what the worker shall do with a slot.
    ///
    /// # Panics
    /// As [`ShardSide::request`].
    #[inline]
    pub fn set_order(&mut self, slot: u32, order: &Order) {
        self.assert_own(slot);
        self.lendings[slot as usize] = order.lending;
        // SAFETY: inside the segment and aligned; the slot is own, so nobody else reads or writes
        // its order.
        unsafe { self.slots.order(slot).write(*order) }
    }

    /// What the worker said of a slot when it gave it back: of the right lending, and of no longer
    /// a reply than there is room for; the rest is its word, not a fact.
    ///
    /// # Panics
    /// As [`ShardSide::request`].
    #[must_use]
    #[inline]
    pub fn outcome(&self, slot: u32) -> Outcome {
        self.assert_own(slot);
        self.outcomes[slot as usize]
    }

    /// Lends these slots as one batch, and wakes the worker if it sleeps; true where it did.
    ///
    /// A worker caught lying meanwhile gets nothing; the slots count as lent to it until
    /// [`ShardSide::reset`].
    ///
    /// # Panics
    /// If a slot is lent already or does not exist, or if there is no such worker.
    pub fn lend(&mut self, worker: u16, mut batch: impl ExactSizeIterator<Item = u32>) -> bool {
        let Self { slots, lanes, lent, out, .. } = self;
        let lane = &mut lanes[usize::from(worker)];
        let mut mark = |slot: u32| {
            let owner = &mut lent[slot as usize];
            assert_eq!(*owner, 0, "slot {slot} is lent already");
            *owner = worker + 1;
            *out += 1;
            slot
        };
        if !lane.broken {
            // SYNC POINT order: the order and payload written before are published by this push.
            match lane.submissions.push_batch((&mut batch).map(&mut mark)) {
                Ok(true) => {
                    let asleep = door::take(&lane.parked);
                    if asleep {
                        lane.door.ring();
                    }
                    return asleep;
                }
                Ok(false) => lane.fault(LinkFault::Full),
                Err(fault) => lane.fault(fault.into()),
            }
            slots.segment().accuse(worker);
        }
        batch.for_each(|slot| {
            mark(slot);
        });
        false
    }

    /// The next slot a worker gives back, from now on own again.
    ///
    /// # Errors
    /// A [`LinkFault`], once; after it the lane gives nothing until [`ShardSide::reset`].
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn completion(&mut self, worker: u16) -> Option<Result<u32, LinkFault>> {
        let lane = &mut self.lanes[usize::from(worker)];
        if lane.broken {
            return lane.untold.take().map(Err);
        }
        let fault = match lane.completions.pop() {
            Ok(None) => return None,
            Ok(Some(entry)) => match self.lent.get_mut(entry.index as usize) {
                Some(owner) if *owner == worker + 1 => {
                    // SAFETY: inside the segment and aligned; any bytes are an outcome. Volatile:
                    // read once, whatever happens to it meanwhile.
                    let outcome = unsafe { self.slots.outcome(entry.index).read_volatile() };
                    let slot = entry.index as usize;
                    if outcome.lending == self.lendings[slot]
                        && outcome.reply_len as usize <= self.slots.reply(entry.index).len()
                    {
                        *owner = 0;
                        self.out -= 1;
                        self.outcomes[slot] = outcome;
                        return Some(Ok(entry.index));
                    }
                    // The slot stays lent until the reset.
                    LinkFault::Outcome(entry.index)
                }
                _ => LinkFault::Slot(entry.index),
            },
            Err(fault) => fault.into(),
        };
        lane.broken = true;
        self.slots.segment().accuse(worker);
        Some(Err(fault))
    }

    /// Believes nothing more that this worker says, and has its supervisor end it: its completions
    /// did not hold. What it holds, and what is still lent to it, comes back with
    /// [`ShardSide::reset`].
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn distrust(&mut self, worker: u16) {
        self.lanes[usize::from(worker)].broken = true;
        self.slots.segment().accuse(worker);
    }

    /// Takes back every slot that a worker still holds and makes its lane ready for a successor.
    /// Returns how many they were. Take its completions first: they are good.
    ///
    /// # Safety
    /// The worker's process does not exist any more, as the OS says, so that nothing it did is
    /// under way.
    ///
    /// # Panics
    /// If there is no such worker.
    pub unsafe fn reset(&mut self, worker: u16) -> usize {
        let lane = &mut self.lanes[usize::from(worker)];
        lane.submissions.reset();
        lane.completions.reset();
        lane.broken = false;
        lane.untold = None;
        let held = self.lent.iter_mut().filter(|owner| **owner == worker + 1);
        let reclaimed = held.map(|owner| *owner = 0).count();
        self.out -= reclaimed as u32;
        // SYNC POINT lane: pairs with the Acquire exchange in `WorkerSide`; positions are 0 before
        // it is fresh.
        lane.state.store(LANE_FRESH, Ordering::Release);
        reclaimed
    }

    /// Slots that are lent, to all workers together.
    #[must_use]
    pub const fn out(&self) -> u32 {
        self.out
    }

    /// What this shard sleeps on; workers ring it.
    #[must_use]
    pub const fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Announces that the shard is about to sleep. Sleep only if this is true: no completion waits.
    #[must_use]
    pub fn park(&self) -> bool {
        door::park(&self.parked);
        let news = self.lanes.iter().any(|lane| !lane.broken && lane.completions.has_news());
        if news {
            door::unpark(&self.parked);
        }
        !news
    }

    /// Awake again.
    pub fn unpark(&self) {
        door::unpark(&self.parked);
    }

    #[inline]
    fn assert_own(&self, slot: u32) {
        assert_eq!(self.lent[slot as usize], 0, "slot {slot} is lent");
    }
}
