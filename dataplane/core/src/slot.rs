//! A request is a slot, and a slot has one owner at a time.
//!
//! ```text
//! Free -> Receiving -> Arrived -> Lent -> Ready -> Sending -> Free
//!             |           ^         |       |
//!             v           +---------+       +-> Free   (a short reply was copied out)
//!            Free       (worker died)
//! ```
//!
//! Each state is a type that cannot be copied; each step consumes the token of the state before.
//! The ledger counts slots by state, and the counts always add up to all slots.

use crate::{
    canary::Canary,
    driver::{ConnId, Time, WorkerId},
    fair::Fair,
    identity::Identities,
    memory::{Geometry, SlotId},
    owned::Owned,
};
use std::sync::Arc;
use wire::{Priority, Work};

macro_rules! token {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq, Eq)]
        #[must_use = "a dropped token is a lost slot"]
        pub struct $name(SlotId);

        impl $name {
            /// The slot's index.
            #[must_use]
            pub const fn id(&self) -> SlotId { self.0 }
        }
    };
}

token!(/** Nobody's. */ Free);
token!(/** A connection's bytes are coming in. */ Receiving);
token!(/** Complete and checked; waits for a worker. */ Arrived);
token!(/** A worker's. */ Lent);
token!(/** Answered by a worker, not yet on its way. */ Ready);
token!(/** The OS reads its reply area. */ Sending);

/// Slots by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Nobody's.
    pub free: u32,
    /// Being filled.
    pub receiving: u32,
    /// Waiting for a worker.
    pub arrived: u32,
    /// With a worker.
    pub lent: u32,
    /// Answered.
    pub ready: u32,
    /// Being sent.
    pub sending: u32,
}

impl Ledger {
    /// All slots.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.free + self.receiving + self.arrived + self.lent + self.ready + self.sending
    }
}

/// What a slot is for while it is not free.
#[derive(Clone, Copy, Debug)]
pub struct Tenant {
    /// Who asked.
    pub conn: ConnId,
    /// Which life of that connection index.
    pub conn_life: u32,
    /// The request's id.
    pub message_id: u64,
    /// Its place among all requests of this shard, in order of arrival.
    pub sequence: u64,
    /// Complete at.
    pub arrived: Time,
    /// Useless after; 0 for never.
    pub deadline: Time,
    /// What to do.
    pub work: Work,
    /// How urgent that is.
    pub priority: Priority,
    /// What it was reckoned to cost when it came in, nanoseconds of a worker.
    pub cost: Time,
    /// Under which key the node remembers it for the sake of retries; 0 for not at all.
    pub key: u64,
    /// Bytes of the (restored) payload.
    pub payload_len: u32,
    /// Counts the slot's lendings, over all tenants: an old answer never fits a new question.
    pub lending: u32,
    /// Lendings of this tenant.
    pub tries: u32,
    /// Who has it, while lent.
    pub worker: WorkerId,
    /// Which of that worker's batches it belongs to.
    pub batch: u8,
    /// Since when, while lent.
    pub lent_at: Time,
    /// With which message id: another one where a retry has taken the answer over since.
    pub lent_id: u64,
    /// Already answered (its deadline passed or it was taken back, while lent): what the worker
    /// says is dropped.
    pub abandoned: bool,
    /// It is no client's, but a probe of the node with this question.
    pub canary: Option<Canary>,
}

/// Whose a slot is while it is not free.
#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    /// The place of its identity.
    place: u32,
    /// Bytes of the request on that identity's account; `None` for not being there.
    charge: Option<u32>,
}

/// All slots of a shard.
#[derive(Debug)]
pub struct SlotTable {
    geometry: Geometry,
    holders: Vec<Holder>,
    identities: Arc<Identities>,
    /// Who holds how many, and who waits for one.
    pub(crate) fair: Fair,
    free_small: Vec<Free>,
    free_bulk: Vec<Free>,
    tenants: Vec<Option<Tenant>>,
    lent: Vec<Option<Lent>>,
    lendings: Vec<u32>,
    owned: Owned,
    ledger: Ledger,
    /// No tenant's deadline is before this.
    deadline_min: Time,
}

impl SlotTable {
    /// All slots free, to be held by these identities on so many connections.
    #[must_use]
    pub fn new(geometry: Geometry, identities: Arc<Identities>, connections: u32) -> Self {
        let slots = geometry.slots();
        let token = |i| Free(SlotId(i));
        Self {
            geometry,
            holders: vec![Holder::default(); slots as usize],
            fair: Fair::new(&geometry, identities.places(), connections),
            identities,
            free_small: (0..geometry.small_slots).rev().map(token).collect(),
            free_bulk: (geometry.small_slots..slots).rev().map(token).collect(),
            tenants: (0..slots).map(|_| None).collect(),
            lent: (0..slots).map(|_| None).collect(),
            lendings: vec![0; slots as usize],
            owned: Owned::new(connections, slots),
            ledger: Ledger { free: slots, ..Ledger::default() },
            deadline_min: Time::MAX,
        }
    }

    /// Counts by state.
    #[must_use]
    pub const fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// Whether a free slot of the class exists.
    #[must_use]
    pub fn has_free(&self, bulk: bool) -> bool {
        !if bulk { &self.free_bulk } else { &self.free_small }.is_empty()
    }

    /// Takes a free slot of the class for the identity at `place`: when it is being `served` in its
    /// turn, or may go past those who wait.
    pub fn receive(&mut self, bulk: bool, place: usize, served: bool) -> Option<Receiving> {
        if !served && !self.fair.may_take(place, bulk) {
            return None;
        }
        let free = if bulk { &mut self.free_bulk } else { &mut self.free_small }.pop()?;
        self.fair.took(place, bulk);
        self.holders[free.0.0 as usize] = Holder { place: place as u32, charge: None };
        self.ledger.free -= 1;
        self.ledger.receiving += 1;
        Some(Receiving(free.0))
    }

    /// The request in this slot is on its identity's account with so many bytes, until the slot is
    /// free again.
    pub fn charge(&mut self, slot: &Receiving, bytes: u32) {
        self.holders[slot.0.0 as usize].charge = Some(bytes);
    }

    /// The request moves from one slot of its identity to another.
    pub fn hand_over(&mut self, from: &Receiving, to: &Receiving) {
        let charge = self.holders[from.0.0 as usize].charge.take();
        self.holders[to.0.0 as usize].charge = charge;
    }

    /// The request is complete.
    pub fn arrive(&mut self, slot: Receiving, tenant: Tenant) -> Arrived {
        self.ledger.receiving -= 1;
        self.ledger.arrived += 1;
        if tenant.deadline != 0 {
            self.deadline_min = self.deadline_min.min(tenant.deadline);
        }
        self.owned.link(tenant.conn, slot.0);
        self.tenants[slot.0.0 as usize] = Some(tenant);
        Arrived(slot.0)
    }

    /// A worker gets it. Returns the number of this lending, which the worker must repeat.
    pub fn lend(&mut self, slot: Arrived, worker: WorkerId, batch: u8) -> u32 {
        let index = slot.0.0 as usize;
        self.ledger.arrived -= 1;
        self.ledger.lent += 1;
        self.lendings[index] = self.lendings[index].wrapping_add(1);
        let lending = self.lendings[index];
        if let Some(tenant) = &mut self.tenants[index] {
            tenant.worker = worker;
            tenant.batch = batch;
            tenant.lending = lending;
            tenant.tries += 1;
        }
        self.lent[index] = Some(Lent(slot.0));
        lending
    }

    /// A worker says that it is done with a slot. `None` unless this worker holds it now.
    pub fn give_back(&mut self, slot: SlotId, worker: WorkerId, lending: u32) -> Option<Ready> {
        let index = slot.0 as usize;
        let tenant = self.tenants.get(index)?.as_ref()?;
        if tenant.worker != worker || tenant.lending != lending {
            return None;
        }
        let lent = self.lent[index].take()?;
        if let Some(tenant) = &mut self.tenants[index] {
            // It is answered: the deadline is nobody's concern while the answer is being sent.
            tenant.deadline = 0;
        }
        self.ledger.lent -= 1;
        self.ledger.ready += 1;
        Some(Ready(lent.0))
    }

    /// What a worker gave back is no answer: the request is to be run again, with the deadline it
    /// had.
    pub fn run_again(&mut self, slot: Ready, deadline: Time) -> Arrived {
        self.ledger.ready -= 1;
        self.ledger.arrived += 1;
        if let Some(tenant) = &mut self.tenants[slot.0.0 as usize] {
            tenant.deadline = deadline;
            if deadline != 0 {
                self.deadline_min = self.deadline_min.min(deadline);
            }
        }
        Arrived(slot.0)
    }

    /// Takes one slot back from a worker that is gone, to be lent again.
    pub fn reclaim(&mut self, slot: SlotId, worker: WorkerId) -> Option<Arrived> {
        let index = slot.0 as usize;
        if self.tenants.get(index)?.as_ref()?.worker != worker {
            return None;
        }
        let lent = self.lent[index].take()?;
        self.ledger.lent -= 1;
        self.ledger.arrived += 1;
        Some(Arrived(lent.0))
    }

    /// The reply is sent from the slot itself.
    pub fn send(&mut self, slot: Ready) -> Sending {
        self.ledger.ready -= 1;
        self.ledger.sending += 1;
        Sending(slot.0)
    }

    /// A request that will not be run after all.
    pub fn drop_received(&mut self, slot: Receiving) {
        self.ledger.receiving -= 1;
        self.free(slot.0);
    }

    /// A refused request.
    pub fn drop_arrived(&mut self, slot: Arrived) {
        self.ledger.arrived -= 1;
        self.free(slot.0);
    }

    /// An answer that was copied out, or has no reader any more.
    pub fn drop_ready(&mut self, slot: Ready) {
        self.ledger.ready -= 1;
        self.free(slot.0);
    }

    /// The OS is done with it.
    pub fn drop_sent(&mut self, slot: Sending) {
        self.ledger.sending -= 1;
        self.free(slot.0);
    }

    fn free(&mut self, slot: SlotId) {
        self.ledger.free += 1;
        if let Some(tenant) = self.tenants[slot.0 as usize].take() {
            self.owned.unlink(tenant.conn, slot);
        }
        let small = self.geometry.is_small(slot);
        let holder = core::mem::take(&mut self.holders[slot.0 as usize]);
        self.fair.freed(holder.place as usize, !small);
        if let Some(bytes) = holder.charge {
            self.identities.give(holder.place as usize, bytes);
        }
        if small { &mut self.free_small } else { &mut self.free_bulk }.push(Free(slot));
    }

    /// Who the slot works for.
    #[must_use]
    pub fn tenant(&self, slot: SlotId) -> Option<&Tenant> {
        self.tenants.get(slot.0 as usize)?.as_ref()
    }

    /// The same, to change.
    pub fn tenant_mut(&mut self, slot: SlotId) -> Option<&mut Tenant> {
        self.tenants.get_mut(slot.0 as usize)?.as_mut()
    }

    /// The slots that work, or worked, for whoever has this place among the connections.
    pub(crate) fn of(&self, conn: ConnId) -> impl Iterator<Item = SlotId> {
        self.owned.of(conn)
    }

    /// The slot works for another connection from now on, which waits for the answer to this id.
    pub(crate) fn take_over(
        &mut self,
        slot: SlotId,
        conn: ConnId,
        life: u32,
        message_id: u64,
        deadline: Time,
    ) {
        let Some(tenant) = &mut self.tenants[slot.0 as usize] else { return };
        self.owned.unlink(tenant.conn, slot);
        self.owned.link(conn, slot);
        (tenant.conn, tenant.conn_life, tenant.message_id) = (conn, life, message_id);
        (tenant.abandoned, tenant.deadline) = (false, deadline);
        if deadline != 0 {
            self.deadline_min = self.deadline_min.min(deadline);
        }
    }

    /// Whether a worker holds the slot.
    #[must_use]
    pub fn is_lent(&self, slot: SlotId) -> bool {
        self.lent.get(slot.0 as usize).is_some_and(Option::is_some)
    }

    /// No deadline lies before this moment.
    #[must_use]
    pub const fn deadline_min(&self) -> Time {
        self.deadline_min
    }

    /// Recomputes the bound over tenants that still wait for an answer.
    pub fn refresh_deadline_min(&mut self) {
        self.deadline_min = self
            .tenants
            .iter()
            .flatten()
            .filter(|t| t.deadline != 0 && !t.abandoned)
            .map(|t| t.deadline)
            .min()
            .unwrap_or(Time::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Dtype, Operation};

    fn geometry() -> Geometry {
        Geometry {
            small_slots: 2,
            small_request: 64,
            small_reply: 64,
            bulk_slots: 1,
            bulk_request: 256,
            bulk_reply: 256,
            chunks: 1,
            chunk_len: 64,
        }
    }

    fn tenant() -> Tenant {
        Tenant {
            conn: ConnId(0),
            conn_life: 0,
            message_id: 1,
            sequence: 0,
            arrived: 0,
            deadline: 0,
            work: Work {
                operation: Operation::Echo,
                dtype: Dtype::U8,
                values: Dtype::F32,
                coding: wire::Coding::Plain,
                source: wire::Source::Inline,
                quality: 0.0,
                streaming: false,
                k: 0,
                rows: 1,
                cols: 1,
                data_offset: 0,
                data_len: 1,
                check: None,
            },
            priority: Priority::Normal,
            cost: 0,
            key: 0,
            payload_len: 16,
            lending: 0,
            tries: 0,
            worker: WorkerId(0),
            batch: 0,
            lent_at: 0,
            lent_id: 0,
            abandoned: false,
            canary: None,
        }
    }

    #[test]
    fn a_slot_goes_round_and_the_ledger_adds_up() {
        let mut table = SlotTable::new(geometry(), Arc::default(), 1);
        let received = table.receive(false, 0, false).expect("a small slot is free");
        let id = received.id();
        let arrived = table.arrive(received, tenant());
        let lending = table.lend(arrived, WorkerId(3), 0);
        assert_eq!(table.ledger().lent, 1);
        let ready = table.give_back(id, WorkerId(3), lending).expect("the worker holds it");
        let sending = table.send(ready);
        table.drop_sent(sending);
        assert_eq!(table.ledger(), Ledger { free: 3, ..Ledger::default() });
    }

    #[test]
    fn only_the_holder_with_the_right_lending_gives_back() {
        let mut table = SlotTable::new(geometry(), Arc::default(), 1);
        let received = table.receive(true, 0, false).expect("a bulk slot is free");
        let id = received.id();
        let arrived = table.arrive(received, tenant());
        let lending = table.lend(arrived, WorkerId(1), 0);
        assert_eq!(table.give_back(id, WorkerId(2), lending), None, "another worker");
        assert_eq!(table.give_back(id, WorkerId(1), lending + 1), None, "another lending");
        assert_eq!(table.give_back(SlotId(99), WorkerId(1), lending), None, "no such slot");
        let ready = table.give_back(id, WorkerId(1), lending).expect("the holder");
        assert_eq!(table.give_back(id, WorkerId(1), lending), None, "twice");
        table.drop_ready(ready);
        assert_eq!(table.ledger().total(), 3);
    }

    #[test]
    fn a_reclaimed_slot_is_lent_under_a_new_number() {
        let mut table = SlotTable::new(geometry(), Arc::default(), 1);
        let received = table.receive(false, 0, false).expect("a small slot is free");
        let id = received.id();
        let arrived = table.arrive(received, tenant());
        let first = table.lend(arrived, WorkerId(0), 0);
        let again = table.reclaim(id, WorkerId(0)).expect("worker 0 held it");
        let second = table.lend(again, WorkerId(1), 0);
        assert_ne!(first, second);
        assert_eq!(table.give_back(id, WorkerId(0), first), None, "the dead worker's answer");
        assert_eq!(table.tenant(id).map(|t| t.tries), Some(2));
    }
}
