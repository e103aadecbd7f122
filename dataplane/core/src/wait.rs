//! Waiting: connections that found no slot, no chunk or no credit, and what lets them go on.

use crate::{
    conn::{Intake, Lane, Phase},
    driver::ConnId,
    memory::Memory,
    shard::{Cx, Order, Shard},
};
use wire::Header;

/// What a blocked connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Its own credit: it asked for too much, or reads too little.
    Own,
    /// A slot or a chunk of the shard, first come first served.
    Shared,
}

/// Waiting connections looked at in one turn.
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
        if !conn.waiting {
            conn.waiting = true;
            conn.waits_own = wait == Wait::Own;
            if wait == Wait::Shared {
                self.waiting.push_back(id);
            }
            self.stats.waits.add(1);
        }
    }

    /// A connection that waits for its own credit has some again: it goes first.
    pub(crate) fn own_credit(&mut self, id: ConnId) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        if core::mem::take(&mut conn.waits_own) {
            self.waiting.push_front(id);
        }
    }

    /// Lets those that waited for a slot, a chunk or credit try again, first come first served.
    /// Bounded: those not reached have their turn at the next thing that is freed, and the list
    /// goes round.
    pub(crate) fn retry_waiting<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        for _ in 0..self.waiting.len().min(RETRIES_PER_TURN) {
            let Some(id) = self.waiting.pop_front() else { return };
            let Some(conn) = self.conns.get(id) else { continue };
            conn.waiting = false;
            if conn.phase != Phase::Open {
                continue;
            }
            match core::mem::replace(&mut conn.intake, Intake::Header) {
                Intake::Waiting => {
                    self.handle_bytes(cx, id, &[]);
                }
                Intake::Promote { slot, work, terms } => {
                    let Some(header) = Header::peek(&conn.head).copied() else { continue };
                    let len = header.payload_len();
                    conn.head_len = 0;
                    if !self.promote(cx, id, &header, slot, work, terms, len) {
                        self.wait(id, Wait::Shared);
                    }
                }
                body @ Intake::Body { .. } => {
                    conn.intake = body;
                    if conn.is_blocked() && !self.finish_body(cx, id) {
                        self.wait(id, Wait::Shared);
                    }
                }
                other => conn.intake = other,
            }
            let Some(conn) = self.conns.open_mut(id) else { continue };
            if conn.waiting {
                continue;
            }
            if conn.lane == Lane::Stream && core::mem::take(&mut conn.paused) {
                self.orders.push_back((id, Order::StartStream));
            } else {
                self.after_end_of_stream(id);
            }
        }
    }
}
