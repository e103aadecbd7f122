//! One thread of a fleet: its memory, its ring, its sockets, its agents.

use super::{
    config::Config,
    crowd::{self, Crowd},
    truth::Truth,
};
use crate::{
    config::BlastError,
    connect::Connector,
    schedule::Schedule,
    thread::{adopt_fault, driver},
};
use dataplane_core::driver::{Driver, Time};
use dataplane_uring::{PlainMemory, Policy, UringDriver};
use fleet::Fleet;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    mpsc::{Receiver, Sender},
};

/// Connections whose agents wait for their places at most: the node's queue of new connections is
/// of some thousands, and a connection that finds it full waits for a second.
const UNANSWERED: u32 = 1_000;
/// Connections between two looks at what the node answered.
const BATCH: usize = 32;
/// Longest rest: the end of the run is no event.
const LOOK: Time = 50_000_000;

/// What a thread shows of itself while it runs.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) here: AtomicU64,
    pub(super) settled: AtomicU64,
    pub(super) settled_at: AtomicU64,
    pub(super) orders: AtomicU64,
    pub(super) acks: AtomicU64,
    pub(super) beats: AtomicU64,
    pub(super) ended: AtomicBool,
}

/// What a thread works with.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) config: Arc<Config>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) connector: Connector,
    /// Which thread this is.
    pub(super) index: u32,
    pub(super) board: Arc<Board>,
    /// When planned heartbeats begin; 0 for not yet.
    pub(super) plan: Arc<AtomicU64>,
    pub(super) stop: Arc<AtomicBool>,
    /// Says that the ring is there, or why not.
    pub(super) ready: Sender<Result<(), BlastError>>,
    /// Says when to connect; closed where the run is called off.
    pub(super) go: Receiver<()>,
    /// The counts, at the end.
    pub(super) done: Sender<Result<Truth, BlastError>>,
}

/// Runs a thread from set-up to its last count.
pub(super) fn run(task: Task) {
    let engine = match Engine::new(&task) {
        Ok(engine) => engine,
        Err(fault) => {
            let _ = task.ready.send(Err(fault));
            return;
        }
    };
    let _ = task.ready.send(Ok(()));
    if task.go.recv().is_err() {
        return;
    }
    let truth = engine.live(&task);
    task.board.ended.store(true, Relaxed);
    let _ = task.done.send(truth);
}

struct Engine {
    driver: UringDriver,
    memory: PlainMemory,
    crowd: Crowd,
    /// The connections of this thread: every `threads`-th of the run's, beginning with its own.
    places: Vec<u32>,
}

impl Engine {
    fn new(task: &Task) -> Result<Self, BlastError> {
        let config = &task.config;
        let places: Vec<u32> =
            (task.index..config.connections()).step_by(config.threads_used() as usize).collect();
        let geometry = crowd::geometry(config, places.len() as u32);
        let memory = PlainMemory::new(geometry).map_err(|fault| {
            let bytes = u64::from(geometry.chunks) * u64::from(geometry.chunk_len);
            BlastError::Host(format!("cannot map {bytes} bytes to send from: {fault}"))
        })?;
        // The crowd says when it must be awake, and spins by itself where that pays.
        let driver = driver(&memory, places.len() as u32, Policy::Frugal)?;
        let crowd = Crowd::new(config.clone(), task.fleet.clone(), &places);
        Ok(Self { driver, memory, crowd, places })
    }

    fn live(mut self, task: &Task) -> Result<Truth, BlastError> {
        self.connect(task)?;
        let mut planned = false;
        while !task.stop.load(Relaxed) {
            self.turn(LOOK);
            self.show(task);
            let start = task.plan.load(Relaxed);
            if let (false, true, Some(rate)) = (planned, start > 0, task.config.beats_per_second) {
                let threads = task.config.threads_used();
                self.crowd.beat_by_plan(Schedule::new(start, rate, task.index, threads));
                planned = true;
            }
        }
        Ok(self.crowd.finish())
    }

    /// Connects one socket after the other and reads answers in between, so that many
    /// registrations are under way at any time.
    fn connect(&mut self, task: &Task) -> Result<(), BlastError> {
        let per_connection = task.config.per_connection;
        for place in 0..self.places.len() {
            let socket = task.connector.connect(self.places[place] as usize)?;
            let id = self.driver.adopt(socket).map_err(|fault| adopt_fault(&fault))?;
            self.crowd.connect(&mut self.driver, place, id);
            if place % BATCH == 0 {
                self.turn(0);
                self.show(task);
            }
            let asked = (place as u32 + 1).saturating_mul(per_connection);
            while asked.saturating_sub(self.crowd.settled()) / per_connection > UNANSWERED
                && !task.stop.load(Relaxed)
            {
                self.turn(LOOK);
                self.show(task);
            }
        }
        Ok(())
    }

    /// One turn, which rests for `rest` at most.
    fn turn(&mut self, rest: Time) {
        let until = self.driver.now() + rest;
        self.crowd.turn(&mut self.driver, &mut self.memory, until);
    }

    fn show(&self, task: &Task) {
        let (board, crowd) = (&task.board, &self.crowd);
        let settled = u64::from(crowd.settled());
        if board.settled.load(Relaxed) != settled {
            board.settled_at.store(crate::run::monotonic(), Relaxed);
            board.settled.store(settled, Relaxed);
        }
        board.here.store(u64::from(crowd.here()), Relaxed);
        let truth = crowd.truth();
        board.orders.store(truth.of("orders"), Relaxed);
        board.acks.store(truth.of("acks"), Relaxed);
        board.beats.store(truth.of("beat_answers"), Relaxed);
    }
}
