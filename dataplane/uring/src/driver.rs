//! The driver: what it is made of, how it is set up, and the face it shows the shard.

use crate::{
    bell::{Bell, MeshLane},
    buffers::{GROUP, Pool},
    commands::{Commands, Gone},
    config::Config,
    counters::DriverCounters,
    events::FINISHED_PER_TURN,
    fault::{SetupError, Step},
    listeners::Listeners,
    memory::Places,
    net,
    op::{Op, Tag},
    pages::Pages,
    policy::{Rest, Resting},
    probe,
    receive::{HEADER_ROOM, Offer},
    ring::{Ring, RingSizes, Wait},
    secure::Tls,
    send::Arena,
    table::Table,
    workers::Workers,
};
use crossbeam_channel::Sender;
use dataplane_core::{
    driver::{ConnId, Driver, Event, Segment, Time, WorkerId},
    memory::SlotId,
    probe::Probed,
};
use io_uring::{opcode, types};
use link::door::Door;
use rustix::time::{ClockId, clock_gettime};
use std::{collections::VecDeque, io, os::fd::AsRawFd, sync::Arc};

/// The doorbells that the ring watches.
pub(crate) const DOOR_COMMANDS: u32 = 0;
const DOOR_WORKERS: u32 = 1;
const DOOR_MESH: u32 = 2;

/// Feeds a shard from io_uring and acts for it. See [`Driver`] for what may be asked of it when.
///
/// Fields drop in this order: the ring first, which ends all operations; only then what the kernel
/// wrote to.
#[derive(Debug)]
pub struct UringDriver {
    pub(crate) ring: Ring,
    pub(crate) pool: Pool,
    pub(crate) headers: Pages,
    pub(crate) arena: Arena,
    pub(crate) places: Places,
    pub(crate) table: Table,
    pub(crate) listeners: Listeners,
    pub(crate) tls: Tls,
    /// Connections that have something due which no completion will announce.
    pub(crate) ready: VecDeque<u32>,
    /// Connections whose stream found no buffer.
    pub(crate) starving: VecDeque<u32>,
    pub(crate) offer: Option<Offer>,
    pub(crate) workers: Workers,
    pub(crate) worker_door: Option<Arc<Door>>,
    pub(crate) mesh: Option<MeshLane>,
    pub(crate) finished_left: u32,
    pub(crate) commands: Commands,
    /// The commands' doorbell rang.
    pub(crate) summoned: bool,
    /// A worker that is gone: its finished slots are being told.
    pub(crate) going: Option<Gone>,
    /// The shard was told of it; answered when the shard asks for more.
    pub(crate) gone: Option<Gone>,
    /// By worker: who hears what came of its probes.
    pub(crate) probes: Box<[Option<Sender<Probed>>]>,
    pub(crate) resting: Resting,
    /// The time when it was last asked for.
    pub(crate) looked: Time,
    pub(crate) yields: bool,
    pub(crate) early_ns: u64,
}

impl UringDriver {
    /// Sets a driver up for the calling thread, the only one that may use it. It listens to nothing
    /// yet.
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
        let probes = (0..workers.count()).map(|_| None).collect();
        let mut driver = Self {
            arena: Arena::new(&ring)?,
            ring,
            pool,
            headers: Pages::new(connections * HEADER_ROOM as usize).map_err(short)?,
            places,
            table,
            listeners: Listeners::default(),
            tls: Tls::new(config.tls, connections as u32).map_err(short)?,
            ready: VecDeque::with_capacity(connections),
            starving: VecDeque::with_capacity(connections),
            offer: None,
            worker_door: workers.door(),
            workers,
            mesh: None,
            finished_left: FINISHED_PER_TURN,
            commands,
            summoned: true,
            going: None,
            gone: None,
            probes,
            resting: Resting::new(config.policy),
            looked: 0,
            yields: config.yields,
            early_ns: config.early_ns,
        };
        driver.watch(DOOR_COMMANDS);
        driver.watch(DOOR_WORKERS);
        Ok(driver)
    }

    /// Lets the mesh wake this driver's thread by `own`, and this thread the mesh by `mesh`. The
    /// rings between them are the shard's.
    pub fn join_mesh(&mut self, own: Arc<Bell>, mesh: Arc<Bell>) {
        // What was pushed before is not known to have been seen.
        self.mesh = Some(MeshLane { own, mesh, seen: 0 });
        self.watch(DOOR_MESH);
    }

    /// What the driver did so far.
    #[must_use]
    pub const fn counters(&self) -> &DriverCounters {
        &self.ring.counters
    }

    /// Connections this driver can hold: accepted ones (as many as RLIMIT_NOFILE left) and adopted
    /// ones.
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
    pub(crate) fn watch(&mut self, door: u32) {
        let fd = match (door, &self.worker_door, &self.mesh) {
            (DOOR_COMMANDS, ..) => self.commands.door().as_raw_fd(),
            (DOOR_WORKERS, Some(door), _) => door.fd().as_raw_fd(),
            (DOOR_MESH, _, Some(mesh)) => mesh.own.door().fd().as_raw_fd(),
            _ => return,
        };
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(Tag::new(Op::Door, 0, door).pack());
        // SAFETY: the entry names no memory.
        unsafe { self.ring.push(&entry) };
    }

    fn enter(&mut self, wait: Wait) {
        self.ring.enter(wait);
        self.arena.reuse(&mut self.ring);
    }

    /// The end of an idle turn, nothing being under way to the kernel.
    fn rest(&mut self, until: Option<Time>) {
        let now = self.now();
        match self.resting.next(now, self.workers.busy(), until, self.early_ns) {
            Rest::Poll => {
                // Who gives the core away now may get it back milliseconds too late.
                let is_near = until.is_some_and(|until| until <= now.saturating_add(self.early_ns));
                if self.yields && !is_near {
                    self.ring.counters.yields += 1;
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
            Rest::Sleep(limit) => {
                if self.park() {
                    self.enter(limit.map_or(Wait::Forever, Wait::For));
                    self.workers.unpark();
                    if let Some(mesh) = &self.mesh {
                        mesh.own.unpark();
                    }
                } else {
                    self.ring.counters.parks_avoided += 1;
                }
            }
        }
    }

    /// Announces sleep to all who may ring; false where one of them has something already.
    fn park(&self) -> bool {
        if self.mesh.as_ref().is_some_and(|mesh| !mesh.own.park(mesh.seen)) {
            return false;
        }
        let parked = self.workers.park();
        if let Some(mesh) = self.mesh.as_ref().filter(|_| !parked) {
            mesh.own.unpark();
        }
        parked
    }
}

impl Drop for UringDriver {
    /// Ends what is under way before the memory goes that the kernel works on; closing the ring
    /// would end it as well, but at a time of the kernel's choice.
    fn drop(&mut self) {
        let limit = types::Timespec::new().sec(1);
        let all = types::CancelBuilder::any();
        let _ = self.ring.inner().submitter().register_sync_cancel(Some(limit), all);
    }
}

impl Driver for UringDriver {
    #[inline]
    fn now(&mut self) -> Time {
        self.looked = nanoseconds(ClockId::Monotonic);
        self.looked
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

    fn probed(&mut self, probed: Probed) {
        let worker = usize::from(probed.probe.worker.0);
        if let Some(Some(answers)) = self.probes.get(worker) {
            // Who does not listen any more needs no answer.
            let _ = answers.try_send(probed);
        }
    }

    fn wake_mesh(&mut self) {
        if let Some(mesh) = &self.mesh {
            self.ring.counters.doorbells += u64::from(mesh.mesh.ring());
        }
    }

    fn flush(&mut self, idle: bool, until: Option<Time>) {
        self.settle(0);
        self.accept_more();
        self.feed_outputs();
        let until = self.expire_handshakes(until);
        if !self.starving.is_empty() {
            self.feed();
        }
        self.finished_left = FINISHED_PER_TURN;
        if !idle {
            self.resting.end(self.looked);
        }
        let waiting = !self.ready.is_empty() || self.summoned || self.ring.visible();
        // One entry per turn carries all orders of the turn and brings what is due; where there is
        // neither, none.
        if self.ring.due() {
            self.enter(Wait::No);
        } else if idle && !waiting {
            self.rest(until);
        }
        if let Some(mesh) = &mut self.mesh {
            mesh.seen = mesh.own.pushed();
        }
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// Reserves the table of direct descriptors, the part for accepted connections cut down to the
/// process's limit.
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
    // SAFETY: the ring of buffers and the buffers themselves are mappings of `pool`, which the
    // driver drops after the ring; while offered, only the kernel touches them.
    unsafe { ring.inner().submitter().register_buf_ring_with_flags(address, entries, GROUP, 0) }
        .map_err(fail)?;
    Ok(pool)
}
