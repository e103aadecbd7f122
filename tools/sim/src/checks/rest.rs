//! What must hold once nothing more happens.

use dataplane_core::{Shard, Stats, slot::Ledger};

/// Every slot is free.
pub(super) fn slots(shard: &Shard, slots: u32) -> Result<(), String> {
    let ledger = shard.ledger();
    let clean = ledger == Ledger { free: slots, ..Ledger::default() };
    if clean { Ok(()) } else { Err(format!("slots were left behind: {ledger:?}")) }
}

/// No work is reckoned with that is not there.
pub(super) fn load(shard: &Shard) -> Result<(), String> {
    if shard.is_unloaded() { Ok(()) } else { Err("work is reckoned with that is gone".into()) }
}

/// Every chunk is free.
pub(super) fn chunks(shard: &Shard, chunks: u32) -> Result<(), String> {
    let free = shard.free_chunks();
    if free == chunks as usize {
        Ok(())
    } else {
        Err(format!("{free} of {chunks} chunks are free at the end"))
    }
}

/// Each wrong completion was counted, and nothing else was. An impossible reply length counts too,
/// but only where its asker was still there.
pub(super) fn links(stats: &Stats, lies: u64, bad_outcomes: u64) -> Result<(), String> {
    let counted = stats.link_faults.get();
    if (lies..=lies + bad_outcomes).contains(&counted) {
        Ok(())
    } else {
        Err(format!(
            "{counted} link faults counted, {lies} lies and {bad_outcomes} bad outcomes told"
        ))
    }
}

/// No connection is open.
pub(super) fn connections(stats: &Stats) -> Result<(), String> {
    match stats.open.get() {
        0 => Ok(()),
        open => Err(format!("{open} connections are open at the end")),
    }
}
