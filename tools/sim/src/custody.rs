//! Who holds which slot, and the breaches of the seam's rules that were seen.
//!
//! [`crate::memory::SimMemory`] asks it on every access and [`crate::driver::SimDriver`] moves
//! slots between holders, so a shard that touches what it has lent, or lends what it does not own,
//! is caught in the act.

use dataplane_core::{
    driver::{ConnId, WorkerId},
    memory::SlotId,
};
use std::cell::{Cell, RefCell};

/// Who may touch a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The shard.
    Shard,
    /// The OS, which fills its request area.
    Filling(ConnId),
    /// A worker. `written` once it has stated an outcome for this lending.
    Lent {
        /// Which.
        worker: WorkerId,
        /// Whether an outcome of this lending is there.
        written: bool,
    },
    /// The OS, which sends its reply area.
    Sending(ConnId),
}

/// The record of holders and breaches, shared by memory and driver.
#[derive(Debug)]
pub struct Custody {
    holders: Vec<Cell<Holder>>,
    breaches: RefCell<Vec<String>>,
}

impl Custody {
    /// All slots with the shard.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        Self {
            holders: (0..slots).map(|_| Cell::new(Holder::Shard)).collect(),
            breaches: RefCell::default(),
        }
    }

    /// Who holds the slot; `None` for slots that do not exist.
    #[must_use]
    pub fn holder(&self, slot: SlotId) -> Option<Holder> {
        self.holders.get(slot.0 as usize).map(Cell::get)
    }

    /// Hands a slot over, from the shard: anything else is a breach.
    pub fn give(&self, slot: SlotId, to: Holder) {
        self.owned(slot, "hands over");
        self.put(slot, to);
    }

    /// Sets the holder without asking.
    pub fn put(&self, slot: SlotId, holder: Holder) {
        if let Some(cell) = self.holders.get(slot.0 as usize) {
            cell.set(holder);
        }
    }

    /// Takes every slot that `which` points out back to the shard.
    pub fn release(&self, which: impl Fn(Holder) -> bool) {
        for cell in &self.holders {
            if which(cell.get()) {
                cell.set(Holder::Shard);
            }
        }
    }

    /// Slots for which `which` holds.
    #[must_use]
    pub fn slots(&self, which: impl Fn(Holder) -> bool) -> Vec<SlotId> {
        let held = self.holders.iter().enumerate().filter(|(_, cell)| which(cell.get()));
        held.map(|(index, _)| SlotId(index as u32)).collect()
    }

    /// The shard does something that only a slot's owner may do.
    pub fn owned(&self, slot: SlotId, what: &str) {
        match self.holder(slot) {
            Some(Holder::Shard) => {}
            holder => self.breach(format!("the shard {what} {slot:?}, held by {holder:?}")),
        }
    }

    /// Notes a breach of the seam's rules.
    pub fn breach(&self, what: String) {
        self.breaches.borrow_mut().push(what);
    }

    /// The first breach, if there was any.
    #[must_use]
    pub fn first_breach(&self) -> Option<String> {
        self.breaches.borrow().first().cloned()
    }
}
