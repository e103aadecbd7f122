//! Sending: all that leaves for a connection in one turn goes in one operation.

use crate::{
    UringDriver,
    events::Told,
    fault::{SetupError, Step},
    memory::Places,
    op::{Op, Tag},
    pages::Pages,
    ring::{Completion, Ring, Wait},
    table::Once,
};
use dataplane_core::driver::{SEGMENTS_MAX, Segment};
use io_uring::{opcode, types};
use std::{io, ptr::NonNull};

/// A peer that is gone must not kill us by signal; a short send is continued by the kernel.
pub(crate) const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// Messages of several parts between two entries into the kernel; more of them cost an extra entry.
const MESSAGES: usize = 512;

#[repr(C)]
struct Message {
    header: libc::msghdr,
    parts: [libc::iovec; SEGMENTS_MAX],
}

/// Message headers at stable addresses. The kernel has copied what it needs of them when it has
/// taken the entry (it says so at set-up: "submit stable"), so all are free again once the
/// submission queue is empty.
#[derive(Debug)]
pub(crate) struct Arena {
    pages: Pages,
    used: usize,
}

impl Arena {
    pub(crate) fn new(ring: &Ring) -> Result<Self, SetupError> {
        if !ring.inner().params().is_feature_submit_stable() {
            let source = io::ErrorKind::Unsupported.into();
            return Err(SetupError::new(Step::Ring, "Linux 6.1 or newer is needed", source));
        }
        let pages = Pages::new(MESSAGES * size_of::<Message>())
            .map_err(|source| SetupError::new(Step::Ring, "memory is short", source))?;
        Ok(Self { pages, used: 0 })
    }

    /// A free message; where there is none, the kernel takes the pending ones first.
    fn next(&mut self, ring: &mut Ring) -> NonNull<Message> {
        while self.used == MESSAGES {
            ring.enter(Wait::No);
            self.reuse(ring);
        }
        let width = size_of::<Message>();
        let at = self.pages.at(self.used * width, width);
        self.used += 1;
        at.cast()
    }

    /// Frees all messages if the kernel has taken every entry.
    pub(crate) fn reuse(&mut self, ring: &mut Ring) {
        if self.used > 0 && ring.pending() == 0 {
            self.used = 0;
        }
    }
}

/// Address and length of a segment.
pub(crate) fn stretch(places: &Places, segment: &Segment) -> (NonNull<u8>, u32) {
    match *segment {
        Segment::Chunk { chunk, from, len } => (places.chunk(chunk, from, len), len),
        Segment::Reply { slot, from, len } => (places.reply(slot, from, len), len),
    }
}

impl UringDriver {
    pub(crate) fn send(&mut self, index: u32, segments: &[Segment]) {
        assert!(segments.len() <= SEGMENTS_MAX, "{} segments in one transmit", segments.len());
        let Some(conn) = self.table.open(index) else { return };
        if conn.secure {
            self.send_secure(index, segments);
            return;
        }
        assert!(!conn.sending, "one transmit at a time");
        conn.sending = true;
        conn.send_len = segments.iter().map(Segment::len).sum();
        let tag = Tag::new(Op::Send, conn.generation, index).pack();
        let entry = if let [segment] = segments {
            let (at, len) = stretch(&self.places, segment);
            opcode::Send::new(types::Fixed(index), at.as_ptr(), len).flags(FLAGS).build()
        } else {
            let message = self.arena.next(&mut self.ring);
            fill(message, segments, &self.places);
            let header = message.as_ptr().cast::<libc::msghdr>();
            opcode::SendMsg::new(types::Fixed(index), header).flags(FLAGS as u32).build()
        };
        // SAFETY: the stretches were checked to lie in slots and chunks, which stay mapped for as
        // long as the ring lives, and which nobody writes before `Sent` or `Closed` (the rule of
        // `Driver`). The message lies in the arena, whose entries are reused only after the kernel
        // took this entry.
        unsafe { self.ring.push(&entry.user_data(tag)) };
    }

    pub(crate) fn on_send(&mut self, done: Completion, tag: Tag) -> Option<Told> {
        let Some(conn) = self.table.of(tag.index, tag.generation) else {
            self.ring.counters.stale += 1;
            return None;
        };
        if conn.secure {
            return self.on_send_secure(done, tag.index);
        }
        conn.sending = false;
        if !conn.is_open() {
            self.wind_down(tag.index);
            return None;
        }
        self.ring.counters.sends += 1;
        let (asked, finishing) = (conn.send_len, conn.finishing);
        if finishing {
            self.half_close(tag.index);
        }
        if let Ok(bytes) = u32::try_from(done.result) {
            self.ring.counters.sent_bytes += u64::from(bytes);
            self.ring.counters.short_sends += u64::from(bytes < asked);
            return Some(Told::Sent(tag.index, bytes));
        }
        if matches!(-done.result, libc::EINTR | libc::EAGAIN) {
            // Nothing was taken; the shard orders the same stretches again.
            return Some(Told::Sent(tag.index, 0));
        }
        if let Some(conn) = self.table.open(tag.index)
            && conn.failed == Once::No
        {
            conn.failed = Once::Due;
        }
        self.due(tag.index)
    }
}

/// Writes the header and the parts of a message in place.
fn fill(message: NonNull<Message>, segments: &[Segment], places: &Places) {
    // SAFETY: the arena gave this entry out: aligned (its size is a multiple of its alignment, the
    // mapping is page-aligned), mapped, zeroed at first and valid in every bit pattern, and free of
    // readers (see `Arena`).
    let message = unsafe { &mut *message.as_ptr() };
    for (part, segment) in message.parts.iter_mut().zip(segments) {
        let (at, len) = stretch(places, segment);
        *part = libc::iovec { iov_base: at.as_ptr().cast(), iov_len: len as usize };
    }
    message.header.msg_iov = message.parts.as_mut_ptr();
    message.header.msg_iovlen = segments.len() as _;
}
