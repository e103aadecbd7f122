//! Worker processes: started, watched, replaced. One task per worker, all on the control thread.
//!
//! A worker that dies gives its slots back only after the OS has said that its process is gone:
//! until then it might still write into them. The order is therefore fixed: process reaped, every
//! shard told, every shard done reclaiming, successor started.

use crate::{
    health::{self, Care},
    plan::Limits,
    say,
    settings::{Backend, Poll, WorkerSandbox},
    shards::Shards,
    supervisor,
};
use dataplane_core::{
    NodeStats,
    stats::{Source, Visit},
};
use link::{
    Segment, SharedFile,
    door::Door,
    hello::{ANSWER_LEN, Answer, Offer, send_offer},
};
use rustix::process::Signal;
use std::{
    cell::RefCell,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream as StdUnixStream, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    process::{Child, Command},
    sync::watch,
    time::{Instant, sleep, timeout},
};
use worker::sandbox::Part;

/// Longest time a worker may take to say that it is ready: a GPU context and its kernels take
/// seconds.
const START_MAX: Duration = Duration::from_secs(60);
/// Pause before the second start in a row; doubles up to the maximum.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Longest pause while no worker serves at all: whoever asks is waiting.
const BACKOFF_ALONE: Duration = Duration::from_millis(500);
/// A worker that lived this long starts its successor's back-off from the beginning.
const SETTLED: Duration = Duration::from_secs(1);
/// A sleeping worker moves its pulse four times a second; less patience than this would kill
/// healthy ones.
const SLEEPER_PATIENCE: Duration = Duration::from_secs(2);
/// A worker loses its device once; what has more to say has something else in mind.
const CHANGES_MAX: u32 = 16;
/// This program as it runs, even where its file was replaced by another version meanwhile.
const SELF: &str = "/proc/self/exe";
/// How long a worker may take to go once its control socket is closed.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a worker is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It ended by itself, or somebody killed it.
    Exited,
    /// It held work, or slept, and its pulse stood still; it was killed.
    Hung,
    /// It said what cannot be true through shared memory; it was killed.
    Lied,
    /// It did not become ready; it was killed where necessary.
    NotReady,
}

impl End {
    const ALL: [Self; 4] = [Self::Exited, Self::Hung, Self::Lied, Self::NotReady];

    const fn name(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Hung => "hung",
            Self::Lied => "lied",
            Self::NotReady => "not_ready",
        }
    }
}

/// What the supervisor counts.
#[derive(Debug, Default)]
pub(crate) struct WorkerStats {
    starts: AtomicU64,
    ready: AtomicU64,
    degraded: AtomicU64,
    /// Per part of the sandbox: ready workers around which it is closed.
    sandbox: [AtomicU64; Part::ALL.len()],
    ends: [AtomicU64; End::ALL.len()],
}

impl Source for WorkerStats {
    fn visit(&self, visit: Visit<'_>) {
        visit("butterfly_worker_starts_total", "", "", self.starts.load(Relaxed));
        visit("butterfly_workers_ready", "", "", self.ready.load(Relaxed));
        visit("butterfly_worker_degraded_total", "", "", self.degraded.load(Relaxed));
        for part in Part::ALL {
            let count = self.sandbox[part as usize].load(Relaxed);
            visit("butterfly_worker_sandbox", "part", part.name(), count);
        }
        for end in End::ALL {
            let count = self.ends[end as usize].load(Relaxed);
            visit("butterfly_worker_ends_total", "cause", end.name(), count);
        }
    }
}

impl WorkerStats {
    /// A worker whose sandbox has these parts is there, or no more.
    fn ready(&self, sandbox: u32, there: bool) {
        let parts = Part::ALL.iter().filter(|part| sandbox & part.bit() != 0);
        let parts = parts.map(|part| &self.sandbox[*part as usize]);
        for count in parts.chain([&self.ready]) {
            if there {
                count.fetch_add(1, Relaxed);
            } else {
                count.fetch_sub(1, Relaxed);
            }
        }
    }
}

/// What a ready worker said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Process id.
    pub(crate) pid: u32,
    /// Bit = operation code.
    pub(crate) operations: u32,
    /// Bit = part of its sandbox.
    pub(crate) sandbox: u32,
    /// `cpu` or `cuda`.
    pub(crate) backend: String,
    /// What it computes on and why.
    pub(crate) text: String,
}

/// What every worker's task shares.
#[derive(Debug)]
pub(crate) struct Team {
    /// The shared memory.
    pub(crate) segment: Arc<Segment>,
    /// What workers sleep on.
    pub(crate) worker_doors: Vec<Arc<Door>>,
    /// What shards sleep on.
    pub(crate) shard_doors: Vec<Arc<Door>>,
    /// Weights for lm-head.
    pub(crate) weights: Option<SharedFile>,
    /// What hidden rows are coded with.
    pub(crate) basis: Option<SharedFile>,
    /// The shards.
    pub(crate) shards: Shards,
    /// Bounds.
    pub(crate) limits: Limits,
    /// What is started; `None` for this program.
    pub(crate) program: Option<PathBuf>,
    /// Where to compute.
    pub(crate) backend: Backend,
    /// CUDA devices of this machine, shared out among the workers; 0 where none is used.
    pub(crate) devices: u16,
    /// How to wait.
    pub(crate) poll: Poll,
    /// What they give up.
    pub(crate) sandbox: WorkerSandbox,
    /// Counters.
    pub(crate) stats: Arc<WorkerStats>,
    /// How their health is watched.
    pub(crate) care: Care,
    /// The whole node's figures and facts.
    pub(crate) node: Arc<NodeStats>,
}

/// The first answer of each worker since the start, in worker order: what `serve` waits for.
pub(crate) type FirstAnswers = Rc<RefCell<Vec<Option<Result<Ready, String>>>>>;

/// A started process with its control socket.
struct Process {
    child: Child,
    control: UnixStream,
}

impl Team {
    /// Starts the process of a worker. It knows nothing yet.
    fn start(&self, worker: u16) -> io::Result<Process> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let control = UnixStream::from_std(ours)?;
        let program = self.program.as_deref().unwrap_or_else(|| Path::new(SELF));
        let child = Command::new(program)
            .arg0("butterfly")
            .arg("worker")
            .args(["--backend", self.backend.name(), "--poll", self.poll.name()])
            .args(["--sandbox", self.sandbox.name()])
            .args(["--device", &worker.checked_rem(self.devices).unwrap_or(0).to_string()])
            // What a worker says is no word of the service.
            .env_remove(supervisor::SOCKET)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // Standard output belongs to the node: its lines are read by programs.
            .stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?))
            // A Ctrl-C at the terminal is for the node, which drains with its workers' help.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        self.stats.starts.fetch_add(1, Relaxed);
        Ok(Process { child, control })
    }

    /// Hands a started process the shared memory and waits for what it says to that.
    async fn hire(&self, worker: u16, control: &mut UnixStream) -> Result<Ready, String> {
        let offer = Offer {
            worker,
            layout_hash: self.segment.layout().hash(),
            files: self.segment.files(),
            door: self.worker_doors[usize::from(worker)].fd(),
            shards: self.shard_doors.iter().map(|door| door.fd()).collect(),
            weights: self.weights.as_ref().map(SharedFile::fd),
            basis: self.basis.as_ref().map(SharedFile::fd),
        };
        send_offer(&*control, &offer).map_err(|error| error.to_string())?;
        answer(control).await
    }

    /// Waits until the pulse of a ready worker gives a reason to end it. Never returns for a
    /// healthy one.
    async fn watch_pulse(&self, worker: u16) -> End {
        let first = self.segment.pulse(worker);
        let patience = self.limits.worker_timeout;
        let step = (patience / 8).clamp(Duration::from_millis(10), Duration::from_millis(250));
        let (mut count, mut moved) = (first.count, Instant::now());
        loop {
            sleep(step).await;
            let pulse = self.segment.pulse(worker);
            if pulse.faults != first.faults {
                return End::Lied;
            }
            if pulse.count != count {
                (count, moved) = (pulse.count, Instant::now());
            }
            let limit = if pulse.parked { patience.max(SLEEPER_PATIENCE) } else { patience };
            if moved.elapsed() > limit {
                return End::Hung;
            }
        }
    }
}

/// Waits for the 256 bytes in which a worker says whether it serves.
async fn answer(control: &mut UnixStream) -> Result<Ready, String> {
    let mut bytes = [0; ANSWER_LEN];
    match timeout(START_MAX, control.read_exact(&mut bytes)).await {
        Err(_) => return Err(format!("no answer within {START_MAX:?}")),
        Ok(Err(error)) => return Err(format!("it ended before it was ready ({error})")),
        Ok(Ok(_)) => {}
    }
    match Answer::parse(&bytes).map_err(|error| error.to_string())? {
        Answer::Ready { pid, operations, sandbox, backend, text } => {
            Ok(Ready { pid, operations, sandbox, backend, text })
        }
        Answer::Refused { reason } => Err(reason),
        Answer::Changed { .. } => Err("it changed before it was ready".to_owned()),
    }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Err(error) => format!("unknown: {error}"),
        Ok(status) if status.signal() == Some(Signal::SYS.as_raw()) => format!(
            "{status}: it asked the kernel for what its sandbox does not allow; it fell into other \
             hands, or this system needs --worker-sandbox off"
        ),
        Ok(status) => status.to_string(),
    }
}

/// One life of a worker, from its start until the OS has reaped it and every shard has reclaimed
/// its slots.
async fn live(
    team: &Team,
    worker: u16,
    stop: &mut watch::Receiver<bool>,
    first: &FirstAnswers,
) -> Result<(), String> {
    let mut process = team.start(worker).map_err(|error| format!("cannot start it: {error}"))?;
    let said = tokio::select! {
        said = team.hire(worker, &mut process.control) => Some(said),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ready = said.as_ref().and_then(|said| said.as_ref().ok()).cloned();
    let end = match said {
        None => None,
        Some(said) => {
            announce(team, worker, &said);
            first.borrow_mut()[usize::from(worker)].get_or_insert(said);
            match &ready {
                Some(ready) => serve(team, worker, ready, &mut process, stop).await,
                None => Some(End::NotReady),
            }
        }
    };
    let status = match end {
        None => dismiss(process).await,
        Some(_) => reap(&mut process.child).await,
    };
    if let Some(ready) = ready {
        team.stats.ready(ready.sandbox, false);
        // Without the OS's word that it is gone, its slots cannot be given to another.
        let status = status.as_ref().map_err(|error| format!("cannot be waited for: {error}"))?;
        team.shards.worker_down(worker, *status).await;
    }
    if let Some(end) = end {
        team.stats.ends[end as usize].fetch_add(1, Relaxed);
        say::note(format!("worker {worker} {}: {}", end.name(), describe(status)));
    }
    Ok(())
}

/// Tells people, and the shards if it serves, what a worker said of itself.
fn announce(team: &Team, worker: u16, said: &Result<Ready, String>) {
    match said {
        Ok(Ready { pid, operations, sandbox, backend, text }) => {
            say::note(format!("worker {worker} ready: pid {pid}, {backend} ({text})"));
            team.shards.worker_up(worker, *operations);
            team.stats.ready(*sandbox, true);
        }
        Err(why) => say::note(format!("worker {worker} does not serve: {why}")),
    }
}

/// Waits while a ready worker serves; why it ended, or `None` when it is to be let go.
async fn serve(
    team: &Team,
    worker: u16,
    ready: &Ready,
    process: &mut Process,
    stop: &mut watch::Receiver<bool>,
) -> Option<End> {
    let device = worker.checked_rem(team.devices).filter(|_| ready.backend == "cuda");
    let subject = health::Subject {
        worker,
        // What the OS says: the worker's own word is a worker's.
        pid: process.child.id().unwrap_or(0),
        operations: ready.operations,
        backend: &ready.backend,
        device: device.map(usize::from),
    };
    tokio::select! {
        never = health::watch(&team.care, &subject, &team.segment, &team.shards) => match never {},
        end = team.watch_pulse(worker) => Some(end),
        () = hear(team, worker, &mut process.control) => Some(End::Lied),
        _ = process.child.wait() => Some(End::Exited),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

/// Hears what a ready worker has to say: that it computes on something else now. Returns where it
/// says something that does not belong here, or says too much.
async fn hear(team: &Team, worker: u16, control: &mut UnixStream) {
    let mut bytes = [0; ANSWER_LEN];
    for _ in 0..CHANGES_MAX {
        if control.read_exact(&mut bytes).await.is_err() {
            // Its end is told by the OS, which knows better.
            return std::future::pending().await;
        }
        let Ok(Answer::Changed { backend, text }) = Answer::parse(&bytes) else { return };
        say::note(format!("worker {worker} goes on with {backend}: {text}"));
        team.stats.degraded.fetch_add(1, Relaxed);
        team.node.change_fact("backend", backend);
        team.node.change_fact("backend_reason", format!("worker {worker}: {text}"));
    }
}

/// Closing the control socket is the request to go; who does not is made to.
async fn dismiss(process: Process) -> io::Result<ExitStatus> {
    let Process { mut child, control } = process;
    drop(control);
    match timeout(GOODBYE, child.wait()).await {
        Ok(status) => status,
        Err(_) => reap(&mut child).await,
    }
}

/// Ends a process and waits until the OS says that it is gone.
async fn reap(child: &mut Child) -> io::Result<ExitStatus> {
    // An error means that it is gone already; `wait` tells.
    let _ = child.start_kill();
    child.wait().await
}

/// Keeps worker `worker` alive until told to stop; then lets it go.
pub(crate) async fn supervise(
    team: Rc<Team>,
    worker: u16,
    mut stop: watch::Receiver<bool>,
    first: FirstAnswers,
) {
    let mut backoff = BACKOFF_MIN;
    while !*stop.borrow() {
        let started = Instant::now();
        if let Err(error) = live(&team, worker, &mut stop, &first).await {
            say::note(format!("worker {worker}: {error}"));
            first.borrow_mut()[usize::from(worker)].get_or_insert(Err(error));
        }
        if *stop.borrow() {
            return;
        }
        if started.elapsed() > SETTLED {
            // The first death after a long life: its successor starts at once.
            backoff = BACKOFF_MIN;
            continue;
        }
        let alone = team.stats.ready.load(Relaxed) == 0;
        let pause = if alone { backoff.min(BACKOFF_ALONE) } else { backoff };
        let _ = timeout(pause, stop.wait_for(|stop| *stop)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}
