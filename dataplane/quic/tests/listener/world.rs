//! A bridge and a client in virtual time, with a network between them that loses and reorders.

use crate::support::{NODE, Papers, identify};
use bytes::BytesMut;
use dataplane_quic::{Bridge, Counters, Happening, Limits, PIECE_MAX, Read, StreamKey, recognise};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, StreamId, Transmit, crypto::rustls::QuicClientConfig,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) const CLIENT: &str = "10.0.0.1:4000";
pub(crate) const SERVER: &str = "10.0.0.2:7171";

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Lost, of 1000.
    pub(crate) loss: u64,
    /// Most milliseconds on the way beyond the first.
    pub(crate) jitter: u64,
}

struct Flying {
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// A stream at the bridge's side.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) got: Vec<u8>,
    pub(crate) ended: bool,
    pub(crate) gone: bool,
    /// Bytes of `got` already sent back.
    sent: usize,
    finished: bool,
}

/// A connection at the client's side.
pub(crate) struct Peer {
    pub(crate) quic: Connection,
    pub(crate) events: Vec<Event>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) bridge: Bridge,
    pub(crate) counters: Arc<Counters>,
    pub(crate) shards: BTreeMap<StreamKey, Shard>,
    /// The shards send back what they get.
    pub(crate) echo: bool,
    /// The shards take what there is.
    pub(crate) taking: bool,
    endpoint: Endpoint,
    pub(crate) peers: BTreeMap<usize, Peer>,
    config: ClientConfig,
    /// Everything that the client has sent, as it was.
    pub(crate) sent: Vec<Vec<u8>>,
    up: BTreeMap<(Instant, u64), Flying>,
    down: BTreeMap<(Instant, u64), Flying>,
    pub(crate) weather: Weather,
    random: u64,
    count: u64,
}

impl World {
    pub(crate) fn new(limits: Limits, papers: &Papers, client: &str, seed: u64) -> Self {
        Self::with(limits, papers, papers.client(client), seed)
    }

    /// The same with another configuration of the client.
    pub(crate) fn with(
        limits: Limits,
        node: &Papers,
        client: rustls::ClientConfig,
        seed: u64,
    ) -> Self {
        let counters = Arc::new(Counters::default());
        let bridge =
            Bridge::new(&node.node(), limits, Arc::clone(&counters), recognise(identify()))
                .expect("suites for QUIC");
        let tls = QuicClientConfig::try_from(client).expect("suites for QUIC");
        Self {
            now: Instant::now(),
            bridge,
            counters,
            shards: BTreeMap::new(),
            echo: false,
            taking: true,
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None),
            peers: BTreeMap::new(),
            config: ClientConfig::new(Arc::new(tls)),
            sent: Vec::new(),
            up: BTreeMap::new(),
            down: BTreeMap::new(),
            weather: Weather::default(),
            random: seed.wrapping_mul(2) + 1,
            count: 0,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below.max(1)
    }

    /// Begins a connection.
    pub(crate) fn connect(&mut self) -> usize {
        let to = SERVER.parse().expect("an address");
        let (handle, quic) =
            self.endpoint.connect(self.now, self.config.clone(), to, NODE).expect("connects");
        self.peers.insert(handle.0, Peer { quic, events: Vec::new() });
        handle.0
    }

    pub(crate) fn peer(&mut self, peer: usize) -> &mut Peer {
        self.peers.get_mut(&peer).expect("a connection of this client")
    }

    /// Opens a stream and writes; gives the stream and how much of it was taken.
    pub(crate) fn open(&mut self, peer: usize, bytes: &[u8]) -> (StreamId, usize) {
        let quic = &mut self.peer(peer).quic;
        let id = quic.streams().open(Dir::Bi).expect("room for a stream");
        (id, quic.send_stream(id).write(bytes).unwrap_or(0))
    }

    /// What the client can read of a stream now; true where it has ended.
    pub(crate) fn read(&mut self, peer: usize, id: StreamId, into: &mut Vec<u8>) -> bool {
        let quic = &mut self.peer(peer).quic;
        let mut recv = quic.recv_stream(id);
        let Ok(mut chunks) = recv.read(true) else { return true };
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => into.extend_from_slice(&chunk.bytes),
                Ok(None) => return true,
                Err(_) => break,
            }
        }
        let _ = chunks.finalize();
        false
    }

    /// A datagram for the bridge, from anywhere, at once.
    pub(crate) fn deliver(&mut self, from: &str, bytes: &[u8]) {
        let from = from.parse().expect("an address");
        self.bridge.datagram(self.now, from, None, None, BytesMut::from(bytes));
        self.settle();
    }

    /// Runs until nothing happens before `span` is over.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.settle();
            let flying = [&self.up, &self.down].map(|way| way.keys().next().map(|key| key.0));
            let timers = self.peers.values_mut().filter_map(|peer| peer.quic.poll_timeout());
            let next = timers.chain(flying.into_iter().flatten()).chain(self.bridge.next_timeout());
            match next.min() {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
            self.arrive();
        }
        self.now = end;
    }

    fn arrive(&mut self) {
        while let Some(entry) = self.up.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let flying = entry.remove();
            let bytes = BytesMut::from(&flying.bytes[..]);
            self.bridge.datagram(self.now, flying.from, None, None, bytes);
        }
        while let Some(entry) = self.down.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let flying = entry.remove();
            let bytes = BytesMut::from(&flying.bytes[..]);
            let mut answer = Vec::new();
            let event = self.endpoint.handle(self.now, flying.from, None, None, bytes, &mut answer);
            if let Some(DatagramEvent::ConnectionEvent(handle, event)) = event
                && let Some(peer) = self.peers.get_mut(&handle.0)
            {
                peer.quic.handle_event(event);
            }
        }
        self.bridge.timeout(self.now);
        for peer in self.peers.values_mut() {
            if peer.quic.poll_timeout().is_some_and(|due| due <= self.now) {
                peer.quic.handle_timeout(self.now);
            }
        }
    }

    /// All that both ends do at this moment.
    pub(crate) fn settle(&mut self) {
        self.serve();
        let mut bytes = Vec::new();
        while let Some(transmit) = self.bridge.transmit(self.now, 8, &mut bytes) {
            self.fly(&transmit, SERVER, &bytes, false);
            bytes.clear();
        }
        let handles: Vec<_> = self.peers.keys().copied().collect();
        for handle in handles {
            let peer = self.peers.get_mut(&handle).expect("listed");
            while let Some(event) = peer.quic.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(ConnectionHandle(handle), event) {
                    peer.quic.handle_event(event);
                }
            }
            while let Some(event) = peer.quic.poll() {
                peer.events.push(event);
            }
            while let Some(peer) = self.peers.get_mut(&handle)
                && let Some(transmit) = peer.quic.poll_transmit(self.now, 1, &mut bytes)
            {
                self.sent.push(bytes.clone());
                self.fly(&transmit, CLIENT, &bytes, true);
                bytes.clear();
            }
        }
    }

    fn fly(&mut self, transmit: &Transmit, from: &str, bytes: &[u8], up: bool) {
        let each = transmit.segment_size.unwrap_or(transmit.size);
        for datagram in bytes.chunks(each) {
            self.count += 1;
            if self.draw(1000) < self.weather.loss {
                continue;
            }
            let at = self.now + MS + MS * self.draw(self.weather.jitter + 1) as u32;
            let from = from.parse().expect("an address");
            let flying = Flying { from, bytes: datagram.to_vec() };
            let way = if up { &mut self.up } else { &mut self.down };
            way.insert((at, self.count), flying);
        }
    }

    /// The shards' turn.
    fn serve(&mut self) {
        while let Some(happening) = self.bridge.poll(self.now) {
            match happening {
                Happening::Opened(key, _) => drop(self.shards.insert(key, Shard::default())),
                Happening::Gone(key) => {
                    self.shards.get_mut(&key).expect("told of before").gone = true;
                }
                Happening::Readable(_) | Happening::Writable(_) => {}
            }
            if self.taking {
                self.take();
            }
        }
        if self.taking {
            self.take();
        }
    }

    fn take(&mut self) {
        for (&key, shard) in &mut self.shards {
            while !shard.ended
                && let Read::Bytes(pieces) = self.bridge.read(key)
            {
                let pieces: Vec<_> = pieces.iter().cloned().collect();
                let count = pieces.iter().map(|piece| piece.len()).sum();
                assert!(count <= PIECE_MAX);
                pieces.iter().for_each(|piece| shard.got.extend_from_slice(piece));
                self.bridge.consumed(key, count);
            }
            shard.ended |= self.bridge.read(key) == Read::End;
            while self.echo && shard.sent < shard.got.len() && self.bridge.room(key) {
                let len = (shard.got.len() - shard.sent).min(PIECE_MAX);
                self.bridge.write(key, &shard.got[shard.sent..][..len]);
                shard.sent += len;
            }
            if self.echo && shard.ended && shard.sent == shard.got.len() && !shard.finished {
                shard.finished = true;
                self.bridge.finish(key);
                self.bridge.leave(key);
            }
        }
    }
}
