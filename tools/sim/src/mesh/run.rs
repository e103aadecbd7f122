//! Runs plans, and shows those that fail.

use super::{
    judge::{Breach, Promise},
    plan::Plan,
    shrink::{Smallest, shrink},
    world::{Totals, World},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a run that kept all promises did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Everything that happened, in one number.
    pub hash: u64,
    /// In several.
    pub totals: Totals,
    /// How often each promise was looked at, in their order.
    pub looked: Vec<u64>,
}

/// Runs a plan to its end.
///
/// # Errors
/// The first promise that is broken; a panic of a core is [`Promise::NeverPanics`].
pub fn run(plan: &Plan) -> Result<Summary, Breach> {
    let mut world = World::new(plan.clone());
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let ended = ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = text.unwrap_or_default();
        Err(Breach { promise: Promise::NeverPanics, at: world.now, what })
    });
    ended.map(|()| Summary {
        hash: world.hash,
        totals: world.totals,
        looked: Promise::ALL.iter().map(|promise| world.judge.looked(*promise)).collect(),
    })
}

/// Makes a failing plan small.
#[must_use]
pub fn smallest(plan: &Plan, breach: Breach) -> Smallest {
    shrink(plan, breach, &|plan| run(plan).err())
}
