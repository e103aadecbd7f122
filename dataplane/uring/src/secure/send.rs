//! Sending under TLS: what leaves is copied into an output buffer and sealed there, record by
//! record, in one go.

use super::{Out, Stage};
use crate::{
    UringDriver,
    events::Told,
    memory::Places,
    op::{Op, Tag},
    ring::Completion,
    send::{FLAGS, stretch},
    table::Once,
};
use dataplane_core::driver::Segment;
use io_uring::{opcode, types};
use tls::{Fault, HEAD, PLAIN_MAX, Session, TAIL};

/// Room behind other records that is not worth one of its own.
const ROOM_MIN: usize = 1 << 10;

impl UringDriver {
    /// A transmit of the shard's.
    pub(crate) fn send_secure(&mut self, index: u32, segments: &[Segment]) {
        let Some(secure) = self.tls.get(index) else { return };
        assert!(!secure.waiting, "one transmit at a time");
        secure.waiting = true;
        if secure.out.is_some() {
            return;
        }
        let Some(buffer) = self.tls.outputs.take() else { return self.wait_for_output(index) };
        let Some(secure) = self.tls.conns.get_mut(index as usize).and_then(Option::as_deref_mut)
        else {
            return;
        };
        secure.waiting = false;
        let Stage::Open(session) = &mut secure.stage else { return };
        let room = self.tls.outputs.bytes_mut(buffer);
        match seal(session, room, segments, &self.places) {
            Ok((len, plain)) => self.push_out(index, Out { buffer, from: 0, len, plain }),
            Err(_) => {
                self.ring.counters.tls_faults += 1;
                self.tls.outputs.give_back(buffer);
                self.set_failed(index);
            }
        }
    }

    fn set_failed(&mut self, index: u32) {
        if let Some(conn) = self.table.open(index)
            && conn.failed == Once::No
        {
            conn.failed = Once::Due;
            self.queue(index);
        }
    }

    fn wait_for_output(&mut self, index: u32) {
        if let Some(secure) = self.tls.get(index)
            && !secure.queued
        {
            self.ring.counters.tls_output_waits += 1;
            secure.queued = true;
            self.tls.short.push_back(index);
        }
    }

    fn push_out(&mut self, index: u32, out: Out) {
        let Some(conn) = self.table.get_mut(index) else { return };
        conn.sending = true;
        let tag = Tag::new(Op::Send, conn.generation, index).pack();
        if let Some(secure) = self.tls.get(index) {
            secure.out = Some(out);
        }
        let at = self.tls.outputs.at(out.buffer, out.from, out.len);
        let entry =
            opcode::Send::new(types::Fixed(index), at.as_ptr(), out.len).flags(FLAGS).build();
        // SAFETY: the stretch was checked to lie in an output buffer, which stays mapped for as
        // long as the ring lives, and which nobody writes before this send has ended.
        unsafe { self.ring.push(&entry.user_data(tag)) };
    }

    /// Sends what a session owes its peer, unless a send is under way: the next one carries it.
    pub(super) fn push_owed(&mut self, index: u32) {
        let Some(secure) = self.tls.get(index) else { return };
        if secure.out.is_some() || !matches!(&secure.stage, Stage::Open(s) if s.owes()) {
            return;
        }
        let Some(buffer) = self.tls.outputs.take() else { return self.wait_for_output(index) };
        let Some(secure) = self.tls.conns.get_mut(index as usize).and_then(Option::as_deref_mut)
        else {
            return;
        };
        let Stage::Open(session) = &mut secure.stage else { return };
        match session.write_owed(self.tls.outputs.bytes_mut(buffer)) {
            Ok(len) if len > 0 => {
                let len = len as u32;
                self.push_out(index, Out { buffer, from: 0, len, plain: 0 });
            }
            _ => self.tls.outputs.give_back(buffer),
        }
    }

    /// Sends what a handshake has to say.
    pub(super) fn push_handshake(&mut self, index: u32) {
        let Some(secure) = self.tls.get(index) else { return };
        let Stage::Shaking(handshake, _) = &secure.stage else { return };
        if secure.out.is_some() || handshake.output().is_empty() {
            return;
        }
        let Some(buffer) = self.tls.outputs.take() else { return self.wait_for_output(index) };
        let Some(secure) = self.tls.conns.get_mut(index as usize).and_then(Option::as_deref_mut)
        else {
            return;
        };
        let Stage::Shaking(handshake, _) = &mut secure.stage else { return };
        let room = self.tls.outputs.bytes_mut(buffer);
        let len = handshake.output().len().min(room.len());
        room[..len].copy_from_slice(&handshake.output()[..len]);
        handshake.sent(len);
        self.push_out(index, Out { buffer, from: 0, len: len as u32, plain: 0 });
    }

    /// A send has ended, and with it the use of its buffer unless something is left in it.
    pub(crate) fn on_send_secure(&mut self, done: Completion, index: u32) -> Option<Told> {
        let out = self.tls.get(index)?.out.take()?;
        let open = self.table.get_mut(index).map(|conn| {
            conn.sending = false;
            conn.is_open()
        })?;
        if !open {
            self.tls.outputs.give_back(out.buffer);
            self.wind_down(index);
            return None;
        }
        self.ring.counters.sends += 1;
        match u32::try_from(done.result) {
            Ok(bytes) => {
                self.ring.counters.sent_bytes += u64::from(bytes);
                if bytes < out.len {
                    self.ring.counters.short_sends += 1;
                    let (from, len) = (out.from + bytes, out.len - bytes);
                    self.push_out(index, Out { from, len, ..out });
                    return None;
                }
            }
            Err(_) if matches!(-done.result, libc::EINTR | libc::EAGAIN) => {
                self.push_out(index, out);
                return None;
            }
            Err(_) => {
                self.tls.outputs.give_back(out.buffer);
                self.set_failed(index);
                return self.due_secure(index);
            }
        }
        self.tls.outputs.give_back(out.buffer);
        self.say_on(index);
        (out.plain > 0).then_some(Told::Sent(index, out.plain))
    }

    /// Wakes those who wait for an output buffer, as many as there are buffers now. One that needs
    /// none any more costs the others a turn and not more.
    pub(crate) fn feed_outputs(&mut self) {
        for _ in 0..self.tls.outputs.free().min(self.tls.short.len()) {
            let Some(index) = self.tls.short.pop_front() else { return };
            if let Some(secure) = self.tls.get(index) {
                secure.queued = false;
                self.queue(index);
            }
        }
    }

    /// What a connection without a send under way has to do about sending.
    pub(super) fn due_out(&mut self, index: u32) -> Option<Told> {
        let secure = self.tls.get(index)?;
        if secure.out.is_none() && secure.waiting {
            if self.tls.outputs.free() == 0 {
                self.wait_for_output(index);
                return None;
            }
            self.tls.get(index)?.waiting = false;
            // There may be more to tell of this connection.
            self.queue(index);
            return Some(Told::Sent(index, 0));
        }
        self.say_on(index);
        None
    }

    /// No send is under way: what stands behind it may come now.
    fn say_on(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        let finishing = conn.finishing;
        let Some(secure) = self.tls.get(index) else { return };
        if secure.out.is_some() {
            return;
        }
        if secure.waiting || self.is_shaking(index) {
            return self.queue(index);
        }
        if finishing {
            return self.half_close_secure(index);
        }
        self.push_owed(index);
        let Some(secure) = self.tls.get(index) else { return };
        if secure.ending && secure.out.is_none() && !secure.queued {
            secure.ending = false;
            self.shut_down(index);
        }
    }

    /// Ends our direction: says so under the seal, then to the socket.
    pub(crate) fn half_close_secure(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        let Some(secure) = self.tls.get(index) else { return };
        if secure.out.is_some() || secure.waiting {
            conn.finishing = true;
            return;
        }
        conn.finishing = false;
        secure.ending = true;
        if let Stage::Open(session) = &mut secure.stage {
            session.close();
        }
        self.say_on(index);
    }

    /// The end of a connection: last words, if they can be sent at once, and no more of what came.
    pub(crate) fn part(&mut self, index: u32) {
        self.has_ended(index);
        let can_say = self.tls.outputs.free() > 0;
        if let Some(Stage::Open(session)) = self.tls.get(index).map(|secure| &mut secure.stage)
            && can_say
        {
            session.close();
            self.push_owed(index);
        }
        self.forget(index);
    }

    /// Nothing of this connection is under way any more.
    pub(crate) fn leave_secure(&mut self, index: u32) {
        if let Some(place) = self.tls.conns.get_mut(index as usize) {
            *place = None;
        }
    }
}

/// Seals as much of these segments as there is room for, behind what the session owes: bytes
/// written, and plain bytes among them.
fn seal(
    session: &mut Session,
    room: &mut [u8],
    segments: &[Segment],
    places: &Places,
) -> Result<(u32, u32), Fault> {
    let mut written = session.write_owed(room)?;
    let mut sealed = 0;
    let mut left: usize = segments.iter().map(|segment| segment.len() as usize).sum();
    let mut rest = Rest { segments, skip: 0 };
    while left > 0 {
        let space = (room.len() - written).saturating_sub(HEAD + TAIL);
        if space < left.min(ROOM_MIN) {
            break;
        }
        let len = left.min(space).min(PLAIN_MAX);
        let record = &mut room[written..written + HEAD + len + TAIL];
        rest.copy_to(&mut record[HEAD..HEAD + len], places);
        session.seal(record)?;
        written += record.len();
        sealed += len;
        left -= len;
    }
    Ok((written as u32, sealed as u32))
}

/// What is left of a list of segments.
struct Rest<'a> {
    segments: &'a [Segment],
    /// Bytes of the first that are done.
    skip: usize,
}

impl Rest<'_> {
    fn copy_to(&mut self, mut target: &mut [u8], places: &Places) {
        while let Some((first, others)) = self.segments.split_first()
            && !target.is_empty()
        {
            let left = first.len() as usize - self.skip;
            let count = left.min(target.len());
            let (at, len) = stretch(places, &part(first, self.skip as u32, count as u32));
            // SAFETY: `stretch` checked that `len` bytes of a slot or a chunk lie at `at`, and
            // nobody writes them before `Sent` (the rule of `Driver`).
            let source = unsafe { std::slice::from_raw_parts(at.as_ptr(), len as usize) };
            target[..count].copy_from_slice(source);
            target = &mut target[count..];
            self.skip += count;
            if count == left {
                self.segments = others;
                self.skip = 0;
            }
        }
    }
}

/// `len` bytes of a segment behind its first `skip`.
const fn part(segment: &Segment, skip: u32, len: u32) -> Segment {
    match *segment {
        Segment::Chunk { chunk, from, .. } => Segment::Chunk { chunk, from: from + skip, len },
        Segment::Reply { slot, from, .. } => Segment::Reply { slot, from: from + skip, len },
    }
}
