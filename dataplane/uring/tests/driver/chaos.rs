//! Random runs against an oracle: whatever the shard orders, whatever the peers do, and however few
//! buffers and entries there are, every byte arrives once, in order, and at the end nothing is left
//! behind.

use crate::rig::{GEOMETRY, Link, Rig, Seen, config, connect, reset_on_drop};
use dataplane_core::{
    driver::{ConnId, Driver, Segment},
    memory::{ChunkId, Memory, SlotId},
};
use dataplane_uring::Config;
use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

const CLIENTS: usize = 12;
const STEPS: usize = 1_500;

/// xorshift64*: small, seeded, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The byte at a place of every stream, in both directions.
fn byte_at(place: usize) -> u8 {
    (place as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]
}

fn stretch(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(byte_at).collect()
}

struct Client {
    socket: TcpStream,
    written: usize,
    read: usize,
    ended: bool,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let socket = connect(address);
        socket.set_nonblocking(true).unwrap();
        Self { socket, written: 0, read: 0, ended: false }
    }

    /// False once the connection is of no more use.
    fn write(&mut self, len: usize) -> bool {
        if self.ended {
            return true;
        }
        match self.socket.write(&stretch(self.written, len)) {
            Ok(len) => self.written += len,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        true
    }

    /// False once the connection is of no more use.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4_096];
        match self.socket.read(&mut bytes) {
            Ok(0) => false,
            Ok(len) => {
                assert_eq!(bytes[..len], stretch(self.read, len), "what we sent");
                self.read += len;
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    fn end(&mut self) {
        self.ended = true;
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// The stream is on.
    Stream,
    /// The stream stopped because we did not use all.
    Paused,
    /// On the way to the bulk lane.
    Stopping,
    /// In the bulk lane, nothing ordered.
    Bulk,
    /// A header of this length is ordered.
    Header(usize),
    /// A stretch of the connection's slot.
    Slot(usize, usize),
    /// Closed by us.
    Closing,
}

/// What the shard knows of a connection.
struct Peer {
    lane: Lane,
    got: usize,
    sent: usize,
    sending: usize,
    ended: bool,
    /// Not all was used on the way to the bulk lane.
    kept: bool,
}

struct World {
    rig: Rig,
    dice: Dice,
    peers: HashMap<ConnId, Peer>,
    /// Whether peers are left alone from now on.
    calm: bool,
}

impl World {
    fn slot(conn: ConnId) -> SlotId {
        SlotId(conn.0 % GEOMETRY.slots())
    }

    fn close(&mut self, conn: ConnId) {
        self.rig.driver.close(conn);
        self.peers.get_mut(&conn).unwrap().lane = Lane::Closing;
    }

    fn transmit(&mut self, conn: ConnId) {
        let parts = 1 + self.dice.below(4);
        let peer = self.peers.get_mut(&conn).unwrap();
        if peer.sending > 0 || peer.lane == Lane::Closing {
            return;
        }
        let mut segments = Vec::new();
        let mut from = 0;
        for _ in 0..parts {
            let len = 1 + self.dice.below(6_000);
            let bytes = stretch(peer.sent + from, len);
            let chunk = ChunkId(conn.0);
            self.rig.memory.chunk_mut(chunk)[from..from + len].copy_from_slice(&bytes);
            segments.push(Segment::Chunk { chunk, from: from as u32, len: len as u32 });
            from += len;
        }
        peer.sending = from;
        self.rig.driver.transmit(conn, &segments);
    }

    /// Orders something that the contract allows in this lane.
    fn order(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        let driver = &mut self.rig.driver;
        match peer.lane {
            Lane::Stream if !self.calm && self.dice.one_in(3) => {
                driver.stop_stream(conn);
                peer.lane = Lane::Stopping;
            }
            Lane::Paused if self.calm || self.dice.one_in(2) => {
                driver.start_stream(conn);
                peer.lane = Lane::Stream;
            }
            Lane::Paused => {
                driver.stop_stream(conn);
                peer.lane = Lane::Stopping;
            }
            Lane::Bulk if self.calm || self.dice.one_in(3) => {
                driver.start_stream(conn);
                peer.lane = Lane::Stream;
            }
            Lane::Bulk if self.dice.one_in(2) => {
                let len = 1 + self.dice.below(32);
                driver.fill_header(conn, len as u32);
                peer.lane = Lane::Header(len);
            }
            Lane::Bulk => {
                let (from, len) = (self.dice.below(500), 1 + self.dice.below(3_000));
                driver.fill_slot(conn, Self::slot(conn), from as u32, len as u32);
                peer.lane = Lane::Slot(from, len);
            }
            _ => {}
        }
    }

    /// Bytes came: they must be the next ones of this peer, and allowed in its lane.
    fn take(&mut self, conn: ConnId, bytes: &[u8]) {
        let offered = self.rig.offered;
        let peer = self.peers.get_mut(&conn).unwrap();
        assert!(!peer.ended && peer.lane != Lane::Closing, "{:?}", peer.lane);
        assert_eq!(bytes, stretch(peer.got, bytes.len()), "what the peer sent");
        match peer.lane {
            Lane::Stream if bytes.len() < offered => peer.lane = Lane::Paused,
            Lane::Stopping => {
                assert!(!peer.kept, "offered again before it stopped");
                peer.kept = bytes.len() < offered;
            }
            Lane::Stream => {}
            Lane::Header(len) => {
                assert_eq!(offered, len);
                // A header is delivered whole, however much of it is looked at.
                peer.got += len - bytes.len();
                peer.lane = Lane::Bulk;
            }
            other => panic!("bytes in {other:?}"),
        }
        peer.got += bytes.len();
    }

    fn react(&mut self, seen: Seen) {
        match seen {
            Seen::Accepted(conn) => {
                let peer = Peer {
                    lane: Lane::Stream,
                    got: 0,
                    sent: 0,
                    sending: 0,
                    ended: false,
                    kept: false,
                };
                assert!(self.peers.insert(conn, peer).is_none(), "taken twice");
                self.rig.driver.start_stream(conn);
            }
            Seen::Bytes(conn, bytes) => self.take(conn, &bytes),
            Seen::Stopped(conn) => {
                let peer = self.peers.get_mut(&conn).unwrap();
                assert_eq!(peer.lane, Lane::Stopping);
                let kept = std::mem::take(&mut peer.kept);
                peer.lane = if kept { Lane::Paused } else { Lane::Bulk };
            }
            Seen::Filled(conn) => {
                let peer = self.peers.get_mut(&conn).unwrap();
                let Lane::Slot(from, len) = peer.lane else { panic!("{:?}", peer.lane) };
                let area = &self.rig.memory.request(Self::slot(conn))[from..from + len];
                // Slots are shared by a few connections here, so only who was alone in its slot can
                // be compared.
                if self.rig.driver.capacity().0 <= GEOMETRY.slots() {
                    assert_eq!(area, stretch(peer.got, len), "what the peer sent");
                }
                peer.got += len;
                peer.lane = Lane::Bulk;
            }
            Seen::Eof(conn) => {
                let peer = self.peers.get_mut(&conn).unwrap();
                assert!(!std::mem::replace(&mut peer.ended, true), "ended twice");
                self.close(conn);
            }
            Seen::Sent(conn, bytes) => {
                let peer = self.peers.get_mut(&conn).unwrap();
                assert!(bytes as usize <= peer.sending);
                peer.sent += bytes as usize;
                peer.sending = 0;
            }
            Seen::Failed(conn) => self.close(conn),
            Seen::Closed(conn) => {
                let peer = self.peers.remove(&conn).unwrap();
                assert_eq!(peer.lane, Lane::Closing, "closed without being told to");
            }
            other => panic!("{other:?}"),
        }
    }

    /// Some events and some orders, then a flush that does not wait unless told to.
    fn turn(&mut self, wait: bool) {
        let mut events = 0;
        for _ in 0..1 + self.dice.below(20) {
            self.rig.use_at_most =
                if self.calm || self.dice.one_in(2) { usize::MAX } else { self.dice.below(300) };
            let Some(seen) = self.rig.poll() else { break };
            events += 1;
            let conn = match &seen {
                Seen::Bytes(conn, _) | Seen::Stopped(conn) | Seen::Filled(conn) => Some(*conn),
                _ => None,
            };
            self.react(seen);
            if let Some(conn) = conn.filter(|_| self.calm || self.dice.one_in(2)) {
                self.order(conn);
            }
        }
        let conns: Vec<_> = self.peers.keys().copied().collect();
        for conn in conns {
            match self.dice.below(40) {
                0 if !self.calm => self.transmit(conn),
                1 if !self.calm && self.peers[&conn].lane != Lane::Closing => self.close(conn),
                _ if self.calm || self.dice.one_in(6) => self.order(conn),
                _ => {}
            }
        }
        let now = self.rig.driver.now();
        let until = if wait { now + 1_000_000_000 } else { now };
        self.rig.driver.flush(events == 0, Some(until));
    }
}

fn run(seed: u64, accepted: u32, link: Link) {
    let tight = Config { accepted, buffers: 4, buffer_len: 256, submissions: 8, ..config() };
    let (rig, address) = Rig::over(link, &tight);
    let mut world = World { rig, dice: Dice(seed), peers: HashMap::new(), calm: false };
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::new(address)).collect();
    for _ in 0..STEPS {
        let at = world.dice.below(CLIENTS);
        let client = &mut clients[at];
        let alive = match world.dice.below(60) {
            0 => {
                client.end();
                true
            }
            1 => {
                reset_on_drop(&client.socket);
                false
            }
            2..20 => client.read(),
            _ => client.write(1 + world.dice.below(3_000)),
        };
        if !alive {
            clients[at] = Client::new(address);
        }
        world.turn(false);
    }
    world.calm = true;
    for client in &mut clients {
        client.end();
    }
    let limit = world.rig.driver.now() + 20_000_000_000;
    let mut turns = 0;
    loop {
        for client in &mut clients {
            while client.read() && !client_is_idle(client) {}
        }
        let counters = *world.rig.driver.counters();
        // Connections still in the backlog count too: all clients see the end of theirs.
        let all_ended = clients.iter_mut().all(|client| has_ended(client));
        if world.peers.is_empty() && all_ended && counters.closed == counters.accepts {
            break;
        }
        assert!(
            world.rig.driver.now() < limit,
            "seed {seed}: {:?} {counters:?}",
            world.peers.len()
        );
        turns += 1;
        world.turn(turns % 64 == 0);
    }
    assert_eq!(world.rig.driver.free_buffers(), 4, "seed {seed}");
}

fn client_is_idle(client: &Client) -> bool {
    let mut byte = [0];
    client.socket.peek(&mut byte).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn has_ended(client: &Client) -> bool {
    let mut byte = [0];
    !matches!(client.socket.peek(&mut byte), Ok(1..)) && !client_is_idle(client)
}

#[test]
fn streams_survive_any_order_of_events() {
    for seed in 1..=6 {
        run(seed * 7_919, GEOMETRY.slots(), Link::Plain);
    }
}

#[test]
fn streams_survive_a_roomy_table_too() {
    for seed in 1..=4 {
        run(seed * 104_729, 32, Link::Plain);
    }
}

#[test]
fn trans_03_streams_survive_under_tls_too() {
    for seed in 1..=4 {
        run(seed * 6_151, GEOMETRY.slots(), Link::Tls);
        run(seed * 3_571, 32, Link::Tls);
    }
}
