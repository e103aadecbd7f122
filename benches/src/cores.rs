//! Which core a thread runs on. Floor and ours are pinned alike, so that only the code differs.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The core of whatever serves.
pub const SERVER: usize = 0;
/// The core of whatever asks.
pub const CLIENT: usize = 1;

/// Moves the calling thread to the `nth` core it may use. On a machine with fewer cores nothing
/// happens, and the answer is false: two polling threads then share one core, and times mean
/// little.
pub fn pin(nth: usize) -> bool {
    let Ok(allowed) = sched_getaffinity(None) else { return false };
    let Some(core) = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).nth(nth) else {
        return false;
    };
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).is_ok()
}
