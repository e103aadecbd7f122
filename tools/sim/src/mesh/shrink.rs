//! Makes a failing run small: fewer faults, fewer agents, less time, as long as the same promise is
//! still broken.

use super::{
    engine::Time,
    judge::{Breach, Promise},
    plan::Plan,
};
use fleet::SECOND;

/// Runs that shrinking may take.
const RUNS_MAX: u32 = 250;

/// The smallest failing run that was found.
#[derive(Clone, Debug)]
pub struct Smallest {
    /// The run.
    pub plan: Plan,
    /// What it breaks.
    pub breach: Breach,
    /// Runs that it took.
    pub runs: u32,
}

struct Search<'a> {
    run: &'a dyn Fn(&Plan) -> Option<Breach>,
    promise: Promise,
    best: Smallest,
}

impl Search<'_> {
    /// Whether this plan fails likewise; then it is the best one.
    fn fails(&mut self, plan: Plan) -> bool {
        if self.best.runs >= RUNS_MAX {
            return false;
        }
        self.best.runs += 1;
        match (self.run)(&plan) {
            Some(breach) if breach.promise == self.promise => {
                self.best.plan = plan;
                self.best.breach = breach;
                true
            }
            _ => false,
        }
    }

    /// Leaves out runs of faults: halves, then quarters, down to single ones.
    fn faults(&mut self) {
        let mut part = self.best.plan.faults.len();
        while part > 0 {
            let mut from = 0;
            while from < self.best.plan.faults.len() {
                let mut plan = self.best.plan.clone();
                plan.faults.drain(from..(from + part).min(plan.faults.len()));
                if !self.fails(plan) {
                    from += part;
                }
            }
            part /= 2;
        }
    }

    /// Bisects down to the least number in `1..=now` with which it still fails, as far as failing
    /// is monotone in it.
    fn least(&mut self, now: u64, with: impl Fn(&Plan, u64) -> Plan) {
        let (mut low, mut high) = (0, now);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let plan = with(&self.best.plan, middle);
            if self.fails(plan) {
                high = middle;
            } else {
                low = middle;
            }
        }
    }

    /// Makes the run shorter. Faults strike at the same share of it.
    fn duration(&mut self) {
        let seconds: Time = self.best.plan.duration / SECOND;
        self.least(seconds, |plan, seconds| {
            let mut plan = plan.clone();
            plan.duration = seconds * SECOND;
            plan
        });
    }
}

/// Shrinks a plan that breaks a promise when `run`.
#[must_use]
pub fn shrink(plan: &Plan, breach: Breach, run: &dyn Fn(&Plan) -> Option<Breach>) -> Smallest {
    let promise = breach.promise;
    let best = Smallest { plan: plan.clone(), breach, runs: 0 };
    let mut search = Search { run, promise, best };
    search.faults();
    if search.best.plan.children > 0 {
        let mut plan = search.best.plan.clone();
        plan.children = 0;
        search.fails(plan);
    }
    search.least(u64::from(search.best.plan.agents), |plan, agents| {
        let mut plan = plan.clone();
        plan.agents = agents as u32;
        plan
    });
    search.duration();
    search.faults();
    search.best
}
