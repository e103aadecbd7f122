//! The micro-batcher (BATCH-01..07): groups requests of one operation, shape class and priority.
//! Higher priorities go first, then older batches.
//!
//! A batch closes when it is full, when it is old, when a deadline comes near, and, before all of
//! that, as soon as a worker has nothing to do: waiting would then buy nothing. Its age belongs to
//! the batch itself, so an earlier batch's timer can never close a later one.

use crate::{
    driver::Time,
    limits::{BATCH_CAP, Limits, OPEN_BATCHES},
    memory::SlotId,
    slot::Arrived,
    stats::CloseReason,
};
use std::{cmp::Reverse, collections::VecDeque};
use wire::{Coding, Dtype, Operation, Priority, Work};

/// Requests that may share a launch: one operation, one element type, rows of similar size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    operation: Operation,
    dtype: Dtype,
    coding: Coding,
    magnitude: u8,
}

impl Shape {
    /// The class of this work.
    #[must_use]
    pub const fn of(work: &Work) -> Self {
        Self {
            operation: work.operation,
            dtype: work.dtype,
            coding: work.coding,
            magnitude: (32 - work.data_len.leading_zeros()) as u8,
        }
    }
}

/// Requests on their way to one worker.
#[derive(Debug)]
pub struct Batch {
    /// The slots, in order of arrival.
    pub slots: Vec<Arrived>,
    /// What they have in common.
    pub shape: Shape,
    /// And how urgent they are.
    pub priority: Priority,
    /// Bytes of their rows.
    pub bytes: u64,
    /// Why it closed.
    pub reason: CloseReason,
    /// When; 0 for as it was lent.
    pub closed: Time,
}

impl Batch {
    /// What is to be computed.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.shape.operation
    }
}

#[derive(Debug)]
struct Open {
    shape: Shape,
    priority: Priority,
    slots: Vec<Arrived>,
    opened: Time,
    bytes: u64,
    deadline_min: Time,
}

/// Open batches, closed batches by priority and in order, and emptied vectors for reuse.
#[derive(Debug)]
pub struct Batcher {
    open: Vec<Open>,
    ready: [VecDeque<Batch>; Priority::ALL.len()],
    spare: Vec<Vec<Arrived>>,
    batch_max: usize,
    batch_wait: Time,
    batch_bytes: u64,
    /// How long before a deadline its batch closes: what a batch of late took, measured.
    margin: Time,
}

impl Batcher {
    /// Room for as many batches as there can be slots, so nothing is allocated later.
    #[must_use]
    pub fn new(limits: &Limits, slots: u32) -> Self {
        let batch_max = limits.batch_max.clamp(1, BATCH_CAP);
        // Closed batches hold at least one slot each; the vectors of most stay small.
        let batches = slots as usize + OPEN_BATCHES;
        let full = (slots as usize).div_ceil(batch_max) + 2 * OPEN_BATCHES;
        Self {
            open: Vec::with_capacity(OPEN_BATCHES),
            ready: core::array::from_fn(|_| VecDeque::with_capacity(batches)),
            spare: (0..full).map(|_| Vec::with_capacity(batch_max)).collect(),
            batch_max,
            batch_wait: limits.batch_wait,
            batch_bytes: limits.batch_bytes,
            margin: crate::limits::MS,
        }
    }

    fn spare(&mut self) -> Vec<Arrived> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(self.batch_max))
    }

    /// Gives an emptied batch's vector back.
    pub fn recycle(&mut self, mut slots: Vec<Arrived>) {
        slots.clear();
        self.spare.push(slots);
    }

    /// Adds a request to the open batch of its kind; closes that batch when it is full.
    pub fn add(
        &mut self,
        now: Time,
        slot: Arrived,
        work: &Work,
        priority: Priority,
        deadline: Time,
    ) {
        let shape = Shape::of(work);
        let same = |b: &Open| b.shape == shape && b.priority == priority;
        let index = match self.open.iter().position(same) {
            Some(index) => index,
            None => self.open_batch(now, shape, priority),
        };
        let batch = &mut self.open[index];
        batch.slots.push(slot);
        batch.bytes += u64::from(work.data_len);
        if deadline != 0 {
            batch.deadline_min = batch.deadline_min.min(deadline);
        }
        let (full, heavy) = (batch.slots.len() >= self.batch_max, batch.bytes >= self.batch_bytes);
        if full {
            self.close(now, index, CloseReason::Full);
        } else if heavy {
            self.close(now, index, CloseReason::Bytes);
        }
    }

    fn open_batch(&mut self, now: Time, shape: Shape, priority: Priority) -> usize {
        if self.open.len() == OPEN_BATCHES {
            self.close(now, 0, CloseReason::Displaced);
        }
        let slots = self.spare();
        let deadline_min = Time::MAX;
        self.open.push(Open { shape, priority, slots, opened: now, bytes: 0, deadline_min });
        self.open.len() - 1
    }

    fn close(&mut self, closed: Time, index: usize, reason: CloseReason) {
        // The oldest stays in front: order of opening is kept.
        let open = self.open.remove(index);
        let Open { slots, shape, priority, bytes, .. } = open;
        self.queue(priority).push_back(Batch { slots, shape, priority, bytes, reason, closed });
    }

    fn queue(&mut self, priority: Priority) -> &mut VecDeque<Batch> {
        &mut self.ready[usize::from(priority.code())]
    }

    /// Requests whose worker died, in order of arrival: they go ahead of everything else of their
    /// priority, in batches like any other.
    pub fn retry(&mut self, again: impl Iterator<Item = (Arrived, Work, Priority)>) {
        let mut batches: Vec<Batch> = Vec::new();
        for (slot, work, priority) in again {
            let shape = Shape::of(&work);
            let fits = |b: &Batch| {
                (b.shape, b.priority) == (shape, priority)
                    && b.slots.len() < self.batch_max
                    && b.bytes < self.batch_bytes
            };
            let index = batches.iter().position(fits).unwrap_or_else(|| {
                let (slots, reason) = (self.spare(), CloseReason::Retry);
                batches.push(Batch { slots, shape, priority, bytes: 0, reason, closed: 0 });
                batches.len() - 1
            });
            batches[index].slots.push(slot);
            batches[index].bytes += u64::from(work.data_len);
        }
        while let Some(batch) = batches.pop() {
            self.put_back(batch);
        }
    }

    /// A closed batch that could not be lent after all goes back to its place in front.
    pub fn put_back(&mut self, batch: Batch) {
        self.queue(batch.priority).push_front(batch);
    }

    /// Closes what is due: by age, by a near deadline, or all of it when draining.
    pub fn advance(&mut self, now: Time, draining: bool) {
        let mut index = 0;
        while index < self.open.len() {
            let open = &self.open[index];
            let due = if draining {
                Some(CloseReason::Drain)
            } else if now >= open.opened.saturating_add(self.batch_wait) {
                Some(CloseReason::Age)
            } else if now.saturating_add(self.margin) >= open.deadline_min {
                Some(CloseReason::Deadline)
            } else {
                None
            };
            match due {
                Some(reason) => self.close(now, index, reason),
                None => index += 1,
            }
        }
    }

    /// The first closed batch of the highest priority whose operation `can` take.
    pub fn pop_ready(&mut self, mut can: impl FnMut(Operation) -> bool) -> Option<Batch> {
        self.ready.iter_mut().rev().find_map(|queue| {
            let index = queue.iter().position(|b| can(b.operation()))?;
            queue.remove(index)
        })
    }

    /// Closes the oldest open batch of the highest priority for which `idle` knows a worker with
    /// nothing to do.
    pub fn pop_idle(&mut self, mut idle: impl FnMut(Operation) -> bool) -> Option<Batch> {
        let able = self.open.iter().enumerate().filter(|(_, b)| idle(b.shape.operation));
        let (index, _) = able.min_by_key(|(index, b)| (Reverse(b.priority), *index))?;
        let Open { slots, shape, priority, bytes, .. } = self.open.remove(index);
        let reason = CloseReason::WorkerIdle;
        Some(Batch { slots, shape, priority, bytes, reason, closed: 0 })
    }

    /// The closed batch that waits longest below this priority, where `starved` says so of its
    /// oldest request.
    pub fn pop_starved(
        &mut self,
        below: Priority,
        mut starved: impl FnMut(SlotId) -> bool,
    ) -> Option<Batch> {
        let lower = self.ready.iter_mut().take(usize::from(below.code()));
        lower.into_iter().find_map(|queue| {
            let oldest = queue.front()?.slots.first()?;
            if starved(oldest.id()) { queue.pop_front() } else { None }
        })
    }

    /// Takes the youngest request of the lowest priority below this one out of the way, if `fits`
    /// says that its slot is of use.
    pub fn displace(
        &mut self,
        below: Priority,
        mut fits: impl FnMut(SlotId) -> bool,
    ) -> Option<Arrived> {
        for priority in Priority::ALL.iter().take_while(|p| **p < below) {
            let mut open = self.open.iter_mut().rev().filter(|b| b.priority == *priority);
            let closed = &mut self.ready[usize::from(priority.code())];
            let found = open
                .find_map(|b| b.slots.pop_if(|slot| fits(slot.id())))
                .or_else(|| closed.iter_mut().rev().find_map(|b| b.slots.pop_if(|s| fits(s.id()))));
            if found.is_some() {
                self.drop_empty();
                return found;
            }
        }
        None
    }

    /// Takes one request out of whatever batch it waits in.
    pub fn remove(&mut self, slot: SlotId) -> Option<Arrived> {
        let open = self.open.iter_mut().map(|b| &mut b.slots);
        let closed = self.ready.iter_mut().flatten().map(|b| &mut b.slots);
        let found = open.chain(closed).find_map(|slots| {
            let index = slots.iter().position(|s| s.id() == slot)?;
            Some(slots.remove(index))
        });
        if found.is_some() {
            self.drop_empty();
        }
        found
    }

    /// Removes requests that `expired` points out and hands them over: `true` with each from an
    /// open batch, `false` with each from a closed one. Empty batches disappear.
    pub fn remove_expired(
        &mut self,
        mut expired: impl FnMut(SlotId) -> bool,
        mut gone: impl FnMut(Arrived, bool),
    ) {
        let mut sift = |slots: &mut Vec<Arrived>, open: bool| {
            let mut index = 0;
            while index < slots.len() {
                if expired(slots[index].id()) {
                    gone(slots.remove(index), open);
                } else {
                    index += 1;
                }
            }
        };
        for batch in &mut self.open {
            sift(&mut batch.slots, true);
        }
        for batch in self.ready.iter_mut().flatten() {
            sift(&mut batch.slots, false);
        }
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        while let Some(index) = self.open.iter().position(|b| b.slots.is_empty()) {
            let slots = self.open.remove(index).slots;
            self.spare.push(slots);
        }
        for queue in &mut self.ready {
            while let Some(index) = queue.iter().position(|b| b.slots.is_empty()) {
                if let Some(batch) = queue.remove(index) {
                    self.spare.push(batch.slots);
                }
            }
        }
    }

    /// When the next open batch closes by itself.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Time> {
        let due = |b: &Open| {
            let by_age = b.opened.saturating_add(self.batch_wait);
            by_age.min(b.deadline_min.saturating_sub(self.margin))
        };
        self.open.iter().map(due).min()
    }

    /// Learns how long a batch takes (a moving average), to close ahead of deadlines by as much.
    pub fn learn(&mut self, took: Time) {
        self.margin = (self.margin * 7 + took) / 8;
    }

    /// Requests that wait, in open and in closed batches.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.open.iter().map(|b| b.slots.len()).sum::<usize>()
            + self.ready.iter().flatten().map(|b| b.slots.len()).sum::<usize>()
    }
}
