//! The driver of a real shard: io_uring for sockets, shared rings for worker processes.
//!
//! ```text
//!                 +-------------------------- UringDriver --------------------------+
//!   sockets <---> | ring: net (accept, close)  receive (stream, fills)  send        |
//!   workers <---> | workers: a lane each                                            | <--> Shard
//!   control ----> | commands: a bounded queue                                       |
//!   time    <---> | policy: poll or sleep                                           |
//!                 +-----------------------------------------------------------------+
//! ```
//!
//! One thread builds a driver and uses it; the kernel insists on that. Connections live in the ring's own table of
//! direct descriptors and take no file descriptor of the process; a [`ConnId`] is an index into that table.
//!
//! [`probe`] says beforehand what the machine lacks, and what to do about it.

mod buffers;
mod commands;
mod config;
mod counters;
mod fault;
mod memory;
mod net;
mod op;
mod pages;
mod policy;
pub mod probe;
mod receive;
mod ring;
mod send;
mod shared;
mod sockets;
mod table;
mod told;
mod workers;

pub use commands::{Command, Commander, Commands, Gone};
pub use config::Config;
pub use counters::DriverCounters;
pub use fault::{SetupError, Step};
pub use memory::{Places, PlainMemory};
pub use policy::Policy;
pub use shared::SharedMemory;
pub use sockets::{listen_tcp, listen_unix};
pub use workers::Workers;

use buffers::{GROUP, Pool};
use dataplane_core::{
    driver::{ConnId, Driver, Event, Segment, Time, WorkerId},
    memory::SlotId,
};
use io_uring::{opcode, types};
use net::Listeners;
use op::{Op, Tag};
use pages::Pages;
use policy::Rest;
use receive::{HEADER_ROOM, Offer};
use ring::{Completion, Ring, RingSizes, Wait};
use rustix::time::{ClockId, clock_gettime};
use send::Arena;
use std::{collections::VecDeque, io, os::fd::AsRawFd};
use table::Table;
use told::Told;

/// Finished slots told in a row before the kernel's completions get their turn.
const FINISHED_PER_TURN: u32 = 128;

const DOOR_COMMANDS: u32 = 0;
const DOOR_WORKERS: u32 = 1;

/// Feeds a shard from io_uring and acts for it. See [`Driver`] for what may be asked of it when.
///
/// Fields drop in this order: the ring first, which ends all operations; only then what the kernel wrote to.
#[derive(Debug)]
pub struct UringDriver {
    ring: Ring,
    pool: Pool,
    headers: Pages,
    arena: Arena,
    places: Places,
    table: Table,
    listeners: Listeners,
    /// Connections that have something due which no completion will announce.
    ready: VecDeque<u32>,
    /// Connections to become ready with the next turn.
    later: Vec<u32>,
    /// Connections whose stream found no buffer.
    starving: VecDeque<u32>,
    offer: Option<Offer>,
    workers: Workers,
    worker_door: Option<std::sync::Arc<link::door::Door>>,
    finished_left: u32,
    commands: Commands,
    /// The commands' doorbell rang.
    summoned: bool,
    /// A worker that is gone: its finished slots are being told.
    going: Option<Gone>,
    /// The shard was told of it; answered when the shard asks for more.
    gone: Option<Gone>,
    policy: Policy,
    yields: bool,
    early_ns: u64,
    last_event: Time,
}

impl UringDriver {
    /// Sets a driver up for the calling thread, the only one that may use it. It listens to nothing yet.
    ///
    /// # Errors
    /// [`SetupError`], with the step and the remedy.
    pub fn new(
        config: &Config,
        places: Places,
        workers: Workers,
        commands: Commands,
    ) -> Result<Self, SetupError> {
        let ring = Ring::new(RingSizes {
            submissions: config.submissions,
            completions: config.completions,
        })?;
        let table = reserve_table(&ring, config)?;
        let pool = offer_buffers(&ring, config)?;
        let short = |source| SetupError::new(Step::Buffers, probe::REMEDY_MEMORY, source);
        let connections = table.len() as usize;
        let mut driver = Self {
            arena: Arena::new(&ring)?,
            ring,
            pool,
            headers: Pages::new(connections * HEADER_ROOM as usize).map_err(short)?,
            places,
            table,
            listeners: Listeners::default(),
            ready: VecDeque::with_capacity(connections),
            later: Vec::with_capacity(connections),
            starving: VecDeque::with_capacity(connections),
            offer: None,
            worker_door: workers.door(),
            workers,
            finished_left: FINISHED_PER_TURN,
            commands,
            summoned: true,
            going: None,
            gone: None,
            policy: config.policy,
            yields: config.yields,
            early_ns: config.early_ns,
            last_event: 0,
        };
        driver.watch(DOOR_COMMANDS);
        driver.watch(DOOR_WORKERS);
        Ok(driver)
    }

    /// What the driver did so far.
    #[must_use]
    pub const fn counters(&self) -> &DriverCounters {
        &self.ring.counters
    }

    /// Connections this driver can hold: accepted ones (as many as RLIMIT_NOFILE left) and adopted ones.
    #[must_use]
    pub fn capacity(&self) -> (u32, u32) {
        (self.table.accepted, self.table.len() - self.table.accepted)
    }

    /// Receive buffers that the kernel may use now.
    #[must_use]
    pub fn free_buffers(&self) -> u32 {
        self.pool.free()
    }

    /// Has the ring watch a doorbell: every ring of it is a completion, and nobody ever reads it.
    fn watch(&mut self, door: u32) {
        let fd = match (door, &self.worker_door) {
            (DOOR_COMMANDS, _) => self.commands.door().as_raw_fd(),
            (_, Some(door)) => door.fd().as_raw_fd(),
            (_, None) => return,
        };
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(Tag::new(Op::Door, 0, door).pack());
        // SAFETY: the entry names no memory.
        unsafe { self.ring.push(&entry) };
    }

    /// The next event in the driver's own terms.
    fn advance(&mut self) -> Option<Told> {
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
            // SAFETY: `Gone` exists only where the OS has reported the exit of this worker's process.
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
            Command::Listen(fd) => {
                if self.listen(fd).is_err() {
                    self.ring.counters.accept_faults += 1;
                }
                None
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
            Op::Abort => self.on_abort(tag),
            Op::Unlisten => self.on_unlisten(tag),
            Op::Shutdown => {}
        }
        None
    }

    /// Gives an event its borrowed bytes.
    #[inline]
    fn present(&mut self, told: Told) -> Event<'_> {
        match told {
            Told::Accepted(conn) => Event::Accepted { conn: ConnId(conn) },
            Told::Stream(index, piece) => {
                let generation = self.table.get(index).map_or(0, |conn| conn.generation);
                self.offer = Some(Offer { index, generation, piece });
                Event::Bytes { conn: ConnId(index), bytes: self.pool.bytes(piece) }
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
            Told::Drain => Event::Drain,
        }
    }

    fn enter(&mut self, wait: Wait) {
        self.ring.enter(wait);
        self.arena.reuse(&mut self.ring);
    }

    /// The end of an idle turn, nothing being under way to the kernel.
    fn rest(&mut self, until: Option<Time>) {
        let now = self.now();
        match self.policy.rest(now, self.last_event, until, self.early_ns) {
            Rest::Poll => {
                if self.yields {
                    self.ring.counters.yields += 1;
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
            Rest::Sleep(limit) => {
                if self.workers.park() {
                    self.enter(limit.map_or(Wait::Forever, Wait::For));
                    self.workers.unpark();
                } else {
                    self.ring.counters.parks_avoided += 1;
                }
            }
        }
    }
}

impl Drop for UringDriver {
    /// Ends what is under way before the memory goes that the kernel works on; closing the ring would end it as well,
    /// but at a time of the kernel's choice.
    fn drop(&mut self) {
        let limit = types::Timespec::new().sec(1);
        let all = types::CancelBuilder::any();
        let _ = self.ring.inner().submitter().register_sync_cancel(Some(limit), all);
    }
}

impl Driver for UringDriver {
    #[inline]
    fn now(&mut self) -> Time {
        nanoseconds(ClockId::Monotonic)
    }

    #[inline]
    fn epoch_ns(&mut self) -> u64 {
        nanoseconds(ClockId::Realtime)
    }

    #[inline]
    fn next_event(&mut self) -> Option<Event<'_>> {
        let told = self.advance()?;
        Some(self.present(told))
    }

    #[inline]
    fn consumed(&mut self, bytes: usize) {
        self.settle(bytes);
    }

    fn start_stream(&mut self, conn: ConnId) {
        self.start(conn.0);
    }

    fn stop_stream(&mut self, conn: ConnId) {
        self.stop(conn.0);
    }

    fn fill_header(&mut self, conn: ConnId, len: u32) {
        self.order_header(conn.0, len);
    }

    fn fill_slot(&mut self, conn: ConnId, slot: SlotId, from: u32, len: u32) {
        self.order_slot(conn.0, slot, from, len);
    }

    fn transmit(&mut self, conn: ConnId, segments: &[Segment]) {
        self.send(conn.0, segments);
    }

    fn finish(&mut self, conn: ConnId) {
        self.half_close(conn.0);
    }

    fn close(&mut self, conn: ConnId) {
        self.close_conn(conn.0);
    }

    fn lend(&mut self, worker: WorkerId, batch: &[SlotId]) {
        self.ring.counters.doorbells += u64::from(self.workers.lend(worker, batch));
    }

    fn flush(&mut self, idle: bool, until: Option<Time>) {
        self.settle(0);
        self.accept_more();
        if !self.starving.is_empty() {
            self.feed();
        }
        self.ready.extend(self.later.drain(..));
        self.finished_left = FINISHED_PER_TURN;
        if !idle {
            self.last_event = self.now();
        }
        let waiting = !self.ready.is_empty() || self.summoned || self.ring.visible();
        // One entry per turn carries all orders of the turn and brings what is due; where there is neither, none.
        if self.ring.due() {
            self.enter(Wait::No);
        } else if idle && !waiting {
            self.rest(until);
        }
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// Reserves the table of direct descriptors, the part for accepted connections cut down to the process's limit.
fn reserve_table(ring: &Ring, config: &Config) -> Result<Table, SetupError> {
    let limit = probe::descriptor_limit();
    let accepted = config.accepted.min(limit.saturating_sub(config.adopted));
    let wanted = accepted.saturating_add(config.adopted);
    let fail = |source: io::Error| {
        SetupError::new(Step::Table, probe::remedy_of_table(wanted, limit), source)
    };
    if wanted == 0 || wanted > limit {
        return Err(fail(io::ErrorKind::InvalidInput.into()));
    }
    ring.inner().submitter().register_files_sparse(wanted).map_err(fail)?;
    let table = Table::new(accepted, config.adopted);
    net::fence_off(ring.raw_fd(), accepted).map_err(fail)?;
    Ok(table)
}

/// Maps the receive buffers and offers them to the kernel.
fn offer_buffers(ring: &Ring, config: &Config) -> Result<Pool, SetupError> {
    let fail = |source| SetupError::new(Step::Buffers, probe::REMEDY_MEMORY, source);
    let pool = Pool::new(config.buffers, config.buffer_len).map_err(fail)?;
    let (address, entries) = pool.registration();
    // SAFETY: the ring of buffers and the buffers themselves are mappings of `pool`, which the driver drops after the
    // ring; while offered, only the kernel touches them.
    unsafe { ring.inner().submitter().register_buf_ring_with_flags(address, entries, GROUP, 0) }
        .map_err(fail)?;
    Ok(pool)
}
