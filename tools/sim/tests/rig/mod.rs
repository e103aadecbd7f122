//! A world under a test's control.
#![allow(dead_code, reason = "each test file uses a part of it")]

use dataplane_core::driver::Time;
use sim::{Plan, World, script::Step, trace::Lines};

/// A world, and what to say when it goes wrong.
pub(crate) struct Rig {
    pub(crate) world: World,
}

impl Rig {
    /// A world of this plan without clients, its workers up.
    pub(crate) fn new(plan: Plan) -> Self {
        let mut rig = Self { world: World::new(plan, Lines::Kept) };
        let workers = u64::from(rig.world.plan.workers);
        rig.until(|world| world.stats.workers_up.get() == workers);
        rig
    }

    /// One more client.
    pub(crate) fn client(&mut self, steps: Vec<Step>) -> usize {
        self.world.add_client(steps)
    }

    /// More for a client to do.
    pub(crate) fn steps(&mut self, client: usize, steps: Vec<Step>) {
        self.world.extend_client(client, steps);
    }

    /// Runs until `what` holds.
    pub(crate) fn until(&mut self, what: impl FnMut(&World) -> bool) {
        let ran = self.world.run_until(what);
        self.expect(ran);
    }

    /// Runs for so long.
    pub(crate) fn after(&mut self, time: Time) {
        let end = self.world.now + time;
        self.world.wake_at(end);
        self.until(|world| world.now >= end);
    }

    /// Lets workers go on, every client end its connection when it has its answers, and the world
    /// come to rest.
    pub(crate) fn finish(mut self) -> World {
        self.world.stall_workers(false);
        for client in 0..self.world.clients.len() {
            self.steps(client, vec![Step::Await, Step::Fin]);
        }
        at_rest(self)
    }

    /// A verdict that must be good.
    pub(crate) fn expect(&self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            let trace = self.world.trace.borrow();
            let lines = trace.lines();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            panic!("{tail}\n{what}");
        }
    }
}

/// Runs until nothing more happens; everything must be in order then.
pub(crate) fn at_rest(mut rig: Rig) -> World {
    let ran = rig.world.run();
    rig.expect(ran);
    rig.world
}
