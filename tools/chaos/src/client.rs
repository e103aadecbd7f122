//! One open-loop client: sends at planned times, whatever comes back, and keeps the account of
//! every request. A thread of its own, one socket at a time, and old ones that it is leaving.

use crate::{conn::Conn, ledger::Account, requests::Requests};
use client::{Addr, connect_socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(20);
/// Longest wait for one connection.
const CONNECT: Duration = Duration::from_secs(1);
/// A plan that is further behind than this is given up up to here: the connection was away.
const BEHIND_MAX: Duration = Duration::from_millis(500);
/// Longest sleep.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// One bucket of the time line of answers.
pub(crate) const BUCKET: Duration = Duration::from_millis(10);

/// Right answers over time, for all clients: what shows how long an outage was.
#[derive(Debug)]
pub(crate) struct TimeLine {
    /// When the run began.
    pub(crate) start: Instant,
    buckets: Vec<AtomicU64>,
}

impl TimeLine {
    /// For a run of at most `length`.
    pub(crate) fn new(length: Duration) -> Self {
        let count = (length.as_millis() / BUCKET.as_millis()) as usize + 1;
        let buckets = (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { start: Instant::now(), buckets }
    }

    fn bucket(&self, at: Instant) -> usize {
        (at.saturating_duration_since(self.start).as_millis() / BUCKET.as_millis()) as usize
    }

    /// One right answer.
    pub(crate) fn note(&self, now: Instant) {
        if let Some(bucket) = self.buckets.get(self.bucket(now)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// Right answers from one moment to another.
    pub(crate) fn count(&self, from: Instant, to: Instant) -> u64 {
        let len = self.buckets.len();
        let (from, to) = (self.bucket(from).min(len), self.bucket(to).min(len));
        self.buckets[from..to.max(from)].iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// Where the first right answer since a moment came.
    pub(crate) fn first_since(&self, from: Instant) -> Option<Instant> {
        let from = self.bucket(from);
        let found = self.buckets.get(from..)?.iter().position(|b| b.load(Relaxed) > 0)?;
        Some(self.start + BUCKET * (from + found) as u32)
    }
}

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) requests: Requests,
    /// Requests per second of one client.
    pub(crate) rate: f64,
    /// No outcome after this long on a connection that lives is a lost request.
    pub(crate) grace: Duration,
    pub(crate) line: TimeLine,
    /// No new requests from now on.
    pub(crate) stop: AtomicBool,
}

/// Where a client connects; may change while it runs.
pub(crate) type Target = Arc<Mutex<Addr>>;

/// A running client.
#[derive(Debug)]
pub(crate) struct Client {
    thread: JoinHandle<Account>,
}

impl Client {
    /// Starts the `number`-th client.
    pub(crate) fn start(number: u16, target: Target, field: Arc<Field>) -> Self {
        let run = move || Loop::new(number, target, field).run();
        let named = thread::Builder::new().name(format!("client-{number}"));
        Self { thread: named.spawn(run).expect("a thread can be started") }
    }

    /// Waits until every request has its outcome.
    pub(crate) fn finish(self) -> Account {
        self.thread.join().expect("a client does not panic")
    }
}

/// The loop's state.
struct Loop {
    number: u16,
    target: Target,
    field: Arc<Field>,
    account: Account,
    /// New requests go here.
    conn: Option<Conn>,
    /// The node wants to be rid of these; they get their last answers.
    leaving: Vec<Conn>,
    lives: u32,
    retry_at: Instant,
    next: Instant,
    /// Requests planned so far: which comes next, and which template it is.
    planned: u64,
}

impl Loop {
    fn new(number: u16, target: Target, field: Arc<Field>) -> Self {
        let now = Instant::now();
        // Clients take turns within one period.
        let next = now + Duration::from_secs_f64(f64::from(number % 16) / 16.0 / field.rate);
        Self {
            number,
            target,
            field,
            account: Account::default(),
            conn: None,
            leaving: Vec::new(),
            lives: 0,
            retry_at: now,
            next,
            planned: 0,
        }
    }

    fn run(mut self) -> Account {
        loop {
            let stop = self.field.stop.load(Relaxed);
            let now = Instant::now();
            if stop && self.conn.as_ref().is_none_or(Conn::is_settled) && self.leaving.is_empty() {
                return self.account;
            }
            if !stop && self.conn.is_none() && now >= self.retry_at {
                self.connect();
            }
            if !stop {
                self.send_due(Instant::now());
            }
            self.move_bytes();
            self.rest(stop);
        }
    }

    fn connect(&mut self) {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match connect_socket(&target, None, CONNECT) {
            Ok(socket) => {
                self.lives += 1;
                self.account.connections += 1;
                let expects = &self.field.requests.expects;
                self.conn = Some(Conn::new(socket, self.number, self.lives, expects));
            }
            Err(_) => self.retry_at = Instant::now() + RETRY,
        }
    }

    /// Hands what is due to the connection; what has no connection was never sent.
    fn send_due(&mut self, now: Instant) {
        let period = Duration::from_secs_f64(1.0 / self.field.rate);
        while self.next <= now {
            let planned = self.next;
            self.next += period;
            let template = self.planned as usize % self.field.requests.frames.len();
            self.planned += 1;
            let fresh = now.saturating_duration_since(planned) < BEHIND_MAX;
            match self.conn.as_mut().filter(|conn| fresh && conn.has_room()) {
                Some(conn) => {
                    conn.send(&self.field.requests.frames[template], template, planned, now);
                    self.account.sent += 1;
                }
                None => self.account.unsent += 1,
            }
        }
    }

    fn move_bytes(&mut self) {
        let (field, account) = (&*self.field, &mut self.account);
        self.leaving.retain_mut(|conn| conn.turn(field, account) && !conn.is_settled());
        let Some(conn) = &mut self.conn else { return };
        if !conn.turn(field, account) {
            self.conn = None;
            self.retry_at = Instant::now();
        } else if conn.is_leaving() {
            account.left += 1;
            self.leaving.extend(self.conn.take());
            self.retry_at = Instant::now();
        }
    }

    fn rest(&self, stop: bool) {
        let now = Instant::now();
        let mut left = SLEEP_MAX;
        if !stop {
            left = left.min(self.next.saturating_duration_since(now));
        }
        let conns = self.conn.iter().chain(&self.leaving);
        let mut fds: Vec<PollFd<'_>> = conns
            .map(|conn| {
                let flags = if conn.wants_out() { PollFlags::OUT } else { PollFlags::empty() };
                PollFd::new(conn.socket(), PollFlags::IN | flags)
            })
            .collect();
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        // An interrupted sleep is a short one.
        let _ = poll(&mut fds, Some(&limit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_line_counts_by_moment() {
        let line = TimeLine::new(Duration::from_secs(1));
        let at = |ms| line.start + Duration::from_millis(ms);
        for ms in [5, 15, 15, 700, 5_000] {
            line.note(at(ms));
        }
        assert_eq!(line.count(at(0), at(10)), 1);
        assert_eq!(line.count(at(10), at(1_000)), 3);
        assert_eq!(line.first_since(at(20)), Some(at(700)));
        assert_eq!(line.first_since(at(800)), None);
    }
}
