//! Dispatch: admitted requests to workers, their answers back, and what happens when time or a
//! worker runs out.

use crate::{
    conn::Terms,
    driver::{ConnId, Time, WorkerId},
    limits::{LENDINGS_MAX, MS},
    memory::{Memory, SlotId},
    probe::Verdict,
    shard::{Cx, Shard},
    slot::{Arrived, Ready, Receiving, Tenant},
    stats::{Copy, Place},
    story::{Told, Why},
    trace::Cause,
};
use wire::{ErrorCode, HEADER_LEN, Header, Kind, Order, Outcome, Work};

impl Shard {
    /// A complete, checked request gets its place in a batch.
    #[allow(clippy::too_many_arguments, reason = "the parts of one request, each of its own type")]
    pub(crate) fn admit<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        slot: Receiving,
        work: Work,
        terms: &Terms,
        payload_len: u32,
    ) {
        let key = self.key(id, terms);
        let Some(conn) = self.conns.open_mut(id) else {
            self.slots.drop_received(slot);
            return;
        };
        conn.inflight += 1;
        let conn_life = conn.life;
        self.stats.request(work.operation);
        self.stats.row_bytes.add(u64::from(work.data_len));
        let deadline = terms.deadline(cx.now);
        self.admitted += 1;
        let tenant = Tenant {
            conn: id,
            conn_life,
            message_id: header.message_id(),
            sequence: self.admitted,
            arrived: cx.now,
            deadline,
            work,
            priority: terms.priority,
            cost: self.admission.cost(&work),
            key,
            payload_len,
            lending: 0,
            tries: 0,
            worker: WorkerId(u16::MAX),
            batch: 0,
            lent_at: 0,
            abandoned: false,
            lent_id: 0,
            canary: None,
        };
        self.remember(cx, key, slot.id());
        self.admission.queue(&tenant);
        let arrived = self.slots.arrive(slot, tenant);
        self.batcher.add(cx.now, arrived, &work, terms.priority, deadline);
    }

    /// The next batch to lend: to whom, and which slots. Closed batches go first; an open one goes
    /// as soon as a worker has nothing to do.
    pub fn poll_lend<M: Memory>(&mut self, cx: &mut Cx<'_, M>) -> Option<(WorkerId, &[SlotId])> {
        if self.probes.is_waiting() && self.lend_probe(cx) {
            return self.probes.lent();
        }
        loop {
            let workers = &self.workers;
            let ready = self.batcher.pop_ready(|op| workers.free(op));
            let Some(batch) = ready.or_else(|| self.batcher.pop_idle(|op| workers.idle(op))) else {
                if self.workers.is_at_rest() {
                    self.admission.rest(cx.now);
                }
                return None;
            };
            self.stats.batch(batch.reason, batch.priority, batch.slots.len());
            let operation = batch.operation();
            self.drop_starved(cx, batch.priority);
            let mut batch = batch;
            self.drop_expired(cx, &mut batch.slots);
            if batch.slots.is_empty() {
                self.batcher.recycle(batch.slots);
                continue;
            }
            let count = batch.slots.len() as u32;
            let Some((worker, number)) = self.workers.book(cx.now, operation, count) else {
                // `free` and `idle` looked a moment ago, so this does not happen; nothing is lost
                // if it does.
                debug_assert!(false, "a worker that was free is not");
                self.batcher.put_back(batch);
                return None;
            };
            self.story_lent(cx.now, &batch);
            let mut slots = batch.slots;
            self.lend_ids.clear();
            let oldest = slots.first().and_then(|slot| self.slots.tenant(slot.id()));
            self.admission.lending(cx.now, oldest.map_or(cx.now, |tenant| tenant.arrived));
            for slot in slots.drain(..) {
                let id = slot.id();
                let lending = self.slots.lend(slot, worker, number);
                if let Some(t) = self.slots.tenant_mut(id) {
                    (t.lent_at, t.lent_id) = (cx.now, t.message_id);
                    self.admission.unqueue(t);
                    self.admission.lend(t);
                    let order = Order::new(
                        &t.work,
                        t.message_id,
                        t.payload_len,
                        t.arrived,
                        t.deadline,
                        lending,
                    );
                    cx.mem.set_order(id, &order);
                }
                self.lend_ids.push(id);
            }
            self.batcher.recycle(slots);
            return Some((worker, &self.lend_ids));
        }
    }

    /// Refuses the expired of a batch that is about to be lent.
    fn drop_expired<M: Memory>(&mut self, cx: &mut Cx<'_, M>, slots: &mut Vec<Arrived>) {
        let mut index = 0;
        while index < slots.len() {
            let id = slots[index].id();
            let late = |t: &Tenant| t.deadline != 0 && cx.now >= t.deadline;
            if self.slots.tenant(id).is_some_and(late) {
                let slot = slots.remove(index);
                let why = Why::at(ErrorCode::DeadlineExceeded, Place::Queue);
                self.refuse_arrived(cx, slot, why);
            } else {
                index += 1;
            }
        }
    }

    /// A worker says that it is done with a slot.
    pub(crate) fn completed<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        worker: WorkerId,
        slot: SlotId,
    ) {
        if slot.0 >= self.geometry.slots() {
            self.lie(cx, worker);
            return;
        }
        let outcome = cx.mem.outcome(slot);
        let deadline = self.slots.tenant(slot).map_or(0, |tenant| tenant.deadline);
        let Some(ready) = self.slots.give_back(slot, worker, outcome.lending) else {
            self.lie(cx, worker);
            return;
        };
        let Some(tenant) = self.slots.tenant(slot).copied() else {
            self.slots.drop_ready(ready);
            return;
        };
        if let Some(canary) = tenant.canary {
            if self.probe_answered(cx, ready, &tenant, canary, &outcome) == Verdict::Wrong {
                self.lie(cx, worker);
            }
            return;
        }
        self.learn(cx.now, worker, &tenant, &outcome);
        let alive = self.conns.open_mut(tenant.conn).is_some_and(|c| c.life == tenant.conn_life);
        let wanted = alive && !tenant.abandoned;
        let reason = ErrorCode::from_code(outcome.status);
        let answered = outcome.status == 0 && self.is_reply(cx, slot, &tenant, &outcome);
        let lied = !answered && reason.is_none();
        // Its order names the deadline of whoever asked first; a retry took it over with its own.
        let early = reason == Some(ErrorCode::DeadlineExceeded)
            && (tenant.deadline == 0 || cx.now < tenant.deadline);
        let again = (lied || early) && wanted && tenant.tries < LENDINGS_MAX;
        if answered {
            self.keep(cx, &tenant, slot, outcome.reply_len, wanted);
        } else if !again {
            self.forget(tenant.key, slot);
        }
        if !wanted {
            if !tenant.abandoned {
                self.stats.orphaned.add(1);
                let told = Told { outcome: &outcome, signer: 0, inline: false };
                self.story_gone(cx, slot, &tenant, Some(told));
            }
            self.slots.drop_ready(ready);
            self.freed = true;
            return;
        }
        if lied {
            self.lie(cx, worker);
        }
        if again {
            self.admission.queue(&tenant);
            let again = self.slots.run_again(ready, deadline);
            self.batcher.retry([(again, tenant.work, tenant.priority)].into_iter());
            return;
        }
        let reason = reason.filter(|_| !early);
        let code = (!answered).then(|| reason.unwrap_or(ErrorCode::WorkerFailed));
        let took = cx.now.saturating_sub(tenant.arrived);
        self.stats.answered(tenant.work.operation, took);
        self.settle(cx, ready, &tenant, &outcome, code);
    }

    /// Sends what a worker wrote, or (a code) says why there is nothing.
    fn settle<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        ready: Ready,
        tenant: &Tenant,
        outcome: &Outcome,
        code: Option<ErrorCode>,
    ) {
        let slot = ready.id();
        match code {
            None => {
                self.stats.rows_out.add(u64::from(tenant.work.rows));
                let signer = self.signer(cx, slot, tenant, outcome);
                let inline = self.deliver(cx, tenant, ready, outcome);
                self.story_answered(cx, slot, tenant, Told { outcome, signer, inline });
                self.credit_back(tenant.conn, tenant.conn_life);
            }
            Some(code) => {
                self.slots.drop_ready(ready);
                self.freed = true;
                if code == ErrorCode::DeadlineExceeded {
                    self.stats.expire(Place::Worker);
                }
                let told = Told { outcome, signer: 0, inline: false };
                self.refuse_tenant(cx, slot, tenant, Why::at(code, Place::Worker), Some(told));
            }
        }
    }

    /// A worker said what cannot be true. Nothing it says is worth much from now on.
    fn lie<M: Memory>(&mut self, cx: &mut Cx<'_, M>, worker: WorkerId) {
        self.stats.link_faults.add(1);
        cx.mem.accuse(worker);
    }

    /// Whether what a worker left can be an answer to this tenant: it lies inside the slot, and its
    /// first frame is a response to this very question. What is in the frame is sealed by the
    /// worker and judged by the reader.
    fn is_reply<M: Memory>(
        &self,
        cx: &Cx<'_, M>,
        slot: SlotId,
        tenant: &Tenant,
        outcome: &Outcome,
    ) -> bool {
        let len = outcome.reply_len;
        if (len as usize) < HEADER_LEN || len > self.geometry.reply_cap(slot) {
            return false;
        }
        let room = len - HEADER_LEN as u32;
        Header::peek(cx.mem.reply(slot)).is_some_and(|header| {
            header.check(room).is_ok()
                && header.kind() == Ok(Kind::QueryResponse)
                && header.message_id() == tenant.lent_id
                && (outcome.frames != 1 || header.payload_len() == room)
        })
    }

    /// Reports workers that keep a request for too long: they may beat their pulse for ever.
    pub(crate) fn find_overdue<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        if self.slots.ledger().lent == 0 {
            return;
        }
        let limit = self.limits.hold_timeout;
        for index in 0..self.geometry.slots() {
            let id = SlotId(index);
            if !self.slots.is_lent(id) {
                continue;
            }
            let Some(tenant) = self.slots.tenant_mut(id) else { continue };
            if cx.now >= tenant.lent_at.saturating_add(limit) {
                // Once per patience: its supervisor needs a moment.
                tenant.lent_at = cx.now;
                self.stats.overdue.add(1);
                cx.mem.accuse(tenant.worker);
            }
        }
    }

    /// Books the return of a request, and takes from it what batches like its own cost.
    fn learn(&mut self, now: Time, worker: WorkerId, tenant: &Tenant, outcome: &Outcome) {
        if outcome.copied > 0 {
            self.stats.copy(Copy::Worker, u64::from(outcome.copied));
        }
        self.admission.unlend(tenant);
        if let Some(batch) = self.workers.returned(now, worker, tenant.batch) {
            self.stats.busy(worker.0 as usize, outcome.compute_ns);
            if outcome.started_ns != 0 {
                self.batcher.learn(now.saturating_sub(outcome.started_ns).min(1_000 * MS));
            }
            if let Some(took) = batch.took {
                self.admission.learn(&tenant.work, batch.requests, took);
            }
        }
    }

    /// Frees the slot of a request that waited, and no worker will see.
    pub(crate) fn drop_waiting(&mut self, slot: Arrived) -> Option<Tenant> {
        let id = slot.id();
        let tenant = self.slots.tenant(id).copied();
        if let Some(tenant) = &tenant {
            self.admission.unqueue(tenant);
            self.forget(tenant.key, id);
        }
        self.slots.drop_arrived(slot);
        self.freed = true;
        tenant
    }

    pub(crate) fn refuse_arrived<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        slot: Arrived,
        why: Why,
    ) {
        let id = slot.id();
        let tenant = self.drop_waiting(slot);
        if let Cause::Expired(place) = why.cause {
            self.stats.expire(place);
        }
        if let Some(tenant) = tenant {
            self.refuse_tenant(cx, id, &tenant, why, None);
        }
    }

    /// Frees the slot of a request that waited, and nobody waits for.
    pub(crate) fn drop_gone<M: Memory>(&mut self, cx: &Cx<'_, M>, slot: Arrived) {
        let id = slot.id();
        let tenant = self.drop_waiting(slot);
        if let Some(tenant) = tenant.filter(|tenant| !tenant.abandoned) {
            self.story_gone(cx, id, &tenant, None);
        }
    }

    /// Reports to whoever asked, if still there, and returns the credit.
    pub(crate) fn refuse_tenant<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        slot: SlotId,
        tenant: &Tenant,
        why: Why,
        told: Option<Told<'_>>,
    ) {
        let (id, life) = (tenant.conn, tenant.conn_life);
        if self.conns.open_mut(id).is_none_or(|c| c.life != life) {
            self.stats.orphaned.add(1);
            self.story_gone(cx, slot, tenant, told);
            return;
        }
        if !self.report(cx, id, tenant.message_id, Kind::QueryRequest, why.code, 0) {
            self.defer(id, tenant.message_id, why.code, 0);
        }
        self.story_refused(cx, slot, tenant, why, told);
        self.credit_back(id, life);
    }

    /// The OS says that a worker is gone: what it held is lent again, or refused when it was tried
    /// too often.
    pub(crate) fn worker_down<M: Memory>(&mut self, cx: &mut Cx<'_, M>, worker: WorkerId) {
        self.workers.down(worker);
        self.admission.workers(self.workers.operations());
        self.stats.workers_up.set(self.workers.count_up() as u64);
        let mut again = Vec::new();
        for index in 0..self.geometry.slots() {
            let Some(slot) = self.slots.reclaim(SlotId(index), worker) else { continue };
            let Some(tenant) = self.slots.tenant(slot.id()).copied() else { continue };
            if let Some(canary) = tenant.canary {
                self.probe_lost(slot, &tenant, canary);
                continue;
            }
            self.stats.reclaimed.add(1);
            self.admission.unlend(&tenant);
            self.admission.queue(&tenant);
            let conn_alive =
                self.conns.open_mut(tenant.conn).is_some_and(|c| c.life == tenant.conn_life);
            if tenant.abandoned || !conn_alive {
                self.drop_gone(cx, slot);
            } else if tenant.tries >= LENDINGS_MAX {
                self.refuse_arrived(cx, slot, ErrorCode::WorkerFailed.into());
            } else {
                again.push((tenant.sequence, slot, tenant.work, tenant.priority));
            }
        }
        again.sort_unstable_by_key(|(sequence, ..)| *sequence);
        let again = again.into_iter().map(|(_, slot, work, priority)| (slot, work, priority));
        self.batcher.retry(again);
    }

    /// Answers every request whose deadline has passed, wherever it is.
    pub(crate) fn expire<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        let now = cx.now;
        let mut gone = core::mem::take(&mut self.gone);
        let slots = &self.slots;
        self.batcher.remove_expired(
            |id| slots.tenant(id).is_some_and(|t| t.deadline != 0 && now >= t.deadline),
            |slot, open| gone.push((slot, open)),
        );
        for (slot, open) in gone.drain(..) {
            let place = if open { Place::Batch } else { Place::Queue };
            self.refuse_arrived(cx, slot, Why::at(ErrorCode::DeadlineExceeded, place));
        }
        self.gone = gone;
        for index in 0..self.geometry.slots() {
            let id = SlotId(index);
            if !self.slots.is_lent(id) {
                continue;
            }
            let Some(tenant) = self.slots.tenant(id) else { continue };
            if tenant.deadline == 0 || now < tenant.deadline || tenant.abandoned {
                continue;
            }
            self.stats.expire(Place::Worker);
            self.abandon(cx, id, ErrorCode::DeadlineExceeded);
        }
        self.slots.refresh_deadline_min();
    }
}
