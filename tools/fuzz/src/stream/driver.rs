//! The OS as a shard sees it, one step at a time.

use super::memory::Slots;
use dataplane_core::{
    Geometry,
    driver::{Caller, ConnId, Driver, Event, Segment, Time, WorkerId},
    memory::{Memory as _, SlotId},
};
use std::collections::VecDeque;
use wire::{HEADER_LEN, Header, Outcome, Role, Roles, frame};
use zerocopy::{FromBytes as _, IntoBytes as _};

pub(super) const CONNECTIONS: u32 = 2;
const WORKER: WorkerId = WorkerId(0);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Free,
    Open,
    Closing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Idle,
    Stream,
    Stopping,
    Header(usize),
    Slot {
        slot: SlotId,
        at: u32,
        end: u32,
    },
}

/// One connection.
#[derive(Debug, Default)]
struct Port {
    phase: Phase,
    reading: Reading,
    /// The shard used less than it was offered: nothing more before it starts the stream again.
    kept: bool,
    received: VecDeque<u8>,
    fin: bool,
    eof_told: bool,
    failed: bool,
    finished: bool,
    sending: Option<Vec<Segment>>,
    /// What left and is no whole frame yet; `None` once a worker wrote what is no frame.
    sent: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Told {
    Accepted(ConnId),
    Bytes(ConnId, Vec<u8>),
    Stopped(ConnId),
    Filled(ConnId),
    Eof(ConnId),
    Sent(ConnId, u32),
    Failed(ConnId),
    Closed(ConnId),
    Completed(SlotId),
    Up,
    Down,
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) now: Time,
    /// Bytes that the OS takes of a transmit.
    pub(super) room: u32,
    /// The mesh took something: the shard is woken.
    pub(super) freed: bool,
    geometry: Geometry,
    ports: Vec<Port>,
    events: VecDeque<Told>,
    current: Told,
    /// Lent and not given back.
    held: Vec<SlotId>,
    up: bool,
}

impl Wire {
    pub(super) fn new(geometry: Geometry) -> Self {
        let connections = dataplane_core::connection_table(CONNECTIONS);
        Self {
            now: 1_000_000,
            room: u32::MAX,
            freed: false,
            geometry,
            ports: (0..connections).map(|_| Port::default()).collect(),
            events: VecDeque::new(),
            current: Told::Up,
            held: Vec::new(),
            up: false,
        }
    }

    pub(super) fn connect(&mut self, conn: usize) {
        if self.ports[conn].phase == Phase::Free {
            let sent = Some(Vec::new());
            self.ports[conn] = Port { phase: Phase::Open, sent, ..Port::default() };
            self.events.push_back(Told::Accepted(ConnId(conn as u32)));
        }
    }

    pub(super) fn receive(&mut self, conn: usize, bytes: &[u8]) {
        let port = &mut self.ports[conn];
        if port.phase == Phase::Open && !port.fin && !port.failed {
            port.received.extend(bytes);
        }
    }

    /// The peer ends its side, or breaks the connection.
    pub(super) fn end(&mut self, conn: usize, how: u8) {
        let port = &mut self.ports[conn];
        if port.phase != Phase::Open || port.failed {
        } else if how.is_multiple_of(2) {
            port.fin = true;
        } else {
            port.failed = true;
            self.events.push_back(Told::Failed(ConnId(conn as u32)));
        }
    }

    pub(super) fn worker_up(&mut self) {
        self.up = true;
        self.events.push_back(Told::Up);
    }

    /// It is gone, and at once another is there.
    pub(super) fn worker_dies(&mut self) {
        self.held.clear();
        self.events.push_back(Told::Down);
        self.worker_up();
    }

    /// The worker gives a slot back: its own with a frame as reply or a refusal, or any slot with
    /// whatever outcome it likes.
    pub(super) fn work(&mut self, slots: &mut Slots, which: u8, lie: Option<&[u8]>) {
        let any = SlotId(u32::from(which) % (self.geometry.slots() + 1));
        let own = self.held.get(usize::from(which) % self.held.len().max(1)).copied();
        if let Some(lie) = lie {
            let slot = own.filter(|_| which < 128).unwrap_or(any);
            self.events.push_back(Told::Completed(slot));
            let Some(outcome) = slots.outcomes.get_mut(slot.0 as usize) else { return };
            let said = Outcome::read_from_bytes(lie).unwrap_or_default();
            let lending = slots.orders[slot.0 as usize].map_or(0, |order| order.lending);
            // Half of the lies are of the right lending: the others get no further.
            let of_it = which.is_multiple_of(2);
            *outcome = if of_it { Outcome { lending, ..said } } else { said };
            self.ports.iter_mut().for_each(|port| port.sent = None);
            if of_it {
                self.held.retain(|held| *held != slot);
            }
            return;
        }
        let Some(slot) = own else { return };
        self.held.retain(|held| *held != slot);
        let order = slots.orders[slot.0 as usize].expect("a lent slot has its order");
        let payload = &slots.requests[slot.0 as usize][..order.payload_len as usize];
        assert!(order.work().is_err() || !payload.is_empty());
        let reply = frame::ping(order.message_id, 1);
        slots.replies[slot.0 as usize][..HEADER_LEN].copy_from_slice(reply.as_bytes());
        slots.outcomes[slot.0 as usize] = Outcome {
            lending: order.lending,
            status: if which < 200 { 0 } else { u16::from(which) },
            frames: 1,
            reply_len: HEADER_LEN as u32,
            ..Outcome::default()
        };
        self.events.push_back(Told::Completed(slot));
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.events.is_empty() && self.ports.iter().all(|port| port.phase == Phase::Free)
    }

    /// What follows from what came and what was ordered. True where something does.
    pub(super) fn settle(&mut self, slots: &mut Slots) -> bool {
        for conn in 0..self.ports.len() {
            self.take(conn, slots);
            self.read(conn, slots);
            let port = &mut self.ports[conn];
            if port.phase == Phase::Closing {
                *port = Port::default();
                self.events.push_back(Told::Closed(ConnId(conn as u32)));
            }
        }
        core::mem::take(&mut self.freed) || !self.events.is_empty()
    }

    /// The OS takes some of a transmit.
    fn take(&mut self, conn: usize, slots: &Slots) {
        let port = &mut self.ports[conn];
        let Some(segments) = port.sending.take() else { return };
        if port.failed {
            return;
        }
        let mut left = self.room;
        for segment in segments {
            let (from, len) = match segment {
                Segment::Chunk { from, len, .. } | Segment::Reply { from, len, .. } => (from, len),
            };
            let area = match segment {
                Segment::Chunk { chunk, .. } => slots.chunk(chunk),
                Segment::Reply { slot, .. } => slots.reply(slot),
            };
            let taken = len.min(left);
            left -= taken;
            let bytes = &area[from as usize..][..len as usize][..taken as usize];
            if let Some(sent) = &mut port.sent {
                sent.extend_from_slice(bytes);
            }
        }
        port.judge_sent();
        self.events.push_back(Told::Sent(ConnId(conn as u32), self.room - left));
    }

    /// Delivers what has come, as far as it was ordered.
    fn read(&mut self, conn: usize, slots: &mut Slots) {
        let (id, port) = (ConnId(conn as u32), &mut self.ports[conn]);
        if port.phase != Phase::Open || port.failed {
            return;
        }
        let pending =
            self.events.iter().any(|told| matches!(told, Told::Bytes(of, _) if *of == id));
        match port.reading {
            Reading::Stream | Reading::Stopping
                if !port.kept && !port.received.is_empty() && !pending =>
            {
                self.events.push_back(Told::Bytes(id, port.received.drain(..).collect()));
            }
            Reading::Stopping if !pending => {
                port.reading = Reading::Idle;
                self.events.push_back(Told::Stopped(id));
            }
            Reading::Header(len) if port.received.len() >= len => {
                port.reading = Reading::Idle;
                self.events.push_back(Told::Bytes(id, port.received.drain(..len).collect()));
            }
            Reading::Slot { slot, at, end } => {
                let count = port.received.len().min((end - at) as usize);
                let area = &mut slots.requests[slot.0 as usize][at as usize..];
                for (to, byte) in area.iter_mut().zip(port.received.drain(..count)) {
                    *to = byte;
                }
                let at = at + count as u32;
                port.reading = Reading::Slot { slot, at, end };
                if at == end {
                    port.reading = Reading::Idle;
                    self.events.push_back(Told::Filled(id));
                }
            }
            _ => {}
        }
        let port = &mut self.ports[conn];
        let dry = port.received.is_empty() || matches!(port.reading, Reading::Header(_));
        if port.fin && !port.eof_told && dry && !pending && port.reading != Reading::Stopping {
            port.eof_told = true;
            self.events.push_back(Told::Eof(id));
        }
    }

    /// The port of an order, which only an open connection may have.
    fn ordered(&mut self, conn: ConnId) -> &mut Port {
        let port = &mut self.ports[conn.0 as usize];
        assert_eq!(port.phase, Phase::Open, "an order for {conn:?}");
        port
    }

    fn fill(&mut self, conn: ConnId, reading: Reading) {
        let port = self.ordered(conn);
        assert!(port.reading == Reading::Idle && !port.kept, "a fill while {port:?}");
        port.reading = reading;
    }
}

impl Port {
    /// Everything that leaves is whole frames, unless a worker lied.
    fn judge_sent(&mut self) {
        let Some(sent) = &mut self.sent else { return };
        while let Some(header) = Header::peek(sent) {
            assert_eq!(header.check(1 << 20), Ok(()), "what leaves is a frame");
            let len = HEADER_LEN + header.payload_len() as usize;
            if sent.len() < len {
                return;
            }
            sent.drain(..len);
        }
    }
}

impl Driver for Wire {
    fn now(&mut self) -> Time {
        self.now
    }

    fn epoch_ns(&mut self) -> u64 {
        1_700_000_000_000_000_000 + self.now
    }

    fn next_event(&mut self) -> Option<Event<'_>> {
        loop {
            self.current = self.events.pop_front()?;
            // Nothing is told of a connection that ends, but its end.
            let of = match &self.current {
                Told::Bytes(conn, _)
                | Told::Stopped(conn)
                | Told::Filled(conn)
                | Told::Eof(conn)
                | Told::Sent(conn, _)
                | Told::Failed(conn) => Some(*conn),
                _ => None,
            };
            if of.is_none_or(|conn| self.ports[conn.0 as usize].phase == Phase::Open) {
                break;
            }
        }
        Some(match &self.current {
            Told::Accepted(conn) => {
                let who = match conn.0 {
                    0 => Caller::LOCAL,
                    // Somebody who may ask for work and nothing else.
                    _ => Caller { identity: 1, roles: Roles::of(Role::Client) },
                };
                Event::Accepted { conn: *conn, who }
            }
            Told::Bytes(conn, bytes) => Event::Bytes { conn: *conn, bytes },
            Told::Stopped(conn) => Event::StreamStopped { conn: *conn },
            Told::Filled(conn) => Event::Filled { conn: *conn },
            Told::Eof(conn) => Event::Eof { conn: *conn },
            Told::Sent(conn, bytes) => Event::Sent { conn: *conn, bytes: *bytes },
            Told::Failed(conn) => Event::Failed { conn: *conn },
            Told::Closed(conn) => Event::Closed { conn: *conn },
            Told::Completed(slot) => Event::Completed { worker: WORKER, slot: *slot },
            Told::Up => Event::WorkerUp { worker: WORKER, operations: u32::MAX },
            Told::Down => Event::WorkerDown { worker: WORKER },
        })
    }

    fn consumed(&mut self, used: usize) {
        let Told::Bytes(conn, bytes) = &mut self.current else { panic!("no bytes were offered") };
        assert!(used <= bytes.len());
        let rest = bytes.split_off(used);
        let port = &mut self.ports[conn.0 as usize];
        if !rest.is_empty() {
            port.kept = true;
            for byte in rest.into_iter().rev() {
                port.received.push_front(byte);
            }
        }
    }

    fn start_stream(&mut self, conn: ConnId) {
        let port = self.ordered(conn);
        let stands = port.reading == Reading::Stream && port.kept;
        assert!(port.reading == Reading::Idle || stands, "a stream while {port:?}");
        (port.reading, port.kept) = (Reading::Stream, false);
    }

    fn stop_stream(&mut self, conn: ConnId) {
        let port = self.ordered(conn);
        assert_eq!(port.reading, Reading::Stream, "{port:?}");
        port.reading = Reading::Stopping;
    }

    fn fill_header(&mut self, conn: ConnId, len: u32) {
        assert!((1..=HEADER_LEN as u32).contains(&len));
        self.fill(conn, Reading::Header(len as usize));
    }

    fn fill_slot(&mut self, conn: ConnId, slot: SlotId, from: u32, len: u32) {
        let end = from.checked_add(len).expect("within the slot");
        assert!(len > 0 && end <= self.geometry.request_cap(slot));
        self.fill(conn, Reading::Slot { slot, at: from, end });
    }

    fn transmit(&mut self, conn: ConnId, segments: &[Segment]) {
        let port = self.ordered(conn);
        assert!(port.sending.is_none() && !port.finished && !segments.is_empty());
        assert!(segments.iter().all(|segment| !segment.is_empty()));
        port.sending = Some(segments.to_vec());
    }

    fn finish(&mut self, conn: ConnId) {
        let port = self.ordered(conn);
        assert!(!port.finished && port.sending.is_none());
        port.finished = true;
    }

    fn close(&mut self, conn: ConnId) {
        self.ordered(conn).phase = Phase::Closing;
    }

    fn lend(&mut self, worker: WorkerId, batch: &[SlotId]) {
        assert!(worker == WORKER && !batch.is_empty());
        for slot in batch {
            assert!(!self.held.contains(slot), "{slot:?} is lent twice");
            self.held.push(*slot);
        }
    }

    fn flush(&mut self, _idle: bool, _until: Option<Time>) {}
}
