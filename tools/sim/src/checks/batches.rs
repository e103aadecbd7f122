//! The judge of batches (BATCH-01..07): it sees which slots were lent when, and to whom, and what
//! the shard knew of the workers then.

use crate::{driver::Learned, memory::SimMemory, plan::Plan, world::LATE_MAX};
use dataplane_core::{
    Stats,
    batch::Shape,
    driver::{Time, WorkerId},
    limits::WORKER_DEPTH,
    memory::SlotId,
    slot::Ledger,
    stats::{Cancel, CloseReason, Place, Shed},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use wire::Order;

/// A batch as it was lent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lent {
    /// When.
    pub at: Time,
    /// To whom.
    pub worker: WorkerId,
    /// Its slots, in order.
    pub slots: Vec<SlotId>,
    /// Their orders.
    pub orders: Vec<Order>,
}

impl Lent {
    /// When its first request was complete.
    #[must_use]
    pub fn opened(&self) -> Time {
        self.orders.iter().map(|order| order.arrived_ns).min().unwrap_or(0)
    }
}

#[derive(Clone, Debug, Default)]
struct Worker {
    operations: u32,
    /// Slots not yet returned, per batch.
    held: Vec<Vec<SlotId>>,
}

/// The judge.
#[derive(Debug)]
pub struct Batches {
    /// Every batch so far, for scenarios to look at; only the last of a long run.
    pub lent: Vec<Lent>,
    max: usize,
    bytes: u64,
    wait: Time,
    operations: u32,
    workers: Vec<Worker>,
    stats: Arc<Stats>,
    counted: [u64; CloseReason::ALL.len()],
    /// Some worker could have taken a batch when the last turn ended.
    was_free: bool,
    last_turn: Time,
    /// A worker died or gave no answer: requests are lent again.
    retries: bool,
    /// Slots that came back from a dead worker and are not lent again yet, or were refused.
    reclaimed: BTreeSet<SlotId>,
    /// What each slot was last lent for.
    asked: BTreeMap<SlotId, u64>,
}

impl Batches {
    pub(super) fn new(plan: &Plan, stats: Arc<Stats>) -> Self {
        Self {
            lent: Vec::new(),
            max: plan.limits.batch_max,
            bytes: plan.limits.batch_bytes,
            wait: plan.limits.batch_wait,
            operations: plan.limits.operations,
            workers: vec![Worker::default(); usize::from(plan.workers)],
            stats,
            counted: [0; CloseReason::ALL.len()],
            was_free: false,
            last_turn: 0,
            retries: false,
            reclaimed: BTreeSet::new(),
            asked: BTreeMap::new(),
        }
    }

    pub(super) fn learned(&mut self, learned: Learned) {
        match learned {
            Learned::Up(worker, operations) => {
                self.workers[worker.0 as usize] = Worker { operations, held: Vec::new() };
            }
            Learned::Down(worker) => {
                let gone = std::mem::take(&mut self.workers[worker.0 as usize]);
                self.reclaimed.extend(gone.held.into_iter().flatten());
                self.retries = true;
            }
            Learned::Returned(worker, slot) => {
                let held = &mut self.workers[worker.0 as usize].held;
                held.iter_mut().for_each(|batch| batch.retain(|s| *s != slot));
                held.retain(|batch| !batch.is_empty());
            }
            Learned::Drain => {}
        }
    }

    pub(super) fn after_turn(
        &mut self,
        now: Time,
        mem: &SimMemory,
        lends: &[(WorkerId, Vec<SlotId>)],
        ledger: Ledger,
        draining: bool,
    ) -> Result<(), String> {
        let mut batches = Vec::new();
        let mut to_idle = 0;
        for (worker, slots) in lends {
            let orders = slots.iter().filter_map(|slot| mem.order(*slot).copied()).collect();
            let batch = Lent { at: now, worker: *worker, slots: slots.clone(), orders };
            to_idle += u64::from(self.workers[worker.0 as usize].held.is_empty());
            self.book(&batch)?;
            self.one(&batch)?;
            batches.push(batch);
        }
        self.reasons(&batches, to_idle, draining)?;
        self.at_the_end_of_a_turn(now, ledger)?;
        self.lent.extend(batches);
        if self.lent.len() > 4_096 {
            self.lent.drain(..2_048);
        }
        Ok(())
    }

    /// Workers that are up take up to their depth.
    fn book(&mut self, batch: &Lent) -> Result<(), String> {
        let worker = &mut self.workers[batch.worker.0 as usize];
        if worker.operations == 0 {
            return Err(format!("{:?} is not up and gets {:?}", batch.worker, batch.slots));
        }
        if worker.held.len() >= WORKER_DEPTH {
            return Err(format!("{:?} holds {:?} and gets more", batch.worker, worker.held));
        }
        worker.held.push(batch.slots.clone());
        Ok(())
    }

    /// What holds for every batch by itself.
    fn one(&mut self, batch: &Lent) -> Result<(), String> {
        if batch.slots.len() > self.max {
            return Err(format!("a batch of {}, the limit is {}", batch.slots.len(), self.max));
        }
        let works = batch.orders.iter().map(Order::work);
        let works: Vec<_> = works.collect::<Result<_, _>>().map_err(|c| format!("order: {c}"))?;
        if works.iter().any(|work| Shape::of(work) != Shape::of(&works[0])) {
            return Err(format!("a batch of different shapes: {works:?}"));
        }
        let but_last = works.len().saturating_sub(1);
        let bytes: u64 = works[..but_last].iter().map(|w| u64::from(w.data_len)).sum();
        if bytes >= self.bytes {
            return Err(format!("a batch grew after {bytes} bytes, the limit is {}", self.bytes));
        }
        for pair in batch.orders.windows(2) {
            let one_client = pair[0].message_id >> 32 == pair[1].message_id >> 32;
            let in_order = pair[0].message_id < pair[1].message_id;
            if pair[0].arrived_ns > pair[1].arrived_ns || (one_client && !in_order) {
                return Err(format!("a batch out of order: {pair:x?}"));
            }
        }
        for order in &batch.orders {
            if order.deadline_ns != 0 && order.deadline_ns <= batch.at {
                return Err(format!("{:x} was lent after its deadline", order.message_id));
            }
        }
        self.in_time(batch)
    }

    /// Never later than opened + wait + one turn, where a worker could have taken it (BATCH-05).
    fn in_time(&mut self, batch: &Lent) -> Result<(), String> {
        let mut again = false;
        for (slot, order) in batch.slots.iter().zip(&batch.orders) {
            again |= self.reclaimed.remove(slot);
            // What came back as no answer is lent again without anybody's death; a retry that took it
            // over gives it another id.
            again |= self.asked.insert(*slot, order.arrived_ns) == Some(order.arrived_ns);
        }
        self.retries |= again;
        let (opened, at, wait) = (batch.opened(), batch.at, self.wait);
        if again || !self.was_free || opened > self.last_turn {
            return Ok(());
        }
        let due = opened + wait;
        if due <= self.last_turn || due + LATE_MAX < at {
            let turn = self.last_turn;
            return Err(format!(
                "a batch opened at {opened} was lent at {at}, wait {wait}, last turn {turn}"
            ));
        }
        Ok(())
    }

    /// Each reason that was counted has a batch it can be true of (BATCH-03, BATCH-04).
    fn reasons(&mut self, batches: &[Lent], to_idle: u64, draining: bool) -> Result<(), String> {
        let reasons = CloseReason::ALL.map(|reason| self.stats.batches(reason));
        let now_counted =
            |reason: CloseReason| reasons[reason as usize] - self.counted[reason as usize];
        let fits = |what: &dyn Fn(&Lent) -> bool| batches.iter().filter(|b| what(b)).count() as u64;
        let bytes = |b: &Lent| {
            let lens = b.orders.iter().filter_map(|o| o.work().ok());
            lens.map(|w| u64::from(w.data_len)).sum::<u64>()
        };
        // Requests may expire between a batch's close and its lending, so full ones need not be
        // full any more.
        let lost = self.stats.expired(Place::Queue)
            + self.stats.sheds(Shed::Hopeless)
            + self.stats.sheds(Shed::Displaced)
            + self.stats.cancels(Cancel::Waiting)
            + self.stats.cancels(Cancel::Closed);
        let old = fits(&|b| b.opened() + self.wait <= b.at);
        let checks = [
            (
                CloseReason::Full,
                if lost > 0 { u64::MAX } else { fits(&|b| b.slots.len() == self.max) },
            ),
            (
                CloseReason::Bytes,
                if lost > 0 { u64::MAX } else { fits(&|b| bytes(b) >= self.bytes) },
            ),
            (CloseReason::WorkerIdle, to_idle + lost),
            (CloseReason::Age, old + lost),
            (CloseReason::Drain, if draining { u64::MAX } else { 0 }),
            (CloseReason::Retry, if self.retries { u64::MAX } else { 0 }),
        ];
        for (reason, possible) in checks {
            let counted = now_counted(reason);
            if counted > possible {
                return Err(format!(
                    "{counted} batches closed by {reason:?}, {possible} can have been"
                ));
            }
        }
        self.counted = reasons;
        Ok(())
    }

    /// While a worker is idle nothing waits (BATCH-02's wait is a limit, not a habit), and while
    /// one has room nothing that is due does.
    fn at_the_end_of_a_turn(&mut self, now: Time, ledger: Ledger) -> Result<(), String> {
        let all = |w: &&Worker| w.operations & self.operations == self.operations;
        let serving: Vec<&Worker> = self.workers.iter().filter(all).collect();
        if ledger.arrived > 0 && serving.iter().any(|w| w.held.is_empty()) {
            return Err(format!("{} requests wait while a worker is idle", ledger.arrived));
        }
        self.was_free = serving.iter().any(|w| w.held.len() < WORKER_DEPTH);
        self.last_turn = now;
        Ok(())
    }
}
