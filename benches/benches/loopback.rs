//! The full frame path against the bare io_uring floor: same client, same bytes, same cores, in
//! alternation.
//!
//! `cargo bench --bench loopback -- [--test] [--seconds S] [--rounds N] [--json] [NAME...]`

use benches::{
    floor::{BulkFloor, EchoFloor, Load, Measured, Timing, drive},
    frames, ours,
    ours::{Ours, Served},
    report::{Comparison, HEADING, conclude, quantile},
};
use std::{io, process::ExitCode, time::Duration};
use wire::Kind;

const ROW: usize = 512 * 1024;
const SMALL_ROW: usize = 64;

/// What is sent.
#[derive(Clone, Copy, PartialEq)]
enum What {
    /// Heartbeats with a payload, answered by the shard.
    Heartbeat,
    /// Requests over a row of 64 bytes, answered through the rings to a worker.
    Request,
    /// Requests over a row of 512 KiB, which travel in the bulk lane.
    Row,
}

/// One line of the table.
struct Question {
    name: &'static str,
    what: What,
    connections: usize,
    depth: usize,
}

const fn ask(name: &'static str, what: What, connections: usize, depth: usize) -> Question {
    Question { name, what, connections, depth }
}

const QUESTIONS: [Question; 7] = [
    ask("heartbeat-1x1-p50", What::Heartbeat, 1, 1),
    ask("heartbeat-64x16", What::Heartbeat, 64, 16),
    ask("heartbeat-64x256", What::Heartbeat, 64, 256),
    ask("request-1x1-p50", What::Request, 1, 1),
    ask("request-64x16", What::Request, 64, 16),
    ask("row-512KiB-1x4", What::Row, 1, 4),
    ask("row-512KiB-4x4", What::Row, 4, 4),
];

struct Options {
    timing: Timing,
    rounds: usize,
    json: bool,
    names: Vec<String>,
}

impl Options {
    /// A smoke run with `--test`, and wherever cargo runs benches as tests (then without
    /// `--bench`).
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let smoke =
            arguments.iter().any(|a| a == "--test") || arguments.iter().all(|a| a != "--bench");
        let mut seconds = if smoke { 0.01 } else { 1.0 };
        let mut rounds = if smoke { 1 } else { 7 };
        let (mut json, mut names) = (false, Vec::new());
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--test" | "--bench" | "--quiet" => {}
                "--json" => json = true,
                "--seconds" => {
                    seconds = value()?.parse().map_err(|error| format!("--seconds: {error}"))?;
                }
                "--rounds" => {
                    rounds = value()?.parse().map_err(|error| format!("--rounds: {error}"))?;
                }
                flag if flag.starts_with('-') => return Err(format!("unknown argument {flag}")),
                name => names.push(name.to_owned()),
            }
        }
        let measured = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
        let timing = Timing { warmup: measured / 4, measured };
        Ok(Self { timing, rounds, json, names })
    }

    fn takes(&self, question: &Question) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| question.name.contains(name.as_str()))
    }
}

impl Question {
    fn is_bulk(&self) -> bool {
        self.what == What::Row
    }

    /// One message at a time asks for its latency, several ask for the rate.
    fn unit(&self) -> &'static str {
        match self.what {
            What::Row => "GB/s",
            _ if self.connections * self.depth == 1 => "us",
            _ => "M/s",
        }
    }

    fn burst(&self) -> Vec<u8> {
        match self.what {
            What::Heartbeat => frames::heartbeats(self.depth),
            What::Request => frames::rows(self.depth, SMALL_ROW),
            What::Row => frames::rows(1, ROW),
        }
    }

    /// Small messages go as bursts of `depth`, each answered before the next; rows one by one,
    /// `depth` under way.
    fn load<'a>(&self, burst: &'a [u8], reply: usize) -> Load<'a> {
        let (messages, window) = if self.is_bulk() { (1, self.depth) } else { (self.depth, 1) };
        Load { connections: self.connections, burst, messages, reply, window }
    }

    fn read(&self, measured: &mut Measured) -> f64 {
        match self.unit() {
            "us" => quantile(&mut measured.latency_ns, 0.5) / 1e3,
            "M/s" => measured.rate() / 1e6,
            _ => measured.rate() * ROW as f64 / 1e9,
        }
    }

    fn floor(&self, timing: Timing) -> io::Result<f64> {
        let burst = self.burst();
        let mut measured = if self.is_bulk() {
            let server = BulkFloor::start(self.connections, burst.len() - wire::HEADER_LEN)?;
            let measured = drive(server.address(), &self.load(&burst, wire::HEADER_LEN), timing)?;
            server.finish()?;
            measured
        } else {
            let server = EchoFloor::start(self.connections, burst.len())?;
            let measured = drive(server.address(), &self.load(&burst, burst.len()), timing)?;
            server.finish()?;
            if measured.first != burst {
                return Err(io::Error::other("the floor sent back other bytes"));
            }
            measured
        };
        Ok(self.read(&mut measured))
    }

    fn ours(&self, timing: Timing) -> io::Result<(f64, Served)> {
        let burst = self.burst();
        let (kind, count, reply) = match self.what {
            What::Heartbeat => (Kind::Heartbeat, self.depth, burst.len()),
            What::Request => {
                (Kind::QueryResponse, self.depth, self.depth * ours::template()?.len())
            }
            What::Row => (Kind::QueryResponse, 1, ours::template()?.len()),
        };
        let server = Ours::start()?;
        let mut measured = drive(server.address(), &self.load(&burst, reply), timing)?;
        let served = server.finish()?;
        frames::check(&measured.first, kind, count).map_err(io::Error::other)?;
        Ok((self.read(&mut measured), served))
    }
}

/// Copies of request bytes and system calls, each per message of the last round.
fn costs(question: &Question, served: &Served) -> String {
    let messages = (served.requests + served.heartbeats).max(1) as f64;
    format!(
        "    {}: {:.4} copies before the worker and {:.4} ring entries per message",
        question.name,
        served.copies_in as f64 / messages,
        served.driver.enters as f64 / messages,
    )
}

fn run(options: &Options) -> io::Result<Vec<Comparison>> {
    println!("{HEADING}");
    let mut table = Vec::new();
    for question in QUESTIONS.iter().filter(|question| options.takes(question)) {
        let (name, unit) = (question.name.to_owned(), question.unit());
        let mut line = Comparison { name, unit, floor: Vec::new(), ours: Vec::new() };
        let mut note = String::new();
        for _ in 0..options.rounds {
            line.floor.push(question.floor(options.timing)?);
            let (value, served) = question.ours(options.timing)?;
            line.ours.push(value);
            note = costs(question, &served);
        }
        println!("{}\n{note}", line.row());
        table.push(line);
    }
    Ok(table)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = Options::parse(&arguments)
        .map_err(io::Error::other)
        .and_then(|options| Ok((run(&options)?, options.json)));
    conclude("loopback", outcome)
}
