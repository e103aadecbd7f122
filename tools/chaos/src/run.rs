//! A run: clients, faults by plan, and what is to be said of it.

use crate::{
    client::{Client, Field, Target, TimeLine},
    inject::{inflict, until_whole},
    ledger::Account,
    operator::Operator,
    plan::{Fault, Kind, Plan},
    requests::Requests,
    stage::{Ground, Stage, WORKERS, setup},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Clients through the bad network, and beside it.
const FAR: u16 = 4;
const NEAR: u16 = 3;
/// A request without an outcome for this long, on a connection that lives, is lost.
pub(crate) const GRACE: Duration = Duration::from_secs(20);
/// The rate counts as full again where so much of it is reached over [`WINDOW`].
const FULL: f64 = 0.95;
const WINDOW: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) kinds: Vec<Kind>,
    /// Leave kinds out by the seed.
    pub(crate) swarm: bool,
    /// Requests per second over all clients.
    pub(crate) rate: f64,
}

/// How long the answers stayed away after a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery {
    pub(crate) kind: Kind,
    /// To the next right answer.
    pub(crate) first: Option<Duration>,
    /// To the full rate.
    pub(crate) full: Option<Duration>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    /// Faults that happened, by kind.
    pub(crate) happened: BTreeMap<Kind, u64>,
    pub(crate) account: Account,
    pub(crate) recoveries: Vec<Recovery>,
    pub(crate) restarts: u64,
    pub(crate) gathers: (u64, u64),
    pub(crate) troubles: Vec<String>,
    /// Of the node's last life.
    pub(crate) counters: BTreeMap<String, u64>,
}

impl Outcome {
    /// Nothing was lost, doubled, misled or wrong, and nothing else went wrong.
    pub(crate) fn holds(&self) -> bool {
        self.account.holds() && self.troubles.is_empty() && self.account.answered > 0
    }
}

/// Starts clients at these places in turn.
pub(crate) fn start_clients(targets: &[Target], field: &Arc<Field>) -> Vec<Client> {
    let start = |(number, target): (usize, &Target)| {
        Client::start(number as u16, Arc::clone(target), Arc::clone(field))
    };
    targets.iter().enumerate().map(start).collect()
}

/// Waits for all clients; the sum of their accounts.
pub(crate) fn finish(clients: Vec<Client>) -> Account {
    let mut sum = Account::default();
    clients.into_iter().for_each(|client| sum.add(&client.finish()));
    sum
}

/// Runs the plan of a seed.
///
/// # Errors
/// Why it could not start.
pub(crate) fn run(ask: &Ask, announce: impl FnOnce(&Plan)) -> Result<Outcome, String> {
    let ground = Ground::new().map_err(|error| error.to_string())?;
    let of_the_disk = |kind: &Kind| matches!(kind, Kind::DiskFull | Kind::DiskReadOnly);
    let mut kinds = ask.kinds.clone();
    if !ground.has_disk && kinds.iter().any(of_the_disk) {
        eprintln!("no disk of its own for the state (that takes root): disk faults are left out");
        kinds.retain(|kind| !of_the_disk(kind));
    }
    let plan = Plan::new(ask.seed, ask.length, &kinds, ask.swarm);
    announce(&plan);
    let setup = setup(&ground, &[])?;
    let stage = Stage::new(ground, setup, ask.seed)?;
    let requests = Requests::new().map_err(|error| error.to_string())?;
    let clients = FAR + NEAR;
    let field = Arc::new(Field {
        requests,
        rate: ask.rate / f64::from(clients),
        grace: GRACE,
        line: TimeLine::new(ask.length + GRACE),
        stop: AtomicBool::new(false),
    });
    let far = Arc::new(Mutex::new(stage.through_proxy()));
    let near = Arc::new(Mutex::new(stage.direct()));
    let targets: Vec<Target> =
        (0..clients).map(|n| Arc::clone(if n < FAR { &far } else { &near })).collect();
    let running = start_clients(&targets, &field);
    let operator = Operator::start(stage.direct());
    let struck = play(&stage, &plan, field.line.start);
    let end = field.line.start + ask.length;
    thread::sleep(end.saturating_duration_since(Instant::now()));
    if let Err(why) = until_whole(&stage, WORKERS as u64) {
        stage.trouble(why);
    }
    field.stop.store(true, Relaxed);
    let account = finish(running);
    let gathers = operator.finish();
    stage.end();
    Ok(Outcome {
        recoveries: recoveries(&struck, &field.line, ask),
        happened: count(&struck),
        plan,
        account,
        restarts: stage.restarts.load(Relaxed),
        gathers,
        counters: counters(&stage),
        troubles: stage.troubles(),
    })
}

/// Plays a plan, faults of processes and of the network side by side; what happened when.
fn play(stage: &Arc<Stage>, plan: &Plan, start: Instant) -> Vec<(Fault, Instant)> {
    let struck = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for network in [false, true] {
            let struck = &struck;
            scope.spawn(move || {
                for fault in plan.faults.iter().filter(|f| f.kind.is_of_the_network() == network) {
                    thread::sleep((start + fault.at).saturating_duration_since(Instant::now()));
                    let now = Instant::now();
                    if inflict(stage, fault) {
                        struck.lock().unwrap_or_else(PoisonError::into_inner).push((*fault, now));
                    }
                }
            });
        }
    });
    struck.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn count(struck: &[(Fault, Instant)]) -> BTreeMap<Kind, u64> {
    let mut happened = BTreeMap::new();
    for (fault, _) in struck {
        *happened.entry(fault.kind).or_default() += 1;
    }
    happened
}

fn recoveries(struck: &[(Fault, Instant)], line: &TimeLine, ask: &Ask) -> Vec<Recovery> {
    let wanted = ask.rate * WINDOW.as_secs_f64() * FULL;
    let of = |(fault, at): &(Fault, Instant)| {
        // Not the answers that were on their way already.
        let first = line.first_since(*at + Duration::from_millis(10));
        let windows = (0..2_000).map(|n| *at + crate::client::BUCKET * n);
        let full =
            windows.into_iter().find(|from| line.count(*from, *from + WINDOW) as f64 >= wanted);
        let since = |moment: Option<Instant>| moment.map(|it| it.saturating_duration_since(*at));
        Recovery { kind: fault.kind, first: since(first), full: since(full) }
    };
    let kills = |(fault, _): &&(Fault, Instant)| {
        matches!(fault.kind, Kind::WorkerKill | Kind::WorkerHang | Kind::NodeKill)
    };
    struck.iter().filter(kills).map(of).collect()
}

/// Counters of the node that tell what it noticed.
fn counters(stage: &Stage) -> BTreeMap<String, u64> {
    let Some(metrics) = stage.node().metrics() else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for name in [
        "butterfly_link_faults_total",
        "butterfly_overdue_total",
        "butterfly_reclaimed_total",
        "butterfly_worker_starts_total",
        "butterfly_mesh_state_failures_total",
    ] {
        all.insert(name.to_owned(), metrics.total(name).unwrap_or(0));
    }
    for (cause, ends) in metrics.by_label("butterfly_worker_ends_total", "cause") {
        all.insert(format!("butterfly_worker_ends_total {cause}"), ends);
    }
    all
}
