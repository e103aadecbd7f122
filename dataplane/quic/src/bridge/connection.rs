//! The life of a connection: handshake, who it is, its streams, its end.

use super::{Bridge, Code, Happening, StreamKey, gate::Gate, streams::Stream};
use crate::counters::Refusal;
use bytes::Bytes;
use dataplane_core::driver::Caller;
use quinn_proto::{Connection, ConnectionHandle, Dir, Event, StreamEvent, StreamId};
use rustls::pki_types::CertificateDer;
use std::{collections::BTreeMap, time::Instant};

/// A connection and what is known of it.
pub(super) struct Conn {
    pub(super) quic: Connection,
    /// Its certificates speak for somebody who may come in.
    known: bool,
    /// When the handshake must be confirmed; `None` once it is, or is given up.
    pub(super) until: Option<Instant>,
    /// Its first flight carried data that was accepted.
    early: bool,
    pub(super) streams: BTreeMap<StreamId, StreamKey>,
    /// Its entry among the timers.
    pub(super) due: Option<Instant>,
    pub(super) dirty: bool,
    pub(super) sending: bool,
}

impl Conn {
    pub(super) fn new(quic: Connection, until: Instant) -> Self {
        Self {
            quic,
            known: false,
            until: Some(until),
            early: false,
            streams: BTreeMap::new(),
            due: None,
            dirty: false,
            sending: false,
        }
    }

    /// True when no stream has anything that the peer has not acknowledged.
    pub(super) fn delivered(&mut self) -> bool {
        self.quic.is_closed() || self.quic.streams().send_streams() == 0
    }
}

impl Bridge {
    /// Looks at all that is new of a connection.
    pub(super) fn drive(&mut self, now: Instant, index: usize) {
        let Some(conn) = self.conn(index) else { return };
        conn.dirty = false;
        while let Some(event) = self.conn(index).and_then(|conn| conn.quic.poll()) {
            self.on_event(now, index, event);
        }
        self.look_for_early(index);
        while let Some(conn) = self.conns.get_mut(index).and_then(Option::as_mut)
            && let Some(event) = conn.quic.poll_endpoint_events()
        {
            let last = event.is_drained();
            let answer = self.endpoint.handle_event(ConnectionHandle(index), event);
            if last {
                return self.forget(index);
            }
            if let Some(answer) = answer {
                conn.quic.handle_event(answer);
            }
        }
        let Some(conn) = self.conn(index) else { return };
        if !std::mem::replace(&mut conn.sending, true) {
            self.sending.push_back(index);
        }
        self.schedule(index);
    }

    fn on_event(&mut self, now: Instant, index: usize, event: Event) {
        match event {
            Event::Connected => self.confirmed(now, index),
            Event::ConnectionLost { .. } => self.on_lost(index),
            Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => self.take_streams(index),
            Event::Stream(StreamEvent::Readable { id }) => {
                let key = self.key(index, id);
                self.told.extend(key.map(Happening::Readable));
            }
            Event::Stream(StreamEvent::Writable { id }) => {
                if let Some(key) = self.key(index, id) {
                    self.flush(key);
                    let room = self.room(key);
                    self.told.extend(room.then_some(Happening::Writable(key)));
                }
            }
            Event::Stream(StreamEvent::Stopped { id, .. }) => {
                if let Some(key) = self.key(index, id) {
                    self.give_up(key, Code::Closed);
                }
            }
            _ => {}
        }
    }

    fn on_lost(&mut self, index: usize) {
        if self.lose(index) {
            self.counters.refuse(Refusal::Handshake);
        }
    }

    fn key(&mut self, index: usize, id: StreamId) -> Option<StreamKey> {
        self.conn(index)?.streams.get(&id).copied()
    }

    /// Who a connection's certificates speak for. `None` too while they have not come.
    fn identity(&self, index: usize) -> Option<Caller> {
        let conn = self.conns.get(index)?.as_ref()?;
        let peer = conn.quic.crypto_session().peer_identity()?;
        let chain = peer.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        (self.recognise)(&chain)
    }

    /// Data of a first flight: the session it belongs to says who it is from.
    fn look_for_early(&mut self, index: usize) {
        let Some(conn) = self.conn(index) else { return };
        if conn.until.is_none() || conn.early || !conn.quic.has_0rtt() {
            return;
        }
        conn.early = true;
        self.counters.early.add(1);
        let known = self.identity(index).is_some();
        if let Some(conn) = self.conn(index) {
            conn.known = known;
        }
        self.take_streams(index);
    }

    fn confirmed(&mut self, now: Instant, index: usize) {
        let known = self.identity(index).is_some();
        let Some(conn) = self.conn(index) else { return };
        conn.known = known;
        if !known {
            self.counters.refuse(Refusal::Identity);
            return self.close(now, index, Code::Identity);
        }
        let handshaking = conn.until.take().is_some();
        let held: Vec<_> = conn.streams.values().copied().collect();
        self.handshaking -= u32::from(handshaking);
        self.counters.connections.add(1);
        for key in held {
            self.open_gate(key);
            self.told.push_back(Happening::Readable(key));
        }
        self.take_streams(index);
    }

    /// Takes up the streams that the peer has opened, once it is known who it is. That is asked
    /// again for each: a shard counts a stream as a connection, and an identity without one may
    /// have lost its place, or its certificate may have expired.
    fn take_streams(&mut self, index: usize) {
        while let Some(conn) = self.conn(index)
            && conn.known
            && let Some(id) = conn.quic.streams().accept(Dir::Bi)
        {
            let gate = conn.until.is_some().then(Gate::default);
            let place = match self.identity(index) {
                _ if self.draining => Err(Refusal::Draining),
                None => Err(Refusal::Identity),
                Some(who) => {
                    let stream = Stream::new(index, id, gate);
                    let key = self.streams.insert(stream).map_err(|_| Refusal::Streams);
                    key.map(|key| (key, who))
                }
            };
            match (place, self.conn(index)) {
                (Ok((key, who)), Some(conn)) => {
                    conn.streams.insert(id, key);
                    self.told.push_back(Happening::Opened(key, who));
                }
                (Err(reason), Some(conn)) => {
                    // Both fail for a stream that is over already, which is what is wanted.
                    let _ = conn.quic.recv_stream(id).stop(Code::Busy.into());
                    let _ = conn.quic.send_stream(id).reset(Code::Busy.into());
                    self.counters.refuse(reason);
                }
                (_, None) => return,
            }
            self.touch(index);
        }
    }

    /// Ends a connection from this side.
    pub(super) fn close(&mut self, now: Instant, index: usize, code: Code) {
        let Some(conn) = self.conn(index) else { return };
        conn.quic.close(now, code.into(), Bytes::new());
        self.lose(index);
    }

    /// Nothing of this connection is of use any more. True if it was in its handshake.
    fn lose(&mut self, index: usize) -> bool {
        let Some(conn) = self.conn(index) else { return false };
        let handshaking = conn.until.take().is_some();
        conn.known = false;
        for key in std::mem::take(&mut conn.streams).into_values() {
            self.streams.remove(key);
            self.told.push_back(Happening::Gone(key));
        }
        self.handshaking -= u32::from(handshaking);
        handshaking
    }

    /// The machine has no more use for this connection.
    fn forget(&mut self, index: usize) {
        self.lose(index);
        let Some(conn) = self.conns.get_mut(index).and_then(Option::take) else { return };
        if let Some(due) = conn.due {
            self.timers.remove(&(due, index));
        }
        self.open -= 1;
        self.counters.connections_open.set(self.open.into());
    }
}
