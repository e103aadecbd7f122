//! The shard: one core's whole data path as a state machine.
//!
//! Events in: [`Shard::handle_bytes`] and [`Shard::handle`]; then [`Shard::advance`] with the time;
//! then drain, in this order, [`Shard::poll_lend`], [`Shard::poll_order`], [`Shard::poll_transmit`]
//! until each has nothing more; [`Shard::next_wakeup`] says when to run again at the latest.
//! [`crate::turn::turn`] does exactly this. No method waits, reads a clock or touches a socket.

use crate::{
    admission::Admission,
    batch::Batcher,
    conn::{Conn, ConnTable, Intake, Lane, Phase},
    driver::{Caller, ConnId, Event, SEGMENTS_MAX, Segment, Time},
    egress::Egress,
    fair::Need,
    identity::Identities,
    limits::Limits,
    memory::{Geometry, Memory, SlotId},
    mesh::Mesh,
    mesh_port::Up,
    node::NodeStats,
    probe::Probes,
    retry::Remembers,
    route::Workers,
    slot::{Arrived, Ledger, SlotTable},
    stats::{CloseCause, Stats},
    trace::Tracer,
    why::Search,
};
use std::{collections::VecDeque, sync::Arc};
use wire::{ErrorCode, Kind};

/// What the driver is asked to do for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// [`crate::driver::Driver::start_stream`].
    StartStream,
    /// [`crate::driver::Driver::stop_stream`].
    StopStream,
    /// [`crate::driver::Driver::fill_header`].
    FillHeader {
        /// Bytes.
        len: u32,
    },
    /// [`crate::driver::Driver::fill_slot`].
    FillSlot {
        /// Into which.
        slot: SlotId,
        /// From byte.
        from: u32,
        /// Bytes.
        len: u32,
    },
    /// [`crate::driver::Driver::finish`].
    Finish,
    /// [`crate::driver::Driver::close`].
    Close,
}

/// A refusal that found no egress chunk; it is sent as soon as one is free.
#[derive(Debug)]
pub(crate) struct Deferred {
    pub conn: ConnId,
    pub life: u32,
    pub message_id: u64,
    pub code: ErrorCode,
    pub actual: u64,
}

/// What a step may use besides the shard itself.
#[derive(Debug)]
pub struct Cx<'a, M> {
    /// Monotonic time of this turn.
    pub now: Time,
    /// Wall clock of this turn, for header timestamps.
    pub epoch_ns: u64,
    /// Slots and chunks.
    pub mem: &'a mut M,
}

/// One core's data path.
#[derive(Debug)]
pub struct Shard {
    pub(crate) limits: Limits,
    pub(crate) geometry: Geometry,
    pub(crate) conns: ConnTable,
    pub(crate) slots: SlotTable,
    pub(crate) identities: Arc<Identities>,
    pub(crate) batcher: Batcher,
    pub(crate) admission: Admission,
    pub(crate) workers: Workers,
    pub(crate) egress: Egress,
    pub(crate) orders: VecDeque<(ConnId, Order)>,
    pub(crate) dirty: VecDeque<ConnId>,
    /// Of those who wait, one that stands in line for this is being served.
    pub(crate) serving: Option<Need>,
    pub(crate) deferred: VecDeque<Deferred>,
    pub(crate) probes: Probes,
    pub(crate) lend_ids: Vec<SlotId>,
    /// Requests on their way out of the batcher, with whether their batch was open.
    pub(crate) gone: Vec<(Arrived, bool)>,
    /// The hopeless were looked for in this turn.
    pub(crate) sifted: bool,
    /// Where retries are known.
    pub(crate) memory: Option<Remembers>,
    /// Requests admitted so far: their order of arrival.
    pub(crate) admitted: u64,
    /// Something was freed since the waiting were last looked at.
    pub(crate) freed: bool,
    pub(crate) draining: bool,
    /// Peers are being asked to leave: the next connection that is to be told.
    pub(crate) leaving: Option<u32>,
    /// Where records of requests are kept.
    pub(crate) tracer: Option<Box<Tracer>>,
    /// Somebody wants to know why.
    pub(crate) search: Option<Box<Search>>,
    /// Where there is a mesh.
    pub(crate) mesh: Option<Box<Mesh>>,
    pub(crate) next_sweep: Time,
    /// Where the next sweep goes on.
    pub(crate) swept: u32,
    pub(crate) stats: Arc<Stats>,
    pub(crate) node: Arc<NodeStats>,
}

impl Shard {
    /// A shard with everything allocated that it will ever need. `stats` is this shard's own entry
    /// in `node`.
    #[must_use]
    pub fn new(
        limits: Limits,
        geometry: Geometry,
        workers: u16,
        stats: Arc<Stats>,
        node: Arc<NodeStats>,
    ) -> Self {
        let conns = ConnTable::new(limits.connections);
        let n = conns.len() as usize;
        let identities = Arc::<Identities>::default();
        Self {
            batcher: Batcher::new(&limits, geometry.slots()),
            admission: Admission::new(limits.queue_target),
            slots: SlotTable::new(geometry, Arc::clone(&identities), conns.len()),
            identities,
            workers: Workers::new(workers),
            egress: Egress::new(&geometry),
            orders: VecDeque::with_capacity(2 * n),
            dirty: VecDeque::with_capacity(n),
            serving: None,
            deferred: VecDeque::with_capacity(geometry.slots() as usize),
            probes: Probes::default(),
            lend_ids: Vec::with_capacity(crate::limits::BATCH_CAP),
            gone: Vec::with_capacity(geometry.slots() as usize),
            sifted: false,
            memory: None,
            admitted: 0,
            freed: false,
            draining: false,
            leaving: None,
            tracer: None,
            search: None,
            mesh: None,
            next_sweep: 0,
            swept: 0,
            conns,
            limits,
            geometry,
            stats,
            node,
        }
    }

    /// Slots by state; the sum never changes.
    #[must_use]
    pub const fn ledger(&self) -> Ledger {
        self.slots.ledger()
    }

    /// No work is reckoned with, neither waiting nor lent.
    #[must_use]
    pub fn is_unloaded(&self) -> bool {
        self.admission.is_idle()
    }

    /// Egress chunks that hold nothing.
    #[must_use]
    pub fn free_chunks(&self) -> usize {
        self.egress.free_chunks()
    }

    /// Draining, and nothing is under way any more.
    #[must_use]
    pub fn finished(&self) -> bool {
        if !self.draining {
            return false;
        }
        let ledger = self.slots.ledger();
        let busy = ledger.arrived + ledger.lent + ledger.ready + ledger.sending;
        let mesh_idle = self.mesh.as_ref().is_none_or(|mesh| mesh.is_idle());
        let idle = busy == 0 && self.egress.is_idle() && self.deferred.is_empty();
        idle && mesh_idle
    }

    /// Takes in anything but bytes.
    pub fn handle<M: Memory>(&mut self, cx: &mut Cx<'_, M>, event: Event<'_>) {
        match event {
            Event::Accepted { conn, who } => self.accepted(cx, conn, who),
            Event::Bytes { conn, bytes } => {
                self.handle_bytes(cx, conn, bytes);
            }
            Event::StreamStopped { conn } => self.stream_stopped(conn),
            Event::Filled { conn } => self.filled(cx, conn),
            Event::Eof { conn } => self.end_of_stream(conn),
            Event::Sent { conn, bytes } => self.sent(cx, conn, bytes),
            Event::Failed { conn } => self.close(conn, CloseCause::Io),
            Event::Closed { conn } => self.closed(cx, conn),
            Event::Completed { worker, slot } => self.completed(cx, worker, slot),
            Event::WorkerUp { worker, operations } => {
                self.workers.up(worker, operations);
                if let Some(tracer) = self.tracer.as_deref_mut() {
                    tracer.forget_signers(worker.0);
                }
                self.admission.workers(self.workers.operations());
                self.stats.workers_up.set(self.workers.count_up() as u64);
            }
            Event::WorkerDown { worker } => self.worker_down(cx, worker),
            Event::WorkerHealth { worker, healthy } => {
                self.workers.judge(worker, healthy);
                self.admission.workers(self.workers.operations());
            }
            Event::Probe(probe) => self.probe(probe),
            Event::Leave => self.leaving = Some(0),
            Event::Drain => self.draining = true,
        }
    }

    /// Does what is due at `cx.now`, and lets those that waited for room try again.
    pub fn advance<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        self.stats.turns.add(1);
        self.sifted = false;
        self.mesh_turn(cx);
        if cx.now >= self.slots.deadline_min() {
            self.expire(cx);
        }
        if self.freed {
            self.freed = false;
            self.retry_deferred(cx);
            self.retry_waiting(cx);
        }
        self.ask_to_leave(cx);
        self.search(cx);
        // After those that waited were let in, so that a batch they opened is not a turn late.
        self.batcher.advance(cx.now, self.draining);
        self.sweep(cx);
    }

    /// The next order for the driver.
    pub fn poll_order(&mut self) -> Option<(ConnId, Order)> {
        self.orders.pop_front()
    }

    /// The next connection to send for, and what: fills `segments`, returns how many.
    pub fn poll_transmit(
        &mut self,
        segments: &mut [Segment; SEGMENTS_MAX],
    ) -> Option<(ConnId, usize)> {
        // First come, first sent: scheduled sends leave in the order of their moments.
        while let Some(id) = self.dirty.pop_front() {
            let Some(conn) = self.conns.get(id) else { continue };
            conn.dirty = false;
            if conn.phase != Phase::Open || conn.sending || conn.outbox.is_empty() {
                continue;
            }
            conn.sending = true;
            let count = self.egress.segments(&conn.outbox, segments);
            self.stats.transmits.add(1);
            return Some((id, count));
        }
        None
    }

    /// When the shard must run again even if nothing happens.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Time> {
        let mut next = self.batcher.next_wakeup().unwrap_or(Time::MAX);
        next = next.min(self.slots.deadline_min());
        if self.conns.open() > 0 || self.slots.ledger().lent > 0 {
            next = next.min(self.next_sweep);
        }
        if self.freed && !(self.slots.fair.nobody_waits() && self.deferred.is_empty()) {
            next = 0;
        }
        if self.search.is_some() {
            next = 0;
        }
        if let Some(due) = self.mesh.as_ref().and_then(|mesh| mesh.next_wakeup(self.freed)) {
            next = next.min(due);
        }
        (next != Time::MAX).then_some(next)
    }

    fn accepted<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId, who: Caller) {
        self.stats.accepted.add(1);
        let full = self.conns.open() >= self.limits.connections;
        let Some(conn) = self.conns.begin(id) else {
            self.stats.close(CloseCause::Full);
            self.orders.push_back((id, Order::Close));
            return;
        };
        conn.active_at = cx.now;
        self.stats.open.set(u64::from(self.conns.open()));
        self.orders.push_back((id, Order::StartStream));
        if self.seat(cx, id, who) && full {
            self.fault(cx, id, 0, ErrorCode::TooManyConnections, u64::from(self.conns.open()));
        } else if let Some(told) = self.leaving {
            // Accepted while the doors closed: it is told like the others.
            self.leaving = Some(told.min(id.0));
        }
    }

    /// Tells every peer that another process takes new connections: this one answers on, and waits
    /// to be left. What finds no room now is told in a later turn.
    fn ask_to_leave<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        let Some(mut next) = self.leaving else { return };
        while next < self.conns.len() {
            let id = ConnId(next);
            let untold = |conn: &mut Conn| !(conn.asked_to_leave || conn.finishing || conn.eof);
            if self.conns.open_mut(id).is_some_and(untold) && !self.notice(cx, id) {
                break;
            }
            next += 1;
        }
        self.leaving = Some(next);
    }

    fn end_of_stream(&mut self, id: ConnId) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        conn.eof = true;
        self.after_end_of_stream(id);
    }

    /// Ends a connection whose peer will send nothing more, once all that it asked for is answered
    /// and sent.
    pub(crate) fn after_end_of_stream(&mut self, id: ConnId) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        if !conn.eof || conn.is_blocked() {
            return;
        }
        let cause = match conn.intake {
            Intake::Discard => conn.cause,
            _ if conn.at_boundary() => CloseCause::Peer,
            _ => CloseCause::Truncated,
        };
        if cause == CloseCause::Truncated || conn.settled() {
            self.close(id, cause);
        }
    }

    /// Marks the connection as having something to send.
    pub(crate) fn mark_dirty(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        if conn.write_since == 0 {
            conn.write_since = now;
        }
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push_back(id);
        }
    }

    fn sent<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId, bytes: u32) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.sending = false;
        if conn.phase != Phase::Open {
            return;
        }
        conn.active_at = cx.now;
        self.stats.bytes_out.add(u64::from(bytes));
        if let Some(tracer) = self.tracer.as_deref_mut() {
            let taken = u64::from(bytes).min(conn.outbox.bytes);
            tracer.sent(cx.now, &mut conn.trace, taken);
        }
        let slots = &mut self.slots;
        let advanced = |slot| slots.drop_sent(slot);
        self.egress.advance(&mut conn.outbox, u64::from(bytes), advanced);
        self.freed = true;
        self.own_credit(id);
        let Some(conn) = self.conns.open_mut(id) else { return };
        if !conn.outbox.is_empty() {
            conn.write_since = cx.now;
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push_back(id);
            }
            return;
        }
        conn.write_since = 0;
        if conn.parting {
            let cause = conn.cause;
            self.close(id, cause);
            return;
        }
        if conn.finishing && conn.settled() && !conn.eof {
            conn.finished_at = cx.now;
            self.orders.push_back((id, Order::Finish));
        }
        self.after_end_of_stream(id);
    }

    /// Orders the end of a connection. Its memory stays untouched until the driver says that it is
    /// closed.
    pub(crate) fn close(&mut self, id: ConnId, cause: CloseCause) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        conn.phase = Phase::Closing;
        self.slots.fair.leave(id);
        self.stats.close(cause);
        self.orders.push_back((id, Order::Close));
    }

    fn closed<M: Memory>(&mut self, cx: &Cx<'_, M>, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.phase == Phase::Free {
            return;
        }
        let slots = &mut self.slots;
        let mut unclaimed = None;
        self.egress.clear(&mut conn.outbox, |slot| slots.drop_sent(slot));
        match core::mem::replace(&mut conn.intake, Intake::Header) {
            Intake::Body { slot, spare, .. } => {
                slots.drop_received(slot);
                if let Some(spare) = spare {
                    slots.drop_received(spare);
                }
            }
            Intake::Promote { slot, terms, .. } => {
                let id = slot.id();
                slots.drop_received(slot);
                unclaimed = Some((id, terms));
            }
            _ => {}
        }
        if let Some(tracer) = self.tracer.as_deref_mut() {
            tracer.gone(&mut conn.trace);
        }
        let (mesh, life) = (conn.mesh, conn.life);
        if let Some((slot, terms)) = unclaimed {
            let key = self.key(id, &terms);
            self.forget(key, slot);
        }
        self.unseat(id);
        self.conns.end(id);
        self.take_back(cx, id);
        if let Some(port) = self.mesh.as_mut().filter(|_| mesh).map(|mesh| &mut mesh.port) {
            port.tell(Up::Gone { conn: id, life });
        }
        self.stats.open.set(u64::from(self.conns.open()));
        self.freed = true;
    }

    fn retry_deferred<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        for _ in 0..self.deferred.len() {
            let Some(d) = self.deferred.pop_front() else { break };
            let same_life = self.conns.open_mut(d.conn).is_some_and(|c| c.life == d.life);
            if same_life
                && !self.report(cx, d.conn, d.message_id, Kind::QueryRequest, d.code, d.actual)
            {
                self.deferred.push_front(d);
                break;
            }
            if same_life {
                self.credit_back(d.conn, d.life);
            }
        }
    }

    fn stream_stopped(&mut self, id: ConnId) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        if conn.lane != Lane::Stopping {
            return;
        }
        if conn.is_blocked() || conn.paused {
            // Back to the stream, which goes on with what the driver kept as soon as there is room.
            conn.lane = Lane::Stream;
            conn.paused = conn.is_blocked();
            if !conn.paused {
                self.orders.push_back((id, Order::StartStream));
            }
            return;
        }
        match &conn.intake {
            Intake::Body { slot, at, .. } => {
                let slot = slot.id();
                let (from, total) = (*at, header_payload_len(&conn.head));
                conn.lane = Lane::Direct;
                self.stats.to_bulk.add(1);
                let len = total - from;
                self.orders.push_back((id, Order::FillSlot { slot, from, len }));
            }
            Intake::Header => {
                conn.lane = Lane::Direct;
                self.stats.to_bulk.add(1);
                let len = (wire::HEADER_LEN - conn.head_len as usize) as u32;
                self.orders.push_back((id, Order::FillHeader { len }));
            }
            // What comes is ignored, and a stream will do for that.
            _ => {
                conn.lane = Lane::Stream;
                self.orders.push_back((id, Order::StartStream));
            }
        }
    }
}

/// The payload length a stored header states.
pub(crate) fn header_payload_len(head: &[u8; wire::HEADER_LEN]) -> u32 {
    wire::Header::peek(head).map_or(0, wire::Header::payload_len)
}
