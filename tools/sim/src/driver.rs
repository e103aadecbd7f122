//! The second implementation of [`Driver`]: events from a queue, orders into a list that the world
//! carries out between turns. Every rule that `dataplane-core` writes down for the shard is
//! asserted here.

use crate::{
    custody::{Custody, Holder},
    port::{Phase, Port, Reading},
    trace::{Trace, digest},
};
use dataplane_core::{
    Geometry,
    driver::{Caller, ConnId, Driver, Event, SEGMENTS_MAX, Segment, Time, WorkerId},
    memory::SlotId,
};
use std::{cell::RefCell, collections::VecDeque, rc::Rc};

/// Wall clock at virtual time 0.
pub const EPOCH_NS: u64 = 1_700_000_000_000_000_000;

/// An event on its way to the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    Accepted(ConnId, Caller),
    Readable(ConnId),
    Header(ConnId, Vec<u8>),
    Stopped(ConnId),
    Filled(ConnId, SlotId),
    Eof(ConnId),
    Sent(ConnId, u32),
    Failed(ConnId),
    Closed(ConnId),
    Completed(WorkerId, SlotId),
    Up(WorkerId, u32),
    Down(WorkerId),
    Drain,
    Leave,
}

/// An order that the world carries out between turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Receive(ConnId),
    Stop(ConnId),
    Transmit(ConnId),
    Finish(ConnId),
    Close(ConnId),
}

/// What the shard learned of workers in a turn, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// A slot came back from the worker that held it.
    Returned(WorkerId, SlotId),
    /// A worker came up.
    Up(WorkerId, u32),
    /// A worker is gone.
    Down(WorkerId),
    /// The node is to drain.
    Drain,
}

/// The simulated driver.
#[derive(Debug)]
pub struct SimDriver {
    pub(crate) now: Time,
    pub(crate) ports: Vec<Port>,
    /// Ids without a connection; the one freed last comes back first.
    pub(crate) free: Vec<ConnId>,
    pub(crate) events: VecDeque<Queued>,
    pub(crate) acts: Vec<Act>,
    pub(crate) lends: Vec<(WorkerId, Vec<SlotId>)>,
    pub(crate) learned: Vec<Learned>,
    pub(crate) until: Option<Time>,
    /// Completions that must be counted as link faults.
    pub(crate) lies_told: u64,
    custody: Rc<Custody>,
    trace: Rc<RefCell<Trace>>,
    geometry: Geometry,
    current: Vec<u8>,
    /// Whose bytes were offered last, and whether they are of a stream; until `consumed`.
    offered: Option<(ConnId, bool)>,
}

impl SimDriver {
    /// A driver for so many connections.
    #[must_use]
    pub fn new(
        connections: u32,
        geometry: Geometry,
        custody: Rc<Custody>,
        trace: Rc<RefCell<Trace>>,
    ) -> Self {
        Self {
            now: 0,
            ports: (0..connections).map(|_| Port::default()).collect(),
            free: (0..connections).rev().map(ConnId).collect(),
            events: VecDeque::new(),
            acts: Vec::new(),
            lends: Vec::new(),
            learned: Vec::new(),
            until: None,
            lies_told: 0,
            custody,
            trace,
            geometry,
            current: Vec::new(),
            offered: None,
        }
    }

    /// A peer has connected under this id, and this is who it is.
    pub fn accept(&mut self, conn: ConnId, who: Caller) {
        self.port(conn).phase = Phase::Open;
        self.events.push_back(Queued::Accepted(conn, who));
    }

    pub(crate) fn port(&mut self, conn: ConnId) -> &mut Port {
        &mut self.ports[conn.0 as usize]
    }

    /// Queues what follows from the state of a port's received bytes.
    pub(crate) fn settle(&mut self, conn: ConnId) {
        let port = &mut self.ports[conn.0 as usize];
        if port.phase != Phase::Open || port.failed {
            return;
        }
        if !port.rx.is_empty() && port.flows() {
            if !port.queued {
                port.queued = true;
                self.events.push_back(Queued::Readable(conn));
            }
            return;
        }
        if port.reading == Reading::Stopping && port.stop_done {
            port.reading = Reading::Idle;
            port.stop_done = false;
            self.events.push_back(Queued::Stopped(conn));
        }
        let port = &mut self.ports[conn.0 as usize];
        if port.fin && !port.eof_told && port.rx.is_empty() && port.reading != Reading::Stopping {
            // Told once: nothing that is ordered afterwards ends.
            port.eof_told = true;
            self.events.push_back(Queued::Eof(conn));
        }
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.borrow_mut().note(self.now, what);
    }

    fn breach(&self, what: String) {
        self.note(format_args!("BREACH {what}"));
        self.custody.breach(what);
    }

    /// The port of an order, if the shard may order anything for it.
    fn ordered(&mut self, conn: ConnId, what: &str) -> Option<&mut Port> {
        let phase = self.ports.get(conn.0 as usize).map(|port| port.phase);
        self.note(format_args!("  {what} {conn:?}"));
        if phase == Some(Phase::Open) {
            return Some(self.port(conn));
        }
        self.breach(format!("{what} for {conn:?}, which is {phase:?}"));
        None
    }

    fn order_fill(&mut self, conn: ConnId, what: &str, reading: Reading) -> bool {
        let Some(port) = self.ordered(conn, what) else { return false };
        let in_order = port.reading == Reading::Idle && port.rx.is_empty() && !port.kept;
        if !in_order {
            let (before, bytes) =
                (port.reading.clone(), port.rx.iter().map(Vec::len).sum::<usize>());
            self.breach(format!("{what} for {conn:?} while {before:?}, {bytes} bytes kept"));
            return false;
        }
        port.reading = reading;
        self.acts.push(Act::Receive(conn));
        true
    }

    /// Turns a queued event into what the shard sees; `None` where it has become void.
    fn deliver(&mut self, queued: Queued) -> Option<Queued> {
        match &queued {
            Queued::Readable(conn) => {
                let port = self.port(*conn);
                port.queued = false;
                if port.phase != Phase::Open || !port.flows() {
                    return None;
                }
                self.current = port.rx.pop_front()?;
                self.offered = Some((*conn, true));
            }
            Queued::Header(conn, bytes) => {
                self.current.clone_from(bytes);
                self.offered = Some((*conn, false));
            }
            Queued::Filled(_, slot) => self.custody.put(*slot, Holder::Shard),
            Queued::Closed(conn) => {
                let mine = *conn;
                let held = |h| h == Holder::Filling(mine) || h == Holder::Sending(mine);
                self.custody.release(held);
                *self.port(mine) = Port::default();
                self.free.push(mine);
            }
            Queued::Completed(worker, slot) => {
                let written = Holder::Lent { worker: *worker, written: true };
                if self.custody.holder(*slot) == Some(written) {
                    self.custody.put(*slot, Holder::Shard);
                    self.learned.push(Learned::Returned(*worker, *slot));
                } else {
                    self.lies_told += 1;
                }
            }
            Queued::Up(worker, operations) => self.learned.push(Learned::Up(*worker, *operations)),
            Queued::Down(worker) => {
                self.custody
                    .release(|h| matches!(h, Holder::Lent { worker: w, .. } if w == *worker));
                self.learned.push(Learned::Down(*worker));
            }
            Queued::Drain => self.learned.push(Learned::Drain),
            Queued::Leave => {}
            Queued::Accepted(conn, _)
            | Queued::Stopped(conn)
            | Queued::Eof(conn)
            | Queued::Failed(conn)
            | Queued::Sent(conn, _) => {
                if self.port(*conn).phase == Phase::Free {
                    return None;
                }
            }
        }
        Some(queued)
    }
}

impl Driver for SimDriver {
    fn now(&mut self) -> Time {
        self.now
    }

    fn epoch_ns(&mut self) -> u64 {
        EPOCH_NS + self.now
    }

    fn next_event(&mut self) -> Option<Event<'_>> {
        if let Some((conn, _)) = self.offered.take() {
            self.breach(format!("the bytes of {conn:?} were not answered by `consumed`"));
        }
        let told = loop {
            let queued = self.events.pop_front()?;
            if let Some(told) = self.deliver(queued) {
                break told;
            }
        };
        if let Some((conn, _)) = self.offered {
            let (len, print) = (self.current.len(), digest(&self.current));
            self.note(format_args!("Bytes {conn:?} {len} {print:016x}"));
        } else {
            self.note(format_args!("{told:?}"));
        }
        Some(match told {
            Queued::Readable(conn) | Queued::Header(conn, _) => {
                Event::Bytes { conn, bytes: &self.current }
            }
            Queued::Accepted(conn, who) => Event::Accepted { conn, who },
            Queued::Stopped(conn) => Event::StreamStopped { conn },
            Queued::Filled(conn, _) => Event::Filled { conn },
            Queued::Eof(conn) => Event::Eof { conn },
            Queued::Sent(conn, bytes) => Event::Sent { conn, bytes },
            Queued::Failed(conn) => Event::Failed { conn },
            Queued::Closed(conn) => Event::Closed { conn },
            Queued::Completed(worker, slot) => Event::Completed { worker, slot },
            Queued::Up(worker, operations) => Event::WorkerUp { worker, operations },
            Queued::Down(worker) => Event::WorkerDown { worker },
            Queued::Drain => Event::Drain,
            Queued::Leave => Event::Leave,
        })
    }

    fn consumed(&mut self, bytes: usize) {
        let Some((conn, stream)) = self.offered.take() else {
            self.breach("`consumed` without bytes".into());
            return;
        };
        if bytes > self.current.len() || (!stream && bytes < self.current.len()) {
            let len = self.current.len();
            self.breach(format!("{conn:?} used {bytes} of {len} bytes, stream: {stream}"));
        } else if bytes < self.current.len() {
            self.note(format_args!("  kept {conn:?} from {bytes}"));
            let rest = self.current.split_off(bytes);
            let port = self.port(conn);
            port.rx.push_front(rest);
            port.kept = true;
        }
        if stream {
            self.settle(conn);
            self.acts.push(Act::Receive(conn));
        }
    }

    fn start_stream(&mut self, conn: ConnId) {
        let Some(port) = self.ordered(conn, "start_stream") else { return };
        if port.reading == Reading::Idle || (port.reading == Reading::Stream && port.kept) {
            port.reading = Reading::Stream;
            port.kept = false;
            self.settle(conn);
            self.acts.push(Act::Receive(conn));
        } else {
            let reading = port.reading.clone();
            self.breach(format!("start_stream for {conn:?} while {reading:?}"));
        }
    }

    fn stop_stream(&mut self, conn: ConnId) {
        let Some(port) = self.ordered(conn, "stop_stream") else { return };
        if port.reading == Reading::Stream {
            port.reading = Reading::Stopping;
            self.acts.push(Act::Stop(conn));
        } else {
            let reading = port.reading.clone();
            self.breach(format!("stop_stream for {conn:?} while {reading:?}"));
        }
    }

    fn fill_header(&mut self, conn: ConnId, len: u32) {
        if len == 0 || len as usize > wire::HEADER_LEN {
            self.breach(format!("fill_header of {len} bytes for {conn:?}"));
        }
        let reading = Reading::Header { len: len as usize, got: Vec::new() };
        self.order_fill(conn, "fill_header", reading);
    }

    fn fill_slot(&mut self, conn: ConnId, slot: SlotId, from: u32, len: u32) {
        let cap = self.geometry.request_cap(slot);
        if slot.0 >= self.geometry.slots() || len == 0 || from.saturating_add(len) > cap {
            self.breach(format!("fill_slot {slot:?} {from}+{len} of {cap} for {conn:?}"));
            return;
        }
        let reading = Reading::Slot { slot, at: from, end: from + len };
        if self.order_fill(conn, "fill_slot", reading) {
            self.custody.give(slot, Holder::Filling(conn));
        }
    }

    fn transmit(&mut self, conn: ConnId, segments: &[Segment]) {
        let bytes: u64 = segments.iter().map(|s| u64::from(s.len())).sum();
        self.note(format_args!("  transmit {} segments, {bytes} bytes", segments.len()));
        let Some(port) = self.ordered(conn, "transmit") else { return };
        let (busy, finished) = (port.sending.is_some(), port.finished);
        if busy || finished || segments.is_empty() || segments.len() > SEGMENTS_MAX {
            let n = segments.len();
            let why = format!("under way: {busy}, finished: {finished}, {n} segments");
            self.breach(format!("transmit for {conn:?}: {why}"));
            return;
        }
        port.sending = Some(segments.to_vec());
        self.acts.push(Act::Transmit(conn));
        for segment in segments {
            let (from, len, cap) = match segment {
                Segment::Chunk { chunk, from, len } if chunk.0 < self.geometry.chunks => {
                    (*from, *len, self.geometry.chunk_len)
                }
                Segment::Reply { slot, from, len } if slot.0 < self.geometry.slots() => {
                    self.custody.give(*slot, Holder::Sending(conn));
                    (*from, *len, self.geometry.reply_cap(*slot))
                }
                _ => (0, 0, 0),
            };
            if len == 0 || from.saturating_add(len) > cap {
                self.breach(format!("transmit for {conn:?} of {segment:?}, outside its area"));
            }
        }
    }

    fn finish(&mut self, conn: ConnId) {
        let Some(port) = self.ordered(conn, "finish") else { return };
        if port.finished || port.sending.is_some() {
            self.breach(format!("finish for {conn:?}, twice or while it sends"));
            return;
        }
        port.finished = true;
        self.acts.push(Act::Finish(conn));
    }

    fn close(&mut self, conn: ConnId) {
        let Some(port) = self.ordered(conn, "close") else { return };
        port.phase = Phase::Closing;
        self.acts.push(Act::Close(conn));
    }

    fn lend(&mut self, worker: WorkerId, batch: &[SlotId]) {
        self.note(format_args!("  lend {worker:?} {batch:?}"));
        if batch.is_empty() {
            self.breach(format!("an empty batch for {worker:?}"));
        }
        for slot in batch {
            self.custody.give(*slot, Holder::Lent { worker, written: false });
        }
        self.lends.push((worker, batch.to_vec()));
    }

    fn flush(&mut self, idle: bool, until: Option<Time>) {
        if let Some((conn, _)) = self.offered.take() {
            self.breach(format!("the bytes of {conn:?} were not answered by `consumed`"));
        }
        self.note(format_args!("flush idle {idle} until {until:?}"));
        self.until = until;
    }
}
