//! Receiving: the stream of the small lane into provided buffers, the fills of the bulk lane
//! straight to their place.

use crate::{
    UringDriver,
    buffers::{GROUP, Piece},
    events::Told,
    op::{Op, Tag},
    ring::Completion,
    table::{Fill, Once, Reading},
};
use dataplane_core::memory::SlotId;
use io_uring::{opcode, squeue::Flags, types};
use std::{ptr::NonNull, slice};

/// Room for a header per connection.
pub(crate) const HEADER_ROOM: u32 = 32;

/// Bytes last shown to the shard, until it says how many it used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) index: u32,
    pub(crate) generation: u32,
    /// In a provided buffer; `None` for plain bytes of a connection under TLS.
    pub(crate) piece: Option<Piece>,
}

impl UringDriver {
    pub(crate) fn on_stream(&mut self, done: Completion, tag: Tag) -> Option<Told> {
        let len = done.result.max(0) as u32;
        let piece = done.buffer().and_then(|buffer| self.pool.take(buffer, len));
        let Some(conn) = self.table.of(tag.index, tag.generation) else {
            self.ring.counters.stale += 1;
            self.recycle(piece);
            return None;
        };
        if !done.more() {
            conn.reading = Reading::Nothing;
        }
        if !conn.is_open() {
            self.recycle(piece);
            self.wind_down(tag.index);
            return None;
        }
        match (done.result, piece) {
            (1.., Some(piece)) => {
                self.ring.counters.receives += 1;
                self.ring.counters.received_bytes += u64::from(piece.len);
                if conn.secure {
                    return self.on_ciphertext(tag.index, piece);
                }
                if (conn.wanted || conn.stopping) && conn.stash.is_empty() {
                    // What follows (the next receive, the end) is seen to when the shard has used
                    // it.
                    return Some(Told::Stream(tag.index, piece));
                }
                self.pool.push_back(&mut conn.stash, piece);
                return None;
            }
            (0, piece) => {
                self.ring.counters.ends += 1;
                if conn.eof == Once::No {
                    conn.eof = Once::Due;
                }
                self.recycle(piece);
            }
            (result, _) => match -result {
                libc::ENOBUFS => {
                    self.ring.counters.no_buffers += 1;
                    if !conn.starving {
                        conn.starving = true;
                        self.starving.push_back(tag.index);
                    }
                }
                // Stopped as told, or interrupted: started again where wanted.
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                _ if conn.failed == Once::No => conn.failed = Once::Due,
                _ => {}
            },
        }
        self.due(tag.index)
    }

    fn recycle(&mut self, piece: Option<Piece>) {
        if let Some(piece) = piece {
            self.pool.give_back(piece.buffer);
            self.ring.counters.recycled += 1;
        }
    }

    /// The next thing that a connection owes the shard, apart from what the kernel has still to
    /// say; starts the stream where it is wanted and nothing stands before it.
    pub(crate) fn due(&mut self, index: u32) -> Option<Told> {
        let conn = self.table.open(index)?;
        if conn.secure {
            return self.due_secure(index);
        }
        if conn.arrived {
            conn.arrived = false;
            return Some(Told::Accepted(index));
        }
        match conn.failed {
            Once::No => {}
            Once::Told => return None,
            Once::Due => {
                conn.failed = Once::Told;
                self.ring.counters.recycled += self.pool.drop_stash(&mut conn.stash);
                return Some(Told::Failed(index));
            }
        }
        let offering = conn.wanted || (conn.stopping && !conn.full);
        if offering && let Some(piece) = self.pool.pop_front(&mut conn.stash) {
            return Some(Told::Stream(index, piece));
        }
        if conn.filled {
            conn.filled = false;
            return Some(Told::Filled(index));
        }
        if conn.reading != Reading::Nothing {
            return None;
        }
        if conn.stopping {
            conn.stopping = false;
            conn.full = false;
            if conn.eof == Once::Due {
                self.queue(index);
            }
            return Some(Told::Stopped(index));
        }
        match conn.eof {
            Once::Due if conn.stash.is_empty() => {
                conn.eof = Once::Told;
                Some(Told::Eof(index))
            }
            Once::No if conn.wanted && !conn.starving => {
                self.arm(index);
                None
            }
            _ => None,
        }
    }

    /// Remembers that `due` has something to look at.
    pub(crate) fn queue(&mut self, index: u32) {
        if let Some(conn) = self.table.get_mut(index)
            && !conn.queued
        {
            conn.queued = true;
            self.ready.push_back(index);
        }
    }

    /// Starts the multishot receive.
    pub(crate) fn arm(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        conn.reading = Reading::Stream;
        let tag = Tag::new(Op::Stream, conn.generation, index);
        let entry =
            opcode::RecvMulti::new(types::Fixed(index), GROUP).build().user_data(tag.pack());
        self.ring.counters.arms += 1;
        // SAFETY: the entry names no memory; the buffers it may pick belong to the pool, which
        // outlives the ring and touches none that it has offered.
        unsafe { self.ring.push(&entry) };
    }

    /// Ends the multishot receive; its last completion says that it has ended.
    pub(crate) fn disarm(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        if conn.reading != Reading::Stream {
            return;
        }
        conn.reading = Reading::Stopping;
        let stream = Tag::new(Op::Stream, conn.generation, index);
        let stop = Tag::new(Op::Stop, conn.generation, index);
        let which = types::CancelBuilder::user_data(stream.pack());
        let entry = opcode::AsyncCancel2::new(which)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(stop.pack());
        // SAFETY: the entry names no memory.
        unsafe { self.ring.push(&entry) };
    }

    /// A cancellation found nothing. Where the stream goes on all the same it was between two steps
    /// inside the kernel, where cancellations do not see it: try again.
    pub(crate) fn on_stop(&mut self, tag: Tag) {
        if let Some(conn) = self.table.of(tag.index, tag.generation)
            && conn.reading == Reading::Stopping
            && conn.is_open()
        {
            conn.reading = Reading::Stream;
            self.ring.counters.cancel_retries += 1;
            self.disarm(tag.index);
        }
    }

    /// Ends the last offer: `used` bytes of it are done with.
    pub(crate) fn settle(&mut self, used: usize) {
        let Some(Offer { index, generation, piece }) = self.offer.take() else { return };
        let Some(piece) = piece else { return self.settle_plain(index, generation, used) };
        let used = u32::try_from(used).unwrap_or(u32::MAX).min(piece.len);
        let conn = self.table.of(index, generation).filter(|conn| conn.is_open());
        let Some(conn) = conn.filter(|_| used < piece.len) else {
            self.recycle(Some(piece));
            self.go_on(index, generation);
            return;
        };
        let rest = Piece { from: piece.from + used, len: piece.len - used, ..piece };
        self.pool.push_front(&mut conn.stash, rest);
        self.ring.counters.kept += 1;
        if conn.stopping {
            // No room on the way to the other lane: the rest is for the next `start_stream`.
            conn.full = true;
            self.queue(index);
            return;
        }
        conn.wanted = false;
        self.disarm(index);
    }

    /// After an offer was used up: in the common case the receive is still armed and nothing is
    /// kept.
    #[inline]
    fn go_on(&mut self, index: u32, generation: u32) {
        if let Some(conn) = self.table.of(index, generation)
            && !(conn.reading == Reading::Stream && conn.stash.is_empty())
        {
            self.queue(index);
        }
    }

    pub(crate) fn start(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        conn.wanted = true;
        if conn.secure {
            self.queue(index);
            return;
        }
        if conn.reading != Reading::Nothing && conn.stash.is_empty() {
            return;
        }
        let at_rest = conn.stash.is_empty()
            && conn.eof == Once::No
            && conn.failed == Once::No
            && !conn.starving
            && !conn.stopping;
        if at_rest {
            self.arm(index);
        } else {
            self.queue(index);
        }
    }

    pub(crate) fn stop(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        conn.wanted = false;
        conn.stopping = true;
        if conn.secure || conn.reading == Reading::Nothing || !conn.stash.is_empty() {
            self.queue(index);
        }
        self.disarm(index);
    }

    pub(crate) fn order_header(&mut self, index: u32, len: u32) {
        let at = self.headers.at((index * HEADER_ROOM) as usize, HEADER_ROOM as usize);
        self.order_fill(index, Reading::Header, at, len.min(HEADER_ROOM));
    }

    pub(crate) fn order_slot(&mut self, index: u32, slot: SlotId, from: u32, len: u32) {
        let at = self.places.request(slot, from, len);
        self.order_fill(index, Reading::Slot, at, len);
    }

    fn order_fill(&mut self, index: u32, reading: Reading, at: NonNull<u8>, len: u32) {
        let Some(conn) = self.table.open(index) else { return };
        if conn.secure {
            self.order_fill_secure(index, reading, Fill { at, left: len, whole: len });
            return;
        }
        if conn.reading != Reading::Nothing || !conn.stash.is_empty() {
            // Bytes that belong before this fill are still with us: to go on would deliver them out
            // of order.
            conn.failed = if conn.failed == Once::No { Once::Due } else { conn.failed };
            self.queue(index);
            return;
        }
        if len == 0 {
            conn.filled = true;
            self.queue(index);
            return;
        }
        conn.reading = reading;
        conn.fill = Fill { at, left: len, whole: len };
        self.push_fill(index);
    }

    fn push_fill(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        let Fill { at, left, .. } = conn.fill;
        let tag = Tag::new(Op::Fill, conn.generation, index);
        let entry = opcode::Recv::new(types::Fixed(index), at.as_ptr(), left)
            .flags(libc::MSG_WAITALL)
            .build()
            .user_data(tag.pack());
        // SAFETY: `at` and `left` are the rest of a stretch that was checked to lie in this
        // connection's header room or in a slot. Both are mapped for as long as the ring lives, and
        // until the completion nobody else touches them: the header room is read in `told` only
        // after it, the slot is the kernel's by the rule of `Driver`.
        unsafe { self.ring.push(&entry) };
    }

    pub(crate) fn on_fill(&mut self, done: Completion, tag: Tag) -> Option<Told> {
        let Some(conn) = self.table.of(tag.index, tag.generation) else {
            self.ring.counters.stale += 1;
            return None;
        };
        let reading = conn.reading;
        let fill = conn.fill;
        let came = (done.result.max(0) as u32).min(fill.left);
        if conn.is_open() && came > 0 && came < fill.left {
            conn.fill.left = fill.left - came;
            // SAFETY: `came` is less than what was left of the stretch that starts here.
            conn.fill.at = unsafe { fill.at.add(came as usize) };
            self.ring.counters.short_fills += 1;
            self.ring.counters.filled_bytes += u64::from(came);
            self.push_fill(tag.index);
            return None;
        }
        if conn.is_open() && matches!(-done.result, libc::EINTR | libc::EAGAIN) {
            self.push_fill(tag.index);
            return None;
        }
        conn.reading = Reading::Nothing;
        if !conn.is_open() {
            self.wind_down(tag.index);
            return None;
        }
        if came > 0 {
            self.ring.counters.fills += 1;
            self.ring.counters.filled_bytes += u64::from(came);
            return Some(match reading {
                Reading::Header => Told::Header(tag.index, fill.whole),
                _ => Told::Filled(tag.index),
            });
        }
        if done.result == 0 {
            self.ring.counters.ends += 1;
            if conn.eof == Once::No {
                conn.eof = Once::Due;
            }
        } else if conn.failed == Once::No {
            conn.failed = Once::Due;
        }
        self.due(tag.index)
    }

    /// The header that was received for this connection.
    pub(crate) fn header(&self, index: u32, len: u32) -> &[u8] {
        let at = self.headers.at((index * HEADER_ROOM) as usize, HEADER_ROOM as usize);
        // SAFETY: the room lies in a live mapping of initialised bytes (`at` checks it), and the
        // kernel writes there only between `order_header` and its completion: ordering takes `&mut
        // self`, which ends this borrow.
        unsafe { slice::from_raw_parts(at.as_ptr(), len.min(HEADER_ROOM) as usize) }
    }

    /// Starts the streams that found no buffer, as many as there are buffers now.
    pub(crate) fn feed(&mut self) {
        for _ in 0..self.pool.free().min(self.starving.len() as u32) {
            let Some(index) = self.starving.pop_front() else { return };
            if let Some(conn) = self.table.get_mut(index) {
                conn.starving = false;
                if conn.is_open() && conn.secure {
                    self.queue(index);
                } else if conn.is_open() && conn.wanted {
                    self.start(index);
                }
            }
        }
    }
}
