//! Time-outs: peers that are too slow to send a frame, to read their answers, or to go, and those
//! of which nothing has been seen for too long. The table is looked over a part at a time, so that
//! no turn pays for all connections.

use crate::{
    driver::{ConnId, Time},
    limits::{MS, SWEPT_AT_A_TIME},
    memory::Memory,
    shard::{Cx, Shard},
    stats::CloseCause,
};
use wire::{ErrorCode, Header, Kind};

/// How often each connection is looked at.
const SWEEP: Time = 1_000 * MS;

/// How long a connection lingers after a fault, so that the peer can read the report.
const LINGER: Time = 1_000 * MS;

/// How long a connection may outlive its time because there is no chunk to say so with.
const UNTOLD: Time = 5_000 * MS;

impl Shard {
    /// Looks over the part of the connections that is due.
    pub(crate) fn sweep<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        if cx.now < self.next_sweep {
            return;
        }
        let all = self.conns.len();
        let part = all.min(SWEPT_AT_A_TIME);
        self.next_sweep = cx.now + SWEEP * u64::from(part) / u64::from(all);
        for _ in 0..part {
            let id = ConnId(self.swept);
            self.swept = if self.swept + 1 < all { self.swept + 1 } else { 0 };
            self.look_at(cx, id);
            if self.swept == 0 {
                // Once a round, that is once a second.
                self.find_overdue(cx);
            }
        }
    }

    fn look_at<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId) {
        let (limits, now) = (&self.limits, cx.now);
        let Some(conn) = self.conns.open_mut(id) else { return };
        let older = |since: Time, limit: Time| since != 0 && now >= since.saturating_add(limit);
        if older(conn.finished_at, LINGER) {
            let cause = conn.cause;
            self.close(id, cause);
        } else if conn.parting {
            // It has until its report is sent, or the linger is over.
        } else if older(conn.write_since, limits.write_timeout) {
            // It reads nothing, and so would not read why.
            self.close(id, CloseCause::SlowReader);
        } else if older(conn.frame_since, limits.frame_timeout) {
            let due = conn.frame_since.saturating_add(limits.frame_timeout);
            self.part_with(cx, id, CloseCause::SlowSender, due);
        } else if conn.seated && conn.at_boundary() && conn.settled() && !conn.finishing {
            let idle = self.identities.idle(conn.who);
            if idle != 0 && older(conn.active_at, idle) {
                let due = conn.active_at.saturating_add(idle);
                self.part_with(cx, id, CloseCause::Idle, due);
            }
        }
    }

    /// Tells a peer whose time was over at `due` that it was too slow, and closes when that is
    /// sent. The stream is left as it is: the OS may still be filling a slot.
    fn part_with<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        cause: CloseCause,
        due: Time,
    ) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        let whole = conn.head_len as usize == wire::HEADER_LEN;
        let header = Header::peek(&conn.head).filter(|_| whole);
        let (message_id, kind) = header.map_or((0, Kind::ErrorReport), |header| {
            (header.message_id(), header.kind().unwrap_or(Kind::ErrorReport))
        });
        if !self.report(cx, id, message_id, kind, ErrorCode::PeerTooSlow, 0) {
            // Many at once: the next look has chunks again, as a rule.
            if cx.now >= due.saturating_add(UNTOLD) {
                self.close(id, cause);
            }
            return;
        }
        self.story_turned_away(cx, id, (message_id, 0), ErrorCode::PeerTooSlow.into());
        let Some(conn) = self.conns.open_mut(id) else { return };
        conn.parting = true;
        conn.cause = cause;
        conn.finished_at = cx.now;
    }
}
