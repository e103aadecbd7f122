//! A steady load for a long time, and whether anything grows.

use crate::{
    client::{Field, Target, TimeLine},
    ledger::Account,
    requests::Requests,
    run::{GRACE, finish, start_clients},
    sample::{FIGURES, Line, Sample, memory, threads},
    stage::{Ground, Stage, setup},
};
use client::{Addr, Client, Options};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use wire::{
    Kind,
    payload::{self, Heartbeat},
};

/// Clients.
const CLIENTS: usize = 6;
/// The first part of a run, in which memory is touched for the first time, counts for nothing.
const WARM_UP: f64 = 0.2;

/// What came of a soak.
#[derive(Debug)]
pub(crate) struct Soak {
    pub(crate) account: Account,
    pub(crate) samples: Vec<Sample>,
    pub(crate) troubles: Vec<String>,
}

/// Slots in use, as a heartbeat tells.
fn slots(addr: &Addr) -> Option<f64> {
    let options = Options { io_timeout: Some(Duration::from_secs(10)), ..Options::default() };
    let mut client = Client::connect(addr, options).ok()?;
    let mut frame = Vec::new();
    wire::frame::append(&mut frame, &Heartbeat::default(), 0, 0).ok()?;
    let asked = &frame[wire::HEADER_LEN..];
    let mut aligned = client::Buffer::new();
    aligned.resize(asked.len());
    aligned.as_mut_slice().copy_from_slice(asked);
    let reply = client.call(Kind::Heartbeat, aligned.as_slice()).ok()?;
    let beat = payload::open::<Heartbeat>(reply.payload).ok()?;
    Some(f64::from(beat.current_queries.to_native()))
}

fn look(stage: &Stage, start: Instant) -> Option<Sample> {
    let (node, workers, descriptors) = {
        let node = stage.node();
        (node.pid(), node.workers(), node.descriptors())
    };
    let number = |pid: rustix::process::Pid| pid.as_raw_nonzero().get();
    let mut pids: Vec<i32> = workers.into_iter().map(number).collect();
    pids.push(number(node));
    let (resident, proportional) = memory(&pids);
    Some(Sample {
        at: start.elapsed().as_secs_f64(),
        resident,
        proportional,
        descriptors: descriptors as f64,
        threads: threads(number(node)),
        slots: slots(&stage.direct())?,
    })
}

/// Runs a soak.
///
/// # Errors
/// Why it could not start.
pub(crate) fn run(length: Duration, rate: f64) -> Result<Soak, String> {
    let ground = Ground::new().map_err(|error| error.to_string())?;
    let setup = setup(&ground, &[])?;
    let stage = Stage::new(ground, setup, 0)?;
    let field = Arc::new(Field {
        requests: Requests::new().map_err(|error| error.to_string())?,
        rate: rate / CLIENTS as f64,
        grace: GRACE,
        line: TimeLine::new(Duration::from_secs(1)),
        stop: AtomicBool::new(false),
    });
    let far: Target = Arc::new(Mutex::new(stage.through_proxy()));
    let near: Target = Arc::new(Mutex::new(stage.direct()));
    let targets: Vec<Target> =
        (0..CLIENTS).map(|n| Arc::clone(if n % 2 == 0 { &far } else { &near })).collect();
    let clients = start_clients(&targets, &field);
    let start = Instant::now();
    let every = (length / 240).clamp(Duration::from_millis(250), Duration::from_secs(10));
    let mut samples = Vec::new();
    while start.elapsed() < length {
        thread::sleep(every);
        samples.extend(look(&stage, start));
    }
    field.stop.store(true, Relaxed);
    let account = finish(clients);
    stage.end();
    Ok(Soak { account, samples, troubles: stage.troubles() })
}

impl Soak {
    /// The samples that count.
    fn settled(&self) -> &[Sample] {
        let skip = (self.samples.len() as f64 * WARM_UP) as usize;
        self.samples.get(skip..).unwrap_or_default()
    }

    /// Each figure with its line, and whether it is flat.
    pub(crate) fn lines(&self) -> Vec<(&'static str, Line, bool)> {
        let line = |(name, read, let_pass): (_, fn(&Sample) -> f64, f64)| {
            let points: Vec<_> = self.settled().iter().map(|it| (it.at, read(it))).collect();
            Line::through(&points).map(|line| (name, line, line.is_flat(let_pass)))
        };
        FIGURES.into_iter().filter_map(line).collect()
    }

    /// All requests have their account and nothing grows.
    pub(crate) fn holds(&self) -> bool {
        let lines = self.lines();
        let flat = lines.len() == FIGURES.len() && lines.iter().all(|(.., flat)| *flat);
        flat && self.account.holds() && self.troubles.is_empty() && self.account.answered > 0
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} samples\n", self.samples.len());
        for (name, line, flat) in self.lines() {
            let word = if flat { "flat" } else { "NOT FLAT" };
            text += &format!(
                "{name:<20} mean {:>14.1}  change per hour {:>+14.1} +- {:<12.1} {word}\n",
                line.mean, line.slope, line.margin
            );
        }
        text + if self.holds() { "holds" } else { "DOES NOT HOLD" }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let line = |(name, line, flat): (&str, Line, bool)| {
            json!({
                "figure": name, "mean": line.mean, "per_hour": line.slope,
                "margin": line.margin, "flat": flat,
            })
        };
        json!({
            "requests": crate::report::account(&self.account),
            "samples": self.samples.len(),
            "figures": self.lines().into_iter().map(line).collect::<Vec<_>>(),
            "troubles": self.troubles,
            "holds": self.holds(),
        })
    }
}
