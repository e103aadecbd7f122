//! A shard that sends at given moments, and what it missed them by.
//!
//! Measured in the process of the shard: the driver is wrapped, and the clock is read when the
//! shard orders a transmit and when the kernel has been given it.

use crate::cores;
use dataplane_core::{
    Limits, NodeStats, Shard, Stats,
    driver::{ConnId, Driver, Event, Segment, Time, WorkerId},
    memory::{Geometry, SlotId},
    mesh_port::{Down, Up, port},
    schedule::{FireError, ScheduledSend, Volley},
    turn,
};
use dataplane_uring::{
    Command, Commands, Config, PlainMemory, Policy, UringDriver, Workers, listen_tcp,
};
use std::{
    io::{self, Error, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};
use wire::{
    mesh::{PerAgent, Template},
    payload::mesh::Coordinate,
};

const GEOMETRY: Geometry = Geometry {
    small_slots: 64,
    small_request: 4 << 10,
    small_reply: 4 << 10,
    bulk_slots: 2,
    bulk_request: 64 << 10,
    bulk_reply: 4 << 10,
    chunks: 512,
    chunk_len: 16 << 10,
};

/// How far ahead the first send is due.
const AHEAD: Time = 20_000_000;

/// Nanoseconds from a send's moment, one of each per send.
#[derive(Debug, Default)]
pub struct Run {
    /// Until right before its transmit was ordered.
    pub before: Vec<u32>,
    /// Until the kernel had it.
    pub after: Vec<u32>,
    /// As the shard counts it: up to the clock of the turn that sent it.
    pub stated: FireError,
}

/// What is known of a connection's stream: every message is `frame_len` bytes, in order of their
/// moments.
#[derive(Debug, Default)]
struct Stream {
    /// When each message is due.
    due: Vec<Time>,
    /// Bytes that the kernel took.
    taken: u64,
    /// Messages that were ordered.
    ordered: usize,
}

/// The real driver, with a look at the clock around every transmit.
struct Watched {
    driver: UringDriver,
    frame_len: u64,
    streams: Vec<Stream>,
    /// Moments of the messages ordered in this turn.
    fresh: Vec<Time>,
    run: Run,
}

fn late(now: Time, due: Time) -> u32 {
    u32::try_from(now.saturating_sub(due)).unwrap_or(u32::MAX)
}

impl Driver for Watched {
    fn now(&mut self) -> Time {
        self.driver.now()
    }
    fn epoch_ns(&mut self) -> u64 {
        self.driver.epoch_ns()
    }
    fn next_event(&mut self) -> Option<Event<'_>> {
        let event = self.driver.next_event()?;
        if let Event::Sent { conn, bytes } = event
            && let Some(stream) = self.streams.get_mut(conn.0 as usize)
        {
            stream.taken += u64::from(bytes);
        }
        Some(event)
    }
    fn consumed(&mut self, bytes: usize) {
        self.driver.consumed(bytes);
    }
    fn start_stream(&mut self, conn: ConnId) {
        self.driver.start_stream(conn);
    }
    fn stop_stream(&mut self, conn: ConnId) {
        self.driver.stop_stream(conn);
    }
    fn fill_header(&mut self, conn: ConnId, len: u32) {
        self.driver.fill_header(conn, len);
    }
    fn fill_slot(&mut self, conn: ConnId, slot: SlotId, from: u32, len: u32) {
        self.driver.fill_slot(conn, slot, from, len);
    }
    fn transmit(&mut self, conn: ConnId, segments: &[Segment]) {
        let now = self.driver.now();
        self.driver.transmit(conn, segments);
        let Some(stream) = self.streams.get_mut(conn.0 as usize) else { return };
        let end = stream.taken + segments.iter().map(|s| u64::from(s.len())).sum::<u64>();
        // A message counts from the transmit that has its last byte; what was ordered before is
        // ordered again where the kernel took a part only.
        let whole = ((end / self.frame_len) as usize).min(stream.due.len());
        for due in &stream.due[stream.ordered.min(whole)..whole] {
            self.run.before.push(late(now, *due));
            self.fresh.push(*due);
        }
        stream.ordered = whole.max(stream.ordered);
    }
    fn finish(&mut self, conn: ConnId) {
        self.driver.finish(conn);
    }
    fn close(&mut self, conn: ConnId) {
        self.driver.close(conn);
    }
    fn lend(&mut self, worker: WorkerId, batch: &[SlotId]) {
        self.driver.lend(worker, batch);
    }
    fn flush(&mut self, idle: bool, until: Option<Time>) {
        self.driver.flush(idle, until);
        if !self.fresh.is_empty() {
            let now = self.driver.now();
            let after = self.fresh.drain(..).map(|due| late(now, due));
            self.run.after.extend(after);
        }
    }
}

/// Reads whatever comes until all connections have ended.
fn reader(address: SocketAddr, agents: u32) -> io::Result<()> {
    cores::pin(cores::CLIENT);
    let mut clients = Vec::new();
    for _ in 0..agents {
        let client = TcpStream::connect(address)?;
        client.set_nonblocking(true)?;
        clients.push(client);
    }
    let mut room = vec![0; 256 << 10];
    while !clients.is_empty() {
        let mut idle = true;
        clients.retain_mut(|client| match client.read(&mut room) {
            Ok(0) => false,
            Ok(_) => {
                idle = false;
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        });
        if idle {
            // Where both share a core, the shard is to have it.
            thread::yield_now();
        }
    }
    Ok(())
}

/// Sends `sends` messages over `agents` connections in turn, `rate` in a second, all planned ahead.
///
/// # Errors
/// If there is no socket to be had, or a send was not sent.
pub fn run(rate: u32, sends: u32, agents: u32) -> io::Result<Run> {
    let listener = TcpListener::from(listen_tcp(([127, 0, 0, 1], 0).into(), 1_024)?);
    let address = listener.local_addr()?;
    let mut memory = PlainMemory::new(GEOMETRY)?;
    let (commander, commands) = Commands::new(4)?;
    let config = Config { accepted: 128, policy: Policy::default(), ..Config::default() };
    let driver = UringDriver::new(&config, memory.places(), Workers::none(), commands)
        .map_err(Error::other)?;
    commander
        .send(Command::Listen(listener.into()))
        .map_err(|_| Error::other("the shard takes no commands"))?;
    let stats = Stats::new();
    let node = NodeStats::new(vec![Arc::clone(&stats)], 0);
    let (port, mut end) = port(1_024, 16);
    let limits = Limits { connections: 128, ..Limits::default() };
    let mut shard =
        Shard::new(limits, GEOMETRY, 0, Arc::clone(&stats), node).with_mesh(port, sends);
    let template = Template::new(&Coordinate { payload: vec![0; 64], ..Coordinate::default() }, 0)
        .map_err(|_| Error::other("no message"))?;
    let mut watched = Watched {
        driver,
        frame_len: template.frame_len() as u64,
        streams: Vec::new(),
        fresh: Vec::with_capacity(1_024),
        run: Run::default(),
    };
    let clients = thread::spawn(move || reader(address, agents));
    while stats.open.get() < u64::from(agents) {
        turn(&mut shard, &mut memory, &mut watched);
    }
    let gap = 1_000_000_000 / u64::from(rate).max(1);
    let start = watched.now() + AHEAD;
    let at = |n: u32| start + u64::from(n) * gap;
    watched.streams = (0..agents).map(|_| Stream::default()).collect();
    (0..sends).for_each(|n| watched.streams[(n % agents) as usize].due.push(at(n)));
    let planned = (0..sends).map(|n| {
        let agent = PerAgent { handle: n, ..PerAgent::default() };
        ScheduledSend { at: at(n), conn: ConnId(n % agents), life: 1, agent }
    });
    let volley = Volley::new(1, 0, template, Time::MAX, 1, planned.collect());
    end.push(Down::Volley(Box::new(volley))).map_err(|_| Error::other("no room in the ring"))?;
    let report = loop {
        turn(&mut shard, &mut memory, &mut watched);
        if let Some(Up::VolleyDone(report)) = end.pop() {
            break report;
        }
    };
    if report.sent != sends {
        return Err(Error::other(format!("sent {} of {sends}", report.sent)));
    }
    // The last ones may still be on their way to the kernel.
    while stats.bytes_out.get() < u64::from(sends) * watched.frame_len {
        turn(&mut shard, &mut memory, &mut watched);
    }
    let Watched { driver, mut run, .. } = watched;
    drop(driver);
    run.stated = report.fire_error;
    clients.join().map_err(|_| Error::other("the reader panicked"))??;
    Ok(run)
}
