//! Handshakes: begun at the listener, bounded in number and time, and over before the shard learns
//! of a connection.

use super::{Begun, Gate, Secure, Stage};
use crate::{UringDriver, events::Told, table::Once};
use dataplane_core::driver::{Driver as _, Time};
use std::sync::Arc;

impl UringDriver {
    /// A peer has connected at a gate.
    pub(crate) fn arrive_at(&mut self, index: u32, gate: Gate) {
        if let Some(place) = self.tls.conns.get_mut(index as usize) {
            *place = Some(Box::new(Secure::new(gate)));
        }
        self.tls.line.push_back(index);
        self.admit();
        self.ring.counters.handshakes_in_line += u64::from(!self.tls.line.is_empty());
    }

    /// Begins the handshakes of those who are first in line, as many as there is room for.
    pub(super) fn admit(&mut self) {
        while self.tls.begun.len() < self.tls.sizes.handshakes as usize {
            let Some(index) = self.tls.line.pop_front() else { return };
            let since = self.now();
            let Some(secure) = self.tls.get(index) else { continue };
            let Stage::InLine(gate) = &secure.stage else { continue };
            match gate.acceptor.handshake() {
                Ok(handshake) => {
                    let identify = Arc::clone(&gate.identify);
                    secure.stage = Stage::Shaking(Box::new(handshake), identify);
                    self.tls.begun.push_back(Begun { index, since });
                    self.arm(index);
                }
                Err(_) => drop(self.drop_handshake(index)),
            }
        }
    }

    /// Ends handshakes that take too long; returns when to look again, if before `until`.
    pub(crate) fn expire_handshakes(&mut self, until: Option<Time>) -> Option<Time> {
        if self.tls.begun.is_empty() {
            return until;
        }
        let now = self.now();
        while let Some(oldest) = self.tls.begun.front().copied() {
            let whole = self.tls.sizes.handshake_ns;
            let patience = if self.tls.line.is_empty() { whole } else { whole / 4 };
            let end = oldest.since + patience;
            if end > now {
                return Some(until.map_or(end, |until| until.min(end)));
            }
            self.ring.counters.handshakes_slow += 1;
            self.close_conn(oldest.index);
        }
        until
    }

    pub(super) fn is_shaking(&mut self, index: u32) -> bool {
        matches!(self.tls.get(index), Some(Secure { stage: Stage::Shaking(..), .. }))
    }

    /// Goes on with a handshake as far as what came allows.
    pub(super) fn shake(&mut self, index: u32) -> Option<Told> {
        let conn = self.table.open(index)?;
        if conn.failed != Once::No {
            return self.drop_handshake(index);
        }
        while let Some(piece) = self.take_piece(index) {
            let Some(Stage::Shaking(handshake, _)) = self.tls.get(index).map(|s| &mut s.stage)
            else {
                return None;
            };
            let read = handshake.read(self.pool.bytes(piece));
            let complete = handshake.is_complete();
            match read {
                Ok(used) => self.keep_rest(index, piece, used as u32),
                Err(_) => {
                    self.pool.give_back(piece.buffer);
                    self.push_handshake(index);
                    return self.drop_handshake(index);
                }
            }
            if complete {
                break;
            }
        }
        self.push_handshake(index);
        let under_way = self.tls.get(index)?.out.is_some();
        let Some(Stage::Shaking(handshake, _)) = self.tls.get(index).map(|s| &s.stage) else {
            return None;
        };
        if handshake.is_complete() {
            // The answer to the last send is here, so that send has ended; the kernel may have yet
            // to say so.
            return if under_way { None } else { self.let_in(index) };
        }
        if self.table.open(index)?.eof != Once::No {
            return self.drop_handshake(index);
        }
        self.rearm(index);
        None
    }

    /// The handshake is complete: finds out who the peer is to the shards.
    fn let_in(&mut self, index: u32) -> Option<Told> {
        let secure = self.tls.get(index)?;
        let Stage::Shaking(handshake, identify) = std::mem::replace(&mut secure.stage, Stage::Over)
        else {
            return None;
        };
        self.has_ended(index);
        let Ok(session) = handshake.finish() else {
            self.ring.counters.handshakes_failed += 1;
            self.close_conn(index);
            return None;
        };
        let Some(who) = identify.identify(session.peer()) else {
            self.ring.counters.identities_refused += 1;
            let secure = self.tls.get(index)?;
            secure.stage = Stage::Open(Box::new(session));
            self.refuse(index);
            return None;
        };
        self.tls.get(index)?.stage = Stage::Open(Box::new(session));
        self.ring.counters.handshakes += 1;
        let conn = self.table.open(index)?;
        conn.who = who;
        conn.known = true;
        Some(Told::Accepted(index))
    }

    /// A handshake is over, one way or the other: the next may begin.
    pub(super) fn has_ended(&mut self, index: u32) {
        let before = self.tls.begun.len();
        self.tls.begun.retain(|begun| begun.index != index);
        if self.tls.begun.len() < before {
            self.admit();
        }
    }

    /// Tells a proven peer that it may not come in, and closes.
    fn refuse(&mut self, index: u32) {
        if let Some(Stage::Open(session)) = self.tls.get(index).map(|s| &mut s.stage) {
            session.refuse();
        }
        self.close_conn(index);
    }

    fn drop_handshake(&mut self, index: u32) -> Option<Told> {
        self.ring.counters.handshakes_failed += 1;
        self.close_conn(index);
        None
    }
}
