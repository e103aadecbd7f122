//! What must hold once nothing more happens.

use dataplane_core::{
    Shard, Stats,
    slot::Ledger,
    stats::Retry,
    trace::{Ring, Rings, Step},
};
use wire::{Operation, trace::End};

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

/// Each admitted request has one story, and one more where another got its answer; what the OS took
/// before the end is told of. Where more ended than are remembered, nothing can be said.
pub(super) fn stories(rings: &Rings, stats: &Stats) -> Result<(), String> {
    let (mut admitted, mut answered, mut out_of_order) = (0, 0, 0);
    for shard in rings.shards() {
        if [&shard.plain, &shard.notable].iter().any(|ring| ring.oldest() > 0) {
            return Ok(());
        }
        let all = |ring: &'static str, it: &Ring| -> Result<Vec<_>, String> {
            let read = |at| it.read(at).ok_or_else(|| format!("no record {at} in the {ring} ring"));
            (0..it.written()).map(read).collect()
        };
        for record in all("plain", &shard.plain)?.into_iter().chain(all("notable", &shard.notable)?)
        {
            admitted += u64::from(record.payload > 0);
            answered += u64::from(record.end == End::Answered);
            let steps: Vec<_> = record.steps.iter().flatten().collect();
            // A worker's word on when it began may be anything between.
            out_of_order += u64::from(!steps.is_sorted() || record.step(Step::Ended).is_none());
        }
    }
    let requests: u64 = Operation::ALL.iter().map(|op| stats.requests(*op)).sum();
    let expected = requests + stats.retries(Retry::TakenOver);
    if admitted != expected {
        return Err(format!("{admitted} stories of {expected} requests that were admitted"));
    }
    if answered < stats.replies.get() {
        return Err(format!("{answered} stories of {} answers", stats.replies.get()));
    }
    if out_of_order > 0 {
        return Err(format!("{out_of_order} stories are out of order"));
    }
    Ok(())
}
