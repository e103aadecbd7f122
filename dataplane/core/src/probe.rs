//! Probes: canaries on their way through one worker's rings. A probe takes a small slot and is lent
//! to its worker at once, behind what that already holds; no client, batch or estimate sees it.

use crate::{
    canary::{ANSWER_MAX, Canary, Questions},
    driver::{ConnId, Time, WorkerId},
    memory::{Memory, SlotId},
    shard::{Cx, Shard},
    slot::{Arrived, Ready, Tenant},
};
use std::collections::VecDeque;
use wire::{ErrorCode, Order, Outcome, Priority};

/// The connection of probes: none.
const NOBODY: ConnId = ConnId(u32::MAX);
/// The batch of probes: none that is booked with a worker.
const NO_BATCH: u8 = u8::MAX;
/// Probes that may wait for a slot, over all workers.
const WAITING_MAX: usize = 256;

/// A canary for one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whom to ask.
    pub worker: WorkerId,
    /// What.
    pub canary: Canary,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is exactly right.
    Right,
    /// It is not. A worker that computes wrongly is replaced.
    Wrong,
    /// The worker said that it could not.
    Refused(ErrorCode),
    /// The worker's process ended first, or there was no room to ask.
    Unasked,
}

/// A probe that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Which one.
    pub probe: Probe,
    /// What became of it.
    pub verdict: Verdict,
    /// From when the worker took it up until its answer was seen.
    pub took: Time,
}

/// Probes of one shard.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    questions: Questions,
    waiting: VecDeque<Probe>,
    ended: VecDeque<Probed>,
    sent: u64,
    /// The last one that was lent.
    lent: Option<(WorkerId, [SlotId; 1])>,
}

impl Probes {
    /// Whether some wait to be lent.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The last one that was lent, as a batch.
    pub(crate) fn lent(&self) -> Option<(WorkerId, &[SlotId])> {
        self.lent.as_ref().map(|(worker, slots)| (*worker, slots.as_slice()))
    }

    fn end(&mut self, probe: Probe, verdict: Verdict, took: Time) {
        // Nobody hears the ends of probes that nobody asks for.
        if self.ended.len() < WAITING_MAX {
            self.ended.push_back(Probed { probe, verdict, took });
        }
    }
}

impl Shard {
    /// A worker is to be probed as soon as a slot is free.
    pub(crate) fn probe(&mut self, probe: Probe) {
        if self.draining || self.probes.waiting.len() >= WAITING_MAX {
            self.probes.end(probe, Verdict::Unasked, 0);
        } else {
            self.probes.waiting.push_back(probe);
        }
    }

    /// Lends the next probe, if there is room for one.
    pub(crate) fn lend_probe<M: Memory>(&mut self, cx: &mut Cx<'_, M>) -> bool {
        while let Some(probe) = self.probes.waiting.front().copied() {
            let operation = probe.canary.operation();
            if self.draining || !self.workers.is_served_by(operation, probe.worker) {
                self.probes.waiting.pop_front();
                self.probes.end(probe, Verdict::Unasked, 0);
                continue;
            }
            let Some(slot) = self.ask(cx, probe) else { return false };
            self.probes.waiting.pop_front();
            self.probes.lent = Some((probe.worker, [slot]));
            return true;
        }
        false
    }

    /// Writes a question into a free slot and lends that. `None` where none is free.
    fn ask<M: Memory>(&mut self, cx: &mut Cx<'_, M>, probe: Probe) -> Option<SlotId> {
        let question = self.probes.questions.of(probe.canary)?;
        let (work, len) = (question.work, question.payload.len());
        // In front of those who wait: one slot for a moment, a few times a minute.
        let received = self.slots.receive(false, 0, true)?;
        let id = received.id();
        let Some(place) = cx.mem.request_mut(id).get_mut(..len) else {
            self.slots.drop_received(received);
            return None;
        };
        place.copy_from_slice(&question.payload);
        self.probes.sent += 1;
        let message_id = self.probes.sent;
        let tenant = Tenant {
            conn: NOBODY,
            conn_life: 0,
            message_id,
            sequence: 0,
            arrived: cx.now,
            deadline: 0,
            work,
            priority: Priority::Normal,
            cost: 0,
            key: 0,
            payload_len: len as u32,
            lending: 0,
            tries: 0,
            worker: probe.worker,
            batch: NO_BATCH,
            lent_at: cx.now,
            lent_id: message_id,
            abandoned: false,
            canary: Some(probe.canary),
        };
        let arrived = self.slots.arrive(received, tenant);
        let lending = self.slots.lend(arrived, probe.worker, NO_BATCH);
        let order = Order::new(&work, message_id, len as u32, cx.now, 0, lending);
        cx.mem.set_order(id, &order);
        Some(id)
    }

    /// A worker gave a probe back.
    pub(crate) fn probe_answered<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        slot: Ready,
        tenant: &Tenant,
        canary: Canary,
        outcome: &Outcome,
    ) -> Verdict {
        let verdict = match (outcome.status, ErrorCode::from_code(outcome.status)) {
            (0, _) => {
                let len = (outcome.reply_len as usize).min(ANSWER_MAX);
                let frame = cx.mem.reply(slot.id()).get(..len).unwrap_or_default();
                let right = outcome.frames == 1 && canary.accepts(frame, tenant.message_id);
                if right { Verdict::Right } else { Verdict::Wrong }
            }
            (_, Some(code)) => Verdict::Refused(code),
            (_, None) => Verdict::Wrong,
        };
        // What the worker says of its clock counts as far as it can be true.
        let taken_up = outcome.started_ns.clamp(tenant.lent_at, cx.now.max(tenant.lent_at));
        let probe = Probe { worker: tenant.worker, canary };
        self.probes.end(probe, verdict, cx.now.saturating_sub(taken_up));
        self.slots.drop_ready(slot);
        self.freed = true;
        verdict
    }

    /// A worker is gone with a probe.
    pub(crate) fn probe_lost(&mut self, slot: Arrived, tenant: &Tenant, canary: Canary) {
        self.probes.end(Probe { worker: tenant.worker, canary }, Verdict::Unasked, 0);
        self.slots.drop_arrived(slot);
        self.freed = true;
    }

    /// The next probe that has ended.
    pub fn poll_probed(&mut self) -> Option<Probed> {
        self.probes.ended.pop_front()
    }
}
