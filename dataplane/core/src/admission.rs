//! Admission: how long a request would wait, and whether it is let in.
//!
//! Work is measured in nanoseconds of one worker. What a request of a shape class costs is learned
//! from batches that waited behind another one, by the time between two returns: it holds whatever
//! the worker does for other shards, and whatever the way there and back takes. What waits and what
//! is lent is kept as sums, so an estimate takes a few additions.
//!
//! A burst may fill the queue up to the target. Where no worker comes to rest any more it is no
//! burst, but a queue that stands: it is cut to a fraction of the target, which keeps workers as
//! busy and everybody less long (the idea of CoDel). Estimates that nothing bears out refuse
//! nobody: they count only while requests are seen to wait.

use crate::{
    driver::Time,
    limits::{
        LATE_PART, MS, QUEUE_SHARES, RETRY_AFTER_MAX, STANDING_PART, STANDING_TARGETS,
        STARVED_TARGETS,
    },
    slot::Tenant,
    stats::Shed,
};
use wire::{Operation, Priority, Work};

const OPERATIONS: usize = 8;
const PRIORITIES: usize = Priority::ALL.len();
/// Codings have codes below this.
const CODINGS: usize = 32;
/// Powers of two of row bytes.
const MAGNITUDES: usize = 33;
const CLASSES: usize = OPERATIONS * CODINGS * MAGNITUDES;
/// A sample moves an estimate by one part in so many.
const WEIGHT: Time = 8;
/// A sample over so many times the estimate counts as that: one stall teaches little.
const OUTLIER: Time = 4;

const _: () = {
    let mut at = 0;
    while at < wire::Coding::ALL.len() {
        assert!((wire::Coding::ALL[at].code() as usize) < CODINGS);
        at += 1;
    }
};

/// What happened in an interval.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    since: Time,
    /// Some worker had nothing to do.
    rested: bool,
    admitted: u64,
    refused: u64,
}

/// What one shard knows of its load.
#[derive(Debug)]
pub struct Admission {
    target: Time,
    /// Cost of a request by class; 0 for one that is not known.
    costs: Box<[Time]>,
    /// Work that waits, by operation and priority.
    waiting: [[Time; PRIORITIES]; OPERATIONS],
    /// Work that is lent, by operation.
    lent: [Time; OPERATIONS],
    /// Requests that wait.
    queued: u32,
    /// Workers that serve each operation.
    servers: [u32; OPERATIONS],
    /// Operations (a bit each) that share a worker with each.
    rivals: [u32; OPERATIONS],
    /// How long the oldest of the batch that was lent last had waited.
    lag: Time,
    /// The queue stands.
    standing: bool,
    /// What was seen since the last look at that.
    seen: Seen,
}

fn class(work: &Work) -> usize {
    let magnitude = (u32::BITS - work.data_len.leading_zeros()) as usize;
    let operation = usize::from(work.operation.code()) * CODINGS;
    (operation + usize::from(work.coding.code())) * MAGNITUDES + magnitude
}

impl Admission {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(target: Time) -> Self {
        Self {
            target: target.max(1),
            costs: vec![0; CLASSES].into(),
            waiting: [[0; PRIORITIES]; OPERATIONS],
            lent: [0; OPERATIONS],
            queued: 0,
            servers: [0; OPERATIONS],
            rivals: [0; OPERATIONS],
            lag: 0,
            standing: false,
            seen: Seen::default(),
        }
    }

    /// Bytes that [`Self::new`] takes.
    #[must_use]
    pub const fn bytes() -> u64 {
        (CLASSES * size_of::<Time>()) as u64
    }

    /// The workers that are up, by the operations that each serves.
    pub fn workers(&mut self, up: impl Iterator<Item = u32>) {
        (self.servers, self.rivals) = ([0; OPERATIONS], [0; OPERATIONS]);
        for operations in up {
            for operation in Operation::ALL {
                if operations & (1 << operation.code()) != 0 {
                    self.servers[usize::from(operation.code())] += 1;
                    self.rivals[usize::from(operation.code())] |= operations;
                }
            }
        }
    }

    /// What such work costs as far as is known.
    #[must_use]
    pub fn cost(&self, work: &Work) -> Time {
        self.costs[class(work)]
    }

    /// A batch of so many requests like this took so long, counted from when its worker could begin
    /// with it.
    pub fn learn(&mut self, work: &Work, requests: u32, took: Time) {
        let cost = &mut self.costs[class(work)];
        let sample = took / Time::from(requests.max(1));
        *cost = match *cost {
            0 => sample,
            known => (known * (WEIGHT - 1) + sample.min(known * OUTLIER)) / WEIGHT,
        };
    }

    /// A request begins to wait.
    pub fn queue(&mut self, tenant: &Tenant) {
        self.queued += 1;
        *self.place(tenant) += tenant.cost;
    }

    /// It waits no more.
    pub fn unqueue(&mut self, tenant: &Tenant) {
        self.queued = self.queued.saturating_sub(1);
        let place = self.place(tenant);
        *place = place.saturating_sub(tenant.cost);
    }

    /// A worker has it.
    pub fn lend(&mut self, tenant: &Tenant) {
        self.lent[usize::from(tenant.work.operation.code())] += tenant.cost;
    }

    /// No worker has it any more.
    pub fn unlend(&mut self, tenant: &Tenant) {
        let lent = &mut self.lent[usize::from(tenant.work.operation.code())];
        *lent = lent.saturating_sub(tenant.cost);
    }

    fn place(&mut self, tenant: &Tenant) -> &mut Time {
        let operation = usize::from(tenant.work.operation.code());
        &mut self.waiting[operation][usize::from(tenant.priority.code())]
    }

    /// A batch is lent whose oldest request had waited since `arrived`.
    pub fn lending(&mut self, now: Time, arrived: Time) {
        self.lag = now.saturating_sub(arrived);
    }

    /// All that could be lent in this turn is, and some worker still has nothing to do.
    pub const fn rest(&mut self, now: Time) {
        self.look(now);
        (self.lag, self.seen.rested) = (0, true);
    }

    /// Whether the queue stands, once in an interval: no worker came to rest in it, or one did only
    /// because many were refused.
    const fn look(&mut self, now: Time) {
        let Seen { since, rested, admitted, refused } = self.seen;
        if now.saturating_sub(since) >= STANDING_TARGETS * self.target {
            self.standing = !rested || refused * STANDING_PART > admitted + refused;
            self.seen = Seen { since: now, rested: false, admitted: 0, refused: 0 };
        }
    }

    /// How long a request of this priority would wait for a worker.
    #[must_use]
    pub fn wait(&self, operation: Operation, priority: Priority) -> Time {
        let operation = usize::from(operation.code());
        let rivals = self.rivals[operation] | 1 << operation;
        let above = usize::from(priority.code())..PRIORITIES;
        let ahead = |rival: usize| -> Time {
            self.lent[rival] + self.waiting[rival][above.clone()].iter().sum::<Time>()
        };
        let ahead: Time = (0..OPERATIONS).filter(|r| rivals & (1 << r) != 0).map(ahead).sum();
        ahead / Time::from(self.servers[operation].max(1))
    }

    /// How long it may.
    #[must_use]
    pub const fn bound(&self, priority: Priority) -> Time {
        let share = self.target * QUEUE_SHARES[priority.code() as usize] / 8;
        if self.standing { share / STANDING_PART } else { share }
    }

    /// Whether requests are seen to wait for so long that estimates count.
    #[must_use]
    pub const fn is_late(&self, priority: Priority) -> bool {
        self.is_seen(self.bound(priority))
    }

    /// Whether a request may come in now. `idle` says that some worker that serves it has nothing
    /// to do.
    ///
    /// # Errors
    /// Why it would only wait in vain, or for too long.
    pub fn judge(
        &mut self,
        now: Time,
        work: &Work,
        priority: Priority,
        deadline: Time,
        idle: impl FnOnce() -> bool,
    ) -> Result<(), Shed> {
        self.look(now);
        let verdict = self.verdict(now, work, priority, deadline);
        // What goes to an idle worker waits for nothing, however much the others have to do.
        let verdict = verdict.or_else(|reason| {
            let free = self.queued == 0 && idle();
            if free { Ok(()) } else { Err(reason) }
        });
        *if verdict.is_ok() { &mut self.seen.admitted } else { &mut self.seen.refused } += 1;
        verdict
    }

    fn verdict(
        &self,
        now: Time,
        work: &Work,
        priority: Priority,
        deadline: Time,
    ) -> Result<(), Shed> {
        // Where nothing is ahead the estimate is of the request itself, and only running it can
        // put that right.
        let wait = self.wait(work.operation, priority);
        if wait == 0 {
            return Ok(());
        }
        let left = deadline.saturating_sub(now);
        if deadline != 0 && self.is_seen(left) && wait + self.cost(work) > left {
            return Err(Shed::Deadline);
        }
        let late = self.is_late(priority) && wait > self.bound(priority);
        if late { Err(Shed::Queue) } else { Ok(()) }
    }

    /// Whether requests are seen to wait for so long that an estimate over this counts.
    const fn is_seen(&self, wait: Time) -> bool {
        self.lag * LATE_PART >= wait
    }

    /// Whether a request that waits cannot be done in time even if it were the next.
    #[must_use]
    pub fn is_hopeless(&self, now: Time, tenant: &Tenant) -> bool {
        let operation = usize::from(tenant.work.operation.code());
        let lent = self.lent[operation] / Time::from(self.servers[operation].max(1));
        tenant.deadline != 0 && now + lent + tenant.cost > tenant.deadline
    }

    /// Whether a request that others overtake has waited for long enough.
    #[must_use]
    pub const fn is_starved(&self, now: Time, tenant: &Tenant) -> bool {
        now.saturating_sub(tenant.arrived) > STARVED_TARGETS * self.target
    }

    /// When to try again, milliseconds: when what waits now will be done.
    #[must_use]
    pub fn retry_after_ms(&self) -> u32 {
        let waits = Operation::ALL.iter().map(|op| self.wait(*op, Priority::Background));
        let wait = waits.max().unwrap_or(0).max(self.lag).min(RETRY_AFTER_MAX);
        wait.div_ceil(MS).max(1) as u32
    }

    /// Nothing waits and nothing is lent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let waiting: Time = self.waiting.iter().flatten().sum();
        self.queued == 0 && waiting + self.lent.iter().sum::<Time>() == 0
    }
}
