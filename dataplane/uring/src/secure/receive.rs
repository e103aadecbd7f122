//! Receiving under TLS: ciphertext of the stream becomes plain bytes when the shard wants some.

use super::{AHEAD_MAX, Place, Plain, Stage, open::Next};
use crate::{
    UringDriver,
    buffers::Piece,
    events::Told,
    table::{Fill, Once, Reading},
};
use tls::Fault;

impl UringDriver {
    /// Ciphertext came. It is looked at when something is wanted; far ahead of that the stream
    /// stops.
    pub(crate) fn on_ciphertext(&mut self, index: u32, piece: Piece) -> Option<Told> {
        let secure = self.tls.get(index)?;
        if secure.closed {
            // Behind the peer's own end there is nothing.
            self.give_back(piece.buffer);
            return None;
        }
        secure.ahead += 1;
        let far = secure.ahead > AHEAD_MAX;
        let conn = self.table.open(index)?;
        self.pool.push_back(&mut conn.stash, piece);
        let told = self.due_secure(index);
        if far && self.tls.get(index).is_some_and(|secure| secure.ahead > AHEAD_MAX) {
            self.disarm(index);
        }
        told
    }

    pub(super) fn give_back(&mut self, buffer: u16) {
        self.pool.give_back(buffer);
        self.ring.counters.recycled += 1;
    }

    pub(super) fn take_piece(&mut self, index: u32) -> Option<Piece> {
        let conn = self.table.open(index)?;
        let piece = self.pool.pop_front(&mut conn.stash)?;
        if let Some(secure) = self.tls.get(index) {
            secure.ahead -= 1;
        }
        Some(piece)
    }

    /// The first `used` bytes of a piece are done with.
    pub(super) fn keep_rest(&mut self, index: u32, piece: Piece, used: u32) {
        if used >= piece.len {
            self.give_back(piece.buffer);
            return;
        }
        let rest = Piece { from: piece.from + used, len: piece.len - used, ..piece };
        if let (Some(conn), Some(secure)) = (self.table.open(index), self.tls.get(index)) {
            secure.ahead += 1;
            self.pool.push_front(&mut conn.stash, rest);
        }
    }

    /// Starts the stream again where nothing speaks against it.
    pub(super) fn rearm(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        if conn.reading == Reading::Nothing && conn.eof == Once::No && !conn.starving {
            self.arm(index);
        }
    }

    /// [`UringDriver::due`], for connections under TLS.
    pub(crate) fn due_secure(&mut self, index: u32) -> Option<Told> {
        if self.is_shaking(index) {
            return self.shake(index);
        }
        let conn = self.table.open(index)?;
        match conn.failed {
            Once::No => {}
            Once::Told => return None,
            Once::Due => return self.fail(index),
        }
        if let Some(told) = self.due_out(index) {
            return Some(told);
        }
        if let Some(told) = self.due_plain(index) {
            return Some(told);
        }
        let conn = self.table.open(index)?;
        if conn.filled {
            conn.filled = false;
            return Some(Told::Filled(index));
        }
        let secure = self.tls.get(index)?;
        let wanted = conn.wanted || secure.ordered != Reading::Nothing;
        let empty = secure.plain.is_none() && conn.stash.is_empty();
        // The peer's own end counts, not that of the socket under it: only the peer can have
        // written the one.
        let ended = secure.closed && secure.plain.is_none();
        if conn.stopping && (conn.reading == Reading::Nothing || ended) {
            conn.stopping = false;
            conn.full = false;
            self.queue(index);
            return Some(Told::Stopped(index));
        }
        if ended && conn.eof != Once::Told {
            conn.eof = Once::Told;
            return Some(Told::Eof(index));
        }
        if conn.reading != Reading::Nothing || !empty {
            return None;
        }
        match conn.eof {
            Once::Due => {
                self.ring.counters.tls_cut_off += 1;
                self.fail(index)
            }
            Once::No if wanted => {
                self.rearm(index);
                None
            }
            _ => None,
        }
    }

    /// Plain bytes for whatever the shard waits for, opening records as needed.
    fn due_plain(&mut self, index: u32) -> Option<Told> {
        loop {
            let conn = self.table.open(index)?;
            let offering = conn.wanted || (conn.stopping && !conn.full);
            let secure = self.tls.get(index)?;
            let filling = secure.ordered != Reading::Nothing;
            match secure.plain {
                Some(_) if filling => {
                    if let Some(told) = self.pour(index) {
                        return Some(told);
                    }
                    continue;
                }
                Some(_) if offering => return Some(Told::Plain(index)),
                None if filling || offering => {}
                _ => return None,
            }
            match self.open_next(index) {
                Ok(Next::Some) => {}
                Ok(Next::Dry) => return None,
                Err(fault) => return self.fault(index, &fault),
            }
        }
    }

    /// The shard orders a fill: served from what came, and from what will.
    pub(crate) fn order_fill_secure(&mut self, index: u32, reading: Reading, fill: Fill) {
        let (Some(conn), Some(secure)) = (self.table.open(index), self.tls.get(index)) else {
            return;
        };
        if fill.left == 0 {
            conn.filled = true;
        } else {
            conn.fill = fill;
            secure.ordered = reading;
        }
        self.queue(index);
    }

    /// Copies plain bytes to where a fill wants them.
    fn pour(&mut self, index: u32) -> Option<Told> {
        let conn = self.table.open(index)?;
        let (at, left, whole) = (conn.fill.at, conn.fill.left, conn.fill.whole);
        let plain = self.tls.get(index)?.plain?;
        let count = plain.len.min(left);
        let source = self.plain_bytes(index);
        // SAFETY: `at` and `left` are the rest of a stretch that was checked to lie in this
        // connection's header room or in a slot, mapped for as long as the ring lives; by the rule
        // of `Driver` nobody else touches it before the fill has ended. The source lies in a
        // provided buffer or on the heap, which are other memory, and has `count` bytes or more.
        unsafe {
            at.copy_from_nonoverlapping(std::ptr::NonNull::from(source).cast(), count as usize)
        };
        self.ring.counters.tls_poured_bytes += u64::from(count);
        self.use_plain(index, count);
        let conn = self.table.open(index)?;
        conn.fill.left = left - count;
        // SAFETY: `count` is at most what was left of the stretch that starts here.
        conn.fill.at = unsafe { at.add(count as usize) };
        if conn.fill.left > 0 {
            return None;
        }
        let secure = self.tls.get(index)?;
        self.ring.counters.fills += 1;
        match std::mem::replace(&mut secure.ordered, Reading::Nothing) {
            Reading::Header => Some(Told::Header(index, whole)),
            _ => Some(Told::Filled(index)),
        }
    }

    /// The plain bytes that are not used yet.
    pub(crate) fn plain_bytes(&self, index: u32) -> &[u8] {
        let secure = self.tls.conns.get(index as usize).and_then(Option::as_deref);
        let Some((secure, plain)) = secure.and_then(|secure| Some((secure, secure.plain?))) else {
            return &[];
        };
        let Plain { place, from, len } = plain;
        match (place, &secure.own) {
            (Place::Buffer { id, .. }, _) => self.pool.bytes(Piece { buffer: id, from, len }),
            (Place::Own, Some(own)) => &own[from as usize..(from + len) as usize],
            (Place::Own, None) => &[],
        }
    }

    /// The first `used` plain bytes are done with.
    fn use_plain(&mut self, index: u32, used: u32) {
        let Some(secure) = self.tls.get(index) else { return };
        let Some(plain) = &mut secure.plain else { return };
        plain.from += used;
        plain.len -= used;
        if plain.len > 0 {
            return;
        }
        let place = plain.place;
        secure.plain = None;
        if let Place::Buffer { id, last: true } = place {
            self.give_back(id);
        }
    }

    /// Ends an offer of plain bytes: `used` of them are done with.
    pub(crate) fn settle_plain(&mut self, index: u32, generation: u32, used: usize) {
        if self.table.of(index, generation).is_none_or(|conn| !conn.is_open()) {
            return;
        }
        let Some(plain) = self.tls.get(index).and_then(|secure| secure.plain) else { return };
        let used = u32::try_from(used).unwrap_or(u32::MAX).min(plain.len);
        self.use_plain(index, used);
        let Some(conn) = self.table.open(index) else { return };
        if used == plain.len {
            if !(conn.reading == Reading::Stream && conn.stash.is_empty()) {
                self.queue(index);
            }
            return;
        }
        self.ring.counters.kept += 1;
        if conn.stopping {
            conn.full = true;
            self.queue(index);
            return;
        }
        conn.wanted = false;
        self.disarm(index);
    }

    /// What came was not what a peer of ours sends: it is told, and the shard as well.
    fn fault(&mut self, index: u32, fault: &Fault) -> Option<Told> {
        self.ring.counters.tls_faults += 1;
        if let Some(Stage::Open(session)) = self.tls.get(index).map(|secure| &mut secure.stage) {
            // What `open` has found it owes already.
            session.fail(fault);
        }
        self.push_owed(index);
        self.fail(index)
    }

    pub(super) fn fail(&mut self, index: u32) -> Option<Told> {
        self.forget(index);
        let conn = self.table.open(index)?;
        conn.failed = Once::Told;
        Some(Told::Failed(index))
    }

    /// Drops everything that was received and not used.
    pub(super) fn forget(&mut self, index: u32) {
        let Some(conn) = self.table.get_mut(index) else { return };
        self.ring.counters.recycled += self.pool.drop_stash(&mut conn.stash);
        let Some(secure) = self.tls.get(index) else { return };
        secure.ahead = 0;
        if let Some(Plain { place: Place::Buffer { id, last: true }, .. }) = secure.plain.take() {
            self.give_back(id);
        }
    }
}
