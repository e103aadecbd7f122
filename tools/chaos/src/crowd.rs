//! Thousands of connections that only take room: silent ones, half-open ones, ones that send a byte
//! a second, ones that send garbage. What it costs the others is measured in turns, with the crowd
//! and without it.

use crate::{
    client::{Field, Target, TimeLine},
    ledger::Account,
    requests::Requests,
    run::{GRACE, finish, start_clients},
    stage::{Ground, Stage, setup},
};
use fleet::Rng;
use serde_json::{Value, json};
use std::{
    io::Write,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Turns, half of them with the crowd.
const TURNS: u32 = 6;
/// Clients of the normal traffic.
const CLIENTS: usize = 4;
/// Between two rounds over the crowd: its slow ones send a byte each.
const ROUND: Duration = Duration::from_secs(1);
/// Bytes of one piece of garbage.
const GARBAGE: usize = 48;
/// Longest wait for one connection.
const CONNECT: Duration = Duration::from_secs(2);

/// The crowd, on a thread.
#[derive(Debug)]
struct Crowd {
    stop: Arc<AtomicBool>,
    /// Connections at the moment.
    standing: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Crowd {
    fn gather(node: SocketAddr, count: usize) -> Self {
        let (stop, standing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (seen, told) = (Arc::clone(&stop), Arc::clone(&standing));
        let thread = thread::spawn(move || stand(node, count, &seen, &told));
        Self { stop, standing, thread }
    }

    /// Sends all away; how many were replaced meanwhile because the node had closed them.
    fn leave(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("a crowd does not panic")
    }
}

fn connect(node: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&node, CONNECT).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

fn stand(node: SocketAddr, count: usize, stop: &AtomicBool, standing: &AtomicU64) -> u64 {
    let mut crowd: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    let (mut replaced, mut random) = (0, Rng::new(count as u64));
    // A frame's header, sent byte by byte: as patient as a peer can be.
    let header = wire::Header::new(wire::Kind::QueryRequest, 1, 0, 1 << 20, 0);
    let header = zerocopy::IntoBytes::as_bytes(&header).to_vec();
    for round in 0.. {
        let began = Instant::now();
        for (at, place) in crowd.iter_mut().enumerate() {
            if stop.load(Relaxed) {
                return replaced;
            }
            if place.is_none() {
                replaced += u64::from(round > 0);
                *place = connect(node);
                standing.fetch_add(u64::from(place.is_some()), Relaxed);
            }
            let Some(stream) = place else { continue };
            let alive = match at % 4 {
                // Silent.
                0 => true,
                // Half-open: nothing will come, and nothing was asked.
                1 => round > 0 || stream.shutdown(Shutdown::Write).is_ok(),
                2 => stream.write(&header[round % header.len()..][..1]).is_ok(),
                _ => {
                    let garbage: [u8; GARBAGE] = std::array::from_fn(|_| random.next() as u8);
                    stream.write(&garbage).is_ok()
                }
            };
            if !alive {
                *place = None;
                standing.fetch_sub(1, Relaxed);
            }
        }
        thread::sleep(ROUND.saturating_sub(began.elapsed()));
    }
    replaced
}

/// What came of it: turns without the crowd and with it, in this order, again and again.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) asked: usize,
    /// Connections that stood, at the end of each turn with a crowd.
    pub(crate) stood: Vec<u64>,
    pub(crate) replaced: u64,
    /// Without, with.
    pub(crate) accounts: [Account; 2],
    pub(crate) troubles: Vec<String>,
}

/// Runs normal traffic with and without a crowd of `count`.
///
/// # Errors
/// Why it could not start.
pub(crate) fn run(length: Duration, rate: f64, count: usize) -> Result<Outcome, String> {
    let needed = count as u64 + 1_000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let wider = rustix::process::Rlimit { current: Some(needed), maximum: limit.maximum };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, wider)
            .map_err(|_| format!("{needed} descriptors are needed: raise ulimit -n"))?;
    }
    let ground = Ground::new().map_err(|error| error.to_string())?;
    let room = (count + 1_000).to_string();
    let setup = setup(&ground, &["--max-connections", &room])?;
    let stage = Stage::new(ground, setup, 0)?;
    let node = stage.node().tcp;
    let target: Target = Arc::new(Mutex::new(node.into()));
    let mut outcome = Outcome {
        asked: count,
        stood: Vec::new(),
        replaced: 0,
        accounts: [Account::default(), Account::default()],
        troubles: Vec::new(),
    };
    for turn in 0..TURNS {
        let with = turn % 2 == 1;
        let crowd = with.then(|| Crowd::gather(node, count));
        if let Some(crowd) = &crowd {
            let deadline = Instant::now() + 10 * CONNECT;
            while crowd.standing.load(Relaxed) < count as u64 * 9 / 10 && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(20));
            }
        }
        let field = Arc::new(Field {
            requests: Requests::short().map_err(|error| error.to_string())?,
            rate: rate / CLIENTS as f64,
            grace: GRACE,
            line: TimeLine::new(Duration::from_secs(1)),
            stop: AtomicBool::new(false),
        });
        let clients = start_clients(&vec![Arc::clone(&target); CLIENTS], &field);
        thread::sleep(length / TURNS);
        field.stop.store(true, Relaxed);
        outcome.accounts[usize::from(with)].add(&finish(clients));
        if let Some(crowd) = crowd {
            outcome.stood.push(crowd.standing.load(Relaxed));
            outcome.replaced += crowd.leave();
        }
    }
    stage.end();
    outcome.troubles = stage.troubles();
    Ok(outcome)
}

impl Outcome {
    /// Nobody of the normal traffic was failed.
    pub(crate) fn holds(&self) -> bool {
        let fine = |account: &Account| account.holds() && account.answered > 0;
        let stood = self.stood.iter().all(|stood| *stood >= self.asked as u64 / 2);
        self.accounts.iter().all(fine) && self.troubles.is_empty() && stood
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let [without, with] = &self.accounts;
        let row = |name: &str, account: &Account| {
            let quantile = |q| account.latency.value_at_quantile(q);
            format!(
                "{name:<14} answered {:>8} refused {:>4} died {:>4} p50 {:>7} us p99 {:>7} us\n",
                account.answered,
                account.refusals(),
                account.died,
                quantile(0.5),
                quantile(0.99)
            )
        };
        let mut text = row("without crowd", without) + &row("with crowd", with);
        text += &format!(
            "crowd of {}: stood {:?}, replaced {}\n",
            self.asked, self.stood, self.replaced
        );
        text + if self.holds() { "holds" } else { "DOES NOT HOLD" }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "crowd": self.asked,
            "stood": self.stood,
            "replaced": self.replaced,
            "without": crate::report::account(&self.accounts[0]),
            "with": crate::report::account(&self.accounts[1]),
            "troubles": self.troubles,
            "holds": self.holds(),
        })
    }
}
