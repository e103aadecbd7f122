//! From completions, finished slots and commands to events, in fair turns.

use crate::{
    UringDriver,
    buffers::Piece,
    commands::Command,
    driver::DOOR_COMMANDS,
    op::{Op, Tag},
    receive::Offer,
    ring::Completion,
};
use dataplane_core::{
    driver::{Caller, ConnId, Event, WorkerId},
    memory::SlotId,
    probe::Probe,
};

/// Finished slots told in a row before the kernel's completions get their turn.
pub(crate) const FINISHED_PER_TURN: u32 = 128;

/// An event without its borrowed bytes; connections by table index.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    Accepted(u32),
    /// Bytes of a stream.
    Stream(u32, Piece),
    /// Bytes of a stream under TLS.
    Plain(u32),
    /// A header of this length.
    Header(u32, u32),
    Stopped(u32),
    Filled(u32),
    Eof(u32),
    Sent(u32, u32),
    Failed(u32),
    Closed(u32),
    Completed(WorkerId, SlotId),
    WorkerUp(WorkerId, u32),
    WorkerDown(WorkerId),
    WorkerHealth(WorkerId, bool),
    Probe(Probe),
    Drain,
    Leave,
}

impl UringDriver {
    /// The next event in the driver's own terms.
    pub(crate) fn advance(&mut self) -> Option<Told> {
        self.settle(0);
        if let Some(gone) = self.gone.take() {
            gone.settle();
        }
        let mut looked_again = false;
        loop {
            if let Some(told) = self.advance_workers() {
                return Some(told);
            }
            if let Some(index) = self.ready.pop_front() {
                if let Some(conn) = self.table.get_mut(index) {
                    conn.queued = false;
                }
                if let Some(told) = self.due(index) {
                    return Some(told);
                }
            } else if let Some(done) = self.ring.take() {
                if let Some(told) = self.complete(done) {
                    return Some(told);
                }
            } else if looked_again {
                return None;
            } else {
                // The kernel's share is done; what workers finished meanwhile may come too.
                looked_again = true;
                self.finished_left = FINISHED_PER_TURN;
            }
        }
    }

    fn advance_workers(&mut self) -> Option<Told> {
        if self.summoned
            && let Some(told) = self.advance_commands()
        {
            return Some(told);
        }
        if self.finished_left == 0 {
            return None;
        }
        let Some((worker, slot)) = self.workers.poll() else {
            self.finished_left = 0;
            return None;
        };
        self.finished_left -= 1;
        Some(Told::Completed(worker, slot))
    }

    #[cold]
    fn advance_commands(&mut self) -> Option<Told> {
        if let Some(gone) = self.going.take() {
            let worker = gone.worker();
            if let Some(slot) = self.workers.poll_one(worker) {
                self.going = Some(gone);
                return Some(Told::Completed(worker, slot));
            }
            // SAFETY: `Gone` exists only where the OS has reported the exit of this worker's
            // process.
            unsafe { self.workers.reset(worker) };
            self.gone = Some(gone);
            return Some(Told::WorkerDown(worker));
        }
        let Some(command) = self.commands.next() else {
            self.summoned = false;
            return None;
        };
        match command {
            Command::WorkerUp { worker, operations } => {
                self.workers.up(worker);
                Some(Told::WorkerUp(worker, operations))
            }
            Command::WorkerDown(gone) => {
                self.going = Some(gone);
                self.advance_commands()
            }
            Command::WorkerHealth { worker, healthy } => Some(Told::WorkerHealth(worker, healthy)),
            Command::Probe(probe, answers) => {
                *self.probes.get_mut(usize::from(probe.worker.0))? = Some(answers);
                Some(Told::Probe(probe))
            }
            Command::Listen(fd) => {
                if self.listen(fd).is_err() {
                    self.ring.counters.accept_faults += 1;
                }
                None
            }
            Command::ListenTls(fd, gate) => {
                if self.listen_tls(fd, gate).is_err() {
                    self.ring.counters.accept_faults += 1;
                }
                None
            }
            Command::Adopt(fd, who) => {
                let Ok(ConnId(index)) = self.adopt(fd) else {
                    self.ring.counters.refused += 1;
                    return None;
                };
                self.table.get_mut(index)?.who = who;
                Some(Told::Accepted(index))
            }
            Command::Answer(to) => {
                // Whoever asked may have gone.
                let _ = to.try_send(());
                self.advance_commands()
            }
            Command::Leave => {
                self.unlisten();
                Some(Told::Leave)
            }
            Command::Drain => {
                self.unlisten();
                Some(Told::Drain)
            }
        }
    }

    /// One completion of the kernel.
    #[inline]
    fn complete(&mut self, done: Completion) -> Option<Told> {
        let Some(tag) = Tag::unpack(done.user_data) else {
            self.ring.counters.stale += 1;
            return None;
        };
        match tag.op {
            Op::Stream => return self.on_stream(done, tag),
            Op::Send => return self.on_send(done, tag),
            Op::Fill => return self.on_fill(done, tag),
            Op::Accept => return self.on_accept(done, tag),
            Op::Close => return self.on_close(tag),
            Op::Door => {
                self.summoned |= tag.index == DOOR_COMMANDS;
                if !done.more() {
                    self.watch(tag.index);
                }
            }
            Op::Stop => self.on_stop(tag),
            Op::AbortReading | Op::AbortSend => self.on_abort(tag),
            Op::Unlisten => self.on_unlisten(tag),
            Op::Shutdown => {}
        }
        None
    }

    /// Gives an event its borrowed bytes.
    #[inline]
    pub(crate) fn present(&mut self, told: Told) -> Event<'_> {
        match told {
            Told::Accepted(conn) => {
                let who = self.table.get(conn).map_or(Caller::LOCAL, |entry| entry.who);
                Event::Accepted { conn: ConnId(conn), who }
            }
            Told::Stream(index, piece) => {
                let generation = self.table.get(index).map_or(0, |conn| conn.generation);
                self.offer = Some(Offer { index, generation, piece: Some(piece) });
                Event::Bytes { conn: ConnId(index), bytes: self.pool.bytes(piece) }
            }
            Told::Plain(index) => {
                let generation = self.table.get(index).map_or(0, |conn| conn.generation);
                self.offer = Some(Offer { index, generation, piece: None });
                Event::Bytes { conn: ConnId(index), bytes: self.plain_bytes(index) }
            }
            Told::Header(index, len) => {
                Event::Bytes { conn: ConnId(index), bytes: self.header(index, len) }
            }
            Told::Stopped(conn) => Event::StreamStopped { conn: ConnId(conn) },
            Told::Filled(conn) => Event::Filled { conn: ConnId(conn) },
            Told::Eof(conn) => Event::Eof { conn: ConnId(conn) },
            Told::Sent(conn, bytes) => Event::Sent { conn: ConnId(conn), bytes },
            Told::Failed(conn) => Event::Failed { conn: ConnId(conn) },
            Told::Closed(conn) => Event::Closed { conn: ConnId(conn) },
            Told::Completed(worker, slot) => Event::Completed { worker, slot },
            Told::WorkerUp(worker, operations) => Event::WorkerUp { worker, operations },
            Told::WorkerDown(worker) => Event::WorkerDown { worker },
            Told::WorkerHealth(worker, healthy) => Event::WorkerHealth { worker, healthy },
            Told::Probe(probe) => Event::Probe(probe),
            Told::Drain => Event::Drain,
            Told::Leave => Event::Leave,
        }
    }
}
