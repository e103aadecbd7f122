//! The bridge between QUIC and stream sockets, as a state machine: datagrams and time in;
//! datagrams, bytes of streams and the next moment to wake up out.
//!
//! A peer has no place here before its certificate was checked: its streams are told of once it is
//! known who it is ([`Happening::Opened`]). What each stream has under way is bounded both ways:
//! what a shard does not take stays in the stream's window, so that the peer has to stop; what the
//! peer does not take leaves no [`room`](Bridge::room), so that the shard has to.

mod connection;
mod gate;
mod streams;
mod table;

pub use streams::Read;
pub use table::StreamKey;

use crate::{
    config,
    counters::{Counters, Refusal},
    limits::{ANSWERS_MAX, Limits},
};
use bytes::BytesMut;
use connection::Conn;
use dataplane_core::driver::Caller;
use quinn_proto::{
    ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint, Incoming, Transmit, VarInt,
    crypto::rustls::NoInitialCipherSuite,
};
use rustls::pki_types::CertificateDer;
use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};
use streams::Stream;
use table::Table;

/// Datagrams of one transmit: what the kernel cuts a long send into (GSO).
pub const SEGMENTS_MAX: usize = 32;

/// What a peer is told when its connection or stream is ended by this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The node ends.
    Ending = 0,
    /// The certificate names nobody who may come in.
    Identity = 1,
    /// The handshake took too long.
    Slow = 2,
    /// No room for the stream.
    Busy = 3,
    /// The shard has closed the stream.
    Closed = 4,
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        Self::from_u32(code as u32)
    }
}

/// What an identity makes of a peer; `None` is not let in.
pub type Identify = Box<dyn Fn(&tls::Identity) -> Option<Caller> + Send>;

/// Who a chain of certificates, the peer's own first, speaks for; `None` is not let in.
pub type Recognise = Box<dyn Fn(&[CertificateDer<'_>]) -> Option<Caller> + Send>;

/// What the bridge tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A peer opened a stream: it wants a shard.
    Opened(StreamKey, Caller),
    /// There may be something to [`read`](Bridge::read).
    Readable(StreamKey),
    /// There is [`room`](Bridge::room) again.
    Writable(StreamKey),
    /// The peer has given the stream up, or is gone. The key is of no more use.
    Gone(StreamKey),
}

/// All connections and streams of a listener.
pub struct Bridge {
    endpoint: Endpoint,
    conns: Vec<Option<Box<Conn>>>,
    open: u32,
    handshaking: u32,
    streams: Table<Stream>,
    /// Connections with something new to look at, each once.
    dirty: VecDeque<usize>,
    /// Connections with something to send, each once, in fair turns.
    sending: VecDeque<usize>,
    timers: BTreeSet<(Instant, usize)>,
    /// What goes out outside of connections.
    answers: VecDeque<(Transmit, Vec<u8>)>,
    told: VecDeque<Happening>,
    recognise: Recognise,
    hushed: bool,
    draining: bool,
    limits: Limits,
    counters: Arc<Counters>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Bridge {
    /// A bridge that knows nobody yet. `tls` says how peers prove who they are; `recognise` says
    /// who that makes them.
    ///
    /// # Errors
    /// Where `tls` has no cipher suite that QUIC can start with.
    pub fn new(
        tls: &rustls::ServerConfig,
        limits: Limits,
        counters: Arc<Counters>,
        recognise: Recognise,
    ) -> Result<Self, NoInitialCipherSuite> {
        let server = config::server(tls, &limits)?;
        Ok(Self {
            endpoint: Endpoint::new(config::endpoint(), Some(server), true, None),
            conns: Vec::new(),
            open: 0,
            handshaking: 0,
            streams: Table::new(limits.streams_in_all),
            dirty: VecDeque::new(),
            sending: VecDeque::new(),
            timers: BTreeSet::new(),
            answers: VecDeque::new(),
            told: VecDeque::new(),
            recognise,
            hushed: false,
            draining: false,
            limits,
            counters,
        })
    }

    /// Other certificates from now on, for new connections; no session of before is resumed.
    ///
    /// # Errors
    /// As for [`new`](Self::new); the old configuration stays.
    pub fn reload(&mut self, tls: &rustls::ServerConfig) -> Result<(), NoInitialCipherSuite> {
        self.endpoint.set_server_config(Some(config::server(tls, &self.limits)?));
        Ok(())
    }

    /// A datagram came from `from` to the local address `to`.
    pub fn datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: Option<IpAddr>,
        ecn: Option<EcnCodepoint>,
        bytes: BytesMut,
    ) {
        self.counters.datagrams_in.add(1);
        self.counters.bytes_in.add(bytes.len() as u64);
        let mut answer = Vec::new();
        match self.endpoint.handle(now, from, to, ecn, bytes, &mut answer) {
            None => {}
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(conn) = self.conn(handle.0) {
                    conn.quic.handle_event(event);
                    self.touch(handle.0);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.admit(now, incoming),
            Some(DatagramEvent::Response(transmit)) => self.answer(transmit, answer),
        }
    }

    /// Lets a peer begin its handshake, or says why not.
    fn admit(&mut self, now: Instant, incoming: Incoming) {
        if self.hushed {
            self.counters.refuse(Refusal::Draining);
            return self.endpoint.ignore(incoming);
        }
        let mut answer = Vec::new();
        if let Some(reason) = self.refusal() {
            self.counters.refuse(reason);
            let transmit = self.endpoint.refuse(incoming, &mut answer);
            return self.answer(transmit, answer);
        }
        let crowded = self.handshaking >= self.limits.retry_above;
        if crowded && !incoming.remote_address_validated() {
            self.counters.retries.add(1);
            return match self.endpoint.retry(incoming, &mut answer) {
                Ok(transmit) => self.answer(transmit, answer),
                // It has shown a token of ours that is not good for its address.
                Err(error) => self.endpoint.ignore(error.into_incoming()),
            };
        }
        match self.endpoint.accept(incoming, now, &mut answer, None) {
            Ok((handle, quic)) => self.begin(handle, Conn::new(quic, now + self.limits.handshake)),
            Err(error) => {
                self.counters.refuse(Refusal::Handshake);
                if let Some(transmit) = error.response {
                    self.answer(transmit, answer);
                }
            }
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        if self.draining {
            Some(Refusal::Draining)
        } else if self.open >= self.limits.connections {
            Some(Refusal::Connections)
        } else if self.handshaking >= self.limits.handshakes {
            Some(Refusal::Handshakes)
        } else {
            None
        }
    }

    fn begin(&mut self, ConnectionHandle(index): ConnectionHandle, conn: Conn) {
        if self.conns.len() <= index {
            self.conns.resize_with(index + 1, || None);
        }
        self.conns[index] = Some(Box::new(conn));
        self.handshaking += 1;
        self.open += 1;
        self.counters.connections_open.set(self.open.into());
        self.touch(index);
    }

    fn answer(&mut self, transmit: Transmit, bytes: Vec<u8>) {
        if self.answers.len() < ANSWERS_MAX {
            self.answers.push_back((transmit, bytes));
        } else {
            self.counters.answers_dropped.add(1);
        }
    }

    /// Time has passed: [`next_timeout`](Self::next_timeout) or later.
    pub fn timeout(&mut self, now: Instant) {
        while let Some(&(due, index)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            let Some(conn) = self.conn(index) else { continue };
            conn.due = None;
            if conn.until.is_some_and(|until| until <= now) {
                self.counters.refuse(Refusal::Slow);
                self.close(now, index, Code::Slow);
            }
            if let Some(conn) = self.conn(index) {
                conn.quic.handle_timeout(now);
            }
            self.touch(index);
        }
    }

    /// When to call [`timeout`](Self::timeout) at the latest. To be asked after all was polled and
    /// transmitted.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// What happened, until there is no more. To be polled after each call that changes something.
    pub fn poll(&mut self, now: Instant) -> Option<Happening> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(told);
            }
            let index = self.dirty.pop_front()?;
            self.drive(now, index);
        }
    }

    /// The next datagrams to send, appended to the empty `bytes`: at most `segments` (from 1 to
    /// [`SEGMENTS_MAX`]) of one length, the last may be shorter, to one peer. Connections take
    /// turns.
    pub fn transmit(
        &mut self,
        now: Instant,
        segments: usize,
        bytes: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let transmit = self.next_transmit(now, segments, bytes)?;
        let each = transmit.segment_size.unwrap_or(transmit.size).max(1);
        self.counters.datagrams_out.add(transmit.size.div_ceil(each) as u64);
        self.counters.bytes_out.add(transmit.size as u64);
        Some(transmit)
    }

    fn next_transmit(
        &mut self,
        now: Instant,
        segments: usize,
        bytes: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if let Some((transmit, answer)) = self.answers.pop_front() {
            bytes.extend_from_slice(&answer);
            return Some(transmit);
        }
        while let Some(index) = self.sending.pop_front() {
            let Some(conn) = self.conn(index) else { continue };
            conn.sending = false;
            let transmit = conn.quic.poll_transmit(now, segments, bytes);
            if transmit.is_some() {
                conn.sending = true;
                self.sending.push_back(index);
            }
            self.schedule(index);
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// No new connections, and no answer to those who try: they try again, and meet who serves
    /// here then. What there is goes on.
    pub fn hush(&mut self) {
        self.hushed = true;
    }

    /// No new connections, no new streams; what there is goes on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// True when the peers have all that shards have finished for them.
    pub fn delivered(&mut self) -> bool {
        self.conns.iter_mut().flatten().all(|conn| conn.delivered())
    }

    /// Ends all connections; what tells the peers so is still to be transmitted.
    pub fn end(&mut self, now: Instant) {
        self.draining = true;
        for index in 0..self.conns.len() {
            self.close(now, index, Code::Ending);
            self.touch(index);
        }
    }

    fn conn(&mut self, index: usize) -> Option<&mut Conn> {
        self.conns.get_mut(index)?.as_deref_mut()
    }

    /// Has a look at this connection soon.
    fn touch(&mut self, index: usize) {
        let Some(conn) = self.conns.get_mut(index).and_then(Option::as_mut) else { return };
        if !std::mem::replace(&mut conn.dirty, true) {
            self.dirty.push_back(index);
        }
    }

    /// Queues this connection for sending and brings its timer up to date.
    fn schedule(&mut self, index: usize) {
        let Some(conn) = self.conns.get_mut(index).and_then(Option::as_mut) else { return };
        let due = conn.quic.poll_timeout().into_iter().chain(conn.until).min();
        if conn.due != due {
            if let Some(old) = conn.due {
                self.timers.remove(&(old, index));
            }
            self.timers.extend(due.map(|due| (due, index)));
            conn.due = due;
        }
    }
}
