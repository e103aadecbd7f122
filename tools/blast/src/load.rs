//! One thread's load, as a state machine over a driver: decides what to send when, and judges what
//! comes back. Does no I/O and reads no clock of its own, so that it runs in virtual time as well.
//!
//! Open loop: sends are planned ahead ([`Schedule`]) and leave in order of plan on whichever
//! connection has room in its window, in turn. A send that finds no room waits, and its latency
//! counts from the plan all the same.

mod depart;

use crate::{
    check::{Checker, Verdict},
    conn::{Conn, State, Step},
    outbox::Pool,
    request::Prepared,
    schedule::Schedule,
    tally::{Fault, Tally},
    window::{Landing, Windows},
};
use dataplane_core::{
    driver::{ConnId, Driver, Event, Time},
    memory::Memory,
};
use std::collections::VecDeque;
use wire::{ErrorCode, Header};

/// Events handled before sends are looked at again.
const EVENTS_PER_TURN: usize = 256;
const NOBODY: u32 = u32::MAX;

/// When things happen in a run.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    /// First send.
    pub start: Time,
    /// Requests planned from here on count.
    pub measure: Time,
    /// No request is planned from here on.
    pub stop: Time,
    /// Whatever is unanswered now is lost.
    pub give_up: Time,
}

/// What a load is made of.
#[derive(Debug)]
pub struct Parts {
    /// When things happen.
    pub phases: Phases,
    /// The plan of an open loop; `None` for a closed one.
    pub schedule: Option<Schedule>,
    /// Connections of this thread.
    pub connections: usize,
    /// Requests under way on each.
    pub depth: u32,
    /// Which template is sent first.
    pub first_template: usize,
    /// Whether connections that die will be replaced.
    pub reconnect: bool,
    /// The requests, laid out in memory.
    pub prepared: Prepared,
    /// What judges the replies.
    pub checker: Checker,
}

/// One thread's load.
#[derive(Debug)]
pub struct Load {
    phases: Phases,
    schedule: Option<Schedule>,
    reconnect: bool,
    prepared: Prepared,
    checker: Checker,
    windows: Windows,
    conns: Vec<Conn>,
    /// Index into `conns` by connection id.
    by_id: Vec<u32>,
    pool: Pool,
    /// Connections with room in their window, each once.
    ready: VecDeque<u32>,
    /// Connections with something to send and no transmit under way.
    dirty: Vec<u32>,
    /// Connections that died and shall be replaced.
    dead: Vec<usize>,
    /// Planned times of the answers in the bytes being handled: they get one time, when all are
    /// checked.
    landed: Vec<Time>,
    /// The same of refusals.
    turned_away: Vec<Time>,
    next_template: usize,
    /// Open loop: sends that left, and sends of the whole plan.
    departed: u64,
    total: u64,
    under_way: u64,
    /// Connections not given up, and of these the ones that are being replaced.
    alive: usize,
    missing: usize,
    /// No window has room, or no chunk is free; and when that was last so. Open loop only.
    starved: bool,
    held: Time,
    tally: Tally,
}

impl Load {
    /// A load without connections.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { phases, schedule, connections, depth, reconnect, prepared, .. } = parts;
        let pool = Pool::new(prepared.first_free, prepared.free, prepared.chunk_len);
        Self {
            total: schedule.map_or(0, |schedule| schedule.count_before(phases.stop)),
            phases,
            schedule,
            reconnect,
            next_template: parts.first_template % prepared.frames.len().max(1),
            prepared,
            checker: parts.checker,
            windows: Windows::new(connections, depth),
            conns: (0..connections).map(|_| Conn::default()).collect(),
            by_id: Vec::new(),
            pool,
            ready: VecDeque::with_capacity(connections),
            dirty: Vec::with_capacity(connections),
            dead: Vec::new(),
            landed: Vec::new(),
            turned_away: Vec::new(),
            departed: 0,
            under_way: 0,
            alive: connections,
            missing: 0,
            starved: false,
            held: 0,
            tally: Tally::over(phases.measure, phases.stop),
        }
    }

    /// Puts a connected socket in place `index` to work, at the start or for one that died.
    pub fn connect<D: Driver>(&mut self, driver: &mut D, index: usize, id: ConnId) {
        let slot = id.0 as usize;
        if slot >= self.by_id.len() {
            self.by_id.resize(slot + 1, NOBODY);
        }
        self.by_id[slot] = index as u32;
        if self.conns[index].state == State::Gone {
            self.tally.reconnects += 1;
            self.missing -= 1;
        }
        self.conns[index].open(id);
        driver.start_stream(id);
        self.feed(index);
    }

    /// Whether some connection is being replaced, or waits for it.
    #[must_use]
    pub const fn has_missing(&self) -> bool {
        self.missing > 0
    }

    /// Places whose connection died since the last call, to be connected again.
    pub fn take_dead(&mut self) -> impl Iterator<Item = usize> + use<> {
        core::mem::take(&mut self.dead).into_iter()
    }

    /// Gives a place up: its connection could not be replaced.
    pub fn give_up(&mut self) {
        self.alive -= 1;
        self.missing -= 1;
    }

    /// The counts so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// One pass: what happened, what is due, what leaves. False when the run is over.
    pub fn turn<D: Driver, M: Memory>(&mut self, driver: &mut D, memory: &mut M) -> bool {
        let began = driver.now();
        let mut active = false;
        for _ in 0..EVENTS_PER_TURN {
            if !self.next_event(driver) {
                break;
            }
            active = true;
        }
        let now = if active { driver.now() } else { began };
        active |= self.pump(now, memory) > 0;
        self.transmit(driver);
        driver.flush(!active, self.wake_at(now));
        let end = driver.now();
        self.account(began, end, active);
        self.tally.ended = end;
        !self.is_over(end)
    }

    /// Ends the run: what is under way is lost, what is planned is counted.
    #[must_use]
    pub fn finish(mut self) -> Tally {
        self.tally.lost +=
            (0..self.conns.len()).map(|index| self.windows.abandon(index)).sum::<u64>();
        self.tally.planned = match self.schedule {
            Some(schedule) => self.total - schedule.count_before(self.phases.measure),
            None => self.tally.sent,
        };
        self.tally
    }

    fn account(&mut self, began: Time, end: Time, active: bool) {
        if began >= self.phases.measure && end <= self.phases.stop {
            self.tally.wall_ns += end - began;
            if active {
                self.tally.busy_ns += end - began;
            }
        }
    }

    fn is_over(&self, now: Time) -> bool {
        if self.alive == 0 || now >= self.phases.give_up {
            return true;
        }
        now >= self.phases.stop && self.under_way == 0 && self.departed >= self.total
    }

    /// Handles one event. False if there was none.
    fn next_event<D: Driver>(&mut self, driver: &mut D) -> bool {
        let Some(event) = driver.next_event() else { return false };
        match event {
            Event::Bytes { conn, bytes } => {
                let all = bytes.len();
                let index = self.index(conn);
                let sound = index.is_none_or(|index| self.receive(index, bytes));
                driver.consumed(all);
                let now = driver.now();
                self.settle(now);
                if let (false, Some(index)) = (sound, index) {
                    self.end(driver, index, Fault::Header);
                }
            }
            Event::Sent { conn, bytes } => {
                if let Some(index) = self.index(conn) {
                    self.sent(index, bytes);
                }
            }
            Event::Eof { conn } | Event::Failed { conn } => {
                if let Some(index) = self.index(conn) {
                    self.end(driver, index, Fault::Connection);
                }
            }
            Event::Closed { conn } => self.closed(conn),
            // A load has no slots and no workers, and it connects its sockets itself.
            _ => {}
        }
        true
    }

    fn index(&self, conn: ConnId) -> Option<usize> {
        let index = *self.by_id.get(conn.0 as usize)?;
        (index != NOBODY).then_some(index as usize)
    }

    /// Judges the frames in these bytes. False when the stream cannot be followed any more.
    fn receive(&mut self, index: usize, bytes: &[u8]) -> bool {
        if self.conns[index].state != State::Open {
            return true;
        }
        // Out of its place for the time being, so that a frame that it holds can be judged.
        let mut partial = core::mem::take(&mut self.conns[index].partial);
        let mut rest = bytes;
        let sound = loop {
            match partial.step(&mut rest, self.checker.payload_max()) {
                Step::Frame(header, payload) => self.judge(index, &header, payload),
                Step::Starved => break true,
                Step::Broken => break false,
            }
        };
        self.conns[index].partial = partial;
        self.feed(index);
        sound
    }

    #[inline]
    fn judge(&mut self, index: usize, header: &Header, payload: &[u8]) {
        match self.windows.land(index, header.message_id()) {
            Landing::Found(flight) => {
                self.under_way -= 1;
                let verdict = self.checker.check(flight.template as usize, header, payload);
                match verdict {
                    Verdict::Good | Verdict::Refused(_) if !flight.measured => {}
                    Verdict::Good => {
                        self.tally.ok += 1;
                        self.tally.bytes_in += (wire::HEADER_LEN + payload.len()) as u64;
                        self.landed.push(flight.planned);
                    }
                    Verdict::Refused(code) => {
                        self.turned_away.push(flight.planned);
                        self.tally.bytes_in += (wire::HEADER_LEN + payload.len()) as u64;
                        self.tally.refuse(code);
                    }
                    Verdict::Bad(fault) => self.tally.fault(fault),
                }
            }
            // A word about the connection as a whole answers no request.
            Landing::Unknown if header.message_id() == 0 => {
                match self.checker.refusal(header, payload) {
                    // Asked to leave (W79): answered for as long as it stays.
                    Some(ErrorCode::Draining) => {}
                    Some(code) => self.tally.refuse(code),
                    None => self.tally.fault(Fault::UnknownId),
                }
            }
            Landing::Unknown => self.tally.fault(Fault::UnknownId),
            Landing::Duplicate => self.tally.fault(Fault::Duplicate),
        }
    }

    /// Gives the answers just judged their time.
    #[inline]
    fn settle(&mut self, now: Time) {
        for planned in self.turned_away.drain(..) {
            self.tally.turned_away(planned, now);
        }
        if self.landed.is_empty() {
            return;
        }
        for planned in self.landed.drain(..) {
            self.tally.answered(planned, now);
        }
        self.tally.last_reply = now;
    }

    fn sent(&mut self, index: usize, bytes: u32) {
        let conn = &mut self.conns[index];
        conn.sending = false;
        if conn.state == State::Open && conn.outbox.sent(&mut self.pool, bytes) {
            self.touch(index);
        }
    }

    /// The connection is of no more use. What is under way on it will not be answered.
    fn end<D: Driver>(&mut self, driver: &mut D, index: usize, fault: Fault) {
        let State::Open = self.conns[index].state else { return };
        let Some(id) = self.conns[index].id else { return };
        self.conns[index].state = State::Closing;
        self.tally.fault(fault);
        self.under_way -= u64::from(self.windows.under_way(index));
        self.tally.lost += self.windows.abandon(index);
        driver.close(id);
    }

    fn closed(&mut self, conn: ConnId) {
        let Some(index) = self.index(conn) else { return };
        self.by_id[conn.0 as usize] = NOBODY;
        let conn = &mut self.conns[index];
        conn.gone(&mut self.pool);
        if self.reconnect {
            self.dead.push(index);
            self.missing += 1;
        } else {
            self.alive -= 1;
        }
    }

    /// Puts a connection with room in its window in the queue of those that get requests.
    #[inline]
    fn feed(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        if !conn.ready && conn.state == State::Open && self.windows.has_room(index) {
            conn.ready = true;
            self.ready.push_back(index as u32);
        }
    }

    /// Notes that a connection may have something to send.
    #[inline]
    fn touch(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        if !conn.dirty && !conn.sending && !conn.outbox.is_empty() {
            conn.dirty = true;
            self.dirty.push(index as u32);
        }
    }
}
