//! The account of one identity. Shards add and take away with atomics; nothing here waits.

use crate::{
    driver::Time,
    limits::{BASELINE_MIN, BASELINE_WEIGHT, MS, RATE_BURST, SURGE},
    policy::Allowance,
};
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

const SECOND: Time = 1_000 * MS;
/// Baselines are kept in thousandths.
const MILLI: u64 = 1_000;

/// What was over which bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// The bound; 0 where there is none to name.
    pub limit: u64,
    /// What passed it.
    pub actual: u64,
    /// When it is worth trying again; 0 where nobody can say.
    pub retry_after: Time,
}

/// One identity's account. Accounts are touched by several cores, each its own: they share no line.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Account {
    /// Names that the place has had, in the upper half, and connections: they change together.
    seats: AtomicU64,
    requests: AtomicU32,
    bytes: AtomicU64,
    /// When the bucket will be full again: the generic cell rate algorithm (ITU-T I.371), which is
    /// a token bucket in one number.
    full_at: AtomicU64,
    connections_max: AtomicU32,
    rate_max: AtomicU32,
    requests_max: AtomicU32,
    bytes_max: AtomicU64,
    operations: AtomicU32,
    idle: AtomicU64,
    /// The second that is being counted began then.
    second: AtomicU64,
    arrived: AtomicU64,
    /// Something was refused in this second: it says nothing about what is usual.
    surged: AtomicBool,
    /// The usual rate: thousandths of frames in a second.
    baseline: AtomicU64,
}

impl Default for Account {
    fn default() -> Self {
        let account = Self {
            seats: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            full_at: AtomicU64::new(0),
            connections_max: AtomicU32::new(0),
            rate_max: AtomicU32::new(0),
            requests_max: AtomicU32::new(0),
            bytes_max: AtomicU64::new(0),
            operations: AtomicU32::new(0),
            idle: AtomicU64::new(0),
            second: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            surged: AtomicBool::new(false),
            baseline: AtomicU64::new(BASELINE_MIN * MILLI),
        };
        account.allow(&Allowance::UNLIMITED);
        account
    }
}

impl Account {
    pub(super) fn allow(&self, allowance: &Allowance) {
        self.connections_max.store(allowance.connections, Relaxed);
        self.rate_max.store(allowance.requests_per_second, Relaxed);
        self.requests_max.store(allowance.requests, Relaxed);
        self.bytes_max.store(allowance.bytes, Relaxed);
        self.operations.store(allowance.operations, Relaxed);
        self.idle.store(allowance.idle, Relaxed);
    }

    pub(super) fn operations(&self) -> u32 {
        self.operations.load(Relaxed)
    }

    pub(super) fn idle(&self) -> Time {
        self.idle.load(Relaxed)
    }

    pub(super) fn load(&self) -> (u32, u32, u64) {
        let connections = self.seats.load(Acquire) as u32;
        (connections, self.requests.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// How many names the place has had before this one, modulo what a caller can carry.
    pub(super) fn turn(&self) -> u32 {
        (self.seats.load(Acquire) >> 32) as u32 & 0xFFFF
    }

    /// Frees the place for another name, unless somebody is connected. Requests under way stay on
    /// the account until their slots are free.
    pub(super) fn vacate(&self) -> bool {
        let seats = self.seats.load(Acquire);
        let next = (seats >> 32).wrapping_add(1) << 32;
        let empty = seats as u32 == 0;
        let vacated = empty && self.seats.compare_exchange(seats, next, AcqRel, Relaxed).is_ok();
        if vacated {
            self.full_at.store(0, Relaxed);
            self.arrived.store(0, Relaxed);
            self.baseline.store(BASELINE_MIN * MILLI, Relaxed);
        }
        vacated
    }

    pub(super) fn connect(&self, turn: u32) -> Result<(), Over> {
        let most = self.connections_max.load(Relaxed);
        let seat = |seats: u64| {
            let mine = (seats >> 32) as u32 & 0xFFFF == turn;
            (mine && (seats as u32) < most).then_some(seats + 1)
        };
        match self.seats.fetch_update(AcqRel, Acquire, seat) {
            Ok(_) => Ok(()),
            Err(seats) => {
                let actual = u64::from(seats as u32) + 1;
                Err(Over { limit: u64::from(most), actual, retry_after: 0 })
            }
        }
    }

    pub(super) fn disconnect(&self) {
        let gone = |seats: u64| (seats as u32 > 0).then(|| seats - 1);
        let left = self.seats.fetch_update(AcqRel, Acquire, gone);
        debug_assert!(left.is_ok(), "more connections ended than began");
    }

    /// Takes a token of the bucket.
    pub(super) fn pace(&self, now: Time) -> Result<(), Over> {
        let rate = self.rate_max.load(Relaxed);
        if rate == u32::MAX {
            return Ok(());
        }
        let each = (SECOND / u64::from(rate.max(1))).max(1);
        // As many as come within the burst, and one at the least.
        let ahead = (RATE_BURST / each).max(1) * each - each;
        let spend = |full_at: Time| {
            let from = full_at.max(now);
            (from - now <= ahead).then_some(from + each)
        };
        match self.full_at.fetch_update(Relaxed, Relaxed, spend) {
            Ok(_) => Ok(()),
            Err(full_at) => {
                let retry_after = full_at.saturating_sub(now + ahead);
                Err(Over { limit: u64::from(rate), actual: 0, retry_after })
            }
        }
    }

    /// Counts a frame; on a busy node, refuses what is over [`SURGE`] times the usual in a second.
    pub(super) fn surge(&self, now: Time, busy: bool) -> Result<(), Over> {
        let second = self.second.load(Relaxed);
        let over = now.saturating_sub(second) >= SECOND;
        if over && self.second.compare_exchange(second, now, Relaxed, Relaxed).is_ok() {
            self.learn(now - second);
        }
        let actual = self.arrived.fetch_add(1, Relaxed) + 1;
        if !busy {
            return Ok(());
        }
        let limit = (self.baseline.load(Relaxed) / MILLI).max(BASELINE_MIN) * SURGE;
        if actual <= limit {
            return Ok(());
        }
        self.surged.store(true, Relaxed);
        let retry_after = (self.second.load(Relaxed) + SECOND).saturating_sub(now);
        Err(Over { limit, actual, retry_after })
    }

    /// A second (or a longer time without frames) is over. Only one shard gets here for each.
    fn learn(&self, took: Time) {
        let arrived = self.arrived.swap(0, Relaxed);
        if self.surged.swap(false, Relaxed) {
            return;
        }
        let rate = (u128::from(arrived * MILLI) * u128::from(SECOND) / u128::from(took)) as u64;
        let usual = self.baseline.load(Relaxed);
        let next = (usual * (BASELINE_WEIGHT - 1) + rate) / BASELINE_WEIGHT;
        self.baseline.store(next, Relaxed);
    }

    /// Puts a request on the account. False where no bound asks for it: shards then need not pass
    /// a cache line round for each request.
    pub(super) fn take(&self, bytes: u32) -> Result<bool, Over> {
        let (most, most_bytes) = (self.requests_max.load(Relaxed), self.bytes_max.load(Relaxed));
        if most == u32::MAX && most_bytes == u64::MAX {
            return Ok(false);
        }
        let requests = self.requests.fetch_add(1, Relaxed) + 1;
        let carried = self.bytes.fetch_add(u64::from(bytes), Relaxed) + u64::from(bytes);
        if requests <= most && carried <= most_bytes {
            return Ok(true);
        }
        self.give(bytes);
        let (limit, actual) = if requests > most {
            (u64::from(most), u64::from(requests))
        } else {
            (most_bytes, carried)
        };
        Err(Over { limit, actual, retry_after: 0 })
    }

    pub(super) fn give(&self, bytes: u32) {
        self.requests.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(u64::from(bytes), Relaxed);
    }
}
