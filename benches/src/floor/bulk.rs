//! Receives a header, then the payload straight into an aligned slot, and acknowledges with 32
//! bytes.

use super::{
    pool::Pages,
    ring::{Done, Ring},
};
use crate::cores;
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread::{Builder, JoinHandle},
};

const HEADER: usize = 32;
/// Slots of a connection, used in turn, so that the memory is no warmer than a real server's.
const SLOTS: usize = 8;
/// Most acknowledgements in one send.
const ACKS_MAX: usize = 64;

/// A server of bulk rows on a thread of its own, for a known number of connections.
#[derive(Debug)]
pub struct BulkFloor {
    address: SocketAddr,
    thread: JoinHandle<io::Result<u64>>,
}

impl BulkFloor {
    /// Listens on loopback; serves `connections` that send rows of `payload` bytes behind 32 of
    /// header.
    ///
    /// # Errors
    /// If there is no socket to be had.
    pub fn start(connections: usize, payload: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let thread = Builder::new()
            .name("floor-bulk".into())
            .spawn(move || serve(&listener, connections, payload))?;
        Ok(Self { address, thread })
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until all connections have ended, and says how many rows came.
    ///
    /// # Errors
    /// What the server met.
    pub fn finish(self) -> io::Result<u64> {
        self.thread.join().map_err(|_| io::Error::other("the bulk floor panicked"))?
    }
}

struct Connection {
    socket: TcpStream,
    memory: Pages,
    slot: usize,
    /// Acknowledgements due, and those of them being sent.
    owed: usize,
    sending: usize,
    ended: bool,
    closed: bool,
}

const GOT_HEADER: u64 = 0;
const GOT_PAYLOAD: u64 = 1;
const SENT: u64 = 2;

struct Server {
    // Dropped first, so that all memory below outlives it.
    ring: Ring,
    table: Vec<Connection>,
    payload: usize,
    acks: Pages,
    rows: u64,
}

fn serve(listener: &TcpListener, connections: usize, payload: usize) -> io::Result<u64> {
    cores::pin(cores::SERVER);
    let mut table = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let memory = Pages::new(SLOTS * stride(payload));
        let (slot, owed, sending) = (0, 0, 0);
        table.push(Connection { socket, memory, slot, owed, sending, ended: false, closed: false });
    }
    let sockets: Vec<_> = table.iter().map(|connection| connection.socket.as_raw_fd()).collect();
    // Nothing is received into provided buffers here; the smallest pool will do.
    let ring = Ring::new(&sockets, 1, 64)?;
    let mut server = Server { ring, table, payload, acks: Pages::new(ACKS_MAX * HEADER), rows: 0 };
    let (mut done, mut open) = (Vec::new(), connections);
    for at in 0..connections {
        server.order_header(at)?;
    }
    while open > 0 {
        server.ring.turn(&mut done)?;
        for event in done.drain(..) {
            open -= usize::from(server.take(event)?);
        }
    }
    Ok(server.rows)
}

/// Bytes from slot to slot: a cache line in front, whose second half is the header's, then the
/// payload.
fn stride(payload: usize) -> usize {
    (64 + payload).next_multiple_of(4_096)
}

impl Server {
    fn header(&self, at: usize) -> *mut u8 {
        let connection = &self.table[at];
        connection.memory.at(connection.slot * stride(self.payload) + 64 - HEADER)
    }

    fn order_header(&mut self, at: usize) -> io::Result<()> {
        let (target, tag) = (self.header(at), (at as u64) << 2 | GOT_HEADER);
        // SAFETY: within the connection's slots, which outlive the ring and are not read before the
        // completion.
        unsafe { self.ring.receive_exactly(at as u32, target, HEADER as u32, tag) }
    }

    fn order_payload(&mut self, at: usize) -> io::Result<()> {
        let connection = &self.table[at];
        let target = connection.memory.at(connection.slot * stride(self.payload) + 64);
        let (len, tag) = (self.payload as u32, (at as u64) << 2 | GOT_PAYLOAD);
        // SAFETY: as for the header; the stride leaves room for the payload.
        unsafe { self.ring.receive_exactly(at as u32, target, len, tag) }
    }

    /// Follows up on one completion; true if that closed the connection.
    fn take(&mut self, event: Done) -> io::Result<bool> {
        let at = (event.tag >> 2) as usize;
        let bytes = event.bytes()?;
        match event.tag & 3 {
            GOT_HEADER if bytes == HEADER => self.order_payload(at)?,
            GOT_PAYLOAD if bytes == self.payload => {
                self.rows += 1;
                let connection = &mut self.table[at];
                connection.slot = (connection.slot + 1) % SLOTS;
                connection.owed += 1;
                self.acknowledge(at)?;
                self.order_header(at)?;
            }
            SENT => {
                let connection = &mut self.table[at];
                connection.owed -= connection.sending;
                connection.sending = 0;
                self.acknowledge(at)?;
            }
            _ => self.table[at].ended = true,
        }
        let connection = &mut self.table[at];
        let closes = connection.ended && connection.owed == 0 && !connection.closed;
        if closes {
            connection.closed = true;
            // A peer that is gone already is no error here.
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
        Ok(closes)
    }

    fn acknowledge(&mut self, at: usize) -> io::Result<()> {
        let connection = &mut self.table[at];
        if connection.sending > 0 || connection.owed == 0 {
            return Ok(());
        }
        connection.sending = connection.owed.min(ACKS_MAX);
        let (len, tag) = ((connection.sending * HEADER) as u32, (at as u64) << 2 | SENT);
        // SAFETY: the acknowledgements are never written and outlive the ring.
        unsafe { self.ring.send(at as u32, self.acks.at(0), len, tag) }
    }
}
