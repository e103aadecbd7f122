//! Which worker gets a batch: the workers' states as one shard sees them.

use crate::{
    driver::{Time, WorkerId},
    limits::WORKER_DEPTH,
};
use wire::Operation;

/// A batch that a worker holds; one with nothing left is a free place.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Slots not yet returned.
    left: u32,
    /// Slots it was lent with.
    requests: u32,
    lent: Time,
}

/// A batch that has come back whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Requests of it.
    pub requests: u32,
    /// Since its worker could begin with it; `None` where that had nothing else to do, and the time
    /// says more about waking up than about work.
    pub took: Option<Time>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    up: bool,
    /// Not all of its checks hold: others are preferred.
    ailing: bool,
    operations: u32,
    batches: [Held; WORKER_DEPTH],
    /// When it returned a batch last.
    returned: Time,
}

impl Worker {
    fn held(&self) -> usize {
        self.batches.iter().filter(|batch| batch.left > 0).count()
    }

    const fn serves(&self, operation: Operation) -> bool {
        self.up && self.operations & (1 << operation.code()) != 0
    }
}

/// The workers of this node, as this shard knows them.
#[derive(Debug, Default)]
pub struct Workers {
    workers: Vec<Worker>,
    next: usize,
}

impl Workers {
    /// Room for so many workers.
    #[must_use]
    pub fn new(workers: u16) -> Self {
        Self { workers: vec![Worker::default(); workers as usize], next: 0 }
    }

    /// A worker is ready.
    pub fn up(&mut self, worker: WorkerId, operations: u32) {
        if let Some(w) = self.workers.get_mut(worker.0 as usize) {
            *w = Worker { up: true, operations, ..Worker::default() };
        }
    }

    /// What its supervisor finds of a worker.
    pub fn judge(&mut self, worker: WorkerId, healthy: bool) {
        if let Some(w) = self.workers.get_mut(worker.0 as usize).filter(|w| w.up) {
            w.ailing = !healthy;
        }
    }

    /// Whether this worker is up and serves the operation.
    #[must_use]
    pub fn is_served_by(&self, operation: Operation, worker: WorkerId) -> bool {
        self.workers.get(worker.0 as usize).is_some_and(|w| w.serves(operation))
    }

    /// The workers that may get a batch: the healthy ones with this operation. Where there is none,
    /// the ailing ones go on: degraded beats nothing.
    fn eligible(&self, operation: Operation) -> impl Iterator<Item = &Worker> {
        let sound = self.workers.iter().any(|w| w.serves(operation) && !w.ailing);
        self.workers.iter().filter(move |w| w.serves(operation) && !(sound && w.ailing))
    }

    /// The workers that count: the healthy ones, or all where there is none.
    fn counted(&self) -> impl Iterator<Item = &Worker> {
        let sound = self.workers.iter().any(|w| w.up && !w.ailing);
        self.workers.iter().filter(move |w| w.up && !(sound && w.ailing))
    }

    /// A worker is gone.
    pub fn down(&mut self, worker: WorkerId) {
        if let Some(w) = self.workers.get_mut(worker.0 as usize) {
            *w = Worker::default();
        }
    }

    /// Whether some worker with this operation has nothing to do.
    #[must_use]
    pub fn idle(&self, operation: Operation) -> bool {
        self.eligible(operation).any(|w| w.held() == 0)
    }

    /// Whether some worker has nothing to do, or there is none.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let mut counted = self.counted().peekable();
        counted.peek().is_none() || counted.any(|w| w.held() == 0)
    }

    /// Whether some worker with this operation takes another batch.
    #[must_use]
    pub fn free(&self, operation: Operation) -> bool {
        self.eligible(operation).any(|w| w.held() < WORKER_DEPTH)
    }

    /// The worker with the fewest batches, taking turns among equals; books a batch of `slots`
    /// requests with it. Returns the worker and the batch's number.
    pub fn book(&mut self, now: Time, operation: Operation, slots: u32) -> Option<(WorkerId, u8)> {
        let n = self.workers.len();
        let sound = self.workers.iter().any(|w| w.serves(operation) && !w.ailing);
        let index = (0..n)
            .map(|i| (self.next + i) % n)
            .filter(|i| self.workers[*i].serves(operation))
            .filter(|i| !(sound && self.workers[*i].ailing))
            .filter(|i| self.workers[*i].held() < WORKER_DEPTH)
            .min_by_key(|i| self.workers[*i].held())?;
        let batch = self.workers[index].batches.iter().position(|batch| batch.left == 0)?;
        let held = Held { left: slots, requests: slots, lent: now };
        self.workers[index].batches[batch] = held;
        self.next = (index + 1) % n;
        Some((WorkerId(index as u16), batch as u8))
    }

    /// One request of a batch came back. Says what the batch was when it was the last.
    pub fn returned(&mut self, now: Time, worker: WorkerId, batch: u8) -> Option<Returned> {
        let w = self.workers.get_mut(worker.0 as usize)?;
        let held = w.batches.get_mut(batch as usize)?;
        held.left = held.left.saturating_sub(1);
        if held.left > 0 {
            return None;
        }
        let before = core::mem::replace(&mut w.returned, now);
        let took = (held.lent < before).then(|| now - before);
        Some(Returned { requests: held.requests, took })
    }

    /// What each of the workers that count serves.
    pub fn operations(&self) -> impl Iterator<Item = u32> {
        self.counted().map(|w| w.operations)
    }

    /// Workers that are up.
    #[must_use]
    pub fn count_up(&self) -> usize {
        self.workers.iter().filter(|w| w.up).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u32 = u32::MAX;

    #[test]
    fn the_least_loaded_worker_is_chosen_and_depth_is_kept() {
        let mut workers = Workers::new(2);
        assert!(workers.book(0, Operation::Echo, 1).is_none(), "nobody is up");
        workers.up(WorkerId(0), ALL);
        workers.up(WorkerId(1), ALL);
        let first = workers.book(0, Operation::Echo, 2).expect("two idle workers");
        let second = workers.book(0, Operation::Echo, 1).expect("one idle worker");
        assert_ne!(first.0, second.0, "both get one before either gets two");
        assert!(!workers.idle(Operation::Echo));
        assert!(workers.free(Operation::Echo));
        for _ in 0..2 * (WORKER_DEPTH - 1) {
            assert!(workers.book(0, Operation::Echo, 1).is_some());
        }
        assert!(workers.book(0, Operation::Echo, 1).is_none(), "depth reached");
        assert_eq!(workers.returned(5, first.0, first.1), None, "one of two is back");
        let alone = Returned { requests: 2, took: None };
        assert_eq!(workers.returned(5, first.0, first.1), Some(alone));
        assert!(workers.free(Operation::Echo));
        // The other batch of that worker had waited behind it.
        let behind = Returned { requests: 1, took: Some(3) };
        assert_eq!(workers.returned(8, first.0, 1), Some(behind));
    }

    #[test]
    fn health_05_an_ailing_worker_gets_nothing_while_a_healthy_one_serves() {
        let mut workers = Workers::new(3);
        let topk = 1 << Operation::TopK.code();
        workers.up(WorkerId(0), ALL);
        workers.up(WorkerId(1), ALL);
        workers.up(WorkerId(2), topk);
        workers.judge(WorkerId(0), false);
        for _ in 0..WORKER_DEPTH {
            let booked = workers.book(0, Operation::Echo, 1).map(|(worker, _)| worker);
            assert_eq!(booked, Some(WorkerId(1)));
        }
        assert!(!workers.free(Operation::Echo), "a busy healthy worker is waited for");
        assert!(workers.book(0, Operation::Echo, 1).is_none());
        assert_eq!(workers.operations().count(), 2);
        workers.judge(WorkerId(1), false);
        assert!(workers.idle(Operation::Echo), "where all ail, they go on");
        assert_eq!(workers.book(0, Operation::Echo, 1).map(|it| it.0), Some(WorkerId(0)));
        assert_eq!(workers.book(0, Operation::TopK, 1).map(|it| it.0), Some(WorkerId(2)));
        workers.judge(WorkerId(0), true);
        assert_eq!(workers.book(0, Operation::Echo, 1).map(|it| it.0), Some(WorkerId(0)));
        workers.judge(WorkerId(1), false);
        workers.down(WorkerId(1));
        workers.up(WorkerId(1), ALL);
        assert_eq!(workers.operations().count(), 3, "a successor begins healthy");
    }

    #[test]
    fn operations_are_respected() {
        let mut workers = Workers::new(1);
        workers.up(WorkerId(0), 1 << Operation::TopK.code());
        assert!(!workers.idle(Operation::Int8));
        assert!(workers.idle(Operation::TopK));
        workers.down(WorkerId(0));
        assert!(!workers.idle(Operation::TopK));
    }
}
