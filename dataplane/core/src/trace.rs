//! Why: the life of each request, kept for a while for whoever asks.
//!
//! Each shard writes a record when a request ends, with nothing but stores, into rings that any
//! thread can read: one for what was answered as it should be, one for all that was not (refused,
//! tried again, slow, left alone), so that a flood of the first does not wash the second away, and
//! one for the sample that is exported. Everything is allocated at the start.

mod record;
mod ring;

pub use record::{Cause, Record, Step, Waits, Ways};
pub use ring::Ring;

use std::sync::Arc;
use wire::{ErrorCode, trace::End};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Answered requests of each shard, a power of two, 8 or more.
    pub records: usize,
    /// Share of the requests that are exported, 0 to 1.
    pub sample: f64,
}

/// Records of each shard that wait to be exported.
const SAMPLED: usize = 1 << 12;

impl Bounds {
    /// What is not answered plainly is rarer.
    const fn notable(&self) -> usize {
        if self.records >= 32 { self.records / 4 } else { 8 }
    }

    const fn sampled(&self) -> usize {
        if self.sample > 0.0 { SAMPLED } else { 8 }
    }
}

/// The rings of one shard.
#[derive(Debug)]
pub struct ShardRings {
    /// Requests that were answered at the first try.
    pub plain: Ring,
    /// All others.
    pub notable: Ring,
    /// Some of both, to be exported.
    pub sampled: Ring,
}

/// A refusal, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Why.
    pub reason: ErrorCode,
    /// The request, as `butterfly why` takes it.
    pub request: String,
}

/// The rings of a node.
#[derive(Debug)]
pub struct Rings {
    shards: Box<[ShardRings]>,
}

impl Rings {
    /// Empty rings for so many shards.
    #[must_use]
    pub fn new(shards: usize, bounds: Bounds) -> Arc<Self> {
        let one = |_| ShardRings {
            plain: Ring::new(bounds.records),
            notable: Ring::new(bounds.notable()),
            sampled: Ring::new(bounds.sampled()),
        };
        Arc::new(Self { shards: (0..shards).map(one).collect() })
    }

    /// Every shard's.
    #[must_use]
    pub fn shards(&self) -> &[ShardRings] {
        &self.shards
    }

    /// The newest refusals of all shards, at most so many, newest first.
    #[must_use]
    pub fn refusals(&self, most: usize) -> Vec<Refused> {
        let mut found: Vec<Refused> = Vec::new();
        for (shard, rings) in self.shards.iter().enumerate() {
            let ring = &rings.notable;
            let newest_first = (ring.oldest()..ring.written()).rev();
            let refused = newest_first.filter_map(|at| {
                let record = ring.read(at).filter(|record| record.end == End::Refused)?;
                Some(Refused {
                    at_ms: (record.at_ns + record.total()) / 1_000_000,
                    reason: record.refusal?,
                    request: name(shard, &record),
                })
            });
            found.extend(refused.take(most));
        }
        found.sort_by_key(|refused| core::cmp::Reverse(refused.at_ms));
        found.truncate(most);
        found
    }
}

/// How a person names a request: its id, its shard and its connection there.
#[must_use]
pub fn name(shard: usize, record: &Record) -> String {
    format!("{}@{shard}.{}", record.message_id, record.conn)
}
