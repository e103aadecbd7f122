//! A driver, a memory, and clients on real sockets; events are taken one by one.

use crate::relay;
use dataplane_core::{
    driver::{ConnId, Driver, Event, Segment},
    memory::{ChunkId, Geometry, Memory, SlotId},
};
use dataplane_uring::{
    Commander, Commands, Config, PlainMemory, Policy, UringDriver, Workers, listen_tcp, listen_unix,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// Longer than any event of a healthy run takes; a test that waits longer has failed.
const PATIENCE_NS: u64 = 20_000_000_000;

pub(crate) const GEOMETRY: Geometry = Geometry {
    small_slots: 4,
    small_request: 4 << 10,
    small_reply: 4 << 10,
    bulk_slots: 4,
    bulk_request: 1 << 20,
    bulk_reply: 4 << 20,
    chunks: 64,
    chunk_len: 64 << 10,
};

pub(crate) fn config() -> Config {
    Config {
        accepted: 64,
        adopted: 4,
        buffers: 64,
        buffer_len: 4 << 10,
        submissions: 64,
        completions: 4_096,
        policy: Policy::Frugal,
        ..Config::default()
    }
}

/// What lies between a client and the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Plain,
    /// TLS, through a relay that speaks it for the client.
    Tls,
}

/// Runs a scenario over both.
pub(crate) fn over_both(scenario: fn(Link)) {
    for link in [Link::Plain, Link::Tls] {
        eprintln!("over {link:?}");
        scenario(link);
    }
}

/// An event, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Accepted(ConnId),
    Bytes(ConnId, Vec<u8>),
    Stopped(ConnId),
    Filled(ConnId),
    Eof(ConnId),
    Sent(ConnId, u32),
    Failed(ConnId),
    Closed(ConnId),
    Completed(u16, u32),
    WorkerUp(u16, u32),
    WorkerDown(u16),
    Drain,
    Leave,
}

pub(crate) struct Rig {
    pub(crate) driver: UringDriver,
    pub(crate) memory: PlainMemory,
    pub(crate) commander: Commander,
    /// Bytes used of each delivery.
    pub(crate) use_at_most: usize,
    /// Bytes that the last delivery had.
    pub(crate) offered: usize,
}

impl Rig {
    pub(crate) fn new(config: &Config) -> Self {
        let memory = PlainMemory::new(GEOMETRY).unwrap();
        let (commander, commands) = Commands::new(16).unwrap();
        let driver = UringDriver::new(config, memory.places(), Workers::none(), commands).unwrap();
        Self { driver, memory, commander, use_at_most: usize::MAX, offered: 0 }
    }

    /// A rig that listens on a TCP port of the machine's choice.
    pub(crate) fn tcp(config: &Config) -> (Self, SocketAddr) {
        Self::listening(config, "127.0.0.1:0")
    }

    /// The same over this kind of link; the address is the relay's where there is one.
    pub(crate) fn over(link: Link, config: &Config) -> (Self, SocketAddr) {
        match link {
            Link::Plain => Self::tcp(config),
            Link::Tls => {
                let (rig, address) = Self::under_tls(config);
                (rig, relay::start(address))
            }
        }
    }

    /// A rig whose port speaks TLS.
    pub(crate) fn under_tls(config: &Config) -> (Self, SocketAddr) {
        let tls = Some(config.tls.unwrap_or_default());
        let mut rig = Self::new(&Config { tls, ..config.clone() });
        let fd = listen_tcp("127.0.0.1:0".parse().unwrap(), 1_024).unwrap();
        let address = rustix::net::getsockname(&fd).unwrap().try_into().unwrap();
        rig.driver.listen_tls(fd, relay::gate()).unwrap();
        (rig, address)
    }

    pub(crate) fn listening(config: &Config, address: &str) -> (Self, SocketAddr) {
        let mut rig = Self::new(config);
        let fd = listen_tcp(address.parse().unwrap(), 1_024).unwrap();
        let address = rustix::net::getsockname(&fd).unwrap().try_into().unwrap();
        rig.driver.listen(fd).unwrap();
        (rig, address)
    }

    pub(crate) fn unix(config: &Config) -> (Self, PathBuf) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bu-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let mut rig = Self::new(config);
        rig.driver.listen(listen_unix(&path, 128).unwrap()).unwrap();
        (rig, path)
    }

    /// The next event; waits in the kernel for it.
    pub(crate) fn next(&mut self) -> Seen {
        let limit = self.driver.now() + PATIENCE_NS;
        loop {
            if let Some(seen) = self.poll() {
                return seen;
            }
            assert!(self.driver.now() < limit, "no event: {:?}", self.driver.counters());
            self.driver.flush(true, Some(limit));
        }
    }

    /// The next event if there is one without a flush.
    pub(crate) fn poll(&mut self) -> Option<Seen> {
        let seen = match self.driver.next_event()? {
            Event::Accepted { conn, .. } => Seen::Accepted(conn),
            Event::Bytes { conn, bytes } => {
                self.offered = bytes.len();
                let bytes = bytes[..bytes.len().min(self.use_at_most)].to_vec();
                self.driver.consumed(bytes.len());
                Seen::Bytes(conn, bytes)
            }
            Event::StreamStopped { conn } => Seen::Stopped(conn),
            Event::Filled { conn } => Seen::Filled(conn),
            Event::Eof { conn } => Seen::Eof(conn),
            Event::Sent { conn, bytes } => Seen::Sent(conn, bytes),
            Event::Failed { conn } => Seen::Failed(conn),
            Event::Closed { conn } => Seen::Closed(conn),
            Event::Completed { worker, slot } => Seen::Completed(worker.0, slot.0),
            Event::WorkerUp { worker, operations } => Seen::WorkerUp(worker.0, operations),
            Event::WorkerDown { worker } => Seen::WorkerDown(worker.0),
            Event::Drain => Seen::Drain,
            Event::Leave => Seen::Leave,
            Event::WorkerHealth { .. } | Event::Probe(_) => panic!("nobody said so"),
        };
        Some(seen)
    }

    pub(crate) fn accepted(&mut self) -> ConnId {
        match self.next() {
            Seen::Accepted(conn) => conn,
            other => panic!("{other:?}"),
        }
    }

    /// Bytes of this connection until there are `len` of them; no other event may come.
    pub(crate) fn bytes(&mut self, from: ConnId, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            match self.next() {
                Seen::Bytes(conn, bytes) if conn == from => all.extend(bytes),
                other => panic!("{other:?} after {} bytes", all.len()),
            }
        }
        all
    }

    /// Sends from a chunk of the connection's own.
    pub(crate) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let chunk = ChunkId(conn.0 % GEOMETRY.chunks);
        self.memory.chunk_mut(chunk)[..bytes.len()].copy_from_slice(bytes);
        let segment = Segment::Chunk { chunk, from: 0, len: bytes.len() as u32 };
        self.driver.transmit(conn, &[segment]);
    }

    pub(crate) fn sent(&mut self, conn: ConnId, len: usize) {
        assert_eq!(self.next(), Seen::Sent(conn, len as u32));
    }

    /// Sends all of these, in as many transmits as it takes; no other event may come.
    pub(crate) fn transmit_all(&mut self, conn: ConnId, mut segments: &[Segment]) {
        let mut skip = 0;
        while let Some(first) = segments.first() {
            let mut parts = segments.to_vec();
            parts[0] = after(first, skip);
            self.driver.transmit(conn, &parts);
            let Seen::Sent(_, mut sent) = self.next() else { panic!("not sent") };
            while let Some(first) = segments.first()
                && sent >= first.len() - skip
            {
                sent -= first.len() - skip;
                skip = 0;
                segments = &segments[1..];
            }
            skip += sent;
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        self.driver.close(conn);
        assert_eq!(self.next(), Seen::Closed(conn));
    }

    pub(crate) fn request(&self, slot: SlotId, len: usize) -> &[u8] {
        &self.memory.request(slot)[..len]
    }
}

/// What is left of a segment after its first bytes.
fn after(segment: &Segment, skip: u32) -> Segment {
    match *segment {
        Segment::Chunk { chunk, from, len } => {
            Segment::Chunk { chunk, from: from + skip, len: len - skip }
        }
        Segment::Reply { slot, from, len } => {
            Segment::Reply { slot, from: from + skip, len: len - skip }
        }
    }
}

/// A client's socket of either family.
pub(crate) trait Client: Read + Write + AsFd {
    fn end(&self);
}

impl Client for TcpStream {
    fn end(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

impl Client for UnixStream {
    fn end(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

/// Closing this socket resets the connection.
pub(crate) fn reset_on_drop(client: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(client, Some(std::time::Duration::ZERO)).unwrap();
}

pub(crate) fn duplicate(fd: impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().unwrap()
}

/// Bytes that differ by place, so that a swap or a gap shows.
pub(crate) fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
}

pub(crate) fn read_exactly(client: &mut impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    client.read_exact(&mut bytes).unwrap();
    bytes
}
