//! Answers: pings, heartbeats, reports, metrics, and the replies that workers wrote.

use crate::{
    conn::Lane,
    driver::ConnId,
    memory::Memory,
    shard::{Cx, Deferred, Order, Shard},
    slot::{Ready, Tenant},
    stats::{CloseCause, Copy},
};
use wire::{ErrorCode, HEADER_LEN, Header, Kind, Outcome, error::Refusal, heartbeat::Pulse};

/// Payload bytes of a heartbeat.
pub(crate) const HEARTBEAT_LEN: usize = wire::heartbeat::FRAME_LEN - HEADER_LEN;

/// Most bytes of an ERROR_REPORT frame.
pub(crate) const REPORT_MAX: u32 = wire::error::FRAME_MAX as u32;

/// A heartbeat's archive where it can be read in place.
#[derive(Debug)]
#[repr(align(16))]
pub(crate) struct AlignedHeartbeat(pub [u8; HEARTBEAT_LEN]);

impl Default for AlignedHeartbeat {
    fn default() -> Self {
        Self([0; HEARTBEAT_LEN])
    }
}

impl Shard {
    /// `len` contiguous bytes at the end of the connection's outbox, filled by `write`, which says
    /// how many of them it used.
    pub(crate) fn append<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> bool {
        let Some(conn) = self.conns.open_mut(id) else { return true };
        let Some((chunk, at)) = self.egress.append(&mut conn.outbox, len as u32) else {
            return false;
        };
        write(&mut cx.mem.chunk_mut(chunk)[at as usize..at as usize + len]);
        self.mark_dirty(cx.now, id);
        true
    }

    /// Answers a ping.
    pub(crate) fn pong<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId, message_id: u64) {
        self.stats.pings.add(1);
        self.stats.frames_small.add(1);
        let epoch = cx.epoch_ns;
        self.append(cx, id, HEADER_LEN, |out| {
            let header =
                Header::new(Kind::Heartbeat, message_id, epoch, 0, wire::check::crc16(&[]));
            out.copy_from_slice(zerocopy::IntoBytes::as_bytes(&header));
        });
    }

    /// Answers a heartbeat with our timestamps in it; takes its lane hint.
    pub(crate) fn heartbeat<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        payload: &[u8],
    ) {
        let message_id = header.message_id();
        if header.checksum() != wire::check::crc16(payload) {
            self.report(cx, id, message_id, Kind::Heartbeat, ErrorCode::BadChecksum, 0);
            return;
        }
        let mut aligned = AlignedHeartbeat::default();
        let payload = if payload.as_ptr().addr().is_multiple_of(wire::PAYLOAD_ALIGN) {
            payload
        } else {
            self.stats.copy(Copy::Realign, HEARTBEAT_LEN as u64);
            aligned.0.copy_from_slice(payload);
            &aligned.0
        };
        let epoch = cx.epoch_ns;
        let Ok(heartbeat) = wire::payload::access::<wire::payload::Heartbeat>(payload) else {
            self.report(cx, id, message_id, Kind::Heartbeat, ErrorCode::BadArchive, 0);
            return;
        };
        let wants_bulk = heartbeat.lane_hint == wire::payload::LANE_BULK;
        let pulse = Pulse {
            sender_id: [0; 16],
            received_ns: epoch,
            replied_ns: epoch,
            current_queries: self.slots.ledger().total() - self.slots.ledger().free,
            max_concurrent: self.geometry.slots(),
            avg_latency_ms: 0.0,
        };
        self.stats.heartbeats.add(1);
        self.append(cx, id, HEADER_LEN + HEARTBEAT_LEN, |out| {
            // The room is exactly as long as the frame.
            let _ = wire::heartbeat::write_reply(out, heartbeat, message_id, &pulse);
        });
        if wants_bulk
            && let Some(conn) = self.conns.open_mut(id)
            && conn.lane == Lane::Stream
            // A stream that stands still anyway cannot be stopped; the hint is not worth waiting
            // for.
            && !conn.paused
        {
            conn.lane = Lane::Stopping;
            self.orders.push_back((id, Order::StopStream));
        }
    }

    /// Queues an ERROR_REPORT. False when no chunk is free.
    pub(crate) fn report<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        message_id: u64,
        kind: Kind,
        code: ErrorCode,
        actual: u64,
    ) -> bool {
        let retry_after = match code {
            ErrorCode::Overloaded => self.admission.retry_after_ms(),
            // Of one that was answered there is nothing to wait for.
            ErrorCode::Duplicate if actual > 0 => self.limits.retry_after_ms,
            code if code.retryable() => self.limits.retry_after_ms,
            _ => 0,
        };
        let limit = match code {
            ErrorCode::PayloadTooLong => u64::from(self.geometry.bulk_request),
            ErrorCode::ReplyTooLong => u64::from(self.geometry.bulk_reply),
            ErrorCode::BadK => u64::from(wire::work::K_MAX),
            ErrorCode::BadShape => u64::from(wire::work::COLS_MAX),
            ErrorCode::TooManyConnections => u64::from(self.limits.connections),
            _ => 0,
        };
        let refusal = Refusal::new(code, kind.code()).over(limit, actual).retry_after(retry_after);
        self.send_report(cx, id, message_id, &refusal)
    }

    /// Queues the ERROR_REPORT of a refusal. False when no chunk is free.
    pub(crate) fn send_report<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        message_id: u64,
        refusal: &Refusal,
    ) -> bool {
        let mut frame = [0; wire::error::FRAME_MAX];
        let len = wire::error::write_frame(&mut frame, message_id, cx.epoch_ns, refusal);
        let sent = self.append(cx, id, len, |out| out.copy_from_slice(&frame[..len]));
        if sent {
            self.stats.refusal(refusal.code);
        }
        sent
    }

    /// Asks a peer to leave for the process that takes new connections now: `draining` about no
    /// message. False when no chunk is free.
    pub(crate) fn notice<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId) -> bool {
        let mut frame = [0; wire::error::FRAME_MAX];
        let notice = Refusal::new(ErrorCode::Draining, 0);
        let len = wire::error::write_frame(&mut frame, 0, cx.epoch_ns, &notice);
        let sent = self.append(cx, id, len, |out| out.copy_from_slice(&frame[..len]));
        if let Some(conn) = self.conns.open_mut(id).filter(|_| sent) {
            conn.asked_to_leave = true;
            self.stats.asked_to_leave.add(1);
        }
        sent
    }

    /// Reports a fault after which the stream cannot be followed, then lets the connection end:
    /// what was admitted is still answered, what still comes is ignored.
    pub(crate) fn fault<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        message_id: u64,
        code: ErrorCode,
        actual: u64,
    ) {
        if !self.report(cx, id, message_id, Kind::ErrorReport, code, actual) {
            self.defer(id, message_id, code, actual);
        }
        self.story_turned_away(cx, id, (message_id, 0), code.into());
        self.hang_up(id, CloseCause::Fault);
    }

    /// Remembers a refusal that found no chunk.
    pub(crate) fn defer(&mut self, id: ConnId, message_id: u64, code: ErrorCode, actual: u64) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        conn.inflight += 1;
        let life = conn.life;
        self.deferred.push_back(Deferred { conn: id, life, message_id, code, actual });
    }

    /// One request fewer under way on this connection.
    pub(crate) fn credit_back(&mut self, id: ConnId, life: u32) {
        let Some(conn) = self.conns.open_mut(id).filter(|c| c.life == life) else { return };
        conn.inflight = conn.inflight.saturating_sub(1);
        self.freed = true;
        self.own_credit(id);
    }

    /// Answers a request for metrics. Building it allocates: it is not on the data path.
    pub(crate) fn metrics<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        message_id: u64,
    ) -> bool {
        let mut update = self.node.metrics_update(cx.now);
        update.taken_ns = cx.epoch_ns;
        let mut frame = Vec::new();
        let made = wire::frame::append(&mut frame, &update, message_id, cx.epoch_ns);
        // What no number of free chunks holds would be waited for without end.
        let most = self.geometry.chunks as usize * self.geometry.chunk_len as usize;
        if made.is_err() || frame.len() > most {
            return self.report(
                cx,
                id,
                message_id,
                Kind::MetricsUpdate,
                ErrorCode::ReplyTooLong,
                0,
            );
        }
        let Some(conn) = self.conns.open_mut(id) else { return true };
        if !self.egress.append_long(cx.mem, &mut conn.outbox, &frame) {
            return false;
        }
        self.stats.frames_small.add(1);
        self.mark_dirty(cx.now, id);
        true
    }

    /// Queues what a worker wrote: short replies by copy (true), long ones from where they lie.
    pub(crate) fn deliver<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        tenant: &Tenant,
        ready: Ready,
        outcome: &Outcome,
    ) -> bool {
        let (id, len) = (tenant.conn, outcome.reply_len);
        if tenant.lent_id != tenant.message_id {
            self.deliver_anew(cx, tenant, ready, len);
            return false;
        }
        self.stats.replies.add(1);
        self.stats.reply_bytes.add(u64::from(len));
        let Some(conn) = self.conns.open_mut(id) else {
            self.slots.drop_ready(ready);
            return false;
        };
        let inline = len <= crate::limits::INLINE_REPLY_MAX;
        let room = if inline { self.egress.append(&mut conn.outbox, len) } else { None };
        match room {
            Some((chunk, at)) => {
                cx.mem.copy_reply(ready.id(), 0, chunk, at, len);
                self.stats.copy(Copy::ReplyInline, u64::from(len));
                self.slots.drop_ready(ready);
                self.freed = true;
            }
            None => {
                let sending = self.slots.send(ready);
                if let Err(sending) = self.egress.append_reply(&mut conn.outbox, sending, 0, len) {
                    // Nodes are as many as chunks and slots together, so there always is one.
                    debug_assert!(false, "out of outbox nodes");
                    self.slots.drop_sent(sending);
                }
            }
        }
        self.mark_dirty(cx.now, id);
        room.is_some()
    }

    /// The same for whoever took a request over: with a header of its own in front of the payload.
    fn deliver_anew<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        tenant: &Tenant,
        ready: Ready,
        len: u32,
    ) {
        let Some(conn) = self.conns.open_mut(tenant.conn) else {
            self.slots.drop_ready(ready);
            return;
        };
        let Some((chunk, at)) = self.egress.append(&mut conn.outbox, HEADER_LEN as u32) else {
            // The next retry finds what was kept, or runs.
            self.slots.drop_ready(ready);
            self.freed = true;
            let (id, message_id) = (tenant.conn, tenant.message_id);
            self.defer(id, message_id, ErrorCode::Duplicate, 1);
            return;
        };
        self.stats.replies.add(1);
        self.stats.reply_bytes.add(u64::from(len));
        cx.mem.copy_reply(ready.id(), 0, chunk, at, HEADER_LEN as u32);
        crate::retry::address(&mut cx.mem.chunk_mut(chunk)[at as usize..], tenant.message_id);
        let (sending, from) = (self.slots.send(ready), HEADER_LEN as u32);
        if let Err(sending) = self.egress.append_reply(&mut conn.outbox, sending, from, len - from)
        {
            debug_assert!(false, "out of outbox nodes");
            self.slots.drop_sent(sending);
        }
        self.mark_dirty(cx.now, tenant.conn);
    }
}
