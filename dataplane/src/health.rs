//! Whether workers are well: each is pinged, asked what its answer to is known, and measured, every
//! few seconds. It is healthy only if all checks hold; batches go to healthy ones while there are
//! any, and a worker that answers wrongly is replaced.
//!
//! [`patient`] decides and knows neither clocks nor processes; [`mod@watch`] feeds it; [`board`]
//! shows what was found.

pub(crate) mod board;
pub(crate) mod gpu;
mod patient;
mod usage;
mod watch;

pub(crate) use board::Board;
pub(crate) use watch::{Care, Subject, watch};

use std::time::Duration;

/// What a healthy worker keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// From round to round.
    pub(crate) every: Duration,
    /// Longest silence, and longest that a worker may take to answer a ping (HEALTH-01).
    pub(crate) ping: Duration,
    /// Longest that a canary may take from when the worker takes it up (HEALTH-03).
    pub(crate) canary: Duration,
    /// Longest that a canary may wait for its turn behind others' requests.
    pub(crate) patience: Duration,
    /// Good rounds in a row until an unhealthy worker is healthy again.
    pub(crate) recover: u32,
}

/// Shares that a healthy worker stays below (HEALTH-04).
pub(crate) const CPU: f64 = 0.90;
pub(crate) const MEMORY: f64 = 0.90;
pub(crate) const GPU: f64 = 0.95;

impl Bounds {
    /// Rounds so often, and requests kept no longer than the node allows.
    pub(crate) const fn new(every: Duration, patience: Duration) -> Self {
        let (ping, canary) = (Duration::from_secs(1), Duration::from_millis(100));
        Self { every, ping, canary, patience, recover: 2 }
    }
}
