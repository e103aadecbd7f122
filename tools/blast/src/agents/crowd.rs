//! The agents of one thread as a state machine over a driver: reads what comes for them, lets the
//! model decide how long it took, and writes what they say. Does no I/O and reads no clock of its
//! own.
//!
//! A frame that is on the socket at true time `t` counts as received at `t + down`; an answer is
//! written `up` after the agent gave it. Model times are exact whenever the thread gets to them:
//! only the writing and the acting happen in real time. Delays are drawn one by one, so a link does
//! not keep its frames in order.

mod leave;
mod play;
mod proof;
mod receive;

use super::{
    config::{Config, Manners},
    truth::{Asked, Truth},
};
use crate::{
    conn::{Conn, State},
    outbox::Pool,
    schedule::Schedule,
};
use client::Buffer;
use dataplane_core::{
    driver::{ConnId, Driver, Event, Time},
    memory::{Geometry, Memory},
    schedule::wheel::Wheel,
};
use fleet::{Fleet, Rng, World};
use leave::Letter;
use mesh::agent::{Agent, Order, Output};
use proof::Known;
use std::{collections::VecDeque, sync::Arc};
use wire::payload::mesh::AgentHeartbeat;

/// Events handled before timers are looked at again.
const EVENTS_PER_TURN: usize = 256;
/// Timers handled before events are looked at again.
const TIMERS_PER_TURN: usize = 8_192;
/// Releases are sorted into one list this long before they are due.
const ARM: Time = 2_000_000;
/// From this long before a release on, the thread does nothing but look at the clock.
const SPIN: Time = 300_000;
/// Releases between two looks at the clock, where many are due.
const STAMP_EVERY: usize = 32;
/// Timers that are due within this time of each other are handled together, without a model of
/// the network and with one.
const GRAIN: (Time, Time) = (500_000, 100_000);
/// Wheel entries per agent, and beside that.
const ENTRIES: (u32, u32) = (8, 65_536);
const NOBODY: u32 = u32::MAX;

/// Whether an agent is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Not registered yet.
    Coming,
    /// At work.
    Here,
    /// Silent for good.
    Gone,
}

/// An agent, its place in the world, and what is planned for it. True times.
#[derive(Debug)]
struct Member {
    agent: Agent,
    rng: Rng,
    manners: Manners,
    asked: Asked,
    /// Of the fleet.
    index: u32,
    conn: u32,
    life: Life,
    /// When its timer and its next release are in the wheels; [`Time::MAX`] for not.
    timer_at: Time,
    hold_at: Time,
    /// When its last heartbeat left, or should have.
    planned: Time,
}

/// What a timer stands for.
#[derive(Clone, Copy, Debug)]
enum Item {
    /// A delayed frame arrives: index into `arrivals`.
    Arrives(u32),
    /// The service of this member is over.
    Done(u32),
    /// This member's timer.
    Timer(u32),
    /// A delayed answer leaves: index into `letters`.
    Leaves(u32),
}

/// A frame on the modelled link.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    Order(u32, Order),
    Answer(u32, AgentHeartbeat),
}

/// Values with numbers, which are given out again.
#[derive(Debug)]
struct Slab<T> {
    all: Vec<T>,
    free: Vec<u32>,
}

impl<T: Copy> Slab<T> {
    const fn new() -> Self {
        Self { all: Vec::new(), free: Vec::new() }
    }

    fn put(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.all[index as usize] = value;
            return index;
        }
        self.all.push(value);
        self.all.len() as u32 - 1
    }

    fn take(&mut self, index: u32) -> T {
        self.free.push(index);
        self.all[index as usize]
    }
}

/// The agents of one thread. See the module's text.
#[derive(Debug)]
pub struct Crowd {
    fleet: Arc<Fleet>,
    config: Arc<Config>,
    /// Links and services take time.
    modelled: bool,
    members: Vec<Member>,
    conns: Vec<Conn>,
    /// First member, and number of members, of each connection.
    carried: Vec<(u32, u32)>,
    /// When each connection's registration left, true time.
    registered_at: Vec<Time>,
    /// Index into `conns` by connection id; index into `members` by handle.
    by_id: Vec<u32>,
    by_handle: Vec<u32>,
    pool: Pool,
    dirty: Vec<u32>,
    closing: Vec<u32>,
    wheel: Wheel<Item>,
    wheel_ran: Time,
    arrivals: Slab<Arrival>,
    letters: Slab<(u32, Letter)>,
    holds: Wheel<u32>,
    /// Releases of the next milliseconds, sorted.
    armed: VecDeque<(Time, u32)>,
    /// Acts that are not followed up yet: when they were due, when they were, whose.
    acted: VecDeque<(Time, Time, u32)>,
    /// What leaves with this turn: registrations, then the rest.
    registrations: VecDeque<(u32, Vec<u8>)>,
    ready: Vec<(u32, Letter)>,
    out: Vec<Output>,
    aligned: Buffer,
    schedule: Option<Schedule>,
    departed: u64,
    next_member: usize,
    sequence: u64,
    here: u32,
    settled: u32,
    truth: Truth,
    keys: Known,
}

/// Sizes of the memory that a thread with these agents sends from.
#[must_use]
pub fn geometry(config: &Config, connections: u32) -> Geometry {
    let (chunks, chunk_len) = match config.per_connection {
        0..=4 => (connections.saturating_mul(2).saturating_add(1_024), 512),
        agents => ((connections.saturating_add(8)).saturating_mul(agents / 16 + 4), 8_192),
    };
    Geometry {
        small_slots: 0,
        small_request: 0,
        small_reply: 0,
        bulk_slots: 0,
        bulk_request: 0,
        bulk_reply: 0,
        chunks,
        chunk_len,
    }
}

fn agent(config: &Config, index: u32) -> Agent {
    let mut agent = Agent::new(fleet::mix(config.seed ^ u64::from(index) << 20));
    if config.proof.verify {
        agent.demand_signatures();
    }
    agent
}

impl Crowd {
    /// The agents of these connections of a run; none is connected yet.
    #[must_use]
    pub fn new(config: Arc<Config>, fleet: Arc<Fleet>, connections: &[u32]) -> Self {
        let (mut members, mut carried) = (Vec::new(), Vec::new());
        for (place, connection) in connections.iter().enumerate() {
            let (first, count) = config.agents_of(*connection);
            carried.push((members.len() as u32, count));
            members.extend((first..first + count).map(|index| Member {
                agent: agent(&config, index),
                rng: Rng::of(config.seed, u64::from(index)),
                manners: config.behaviours.of(config.seed, index),
                asked: Asked::default(),
                index,
                conn: place as u32,
                life: Life::Coming,
                timer_at: Time::MAX,
                hold_at: Time::MAX,
                planned: 0,
            }));
        }
        let count = members.len() as u32;
        let memory = geometry(&config, connections.len() as u32);
        let entries = count.saturating_mul(ENTRIES.0).saturating_add(ENTRIES.1);
        Self {
            modelled: config.world != World::Off,
            keys: Known::new(config.proof.node_key),
            conns: connections.iter().map(|_| Conn::default()).collect(),
            registered_at: vec![0; connections.len()],
            by_id: Vec::new(),
            by_handle: Vec::new(),
            pool: Pool::new(0, memory.chunks, memory.chunk_len),
            dirty: Vec::new(),
            closing: Vec::new(),
            wheel: Wheel::new(entries),
            wheel_ran: 0,
            arrivals: Slab::new(),
            letters: Slab::new(),
            holds: Wheel::new(entries),
            armed: VecDeque::new(),
            acted: VecDeque::new(),
            registrations: VecDeque::new(),
            ready: Vec::new(),
            out: Vec::new(),
            aligned: Buffer::new(),
            schedule: None,
            departed: 0,
            next_member: 0,
            sequence: 0,
            here: 0,
            settled: 0,
            truth: Truth::new(config.seed ^ u64::from(connections.first().copied().unwrap_or(0))),
            members,
            carried,
            fleet,
            config,
        }
    }

    /// A connected socket for place `place`: its agents register.
    pub fn connect<D: Driver>(&mut self, driver: &mut D, place: usize, id: ConnId) {
        let slot = id.0 as usize;
        if slot >= self.by_id.len() {
            self.by_id.resize(slot + 1, NOBODY);
        }
        self.by_id[slot] = place as u32;
        self.conns[place].open(id);
        driver.start_stream(id);
        let now = driver.now();
        let epoch = driver.epoch_ns();
        self.register(place, now, epoch);
    }

    /// Heartbeats leave by this plan from now on, and only by it.
    pub fn beat_by_plan(&mut self, schedule: Schedule) {
        self.schedule = Some(schedule);
        for member in &mut self.members {
            member.agent.beat_by_hand();
        }
    }

    /// Agents of the thread.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.members.len() as u32
    }

    /// A thread without agents.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Agents that are registered and at work.
    #[must_use]
    pub const fn here(&self) -> u32 {
        self.here
    }

    /// Agents that are registered, refused, or lost with their connection.
    #[must_use]
    pub const fn settled(&self) -> u32 {
        self.settled
    }

    /// The counts so far.
    #[must_use]
    pub const fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The counts, at the end.
    #[must_use]
    pub fn finish(self) -> Truth {
        self.truth
    }

    /// One pass: what happened, what is due, what leaves. Rests until `until` at the latest where
    /// nothing is to be done.
    pub fn turn<D: Driver, M: Memory>(&mut self, driver: &mut D, memory: &mut M, until: Time) {
        let mut events = 0;
        while events < EVENTS_PER_TURN && self.next_event(driver) {
            events += 1;
        }
        let now = driver.now();
        let due = self.run_timers(now) + self.run_plan(now);
        self.arm(now);
        self.release(driver);
        let epoch = driver.epoch_ns();
        self.leave(memory, epoch);
        self.transmit(driver);
        let wake = self.wake_at(now).min(until);
        driver.flush(events + due == 0, Some(wake));
    }

    /// When the thread must run again although nothing comes.
    fn wake_at(&self, now: Time) -> Time {
        if !self.acted.is_empty() {
            return now;
        }
        if !self.ready.is_empty() || !self.registrations.is_empty() {
            // Chunks were short: they come back with the next events.
            return now + GRAIN.0;
        }
        let next = self.wheel.next_due().map_or(Time::MAX, |due| due.max(self.wheel_runs()));
        let hold = self.holds.next_due().map_or(Time::MAX, |due| due.saturating_sub(ARM));
        let armed = self.armed.front().map_or(Time::MAX, |(due, _)| due.saturating_sub(SPIN));
        let plan = match self.schedule {
            Some(schedule) if self.here > 0 => schedule.planned(self.departed).max(now + GRAIN.1),
            _ => Time::MAX,
        };
        next.min(hold).min(armed).min(plan)
    }

    /// The wheel is not looked at before this moment.
    const fn wheel_runs(&self) -> Time {
        self.wheel_ran + if self.modelled { GRAIN.1 } else { GRAIN.0 }
    }

    /// Handles one event. False if there was none.
    fn next_event<D: Driver>(&mut self, driver: &mut D) -> bool {
        let now = driver.now();
        let Some(event) = driver.next_event() else { return false };
        match event {
            Event::Bytes { conn, bytes } => {
                let all = bytes.len();
                let place = self.place(conn);
                let sound = place.is_none_or(|place| self.receive(place, bytes, now));
                driver.consumed(all);
                if let (false, Some(place)) = (sound, place) {
                    self.truth.count("bad_streams", 1);
                    self.lose(place);
                }
            }
            Event::Sent { conn, bytes } => {
                if let Some(place) = self.place(conn) {
                    let conn = &mut self.conns[place];
                    conn.sending = false;
                    if conn.state == State::Open && conn.outbox.sent(&mut self.pool, bytes) {
                        self.touch(place);
                    }
                }
            }
            Event::Eof { conn } | Event::Failed { conn } => {
                if let Some(place) = self.place(conn) {
                    self.lose(place);
                }
            }
            Event::Closed { conn } => {
                if let Some(place) = self.place(conn) {
                    self.by_id[conn.0 as usize] = NOBODY;
                    self.conns[place].gone(&mut self.pool);
                }
            }
            // A crowd has no slots and no workers, and it connects its sockets itself.
            _ => {}
        }
        true
    }

    fn place(&self, conn: ConnId) -> Option<usize> {
        let place = *self.by_id.get(conn.0 as usize)?;
        (place != NOBODY).then_some(place as usize)
    }

    /// The node ended a connection, or it can be followed no longer: its agents are gone.
    fn lose(&mut self, place: usize) {
        if self.conns[place].state != State::Open {
            return;
        }
        self.truth.count("connections_lost", 1);
        self.hang_up(place);
    }

    /// Ends a connection.
    fn hang_up(&mut self, place: usize) {
        self.conns[place].state = State::Closing;
        self.closing.push(place as u32);
        let (first, count) = self.carried[place];
        for at in first..first + count {
            self.depart(at as usize);
        }
    }

    /// The agent says nothing any more.
    fn depart(&mut self, at: usize) {
        let member = &mut self.members[at];
        match member.life {
            Life::Coming => self.settled += 1,
            Life::Here => self.here -= 1,
            Life::Gone => {}
        }
        member.life = Life::Gone;
    }
}
