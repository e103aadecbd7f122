//! What a node remembers of requests with an id of their own, so that a retry does not run beside
//! or after the request that it repeats (POOL-06).
//!
//! One table for all shards, fixed in size: buckets of eight entries, each bucket behind a lock of
//! its own that is held for a few loads and stores. Entries age out; a bucket that is full of
//! younger ones forgets its oldest. Either way a forgotten request runs again when it is retried.
//! Short answers are kept in a ring beside it.

use crate::{
    driver::Time,
    limits,
    memory::SlotId,
    stats::{Source, Visit},
};
use core::hash::Hasher;
use std::{
    hash::DefaultHasher,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// Entries of a bucket.
const WAYS: usize = 8;
/// Longest answer that is kept.
const KEPT_MAX: usize = limits::INLINE_REPLY_MAX as usize;

/// Where a request is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The shard.
    pub shard: u16,
    /// Its slot there.
    pub slot: SlotId,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// Somebody works on it.
    UnderWay(Owner),
    /// It was answered. [`Recall::kept`] may still have the answer.
    Answered(u32),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// 0 for an entry that holds nothing.
    key: u64,
    /// Since when it is in this state.
    at: Time,
    twin: Twin,
}

const NOTHING: Entry = Entry { key: 0, at: 0, twin: Twin::Answered(u32::MAX) };

#[derive(Debug)]
struct Kept {
    key: u64,
    len: usize,
    bytes: Box<[u8; KEPT_MAX]>,
}

/// Bounds of a [`Recall`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Requests remembered, a power of two, 8 or more.
    pub entries: usize,
    /// For so long.
    pub span: Time,
    /// Answers kept.
    pub answers: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: limits::REMEMBERED,
            span: limits::REMEMBERED_FOR,
            answers: limits::ANSWERS_KEPT,
        }
    }
}

/// The memory of a node, shared by its shards.
#[derive(Debug)]
pub struct Recall {
    buckets: Box<[Mutex<[Entry; WAYS]>]>,
    span: Time,
    answers: Box<[Mutex<Kept>]>,
    next_answer: AtomicUsize,
    secret: u64,
    overruns: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Entries are whole at every moment; a panic elsewhere ends the process anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recall {
    /// An empty memory. `secret` keeps peers from choosing ids that meet in one bucket.
    ///
    /// # Panics
    /// If the number of entries is no power of two, or under 8.
    #[must_use]
    pub fn new(bounds: Bounds, secret: u64) -> Self {
        let Bounds { entries, span, answers } = bounds;
        assert!(entries.is_power_of_two() && entries >= WAYS);
        let kept = || Mutex::new(Kept { key: 0, len: 0, bytes: Box::new([0; KEPT_MAX]) });
        Self {
            buckets: (0..entries / WAYS).map(|_| Mutex::new([NOTHING; WAYS])).collect(),
            span,
            answers: (0..answers).map(|_| kept()).collect(),
            next_answer: AtomicUsize::new(0),
            secret,
            overruns: AtomicU64::new(0),
        }
    }

    /// Bytes that [`Self::new`] takes.
    #[must_use]
    pub const fn bytes(bounds: Bounds) -> u64 {
        let buckets = bounds.entries / WAYS * size_of::<Mutex<[Entry; WAYS]>>();
        (buckets + bounds.answers * (size_of::<Mutex<Kept>>() + KEPT_MAX)) as u64
    }

    /// The key of a sender's request; 0 for one without an id of its own.
    #[must_use]
    pub fn key(&self, identity: u32, query_id: &[u8; 16]) -> u64 {
        if *query_id == [0; 16] {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret);
        hasher.write_u32(identity);
        hasher.write(query_id);
        hasher.finish().max(1)
    }

    fn bucket(&self, key: u64) -> MutexGuard<'_, [Entry; WAYS]> {
        lock(&self.buckets[key as usize & (self.buckets.len() - 1)])
    }

    /// A request is under way from now on. What was known of its key before stays: a first attempt
    /// may come behind its own retry.
    pub fn enter(&self, now: Time, key: u64, owner: Owner) {
        let _ = self.claim(now, key, owner);
    }

    /// A request that is under way is in another slot.
    pub fn moved(&self, key: u64, from: Owner, to: Owner) {
        if let Some(entry) = own(&mut self.bucket(key), key, from) {
            entry.twin = Twin::UnderWay(to);
        }
    }

    /// A retry came: what is known of the request before it, or nothing, and then it is under way
    /// from now on.
    pub fn claim(&self, now: Time, key: u64, owner: Owner) -> Option<Twin> {
        let mut bucket = self.bucket(key);
        let known = bucket.iter().find(|e| e.key == key && self.is_young(now, e));
        if let Some(entry) = known {
            return Some(entry.twin);
        }
        self.put(&mut bucket, now, key, Twin::UnderWay(owner));
        None
    }

    /// The request is answered. An answer of up to [`limits::INLINE_REPLY_MAX`] bytes is kept.
    pub fn answered(&self, now: Time, key: u64, owner: Owner, answer: Option<&[u8]>) {
        let mut bucket = self.bucket(key);
        let Some(entry) = own(&mut bucket, key, owner) else { return };
        entry.at = now;
        entry.twin = Twin::Answered(answer.map_or(u32::MAX, |answer| self.keep(key, answer)));
    }

    /// The request came to nothing: a retry is to run.
    pub fn forget(&self, key: u64, owner: Owner) {
        if let Some(entry) = own(&mut self.bucket(key), key, owner) {
            *entry = NOTHING;
        }
    }

    /// Gives the answer of a key to `read`, if it is still there.
    pub fn kept<T>(&self, key: u64, answer: u32, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let kept = lock(self.answers.get(answer as usize)?);
        (kept.key == key).then(|| read(&kept.bytes[..kept.len]))
    }

    /// Requests that were forgotten before their time.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Relaxed)
    }

    fn keep(&self, key: u64, answer: &[u8]) -> u32 {
        if answer.len() > KEPT_MAX || self.answers.is_empty() {
            return u32::MAX;
        }
        let index = self.next_answer.fetch_add(1, Relaxed) % self.answers.len();
        let mut kept = lock(&self.answers[index]);
        (kept.key, kept.len) = (key, answer.len());
        kept.bytes[..answer.len()].copy_from_slice(answer);
        index as u32
    }

    const fn is_young(&self, now: Time, entry: &Entry) -> bool {
        now.saturating_sub(entry.at) < self.span
    }

    fn put(&self, bucket: &mut [Entry; WAYS], now: Time, key: u64, twin: Twin) {
        // What is old of the same key, then whatever is free or oldest; what is answered goes
        // before what is not.
        let rank = |e: &Entry| match e.twin {
            _ if e.key == key => (0, 0),
            _ if e.key == 0 || !self.is_young(now, e) => (1, e.at),
            Twin::Answered(_) => (2, e.at),
            Twin::UnderWay(_) => (3, e.at),
        };
        let Some(place) = bucket.iter_mut().min_by_key(|e| rank(e)) else { return };
        if rank(place).0 > 1 {
            self.overruns.fetch_add(1, Relaxed);
        }
        *place = Entry { key, at: now, twin };
    }
}

impl Source for Recall {
    fn visit(&self, visit: Visit<'_>) {
        visit("butterfly_recall_overruns_total", "", "", self.overruns());
    }
}

/// The entry of a request that is under way with this owner.
fn own(bucket: &mut [Entry; WAYS], key: u64, owner: Owner) -> Option<&mut Entry> {
    bucket.iter_mut().find(|e| e.key == key && e.twin == Twin::UnderWay(owner))
}
