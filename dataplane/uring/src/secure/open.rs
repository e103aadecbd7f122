//! Opening records: where they lie if they lie whole, otherwise in their connection's own buffer.

use super::{Place, Plain, Stage};
use crate::{UringDriver, buffers::Piece};
use tls::{Fault, HEAD, Opened, RECORD_MAX, record_len};

/// What became of the next piece of ciphertext.
pub(super) enum Next {
    /// Something: look again.
    Some,
    /// There is none.
    Dry,
}

impl UringDriver {
    /// Opens the next record, or takes what there is of it.
    pub(super) fn open_next(&mut self, index: u32) -> Result<Next, Fault> {
        let Some(piece) = self.take_piece(index) else { return Ok(Next::Dry) };
        let gathered = self.tls.get(index).map_or(0, |secure| secure.gathered);
        if gathered == 0 {
            let known = record_len(self.pool.bytes(piece));
            match known {
                Ok(Some(len)) if len <= piece.len as usize => {
                    return self.open_here(index, piece, len as u32);
                }
                Ok(_) => {}
                Err(fault) => {
                    self.give_back(piece.buffer);
                    return Err(fault);
                }
            }
        }
        self.gather(index, piece)
    }

    /// Opens a record that lies whole in a provided buffer.
    fn open_here(&mut self, index: u32, piece: Piece, len: u32) -> Result<Next, Fault> {
        let record = Piece { len, ..piece };
        let last = len == piece.len;
        let Some(secure) = self.tls.conns.get_mut(index as usize).and_then(Option::as_deref_mut)
        else {
            return Ok(Next::Dry);
        };
        let Stage::Open(session) = &mut secure.stage else { return Ok(Next::Dry) };
        let opened = session.open(self.pool.bytes_mut(record));
        let id = piece.buffer;
        let plain = match &opened {
            Ok(Opened::Data(range)) => {
                let (from, len) = (piece.from + range.start as u32, range.len() as u32);
                secure.plain = Some(Plain { place: Place::Buffer { id, last }, from, len });
                true
            }
            Ok(Opened::Closed) => {
                secure.closed = true;
                false
            }
            _ => false,
        };
        if !last {
            self.keep_rest(index, piece, len);
        } else if !plain {
            self.give_back(id);
        }
        self.ring.counters.tls_opened += 1;
        opened?;
        self.after_open(index);
        Ok(Next::Some)
    }

    /// Copies what a piece has of a record that straddles buffers; opens it when it is whole.
    fn gather(&mut self, index: u32, piece: Piece) -> Result<Next, Fault> {
        let Some(secure) = self.tls.conns.get_mut(index as usize).and_then(Option::as_deref_mut)
        else {
            return Ok(Next::Dry);
        };
        let own = secure.own.get_or_insert_with(|| Box::new([0; RECORD_MAX]));
        let bytes = self.pool.bytes(piece);
        let mut used = 0;
        let mut whole = None;
        // At most twice: the head, which says the length, then the rest.
        for _ in 0..2 {
            let here = secure.gathered as usize;
            let target = match record_len(&own[..here]) {
                Ok(len) => len.unwrap_or(HEAD),
                Err(fault) => {
                    self.give_back(piece.buffer);
                    return Err(fault);
                }
            };
            let more = (target - here).min(bytes.len() - used);
            own[here..here + more].copy_from_slice(&bytes[used..used + more]);
            used += more;
            secure.gathered += more as u32;
            if target > HEAD && here + more == target {
                whole = Some(target);
            }
        }
        self.ring.counters.tls_gathered_bytes += used as u64;
        let opened = match (whole, &mut secure.stage) {
            (Some(len), Stage::Open(session)) => {
                secure.gathered = 0;
                self.ring.counters.tls_opened += 1;
                Some(session.open(&mut own[..len]))
            }
            _ => None,
        };
        match &opened {
            Some(Ok(Opened::Data(range))) => {
                let (from, len) = (range.start as u32, range.len() as u32);
                secure.plain = Some(Plain { place: Place::Own, from, len });
            }
            Some(Ok(Opened::Closed)) => secure.closed = true,
            _ => {}
        }
        self.keep_rest(index, piece, used as u32);
        opened.transpose()?;
        self.after_open(index);
        Ok(Next::Some)
    }

    /// A record may have left something owed to the peer, or ended its stream.
    fn after_open(&mut self, index: u32) {
        let Some(secure) = self.tls.get(index) else { return };
        let owes = matches!(&secure.stage, Stage::Open(session) if session.owes());
        if secure.closed {
            secure.ahead = 0;
            if let Some(conn) = self.table.open(index) {
                self.ring.counters.recycled += self.pool.drop_stash(&mut conn.stash);
            }
        }
        if owes {
            self.push_owed(index);
        }
    }
}
