//! One seed, run once, or again with its trace.

use crate::{plan::Plan, trace::Lines, world::World};
use dataplane_core::driver::Time;

/// What a good run was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Hash of everything that happened.
    pub hash: u64,
    /// Virtual time it took.
    pub took: Time,
    /// Turns of the shard.
    pub turns: u64,
    /// Answers that clients read.
    pub answers: usize,
}

/// What was wrong with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was found.
    pub what: String,
    /// The last lines of the trace, where it was kept.
    pub trace: Vec<String>,
}

/// Runs the world of a seed.
///
/// # Errors
/// What was found wrong with it.
pub fn run_seed(seed: u64, lines: Lines) -> Result<Summary, Failure> {
    let mut world = World::new(Plan::from_seed(seed), lines);
    world.populate();
    let ran = world.run();
    let trace = world.trace.borrow();
    match ran {
        Ok(()) => Ok(Summary {
            hash: trace.hash(),
            took: world.now,
            turns: world.stats.turns.get(),
            answers: world.clients.iter().map(|client| client.answers.len()).sum(),
        }),
        Err(what) => Err(Failure { seed, what, trace: trace.lines().to_vec() }),
    }
}
