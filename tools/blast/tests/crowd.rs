//! A crowd in virtual time: no sockets, a clock that only moves when it is looked at or slept on.

use blast::agents::{Config, crowd, crowd::Crowd};
use dataplane_core::{
    driver::{ConnId, Driver, Event, Segment, Time, WorkerId},
    memory::{ChunkId, Geometry, Memory, SlotId},
};
use fleet::World;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use wire::{
    HEADER_LEN, Header, Kind, Order, Outcome, frame,
    mesh::{PerAgent, Template},
    payload::{
        mesh::{Ack, AgentHeartbeat, AgentRegistered, AgentRegistration, Coordinate, Place},
        open,
    },
};

const MS: Time = 1_000_000;
/// What a look at the clock takes.
const LOOK: Time = 30;

/// Chunks alone.
struct Chunks(Geometry, Vec<u8>);

impl Memory for Chunks {
    fn geometry(&self) -> Geometry {
        self.0
    }
    fn chunk(&self, chunk: ChunkId) -> &[u8] {
        let len = self.0.chunk_len as usize;
        &self.1[chunk.0 as usize * len..][..len]
    }
    fn chunk_mut(&mut self, chunk: ChunkId) -> &mut [u8] {
        let len = self.0.chunk_len as usize;
        &mut self.1[chunk.0 as usize * len..][..len]
    }
    fn request(&self, _: SlotId) -> &[u8] {
        panic!("a crowd has no slots")
    }
    fn request_mut(&mut self, _: SlotId) -> &mut [u8] {
        panic!("a crowd has no slots")
    }
    fn request_pair(&mut self, _: SlotId, _: SlotId) -> (&[u8], &mut [u8]) {
        panic!("a crowd has no slots")
    }
    fn reply(&self, _: SlotId) -> &[u8] {
        panic!("a crowd has no slots")
    }
    fn set_order(&mut self, _: SlotId, _: &Order) {}
    fn outcome(&self, _: SlotId) -> Outcome {
        panic!("a crowd has no slots")
    }
    fn copy_reply(&mut self, _: SlotId, _: u32, _: ChunkId, _: u32, _: u32) {}
}

/// What happens next to the crowd.
enum Due {
    Bytes(ConnId, Vec<u8>),
    Sent(ConnId, u32),
    Closed(ConnId),
}

#[derive(Default)]
struct Still {
    now: Time,
    due: VecDeque<Due>,
    current: Vec<u8>,
    transmits: Vec<(ConnId, Vec<Segment>)>,
    rests: u32,
}

impl Driver for Still {
    fn now(&mut self) -> Time {
        self.now += LOOK;
        self.now
    }
    fn epoch_ns(&mut self) -> u64 {
        self.now
    }
    fn next_event(&mut self) -> Option<Event<'_>> {
        Some(match self.due.pop_front()? {
            Due::Sent(conn, bytes) => Event::Sent { conn, bytes },
            Due::Closed(conn) => Event::Closed { conn },
            Due::Bytes(conn, bytes) => {
                self.current = bytes;
                Event::Bytes { conn, bytes: &self.current }
            }
        })
    }
    fn consumed(&mut self, bytes: usize) {
        assert_eq!(bytes, self.current.len(), "a crowd uses all it is given");
    }
    fn start_stream(&mut self, _: ConnId) {}
    fn stop_stream(&mut self, _: ConnId) {}
    fn fill_header(&mut self, _: ConnId, _: u32) {}
    fn fill_slot(&mut self, _: ConnId, _: SlotId, _: u32, _: u32) {}
    fn transmit(&mut self, conn: ConnId, segments: &[Segment]) {
        self.transmits.push((conn, segments.to_vec()));
    }
    fn finish(&mut self, _: ConnId) {}
    fn close(&mut self, conn: ConnId) {
        self.due.push_back(Due::Closed(conn));
    }
    fn lend(&mut self, _: WorkerId, _: &[SlotId]) {}
    fn flush(&mut self, idle: bool, until: Option<Time>) {
        if idle && self.due.is_empty() && self.transmits.is_empty() {
            self.rests += 1;
            self.now = self.now.max(until.expect("there is always something to come"));
        }
    }
}

/// A node for one thread of agents: answers at once, and remembers what it was told.
struct Rig {
    crowd: Crowd,
    driver: Still,
    memory: Chunks,
    streams: HashMap<ConnId, Vec<u8>>,
    /// Connection, handle.
    places: Vec<(ConnId, u32)>,
    beats: Vec<AgentHeartbeat>,
    acks: Vec<(u32, Time, Time, Time)>,
}

impl Rig {
    fn new(config: Config) -> Self {
        let places: Vec<u32> = (0..config.connections()).collect();
        let geometry = crowd::geometry(&config, places.len() as u32);
        let memory = vec![0; (geometry.chunks * geometry.chunk_len) as usize];
        let fleet = Arc::new(config.fleet());
        let mut rig = Self {
            crowd: Crowd::new(Arc::new(config), fleet, &places),
            driver: Still { now: 1_000 * MS, ..Still::default() },
            memory: Chunks(geometry, memory),
            streams: HashMap::new(),
            places: Vec::new(),
            beats: Vec::new(),
            acks: Vec::new(),
        };
        for place in places {
            rig.crowd.connect(&mut rig.driver, place as usize, ConnId(place));
        }
        rig
    }

    /// Runs until this moment.
    fn run(&mut self, until: Time) {
        while self.driver.now < until {
            self.crowd.turn(&mut self.driver, &mut self.memory, until);
            for (conn, segments) in core::mem::take(&mut self.driver.transmits) {
                let stream = self.streams.entry(conn).or_default();
                let mut sent = 0;
                for segment in segments {
                    let Segment::Chunk { chunk, from, len } = segment else { panic!("no slots") };
                    let bytes = &self.memory.chunk(chunk)[from as usize..(from + len) as usize];
                    stream.extend_from_slice(bytes);
                    sent += len;
                }
                self.driver.due.push_back(Due::Sent(conn, sent));
                self.read(conn);
            }
        }
    }

    fn read(&mut self, conn: ConnId) {
        let stream = core::mem::take(self.streams.entry(conn).or_default());
        let mut rest = &stream[..];
        let mut out = Vec::new();
        while let Some(header) = Header::peek(rest).copied() {
            let len = HEADER_LEN + header.payload_len() as usize;
            let Some((bytes, tail)) = rest.split_at_checked(len) else { break };
            rest = tail;
            let payload = client::Buffer::copy_of(&bytes[HEADER_LEN..]);
            self.answer(conn, &header, payload.as_slice(), &mut out);
        }
        self.streams.insert(conn, rest.to_vec());
        if !out.is_empty() {
            // Cut where no frame ends, as sockets do.
            let tail = out.split_off(out.len() / 3);
            self.driver.due.push_back(Due::Bytes(conn, out));
            self.driver.due.push_back(Due::Bytes(conn, tail));
        }
    }

    fn answer(&mut self, conn: ConnId, header: &Header, payload: &[u8], out: &mut Vec<u8>) {
        let now = self.driver.now;
        match header.kind().expect("a known kind") {
            Kind::AgentRegistration => {
                let asked = open::<AgentRegistration>(payload).expect("sound");
                let mut answer = AgentRegistered { sent_ns: now, ..Default::default() };
                for agent in asked.agents.iter() {
                    let handle = self.places.len() as u32;
                    self.places.push((conn, handle));
                    let place = Place { handle, generation: 1, ..Place::default() };
                    answer.places.push(Place { agent_id: agent.agent_id, ..place });
                }
                frame::append(out, &answer, header.message_id(), now).expect("fits");
            }
            Kind::AgentHeartbeat => {
                let beat = open::<AgentHeartbeat>(payload).expect("sound");
                let answer = AgentHeartbeat {
                    handle: beat.handle.to_native(),
                    generation: beat.generation.to_native(),
                    origin_ns: beat.sent_ns.to_native(),
                    received_ns: now,
                    sent_ns: now,
                    ..AgentHeartbeat::default()
                };
                self.beats.push(AgentHeartbeat { sent_ns: now, ..answer });
                frame::append(out, &answer, header.message_id(), now).expect("fits");
            }
            Kind::Ack => {
                let ack = open::<Ack>(payload).expect("sound");
                self.acks.push((
                    ack.handle.to_native(),
                    ack.acted_ns.to_native(),
                    ack.target_own_ns.to_native(),
                    now,
                ));
            }
            other => panic!("agents do not send {other}"),
        }
    }

    /// One message to everyone, for `target`.
    fn coordinate(&mut self, target: Time) {
        let sent = self.driver.now;
        let message =
            Coordinate { message_id: [5; 16], target_ns: target, hold: true, ..Default::default() };
        let template = Template::new(&message, sent).expect("encodes");
        for (conn, handle) in &self.places {
            let agent = PerAgent { handle: *handle, generation: 1, ..PerAgent::default() };
            let mut bytes = vec![0; template.frame_len()];
            assert!(template.write(&mut bytes, 1, sent, &agent) > 0);
            self.driver.due.push_back(Due::Bytes(*conn, bytes));
        }
    }
}

fn config(count: u32, per_connection: u32, world: World) -> Config {
    let addr = "127.0.0.1:1".parse().expect("an address");
    Config { per_connection, world, ..Config::new(addr, count) }
}

#[test]
fn prof_02_a_crowd_beats_evenly_and_sleeps_in_between() {
    let mut rig = Rig::new(config(500, 50, World::Off));
    rig.run(2_000 * MS);
    assert_eq!((rig.crowd.here(), rig.places.len()), (500, 500));
    rig.run(16_000 * MS);
    rig.beats.clear();
    let rests = rig.driver.rests;
    rig.run(26_000 * MS);
    // Two heartbeats of each agent in ten seconds, in no second far more than in another.
    assert_eq!(rig.beats.len(), 1_000);
    let mut seconds = [0; 10];
    for beat in &rig.beats {
        seconds[((beat.sent_ns / MS).saturating_sub(16_000) / 1_000).min(9) as usize] += 1;
    }
    assert!(seconds.iter().all(|count| (50..200).contains(count)), "{seconds:?}");
    assert!(rig.driver.rests - rests > 500, "{} rests", rig.driver.rests - rests);
    assert_eq!(rig.crowd.truth().of("bad_frames"), 0);
}

#[test]
fn a_crowd_acts_in_one_go_and_answers_behind_that() {
    let mut rig = Rig::new(config(2_000, 100, World::Off));
    rig.run(6_000 * MS);
    let target = 6_500 * MS;
    rig.coordinate(target);
    rig.run(7_000 * MS);
    assert_eq!(rig.acks.len(), 2_000);
    assert!(rig.acks.iter().all(|(_, acted, own, _)| acted >= own), "early on its own clock");
    // The clock is looked at once for many of them, and every look costs: what they are apart is
    // what the clock moved while they acted, not what their answers took to write.
    let truth = rig.crowd.truth();
    let [_, _, last] = truth.spread().expect("acts");
    assert!(last < 20_000.0, "{last} ns");
    assert!(rig.acks.iter().all(|(.., answered)| *answered > target));
    assert_eq!(truth.of("acks"), 2_000);
}

#[test]
fn the_same_seed_gives_the_same_truth() {
    let lives: Vec<_> = (0..2)
        .map(|_| {
            let mut rig = Rig::new(config(200, 10, World::Wan));
            rig.run(8_000 * MS);
            let target = rig.driver.now + 1_800 * MS;
            rig.coordinate(target);
            rig.run(20_000 * MS);
            let truth = rig.crowd.finish();
            let on_time: u64 = truth.classes.iter().map(|class| class.on_time).sum();
            (format!("{:?}", truth.counts), on_time, truth.spread())
        })
        .collect();
    assert_eq!(lives[0], lives[1]);
    assert!(lives[0].1 > 150, "{} of 200 on time", lives[0].1);
}
