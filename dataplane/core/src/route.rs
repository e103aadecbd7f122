//! Which worker gets a batch: the workers' states as one shard sees them.

use crate::{driver::WorkerId, limits::WORKER_DEPTH};
use wire::Operation;

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    up: bool,
    operations: u32,
    /// Slots not yet returned, per batch held.
    batches: [u32; WORKER_DEPTH],
}

impl Worker {
    fn held(&self) -> usize {
        self.batches.iter().filter(|left| **left > 0).count()
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

    /// A worker is gone.
    pub fn down(&mut self, worker: WorkerId) {
        if let Some(w) = self.workers.get_mut(worker.0 as usize) {
            *w = Worker::default();
        }
    }

    /// Whether some worker with this operation has nothing to do.
    #[must_use]
    pub fn idle(&self, operation: Operation) -> bool {
        self.workers.iter().any(|w| w.serves(operation) && w.held() == 0)
    }

    /// Whether some worker with this operation takes another batch.
    #[must_use]
    pub fn free(&self, operation: Operation) -> bool {
        self.workers.iter().any(|w| w.serves(operation) && w.held() < WORKER_DEPTH)
    }

    /// The worker with the fewest batches, taking turns among equals; books a batch of `slots`
    /// requests with it. Returns the worker and the batch's number.
    pub fn book(&mut self, operation: Operation, slots: u32) -> Option<(WorkerId, u8)> {
        let n = self.workers.len();
        let index = (0..n)
            .map(|i| (self.next + i) % n)
            .filter(|i| self.workers[*i].serves(operation))
            .filter(|i| self.workers[*i].held() < WORKER_DEPTH)
            .min_by_key(|i| self.workers[*i].held())?;
        let batch = self.workers[index].batches.iter().position(|left| *left == 0)?;
        self.workers[index].batches[batch] = slots;
        self.next = (index + 1) % n;
        Some((WorkerId(index as u16), batch as u8))
    }

    /// One request of a batch came back. True when it was the last.
    pub fn returned(&mut self, worker: WorkerId, batch: u8) -> bool {
        let Some(w) = self.workers.get_mut(worker.0 as usize) else { return false };
        let Some(left) = w.batches.get_mut(batch as usize) else { return false };
        *left = left.saturating_sub(1);
        *left == 0
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
        assert!(workers.book(Operation::Echo, 1).is_none(), "nobody is up");
        workers.up(WorkerId(0), ALL);
        workers.up(WorkerId(1), ALL);
        let first = workers.book(Operation::Echo, 2).expect("two idle workers");
        let second = workers.book(Operation::Echo, 1).expect("one idle worker");
        assert_ne!(first.0, second.0, "both get one before either gets two");
        assert!(!workers.idle(Operation::Echo));
        assert!(workers.free(Operation::Echo));
        for _ in 0..2 * (WORKER_DEPTH - 1) {
            assert!(workers.book(Operation::Echo, 1).is_some());
        }
        assert!(workers.book(Operation::Echo, 1).is_none(), "depth reached");
        assert!(!workers.returned(first.0, first.1), "one of two is back");
        assert!(workers.returned(first.0, first.1));
        assert!(workers.free(Operation::Echo));
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
