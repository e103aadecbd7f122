//! Streams: what came for a shard, and what a shard has for the peer.

use super::{Bridge, Code, Happening, StreamKey, gate::Gate};
use crate::limits::PIECE_MAX;
use bytes::{Buf, Bytes};
use quinn_proto::{ReadError, StreamId, WriteError};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Open,
    /// The peer has sent all it had.
    Ended,
    /// The shard takes no more.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// The shard has written all; some of it is still to be taken.
    Finishing,
    Done,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    conn: usize,
    id: StreamId,
    gate: Option<Gate>,
    /// Taken from the stream and not yet from here, at most `PIECE_MAX` bytes.
    front: VecDeque<Bytes>,
    reading: Reading,
    /// Given to us and not yet taken by the stream, at most `PIECE_MAX` bytes.
    pending: Bytes,
    writing: Writing,
    /// The shard has no more use for it.
    left: bool,
}

impl Stream {
    pub(super) const fn new(conn: usize, id: StreamId, gate: Option<Gate>) -> Self {
        Self {
            conn,
            id,
            gate,
            front: VecDeque::new(),
            reading: Reading::Open,
            pending: Bytes::new(),
            writing: Writing::Open,
            left: false,
        }
    }

    fn waiting(&self) -> usize {
        self.front.iter().map(Bytes::len).sum()
    }
}

/// What there is to read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// These bytes, one piece after the other; [`Bridge::consumed`] says how many were taken.
    Bytes(&'a VecDeque<Bytes>),
    /// Nothing now; [`Happening::Readable`] tells of more.
    Wait,
    /// All was read.
    End,
}

impl Bridge {
    /// What the peer has sent.
    pub fn read(&mut self, key: StreamKey) -> Read<'_> {
        self.fill(key);
        let Some(stream) = self.streams.get_mut(key) else { return Read::Wait };
        if !stream.front.is_empty() {
            return Read::Bytes(&stream.front);
        }
        let held = stream.gate.as_ref().is_some_and(Gate::holds);
        if stream.reading == Reading::Ended && !held { Read::End } else { Read::Wait }
    }

    /// So many of the bytes that `read` gave were taken.
    pub fn consumed(&mut self, key: StreamKey, mut count: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        while count > 0
            && let Some(piece) = stream.front.front_mut()
        {
            let of_piece = count.min(piece.len());
            piece.advance(of_piece);
            count -= of_piece;
            if piece.is_empty() {
                stream.front.pop_front();
            }
        }
    }

    /// Takes from the stream what it has, up to the bound, through the gate while there is one.
    fn fill(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(conn) = self.conns.get_mut(stream.conn).and_then(Option::as_mut) else { return };
        let mut credit = false;
        let mut reset = false;
        let mut waiting = stream.waiting();
        while stream.reading == Reading::Open && waiting < PIECE_MAX {
            let want = stream.gate.as_ref().map_or(usize::MAX, Gate::want);
            if want == 0 {
                break;
            }
            let mut recv = conn.quic.recv_stream(stream.id);
            let Ok(mut chunks) = recv.read(true) else {
                reset = true;
                break;
            };
            let next = chunks.next(want.min(PIECE_MAX - waiting));
            credit |= chunks.finalize().should_transmit();
            match next {
                Ok(Some(chunk)) => {
                    let passed = match &mut stream.gate {
                        None => Some(chunk.bytes),
                        Some(gate) => gate.pass(chunk.bytes),
                    };
                    if stream.gate.as_ref().is_some_and(Gate::is_shut) {
                        self.counters.early_held.add(1);
                    }
                    waiting += passed.as_ref().map_or(0, Bytes::len);
                    stream.front.extend(passed);
                }
                Ok(None) => stream.reading = Reading::Ended,
                Err(ReadError::Blocked) => break,
                Err(ReadError::Reset(_)) => {
                    reset = true;
                    break;
                }
            }
        }
        let index = stream.conn;
        if reset {
            self.give_up(key, Code::Closed);
        }
        if credit {
            self.touch(index);
        }
    }

    /// The handshake is confirmed: what was held goes on.
    pub(super) fn open_gate(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let kept = stream.gate.take().map(Gate::open);
        stream.front.extend(kept.filter(|kept| !kept.is_empty()));
    }

    /// True where the stream takes up to [`PIECE_MAX`] bytes more.
    pub fn room(&mut self, key: StreamKey) -> bool {
        let stream = self.streams.get_mut(key);
        stream.is_some_and(|s| s.writing == Writing::Open && s.pending.is_empty())
    }

    /// Bytes for the peer. To be called only where there is [`room`](Self::room).
    ///
    /// # Panics
    /// For more than [`PIECE_MAX`] bytes: a mistake of the caller, never of a peer.
    pub fn write(&mut self, key: StreamKey, bytes: &[u8]) {
        assert!(bytes.len() <= PIECE_MAX, "{} bytes at once", bytes.len());
        let Some(stream) = self.streams.get_mut(key) else { return };
        debug_assert!(stream.pending.is_empty(), "written where there is no room");
        stream.pending = Bytes::copy_from_slice(bytes);
        self.counters.copied_to_send.add(bytes.len() as u64);
        self.flush(key);
    }

    /// There is no more for the peer.
    pub fn finish(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.writing == Writing::Open {
            stream.writing = Writing::Finishing;
            self.flush(key);
        }
    }

    /// Hands on what waits for the peer.
    pub(super) fn flush(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(conn) = self.conns.get_mut(stream.conn).and_then(Option::as_mut) else { return };
        let index = stream.conn;
        let mut send = conn.quic.send_stream(stream.id);
        while !stream.pending.is_empty() {
            match send.write_chunks(std::slice::from_mut(&mut stream.pending)) {
                Ok(_) => {}
                Err(WriteError::Blocked) => return self.touch(index),
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    return self.give_up(key, Code::Closed);
                }
            }
        }
        if stream.writing == Writing::Finishing {
            stream.writing = Writing::Done;
            // It fails where the peer wants no more, which it has said already.
            let _ = send.finish();
            if stream.left {
                self.drop_stream(key);
            }
        }
        self.touch(index);
    }

    /// The shard takes no more of this stream.
    pub fn stop(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(conn) = self.conns.get_mut(stream.conn).and_then(Option::as_mut) else { return };
        let index = stream.conn;
        if stream.reading == Reading::Open {
            // It fails where the stream has ended, which is as good.
            let _ = conn.quic.recv_stream(stream.id).stop(Code::Closed.into());
        }
        stream.reading = Reading::Stopped;
        stream.front.clear();
        stream.gate = None;
        self.touch(index);
    }

    /// Whoever had the stream has left it. What was finished is still delivered; what was not is
    /// cut off. The key is of no more use.
    pub fn leave(&mut self, key: StreamKey) {
        self.stop(key);
        let Some(stream) = self.streams.get_mut(key) else { return };
        match stream.writing {
            Writing::Finishing => stream.left = true,
            Writing::Done => self.drop_stream(key),
            Writing::Open => self.cut_off(key, Code::Closed),
        }
    }

    /// There is no shard for this stream. The key is of no more use.
    pub fn refuse(&mut self, key: StreamKey) {
        self.stop(key);
        self.cut_off(key, Code::Busy);
    }

    /// The peer has given the stream up.
    pub(super) fn give_up(&mut self, key: StreamKey, code: Code) {
        self.stop(key);
        self.cut_off(key, code);
        self.told.push_back(Happening::Gone(key));
    }

    fn cut_off(&mut self, key: StreamKey, code: Code) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let (index, id) = (stream.conn, stream.id);
        if let Some(conn) = self.conn(index) {
            // It fails where the stream has ended, which is as good.
            let _ = conn.quic.send_stream(id).reset(code.into());
        }
        self.drop_stream(key);
        self.touch(index);
    }

    fn drop_stream(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.remove(key) else { return };
        if let Some(conn) = self.conn(stream.conn) {
            conn.streams.remove(&stream.id);
        }
    }
}
