//! The universe of one run: a shard, its memory and driver, clients, network, workers, and the
//! clock.

use crate::{
    accounts::Accounts,
    checks::Checks,
    client::{Allowed, Client},
    custody::Custody,
    driver::{Queued, SimDriver},
    memory::SimMemory,
    net::Socket,
    plan::Plan,
    rng::Rng,
    script::Step,
    trace::{Lines, Trace},
    worker::SimWorker,
};
use dataplane_core::{
    Identities, NodeStats, Recall, Shard, Stats,
    driver::{Time, WorkerId},
    limits::MS,
    recall::Bounds,
    trace::{Bounds as Kept, Rings},
    turn,
};
use std::{
    cell::RefCell, cmp::Reverse, collections::BinaryHeap, fmt::Arguments, rc::Rc, sync::Arc,
};

/// Something that happens at a moment. Sockets and workers are named by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A client goes on with its script.
    Client(usize),
    /// Bytes reach the node's OS.
    Arrive(usize),
    /// A stop takes effect.
    Stopped(usize),
    /// The OS takes bytes of a transmit.
    Take(usize),
    /// Bytes reach the client.
    Deliver(usize),
    /// The node's end of a connection is gone.
    Closed(usize),
    /// A worker is through with what it does; life, and whether it may still lie first.
    Work(WorkerId, u32, bool),
    /// The OS notices that a worker is gone.
    WorkerDown(WorkerId),
    /// A worker starts.
    WorkerUp(WorkerId),
    /// The node is told to drain.
    Drain,
    /// Nothing happens, but the world looks.
    Nothing,
}

/// Enough for what the clients of a world ask for.
const REMEMBERED: Bounds = Bounds { entries: 4_096, span: 30_000 * MS, answers: 256 };

/// Longest time between a turn that was asked for and the turn.
pub const LATE_MAX: Time = 20_000;

/// Turns in a row without an event that ask to be run again at once.
const SPINS_MAX: u32 = 50;

/// How long a world without anything due may take to come to rest: longer than every timeout of the
/// shard.
const REST: Time = 25_000 * MS;

/// Records of requests: as many as a run has, as a rule.
const REMEMBERED_STORIES: Kept = Kept { records: 1 << 12, sample: 0.5 };

/// One run.
#[derive(Debug)]
pub struct World {
    /// What this run consists of.
    pub plan: Plan,
    /// Virtual time.
    pub now: Time,
    /// The shard under test.
    pub shard: Shard,
    /// What it remembers of requests.
    pub recall: Arc<Recall>,
    /// Its memory.
    pub mem: SimMemory,
    /// Its driver.
    pub driver: SimDriver,
    /// Its counters.
    pub stats: Arc<Stats>,
    /// The clients, by number.
    pub clients: Vec<Client>,
    /// What judges the run.
    pub checks: Checks,
    /// Whom the node knows.
    pub identities: Arc<Identities>,
    pub(crate) accounts: Accounts,
    /// What happened.
    pub trace: Rc<RefCell<Trace>>,
    pub(crate) custody: Rc<Custody>,
    pub(crate) rng: Rng,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) workers: Vec<SimWorker>,
    pub(crate) allowed: Allowed,
    pub(crate) stalled: bool,
    /// Faults are over.
    pub(crate) calm: bool,
    /// Outcomes that no honest worker would state.
    pub(crate) bad_outcomes: u64,
    heap: BinaryHeap<Reverse<(Time, u64, Due)>>,
    sequence: u64,
    spins: u32,
    last_due: Time,
    failure: Option<String>,
}

impl World {
    /// The world of this plan; clients come with [`Self::add_client`], or all at once from
    /// [`Self::populate`].
    #[must_use]
    pub fn new(plan: Plan, lines: Lines) -> Self {
        let stats = Stats::new();
        let node = NodeStats::new(vec![stats.clone()], plan.workers);
        let custody = Rc::new(Custody::new(plan.geometry.slots()));
        let trace = Rc::new(RefCell::new(Trace::new(lines)));
        let recall = Arc::new(Recall::new(REMEMBERED, plan.seed));
        let table = dataplane_core::connection_table(plan.limits.connections);
        let identities = Arc::new(Identities::new(plan.policy.clone(), plan.places));
        let rings = Rings::new(1, REMEMBERED_STORIES);
        let faults = &plan.faults;
        let allowed = Allowed {
            worker_failed: faults.crashes > 0 || faults.bad_outcomes > 0,
            leaving: false,
            draining: faults.drain_at.is_some(),
            crowded: faults.crowd,
            cramped: plan.geometry.chunks == 1,
            overloaded: false,
            limited: false,
        };
        let mut world = Self {
            now: MS,
            shard: Shard::new(
                plan.limits.clone(),
                plan.geometry,
                plan.workers,
                stats.clone(),
                node,
            )
            .with_identities(Arc::clone(&identities))
            .with_recall(Arc::clone(&recall), 0)
            .with_trace(Arc::clone(&rings), 0),
            recall,
            identities,
            accounts: Accounts::default(),
            mem: SimMemory::new(plan.geometry, custody.clone()),
            driver: SimDriver::new(table, plan.geometry, custody.clone(), trace.clone()),
            checks: Checks::new(&plan, stats.clone(), rings),
            stats,
            clients: Vec::new(),
            trace,
            custody,
            rng: Rng::new(plan.seed),
            sockets: Vec::new(),
            workers: (0..plan.workers).map(SimWorker::new).collect(),
            allowed,
            stalled: false,
            calm: false,
            bad_outcomes: 0,
            heap: BinaryHeap::new(),
            sequence: 0,
            spins: 0,
            last_due: 0,
            failure: None,
            plan,
        };
        for worker in 0..world.plan.workers {
            let delay = world.rng.below(world.plan.service_max + 1);
            world.after(delay, Due::WorkerUp(WorkerId(worker)));
        }
        if let Some(at) = world.plan.faults.drain_at {
            world.after(at, Due::Drain);
        }
        world
    }

    /// The plan's clients with scripts drawn from its seed.
    pub fn populate(&mut self) {
        self.allow_overload();
        for client in 0..self.plan.clients {
            let mut rng = self.rng.fork(client as u64);
            let script = crate::script::draw(&self.plan, &mut rng, client);
            self.add_client(script);
        }
    }

    /// One more client; returns its number.
    pub fn add_client(&mut self, script: Vec<Step>) -> usize {
        let client = self.clients.len();
        self.clients.push(Client::of(script, &self.plan, client));
        self.clients[client].scheduled = true;
        let delay = self.rng.below(self.plan.pause_max + 1);
        self.after(delay, Due::Client(client));
        client
    }

    /// Gives a client more to do.
    pub fn extend_client(&mut self, client: usize, steps: Vec<Step>) {
        self.clients[client].script.extend(steps);
        self.wake(client);
    }

    /// Makes sure that the world does not skip this moment.
    pub fn wake_at(&mut self, at: Time) {
        self.at(at, Due::Nothing);
    }

    /// Wrong completions that the shard has seen.
    #[must_use]
    pub const fn lies_told(&self) -> u64 {
        self.driver.lies_told
    }

    /// Refusals because of load are no fault of this world.
    pub const fn allow_overload(&mut self) {
        self.allowed.overloaded = true;
    }

    /// The node is told to drain.
    pub fn drain(&mut self) {
        self.allowed.draining = true;
        self.after(0, Due::Drain);
    }

    /// From now on, clients may be refused for being over their usual rate.
    pub fn expect_limited(&mut self, limited: bool) {
        self.allowed.limited = limited;
    }

    /// Another process takes over: peers are asked to leave.
    pub fn hand_over(&mut self) {
        self.allowed.leaving = true;
        self.driver.events.push_back(Queued::Leave);
        self.after(0, Due::Nothing);
    }

    pub(crate) fn after(&mut self, delay: Time, due: Due) {
        self.at(self.now + delay, due);
    }

    pub(crate) fn at(&mut self, at: Time, due: Due) {
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, due)));
    }

    pub(crate) fn note(&self, what: Arguments<'_>) {
        self.trace.borrow_mut().note(self.now, what);
    }

    /// Refusals that this client may get.
    pub(crate) fn allowed(&self, client: usize) -> Allowed {
        let bounds = self.plan.allowance(client);
        // Where names outnumber places, one may lose its place before its connection is seen.
        let short_of_places = self.plan.names.len() >= self.plan.places as usize;
        let few =
            bounds.connections != u32::MAX || (short_of_places && self.plan.name(client).is_some());
        let limited = self.allowed.limited
            || bounds.requests_per_second != u32::MAX
            || bounds.requests != u32::MAX
            || bounds.bytes != u64::MAX;
        Allowed { crowded: self.allowed.crowded || few, limited, ..self.allowed }
    }

    /// Notes what a client found wrong.
    pub(crate) fn judge(&mut self, client: usize, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.fail(format!("client {client}: {what}"));
        }
    }

    fn fail(&mut self, what: String) {
        self.note(format_args!("FAILED {what}"));
        self.failure.get_or_insert(what);
    }

    /// Everything that is due by now.
    fn pump(&mut self) {
        while let Some(Reverse((at, ..))) = self.heap.peek() {
            if *at > self.now {
                return;
            }
            let Some(Reverse((_, _, due))) = self.heap.pop() else { return };
            self.last_due = self.now;
            match due {
                Due::Client(client) => self.act(client),
                Due::Arrive(socket) => self.arrive(socket),
                Due::Stopped(socket) => self.stopped(socket),
                Due::Take(socket) => self.take(socket),
                Due::Deliver(socket) => self.deliver(socket),
                Due::Closed(socket) => self.closed(socket),
                Due::Work(worker, life, may_lie) => self.work(worker, life, may_lie),
                Due::WorkerDown(worker) => self.worker_down(worker),
                Due::WorkerUp(worker) => self.worker_up(worker),
                Due::Nothing => {}
                Due::Drain => self.driver.events.push_back(Queued::Drain),
            }
        }
    }

    /// One step: what is due, one turn of the shard, and on to the next thing due. False when
    /// nothing more will happen.
    ///
    /// # Errors
    /// The first thing that was found wrong.
    pub fn step(&mut self) -> Result<bool, String> {
        self.calm = self.calm || self.clients.iter().all(Client::is_done);
        self.pump();
        self.driver.now = self.now;
        let events = turn(&mut self.shard, &mut self.mem, &mut self.driver);
        if let Err(what) =
            self.accounts.after_turn(&self.plan, &self.clients, &self.mem, &self.driver)
        {
            self.fail(what);
        }
        if let Err(what) =
            self.checks.after_turn(self.now, &self.shard, &self.mem, &mut self.driver)
        {
            self.fail(what);
        }
        for (worker, slots) in std::mem::take(&mut self.driver.lends) {
            self.lent(worker, slots);
        }
        self.carry_out();
        if let Some(what) = self.custody.first_breach() {
            self.fail(what);
        }
        if let Some(what) = self.failure.clone() {
            return Err(what);
        }
        self.advance(events)
    }

    /// Moves the clock to whatever comes next.
    fn advance(&mut self, events: usize) -> Result<bool, String> {
        let lateness =
            1 + self.rng.below(if self.plan.network.effect_max > 0 { LATE_MAX } else { 1 });
        let soon = self.now + lateness;
        let until = self.driver.until;
        if events == 0 && until.is_some_and(|until| until <= self.now) {
            self.spins += 1;
            if self.spins > SPINS_MAX {
                return Err(format!("the shard spins: it asks for {until:?} at {}", self.now));
            }
        } else {
            self.spins = 0;
        }
        if !self.driver.events.is_empty() {
            self.now = soon;
            return Ok(true);
        }
        let due = self.heap.peek().map(|Reverse((at, ..))| *at);
        let Some(next) = due.into_iter().chain(until).min() else { return Ok(false) };
        if due.is_none() && self.now > self.last_due + REST {
            return Err(format!("nothing is due, and the world is not at rest: {}", self.unrest()));
        }
        self.now = next.max(soon);
        Ok(true)
    }

    /// Runs until nothing more will happen, then judges the end.
    ///
    /// # Errors
    /// The first thing that was found wrong.
    pub fn run(&mut self) -> Result<(), String> {
        let mut steps: u64 = 0;
        while self.step()? {
            steps += 1;
            if steps > 5_000_000 {
                let due = self.heap.peek();
                return Err(format!("no rest: {due:?} is due, {}", self.unrest()));
            }
        }
        self.at_rest()
    }

    /// Runs until `what` holds.
    ///
    /// # Errors
    /// The first thing that was found wrong, or that the world came to rest before.
    pub fn run_until(&mut self, mut what: impl FnMut(&Self) -> bool) -> Result<(), String> {
        while !what(self) {
            if !self.step()? && !what(self) {
                return Err("the world came to rest before what was waited for".into());
            }
        }
        Ok(())
    }

    /// What still holds the world up.
    fn unrest(&self) -> String {
        let waiting = self.clients.iter().enumerate().filter(|(_, c)| !c.is_done());
        let clients: Vec<String> = waiting
            .map(|(n, c)| {
                format!("client {n} waits for {:x?}", c.pending.keys().collect::<Vec<_>>())
            })
            .collect();
        format!("{clients:?}, {:?}", self.shard.ledger())
    }

    fn at_rest(&mut self) -> Result<(), String> {
        if self.clients.iter().any(|client| !client.is_done()) {
            return Err(format!("some wait for ever: {}", self.unrest()));
        }
        self.accounts.at_rest(&self.plan, &self.identities)?;
        self.checks.at_rest(&self.shard, self.driver.lies_told, self.bad_outcomes)
    }
}
