//! A node in virtual time: a driver and a memory for a load, and a script that answers its frames.

use blast::{
    check::Checker,
    load::{Load, Parts, Phases},
    request::{Prepared, Request},
    schedule::Schedule,
    tally::Tally,
};
use dataplane_core::{
    driver::{ConnId, Driver, Event, Segment, Time, WorkerId},
    memory::{ChunkId, Geometry, Memory, SlotId},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use wire::{HEADER_LEN, Header, Order, Outcome};

/// One microsecond.
pub(crate) const US: Time = 1_000;
/// One millisecond.
pub(crate) const MS: Time = 1_000_000;

/// Chunks only: a load has no slots.
#[derive(Debug)]
pub(crate) struct Chunks {
    geometry: Geometry,
    bytes: Vec<Vec<u8>>,
}

impl Chunks {
    fn new(geometry: Geometry) -> Self {
        let bytes = vec![vec![0; geometry.chunk_len as usize]; geometry.chunks as usize];
        Self { geometry, bytes }
    }
}

impl Memory for Chunks {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn request(&self, _: SlotId) -> &[u8] {
        &[]
    }
    fn request_mut(&mut self, _: SlotId) -> &mut [u8] {
        &mut []
    }
    fn request_pair(&mut self, _: SlotId, _: SlotId) -> (&[u8], &mut [u8]) {
        (&[], &mut [])
    }
    fn reply(&self, _: SlotId) -> &[u8] {
        &[]
    }
    fn set_order(&mut self, _: SlotId, _: &Order) {}
    fn outcome(&self, _: SlotId) -> Outcome {
        Outcome::default()
    }
    fn chunk(&self, chunk: ChunkId) -> &[u8] {
        &self.bytes[chunk.0 as usize]
    }
    fn chunk_mut(&mut self, chunk: ChunkId) -> &mut [u8] {
        &mut self.bytes[chunk.0 as usize]
    }
    fn copy_reply(&mut self, _: SlotId, _: u32, _: ChunkId, _: u32, _: u32) {}
}

/// What the node does to a connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these bytes.
    Reply(Vec<u8>),
    /// Hangs up.
    Hangup,
}

#[derive(Debug)]
enum Due {
    Sent(ConnId, u32),
    Act(ConnId, Act),
    Closed(ConnId),
}

/// Virtual time, and what is due when.
#[derive(Debug, Default)]
pub(crate) struct Line {
    now: Time,
    due: BTreeMap<(Time, u64), Due>,
    order: u64,
    /// Ordered and not yet taken: one per connection.
    transmits: Vec<(ConnId, Vec<Segment>)>,
    closed: Vec<ConnId>,
    /// The bytes of the event being handled.
    current: Vec<u8>,
    offered: Option<usize>,
    idle_turns: u32,
}

impl Line {
    fn at(&mut self, time: Time, due: Due) {
        self.order += 1;
        self.due.insert((time.max(self.now), self.order), due);
    }
}

impl Driver for Line {
    fn now(&mut self) -> Time {
        self.now
    }
    fn epoch_ns(&mut self) -> u64 {
        self.now
    }
    fn next_event(&mut self) -> Option<Event<'_>> {
        assert_eq!(self.offered, None, "the last bytes were not acknowledged");
        let entry = self.due.first_entry()?;
        if entry.key().0 > self.now {
            return None;
        }
        match entry.remove() {
            Due::Sent(conn, bytes) => Some(Event::Sent { conn, bytes }),
            Due::Closed(conn) => Some(Event::Closed { conn }),
            Due::Act(conn, _) if self.closed.contains(&conn) => self.next_event(),
            Due::Act(conn, Act::Hangup) => Some(Event::Eof { conn }),
            Due::Act(conn, Act::Reply(bytes)) => {
                self.current = bytes;
                self.offered = Some(self.current.len());
                Some(Event::Bytes { conn, bytes: &self.current })
            }
        }
    }
    fn consumed(&mut self, bytes: usize) {
        assert_eq!(self.offered.take(), Some(bytes), "a load uses all bytes");
    }
    fn start_stream(&mut self, _: ConnId) {}
    fn stop_stream(&mut self, _: ConnId) {}
    fn fill_header(&mut self, _: ConnId, _: u32) {}
    fn fill_slot(&mut self, _: ConnId, _: SlotId, _: u32, _: u32) {}
    fn transmit(&mut self, conn: ConnId, segments: &[Segment]) {
        assert!(!segments.is_empty());
        assert!(self.transmits.iter().all(|(other, _)| *other != conn), "one at a time");
        self.transmits.push((conn, segments.to_vec()));
    }
    fn close(&mut self, conn: ConnId) {
        assert!(!self.closed.contains(&conn), "closed twice");
        self.closed.push(conn);
        self.at(self.now, Due::Closed(conn));
    }
    fn finish(&mut self, _: ConnId) {}
    fn lend(&mut self, _: WorkerId, _: &[SlotId]) {}
    fn flush(&mut self, idle: bool, until: Option<Time>) {
        if !idle || !self.transmits.is_empty() {
            self.idle_turns = 0;
            return;
        }
        self.idle_turns += 1;
        let next = self.due.keys().next().map(|(time, _)| *time);
        let wake = [next, until].into_iter().flatten().min().expect("something is due");
        assert!(wake > self.now || self.idle_turns < 3, "the load spins without reason");
        self.now = self.now.max(wake);
    }
}

/// Answers frames: given the time, the connection and the frame, says what the node does and when.
pub(crate) type Script<'a> = &'a mut dyn FnMut(Time, usize, &Header, &[u8]) -> Vec<(Time, Act)>;

/// A run in virtual time.
#[derive(Debug)]
pub(crate) struct World {
    line: Line,
    memory: Chunks,
    load: Load,
    partial: Vec<Vec<u8>>,
    /// Most bytes that one transmit takes.
    pub(crate) taken_max: usize,
    /// Turns so far.
    pub(crate) turns: u64,
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Sends per second, or a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) connections: usize,
    pub(crate) depth: u32,
    pub(crate) warmup: Time,
    pub(crate) duration: Time,
    pub(crate) grace: Time,
}

impl World {
    /// All sockets connected, nothing sent.
    pub(crate) fn new(setting: Setting, requests: &[Request], payload_max: u32) -> Self {
        let Setting { rate, connections, depth, warmup, duration, grace } = setting;
        let geometry = Prepared::geometry(requests, connections as u32, depth);
        let mut memory = Chunks::new(geometry);
        let prepared = Prepared::lay_out(requests, &mut memory, 0);
        let start = MS;
        let measure = start + warmup;
        let stop = measure + duration;
        let phases = Phases { start, measure, stop, give_up: stop + grace };
        let expects: Arc<[_]> = requests.iter().map(|request| request.expect.clone()).collect();
        let mut load = Load::new(Parts {
            phases,
            schedule: rate.map(|rate| Schedule::new(start, rate, 0, 1)),
            connections,
            depth,
            first_template: 0,
            reconnect: false,
            prepared,
            checker: Checker::new(expects, payload_max),
        });
        let mut line = Line::default();
        for index in 0..connections {
            load.connect(&mut line, index, ConnId(index as u32));
        }
        let partial = vec![Vec::new(); connections];
        Self { line, memory, load, partial, taken_max: usize::MAX, turns: 0 }
    }

    /// Runs to the end and counts.
    pub(crate) fn run(mut self, script: Script<'_>) -> Tally {
        while self.load.turn(&mut self.line, &mut self.memory) {
            self.turns += 1;
            assert!(self.turns < 50_000_000, "the run does not end");
            self.carry(script);
        }
        self.load.finish()
    }

    /// Takes the transmits that were ordered, and lets the script answer the frames in them.
    fn carry(&mut self, script: Script<'_>) {
        let now = self.line.now;
        for (conn, segments) in std::mem::take(&mut self.line.transmits) {
            let index = conn.0 as usize;
            let mut bytes: VecDeque<u8> = VecDeque::new();
            for segment in &segments {
                let Segment::Chunk { chunk, from, len } = *segment else { panic!("a reply") };
                let from = from as usize;
                bytes.extend(&self.memory.chunk(chunk)[from..from + len as usize]);
            }
            bytes.truncate(self.taken_max);
            self.line.at(now, Due::Sent(conn, bytes.len() as u32));
            self.partial[index].extend(bytes);
            let stream = std::mem::take(&mut self.partial[index]);
            let mut rest = &stream[..];
            while let Some(header) = Header::peek(rest) {
                header.check(u32::MAX).expect("a sound header");
                let len = HEADER_LEN + header.payload_len() as usize;
                let Some((frame, tail)) = rest.split_at_checked(len) else { break };
                let payload = &frame[HEADER_LEN..];
                assert_eq!(wire::check::crc16(payload), header.checksum());
                for (time, act) in script(now, index, header, payload) {
                    self.line.at(time, Due::Act(conn, act));
                }
                rest = tail;
            }
            self.partial[index] = rest.to_vec();
        }
    }
}
