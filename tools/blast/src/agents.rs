//! `blast agents`: a fleet of agents over real sockets, with modelled links, clocks and services.
//!
//! Each agent is [`mesh::agent::Agent`], which knows its own clock alone; [`crowd::Crowd`] is the
//! agents of one thread and knows all clocks; [`truth::Truth`] is what it saw, [`report::Report`]
//! the arithmetic over that.

mod args;
pub mod config;
pub mod crowd;
pub mod report;
mod thread;
pub mod truth;

pub use args::AgentsArgs;
pub use config::Config;
pub use fleet::{Mix, World};
pub use report::Report;

use crate::{config::BlastError, connect::Connector, run::monotonic};
use indicatif::{ProgressBar, ProgressStyle};
use mesh::Time;
use rustix::time::{ClockId, clock_gettime};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};
use thread::{Board, Task};
use truth::Truth;

/// Between two looks at the threads.
const TICK: Duration = Duration::from_millis(20);
/// Registrations that were not answered for this long are given up.
const PATIENCE: Time = 60_000_000_000;
/// From the last registration until the first planned heartbeat.
const HEAD_START: Time = 50_000_000;

/// Runs a fleet until `stop` is set or its time is over, and reports what came of it.
///
/// # Errors
/// [`BlastError`] where there is nothing to report: the run makes no sense, the node cannot be
/// reached, or this host refuses.
pub fn run(config: Config, stop: &Arc<AtomicBool>) -> Result<Report, BlastError> {
    observe(config, stop).map(|(report, _)| report)
}

/// As [`run`], with everything that was seen.
///
/// # Errors
/// As [`run`].
pub fn observe(config: Config, stop: &Arc<AtomicBool>) -> Result<(Report, Truth), BlastError> {
    config.check()?;
    let config = Arc::new(config);
    let fleet = Arc::new(config.fleet());
    let connector = Connector::to(&config.addr, config.security.as_ref(), config.sources())?;
    let mut crew = Crew::muster(&config, &fleet, &connector, stop)?;
    let started = monotonic();
    crew.start();
    let registered = crew.wait_for_places(&config, started, stop)?;
    let begun = monotonic();
    let cpu = cpu_time();
    crew.plan.store(begun + HEAD_START, Relaxed);
    crew.watch(&config, begun, stop);
    stop.store(true, Relaxed);
    let (stayed, cpu) = (monotonic() - begun, cpu_time() - cpu);
    let mut sum = Truth::new(0);
    for truth in crew.gather()? {
        sum.merge(truth);
    }
    let timing = report::Timing { registered: registered - started, stayed, cpu };
    Ok((Report::new(&config, &fleet, &sum, timing), sum))
}

/// All threads of a run.
struct Crew {
    boards: Vec<Arc<Board>>,
    go: Vec<Sender<()>>,
    done: Receiver<Result<Truth, BlastError>>,
    /// Counts of threads that ended before the others had begun.
    early: Vec<Truth>,
    /// When planned heartbeats begin; 0 for not yet.
    plan: Arc<AtomicU64>,
}

impl Crew {
    /// Starts the threads and waits until each has its ring.
    fn muster(
        config: &Arc<Config>,
        fleet: &Arc<fleet::Fleet>,
        connector: &Connector,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, BlastError> {
        let (ready, readied) = mpsc::channel();
        let (done, finished) = mpsc::channel();
        let plan = Arc::new(AtomicU64::new(0));
        let mut crew =
            Self { boards: Vec::new(), go: Vec::new(), done: finished, early: Vec::new(), plan };
        for index in 0..config.threads_used() {
            let (start, go) = mpsc::channel();
            let board = Arc::new(Board::default());
            crew.go.push(start);
            crew.boards.push(board.clone());
            let task = Task {
                config: config.clone(),
                fleet: fleet.clone(),
                connector: connector.clone(),
                index,
                board,
                plan: crew.plan.clone(),
                stop: stop.clone(),
                ready: ready.clone(),
                go,
                done: done.clone(),
            };
            std::thread::Builder::new()
                .name(format!("agents-{index}"))
                .spawn(move || thread::run(task))
                .map_err(|fault| BlastError::Host(format!("cannot start a thread: {fault}")))?;
        }
        for _ in 0..config.threads_used() {
            readied.recv().map_err(|_| ended())??;
        }
        Ok(crew)
    }

    fn start(&self) {
        for go in &self.go {
            // A thread that ended meanwhile says so when it is waited for.
            let _ = go.send(());
        }
    }

    fn sum(&self, count: fn(&Board) -> &AtomicU64) -> u64 {
        self.boards.iter().map(|board| count(board).load(Relaxed)).sum()
    }

    /// Waits until every agent has a place or none to expect. Gives the moment of the last one.
    fn wait_for_places(
        &mut self,
        config: &Config,
        started: Time,
        stop: &AtomicBool,
    ) -> Result<Time, BlastError> {
        let bar = bar(config);
        while self.sum(|board| &board.settled) < u64::from(config.count) && !stop.load(Relaxed) {
            match self.done.recv_timeout(TICK) {
                Ok(Err(fault)) => return Err(fault),
                Ok(Ok(truth)) => self.early.push(truth),
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            bar.set_message(format!("{} registered", self.sum(|board| &board.here)));
            if monotonic() - started > PATIENCE {
                break;
            }
        }
        bar.finish_and_clear();
        let here = self.sum(|board| &board.here);
        let last = self.boards.iter().map(|board| board.settled_at.load(Relaxed)).max();
        let last = last.unwrap_or(0).max(started);
        if config.progress {
            let seconds = (last - started) as f64 / 1e9;
            eprintln!("{here} of {} agents registered in {seconds:.3} s", config.count);
        }
        Ok(last)
    }

    /// Shows progress until the time is over.
    fn watch(&self, config: &Config, begun: Time, stop: &AtomicBool) {
        let bar = bar(config);
        let until = config.duration.map_or(Time::MAX, |duration| {
            begun.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
        });
        while monotonic() < until && !stop.load(Relaxed) {
            bar.set_message(format!(
                "{} agents, {} orders, {} acks, {} heartbeats answered",
                self.sum(|board| &board.here),
                self.sum(|board| &board.orders),
                self.sum(|board| &board.acks),
                self.sum(|board| &board.beats),
            ));
            if self.boards.iter().all(|board| board.ended.load(Relaxed)) {
                break;
            }
            std::thread::sleep(TICK);
        }
        bar.finish_and_clear();
    }

    fn gather(self) -> Result<Vec<Truth>, BlastError> {
        let mut truths = self.early;
        while truths.len() < self.boards.len() {
            truths.push(self.done.recv().map_err(|_| ended())??);
        }
        Ok(truths)
    }
}

fn ended() -> BlastError {
    BlastError::Host("a thread ended before its time".to_owned())
}

fn bar(config: &Config) -> ProgressBar {
    if !config.progress {
        return ProgressBar::hidden();
    }
    // Drawn on stderr, and only where that is a terminal.
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{elapsed_precise} {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// CPU time of this process, all threads.
fn cpu_time() -> Time {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}
