//! A played node, and a peer that speaks bytes.

use dataplane_core::stats::{Source as _, Spread, Value, labels};
use overview::{Check, Overview, Point, Rates};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use web::{Counters, Hosts, Later, Limits, Node, Running, exposition::Series};

/// No test waits longer than this for something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the played node says, and how often it was asked.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) points: AtomicU64,
    pub(crate) overviews: AtomicU64,
    pub(crate) renderings: AtomicU64,
    /// A check of its life fails.
    pub(crate) is_sick: AtomicBool,
    /// It takes no work.
    pub(crate) is_busy: AtomicBool,
    pub(crate) name: Mutex<String>,
}

fn check(name: &str, holds: bool) -> Check {
    Check { name: name.to_owned(), holds, detail: format!("{name} was looked at") }
}

impl Node for Played {
    fn point(&self) -> Point {
        let at_ms = self.points.fetch_add(1, Relaxed) + 1;
        Point { at_ms, rates: Rates { queries_per_s: 0.5, ..Rates::default() } }
    }

    fn overview(&self) -> Later<Overview> {
        let at_ms = self.overviews.fetch_add(1, Relaxed) + 1;
        let mut overview = Overview { at_ms, ..Overview::default() };
        overview.node.name = self.name.lock().expect("no panic").clone();
        Box::pin(async { overview })
    }

    fn life(&self) -> Later<Vec<Check>> {
        let sick = self.is_sick.load(Relaxed);
        Box::pin(async move { vec![check("shard-0", !sick)] })
    }

    fn readiness(&self) -> Vec<Check> {
        vec![check("workers", !self.is_busy.load(Relaxed))]
    }

    fn metrics(&self) -> Series {
        let n = self.renderings.fetch_add(1, Relaxed) + 1;
        let mut spread = Spread::default();
        spread.put(20_000, 3);
        let quoted = labels(&[("direction", "a \"player\"\n")]);
        Series::from([
            (("butterfly_bytes_total", quoted), Value::Count(n)),
            (
                ("butterfly_request_seconds", labels(&[("operation", "echo")])),
                Value::Spread(spread),
            ),
        ])
    }
}

/// A server in front of a played node.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) node: Arc<Played>,
    pub(crate) addr: SocketAddr,
    counters: Arc<Counters>,
    running: Option<Running>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Vec<String>,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let addr = listener.local_addr().expect("bound");
        let node = Arc::new(Played::default());
        let counters = Arc::new(Counters::default());
        let hosts = Hosts::new(vec!["node.example".to_owned()]);
        let shown = Arc::clone(&node) as Arc<dyn Node>;
        let running = web::start(listener, shown, hosts, limits, Arc::clone(&counters));
        Self { node, addr, counters, running: Some(running.expect("starts")) }
    }

    /// A connection.
    pub(crate) fn connect(&self) -> Peer {
        let stream = TcpStream::connect(self.addr).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Peer(BufReader::new(stream))
    }

    /// Asks for a path on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Sends these bytes on a connection of its own, and reads one answer.
    pub(crate) fn ask(&self, bytes: &str) -> Answer {
        let mut peer = self.connect();
        peer.send(bytes);
        peer.answer().expect("an answer")
    }

    /// A counter's value.
    pub(crate) fn counted(&self, name: &str, value: &str) -> u64 {
        let mut found = 0;
        self.counters.visit(&mut |other, _, label, n| {
            if other == name && (label == value || value.is_empty()) {
                found += n;
            }
        });
        found
    }

    /// Waits until a counter says so.
    pub(crate) fn await_count(&self, name: &str, value: &str, wanted: u64) {
        await_that(name, || self.counted(name, value) == wanted);
    }

    pub(crate) fn leave(&self) {
        self.running.as_ref().expect("runs").leave();
    }

    pub(crate) fn stop(&mut self) {
        self.running.take().expect("runs").stop();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

/// Waits until something holds.
pub(crate) fn await_that(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::sleep(Duration::from_millis(2));
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Peer(BufReader<TcpStream>);

impl Peer {
    pub(crate) fn send(&mut self, bytes: &str) {
        // Who is refused early may find the way shut.
        let _ = self.0.get_mut().write_all(bytes.as_bytes());
    }

    /// The next line, without its end; `None` at the end of the stream.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    /// Status and headers of the next answer.
    pub(crate) fn head(&mut self) -> Option<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1)?.parse().ok()?;
        let head = std::iter::from_fn(|| self.line().filter(|line| !line.is_empty())).collect();
        Some(Answer { status, head, body: String::new() })
    }

    /// The next answer with its body.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let mut answer = self.head()?;
        let len = answer.header("content-length").map_or(0, |text| text.parse().expect("a length"));
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).expect("the whole body");
        answer.body = String::from_utf8(body).expect("text");
        Some(answer)
    }

    /// True once the other side has closed without a further byte.
    pub(crate) fn is_over(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}
