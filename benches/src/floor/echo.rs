//! Sends back what it receives, from where it was received.

use super::ring::{Done, Ring};
use crate::cores;
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread::{Builder, JoinHandle},
};

const BUFFER_LEN: u32 = 16 * 1_024;

/// An echo server on a thread of its own, for a known number of connections.
#[derive(Debug)]
pub struct EchoFloor {
    address: SocketAddr,
    thread: JoinHandle<io::Result<u64>>,
}

impl EchoFloor {
    /// Listens on loopback; serves `connections` that send up to `burst` bytes before they wait.
    ///
    /// # Errors
    /// If there is no socket to be had.
    pub fn start(connections: usize, burst: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let thread = Builder::new()
            .name("floor-echo".into())
            .spawn(move || serve(&listener, connections, burst))?;
        Ok(Self { address, thread })
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until all connections have ended, and says how many bytes came.
    ///
    /// # Errors
    /// What the server met.
    pub fn finish(self) -> io::Result<u64> {
        self.thread.join().map_err(|_| io::Error::other("the echo floor panicked"))?
    }
}

/// A received piece: its buffer and its bytes.
type Piece = (u16, usize);

struct Connection {
    socket: TcpStream,
    /// Received and not sent yet.
    held: Vec<Piece>,
    /// Being sent. Their buffers go back to the pool when that is done.
    flying: Vec<Piece>,
    vectors: Vec<libc::iovec>,
    message: libc::msghdr,
    receiving: bool,
    ended: bool,
    closed: bool,
}

impl Connection {
    fn new(socket: TcpStream) -> Self {
        // SAFETY: a plain C struct of integers and pointers, for all of which zero is a value.
        let message: libc::msghdr = unsafe { std::mem::zeroed() };
        Self {
            socket,
            held: Vec::new(),
            flying: Vec::new(),
            vectors: Vec::new(),
            message,
            receiving: false,
            ended: false,
            closed: false,
        }
    }
}

const RECEIVED: u64 = 0;
const SENT: u64 = 1;

fn serve(listener: &TcpListener, connections: usize, burst: usize) -> io::Result<u64> {
    cores::pin(cores::SERVER);
    let mut table = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        table.push(Connection::new(socket));
    }
    // Room for every burst twice, so that receiving never waits for sending.
    let each = burst.div_ceil(BUFFER_LEN as usize) + 1;
    let buffers = (2 * connections * each).next_power_of_two().clamp(16, 32_768) as u16;
    let sockets: Vec<_> = table.iter().map(|connection| connection.socket.as_raw_fd()).collect();
    let mut ring = Ring::new(&sockets, buffers, BUFFER_LEN)?;
    let (mut done, mut touched) = (Vec::new(), (0..connections).collect::<Vec<usize>>());
    let (mut open, mut received) = (connections, 0_u64);
    loop {
        for at in touched.drain(..) {
            open -= usize::from(attend(&mut ring, &mut table[at], at as u32)?);
        }
        if open == 0 {
            return Ok(received);
        }
        ring.turn(&mut done)?;
        for event in done.drain(..) {
            let at = (event.tag >> 1) as usize;
            received += take(&mut ring, &mut table[at], event)?;
            touched.push(at);
        }
    }
}

/// Notes a completion; returns the bytes that came with it.
fn take(ring: &mut Ring, connection: &mut Connection, event: Done) -> io::Result<u64> {
    if event.tag & 1 == SENT {
        event.bytes()?;
        for (buffer, _) in connection.flying.drain(..) {
            ring.pool.give_back(buffer);
        }
        return Ok(0);
    }
    connection.receiving = event.more();
    if -event.result == libc::ENOBUFS {
        return Ok(0);
    }
    let bytes = event.bytes()?;
    match event.buffer() {
        Some(buffer) if bytes > 0 => connection.held.push((buffer, bytes)),
        _ => connection.ended = true,
    }
    Ok(bytes as u64)
}

/// Does what a connection needs after this turn's events; true if it has just been closed.
fn attend(ring: &mut Ring, connection: &mut Connection, at: u32) -> io::Result<bool> {
    let tag = u64::from(at) << 1;
    if !connection.receiving && !connection.ended {
        ring.receive_stream(at, tag | RECEIVED)?;
        connection.receiving = true;
    }
    if connection.flying.is_empty() && !connection.held.is_empty() {
        std::mem::swap(&mut connection.held, &mut connection.flying);
        transmit(ring, connection, at, tag | SENT)?;
    }
    let idle = connection.flying.is_empty() && !connection.receiving;
    let closes = connection.ended && idle && !connection.closed;
    if closes {
        connection.closed = true;
        // The ring's table still holds the socket, so dropping it would not end the connection. A
        // peer that is gone already is no error here.
        let _ = connection.socket.shutdown(Shutdown::Both);
    }
    Ok(closes)
}

/// One send for everything in `flying`.
fn transmit(ring: &mut Ring, connection: &mut Connection, at: u32, tag: u64) -> io::Result<()> {
    if let [(buffer, len)] = connection.flying[..] {
        // SAFETY: the buffer lies in the ring's pool and stays ours until this completion gives it
        // back.
        return unsafe { ring.send(at, ring.pool.start(buffer), len as u32, tag) };
    }
    connection.vectors.clear();
    connection.vectors.extend(connection.flying.iter().map(|&(buffer, len)| libc::iovec {
        iov_base: ring.pool.start(buffer).cast(),
        iov_len: len,
    }));
    connection.message.msg_iov = connection.vectors.as_mut_ptr();
    connection.message.msg_iovlen = connection.vectors.len();
    // SAFETY: message and vectors lie in the table, which is made before the ring and so outlives
    // it, never moves, and is not touched here before `flying` is empty again; the buffers are
    // ours until then as well.
    unsafe { ring.send_message(at, &raw const connection.message, tag) }
}
