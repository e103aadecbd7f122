//! What happened lately: counters only grow, so that it takes two looks at them.

use super::{
    Place, Stats,
    histogram::{BUCKETS, Histogram},
};
use crate::driver::Time;
use std::sync::Arc;
use wire::{ErrorCode, Operation};

/// Sums over all shards at one moment.
#[derive(Debug)]
struct Sums {
    replies: u64,
    rows: u64,
    bytes_in: u64,
    bytes_out: u64,
    refused: u64,
    expired: u64,
    latency: [u64; BUCKETS],
}

/// The last look at the counters of some shards.
#[derive(Debug)]
pub struct Recent {
    at: Time,
    sums: Box<Sums>,
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lately {
    /// How long that was.
    pub seconds: f64,
    /// Requests answered by workers.
    pub replies: u64,
    /// Rows of their answers.
    pub rows: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Refusals.
    pub refused: u64,
    /// Deadlines that passed.
    pub expired: u64,
    /// Nanoseconds from complete request to queued reply of those that were answered: median, 95th
    /// and 99th percentile; 0 where none was.
    pub latency_ns: [u64; 3],
}

impl Sums {
    fn of(shards: &[Arc<Stats>]) -> Box<Self> {
        let sum = |get: &dyn Fn(&Stats) -> u64| shards.iter().map(|s| get(s)).sum();
        let mut latency = [0; BUCKETS];
        for shard in shards {
            Operation::ALL.iter().for_each(|op| shard.latency(*op).add_to(&mut latency));
        }
        Box::new(Self {
            replies: sum(&|s| s.replies.get()),
            rows: sum(&|s| s.rows_out.get()),
            bytes_in: sum(&|s| s.bytes_in.get()),
            bytes_out: sum(&|s| s.bytes_out.get()),
            refused: sum(&|s| ErrorCode::ALL.iter().map(|code| s.refusals(*code)).sum()),
            expired: sum(&|s| Place::ALL.iter().map(|place| s.expired(*place)).sum()),
            latency,
        })
    }
}

impl Recent {
    /// The first look.
    #[must_use]
    pub fn new(now: Time, shards: &[Arc<Stats>]) -> Self {
        Self { at: now, sums: Sums::of(shards) }
    }

    /// Another look: what happened since the last one.
    pub fn look(&mut self, now: Time, shards: &[Arc<Stats>]) -> Lately {
        let (from, to) = (std::mem::replace(&mut self.sums, Sums::of(shards)), &self.sums);
        let seconds = now.saturating_sub(self.at) as f64 / 1e9;
        self.at = now;
        let since = |get: fn(&Sums) -> u64| get(to).wrapping_sub(get(&from));
        let mut latency = to.latency;
        for (count, before) in latency.iter_mut().zip(&from.latency) {
            *count = count.wrapping_sub(*before);
        }
        Lately {
            seconds,
            replies: since(|it| it.replies),
            rows: since(|it| it.rows),
            bytes_in: since(|it| it.bytes_in),
            bytes_out: since(|it| it.bytes_out),
            refused: since(|it| it.refused),
            expired: since(|it| it.expired),
            latency_ns: Histogram::quantiles_of(&latency, [0.50, 0.95, 0.99]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = 1_000_000_000;

    #[test]
    fn metr_01_to_03_and_06_rates_and_latency_are_of_the_time_between_two_looks() {
        let shards = [Stats::new(), Stats::new()];
        shards[0].replies.add(1_000);
        shards[0].answered(Operation::Echo, SECOND);
        let mut recent = Recent::new(SECOND, &shards);
        shards[0].replies.add(3);
        shards[1].replies.add(4);
        shards[1].rows_out.add(70);
        shards[0].bytes_in.add(5);
        shards[1].bytes_out.add(6);
        shards[0].refusal(ErrorCode::BadRequest);
        shards[1].expire(Place::Queue);
        shards[0].answered(Operation::TopK, 1_000);
        shards[1].answered(Operation::Echo, 3_000_000);
        let lately = recent.look(3 * SECOND, &shards);
        assert_eq!((lately.seconds, lately.replies, lately.rows), (2.0, 7, 70));
        assert_eq!((lately.bytes_in, lately.bytes_out), (5, 6));
        assert_eq!((lately.refused, lately.expired), (1, 1));
        let [p50, _, p99] = lately.latency_ns;
        assert!((1_000..1_040).contains(&p50) && (3_000_000..3_100_000).contains(&p99));
        let quiet = recent.look(4 * SECOND, &shards);
        assert_eq!(quiet, Lately { seconds: 1.0, ..Lately::default() });
    }
}
