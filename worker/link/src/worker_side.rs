//! A worker's side: batches of lent slots in, completed ones out.
//!
//! A [`Lent`] is the right to read one request and to write its reply. It comes from a submission
//! ring and ends in [`Lent::complete`], which consumes it. The ledger `held` refuses a slot that is
//! still held, so that whatever the ring says there is never a second `Lent` of one slot.

use crate::{
    LinkFault, Segment,
    door::{self, Door},
    place::{Shared, Slots, ring},
    ring::{Consumer, Producer},
    shard_side::{LANE_FRESH, LANE_OPEN},
    sync::{AtomicU32, Ordering},
};
use core::{
    cell::{Cell, RefCell},
    fmt, iter,
    ptr::NonNull,
    sync::atomic::AtomicU64,
};
use std::sync::Arc;
use wire::{ErrorCode, Order, Outcome};

/// One lane: the rings from and to one shard.
#[derive(Debug)]
struct Lane {
    slots: Slots,
    state: Shared<AtomicU32>,
    /// Whether the lane is ours. A lane that a dead predecessor used is not, until its shard made
    /// it fresh.
    open: Cell<bool>,
    submissions: RefCell<Consumer<Shared<AtomicU32>, Shared<[AtomicU32]>>>,
    completions: RefCell<Producer<Shared<AtomicU32>, Shared<[AtomicU32]>>>,
    /// Per slot: whether a `Lent` of it exists.
    held: Box<[Cell<bool>]>,
    parked: Shared<AtomicU32>,
    door: Door,
}

impl Lane {
    /// Makes the lane ours where it is fresh.
    fn open(&self) -> bool {
        if self.open.get() {
            return true;
        }
        // SYNC POINT lane: pairs with the Release store in `ShardSide::reset`.
        let taken = self.state.compare_exchange(
            LANE_FRESH,
            LANE_OPEN,
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        self.open.set(taken.is_ok());
        taken.is_ok()
    }

    fn has_news(&self) -> bool {
        if self.open.get() {
            self.submissions.borrow().has_news()
        } else {
            self.state.load(Ordering::Relaxed) == LANE_FRESH
        }
    }
}

/// One worker process's end of the shared memory. It may move to another thread, but not be shared.
#[derive(Debug)]
pub struct WorkerSide {
    lanes: Box<[Lane]>,
    /// The lane to be asked first next time, so that no shard starves.
    turn: Cell<usize>,
    held: Cell<usize>,
    parked: Shared<AtomicU32>,
    pulse: Shared<AtomicU64>,
    door: Door,
}

impl WorkerSide {
    /// The side of `worker`, which sleeps on `door` and rings `shards`, one door per shard of the
    /// layout.
    ///
    /// Lanes that a predecessor of the same number left behind are taken up when their shards have
    /// reset them.
    ///
    /// # Panics
    /// If there is no such worker, or if the number of doors is wrong: mistakes of the caller.
    #[must_use]
    pub fn new(segment: &Arc<Segment>, worker: u16, door: Door, shards: Vec<Door>) -> Self {
        let map = segment.offsets();
        assert_eq!(shards.len(), usize::from(map.layout.shards), "one door per shard");
        let lanes = iter::zip(0.., shards)
            .map(|(shard, door)| {
                let at = map.lane(shard, worker);
                Lane {
                    slots: Slots::new(segment, shard),
                    state: Shared::word(segment, at.state),
                    open: Cell::new(false),
                    submissions: RefCell::new(Consumer::new(ring(segment, at.submissions))),
                    completions: RefCell::new(Producer::new(ring(segment, at.completions))),
                    held: (0..map.layout.slots()).map(|_| Cell::new(false)).collect(),
                    parked: Shared::word(segment, map.shard_parked(shard)),
                    door,
                }
            })
            .collect();
        Self {
            lanes,
            turn: Cell::new(0),
            held: Cell::new(0),
            parked: Shared::word(segment, map.worker_parked(worker)),
            pulse: Shared::pulse(segment, worker),
            door,
        }
    }

    /// Takes up one batch of one shard, at most `max` slots of it, and appends it to `batch`.
    /// Shards are asked in turn. Returns how many were taken; 0 where no shard has work.
    ///
    /// # Errors
    /// A [`LinkFault`]: the node broke its word, and this process can only end.
    pub fn next_batch<'s>(
        &'s self,
        max: usize,
        batch: &mut Vec<Lent<'s>>,
    ) -> Result<usize, LinkFault> {
        let shards = self.lanes.len();
        for step in 0..shards {
            let shard = (self.turn.get() + step) % shards;
            let lane = &self.lanes[shard];
            if !lane.open() {
                continue;
            }
            let taken = self.take(lane, max, batch)?;
            if taken > 0 {
                self.turn.set((shard + 1) % shards);
                return Ok(taken);
            }
        }
        Ok(0)
    }

    fn take<'s>(
        &'s self,
        lane: &'s Lane,
        max: usize,
        batch: &mut Vec<Lent<'s>>,
    ) -> Result<usize, LinkFault> {
        let mut submissions = lane.submissions.borrow_mut();
        let mut taken = 0;
        while taken < max {
            let Some(entry) = submissions.pop()? else { break };
            let held = lane.held.get(entry.index as usize).filter(|held| !held.get());
            let held = held.ok_or(LinkFault::Slot(entry.index))?;
            held.set(true);
            self.held.set(self.held.get() + 1);
            // SAFETY: the shard lent the slot (SYNC POINT order) and does not touch it until it
            // comes back, so nobody writes to its order; any bytes are an order. Volatile: read
            // once, whatever happens.
            let order = unsafe { lane.slots.order(entry.index).read_volatile() };
            batch.push(Lent { side: self, lane, slot: entry.index, order });
            taken += 1;
            if entry.last {
                break;
            }
        }
        Ok(taken)
    }

    /// Slots taken up and not completed.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// Claims to `shard` that this slot is done, whatever is true, and wakes it: what a broken
    /// worker might do. For fault injection.
    ///
    /// # Errors
    /// A [`LinkFault`]: the ring takes no more.
    #[cfg(feature = "hostile")]
    pub fn claim(&self, shard: u16, slot: u32) -> Result<(), LinkFault> {
        let lane = &self.lanes[usize::from(shard)];
        if !lane.completions.borrow_mut().push_batch(iter::once(slot))? {
            return Err(LinkFault::Full);
        }
        lane.door.ring();
        Ok(())
    }

    /// Tells the supervisor that this worker lives. To be called between orders and around sleeps.
    pub fn beat(&self) {
        // One writer: no read-modify-write needed.
        self.pulse.store(self.pulse.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Announces that the worker is about to sleep. Sleep only if this is true: no batch waits.
    #[must_use]
    pub fn park(&self) -> bool {
        door::park(&self.parked);
        let news = self.lanes.iter().any(Lane::has_news);
        if news {
            door::unpark(&self.parked);
        }
        !news
    }

    /// Awake again.
    pub fn unpark(&self) {
        door::unpark(&self.parked);
        self.door.silence();
    }

    /// What this worker sleeps on; shards ring it, and so may whatever else it waits for.
    #[must_use]
    pub const fn door(&self) -> &Door {
        &self.door
    }
}

/// One lent slot: the right to read its request and to write its reply, until it is completed.
///
/// Dropped without [`Lent::complete`], the slot stays held until the process ends.
#[must_use = "a slot that is not completed is lost until this process ends"]
pub struct Lent<'s> {
    side: &'s WorkerSide,
    lane: &'s Lane,
    slot: u32,
    order: Order,
}

impl fmt::Debug for Lent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("slot", &self.slot).field("order", &self.order).finish()
    }
}

impl Lent<'_> {
    /// What to do. A private copy: nobody can change it any more.
    #[must_use]
    pub const fn order(&self) -> &Order {
        &self.order
    }

    /// Which slot it is. For fault injection.
    #[cfg(feature = "hostile")]
    #[must_use]
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// The request's payload, 64-byte aligned.
    ///
    /// # Errors
    /// `BadRequest` where the order claims more bytes than the slot has.
    pub fn payload(&self) -> Result<&[u8], ErrorCode> {
        // SAFETY: inside the segment, initialised since shared memory starts zeroed. The slot is
        // lent to us and there is one `Lent` of it (`held`); neither we nor the shard write to the
        // request meanwhile.
        let area = unsafe { self.lane.slots.request(self.slot).as_ref() };
        area.get(..self.order.payload_len as usize).ok_or(ErrorCode::BadRequest)
    }

    /// The request's payload and the whole reply area to write to.
    ///
    /// # Errors
    /// As [`Lent::payload`].
    pub fn parts(&mut self) -> Result<(&[u8], &mut [u8]), ErrorCode> {
        let mut reply = self.lane.slots.reply(self.slot);
        // SAFETY: inside the segment, initialised; the slot is lent to us, there is one `Lent` of
        // it, and it is borrowed mutably. Request and reply areas do not overlap.
        let reply = unsafe { reply.as_mut() };
        Ok((self.payload()?, reply))
    }

    /// Where request and reply areas lie, for a device that reads the one and writes the other
    /// while this process holds the slot. Both whole, both within [`crate::Arenas`].
    ///
    /// The addresses say nothing about who may use them: no device may touch them any more once
    /// [`Lent::complete`] is called, nor while a slice of [`Lent::parts`] lives.
    #[must_use]
    pub fn places(&self) -> (NonNull<[u8]>, NonNull<[u8]>) {
        (self.lane.slots.request(self.slot), self.lane.slots.reply(self.slot))
    }

    /// Gives the slot back with its outcome, and wakes the shard if it sleeps. The lending is
    /// filled in here.
    ///
    /// # Errors
    /// A [`LinkFault`]: the node broke its word, and this process can only end.
    pub fn complete(self, outcome: Outcome) -> Result<(), LinkFault> {
        let Self { side, lane, slot, order } = self;
        let outcome = Outcome { lending: order.lending, ..outcome };
        // SAFETY: inside the segment and aligned; the slot is lent to us until the push below.
        unsafe { lane.slots.outcome(slot).write(outcome) };
        lane.held[slot as usize].set(false);
        side.held.set(side.held.get() - 1);
        // SYNC POINT outcome: outcome and reply written before are published by this push.
        if !lane.completions.borrow_mut().push_batch(iter::once(slot))? {
            return Err(LinkFault::Full);
        }
        if door::take(&lane.parked) {
            lane.door.ring();
        }
        Ok(())
    }
}
