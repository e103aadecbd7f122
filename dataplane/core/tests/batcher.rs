//! The batcher against a plain model: lists of open and of closed batches, searched from end to
//! end.

mod common;

use common::{arrived, geometry, work};
use dataplane_core::{
    Limits,
    batch::{Batcher, Shape},
    driver::Time,
    limits::{MS, OPEN_BATCHES},
    memory::SlotId,
    slot::{Arrived, SlotTable},
    stats::CloseReason,
};
use proptest::prelude::*;
use wire::{Operation, Priority, Work};

const SLOTS: u32 = 40;
const MAX: usize = 4;
const WAIT: Time = 10 * MS;
const BYTES: u64 = 3_000;

#[derive(Clone, Debug)]
enum Op {
    /// A request of an operation and a length, with a deadline so long after now (0: none).
    Add(Operation, u32, Priority, Time),
    /// Time passes.
    Pass(Time),
    /// A worker takes a closed batch of this operation.
    Ready(Operation),
    /// An idle worker takes an open batch of this operation.
    Idle(Operation),
    /// The oldest closed batch below a priority goes, if its first slot has an even index.
    Starved(Priority),
    /// The youngest request below a priority makes room, if its slot has an even index.
    Displace(Priority),
    /// One request is taken out.
    Remove(u32),
    /// Those with an even index have expired.
    Expire,
    /// The node drains.
    Drain,
    /// The batch taken last comes back, its worker dead.
    Retry,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![Just(Operation::Echo), Just(Operation::Int8)]
}

fn priority() -> impl Strategy<Value = Priority> {
    use Priority::{Background, High, Normal};
    prop_oneof![3 => Just(Normal), 1 => Just(Background), 1 => Just(High)]
}

fn op() -> impl Strategy<Value = Op> {
    let deadline = prop_oneof![3 => Just(0), 1 => 1..30 * MS];
    prop_oneof![
        8 => (operation(), prop_oneof![Just(40u32), Just(60), 4..2_000u32], priority(), deadline)
            .prop_map(|(op, len, priority, deadline)| {
                Op::Add(op, len - len % 4, priority, deadline)
            }),
        1 => priority().prop_map(Op::Starved),
        1 => priority().prop_map(Op::Displace),
        1 => (0..SLOTS).prop_map(Op::Remove),
        4 => (0..8 * MS).prop_map(Op::Pass),
        3 => operation().prop_map(Op::Ready),
        2 => operation().prop_map(Op::Idle),
        1 => Just(Op::Expire),
        1 => Just(Op::Drain),
        1 => Just(Op::Retry),
    ]
}

#[derive(Debug)]
struct Open {
    shape: Shape,
    priority: Priority,
    ids: Vec<SlotId>,
    opened: Time,
    bytes: u64,
    deadline: Time,
}

#[derive(Debug, PartialEq)]
struct Closed {
    shape: Shape,
    priority: Priority,
    ids: Vec<SlotId>,
    reason: CloseReason,
}

/// What the batcher is said to do, told plainly.
#[derive(Debug, Default)]
struct Model {
    open: Vec<Open>,
    closed: Vec<Closed>,
}

impl Model {
    fn close(&mut self, index: usize, reason: CloseReason) {
        let Open { shape, priority, ids, .. } = self.open.remove(index);
        self.closed.push(Closed { shape, priority, ids, reason });
    }

    fn add(&mut self, now: Time, id: SlotId, work: &Work, priority: Priority, deadline: Time) {
        let shape = Shape::of(work);
        let same = |b: &Open| (b.shape, b.priority) == (shape, priority);
        let index = self.open.iter().position(same).unwrap_or_else(|| {
            if self.open.len() == OPEN_BATCHES {
                self.close(0, CloseReason::Displaced);
            }
            let ids = Vec::new();
            let deadline = Time::MAX;
            self.open.push(Open { shape, priority, ids, opened: now, bytes: 0, deadline });
            self.open.len() - 1
        });
        let batch = &mut self.open[index];
        batch.ids.push(id);
        batch.bytes += u64::from(work.data_len);
        batch.deadline = batch.deadline.min(if deadline == 0 { Time::MAX } else { deadline });
        if batch.ids.len() == MAX {
            self.close(index, CloseReason::Full);
        } else if batch.bytes >= BYTES {
            self.close(index, CloseReason::Bytes);
        }
    }

    fn advance(&mut self, now: Time, draining: bool) {
        while let Some((index, reason)) = self.open.iter().enumerate().find_map(|(index, b)| {
            let due = [
                (draining, CloseReason::Drain),
                (now >= b.opened + WAIT, CloseReason::Age),
                (b.deadline != Time::MAX && now + MS >= b.deadline, CloseReason::Deadline),
            ];
            due.iter().find(|(due, _)| *due).map(|(_, reason)| (index, *reason))
        }) {
            self.close(index, reason);
        }
    }

    fn wakeup(&self) -> Option<Time> {
        self.open.iter().map(|b| (b.opened + WAIT).min(b.deadline.saturating_sub(MS))).min()
    }

    /// Of the entries that `is` points out, the first of the highest priority.
    fn best<T>(
        list: &[T],
        priority: impl Fn(&T) -> Priority,
        is: impl Fn(&T) -> bool,
    ) -> Option<usize> {
        let highest = list.iter().filter(|e| is(e)).map(&priority).max()?;
        list.iter().position(|e| is(e) && priority(e) == highest)
    }

    fn starved(&mut self, below: Priority) -> Option<Closed> {
        let first_of = |p: &Priority| self.closed.iter().position(|c| c.priority == *p);
        let lower = Priority::ALL.iter().take_while(|p| **p < below);
        let mut firsts = lower.filter_map(first_of);
        let index = firsts.find(|index| self.closed[*index].ids[0].0.is_multiple_of(2))?;
        Some(self.closed.remove(index))
    }

    fn displace(&mut self, below: Priority) -> Option<SlotId> {
        let lower = Priority::ALL.iter().take_while(|p| **p < below);
        for priority in lower {
            let open = self.open.iter().filter(|b| b.priority == *priority).map(|b| &b.ids);
            let closed = self.closed.iter().filter(|b| b.priority == *priority).map(|b| &b.ids);
            let lasts = open.rev().chain(closed.rev()).filter_map(|ids| ids.last().copied());
            let found = lasts.into_iter().find(|id| id.0.is_multiple_of(2));
            if let Some(id) = found {
                self.remove(id);
                return found;
            }
        }
        None
    }

    fn remove(&mut self, id: SlotId) {
        self.retain(|other| *other != id);
    }

    fn expire(&mut self) {
        self.retain(|id| !id.0.is_multiple_of(2));
    }

    fn retain(&mut self, stays: impl Fn(&SlotId) -> bool) {
        self.open.iter_mut().for_each(|b| b.ids.retain(&stays));
        self.closed.iter_mut().for_each(|b| b.ids.retain(&stays));
        self.open.retain(|b| !b.ids.is_empty());
        self.closed.retain(|b| !b.ids.is_empty());
    }

    fn waiting(&self) -> usize {
        let open: usize = self.open.iter().map(|b| b.ids.len()).sum();
        open + self.closed.iter().map(|b| b.ids.len()).sum::<usize>()
    }
}

/// The batcher and its model, kept in step.
struct Pair {
    batcher: Batcher,
    model: Model,
    table: SlotTable,
    works: Vec<Work>,
    taken: Vec<Arrived>,
    now: Time,
}

impl Pair {
    fn new() -> Self {
        let limits =
            Limits { batch_max: MAX, batch_wait: WAIT, batch_bytes: BYTES, ..Limits::default() };
        Self {
            batcher: Batcher::new(&limits, SLOTS),
            model: Model::default(),
            table: SlotTable::new(geometry(SLOTS, 1, 64), std::sync::Arc::default(), 1),
            works: vec![work(Operation::Echo, 4); SLOTS as usize],
            taken: Vec::new(),
            now: MS,
        }
    }

    /// What a worker took: the model must have had it, and the worker is through with what it had
    /// before.
    fn took(
        &mut self,
        batch: Option<dataplane_core::batch::Batch>,
        expected: Option<Closed>,
    ) -> Result<(), TestCaseError> {
        let Some(batch) = batch else {
            prop_assert_eq!(expected, None);
            return Ok(());
        };
        let ids = batch.slots.iter().map(Arrived::id).collect();
        let got =
            Closed { shape: batch.shape, priority: batch.priority, ids, reason: batch.reason };
        prop_assert_eq!(Some(got), expected);
        self.taken.drain(..).for_each(|slot| self.table.drop_arrived(slot));
        self.taken = batch.slots;
        Ok(())
    }

    fn retry(&mut self) {
        let works = &self.works;
        let again: Vec<_> =
            self.taken.drain(..).map(|slot| (works[slot.id().0 as usize], slot)).collect();
        let Some((first, _)) = again.first() else { return };
        let ids = again.iter().map(|(_, slot)| slot.id()).collect();
        let reason = CloseReason::Retry;
        let (shape, priority) = (Shape::of(first), Priority::Normal);
        self.model.closed.insert(0, Closed { shape, priority, ids, reason });
        self.batcher.retry(again.into_iter().map(|(work, slot)| (slot, work, priority)));
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Add(operation, len, priority, after) => {
                let work = work(operation, len);
                let Some(slot) = arrived(&mut self.table, work) else { return Ok(()) };
                let deadline = if after == 0 { 0 } else { self.now + after };
                self.works[slot.id().0 as usize] = work;
                self.model.add(self.now, slot.id(), &work, priority, deadline);
                self.batcher.add(self.now, slot, &work, priority, deadline);
            }
            Op::Pass(time) => {
                self.now += time;
                self.model.advance(self.now, false);
                self.batcher.advance(self.now, false);
            }
            Op::Drain => {
                self.model.advance(self.now, true);
                self.batcher.advance(self.now, true);
            }
            Op::Ready(operation) => {
                let batch = self.batcher.pop_ready(|op| op == operation);
                let is = |c: &Closed| self.works[c.ids[0].0 as usize].operation == operation;
                let index = Model::best(&self.model.closed, |c| c.priority, is);
                let expected = index.map(|index| self.model.closed.remove(index));
                self.took(batch, expected)?;
            }
            Op::Idle(operation) => {
                let batch = self.batcher.pop_idle(|op| op == operation);
                let is = |o: &Open| self.works[o.ids[0].0 as usize].operation == operation;
                let index = Model::best(&self.model.open, |o| o.priority, is);
                let expected = index.map(|index| {
                    let Open { shape, priority, ids, .. } = self.model.open.remove(index);
                    Closed { shape, priority, ids, reason: CloseReason::WorkerIdle }
                });
                self.took(batch, expected)?;
            }
            Op::Starved(below) => {
                let even = |id: SlotId| id.0.is_multiple_of(2);
                let batch = self.batcher.pop_starved(below, even);
                let expected = self.model.starved(below);
                self.took(batch, expected)?;
            }
            Op::Displace(below) => {
                let slot = self.batcher.displace(below, |id| id.0.is_multiple_of(2));
                prop_assert_eq!(slot.as_ref().map(Arrived::id), self.model.displace(below));
                slot.into_iter().for_each(|slot| self.table.drop_arrived(slot));
            }
            Op::Remove(id) => {
                self.model.remove(SlotId(id));
                let slot = self.batcher.remove(SlotId(id));
                slot.into_iter().for_each(|slot| self.table.drop_arrived(slot));
            }
            Op::Expire => {
                self.model.expire();
                let table = &mut self.table;
                let even = |id: SlotId| id.0.is_multiple_of(2);
                self.batcher.remove_expired(even, |slot, _| table.drop_arrived(slot));
            }
            Op::Retry => self.retry(),
        }
        prop_assert_eq!(self.batcher.waiting(), self.model.waiting());
        prop_assert_eq!(self.batcher.next_wakeup(), self.model.wakeup());
        let arrived = self.table.ledger().arrived as usize;
        prop_assert_eq!(arrived, self.model.waiting() + self.taken.len(), "a slot was lost");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn batch_03_to_05_the_batcher_does_what_its_model_does(
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut pair = Pair::new();
        for op in ops {
            pair.step(op)?;
        }
    }

    #[test]
    fn batch_06_what_is_lent_again_keeps_its_order_within_each_shape(
        requests in prop::collection::vec((operation(), 4..600u32), 1..SLOTS as usize),
    ) {
        let mut pair = Pair::new();
        let mut expected: Vec<(Shape, SlotId)> = Vec::new();
        let mut again = Vec::new();
        for (operation, len) in requests {
            let work = work(operation, len - len % 4);
            let Some(slot) = arrived(&mut pair.table, work) else { break };
            expected.push((Shape::of(&work), slot.id()));
            again.push((slot, work));
        }
        let again = again.into_iter().map(|(slot, work)| (slot, work, Priority::Normal));
        pair.batcher.retry(again);
        let mut got: Vec<(Shape, SlotId)> = Vec::new();
        while let Some(batch) = pair.batcher.pop_ready(|_| true) {
            prop_assert!(batch.slots.len() <= MAX);
            prop_assert_eq!(batch.reason, CloseReason::Retry);
            got.extend(batch.slots.iter().map(|slot| (batch.shape, slot.id())));
            pair.taken.extend(batch.slots);
        }
        let shapes: Vec<Shape> = expected.iter().map(|(shape, _)| *shape).collect();
        for shape in shapes {
            let of = |list: &[(Shape, SlotId)]| -> Vec<SlotId> {
                list.iter().filter(|(s, _)| *s == shape).map(|(_, id)| *id).collect()
            };
            prop_assert_eq!(of(&got), of(&expected));
        }
    }
}

#[test]
fn batch_05_an_empty_flush_is_nothing() {
    let mut pair = Pair::new();
    pair.batcher.advance(100 * WAIT, true);
    assert!(pair.batcher.pop_ready(|_| true).is_none());
    assert!(pair.batcher.pop_idle(|_| true).is_none());
    assert_eq!(pair.batcher.next_wakeup(), None);
}
