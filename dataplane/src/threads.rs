//! A pinned thread per shard: builds its memory and its driver there, then turns until told to
//! stop.

use crate::{
    host,
    mesh::link::Berth,
    plan::Plan,
    quic, say,
    settings::Poll,
    shards::{QUEUE, Shards},
};
use dataplane_core::{
    Identities, Limits, NodeStats, Recall, Shard, Stats, connection_table,
    recall::Bounds,
    stats::{Source, Visit},
    trace::Rings,
};
use dataplane_uring::{
    Commands, Config, DriverCounters, Policy, SharedMemory, TlsSizes, UringDriver,
};
use link::{Segment, ShardSide, door::Door};
use rustix::{
    process::Resource,
    thread::{CpuSet, sched_setaffinity},
};
use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
};
use tokio::sync::mpsc::UnboundedSender;
use wire::Operation;

/// Busy turns between two looks at the driver's counters; idle turns always look.
const TURNS_PER_LOOK: u32 = 64;

/// A driver's counters, copied out for readers on other threads.
#[derive(Debug, Default)]
pub(crate) struct DriverStats([AtomicU64; NAMES.len()]);

/// What is shown of a driver, in the order of [`DriverStats::publish`].
const NAMES: [&str; 26] = [
    "butterfly_driver_syscalls_total",
    "butterfly_driver_enters_total",
    "butterfly_driver_sleeps_total",
    "butterfly_driver_yields_total",
    "butterfly_driver_submissions_total",
    "butterfly_driver_completions_total",
    "butterfly_driver_doorbells_total",
    "butterfly_driver_receives_total",
    "butterfly_driver_fills_total",
    "butterfly_driver_filled_bytes_total",
    "butterfly_driver_sends_total",
    "butterfly_driver_short_sends_total",
    "butterfly_driver_no_buffers_total",
    "butterfly_driver_turned_away_total",
    "butterfly_driver_accept_faults_total",
    "butterfly_tls_handshakes_total",
    "butterfly_tls_handshakes_failed_total",
    "butterfly_tls_handshakes_slow_total",
    "butterfly_tls_handshakes_in_line_total",
    "butterfly_tls_identities_refused_total",
    "butterfly_tls_records_total",
    "butterfly_tls_gathered_bytes_total",
    "butterfly_tls_poured_bytes_total",
    "butterfly_tls_faults_total",
    "butterfly_tls_cut_off_total",
    "butterfly_tls_output_waits_total",
];

impl DriverStats {
    fn publish(&self, from: &DriverCounters) {
        let values = [
            from.syscalls(),
            from.enters,
            from.waits,
            from.yields,
            from.submitted,
            from.completions,
            from.doorbells,
            from.receives,
            from.fills,
            from.filled_bytes,
            from.sends,
            from.short_sends,
            from.no_buffers,
            from.refused,
            from.accept_faults,
            from.handshakes,
            from.handshakes_failed,
            from.handshakes_slow,
            from.handshakes_in_line,
            from.identities_refused,
            from.tls_opened,
            from.tls_gathered_bytes,
            from.tls_poured_bytes,
            from.tls_faults,
            from.tls_cut_off,
            from.tls_output_waits,
        ];
        for (cell, value) in self.0.iter().zip(values) {
            cell.store(value, Relaxed);
        }
    }
}

impl Source for DriverStats {
    fn visit(&self, visit: Visit<'_>) {
        for (name, cell) in NAMES.into_iter().zip(&self.0) {
            visit(name, "", "", cell.load(Relaxed));
        }
    }
}

/// All shard threads of a node.
#[derive(Debug)]
pub(crate) struct Threads {
    /// How to command them.
    pub(crate) shards: Shards,
    /// The drivers' counters.
    pub(crate) drivers: Vec<Arc<DriverStats>>,
    /// What they remember of requests.
    pub(crate) recall: Arc<Recall>,
    /// What they remember of their lives, where they do.
    pub(crate) rings: Option<Arc<Rings>>,
    stop: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

/// What one shard's thread starts with.
struct Seed {
    index: u16,
    plan: Plan,
    segment: Arc<Segment>,
    door: Arc<Door>,
    worker_doors: Vec<Arc<Door>>,
    commands: Commands,
    berth: Option<Berth>,
    stats: Arc<Stats>,
    node: Arc<NodeStats>,
    recall: Arc<Recall>,
    rings: Option<Arc<Rings>>,
    identities: Arc<Identities>,
    driver_stats: Arc<DriverStats>,
    stop: Arc<AtomicBool>,
    finished: UnboundedSender<u16>,
}

/// The operations that this node's workers serve, bit = operation code.
fn operations(plan: &Plan) -> u32 {
    let lm_head = plan.lm_head.as_ref().map(|_| Operation::LmHead);
    let fetch = plan.basis.as_ref().map(|_| Operation::Fetch);
    [Operation::Echo, Operation::TopK, Operation::Int8, Operation::Hidden]
        .into_iter()
        .chain(lm_head)
        .chain(fetch)
        .fold(0, |bits, operation| bits | 1 << operation.code())
}

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A shard's bounds.
fn limits(plan: &Plan) -> Limits {
    let limits = &plan.limits;
    Limits {
        connections: limits.connections.saturating_add(quic::streams(plan)),
        requests_per_connection: limits.in_flight,
        batch_max: limits.batch_size as usize,
        batch_wait: nanoseconds(limits.batch_wait),
        queue_target: nanoseconds(limits.queue_target),
        frame_timeout: nanoseconds(limits.peer_timeout),
        write_timeout: nanoseconds(limits.peer_timeout),
        hold_timeout: nanoseconds(limits.worker_patience),
        operations: operations(plan),
        ..Limits::default()
    }
}

/// Connections that come by a command: streams of QUIC, which leave half of what the OS allows to
/// others.
fn adopted(plan: &Plan) -> u32 {
    let (files, _) = host::limit(Resource::Nofile);
    let half = files.map_or(u32::MAX, |files| u32::try_from(files / 2).unwrap_or(u32::MAX));
    quic::streams(plan).min(half)
}

/// A driver's sizes and habits.
pub(crate) fn config(plan: &Plan) -> Config {
    let busy = plan.shard_cpus.len() + plan.workers as usize;
    let cores = host::cpus().len();
    Config {
        accepted: connection_table(plan.limits.connections),
        adopted: adopted(plan),
        buffers: u16::try_from(plan.limits.recv_buffers).unwrap_or(u16::MAX),
        buffer_len: plan.limits.recv_buffer,
        tls: plan.security.tls.as_ref().map(|_| TlsSizes::default()),
        policy: match plan.poll {
            Poll::Latency => Policy::Latency,
            Poll::Balanced => Policy::default(),
            Poll::Frugal => Policy::Frugal,
        },
        // Where threads of this node outnumber the cores, one waits while the shard polls. Where
        // they fill them, a peer on this host does; only `latency` does not care.
        yields: busy > cores || (busy == cores && plan.poll != Poll::Latency),
        ..Config::default()
    }
}

/// A shard that panics must not leave a node that looks alive: the supervisor above restarts a dead
/// one.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Runs this thread on one CPU only.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        say::note(format!("cannot pin to CPU {cpu}: {error}; the shard runs unpinned"));
    }
}

/// Leaves the shards' cores to the shards: this thread and the workers that it starts run
/// elsewhere, where there is an elsewhere.
pub(crate) fn make_room(plan: &Plan) {
    let others: Vec<usize> =
        host::cpus().into_iter().filter(|cpu| !plan.shard_cpus.contains(cpu)).collect();
    if others.is_empty() {
        return;
    }
    let mut set = CpuSet::new();
    others.into_iter().for_each(|cpu| set.set(cpu));
    // Staying on all cores is slower, not wrong.
    let _ = sched_setaffinity(None, &set);
}

/// One shard's whole life.
fn run(seed: Seed, ready: &mpsc::Sender<Result<(), String>>) {
    let _guard = AbortOnPanic;
    pin(seed.plan.shard_cpus[usize::from(seed.index)]);
    let geometry = seed.plan.geometry();
    let side = ShardSide::new(&seed.segment, seed.index, seed.door, &seed.worker_doors);
    let built = SharedMemory::new(side, geometry.chunks, geometry.chunk_len)
        .map_err(|error| format!("cannot map the egress chunks: {error}"))
        .and_then(|memory| {
            let config = config(&seed.plan);
            UringDriver::new(&config, memory.places(), memory.workers(), seed.commands)
                .map(|driver| (memory, driver))
                .map_err(|error| error.to_string())
        });
    let (mut memory, mut driver) = match built {
        Ok(built) => built,
        Err(error) => {
            let _ = ready.send(Err(format!("shard {}: {error}", seed.index)));
            return;
        }
    };
    let workers = seed.segment.layout().workers;
    let mut shard = Shard::new(limits(&seed.plan), geometry, workers, seed.stats, seed.node)
        .with_identities(seed.identities)
        .with_recall(seed.recall, seed.index);
    if let Some(rings) = seed.rings {
        shard = shard.with_trace(rings, seed.index);
    }
    if let Some(Berth { port, own, mesh }) = seed.berth {
        driver.join_mesh(own, mesh);
        shard = shard.with_mesh(port, seed.plan.mesh.pending_sends);
    }
    let _ = ready.send(Ok(()));

    let mut until_look = TURNS_PER_LOOK;
    let mut told = false;
    while !seed.stop.load(Relaxed) {
        let events = dataplane_core::turn(&mut shard, &mut memory, &mut driver);
        until_look -= 1;
        if events == 0 || until_look == 0 {
            until_look = TURNS_PER_LOOK;
            seed.driver_stats.publish(driver.counters());
        }
        // At once: an idle shard may not turn again.
        if !told && shard.finished() {
            told = seed.finished.send(seed.index).is_ok();
        }
    }
}

impl Threads {
    /// Starts every shard and waits until each has its memory and its ring. Shards without a berth
    /// serve no mesh.
    ///
    /// # Errors
    /// The first shard's reason, with the remedy.
    pub(crate) fn start(
        plan: &Plan,
        segment: &Arc<Segment>,
        (shard_doors, worker_doors): (&[Arc<Door>], &[Arc<Door>]),
        node: &Arc<NodeStats>,
        identities: &Arc<Identities>,
        finished: &UnboundedSender<u16>,
        berths: Vec<Berth>,
    ) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, answers) = mpsc::channel();
        let mut commanders = Vec::new();
        let mut drivers = Vec::new();
        let mut handles = Vec::new();
        let mut berths = berths.into_iter();
        // Keyed anew with each start, so that nobody can know which ids meet in a bucket.
        let secret = RandomState::new().hash_one(std::process::id());
        let recall = Arc::new(Recall::new(Bounds::default(), secret));
        let rings = plan.trace.bounds().map(|bounds| Rings::new(plan.shard_cpus.len(), bounds));
        for (index, (door, stats)) in (0..).zip(shard_doors.iter().zip(node.shards())) {
            let (commander, commands) = Commands::new(QUEUE)
                .map_err(|error| format!("cannot create a doorbell: {error}; raise ulimit -n"))?;
            let driver_stats = Arc::new(DriverStats::default());
            let seed = Seed {
                index,
                plan: plan.clone(),
                segment: Arc::clone(segment),
                door: Arc::clone(door),
                worker_doors: worker_doors.to_vec(),
                commands,
                berth: berths.next(),
                stats: Arc::clone(stats),
                node: Arc::clone(node),
                recall: Arc::clone(&recall),
                rings: rings.clone(),
                identities: Arc::clone(identities),
                driver_stats: Arc::clone(&driver_stats),
                stop: Arc::clone(&stop),
                finished: finished.clone(),
            };
            let ready = ready.clone();
            let handle = thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || run(seed, &ready))
                .map_err(|error| format!("cannot start a thread: {error}"))?;
            commanders.push(commander);
            drivers.push(driver_stats);
            handles.push(handle);
        }
        drop(ready);
        let threads = Self { shards: Shards(commanders), drivers, recall, rings, stop, handles };
        let failed = answers.iter().take(threads.handles.len()).find_map(Result::err);
        match failed {
            None => Ok(threads),
            Some(error) => {
                threads.stop();
                Err(error)
            }
        }
    }

    /// Ends every shard after its present turn and waits for the threads. What is under way is cut
    /// off.
    pub(crate) fn stop(self) {
        self.stop.store(true, Relaxed);
        // The command is only there to wake sleepers.
        self.shards.drain();
        for handle in self.handles {
            // A shard that panicked has aborted the process.
            let _ = handle.join();
        }
    }
}
