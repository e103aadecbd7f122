//! Which core a thread runs on. Floor and ours are pinned alike, so that only the code differs.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::OnceLock;

/// The core of whatever serves.
pub const SERVER: usize = 0;
/// The core of whatever asks.
pub const CLIENT: usize = 1;

/// The cores of the process as it was started. A thread inherits the cores of the one that made it,
/// so after the first pinning nobody can ask for them any more.
static CORES: OnceLock<Vec<usize>> = OnceLock::new();

/// Moves the calling thread to the `nth` core of the process. On a machine with fewer cores nothing
/// happens, and the answer is false: two polling threads then share one core, and times mean
/// little.
pub fn pin(nth: usize) -> bool {
    let cores = CORES.get_or_init(|| {
        let allowed = sched_getaffinity(None).unwrap_or_default();
        (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
    });
    let Some(&core) = cores.get(nth) else { return false };
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_makes_threads_that_can_be_pinned_elsewhere() {
        let pinned = std::thread::spawn(|| {
            let first = pin(SERVER);
            (first, std::thread::spawn(|| pin(CLIENT)).join())
        });
        let (first, second) = pinned.join().expect("no panic");
        let cores = CORES.get().map_or(0, Vec::len);
        assert_eq!((first, second.ok()), (cores > 0, Some(cores > 1)));
    }
}
