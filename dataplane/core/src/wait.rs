//! Waiting: connections that found no slot, no chunk or no credit, and what lets them go on.

use crate::{
    conn::{Intake, Lane, Phase},
    driver::ConnId,
    fair::Need,
    memory::Memory,
    shard::{Cx, Order, Shard},
    trace::Waits,
};
use wire::Header;

/// What a blocked connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Its own credit: it asked for too much, or reads too little.
    Own,
    /// Something of the shard, in its identity's line.
    For(Need),
}

/// Waiting connections looked at in one turn, for each need.
const RETRIES_PER_TURN: usize = 256;

impl Shard {
    /// Puts a connection among those that wait.
    pub(crate) fn wait(&mut self, id: ConnId, wait: Wait) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        if matches!(conn.intake, Intake::Header) {
            conn.intake = Intake::Waiting;
        }
        // From here on it is we who are slow, not the peer.
        conn.frame_since = 0;
        if matches!(conn.intake, Intake::Waiting) {
            conn.trace.waits.add(match wait {
                Wait::Own => Waits::CREDIT,
                Wait::For(Need::Room) => Waits::ROOM,
                Wait::For(Need::Small) => Waits::SMALL,
                Wait::For(Need::Bulk) => Waits::BULK,
            });
        }
        if !conn.waiting {
            conn.waiting = true;
            conn.waits_own = wait == Wait::Own;
            if let Wait::For(need) = wait {
                self.slots.fair.join(id, conn.who.place(), need, false);
            }
            self.stats.waits.add(1);
        }
    }

    /// What a connection waits for whose payload is complete.
    pub(crate) fn waits_for(&mut self, id: ConnId) -> Wait {
        match self.conns.open_mut(id).map(|conn| &conn.intake) {
            Some(Intake::Promote { .. }) => Wait::For(Need::Bulk),
            _ => Wait::For(Need::Room),
        }
    }

    /// A connection that waits for its own credit has some again: it goes first of its identity.
    pub(crate) fn own_credit(&mut self, id: ConnId) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        if core::mem::take(&mut conn.waits_own) {
            self.slots.fair.join(id, conn.who.place(), Need::Room, true);
        }
    }

    /// Lets those that waited for a slot, a chunk or credit try again, in turn. Bounded: those not
    /// reached have their turn at the next thing that is freed.
    pub(crate) fn retry_waiting<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        self.slots.fair.begin_turn();
        for need in Need::ALL {
            for _ in 0..self.slots.fair.waiting(need).min(RETRIES_PER_TURN) {
                if need != Need::Room && !self.slots.has_free(need == Need::Bulk) {
                    break;
                }
                let Some(id) = self.slots.fair.next(need) else { break };
                self.serving = Some(need);
                self.retry(cx, id);
                self.serving = None;
                if let Some(conn) = self.conns.open_mut(id).filter(|conn| !conn.waiting) {
                    self.slots.fair.served(conn.who.place(), need);
                }
            }
        }
        self.freed |= self.slots.fair.holds_back();
    }

    fn retry<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.waiting = false;
        if conn.phase != Phase::Open {
            return;
        }
        match core::mem::replace(&mut conn.intake, Intake::Header) {
            Intake::Waiting => {
                self.handle_bytes(cx, id, &[]);
            }
            Intake::Promote { slot, work, terms } => {
                let Some(header) = Header::peek(&conn.head).copied() else { return };
                let len = header.payload_len();
                conn.head_len = 0;
                if !self.promote(cx, id, &header, slot, work, terms, len) {
                    self.wait(id, Wait::For(Need::Bulk));
                }
            }
            body @ Intake::Body { .. } => {
                conn.intake = body;
                if conn.is_blocked() && !self.finish_body(cx, id) {
                    let wait = self.waits_for(id);
                    self.wait(id, wait);
                }
            }
            other => conn.intake = other,
        }
        let Some(conn) = self.conns.open_mut(id) else { return };
        if conn.waiting {
            return;
        }
        if conn.lane == Lane::Stream && core::mem::take(&mut conn.paused) {
            self.orders.push_back((id, Order::StartStream));
        } else {
            self.after_end_of_stream(id);
        }
    }
}
