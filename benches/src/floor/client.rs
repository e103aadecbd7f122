//! The client of every comparison: sends ready-made bursts, counts the bytes that come back, never
//! sleeps.

use super::ring::{Done, Ring};
use crate::cores;
use std::{
    collections::VecDeque,
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

const BUFFER_LEN: u32 = 16 * 1_024;
/// Most latencies kept of one run.
const SAMPLES_MAX: usize = 1 << 21;

/// What each connection sends.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Connections, all driven by the calling thread.
    pub connections: usize,
    /// The bytes of one burst, the same every time: whole messages back to back.
    pub burst: &'a [u8],
    /// Messages in a burst.
    pub messages: usize,
    /// Bytes that answer one burst.
    pub reply: usize,
    /// Bursts under way on a connection before it waits for an answer.
    pub window: usize,
}

/// How long to run.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Runs first and is not counted; begins with the first answer, so that no server's start is
    /// counted.
    pub warmup: Duration,
    /// What is counted; longer where nothing was answered in this time.
    pub measured: Duration,
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Measured {
    /// Messages answered within the measured time.
    pub messages: u64,
    /// The measured time as it really was.
    pub elapsed: Duration,
    /// Nanoseconds from the order to send a burst to the last byte of its answer.
    pub latency_ns: Vec<u32>,
    /// The answer to the first burst of the first connection, to be checked.
    pub first: Vec<u8>,
}

impl Measured {
    /// Messages per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

struct Connection {
    socket: TcpStream,
    /// When each unanswered burst was sent, oldest first.
    started: VecDeque<Instant>,
    sending: bool,
    receiving: bool,
    /// Bytes still to come for the oldest burst.
    due: usize,
    /// We have said that we will send nothing more; the server has ended the connection.
    said: bool,
    finished: bool,
}

const RECEIVED: u64 = 0;
const SENT: u64 = 1;

struct Client<'a> {
    // Dropped before the function that borrows the burst returns; the burst outlives it.
    ring: Ring,
    load: Load<'a>,
    table: Vec<Connection>,
    result: Measured,
    open: usize,
    /// When the first answer of all came.
    answered_at: Option<Instant>,
    counting: bool,
    stopping: bool,
}

/// Connects, runs the load for the given time from the calling thread, lets every answer come,
/// disconnects.
///
/// # Errors
/// If the server refuses, fails, or ends a connection before everything is answered.
pub fn drive(address: SocketAddr, load: &Load<'_>, timing: Timing) -> io::Result<Measured> {
    cores::pin(cores::CLIENT);
    let mut table = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let started = VecDeque::with_capacity(load.window);
        table.push(Connection {
            socket,
            started,
            sending: false,
            receiving: false,
            due: load.reply,
            said: false,
            finished: false,
        });
    }
    let each = load.reply.div_ceil(BUFFER_LEN as usize) + 1;
    let buffers = (2 * load.connections * each).next_power_of_two().clamp(16, 32_768) as u16;
    let sockets: Vec<_> = table.iter().map(|connection| connection.socket.as_raw_fd()).collect();
    let ring = Ring::new(&sockets, buffers, BUFFER_LEN)?;
    let mut result = Measured::default();
    result.latency_ns.reserve(SAMPLES_MAX);
    let mut client = Client {
        ring,
        load: *load,
        open: table.len(),
        table,
        result,
        answered_at: None,
        counting: false,
        stopping: false,
    };
    client.run(timing)?;
    Ok(client.result)
}

impl Client<'_> {
    fn run(&mut self, timing: Timing) -> io::Result<()> {
        let mut done = Vec::new();
        let begun = Instant::now();
        let mut counted_from = begun;
        for at in 0..self.table.len() {
            self.attend(at, begun)?;
        }
        while self.open > 0 {
            self.ring.turn(&mut done)?;
            let now = Instant::now();
            let warm = self.answered_at.is_some_and(|first| now - first >= timing.warmup);
            if warm && !self.counting && !self.stopping {
                (self.counting, counted_from) = (true, now);
            }
            let enough = now - counted_from >= timing.measured && self.result.messages > 0;
            if self.counting && enough {
                (self.counting, self.stopping) = (false, true);
                self.result.elapsed = now - counted_from;
                // Connections between two bursts have no event to come; they are told here.
                for at in 0..self.table.len() {
                    self.attend(at, now)?;
                }
            }
            for event in done.drain(..) {
                let at = (event.tag >> 1) as usize;
                self.take(at, event, now)?;
                self.attend(at, now)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, at: usize, event: Done, now: Instant) -> io::Result<()> {
        let connection = &mut self.table[at];
        if event.tag & 1 == SENT {
            let sent = event.bytes()?;
            connection.sending = false;
            return match sent == self.load.burst.len() {
                true => Ok(()),
                false => Err(io::Error::other("a burst was sent in part")),
            };
        }
        connection.receiving = event.more();
        if -event.result == libc::ENOBUFS {
            return Ok(());
        }
        let mut bytes = event.bytes()?;
        let Some(buffer) = event.buffer().filter(|_| bytes > 0) else {
            connection.finished = true;
            self.open -= 1;
            return match connection.started.is_empty() {
                true => Ok(()),
                false => Err(io::Error::other("the server ended a connection with work under way")),
            };
        };
        if at == 0 && self.result.first.len() < self.load.reply {
            let missing = self.load.reply - self.result.first.len();
            let came = self.ring.pool.bytes(buffer, bytes);
            self.result.first.extend_from_slice(&came[..bytes.min(missing)]);
        }
        self.ring.pool.give_back(buffer);
        while bytes >= connection.due {
            bytes -= connection.due;
            connection.due = self.load.reply;
            let Some(started) = connection.started.pop_front() else {
                return Err(io::Error::other("more came back than was asked for"));
            };
            self.answered_at.get_or_insert(now);
            if self.counting {
                self.result.messages += self.load.messages as u64;
                if self.result.latency_ns.len() < SAMPLES_MAX {
                    let took = u32::try_from((now - started).as_nanos()).unwrap_or(u32::MAX);
                    self.result.latency_ns.push(took);
                }
            }
        }
        connection.due -= bytes;
        Ok(())
    }

    /// Keeps a connection receiving, and sending while there is time; ends it when all is answered.
    fn attend(&mut self, at: usize, now: Instant) -> io::Result<()> {
        let connection = &mut self.table[at];
        let (socket, tag) = (at as u32, (at as u64) << 1);
        if !connection.receiving && !connection.finished {
            self.ring.receive_stream(socket, tag | RECEIVED)?;
            connection.receiving = true;
        }
        if connection.sending {
            return Ok(());
        }
        if !self.stopping && connection.started.len() < self.load.window {
            connection.started.push_back(now);
            connection.sending = true;
            let (source, len) = (self.load.burst.as_ptr(), self.load.burst.len() as u32);
            // SAFETY: the burst is borrowed, hence unchanged, for longer than the ring lives.
            unsafe { self.ring.send(socket, source, len, tag | SENT)? };
        } else if self.stopping && connection.started.is_empty() && !connection.said {
            connection.said = true;
            connection.socket.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}
