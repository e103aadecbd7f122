//! Intake of the mesh's frames: beats are answered at once and copied up, all others are checked
//! and copied up. What they mean is the mesh's business.

use crate::{
    answer::REPORT_MAX,
    driver::ConnId,
    fair::Need,
    intake::Begin,
    memory::Memory,
    mesh_port::{INLINE_MAX, Inline, Up},
    shard::{Cx, Shard},
    slot::Receiving,
    stats::Copy,
    wait::Wait,
};
use wire::{
    Compression, ErrorCode, HEADER_LEN, Header, Kind,
    mesh::{BEAT_LEN, write_beat_reply},
    payload::mesh::AgentHeartbeat,
};

/// Payload bytes of an AGENT_HEARTBEAT.
const BEAT: usize = BEAT_LEN - HEADER_LEN;

const _: () = {
    assert!(BEAT <= INLINE_MAX);
    // What `begin` has made sure of is room for a report; the answer to a beat takes no more.
    assert!(BEAT_LEN <= REPORT_MAX as usize);
};

/// A beat's archive where it can be read in place.
#[repr(align(16))]
struct Aligned([u8; BEAT]);

impl Shard {
    /// Whether this shard takes in frames of the mesh.
    pub(crate) const fn serves_mesh(&self) -> bool {
        self.mesh.is_some()
    }

    /// The way of a mesh frame whose header is sound.
    pub(crate) fn begin_mesh<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        kind: Kind,
        compression: Compression,
        rest: &[u8],
    ) -> Begin {
        let len = header.payload_len() as usize;
        let beat = kind == Kind::AgentHeartbeat;
        let compressed = compression != Compression::None;
        if beat && compressed {
            return self.skip(cx, id, header, ErrorCode::BadCompression);
        }
        // Every message of the mesh has a root; a beat is nothing else.
        if len == 0 || (beat && len != BEAT) {
            return self.skip(cx, id, header, ErrorCode::BadArchive);
        }
        let whole = rest.get(..len).filter(|_| len <= INLINE_MAX && !compressed);
        let Some(payload) = whole else {
            let bulk = header.payload_len() > self.geometry.small_request;
            return self.begin_body(id, header, bulk, compressed);
        };
        if !beat && !self.mesh_room(false) {
            return Begin::Blocked(Wait::For(Need::Room));
        }
        self.head_done(id);
        self.stats.frames_small.add(1);
        if header.checksum() != wire::check::crc16(payload) {
            self.report(cx, id, header.message_id(), kind, ErrorCode::BadChecksum, 0);
        } else if beat {
            self.beat(cx, id, header, payload);
        } else {
            self.push_frame(cx, id, header, kind, payload);
        }
        Begin::Used(len)
    }

    /// Whether the complete body of a mesh frame can go its way now.
    pub(crate) fn can_pass(&mut self, id: ConnId, header: &Header, kind: Kind) -> bool {
        if kind == Kind::AgentHeartbeat {
            let Some(conn) = self.conns.open_mut(id) else { return true };
            return self.egress.has_room(&conn.outbox, REPORT_MAX);
        }
        // What is compressed may become long.
        let compressed = header.compression() != Ok(Compression::None);
        self.mesh_room(compressed || header.payload_len() as usize > INLINE_MAX)
    }

    /// Passes on a mesh frame whose payload is complete, checked and restored in its slot.
    pub(crate) fn pass<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        kind: Kind,
        slot: Receiving,
        len: u32,
    ) {
        let len = len as usize;
        if kind == Kind::AgentHeartbeat {
            let mut payload = Aligned([0; BEAT]);
            payload.0.copy_from_slice(&cx.mem.request(slot.id())[..BEAT]);
            self.beat(cx, id, header, &payload.0);
        } else if len <= INLINE_MAX {
            let mut payload = [0; INLINE_MAX];
            payload[..len].copy_from_slice(&cx.mem.request(slot.id())[..len]);
            self.push_frame(cx, id, header, kind, &payload[..len]);
        } else if let Some(conn) = self.conns.open_mut(id) {
            conn.mesh = true;
            let up = Up::Long {
                conn: id,
                life: conn.life,
                who: conn.who,
                received: cx.now,
                kind,
                message_id: header.message_id(),
                payload: cx.mem.request(slot.id())[..len].into(),
            };
            self.push_up(kind, up);
        }
        self.slots.drop_received(slot);
        self.freed = true;
    }

    /// Answers a beat with this side's clock and copies it up.
    fn beat<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId, header: &Header, payload: &[u8]) {
        let message_id = header.message_id();
        let mut aligned = Aligned([0; BEAT]);
        let payload = if payload.as_ptr().addr().is_multiple_of(wire::PAYLOAD_ALIGN) {
            payload
        } else {
            self.stats.copy(Copy::Realign, BEAT as u64);
            aligned.0.copy_from_slice(payload);
            &aligned.0
        };
        let Ok(beat) = wire::payload::access::<AgentHeartbeat>(payload) else {
            self.report(cx, id, message_id, Kind::AgentHeartbeat, ErrorCode::BadArchive, 0);
            return;
        };
        let (epoch, now) = (cx.epoch_ns, cx.now);
        self.append(cx, id, BEAT_LEN, |out| {
            // The room is exactly as long as the frame.
            let _ = write_beat_reply(out, beat, message_id, epoch, now, now);
        });
        if self.mesh_room(false) {
            self.push_frame(cx, id, header, Kind::AgentHeartbeat, payload);
        } else {
            // The next one says as much; nobody is to wait for it.
            self.stats.mesh_frame(Kind::AgentHeartbeat);
            self.stats.mesh_beats_dropped.add(1);
        }
    }

    /// Whether a frame can go up; where not, those who wait are let in when the mesh has taken
    /// something.
    fn mesh_room(&mut self, long: bool) -> bool {
        let Some(mesh) = &mut self.mesh else { return true };
        if mesh.port.room(long) {
            return true;
        }
        if long {
            mesh.waits_long = true;
        } else {
            mesh.waits_short = true;
        }
        self.stats.mesh_full.add(1);
        false
    }

    fn push_frame<M: Memory>(
        &mut self,
        cx: &Cx<'_, M>,
        id: ConnId,
        header: &Header,
        kind: Kind,
        payload: &[u8],
    ) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        conn.mesh = true;
        let mut bytes = Inline([0; INLINE_MAX]);
        bytes.0[..payload.len()].copy_from_slice(payload);
        let up = Up::Frame {
            conn: id,
            life: conn.life,
            who: conn.who,
            received: cx.now,
            kind,
            message_id: header.message_id(),
            len: payload.len() as u16,
            bytes,
        };
        self.push_up(kind, up);
    }

    fn push_up(&mut self, kind: Kind, up: Up) {
        let pushed = self.mesh.as_mut().is_some_and(|mesh| mesh.port.push(up));
        debug_assert!(pushed, "room was asked for");
        self.stats.mesh_frame(kind);
    }
}
