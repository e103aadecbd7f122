//! The two clocks of a worker.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// CLOCK_MONOTONIC nanoseconds, the same for all processes of the machine: what orders are due by.
pub(crate) fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds since the Unix epoch, for headers.
pub(crate) fn epoch_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

fn nanoseconds(time: Timespec) -> u64 {
    // Neither clock is negative on a machine whose date is after 1970.
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
