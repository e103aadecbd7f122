//! A payload that is whole: restored where it was packed, checked once, admitted or refused.

use super::Refused;
use crate::{
    conn::{Intake, Terms},
    driver::ConnId,
    memory::Memory,
    shard::{Cx, Shard},
    slot::Receiving,
    stats::Copy,
    story::Why,
    trace::{Waits, Ways},
};
use wire::{ErrorCode, Header, Kind, Work};

impl Shard {
    /// Restores a compressed payload into the spare slot; plain payloads stay where they are.
    #[allow(clippy::type_complexity, reason = "the error hands both tokens back")]
    pub(super) fn restore<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        header: &Header,
        slot: Receiving,
        spare: Option<Receiving>,
    ) -> Result<(Receiving, u32), (Receiving, Option<Receiving>, ErrorCode)> {
        let (Some(spare), Ok(compression)) = (spare, header.compression()) else {
            return Ok((slot, header.payload_len()));
        };
        let len = header.payload_len() as usize;
        let (from, to) = cx.mem.request_pair(slot.id(), spare.id());
        match wire::pack::restore_into(compression, &from[..len], to) {
            Ok(restored) => {
                self.stats.copy(Copy::Restore, restored as u64);
                self.slots.hand_over(&slot, &spare);
                self.story_moves(slot.id(), spare.id(), Ways::RESTORED);
                self.slots.drop_received(slot);
                self.freed = true;
                Ok((spare, restored as u32))
            }
            Err(_) => Err((slot, Some(spare), ErrorCode::BadCompression)),
        }
    }

    pub(super) fn admit_checked<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        slot: Receiving,
        len: u32,
    ) -> bool {
        let payload = &cx.mem.request(slot.id())[..len as usize];
        let checked = wire::request::work(payload)
            .map(|(request, work)| (work, Terms::of(request)))
            .map_err(Refused::from)
            .and_then(|(work, terms)| self.serves(&work).map(|()| (work, terms)))
            .and_then(|all| self.may_run(id, &all.0).map(|()| all).map_err(Refused::from));
        let entered = checked.and_then(|(work, terms)| {
            self.story_read(slot.id(), &work, &terms);
            let runs = self.enter(cx, id, header, slot.id(), &work, &terms)?;
            Ok(runs.then_some((work, terms)))
        });
        match entered {
            Err(refused) => {
                self.refuse_received(cx, id, header, slot, None, refused);
                self.give_up(id);
            }
            Ok(None) => {
                self.story_stops(cx, id, header, slot.id(), None);
                self.slots.drop_received(slot);
                self.freed = true;
            }
            Ok(Some((work, terms))) => {
                let need = wire::reply::reply_len(&work);
                if need > u64::from(self.geometry.reply_cap(slot.id())) {
                    return self.promote(cx, id, header, slot, work, terms, len);
                }
                self.admit(cx, id, header, slot, work, &terms, len);
            }
        }
        self.next_read(id);
        true
    }

    /// Whether this node runs such work at all.
    pub(super) fn serves(&self, work: &Work) -> Result<(), Refused> {
        if self.limits.operations & (1 << work.operation.code()) == 0 {
            return Err(ErrorCode::NoCapableWorker.into());
        }
        let need = wire::reply::reply_len(work);
        if need > u64::from(self.geometry.bulk_reply) {
            return Err(Refused { actual: need, ..ErrorCode::ReplyTooLong.into() });
        }
        Ok(())
    }

    /// Moves a small request whose reply is large into a bulk slot; waits when none is free.
    #[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename them")]
    pub(crate) fn promote<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        slot: Receiving,
        work: Work,
        terms: Terms,
        len: u32,
    ) -> bool {
        let Some(bulk) = self.slot_for(id, true) else {
            self.keep_header(id, header);
            if let Some(note) = self.note(slot.id()) {
                note.waits.add(Waits::BULK);
            }
            if let Some(conn) = self.conns.open_mut(id) {
                conn.intake = Intake::Promote { slot, work, terms };
            }
            return false;
        };
        let (from, to) = cx.mem.request_pair(slot.id(), bulk.id());
        to[..len as usize].copy_from_slice(&from[..len as usize]);
        self.stats.copy(Copy::Promote, u64::from(len));
        self.moved(id, &terms, slot.id(), bulk.id());
        self.slots.hand_over(&slot, &bulk);
        self.story_moves(slot.id(), bulk.id(), Ways::PROMOTED);
        self.slots.drop_received(slot);
        self.freed = true;
        self.admit(cx, id, header, bulk, work, &terms, len);
        self.next_read(id);
        true
    }

    pub(super) fn refuse_received<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        slot: Receiving,
        spare: Option<Receiving>,
        refused: Refused,
    ) {
        let story = slot.id();
        self.slots.drop_received(slot);
        if let Some(spare) = spare {
            self.slots.drop_received(spare);
        }
        self.freed = true;
        let kind = header.kind().unwrap_or(Kind::QueryRequest);
        let sent = self.report(cx, id, header.message_id(), kind, refused.code, refused.actual);
        if !sent {
            self.defer(id, header.message_id(), refused.code, refused.actual);
        }
        let Refused { code, cause, .. } = refused;
        self.story_stops(cx, id, header, story, Some(Why { code, cause }));
    }
}
