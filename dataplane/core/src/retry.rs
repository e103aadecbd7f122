//! Retries (W84): a request that is asked for again while the one before it is under way, or after
//! it was answered, does not run again.

use crate::{
    conn::Terms,
    driver::{ConnId, Time},
    intake::Refused,
    memory::{Memory, SlotId},
    recall::{Owner, Recall, Twin},
    shard::{Cx, Shard},
    slot::Tenant,
    stats::Retry,
};
use std::sync::Arc;
use wire::{ErrorCode, Header, Work};

/// The node's memory, and which of its shards this is.
#[derive(Debug)]
pub(crate) struct Remembers {
    recall: Arc<Recall>,
    shard: u16,
}

/// What to do with a complete request.
enum Known {
    /// It runs.
    Run,
    /// It was answered, or will be by another.
    Settled,
    /// The one before it is under way, or (false) was answered.
    Duplicate(bool),
}

impl Shard {
    /// A shard of a node that knows retries by what all its shards remember.
    #[must_use]
    pub fn with_recall(mut self, recall: Arc<Recall>, shard: u16) -> Self {
        self.memory = Some(Remembers { recall, shard });
        self
    }

    /// The key under which a connection's request is remembered; 0 for not at all.
    pub(crate) fn key(&mut self, id: ConnId, terms: &Terms) -> u64 {
        let Some(conn) = self.conns.get(id) else { return 0 };
        let own = self.memory.as_ref();
        own.map_or(0, |own| own.recall.key(conn.who.identity, &terms.query_id))
    }

    fn remembering(&self, slot: SlotId) -> Option<(&Recall, Owner)> {
        self.memory.as_ref().map(|own| (&*own.recall, Owner { shard: own.shard, slot }))
    }

    /// Whether a sound request runs; false where it is a retry that gets another one's answer.
    pub(crate) fn enter<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        slot: SlotId,
        work: &Work,
        terms: &Terms,
    ) -> Result<bool, Refused> {
        match self.look_back(cx, id, header, slot, terms) {
            Known::Settled => return Ok(false),
            Known::Duplicate(under_way) => {
                return Err(Refused { actual: under_way.into(), ..ErrorCode::Duplicate.into() });
            }
            Known::Run => {}
        }
        let judged = self.judge(cx, work, terms);
        if judged.is_err() {
            let key = self.key(id, terms);
            self.forget(key, slot);
        }
        judged.map(|()| true)
    }

    /// A request in `slot` is complete: whether it is a retry of one that is known.
    fn look_back<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        slot: SlotId,
        terms: &Terms,
    ) -> Known {
        let key = self.key(id, terms);
        if key == 0 || terms.attempt == 0 {
            return Known::Run;
        }
        let Some((recall, owner)) = self.remembering(slot) else { return Known::Run };
        let known = match recall.claim(cx.now, key, owner) {
            None => Known::Run,
            Some(Twin::Answered(answer)) if self.give_kept(cx, id, header, key, answer) => {
                self.stats.retry(Retry::Kept);
                return Known::Settled;
            }
            Some(Twin::Answered(_)) => Known::Duplicate(false),
            Some(Twin::UnderWay(other))
                if self.take_over(cx, id, header, terms.deadline(cx.now), key, other) =>
            {
                self.stats.retry(Retry::TakenOver);
                return Known::Settled;
            }
            Some(Twin::UnderWay(_)) => Known::Duplicate(true),
        };
        let run = matches!(known, Known::Run);
        self.stats.retry(if run { Retry::Run } else { Retry::Duplicate });
        known
    }

    /// Sends the answer that was kept, under the id of the retry.
    fn give_kept<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        key: u64,
        answer: u32,
    ) -> bool {
        let Some(own) = &self.memory else { return false };
        let recall = Arc::clone(&own.recall);
        let sent = recall.kept(key, answer, |bytes| {
            self.append(cx, id, bytes.len(), |out| {
                out.copy_from_slice(bytes);
                address(out, header.message_id());
            })
        });
        sent == Some(true)
    }

    /// Has a request that a worker holds answered to this connection, where nobody else waits for
    /// its answer any more.
    fn take_over<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        id: ConnId,
        header: &Header,
        deadline: Time,
        key: u64,
        other: Owner,
    ) -> bool {
        if self.memory.as_ref().is_none_or(|own| own.shard != other.shard) {
            return false;
        }
        let Some(tenant) = self.slots.tenant(other.slot).copied() else { return false };
        if tenant.key != key || tenant.work.streaming || !self.slots.is_lent(other.slot) {
            return false;
        }
        let waits = self.conns.open_mut(tenant.conn).is_some_and(|c| c.life == tenant.conn_life);
        if waits && !tenant.abandoned {
            return false;
        }
        if !tenant.abandoned {
            self.story_gone(cx, other.slot, &tenant, None);
        }
        let Some(conn) = self.conns.open_mut(id) else { return false };
        conn.inflight += 1;
        let life = conn.life;
        self.slots.take_over(other.slot, id, life, header.message_id(), deadline);
        true
    }

    /// A request of this key runs in this slot. Retries are known since they were looked at.
    pub(crate) fn remember<M: Memory>(&self, cx: &Cx<'_, M>, key: u64, slot: SlotId) {
        if let Some((recall, owner)) = self.remembering(slot).filter(|_| key != 0) {
            recall.enter(cx.now, key, owner);
        }
    }

    /// A request that was looked at is in another slot.
    pub(crate) fn moved(&mut self, id: ConnId, terms: &Terms, from: SlotId, to: SlotId) {
        let key = self.key(id, terms);
        let seats = self.remembering(from).zip(self.remembering(to)).filter(|_| key != 0);
        if let Some(((recall, from), (_, to))) = seats {
            recall.moved(key, from, to);
        }
    }

    /// It came to nothing.
    pub(crate) fn forget(&self, key: u64, slot: SlotId) {
        if let Some((recall, owner)) = self.remembering(slot).filter(|_| key != 0) {
            recall.forget(key, owner);
        }
    }

    /// It was computed, and the answer of so many bytes lies in its slot. `sent` says that somebody
    /// still waits for it: an answer that nobody got counts only where it can be kept.
    pub(crate) fn keep<M: Memory>(
        &self,
        cx: &Cx<'_, M>,
        tenant: &Tenant,
        slot: SlotId,
        len: u32,
        sent: bool,
    ) {
        let Some((recall, owner)) = self.remembering(slot).filter(|_| tenant.key != 0) else {
            return;
        };
        let short = len <= crate::limits::INLINE_REPLY_MAX && !tenant.work.streaming;
        if short {
            let answer = &cx.mem.reply(slot)[..len as usize];
            recall.answered(cx.now, tenant.key, owner, Some(answer));
        } else if sent {
            recall.answered(cx.now, tenant.key, owner, None);
        } else {
            recall.forget(tenant.key, owner);
        }
    }
}

/// Writes another message id into the header of a frame (W2: bytes 8 to 15).
pub(crate) fn address(frame: &mut [u8], message_id: u64) {
    if let Some(place) = frame.get_mut(8..16) {
        place.copy_from_slice(&message_id.to_be_bytes());
    }
}
