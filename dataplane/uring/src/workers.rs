//! The worker processes as the driver sees them: a lane each, polled in turn.

use dataplane_core::{driver::WorkerId, memory::SlotId};
use link::{ShardSide, door::Door};
use std::{cell::RefCell, rc::Rc, sync::Arc};

/// The lanes to all workers of a shard, or none.
#[derive(Debug, Default)]
pub struct Workers {
    side: Option<Rc<RefCell<ShardSide>>>,
    /// Those whose process is up: only they are polled.
    live: Vec<WorkerId>,
    /// Where the next poll starts in `live`.
    turn: usize,
}

impl Workers {
    /// For a shard without workers.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    pub(crate) fn new(side: Rc<RefCell<ShardSide>>) -> Self {
        let live = Vec::with_capacity(usize::from(side.borrow().segment().layout().workers));
        Self { side: Some(side), live, turn: 0 }
    }

    /// What workers ring to wake this shard.
    pub(crate) fn door(&self) -> Option<Arc<Door>> {
        self.side.as_ref().map(|side| Arc::clone(side.borrow().door()))
    }

    /// How many there can be.
    pub(crate) fn count(&self) -> u16 {
        self.side.as_ref().map_or(0, |side| side.borrow().segment().layout().workers)
    }

    pub(crate) fn up(&mut self, worker: WorkerId) {
        if !self.live.contains(&worker) {
            self.live.push(worker);
        }
    }

    /// Lends a batch; true where the worker slept and its doorbell was rung.
    pub(crate) fn lend(&mut self, worker: WorkerId, batch: &[SlotId]) -> bool {
        let Some(side) = &self.side else { return false };
        side.borrow_mut().lend(worker.0, batch.iter().map(|slot| slot.0))
    }

    /// The next finished slot, of any worker.
    #[inline]
    pub(crate) fn poll(&mut self) -> Option<(WorkerId, SlotId)> {
        let mut side = self.side.as_ref()?.borrow_mut();
        for _ in 0..self.live.len() {
            let worker = *self.live.get(self.turn)?;
            // A fault is counted in the segment, where the supervisor sees it and ends that
            // process.
            if let Some(Ok(slot)) = side.completion(worker.0) {
                return Some((worker, SlotId(slot)));
            }
            self.turn = if self.turn + 1 < self.live.len() { self.turn + 1 } else { 0 };
        }
        None
    }

    /// The next finished slot of this worker.
    pub(crate) fn poll_one(&mut self, worker: WorkerId) -> Option<SlotId> {
        let mut side = self.side.as_ref()?.borrow_mut();
        side.completion(worker.0)?.ok().map(SlotId)
    }

    /// Takes back what a dead worker holds.
    ///
    /// # Safety
    /// The worker's process does not exist any more.
    pub(crate) unsafe fn reset(&mut self, worker: WorkerId) {
        self.live.retain(|live| *live != worker);
        self.turn = 0;
        if let Some(side) = &self.side {
            // SAFETY: the caller's promise is the one asked for.
            unsafe { side.borrow_mut().reset(worker.0) };
        }
    }

    /// True while some worker has something of this shard's to do.
    pub(crate) fn busy(&self) -> bool {
        self.side.as_ref().is_some_and(|side| side.borrow().out() > 0)
    }

    /// Announces sleep; false where a worker has finished something meanwhile.
    pub(crate) fn park(&self) -> bool {
        self.side.as_ref().is_none_or(|side| side.borrow().park())
    }

    pub(crate) fn unpark(&self) {
        if let Some(side) = &self.side {
            side.borrow().unpark();
        }
    }
}
