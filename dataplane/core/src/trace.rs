//! Why: the life of each request, kept for a while for whoever asks.
//!
//! Each shard writes a record when a request ends, with nothing but stores, into rings that any
//! thread can read: one for what was answered as it should be, one for all that was not (refused,
//! tried again, slow, left alone), so that a flood of the first does not wash the second away, and
//! one for the sample that is exported. Everything is allocated at the start.

mod record;
mod ring;
mod scan;
mod show;
mod tracer;

pub use record::{Cause, Record, Step, Waits, Ways};
pub use ring::Ring;
pub use scan::{Found, Question, Scan};
pub(crate) use show::row;
pub(crate) use tracer::{Note, OfConn, Tracer};

use std::sync::{Arc, Mutex, PoisonError};
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

/// Backends, each with the reason why it computes: most that are told apart.
const SIGNERS_MAX: usize = u8::MAX as usize;
/// Longest text of one that is kept, characters.
const SIGNER_TEXT_MAX: usize = 256;

/// The rings of a node.
#[derive(Debug)]
pub struct Rings {
    shards: Box<[ShardRings]>,
    bounds: Bounds,
    /// Backend and reason, by number from 1. Written when a worker signs with new words.
    signers: Mutex<Vec<(String, String)>>,
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
        let shards = (0..shards).map(one).collect();
        Arc::new(Self { shards, bounds, signers: Mutex::default() })
    }

    /// Bytes of one shard's rings and notes, with so many slots.
    #[must_use]
    pub const fn bytes(bounds: Bounds, slots: u32) -> u64 {
        let records = bounds.records + bounds.notable() + bounds.sampled();
        records as u64 * Ring::RECORD_BYTES + Tracer::bytes(slots)
    }

    /// Whether a request is part of the sample: the same for all tries of one query id.
    fn samples(&self, record: &Record) -> bool {
        if self.bounds.sample <= 0.0 {
            return false;
        }
        let chance = chance(record) as f64 / (u64::MAX as f64);
        chance < self.bounds.sample || self.bounds.sample >= 1.0
    }

    /// The number of these words; 0 where there are too many already.
    fn sign(&self, backend: String, reason: String) -> u8 {
        let [backend, reason] =
            [backend, reason].map(|text| text.chars().take(SIGNER_TEXT_MAX).collect::<String>());
        let mut signers = self.signers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = signers.iter().position(|known| (&known.0, &known.1) == (&backend, &reason));
        if known.is_none() {
            if signers.len() == SIGNERS_MAX {
                return 0;
            }
            signers.push((backend, reason));
        }
        known.map_or(signers.len(), |at| at + 1) as u8
    }

    /// The backend of a number, and why it computed.
    #[must_use]
    pub fn signer(&self, number: u8) -> Option<(String, String)> {
        let signers = self.signers.lock().unwrap_or_else(PoisonError::into_inner);
        signers.get(usize::from(number).checked_sub(1)?).cloned()
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

/// A number that is as good as random, and the same for all tries of one query id.
fn chance(record: &Record) -> u64 {
    let half = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let seed = match record.query_id {
        [0, ..] if record.query_id == [0; 16] => {
            record.message_id ^ u64::from(record.conn).rotate_left(40) ^ record.at_ns
        }
        id => half(&id[..8]) ^ half(&id[8..]),
    };
    // SplitMix64.
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
