//! Intake: bytes become frames, frames become requests in slots, or a refusal.
//!
//! A frame is looked at where it lies. A ping or heartbeat is answered from there. A request's
//! payload goes into a slot: in the small lane by one copy out of the receive buffer, in the bulk
//! lane by the OS itself.

mod admit;

use crate::{
    cancel::REPORT_PAYLOAD_MAX,
    conn::{Intake, Lane},
    driver::ConnId,
    fair::Need,
    memory::Memory,
    shard::{Cx, Order, Shard, header_payload_len},
    stats::{Copy, Shed},
    story::Why,
    trace::Cause,
    wait::Wait,
};
use wire::{Compression, ErrorCode, HEADER_LEN, Header, Kind, Priority, trace::TRACE_QUERY_MAX};

// The buffer of short frames holds either.
const _: () = assert!(REPORT_PAYLOAD_MAX <= TRACE_QUERY_MAX);

/// What became of a stretch of bytes.
enum Step {
    /// So many were used; go on.
    Used(usize),
    /// So many were used; no more can be until something is freed.
    Blocked(usize, Wait),
}

/// What a header leads to.
pub(crate) enum Begin {
    /// The frame goes on (or is done) with so many bytes of what follows the header.
    Used(usize),
    /// A slot, a chunk or credit is missing.
    Blocked(Wait),
}

/// Why a complete request is not run.
pub(crate) struct Refused {
    pub code: ErrorCode,
    pub actual: u64,
    pub cause: Cause,
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self { code, actual: 0, cause: Cause::Plain }
    }
}

impl Shard {
    /// Takes in bytes of a stream or of an ordered header; returns how many were used. Fewer than
    /// offered means that the connection waits for room: the driver keeps the rest.
    pub fn handle_bytes<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        bytes: &[u8],
    ) -> usize {
        let mut at = 0;
        let blocked = loop {
            match self.step(cx, id, &bytes[at..]) {
                // Where nothing was used, a step may still have been taken, with bytes that were
                // there before.
                Step::Used(0) if at == bytes.len() => break None,
                Step::Used(n) => at += n,
                Step::Blocked(n, wait) => {
                    at += n;
                    break Some(wait);
                }
            }
        };
        self.stats.bytes_in.add(at as u64);
        if let Some(conn) = self.conns.open_mut(id).filter(|_| at > 0) {
            conn.active_at = cx.now;
        }
        if let Some(wait) = blocked {
            if at < bytes.len()
                && let Some(conn) = self.conns.open_mut(id)
            {
                conn.paused = true;
            }
            self.wait(id, wait);
        } else if let Some(conn) = self.conns.open_mut(id) {
            let partial = !conn.at_boundary() && !matches!(conn.intake, Intake::Discard);
            if !partial {
                conn.frame_since = 0;
            } else if conn.frame_since == 0 {
                conn.frame_since = cx.now;
            }
        }
        at
    }

    fn step<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId, bytes: &[u8]) -> Step {
        // Bytes of a connection that is being closed are of no interest.
        let Some(conn) = self.conns.open_mut(id) else { return Step::Used(bytes.len()) };
        match &mut conn.intake {
            Intake::Header => {
                let (header, used) = if conn.head_len == 0 && bytes.len() >= HEADER_LEN {
                    let Some(header) = Header::peek(bytes) else { return Step::Used(0) };
                    (*header, HEADER_LEN)
                } else {
                    let have = conn.head_len as usize;
                    let take = bytes.len().min(HEADER_LEN - have);
                    conn.head[have..have + take].copy_from_slice(&bytes[..take]);
                    conn.head_len += take as u8;
                    if (conn.head_len as usize) < HEADER_LEN {
                        return Step::Used(take);
                    }
                    let Some(header) = Header::peek(&conn.head) else { return Step::Used(0) };
                    (*header, take)
                };
                // Where nothing was used, the same header has waited.
                conn.passed &= used == 0;
                match self.begin(cx, id, &header, &bytes[used..]) {
                    Begin::Used(more) => Step::Used(used + more),
                    Begin::Blocked(wait) => {
                        self.keep_header(id, &header);
                        Step::Blocked(used, wait)
                    }
                }
            }
            Intake::Skip { left } => {
                let take = bytes.len().min(*left as usize);
                *left -= take as u32;
                if *left == 0 {
                    conn.intake = Intake::Header;
                    conn.frame_since = 0;
                }
                Step::Used(take)
            }
            Intake::Body { slot, at, .. } => {
                let total = header_payload_len(&conn.head);
                let (slot, from) = (slot.id(), *at as usize);
                let take = bytes.len().min(total as usize - from);
                if take > 0 {
                    cx.mem.request_mut(slot)[from..from + take].copy_from_slice(&bytes[..take]);
                    *at += take as u32;
                }
                self.body_grew(cx, id, take)
            }
            Intake::Waiting | Intake::Promote { .. } => Step::Blocked(0, self.waits_for(id)),
            Intake::Discard => Step::Used(bytes.len()),
        }
    }

    /// After `take` bytes were copied into the body's slot.
    fn body_grew<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId, take: usize) -> Step {
        let Some(conn) = self.conns.open_mut(id) else { return Step::Used(take) };
        let Intake::Body { slot, at, .. } = &conn.intake else { return Step::Used(take) };
        let total = header_payload_len(&conn.head);
        let bulk = total > self.geometry.small_request;
        let done = *at == total;
        if take > 0 {
            let slot = slot.id();
            self.stats.copy(if bulk { Copy::LaneSwitch } else { Copy::SmallLane }, take as u64);
            if let Some(tracer) = self.tracer.as_deref_mut() {
                tracer.note(slot).copied_in += take as u32;
            }
        }
        if done {
            self.stats.frames_small.add(u64::from(take > 0));
            return if self.finish_body(cx, id) {
                Step::Used(take)
            } else {
                Step::Blocked(take, self.waits_for(id))
            };
        }
        if conn.lane == Lane::Stream && bulk {
            conn.lane = Lane::Stopping;
            self.orders.push_back((id, Order::StopStream));
        }
        Step::Used(take)
    }

    /// The bulk lane filled what was ordered.
    pub(crate) fn filled<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        let total = header_payload_len(&conn.head);
        let Intake::Body { at, .. } = &mut conn.intake else { return };
        self.stats.bytes_in.add(u64::from(total - *at));
        *at = total;
        conn.frame_since = 0;
        conn.active_at = cx.now;
        if total > self.geometry.small_request {
            conn.small_run = 0;
        } else {
            conn.small_run = conn.small_run.saturating_add(1);
        }
        self.stats.frames_bulk.add(1);
        if !self.finish_body(cx, id) {
            let wait = self.waits_for(id);
            self.wait(id, wait);
        }
    }

    /// Decides what a complete header leads to. The header is not stored yet.
    fn begin<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        rest: &[u8],
    ) -> Begin {
        let Some(conn) = self.conns.open_mut(id) else { return Begin::Used(rest.len()) };
        // Whoever does not read its answers gets no more of them.
        if conn.outbox.bytes >= self.limits.unsent_per_connection {
            return Begin::Blocked(Wait::Own);
        }
        // Every way on from here may have to answer at once.
        if !self.egress.has_room(&conn.outbox, crate::answer::REPORT_MAX) {
            return Begin::Blocked(Wait::For(Need::Room));
        }
        if let Err(fault) = header.check(self.geometry.bulk_request) {
            let actual = match fault.code {
                ErrorCode::PayloadTooLong => u64::from(header.payload_len()),
                _ => 0,
            };
            self.fault(cx, id, header.message_id(), fault.code, actual);
            return Begin::Used(rest.len());
        }
        let kinds = header.kind().and_then(|k| header.compression().map(|c| (k, c)));
        let (kind, compression) = match kinds {
            Ok(pair) => pair,
            Err(fault) => return self.skip(cx, id, header, fault.code),
        };
        if let Some(refused) = self.gate(cx, id, header, kind) {
            return refused;
        }
        if header.payload_len() == 0 && header.checksum() != wire::check::crc16(&[]) {
            return self.skip(cx, id, header, ErrorCode::BadChecksum);
        }
        self.begin_kind(cx, id, header, kind, compression, rest)
    }

    /// The ways of the message types, once the header is sound.
    fn begin_kind<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        kind: Kind,
        compression: Compression,
        rest: &[u8],
    ) -> Begin {
        match (kind, header.payload_len()) {
            (Kind::Heartbeat, 0) => {
                self.head_done(id);
                self.pong(cx, id, header.message_id());
                Begin::Used(0)
            }
            (Kind::Heartbeat, len) if len as usize == crate::answer::HEARTBEAT_LEN => {
                if compression != Compression::None {
                    return self.skip(cx, id, header, ErrorCode::BadCompression);
                }
                match rest.get(..len as usize) {
                    Some(payload) => {
                        self.head_done(id);
                        self.stats.frames_small.add(1);
                        self.heartbeat(cx, id, header, payload);
                        Begin::Used(len as usize)
                    }
                    None => self.begin_body(id, header, false, false),
                }
            }
            (Kind::MetricsUpdate, 0) => {
                if !self.metrics(cx, id, header.message_id()) {
                    return Begin::Blocked(Wait::For(Need::Room));
                }
                self.head_done(id);
                Begin::Used(0)
            }
            (Kind::Heartbeat, _) | (Kind::QueryRequest, 0) => {
                self.skip(cx, id, header, ErrorCode::BadArchive)
            }
            (Kind::QueryRequest, len) => {
                if self.draining {
                    return self.skip(cx, id, header, ErrorCode::Draining);
                }
                let compressed = compression != Compression::None;
                let whole = rest.get(..len as usize).filter(|_| !compressed);
                let priority = whole.map_or(Priority::Normal, wire::request::priority);
                self.let_in(cx, id, header, compressed, priority)
            }
            (Kind::ErrorReport, len) if (1..=REPORT_PAYLOAD_MAX).contains(&(len as usize)) => {
                self.begin_short(cx, id, header, compression, rest)
            }
            (Kind::TraceQuery, len) if self.tracer.is_some() => match len as usize {
                0 => self.skip(cx, id, header, ErrorCode::BadArchive),
                1..=TRACE_QUERY_MAX => self.begin_short(cx, id, header, compression, rest),
                _ => self.skip(cx, id, header, ErrorCode::BadRequest),
            },
            (mesh, _) if mesh.is_mesh() && self.serves_mesh() => {
                self.begin_mesh(cx, id, header, mesh, compression, rest)
            }
            _ => self.skip(cx, id, header, ErrorCode::UnservedType),
        }
    }

    /// The way of short frames that are no requests: where they lie, or through a slot.
    fn begin_short<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        compression: Compression,
        rest: &[u8],
    ) -> Begin {
        if compression != Compression::None {
            return self.skip(cx, id, header, ErrorCode::BadCompression);
        }
        let len = header.payload_len();
        match rest.get(..len as usize) {
            Some(payload) => {
                self.head_done(id);
                self.stats.frames_small.add(1);
                self.short(cx, id, header, payload);
                Begin::Used(len as usize)
            }
            None => self.begin_body(id, header, len > self.geometry.small_request, false),
        }
    }

    /// Such a frame is complete.
    fn short<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        payload: &[u8],
    ) {
        match header.kind() {
            Ok(Kind::TraceQuery) => self.asked_why(cx, id, header, payload),
            _ => self.reported(cx, id, header, payload),
        }
    }

    /// Takes slots for a payload: one for the bytes as carried, one more to restore them into.
    pub(crate) fn begin_body(
        &mut self,
        id: ConnId,
        header: &Header,
        bulk: bool,
        compressed: bool,
    ) -> Begin {
        let Some(slot) = self.slot_for(id, bulk) else {
            return Begin::Blocked(Wait::For(Need::slot(bulk)));
        };
        let spare = if compressed { self.slot_for(id, true) } else { None };
        if compressed && spare.is_none() {
            self.slots.drop_received(slot);
            return Begin::Blocked(Wait::For(Need::Bulk));
        }
        self.keep_header(id, header);
        let Some(conn) = self.conns.open_mut(id) else { return Begin::Used(0) };
        conn.intake = Intake::Body { slot, spare, at: 0 };
        if conn.lane == Lane::Direct {
            let slot = match &conn.intake {
                Intake::Body { slot, .. } => slot.id(),
                _ => return Begin::Used(0),
            };
            let len = header.payload_len();
            self.orders.push_back((id, Order::FillSlot { slot, from: 0, len }));
        }
        Begin::Used(0)
    }

    /// Reports a fault of one frame and ignores its payload; the connection lives.
    pub(crate) fn skip<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        code: ErrorCode,
    ) -> Begin {
        let kind = Kind::from_code(header.raw_kind()).unwrap_or(Kind::ErrorReport);
        let actual = match code {
            ErrorCode::UnknownType | ErrorCode::UnservedType => u64::from(header.raw_kind()),
            _ => 0,
        };
        self.report(cx, id, header.message_id(), kind, code, actual);
        // From a header alone nothing but a lack of slots is too much load.
        let cause = match code {
            ErrorCode::Overloaded => Cause::Shed(Shed::Slots),
            _ => Cause::Plain,
        };
        let frame = (header.message_id(), header.payload_len());
        self.story_turned_away(cx, id, frame, Why { code, cause });
        self.skip_payload(id, header)
    }

    /// Ignores the payload of a frame that is answered already.
    pub(crate) fn skip_payload(&mut self, id: ConnId, header: &Header) -> Begin {
        self.stats.frames_small.add(1);
        let Some(conn) = self.conns.open_mut(id) else { return Begin::Used(0) };
        conn.head_len = 0;
        conn.frame_since = 0;
        if header.payload_len() == 0 {
            self.next_read(id);
            return Begin::Used(0);
        }
        conn.intake = Intake::Skip { left: header.payload_len() };
        if conn.lane == Lane::Direct {
            conn.lane = Lane::Stream;
            self.stats.to_small.add(1);
            self.orders.push_back((id, Order::StartStream));
        }
        Begin::Used(0)
    }

    fn keep_header(&mut self, id: ConnId, header: &Header) {
        if let Some(conn) = self.conns.open_mut(id) {
            conn.head.copy_from_slice(zerocopy_bytes(header));
            conn.head_len = HEADER_LEN as u8;
        }
    }

    /// A frame is answered from its header (and what lay behind it): on to the next.
    pub(crate) fn head_done(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.open_mut(id) {
            conn.head_len = 0;
            conn.frame_since = 0;
            if conn.lane == Lane::Direct {
                self.next_read(id);
            }
        }
    }

    /// In the bulk lane, orders the next header, or leaves the lane after a run of small frames.
    fn next_read(&mut self, id: ConnId) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        if conn.lane != Lane::Direct || !matches!(conn.intake, Intake::Header) {
            return;
        }
        if conn.small_run >= crate::limits::SMALL_RUN {
            conn.lane = Lane::Stream;
            conn.small_run = 0;
            self.stats.to_small.add(1);
            self.orders.push_back((id, Order::StartStream));
        } else {
            let len = HEADER_LEN as u32;
            self.orders.push_back((id, Order::FillHeader { len }));
        }
    }

    /// A payload is complete in its slot. False when it has to wait for a chunk or a bulk slot.
    pub(crate) fn finish_body<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId) -> bool {
        let Some(conn) = self.conns.open_mut(id) else { return true };
        let Some(header) = Header::peek(&conn.head).copied() else { return true };
        let mesh = header.kind().ok().filter(|kind| kind.is_mesh());
        // Whatever may be refused or answered at once is so now or later, but it is.
        if mesh.is_none() && !self.egress.has_room(&conn.outbox, crate::answer::REPORT_MAX) {
            return false;
        }
        if mesh.is_some_and(|kind| !self.can_pass(id, &header, kind)) {
            return false;
        }
        let Some(conn) = self.conns.open_mut(id) else { return true };
        let (slot, spare) = match core::mem::replace(&mut conn.intake, Intake::Header) {
            Intake::Body { slot, spare, .. } => (slot, spare),
            other => {
                conn.intake = other;
                return true;
            }
        };
        conn.head_len = 0;
        conn.frame_since = 0;
        let len = header.payload_len() as usize;
        if header.checksum() != wire::check::crc16(&cx.mem.request(slot.id())[..len]) {
            self.refuse_received(cx, id, &header, slot, spare, ErrorCode::BadChecksum.into());
        } else if header.kind() == Ok(Kind::Heartbeat) {
            let mut payload = crate::answer::AlignedHeartbeat::default();
            payload.0.copy_from_slice(&cx.mem.request(slot.id())[..len]);
            self.slots.drop_received(slot);
            self.freed = true;
            self.heartbeat(cx, id, &header, &payload.0);
        } else if matches!(header.kind(), Ok(Kind::ErrorReport | Kind::TraceQuery)) {
            let mut payload = [0; TRACE_QUERY_MAX];
            let payload = &mut payload[..len.min(TRACE_QUERY_MAX)];
            payload.copy_from_slice(&cx.mem.request(slot.id())[..payload.len()]);
            self.slots.drop_received(slot);
            self.freed = true;
            self.short(cx, id, &header, payload);
        } else {
            match self.restore(cx, &header, slot, spare) {
                Ok((slot, len)) => {
                    let Some(kind) = mesh else {
                        return self.admit_checked(cx, id, &header, slot, len);
                    };
                    self.pass(cx, id, &header, kind, slot, len);
                }
                Err((slot, spare, code)) => {
                    self.refuse_received(cx, id, &header, slot, spare, code.into());
                }
            }
        }
        self.next_read(id);
        true
    }
}

fn zerocopy_bytes(header: &Header) -> &[u8] {
    zerocopy::IntoBytes::as_bytes(header)
}
