//! A run from beginning to end: look at the node, set up, start all threads at one moment, add up.

use crate::{
    config::{BlastError, Config},
    connect::Connector,
    load::Phases,
    report::{Findings, Report, Run, curve},
    request::{Request, requests},
    server::{self, Server},
    tally::Tally,
    thread::{self, Progress, Task},
};
use client::{Client, Options};
use dataplane_core::driver::Time;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::time::{ClockId, clock_gettime};
use std::{
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};
use wire::{HEADER_LEN, reply, request};

/// From the word to start until the first send, so that every thread is in its loop by then.
const HEAD_START: Duration = Duration::from_millis(20);
/// Between two updates of the progress line.
const TICK: Duration = Duration::from_millis(100);
/// Longest reply that is not an answer to numeric work.
const PLAIN_REPLY_MAX: u32 = 64 << 10;

/// Runs a load and reports what came of it.
///
/// # Errors
/// [`BlastError`] where there is nothing to report: the run makes no sense, the node cannot be
/// reached, or this host refuses. What goes wrong later is in the report.
pub fn run(config: Config) -> Result<Report, BlastError> {
    measure(config).map(|run| run.report)
}

/// As [`run`], with all that a page or a comparison needs.
///
/// # Errors
/// As [`run`].
pub fn measure(config: Config) -> Result<Run, BlastError> {
    config.check()?;
    let config = Arc::new(config);
    let requests: Arc<[Request]> = requests(&config)?.into();
    let connector = Connector::new(&config)?;
    let options = Options { security: config.security.clone(), ..Options::default() };
    let mut client = Client::connect(&config.addr, options.clone())?;
    client.ping()?;
    let crew = Crew::muster(&config, &requests, &connector)?;
    let before = server::look(&mut client);
    let phases = crew.start(&config)?;
    let tallies = crew.watch(&config, phases);
    // The first connection, unless it died meanwhile: the node may have no room for another.
    let after = server::look(&mut client).or_else(|| {
        let mut client = Client::connect(&config.addr, options).ok()?;
        server::look(&mut client)
    });
    let mut sum = Tally::default();
    let mut busy = 0.0_f64;
    for tally in &tallies {
        busy = busy.max(tally.busy_ns as f64 / (tally.wall_ns as f64).max(1.0));
        sum.merge(tally);
    }
    let report = Report::new(Findings {
        config: &config,
        requests: (requests.first().map_or(0, |request| request.frame.len()), requests.len()),
        interval: (phases.measure, phases.stop),
        tally: &sum,
        busy,
        server: Server::between(before.as_ref(), after.as_ref()),
    });
    Ok(Run { report, curve: curve(&sum.latency), timeline: sum.recorder.timeline() })
}

/// All threads of a run, connected and waiting.
struct Crew {
    go: Vec<Sender<Phases>>,
    done: Receiver<Tally>,
    progress: Vec<Arc<Progress>>,
}

impl Crew {
    /// Starts the threads and waits until every socket is connected.
    fn muster(
        config: &Arc<Config>,
        requests: &Arc<[Request]>,
        connector: &Connector,
    ) -> Result<Self, BlastError> {
        let (ready, readied) = mpsc::channel();
        let (done, finished) = mpsc::channel();
        let payload_max = payload_max(requests);
        let mut crew = Self { go: Vec::new(), done: finished, progress: Vec::new() };
        for index in 0..config.threads_used() {
            let (start, go) = mpsc::channel();
            let progress = Arc::new(Progress::default());
            crew.go.push(start);
            crew.progress.push(progress.clone());
            let task = Task {
                config: config.clone(),
                requests: requests.clone(),
                payload_max,
                connector: connector.clone(),
                index,
                progress,
                ready: ready.clone(),
                go,
                done: done.clone(),
            };
            std::thread::Builder::new()
                .name(format!("blast-{index}"))
                .spawn(move || thread::run(task))
                .map_err(|fault| BlastError::Host(format!("cannot start a thread: {fault}")))?;
        }
        for _ in 0..config.threads_used() {
            let ended = || BlastError::Host("a thread ended before it was ready".to_owned());
            readied.recv().map_err(|_| ended())??;
        }
        Ok(crew)
    }

    /// Gives all threads the same moment to start.
    fn start(&self, config: &Config) -> Result<Phases, BlastError> {
        let phases = Phases::new(monotonic() + nanoseconds(HEAD_START), config);
        for go in &self.go {
            let ended = |_| BlastError::Host("a thread ended before the start".to_owned());
            go.send(phases).map_err(ended)?;
        }
        Ok(phases)
    }

    /// Shows progress until every thread has ended.
    fn watch(self, config: &Config, phases: Phases) -> Vec<Tally> {
        let bar = bar(config, phases);
        let mut tallies = Vec::new();
        while tallies.len() < self.progress.len() {
            match self.done.recv_timeout(TICK) {
                Ok(tally) => tallies.push(tally),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let sum = |count: fn(&Progress) -> u64| -> u64 {
                        self.progress.iter().map(|progress| count(progress)).sum()
                    };
                    let ok = sum(|progress| progress.ok.load(Relaxed));
                    let bad = sum(|progress| progress.bad.load(Relaxed));
                    bar.set_position(monotonic().saturating_sub(phases.start) / 1_000_000);
                    bar.set_message(match monotonic() < phases.measure {
                        true => "warming up".to_owned(),
                        false => format!("{ok} ok, {bad} not"),
                    });
                }
            }
        }
        bar.finish_and_clear();
        tallies
    }
}

impl Phases {
    /// The phases of a run that starts at `start`.
    #[must_use]
    pub fn new(start: Time, config: &Config) -> Self {
        let measure = start + nanoseconds(config.warmup);
        let stop = measure + nanoseconds(config.duration);
        Self { start, measure, stop, give_up: stop + nanoseconds(config.grace) }
    }
}

fn bar(config: &Config, phases: Phases) -> ProgressBar {
    if !config.progress {
        return ProgressBar::hidden();
    }
    // Drawn on stderr, and only where that is a terminal.
    let bar = ProgressBar::new((phases.stop - phases.start) / 1_000_000);
    let style = ProgressStyle::with_template("{bar:24} {percent:>3}%  {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The longest payload that any answer to these requests can have.
fn payload_max(requests: &[Request]) -> u32 {
    requests
        .iter()
        .filter_map(|entry| {
            let payload = client::Buffer::copy_of(entry.frame.get(HEADER_LEN..)?);
            let (_, work) = request::work(payload.as_slice()).ok()?;
            u32::try_from(reply::reply_len(&work)).ok()
        })
        .fold(PLAIN_REPLY_MAX, u32::max)
}

pub(crate) fn monotonic() -> Time {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 4)
}
