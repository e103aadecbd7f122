//! The judges of a run. Clients judge their answers ([`crate::client`]), memory and driver judge
//! how the shard keeps the rules of the seam; here are the judges of slots, batches and links.

mod batches;
mod rest;

use crate::{
    driver::{Learned, SimDriver},
    memory::SimMemory,
    plan::Plan,
};
use batches::Batches;
use dataplane_core::{Shard, Stats, driver::Time, trace::Rings};
use std::sync::Arc;

pub use batches::Lent;

/// All of them.
#[derive(Debug)]
pub struct Checks {
    /// Batches as they were lent.
    pub batches: Batches,
    slots: u32,
    chunks: u32,
    stats: Arc<Stats>,
    /// What became of requests.
    rings: Arc<Rings>,
    drained: bool,
}

impl Checks {
    /// Judges for a run of this plan.
    #[must_use]
    pub fn new(plan: &Plan, stats: Arc<Stats>, rings: Arc<Rings>) -> Self {
        Self {
            batches: Batches::new(plan, stats.clone()),
            slots: plan.geometry.slots(),
            chunks: plan.geometry.chunks,
            stats,
            rings,
            drained: false,
        }
    }

    /// After every turn.
    ///
    /// # Errors
    /// What is wrong.
    pub fn after_turn(
        &mut self,
        now: Time,
        shard: &Shard,
        mem: &SimMemory,
        driver: &mut SimDriver,
    ) -> Result<(), String> {
        let ledger = shard.ledger();
        if ledger.total() != self.slots {
            return Err(format!("the ledger lost count: {ledger:?} of {} slots", self.slots));
        }
        if ledger.ready > 0 {
            return Err(format!("an answer was neither sent nor dropped in its turn: {ledger:?}"));
        }
        for learned in std::mem::take(&mut driver.learned) {
            self.drained |= learned == Learned::Drain;
            self.batches.learned(learned);
        }
        self.batches.after_turn(now, mem, &driver.lends, ledger, self.drained)
    }

    /// When nothing more will happen.
    ///
    /// # Errors
    /// What was left behind.
    pub fn at_rest(&self, shard: &Shard, lies: u64, bad_outcomes: u64) -> Result<(), String> {
        rest::slots(shard, self.slots)?;
        rest::load(shard)?;
        rest::chunks(shard, self.chunks)?;
        rest::links(&self.stats, lies, bad_outcomes)?;
        rest::connections(&self.stats)?;
        rest::stories(&self.rings, &self.stats)?;
        if self.drained && !shard.finished() {
            return Err("drained, and nothing is under way, but the shard is not finished".into());
        }
        Ok(())
    }
}
