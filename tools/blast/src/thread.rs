//! One thread of a run: its memory, its ring, its sockets, its load.

use crate::{
    check::{Checker, Expect},
    config::{BlastError, Config, Pace},
    connect::{Connector, Reconnector},
    load::{Load, Parts, Phases},
    request::{Prepared, Request},
    schedule::Schedule,
    tally::Tally,
};
use dataplane_core::driver::Driver;
use dataplane_uring::{Commands, PlainMemory, Policy, Step, UringDriver, Workers};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

/// Counts of a thread for the progress line.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) ok: AtomicU64,
    pub(crate) bad: AtomicU64,
}

/// What a thread works with.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) config: Arc<Config>,
    pub(crate) requests: Arc<[Request]>,
    pub(crate) payload_max: u32,
    pub(crate) connector: Connector,
    /// Which thread this is.
    pub(crate) index: u32,
    pub(crate) progress: Arc<Progress>,
    /// Says that all sockets are connected, or why not.
    pub(crate) ready: Sender<Result<(), BlastError>>,
    /// Says when to start; closed where the run is called off.
    pub(crate) go: Receiver<Phases>,
    /// The counts, at the end.
    pub(crate) done: Sender<Tally>,
}

/// The sockets, and what drives them.
struct Engine {
    driver: UringDriver,
    memory: PlainMemory,
    conns: Vec<dataplane_core::driver::ConnId>,
    prepared: Prepared,
}

/// Runs a thread from set-up to its last count.
pub(crate) fn run(task: Task) {
    let engine = match Engine::new(&task) {
        Ok(engine) => engine,
        Err(fault) => {
            let _ = task.ready.send(Err(fault));
            return;
        }
    };
    let _ = task.ready.send(Ok(()));
    let Ok(phases) = task.go.recv() else { return };
    let tally = engine.drive(&task, phases);
    let _ = task.done.send(tally);
}

impl Task {
    /// The connections of this thread: every `threads`-th of the run's, beginning with its own.
    fn places(&self) -> Vec<usize> {
        let step = self.config.threads_used() as usize;
        (self.index as usize..self.config.connections as usize).step_by(step).collect()
    }
}

impl Engine {
    fn new(task: &Task) -> Result<Self, BlastError> {
        let places = task.places();
        let config = &task.config;
        let count = places.len() as u32;
        let geometry = Prepared::geometry(&task.requests, count, config.depth);
        let mut memory = PlainMemory::new(geometry).map_err(|fault| {
            let bytes = u64::from(geometry.chunks) * u64::from(geometry.chunk_len);
            BlastError::Host(format!("cannot map {bytes} bytes to send from: {fault}"))
        })?;
        let mut driver = driver(&memory, count, config.poll)?;
        let epoch = driver.epoch_ns().wrapping_sub(driver.now());
        let prepared = Prepared::lay_out(&task.requests, &mut memory, epoch);
        let conns = places
            .iter()
            .map(|place| {
                let socket = task.connector.connect(*place)?;
                driver.adopt(socket).map_err(|fault| adopt_fault(&fault))
            })
            .collect::<Result<Vec<_>, BlastError>>()?;
        Ok(Self { driver, memory, conns, prepared })
    }

    fn drive(self, task: &Task, phases: Phases) -> Tally {
        let Self { mut driver, mut memory, conns, prepared } = self;
        let config = &task.config;
        let places = task.places();
        let threads = config.threads_used();
        let expects: Arc<[Expect]> =
            task.requests.iter().map(|request| request.expect.clone()).collect();
        let mut load = Load::new(Parts {
            phases,
            schedule: match config.pace {
                Pace::Open { rate } => Some(Schedule::new(phases.start, rate, task.index, threads)),
                Pace::Closed => None,
            },
            connections: places.len(),
            depth: config.depth,
            // Threads begin at different requests, so that they do not all ask the same at once.
            first_template: task.requests.len() * task.index as usize / threads as usize,
            reconnect: config.reconnect,
            prepared,
            checker: Checker::new(expects, task.payload_max),
        });
        for (index, conn) in conns.into_iter().enumerate() {
            load.connect(&mut driver, index, conn);
        }
        let left = phases.give_up.saturating_sub(driver.now());
        let give_up = Instant::now() + Duration::from_nanos(left);
        let reconnector = config
            .reconnect
            .then(|| Reconnector::start(task.connector.clone(), give_up))
            .and_then(io::Result::ok);
        while load.turn(&mut driver, &mut memory) {
            let tally = load.tally();
            task.progress.ok.store(tally.ok, Relaxed);
            task.progress.bad.store(tally.errors() + tally.refused() + tally.lost, Relaxed);
            replace_dead(&mut load, &mut driver, reconnector.as_ref(), &places);
        }
        load.finish()
    }
}

/// Asks for sockets in place of dead ones, and puts those that came to work.
fn replace_dead(
    load: &mut Load,
    driver: &mut UringDriver,
    reconnector: Option<&Reconnector>,
    places: &[usize],
) {
    if !load.has_missing() {
        return;
    }
    for index in load.take_dead() {
        match reconnector {
            Some(reconnector) => reconnector.want(places[index]),
            None => load.give_up(),
        }
    }
    let Some(reconnector) = reconnector else { return };
    while let Some((place, socket)) = reconnector.made() {
        let index = places.binary_search(&place);
        match (index, socket.map(|socket| driver.adopt(socket))) {
            (Ok(index), Some(Ok(conn))) => load.connect(driver, index, conn),
            _ => load.give_up(),
        }
    }
}

pub(crate) fn driver(
    memory: &PlainMemory,
    connections: u32,
    policy: Policy,
) -> Result<UringDriver, BlastError> {
    // Nobody commands this driver, but it listens for commands until this end is dropped.
    let (_, commands) = Commands::new(1)
        .map_err(|fault| BlastError::Host(format!("cannot make a doorbell: {fault}")))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let config = dataplane_uring::Config {
        accepted: 0,
        adopted: connections,
        policy,
        // Where the node shares the cores, polling must not keep it from them.
        yields: cores <= 4,
        ..dataplane_uring::Config::default()
    };
    UringDriver::new(&config, memory.places(), Workers::none(), commands).map_err(|fault| {
        let spread = match fault.step() {
            Step::Table => "; or spread them over more --threads, each has a table of its own",
            _ => "",
        };
        BlastError::Host(format!("io_uring: {fault}{spread}"))
    })
}

pub(crate) fn adopt_fault(fault: &io::Error) -> BlastError {
    BlastError::Host(format!("a connected socket cannot be handed to io_uring: {fault}"))
}
