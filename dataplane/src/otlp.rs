//! OpenTelemetry: a sample of requests as traces, by OTLP over HTTP with JSON.
//!
//! A thread of low priority reads what the shards have put into their rings of the sample, and
//! posts it. The encoding is `serde_json` and the transport a page of HTTP/1.1: the libraries for
//! it bring an asynchronous client, protobuf and a second set of batching threads, for one request
//! every second to a host that is next door. What the collector does not take waits in a queue with
//! a bound; what is lost is counted.

mod endpoint;
mod post;
mod spans;

pub(crate) use endpoint::Endpoint;

use crate::say;
use dataplane_core::{
    Identities,
    stats::{Source, Visit},
    trace::{Record, Rings, Step},
};
use post::Answer;
use spans::Words;
use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use wire::trace::End;

/// How often the rings are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Requests of one post.
const BATCH: usize = 512;
/// Requests that wait for a collector.
const QUEUE: usize = 4_096;
/// How long an answer has to leave before its request is exported without that.
const UNSENT_NS: u64 = 1_000_000_000;
/// Wait after a failure: doubled with each, up to the longest.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long the end of the node waits for the last post.
const FAREWELL: Duration = Duration::from_secs(1);
/// How much nicer than others the thread is.
const NICE: i32 = 10;

/// What the exporter has done.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    exported: AtomicU64,
    /// Requests that were overwritten before they were read, that found the queue full, that the
    /// collector would not have.
    lost: [AtomicU64; 3],
    failures: AtomicU64,
}

const LOST: [&str; 3] = ["overwritten", "queue_full", "rejected"];
const OVERWRITTEN: usize = 0;
const QUEUE_FULL: usize = 1;
const REJECTED: usize = 2;

impl Source for Counters {
    fn visit(&self, visit: Visit<'_>) {
        visit("butterfly_otlp_exported_total", "", "", self.exported.load(Relaxed));
        for (reason, lost) in LOST.into_iter().zip(&self.lost) {
            visit("butterfly_otlp_lost_total", "reason", reason, lost.load(Relaxed));
        }
        visit("butterfly_otlp_failures_total", "", "", self.failures.load(Relaxed));
    }
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Running {
    /// What it has done.
    pub(crate) counters: Arc<Counters>,
    stop: Sender<()>,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Starts to export.
    ///
    /// # Errors
    /// Where the OS has no thread for it.
    pub(crate) fn start(
        endpoint: Endpoint,
        node: String,
        rings: Arc<Rings>,
        identities: Arc<Identities>,
    ) -> io::Result<Self> {
        let counters = Arc::<Counters>::default();
        let (stop, stopped) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let mut exporter = Exporter {
            endpoint,
            node,
            read: vec![0; rings.shards().len()],
            rings,
            identities,
            queue: VecDeque::with_capacity(QUEUE),
            counters: Arc::clone(&counters),
            failed: 0,
            next: None,
        };
        let thread = thread::Builder::new().name("otlp".to_owned()).spawn(move || {
            // Of this thread alone, and staying as it is is no harm.
            let _ = rustix::process::setpriority_process(None, NICE);
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                exporter.look(false);
            }
            exporter.look(true);
            let _ = end.send(());
        })?;
        Ok(Self { counters, stop, ended, thread })
    }

    /// Ends it, after a last post if the collector takes one soon.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.ended.recv_timeout(FAREWELL).is_ok() {
            let _ = self.thread.join();
        }
    }
}

/// What the thread works on.
struct Exporter {
    endpoint: Endpoint,
    node: String,
    rings: Arc<Rings>,
    identities: Arc<Identities>,
    /// By shard: the next position of its sample.
    read: Vec<u64>,
    queue: VecDeque<(usize, Record)>,
    counters: Arc<Counters>,
    /// Posts that failed in a row.
    failed: u32,
    /// When the next may be tried.
    next: Option<Instant>,
}

impl Exporter {
    /// Takes what is new, and posts it unless the collector is to be left alone. `last`: also what
    /// has not left yet, whatever the collector said before.
    fn look(&mut self, last: bool) {
        self.take(last);
        while !self.queue.is_empty() && (last || self.next.is_none_or(|at| Instant::now() >= at)) {
            let batch = self.queue.len().min(BATCH);
            let words =
                Words { rings: &self.rings, identities: &self.identities, node: &self.node };
            let json = spans::export(words, self.queue.iter().take(batch)).to_string();
            let answer = post::post(&self.endpoint, json.as_bytes());
            if !self.heard(answer, batch) {
                return;
            }
        }
    }

    /// Reads the rings.
    fn take(&mut self, last: bool) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        for (shard, at) in self.read.iter_mut().enumerate() {
            let ring = &self.rings.shards()[shard].sampled;
            let oldest = ring.oldest();
            self.counters.lost[OVERWRITTEN].fetch_add(oldest.saturating_sub(*at), Relaxed);
            *at = oldest.max(*at);
            while *at < ring.written() {
                let Some(record) = ring.read(*at) else {
                    self.counters.lost[OVERWRITTEN].fetch_add(1, Relaxed);
                    *at += 1;
                    continue;
                };
                if !last && !has_left(&record, now) {
                    break;
                }
                *at += 1;
                if self.queue.len() < QUEUE {
                    self.queue.push_back((shard, record));
                } else {
                    self.counters.lost[QUEUE_FULL].fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// What came of a post of so many requests. False where the collector is to be left alone.
    fn heard(&mut self, answer: io::Result<Answer>, batch: usize) -> bool {
        let why = match answer {
            Ok(Answer { status: 200..=299, body, .. }) => {
                self.done(batch, &body);
                return true;
            }
            Ok(Answer { status: 429 | 502..=504, retry_after, .. }) => {
                (retry_after, "it asks to come again later".to_owned())
            }
            Ok(Answer { status, .. }) => {
                self.queue.drain(..batch);
                self.counters.lost[REJECTED].fetch_add(batch as u64, Relaxed);
                if self.failed == 0 {
                    say::note(format!("otlp: {} rejects traces: status {status}", self.endpoint));
                }
                self.fails(None);
                return false;
            }
            Err(error) => (None, error.to_string()),
        };
        let (retry_after, why) = why;
        if self.failed == 0 {
            say::note(format!(
                "otlp: {} does not take traces: {why}; trying again, at most {QUEUE} requests wait",
                self.endpoint
            ));
        }
        self.fails(retry_after);
        false
    }

    fn done(&mut self, batch: usize, body: &[u8]) {
        self.queue.drain(..batch);
        let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let rejected = &said["partialSuccess"]["rejectedSpans"];
        let rejected = rejected.as_str().and_then(|n| n.parse().ok()).or(rejected.as_u64());
        let rejected = rejected.unwrap_or(0).min(batch as u64);
        self.counters.exported.fetch_add(batch as u64 - rejected, Relaxed);
        self.counters.lost[REJECTED].fetch_add(rejected, Relaxed);
        if self.failed > 0 {
            say::note(format!("otlp: {} takes traces again", self.endpoint));
        }
        (self.failed, self.next) = (0, None);
    }

    fn fails(&mut self, retry_after: Option<Duration>) {
        self.counters.failures.fetch_add(1, Relaxed);
        self.next = Some(Instant::now() + wait(self.failed, retry_after));
        self.failed = self.failed.saturating_add(1);
    }
}

/// How long to leave a collector alone after so many failures before this one.
fn wait(failed: u32, retry_after: Option<Duration>) -> Duration {
    let own = WAIT_MIN.saturating_mul(1 << failed.min(16));
    retry_after.unwrap_or(own).clamp(WAIT_MIN, WAIT_MAX)
}

/// All of a request that will be known is.
fn has_left(record: &Record, now_ns: u64) -> bool {
    let waits = record.end != End::Gone && record.step(Step::Sent).is_none();
    !waits || record.at_ns + record.total() + UNSENT_NS < now_ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_core::trace::Bounds;

    fn exporter() -> Exporter {
        let rings = Rings::new(1, Bounds { records: 8, sample: 1.0 });
        Exporter {
            endpoint: "http://127.0.0.1:1".parse().expect("an endpoint"),
            node: "here".to_owned(),
            read: vec![0],
            rings,
            identities: Arc::default(),
            queue: VecDeque::new(),
            counters: Arc::default(),
            failed: 0,
            next: None,
        }
    }

    fn status(status: u16, body: &str) -> io::Result<Answer> {
        Ok(Answer { status, retry_after: None, body: body.as_bytes().to_vec() })
    }

    fn lost(exporter: &Exporter) -> [u64; 3] {
        [0, 1, 2].map(|at| exporter.counters.lost[at].load(Relaxed))
    }

    #[test]
    fn a_collector_that_is_away_is_left_alone_for_longer_and_longer() {
        let waits: Vec<u64> = [0, 1, 2, 3, 9, 99].map(|n| wait(n, None).as_secs()).to_vec();
        assert_eq!(waits, [1, 2, 4, 8, 60, 60]);
        assert_eq!(wait(3, Some(Duration::from_secs(5))), Duration::from_secs(5));
        assert_eq!(wait(0, Some(Duration::from_secs(9_999))), WAIT_MAX);
    }

    #[test]
    fn what_is_not_taken_waits_and_what_is_rejected_goes() {
        let mut exporter = exporter();
        exporter.queue.extend((0..5).map(|_| (0, Record::default())));
        assert!(!exporter.heard(Err(io::ErrorKind::ConnectionRefused.into()), 2));
        assert!(!exporter.heard(status(503, ""), 2));
        assert_eq!((exporter.queue.len(), exporter.failed), (5, 2));
        assert!(exporter.next.is_some_and(|next| next > Instant::now()));
        assert!(!exporter.heard(status(400, ""), 2));
        assert_eq!((exporter.queue.len(), lost(&exporter)), (3, [0, 0, 2]));
        assert!(exporter.heard(status(200, r#"{"partialSuccess":{"rejectedSpans":"1"}}"#), 3));
        assert_eq!((exporter.queue.len(), lost(&exporter)), (0, [0, 0, 3]));
        assert_eq!(exporter.counters.exported.load(Relaxed), 2);
        assert!(exporter.next.is_none() && exporter.failed == 0);
    }

    #[test]
    fn an_answer_is_waited_for_until_it_has_left_or_is_late() {
        let mut record = Record { at_ns: 1_000, ..Record::default() };
        record.steps[Step::Ended as usize] = Some(64);
        assert!(!has_left(&record, 2_000));
        assert!(has_left(&record, 1_065 + UNSENT_NS));
        record.steps[Step::Sent as usize] = Some(128);
        assert!(has_left(&record, 2_000));
        assert!(has_left(&Record { end: End::Gone, ..Record::default() }, 0));
    }
}
