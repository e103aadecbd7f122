//! Where the records of requests are written: at the end of each, from what was noted on its way.

use crate::{
    batch::Batch,
    conn::Terms,
    driver::{ConnId, Time},
    memory::{Memory, SlotId},
    shard::{Cx, Shard},
    slot::Tenant,
    stats::Place,
    trace::{Cause, Note, OfConn, Record, Rings, Step, Tracer, Ways},
};
use std::sync::Arc;
use wire::{
    ErrorCode, HEADER_LEN, Header, Kind, Outcome, Work,
    payload::{self, QueryResponse},
    trace::End,
};

/// What a worker said of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub outcome: &'a Outcome,
    /// Who signed.
    pub signer: u8,
    /// The answer was copied into a chunk.
    pub inline: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Why {
    pub code: ErrorCode,
    pub cause: Cause,
}

impl Why {
    /// The passing of a deadline, where it is that.
    pub(crate) const fn at(code: ErrorCode, place: Place) -> Self {
        let cause = match code {
            ErrorCode::DeadlineExceeded => Cause::Expired(place),
            _ => Cause::Plain,
        };
        Self { code, cause }
    }
}

impl From<ErrorCode> for Why {
    fn from(code: ErrorCode) -> Self {
        Self { code, cause: Cause::Plain }
    }
}

impl Shard {
    /// A shard that writes what became of each request into its rings.
    #[must_use]
    pub fn with_trace(mut self, rings: Arc<Rings>, shard: u16) -> Self {
        let slots = self.geometry.slots();
        let tracer = Tracer::new(rings, shard, slots, self.limits.queue_target);
        self.tracer = Some(Box::new(tracer));
        self
    }

    /// The note of a slot, where notes are taken.
    pub(crate) fn note(&mut self, slot: SlotId) -> Option<&mut Note> {
        self.tracer.as_deref_mut().map(|tracer| tracer.note(slot))
    }

    /// A request has got its slot.
    pub(crate) fn story_begins(
        &mut self,
        now: Time,
        id: ConnId,
        slot: SlotId,
        carried: u32,
        bulk: bool,
    ) {
        let Some(tracer) = self.tracer.as_deref_mut() else { return };
        let Some(conn) = self.conns.open_mut(id) else { return };
        tracer.begin(now, slot, &mut conn.trace, carried);
        if bulk {
            tracer.note(slot).ways.add(Ways::BULK);
        }
    }

    /// It was read.
    pub(crate) fn story_read(&mut self, slot: SlotId, work: &Work, terms: &Terms) {
        let Some(note) = self.note(slot) else { return };
        note.operation = Some(work.operation);
        note.priority = terms.priority;
        (note.query_id, note.attempt) = (terms.query_id, terms.attempt);
    }

    /// It goes on in another slot.
    pub(crate) fn story_moves(&mut self, from: SlotId, to: SlotId, way: Ways) {
        if let Some(tracer) = self.tracer.as_deref_mut() {
            tracer.moved(from, to, way);
        }
    }

    /// A worker gets its batch.
    pub(crate) fn story_lent(&mut self, now: Time, batch: &Batch) {
        let Some(tracer) = self.tracer.as_deref_mut() else { return };
        let requests = batch.slots.len() as u16;
        for slot in &batch.slots {
            let note = tracer.note(slot.id());
            (note.batch, note.closed_by) = (requests, Some(batch.reason));
            if note.lent == 0 {
                note.closed = if batch.closed == 0 { now } else { batch.closed };
                note.lent = now;
            }
        }
    }

    /// Who signed an answer that lies in its slot.
    pub(crate) fn signer<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        slot: SlotId,
        tenant: &Tenant,
        outcome: &Outcome,
    ) -> u8 {
        let Some(tracer) = self.tracer.as_deref_mut() else { return 0 };
        let read = || signature(cx.mem.reply(slot).get(..outcome.reply_len as usize)?);
        tracer.signer(tenant.worker.0, outcome.author, read)
    }

    /// A worker's answer is on its way.
    pub(crate) fn story_answered<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        slot: SlotId,
        tenant: &Tenant,
        told: Told<'_>,
    ) {
        self.story_ends(cx, slot, tenant, End::Answered, None, Some(told));
    }

    /// An admitted request is refused. `told`: by its worker.
    pub(crate) fn story_refused<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        slot: SlotId,
        tenant: &Tenant,
        why: Why,
        told: Option<Told<'_>>,
    ) {
        self.story_ends(cx, slot, tenant, End::Refused, Some(why), told);
    }

    /// Nobody waits for an admitted request any more.
    pub(crate) fn story_gone<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        slot: SlotId,
        tenant: &Tenant,
        told: Option<Told<'_>>,
    ) {
        self.story_ends(cx, slot, tenant, End::Gone, None, told);
    }

    fn story_ends<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        slot: SlotId,
        tenant: &Tenant,
        end: End,
        why: Option<Why>,
        told: Option<Told<'_>>,
    ) {
        let Some(tracer) = self.tracer.as_deref_mut() else { return };
        let note = *tracer.note(slot);
        let mut record = begun(cx, &note);
        after_reading(&mut record, &note, tenant);
        if let Some(told) = told {
            after_work(&mut record, &note, tenant, told, cx.now);
        }
        record.end = end;
        record.refusal = why.map(|why| why.code);
        record.cause = why.map_or(Cause::Plain, |why| why.cause);
        record.steps[Step::Ended as usize] = Some(cx.now.saturating_sub(note.begun));
        let conn = self.conns.open_mut(tenant.conn).filter(|c| c.life == tenant.conn_life);
        let conn = conn.map(|conn| {
            record.identity = conn.who.identity;
            (&mut conn.trace, conn.outbox.bytes)
        });
        tracer.file(note.begun, &record, conn.filter(|_| end != End::Gone));
    }

    /// A request that has its slot is refused before it is admitted, or (`why` is none) has got the
    /// answer to the request that it repeats.
    pub(crate) fn story_stops<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        id: ConnId,
        header: &Header,
        slot: SlotId,
        why: Option<Why>,
    ) {
        let Some(tracer) = self.tracer.as_deref_mut() else { return };
        if header.kind() != Ok(Kind::QueryRequest) {
            return;
        }
        let note = *tracer.note(slot);
        let mut record = begun(cx, &note);
        record.message_id = header.message_id();
        record.steps[Step::Whole as usize] = Some(cx.now.saturating_sub(note.begun));
        record.end = if why.is_some() { End::Refused } else { End::Repeated };
        self.story_stops_at(cx, id, note.begun, record, why);
    }

    /// A frame is refused from its header: its id and length, as far as that has them.
    pub(crate) fn story_turned_away<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        id: ConnId,
        (message_id, carried): (u64, u32),
        why: Why,
    ) {
        if self.tracer.is_none() {
            return;
        }
        let Some(conn) = self.conns.open_mut(id) else { return };
        let OfConn { begun: since, waits, .. } = conn.trace;
        (conn.trace.begun, conn.trace.waits) = Default::default();
        let since = if since == 0 { cx.now } else { since };
        let record = Record {
            message_id,
            at_ns: epoch_at(cx, since),
            carried,
            waits,
            end: End::Refused,
            ..Record::default()
        };
        self.story_stops_at(cx, id, since, record, Some(why));
    }

    fn story_stops_at<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        id: ConnId,
        begun: Time,
        mut record: Record,
        why: Option<Why>,
    ) {
        let Some(tracer) = self.tracer.as_deref_mut() else { return };
        let Some(conn) = self.conns.open_mut(id) else { return };
        record.refusal = why.map(|why| why.code);
        record.cause = why.map_or(Cause::Plain, |why| why.cause);
        record.steps[Step::Ended as usize] = Some(cx.now.saturating_sub(begun));
        (record.identity, record.conn, record.life) = (conn.who.identity, id.0, conn.life as u16);
        tracer.file(begun, &record, Some((&mut conn.trace, conn.outbox.bytes)));
    }
}

/// The wall clock's time of a moment that is past.
fn epoch_at<M>(cx: &Cx<'_, M>, moment: Time) -> u64 {
    cx.epoch_ns.saturating_sub(cx.now.saturating_sub(moment))
}

/// What is known once a request has its slot.
fn begun<M>(cx: &Cx<'_, M>, note: &Note) -> Record {
    let mut record = Record {
        query_id: note.query_id,
        at_ns: epoch_at(cx, note.begun),
        carried: note.carried,
        copied_in: note.copied_in,
        operation: note.operation,
        priority: note.priority,
        attempt: note.attempt,
        waits: note.waits,
        ways: note.ways,
        ..Record::default()
    };
    record.steps[Step::Slot as usize] = Some(note.taken.saturating_sub(note.begun));
    if note.attempt > 0 {
        record.ways.add(Ways::RETRY);
    }
    record
}

/// What is known once it was admitted.
fn after_reading(record: &mut Record, note: &Note, tenant: &Tenant) {
    let mut reach = |step: Step, at: Time| {
        record.steps[step as usize] = Some(at.saturating_sub(note.begun));
    };
    reach(Step::Whole, tenant.arrived);
    if tenant.tries > 0 {
        reach(Step::Closed, note.closed);
        reach(Step::Lent, note.lent);
        reach(Step::LentLast, tenant.lent_at);
        record.worker = Some(tenant.worker.0);
        (record.batch, record.closed_by) = (note.batch, note.closed_by);
    }
    record.message_id = tenant.message_id;
    (record.conn, record.life) = (tenant.conn.0, tenant.conn_life as u16);
    (record.rows, record.payload) = (tenant.work.rows, tenant.payload_len);
    record.tries = tenant.tries as u8;
    record.deadline = (tenant.deadline != 0).then(|| tenant.deadline.saturating_sub(note.begun));
}

/// What is known once a worker has given it back. Its clock is ours, but its word is not.
fn after_work(record: &mut Record, note: &Note, tenant: &Tenant, told: Told<'_>, now: Time) {
    let outcome = told.outcome;
    if outcome.started_ns != 0 {
        let started = outcome.started_ns.clamp(tenant.lent_at.min(now), now);
        record.steps[Step::Started as usize] = Some(started.saturating_sub(note.begun));
        record.compute_ns = Some(outcome.compute_ns.min(now.saturating_sub(started)));
    }
    if outcome.status == 0 {
        record.reply = outcome.reply_len;
    }
    (record.copied_by_worker, record.signer) = (outcome.copied, told.signer);
    if told.inline {
        record.ways.add(Ways::INLINE);
    }
    if tenant.lent_id != tenant.message_id {
        record.ways.add(Ways::TAKEN_OVER);
    }
}

/// Backend and reason of an answer: of its first frame, which is whole and in place.
fn signature(reply: &[u8]) -> Option<(String, String)> {
    let len = Header::peek(reply)?.payload_len() as usize;
    let payload = reply.get(HEADER_LEN..HEADER_LEN + len)?;
    let root = payload::access::<QueryResponse>(payload).ok()?;
    Some((root.metadata.backend.to_string(), root.metadata.backend_reason.to_string()))
}
