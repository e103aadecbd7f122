//! The control thread: everything of a node that is not the data path, on a tokio runtime over
//! io_uring.

mod ending;

use crate::{
    basis,
    certificates::Certificates,
    facts,
    failure::Failure,
    handover::{self, Door as HandoverDoor, Event as Handover, Inherited},
    health::{self, Board, Bounds, Care},
    host,
    listen::Bound,
    memory,
    mesh::{self, link::Links},
    observe::{self, Phase, Standing},
    otlp,
    plan::Plan,
    quic, say,
    settings::Backend,
    shards::Shards,
    signals::Signals,
    supervisor::Supervisor,
    threads::{self, Threads},
    weights,
    workers::{FirstAnswers, Ready, Team, supervise},
};
use dataplane_core::{Identities, NodeStats, Stats, stats::Source};
use link::{Segment, SharedFile, door::Door};
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot, watch,
    },
    task::JoinHandle,
    time::sleep,
};

/// How often start-up looks whether the workers have answered.
const LOOK: Duration = Duration::from_millis(2);

/// Why a node that serves ends.
enum Ending {
    /// A signal of this name.
    Told(&'static str),
    /// Another process serves in its place, and waits for the end of this before it reads
    /// datagrams.
    Succeeded(oneshot::Sender<()>),
}

/// What a node has to do with the processes before and after it.
struct Line {
    /// The socket on which the next one asks.
    door: Option<HandoverDoor>,
    tell: UnboundedSender<Handover>,
    told: UnboundedReceiver<Handover>,
}

/// A started node.
struct Node {
    threads: Threads,
    mesh: mesh::Running,
    team: Rc<Team>,
    first: FirstAnswers,
    stop_workers: watch::Sender<bool>,
    supervisors: Vec<JoinHandle<()>>,
    finished: UnboundedReceiver<u16>,
    stats: Arc<NodeStats>,
    /// Counters of the QUIC listeners, and these once they run.
    quic_counters: Vec<Arc<dataplane_quic::Counters>>,
    quic: quic::Listeners,
    certificates: Arc<Certificates>,
    identities: Arc<Identities>,
    /// What exports traces, where somebody takes them.
    exporter: Option<otlp::Running>,
    standing: Arc<Standing>,
    web: Option<web::Running>,
    web_counters: Arc<web::Counters>,
    /// Where there are GPUs.
    _gpus: Option<health::gpu::Look>,
}

/// Runs a node until it is told to end.
///
/// # Errors
/// Why it could not start, or how it failed.
pub(crate) fn run(plan: &Plan) -> Result<(), Failure> {
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).map_err(|error| {
        Failure::setup(format!(
            "cannot set up io_uring for the control thread: {error}; run `butterfly check`"
        ))
    })?;
    runtime.block_on(serve(plan))
}

async fn serve(plan: &Plan) -> Result<(), Failure> {
    let mut signals = Signals::new(plan)?;
    let supervisor = Supervisor::of_environment();
    let (bound, before) = bind(plan)?;
    announce(plan, &bound)?;
    supervisor.status("starting");
    let weights = match &plan.lm_head {
        None => None,
        Some(path) => Some(weights::load(path).await.map_err(Failure::Setup)?),
    };
    let basis = plan.basis.as_deref().map(basis::load).transpose().map_err(Failure::Setup)?;
    let basis_id = basis.as_ref().map(|basis| basis.id.clone());
    let mut node = Node::start(plan, weights, basis.map(|basis| basis.file))?;
    // Beside a process that serves, probes would meet this one before it does.
    let is_alone = before.is_none();
    if is_alone && let Err(why) = node.show(plan, &bound) {
        node.end().await;
        return Err(Failure::Setup(why));
    }
    let ready = tokio::select! {
        ready = node.workers_ready() => ready,
        name = signals.next() => {
            say::note(format!("{name} during start-up"));
            node.end().await;
            return Ok(());
        }
    };
    let ready = match ready {
        Ok(ready) => ready,
        Err(why) => {
            node.end().await;
            return Err(Failure::Setup(why));
        }
    };
    let basis_id = basis_id.unwrap_or_else(|| "off".to_owned());
    let huge_bytes = node.team.segment.huge_bytes() as u64;
    node.stats.set_facts(facts::of(plan, &ready, basis_id, huge_bytes));
    let opened = node.open(plan, &bound);
    let shown = if is_alone { Ok(()) } else { node.show(plan, &bound) };
    if let Err(why) = opened.and(shown) {
        node.end().await;
        return Err(Failure::Setup(why));
    }
    if let Some(hangup) = signals.hangup.take() {
        let (quic, above) = (node.quic.clone(), Rc::clone(&supervisor));
        tokio_uring::spawn(Arc::clone(&node.certificates).watch(hangup, quic, above));
    }
    for place in bound.places() {
        say::out(format!("listening {}", place.announced(&plan.security)));
    }
    let serving = serving(plan, &ready);
    say::out(format!("ready: {serving}"));
    let mut line = Line::new();
    let took_over = before.is_some();
    if !line.succeed(plan, before) {
        node.quic.serve();
    }
    supervisor.ready(took_over, &format!("serving: {serving}"));
    tokio_uring::spawn(Rc::clone(&supervisor).keep_alive(node.threads.shards.clone()));
    let ending = line.until_end(&node, &bound, &mut signals).await;
    let drained = node.wind_up(ending, plan, bound, (&supervisor, &mut signals)).await;
    node.end().await;
    if drained {
        say::out("drained");
        Ok(())
    } else {
        Err(Failure::run("the drain was cut off: requests under way got no answer"))
    }
}

/// Binds all sockets, or takes those of the process before.
fn bind(plan: &Plan) -> Result<(Bound, Option<Inherited>), Failure> {
    if !plan.quic.is_empty() {
        // Each stream takes a socket here and a place on a shard. What cannot be raised shows when
        // the shards start, or as refused streams.
        let _ = dataplane_uring::probe::raise_descriptor_limit();
    }
    let before = plan.handover.as_deref().map(handover::ask).transpose();
    let mut before = before.map_err(Failure::Setup)?.flatten();
    let inherited = before.as_mut().map(|it| std::mem::take(&mut it.sockets)).unwrap_or_default();
    let bound = Bound::new(plan, inherited).map_err(Failure::Setup)?;
    Ok((bound, before))
}

impl Line {
    fn new() -> Self {
        let (tell, told) = unbounded_channel();
        Self { door: None, tell, told }
    }

    /// Tells the process before, where there is one, that this one serves, and opens the door for
    /// the next. True where the process before reads datagrams still.
    fn succeed(&mut self, plan: &Plan, before: Option<Inherited>) -> bool {
        let Some(path) = &plan.handover else { return false };
        let still_reads = before.is_some_and(|before| match before.ready(self.tell.clone()) {
            Ok(()) => {
                say::out("took over");
                true
            }
            // It will find out by itself, or is gone: this one serves in any case.
            Err(error) => {
                say::note(format!("handover: the process before: {error}"));
                false
            }
        });
        match handover::offer(path, self.tell.clone()) {
            Ok(door) => self.door = Some(door),
            Err(why) => say::note(format!("no handover to the next process: {why}")),
        }
        still_reads
    }

    /// Serves until a signal, or until another process serves.
    async fn until_end(&mut self, node: &Node, bound: &Bound, signals: &mut Signals) -> Ending {
        loop {
            let event = tokio::select! {
                name = signals.next() => return Ending::Told(name),
                event = self.told.recv() => event,
            };
            match event {
                Some(Handover::Asked(reply)) => {
                    say::out("handover: another process starts");
                    node.mesh.release().await;
                    // Without sockets it cannot come up, and says so.
                    let _ = reply.send(bound.share().unwrap_or_default());
                }
                Some(Handover::Kept(why)) => {
                    say::note(format!("handover: {why}; serving on"));
                    node.mesh.resume();
                }
                Some(Handover::Taken(closed)) => {
                    if let Some(door) = &mut self.door {
                        door.replaced();
                    }
                    node.quic.hush();
                    node.threads.shards.leave();
                    let (reads, quiet) = oneshot::channel();
                    let _ = closed.send(quiet);
                    return Ending::Succeeded(reads);
                }
                Some(Handover::Quiet) => node.quic.serve(),
                // This end holds a sender, so it does not come to that.
                None => return Ending::Told("the end"),
            }
        }
    }
}

/// What will be taken and where, before anything is.
fn announce(plan: &Plan, bound: &Bound) -> Result<(), Failure> {
    let items = memory::sum(plan).map_err(Failure::Setup)?;
    say::out(memory::describe(&items));
    for place in bound.places() {
        say::out(format!("address {}", place.announced(&plan.security)));
    }
    if plan.security.insecure && plan.listen.iter().any(|address| !address.ip().is_loopback()) {
        say::note("insecure: plaintext beyond loopback; anyone on the way can read and change it");
    }
    if let Some(http) = &plan.http {
        http.notes(bound).into_iter().for_each(say::note);
    }
    let needed: u64 = items.iter().map(|(_, bytes)| bytes).sum();
    match host::memory_left() {
        Some(available) if needed > available => Err(Failure::setup(format!(
            "this node needs {} and there is {} left: lower --bulk-slots, --small-slots \
             or --max-payload",
            crate::units::Bytes(needed),
            crate::units::Bytes(available),
        ))),
        _ => Ok(()),
    }
}

/// What serves, in a line.
fn serving(plan: &Plan, ready: &Ready) -> String {
    let shards = say::count(plan.shards(), "shard");
    let workers = say::count(plan.workers, "worker");
    format!("{shards}, {workers}, {}", ready.text)
}

fn doors(count: usize) -> Result<Vec<Arc<Door>>, Failure> {
    (0..count).map(|_| Door::new().map(Arc::new)).collect::<Result<_, _>>().map_err(no_doors)
}

fn no_doors(error: impl std::fmt::Display) -> Failure {
    Failure::setup(format!("cannot create a doorbell: {error}; raise ulimit -n"))
}

fn start_workers(
    team: &Rc<Team>,
    workers: u16,
    stop: &watch::Receiver<bool>,
    first: &FirstAnswers,
) -> Vec<JoinHandle<()>> {
    let start = |worker| {
        let (team, first) = (Rc::clone(team), Rc::clone(first));
        tokio_uring::spawn(supervise(team, worker, stop.clone(), first))
    };
    (0..workers).map(start).collect()
}

/// What is counted beside the shards.
fn sources(
    team: &Team,
    mesh: &mesh::Running,
    threads: &Threads,
    quic: &[Arc<dataplane_quic::Counters>],
) -> Vec<Arc<dyn Source>> {
    let mut sources: Vec<Arc<dyn Source>> = vec![
        Arc::clone(&team.stats) as _,
        Arc::clone(&team.care.board) as _,
        Arc::clone(&mesh.counters) as _,
        Arc::clone(&threads.recall) as _,
    ];
    sources.extend(threads.drivers.iter().map(|driver| Arc::clone(driver) as _));
    sources.extend(quic.iter().map(|counters| Arc::clone(counters) as _));
    sources
}

/// Exports traces to whoever is named. Without a thread for that a node serves all the same.
fn exporter(plan: &Plan, threads: &Threads, identities: &Arc<Identities>) -> Option<otlp::Running> {
    let (endpoint, rings) = plan.trace.otlp.clone().zip(threads.rings.clone())?;
    let name = plan.mesh.name.clone();
    otlp::Running::start(endpoint, name, rings, Arc::clone(identities))
        .map_err(|error| {
            say::note(format!("otlp: no thread for it: {error}; no traces are exported"))
        })
        .ok()
}

/// What workers are started with.
fn team(
    plan: &Plan,
    segment: Arc<Segment>,
    (worker_doors, shard_doors): (Vec<Arc<Door>>, Vec<Arc<Door>>),
    (weights, basis): (Option<SharedFile>, Option<SharedFile>),
    shards: &Shards,
    care: Care,
    node: &Arc<NodeStats>,
) -> Rc<Team> {
    Rc::new(Team {
        segment,
        worker_doors,
        shard_doors,
        weights,
        basis,
        care,
        shards: shards.clone(),
        limits: plan.limits.clone(),
        backend: plan.backend,
        devices: plan.devices,
        program: plan.worker_program.clone(),
        poll: plan.poll,
        sandbox: plan.worker_sandbox,
        stats: Arc::default(),
        node: Arc::clone(node),
    })
}

impl Node {
    fn start(
        plan: &Plan,
        weights: Option<SharedFile>,
        basis: Option<SharedFile>,
    ) -> Result<Self, Failure> {
        let certificates = Certificates::new(&plan.security).map_err(Failure::Setup)?;
        let segment = memory::segment(plan).map_err(Failure::Setup)?;
        let shard_doors = doors(plan.shard_cpus.len())?;
        let worker_doors = doors(plan.workers as usize)?;
        let shard_stats = plan.shard_cpus.iter().map(|_| Stats::new()).collect();
        let workers = u16::try_from(plan.workers).unwrap_or(u16::MAX);
        let stats = NodeStats::new(shard_stats, workers);
        let (tell, finished) = unbounded_channel();
        let (links, berths) = Links::new(plan.shard_cpus.len()).map_err(no_doors)?;
        let doors = (&shard_doors[..], &worker_doors[..]);
        let identity = &plan.identity;
        let identities = Arc::new(Identities::new(identity.policy.clone(), identity.places));
        let threads = Threads::start(plan, &segment, doors, &stats, &identities, &tell, berths)
            .map_err(Failure::Setup)?;
        threads::make_room(plan);
        let mesh = match mesh::start(plan, links) {
            Ok(mesh) => mesh,
            Err(why) => {
                threads.stop();
                return Err(Failure::Setup(why));
            }
        };
        let board = Arc::new(Board::new(workers));
        let every = plan.limits.health_every;
        let gpus = health::gpu::Look::begin(plan.devices, every, Arc::clone(&board));
        let bounds = Bounds::new(every, plan.limits.worker_patience);
        let care = Care { bounds, board };
        let doors = (worker_doors, shard_doors);
        let team = team(plan, segment, doors, (weights, basis), &threads.shards, care, &stats);
        let quic_counters: Vec<_> = plan.quic.iter().map(|_| Arc::default()).collect();
        let exporter = exporter(plan, &threads, &identities);
        let web_counters = Arc::<web::Counters>::default();
        let mut sources = sources(&team, &mesh, &threads, &quic_counters);
        sources.extend(exporter.as_ref().map(|it| Arc::clone(&it.counters) as _));
        let others: [Arc<dyn Source>; 3] =
            [certificates.clone(), identities.clone(), web_counters.clone()];
        sources.extend(others);
        stats.set_sources(sources);
        let first: FirstAnswers = Rc::new(RefCell::new(vec![None; usize::from(workers)]));
        let (stop_workers, stop) = watch::channel(false);
        let supervisors = start_workers(&team, workers, &stop, &first);
        Ok(Self {
            threads,
            mesh,
            team,
            first,
            stop_workers,
            supervisors,
            finished,
            stats,
            quic_counters,
            quic: quic::Listeners::default(),
            certificates,
            identities,
            exporter,
            standing: Arc::default(),
            web: None,
            web_counters,
            _gpus: gpus,
        })
    }

    /// Shows what there is to see, over HTTP.
    fn show(&mut self, plan: &Plan, bound: &Bound) -> Result<(), String> {
        let (Some(plan), Some(listener)) = (&plan.http, bound.http()?) else { return Ok(()) };
        let seen = observe::Seen {
            stats: Arc::clone(&self.stats),
            shards: self.threads.shards.clone(),
            mesh: self.mesh.asker(),
            standing: Arc::clone(&self.standing),
            board: Arc::clone(&self.team.care.board),
            rings: self.threads.rings.clone(),
            is_open: plan.is_open(),
        };
        self.web = Some(seen.show(listener, plan, Arc::clone(&self.web_counters))?);
        Ok(())
    }

    /// Opens the doors. Datagrams are not read yet.
    fn open(&self, plan: &Plan, bound: &Bound) -> Result<(), String> {
        let shards = &self.threads.shards;
        if let Some(acceptor) = self.certificates.acceptor() {
            let (sockets, counters) = (bound.quic()?, &self.quic_counters);
            self.quic.start(plan, sockets, shards, (acceptor, &self.identities), counters)?;
        }
        let gate = self.certificates.gate(&self.identities);
        shards.listen(bound.open()?, |place| {
            gate.clone().filter(|_| place.is_secure(&plan.security))
        });
        // Before the page opens: a successor shares its socket with the process before, and whoever
        // asks it is to find it ready.
        self.standing.set(Phase::Serving);
        Ok(())
    }

    /// Waits for every worker's first answer, and until every shard knows one that is up; gives a
    /// ready one, or the reason of the first that refused when none is.
    async fn workers_ready(&self) -> Result<Ready, String> {
        while self.first.borrow().iter().any(Option::is_none) {
            sleep(LOOK).await;
        }
        let ready = self.ready_worker()?;
        // Who serves is ready: a shard learns of its workers a turn later than this thread.
        while self.stats.shards().iter().any(|shard| shard.workers_up.get() == 0) {
            sleep(LOOK).await;
        }
        Ok(ready)
    }

    fn ready_worker(&self) -> Result<Ready, String> {
        let answers = self.first.borrow();
        let mut ready = answers.iter().flatten().filter_map(|said| said.as_ref().ok());
        if let Some(ready) = ready.next() {
            return Ok(ready.clone());
        }
        let why = answers.iter().flatten().find_map(|said| said.as_ref().err());
        let why = why.map_or("no worker was configured", String::as_str);
        let hint = match self.team.backend {
            Backend::Cuda => "; --backend cpu or auto works without a GPU",
            Backend::Auto | Backend::Cpu => "",
        };
        Err(format!("no worker became ready: {why}{hint}"))
    }

    /// Ends shards, then workers: those may only go once nobody lends to them any more.
    async fn end(self) {
        self.quic.end().await;
        if let Some(web) = self.web {
            web.stop();
        }
        self.threads.stop();
        self.mesh.stop();
        let _ = self.stop_workers.send(true);
        for supervisor in self.supervisors {
            let _ = supervisor.await;
        }
        if let Some(exporter) = self.exporter {
            exporter.stop();
        }
    }
}
