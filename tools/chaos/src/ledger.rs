//! The account of every request: what became of it, exactly once.

use hdrhistogram::Histogram;
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};
use wire::ErrorCode;

/// Longest latency told apart from longer ones, microseconds: an hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// What became of the requests of one client, or of all.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Requests of which at least one byte was handed to the OS.
    pub(crate) sent: u64,
    /// Answered once, with the right content.
    pub(crate) answered: u64,
    /// Refused with a reason.
    pub(crate) refused: BTreeMap<&'static str, u64>,
    /// Their connection ended before an answer came.
    pub(crate) died: u64,
    /// No outcome in time, though the connection lived. Must stay 0.
    pub(crate) lost: u64,
    /// Answered more than once. Must stay 0.
    pub(crate) duplicated: u64,
    /// Answers to what this connection never asked. Must stay 0.
    pub(crate) foreign: u64,
    /// Answers with the wrong content, by what is wrong. Must stay empty.
    pub(crate) wrong: BTreeMap<&'static str, u64>,
    /// Planned, and never sent: there was no connection, or it took no more.
    pub(crate) unsent: u64,
    /// Connections that came about.
    pub(crate) connections: u64,
    /// Connections that the node asked to leave, and that were left without losing a request.
    pub(crate) left: u64,
    /// Connections that were refused as a whole, by reason.
    pub(crate) turned_away: BTreeMap<&'static str, u64>,
    /// Connections given up by the client because nothing moved on them.
    pub(crate) stalled: u64,
    /// From the planned time to the right answer, microseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Default for Account {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_US, 2);
        Self {
            sent: 0,
            answered: 0,
            refused: BTreeMap::new(),
            died: 0,
            lost: 0,
            duplicated: 0,
            foreign: 0,
            wrong: BTreeMap::new(),
            unsent: 0,
            connections: 0,
            left: 0,
            turned_away: BTreeMap::new(),
            stalled: 0,
            latency: latency.expect("the bounds are sound"),
        }
    }
}

impl Account {
    /// Adds another's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.died += other.died;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.foreign += other.foreign;
        self.unsent += other.unsent;
        self.connections += other.connections;
        self.left += other.left;
        self.stalled += other.stalled;
        for (into, from) in [
            (&mut self.refused, &other.refused),
            (&mut self.wrong, &other.wrong),
            (&mut self.turned_away, &other.turned_away),
        ] {
            for (name, count) in from {
                *into.entry(name).or_default() += count;
            }
        }
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
    }

    /// Refusals of all reasons.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Answers with the wrong content.
    pub(crate) fn wrongs(&self) -> u64 {
        self.wrong.values().sum()
    }

    /// Every request has exactly one outcome, and none is one that must not be.
    pub(crate) fn holds(&self) -> bool {
        let outcomes = self.answered + self.refusals() + self.died + self.lost + self.wrongs();
        outcomes == self.sent && self.lost + self.duplicated + self.foreign + self.wrongs() == 0
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// Which distinct request it is.
    pub(crate) template: usize,
    planned: Instant,
    sent: Instant,
}

/// Whose a message id is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    /// A request under way, now settled.
    Pending(Pending),
    /// A request that has its outcome already.
    Settled,
    /// Nothing that this connection asked.
    Nobody,
}

/// The requests of one connection. Ids are unique over all connections of a run, so that an answer
/// that goes astray is seen.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// First id of this connection.
    base: u64,
    next: u64,
    pending: HashMap<u64, Pending>,
}

impl Ledger {
    /// The ledger of the `life`-th connection of a client.
    pub(crate) fn new(client: u16, life: u32) -> Self {
        // Never 0, which stands for the connection itself.
        let base = (u64::from(client) + 1) << 48 | u64::from(life & 0x00FF_FFFF) << 24;
        Self { base, next: base, pending: HashMap::new() }
    }

    /// Opens the account of one more request; its id.
    pub(crate) fn open(&mut self, template: usize, planned: Instant, now: Instant) -> u64 {
        let id = self.next;
        self.next += 1;
        self.pending.insert(id, Pending { template, planned, sent: now });
        id
    }

    /// An answer with this id has come: whose is it?
    pub(crate) fn settle(&mut self, id: u64) -> Owner {
        match self.pending.remove(&id) {
            Some(pending) => Owner::Pending(pending),
            None if (self.base..self.next).contains(&id) => Owner::Settled,
            None => Owner::Nobody,
        }
    }

    /// Requests under way.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// When the oldest request under way was sent.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.sent).min()
    }

    /// Takes out what was sent before `since`: how many that were.
    pub(crate) fn drop_older(&mut self, since: Instant) -> u64 {
        let before = self.pending.len();
        self.pending.retain(|_, pending| pending.sent >= since);
        (before - self.pending.len()) as u64
    }
}

impl Pending {
    /// Puts a right answer into the account.
    pub(crate) fn answered(&self, account: &mut Account, now: Instant) {
        account.answered += 1;
        let took = now.saturating_duration_since(self.planned);
        account.latency.saturating_record(micros(took).max(1));
    }
}

/// Whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Counts a refusal by its reason.
pub(crate) fn note(reasons: &mut BTreeMap<&'static str, u64>, code: ErrorCode) {
    *reasons.entry(code.name()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_settled_once_and_others_are_told_apart() {
        let now = Instant::now();
        let (mut ledger, mut other) = (Ledger::new(0, 1), Ledger::new(1, 1));
        let (first, second) = (ledger.open(3, now, now), ledger.open(4, now, now));
        let foreign = other.open(3, now, now);
        assert!(matches!(ledger.settle(second), Owner::Pending(Pending { template: 4, .. })));
        assert!(matches!(ledger.settle(second), Owner::Settled), "a second answer");
        assert!(matches!(ledger.settle(foreign), Owner::Nobody), "another's answer");
        assert!(matches!(ledger.settle(second + 1), Owner::Nobody), "never asked");
        assert_eq!((ledger.pending(), ledger.oldest()), (1, Some(now)));
        assert_eq!(ledger.drop_older(now + Duration::from_nanos(1)), 1);
        assert!(matches!(ledger.settle(first), Owner::Settled), "too late");
        assert!(matches!(Ledger::new(0, 2).settle(first), Owner::Nobody), "an earlier life's");
    }

    #[test]
    fn an_account_holds_only_if_all_outcomes_add_up() {
        let mut account = Account { sent: 5, answered: 3, died: 1, ..Account::default() };
        assert!(!account.holds(), "one has no outcome");
        note(&mut account.refused, ErrorCode::Draining);
        assert!(account.holds());
        for spoil in [
            |account: &mut Account| account.lost += 1,
            |account: &mut Account| account.duplicated += 1,
            |account: &mut Account| account.foreign += 1,
            |account: &mut Account| *account.wrong.entry("content").or_default() += 1,
        ] {
            let mut spoilt = account.clone();
            spoil(&mut spoilt);
            // Also where the sum is made right.
            spoilt.sent =
                spoilt.answered + spoilt.refusals() + spoilt.died + spoilt.lost + spoilt.wrongs();
            assert!(!spoilt.holds());
        }
        let mut sum = Account::default();
        sum.add(&account);
        sum.add(&account);
        assert!(sum.holds());
        assert_eq!((sum.sent, sum.refusals()), (10, 2));
    }
}
