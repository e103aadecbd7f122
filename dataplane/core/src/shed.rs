//! Refusing under load: at the door, or of what waits already, to make room.

use crate::{
    conn::Terms,
    driver::ConnId,
    fair::Need,
    intake::{Begin, Refused},
    memory::{Memory, SlotId},
    shard::{Cx, Shard},
    slot::{Arrived, Tenant},
    stats::Shed,
    story::Why,
    trace::Cause,
    wait::Wait,
};
use wire::{ErrorCode, Header, Priority, Work};

impl Shard {
    /// Lets a request in, if there is a slot for it. Whoever does not read its answers waits, and
    /// so does a burst that meets no free slot; where requests are late already, one that finds no
    /// room is refused while its bytes are at hand.
    pub(crate) fn let_in<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        compressed: bool,
        priority: Priority,
    ) -> Begin {
        let Some(conn) = self.conns.open_mut(id) else { return Begin::Used(0) };
        if conn.outbox.bytes >= self.limits.unsent_per_connection {
            return Begin::Blocked(Wait::Own);
        }
        let begun = if conn.inflight < self.limits.requests_per_connection {
            let bulk = header.payload_len() > self.geometry.small_request;
            if !self.slots.has_free(bulk) {
                self.make_room(cx, bulk, priority);
                // That may have taken the chunk that an answer needs.
                let Some(conn) = self.conns.open_mut(id) else { return Begin::Used(0) };
                if !self.egress.has_room(&conn.outbox, crate::answer::REPORT_MAX) {
                    return Begin::Blocked(Wait::For(Need::Room));
                }
            }
            self.begin_query(cx, id, header, compressed)
        } else {
            Begin::Blocked(Wait::Own)
        };
        let Begin::Blocked(wait) = begun else { return begun };
        if !self.admission.is_late(priority) {
            return Begin::Blocked(wait);
        }
        self.stats.shed(Shed::Slots, priority);
        self.skip(cx, id, header, ErrorCode::Overloaded)
    }

    /// Frees a slot of this class at the expense of what waits: what is late anyway, or what is of
    /// lower priority.
    fn make_room<M: Memory>(&mut self, cx: &mut Cx<'_, M>, bulk: bool, priority: Priority) {
        self.drop_hopeless(cx);
        if self.slots.has_free(bulk) {
            return;
        }
        let geometry = &self.geometry;
        let fits = |slot: SlotId| geometry.is_small(slot) != bulk;
        if let Some(slot) = self.batcher.displace(priority, fits) {
            self.refuse_waiting(cx, slot, Shed::Displaced);
        }
    }

    /// Refuses what waits and cannot be done in time any more. Once in a turn: it looks at all that
    /// waits.
    fn drop_hopeless<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        if self.sifted {
            return;
        }
        self.sifted = true;
        let mut gone = core::mem::take(&mut self.gone);
        let (slots, admission, now) = (&self.slots, &self.admission, cx.now);
        self.batcher.remove_expired(
            |id| slots.tenant(id).is_some_and(|t| admission.is_hopeless(now, t)),
            |slot, open| gone.push((slot, open)),
        );
        for (slot, _) in gone.drain(..) {
            self.refuse_waiting(cx, slot, Shed::Hopeless);
        }
        self.gone = gone;
    }

    /// Refuses whole batches that those of this priority have overtaken for too long.
    pub(crate) fn drop_starved<M: Memory>(&mut self, cx: &mut Cx<'_, M>, below: Priority) {
        loop {
            let (slots, admission, now) = (&self.slots, &self.admission, cx.now);
            let starved =
                |id| slots.tenant(id).is_some_and(|t: &Tenant| admission.is_starved(now, t));
            let Some(mut batch) = self.batcher.pop_starved(below, starved) else { return };
            for slot in batch.slots.drain(..) {
                self.refuse_waiting(cx, slot, Shed::Starved);
            }
            self.batcher.recycle(batch.slots);
        }
    }

    fn refuse_waiting<M: Memory>(&mut self, cx: &mut Cx<'_, M>, slot: Arrived, reason: Shed) {
        if let Some(tenant) = self.slots.tenant(slot.id()) {
            self.stats.shed(reason, tenant.priority);
        }
        let why = Why { code: ErrorCode::Overloaded, cause: Cause::Shed(reason) };
        self.refuse_arrived(cx, slot, why);
    }

    /// Whether a complete request is worth running.
    pub(crate) fn judge<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        work: &Work,
        terms: &Terms,
    ) -> Result<(), Refused> {
        let (now, deadline) = (cx.now, terms.deadline(cx.now));
        let idle = || self.workers.idle(work.operation);
        let judged = self.admission.judge(now, work, terms.priority, deadline, idle);
        judged.map_err(|reason| {
            self.stats.shed(reason, terms.priority);
            Refused { cause: Cause::Shed(reason), ..ErrorCode::Overloaded.into() }
        })
    }
}
