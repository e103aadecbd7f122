//! The command line.

mod after;
mod out;
mod sweep;

pub use after::{CompareArgs, ReportArgs};
pub use out::OutArgs;
pub use sweep::SweepArgs;

use crate::agents::AgentsArgs;
use crate::config::{BlastError, Config, Op, Pace, TensorRef};
use crate::overload::Plan;
use clap::{Args, Parser, Subcommand, ValueEnum};
use client::Addr;
use dataplane_uring::Policy;
use std::time::Duration;
use wire::{Dtype, Operation, Priority};

const ORDER: &str = "\
In this order:
  1. Does it work, and how long does a request take?
       blast run --addr 127.0.0.1:7171 --op ping
       blast run --addr 127.0.0.1:7171 --op topk --rate 500 --html run.html
  2. What does more load cost?
       blast sweep --addr 127.0.0.1:7171 --op topk --connections 8 --html sweep.html
  3. How much load may it get, if 99% of the requests shall take 5 ms at most?
       blast sweep --addr 127.0.0.1:7171 --op topk --connections 8 --slo p99=5ms
  4. Did a change make it slower?
       blast run --addr 127.0.0.1:7171 --op topk --rate 500 --json before.json
       blast run --addr 127.0.0.1:7171 --op topk --rate 500 --json after.json
       blast compare before.json after.json --tolerance 5%

Every report is kept as JSON with --json FILE and becomes a page with --html FILE, now or later
(blast report FILE.json --html page.html). A page is one file: it fetches nothing and runs nothing.

Exit status: 0 well, 1 it ran and something was wrong or worse, 2 wrong usage or no connection.";

/// Load for a Butterfly node: planned, checked and counted.
#[derive(Debug, Parser)]
#[command(name = "blast", version, arg_required_else_help = true, after_help = ORDER)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send requests to a node, check every reply, and report rates and latencies.
    Run(Box<RunArgs>),
    /// Run at one rate after another: what latency does load cost? Or, with --slo, search for the
    /// highest rate that keeps a bound.
    Sweep(Box<SweepArgs>),
    /// Compare two runs, or several of each: what is faster or slower, and how sure is that?
    Compare(CompareArgs),
    /// Show a report that was kept as JSON, or make a page of it.
    Report(ReportArgs),
    /// Find out how much a node can do, then offer it parts and multiples of that, and report what
    /// is answered, what is refused, and how soon.
    Overload(Box<OverloadArgs>),
    /// Be a fleet of agents: register, beat, hold messages until their moment, act, answer.
    Agents(Box<AgentsArgs>),
}

const EXAMPLES: &str = "\
Examples:
  How long does a ping take, at 10,000 a second?
    blast run --addr 127.0.0.1:7171 --op ping --connections 1 --depth 1
  How many pings can the node take?
    blast run --addr 127.0.0.1:7171 --op ping --closed --connections 64 --depth 256 --threads 2
  Top-100 of real logits, 2,000 rows a second, over a Unix socket:
    blast run --addr unix:///run/butterfly.sock --op topk --k 100 --rate 2000 \\
      --tensor wire/samples/logits.safetensors:head.f32 --connections 8
  As a page, and as JSON to compare with later:
    blast run --addr 127.0.0.1:7171 --op ping --html run.html --json run.json
  As JSON, to standard output:
    blast run --addr 127.0.0.1:7171 --op echo --size 524288 --closed --depth 4 --json -

Exit status: 0 all answered and right (refusals allowed), 1 errors or lost requests, 2 wrong usage \
or no connection.";

pub(crate) const ADDR_HELP: &str =
    "The node: host:7171, [::1]:7171, tls://host:7171, quic://host:7171 or unix:///path";

/// Options of `blast run`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Requests per second over all connections, planned ahead: latency counts from the planned
    /// time
    #[arg(long, value_name = "R", default_value_t = 10_000.0)]
    pub rate: f64,
    /// Send as fast as answers come, with --depth requests under way on each connection
    #[arg(long, conflicts_with = "rate")]
    pub closed: bool,
    /// What is sent, and how.
    #[command(flatten)]
    pub load: LoadArgs,
}

const OVERLOAD_EXAMPLES: &str = "\
Examples:
  Top-100 of rows of 1,000 f32, at 0.9, 1, 2 and 10 times what the node can do:
    blast overload --addr 127.0.0.1:7171 --op topk --size 4000 --connections 16 --depth 512
  Half of what is known to be its capacity, and three times that, of high priority:
    blast overload --addr 127.0.0.1:7171 --op echo --capacity 200000 --factor 0.5,3 \\
      --priority high --connections 16 --depth 512

Exit status: 0 all answered or refused, and right, 1 errors or lost requests, 2 wrong usage or no \
connection.";

/// Options of `blast overload`.
#[derive(Args, Debug)]
#[command(after_help = OVERLOAD_EXAMPLES)]
pub struct OverloadArgs {
    /// What to offer, in multiples of the capacity
    #[arg(long, value_name = "F,...", value_delimiter = ',', default_value = "0.9,1,2,10")]
    pub factor: Vec<f64>,
    /// Requests per second that the node can do, where that is known [default: found out by a
    /// closed loop]
    #[arg(long, value_name = "R")]
    pub capacity: Option<f64>,
    /// Requests under way on each connection while the capacity is found out
    #[arg(long, value_name = "D", default_value_t = 8)]
    pub probe_depth: u32,
    /// What is sent, and how.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// Options of a load, however it is paced.
#[derive(Args, Debug)]
pub struct LoadArgs {
    /// The node
    #[arg(long, value_name = "ADDR", help = ADDR_HELP)]
    pub addr: Addr,
    /// Certificates.
    #[command(flatten)]
    pub security: client::SecurityArgs,
    /// What each request asks for
    #[arg(long, value_enum)]
    pub op: OpArg,
    /// Connections
    #[arg(long, value_name = "C", default_value_t = 1)]
    pub connections: u32,
    /// Most requests under way on one connection
    #[arg(long, value_name = "D", default_value_t = 16)]
    pub depth: u32,
    /// Bytes of a row, made up [default: 64 for echo, 524288 for topk, 16384 for int8]
    #[arg(long, value_name = "B", conflicts_with = "tensor")]
    pub size: Option<u32>,
    /// Rows to send, in turn: FILE.safetensors:NAME
    #[arg(long, value_name = "F:NAME")]
    pub tensor: Option<TensorRef>,
    /// Rows of one request
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub rows: u32,
    /// Entries per row, for topk and lm-head
    #[arg(long, value_name = "K", default_value_t = 100)]
    pub k: u32,
    /// Type of returned values, for topk and lm-head
    #[arg(long, value_enum, default_value_t = ValuesArg::F16)]
    pub values: ValuesArg,
    /// Milliseconds after which the node may give a request up; 0 for its default
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub timeout_ms: u32,
    /// What goes first on a busy node: background, normal, high or critical
    #[arg(long, value_name = "P", default_value = "normal", value_parser = priority)]
    pub priority: Priority,
    /// Threads, each with a ring of its own
    #[arg(long, value_name = "T", default_value_t = 1)]
    pub threads: u32,
    /// How long requests count: 10s, 500ms, 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// How long requests flow before they count
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
    /// How long to wait for late answers at the end
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub grace: Duration,
    /// Connect from so many local addresses (127.0.0.1, 127.0.0.2, ...), for over 20,000
    /// connections
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub sources: u32,
    /// Replace connections that die
    #[arg(long)]
    pub reconnect: bool,
    /// What a thread does while nothing happens
    #[arg(long, value_enum, default_value_t = PollArg::Balanced)]
    pub poll: PollArg,
    /// Where the report goes.
    #[command(flatten)]
    pub out: OutArgs,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

/// `--op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OpArg {
    /// Empty heartbeat: 32 bytes there and back
    Ping,
    /// Heartbeat with timestamps: 96 bytes there and back
    Heartbeat,
    /// A tensor through a worker and back
    Echo,
    /// The k largest logits of each row
    Topk,
    /// Hidden states to 8 bits
    Int8,
    /// Hidden states times the node's weights, then top-k
    LmHead,
}

impl From<OpArg> for Op {
    fn from(op: OpArg) -> Self {
        match op {
            OpArg::Ping => Self::Ping,
            OpArg::Heartbeat => Self::Heartbeat,
            OpArg::Echo => Self::Work(Operation::Echo),
            OpArg::Topk => Self::Work(Operation::TopK),
            OpArg::Int8 => Self::Work(Operation::Int8),
            OpArg::LmHead => Self::Work(Operation::LmHead),
        }
    }
}

/// `--values`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ValuesArg {
    /// IEEE half precision
    F16,
    /// bfloat16
    Bf16,
    /// IEEE single precision
    F32,
}

impl From<ValuesArg> for Dtype {
    fn from(values: ValuesArg) -> Self {
        match values {
            ValuesArg::F16 => Self::F16,
            ValuesArg::Bf16 => Self::Bf16,
            ValuesArg::F32 => Self::F32,
        }
    }
}

/// `--poll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PollArg {
    /// Spin always: the lowest latency, a core per thread
    Latency,
    /// Spin shortly after events and ahead of planned sends, sleep otherwise
    Balanced,
    /// Sleep at once
    Frugal,
}

impl From<PollArg> for Policy {
    fn from(poll: PollArg) -> Self {
        match poll {
            PollArg::Latency => Self::Latency,
            PollArg::Balanced => Self::default(),
            PollArg::Frugal => Self::Frugal,
        }
    }
}

impl RunArgs {
    /// The run that these options describe, checked as a whole.
    ///
    /// # Errors
    /// [`BlastError::Usage`].
    pub fn config(&self) -> Result<Config, BlastError> {
        let pace = if self.closed { Pace::Closed } else { Pace::Open { rate: self.rate } };
        self.load.config(pace)
    }
}

impl OverloadArgs {
    /// The load that these options describe, and what to offer of it.
    ///
    /// # Errors
    /// [`BlastError::Usage`].
    pub fn plan(&self) -> Result<Plan, BlastError> {
        let config = self.load.config(Pace::Closed)?;
        let (factors, capacity) = (self.factor.clone(), self.capacity);
        Plan { config, factors, capacity, probe_depth: self.probe_depth }.check()
    }
}

impl LoadArgs {
    fn config(&self, pace: Pace) -> Result<Config, BlastError> {
        let config = Config {
            security: self.security.load(&self.addr).map_err(BlastError::usage)?,
            pace,
            connections: self.connections,
            depth: self.depth,
            threads: self.threads,
            size: self.size,
            tensor: self.tensor.clone(),
            rows: self.rows,
            k: self.k,
            values: self.values.into(),
            timeout_ms: self.timeout_ms,
            priority: self.priority,
            duration: self.duration,
            warmup: self.warmup,
            grace: self.grace,
            sources: self.sources,
            reconnect: self.reconnect,
            poll: self.poll.into(),
            progress: !self.quiet,
            ..Config::new(self.addr.clone(), self.op.into())
        };
        config.check()?;
        Ok(config)
    }
}

/// Reads a priority's name.
fn priority(text: &str) -> Result<Priority, String> {
    Priority::from_name(text).ok_or_else(|| {
        let names = Priority::ALL.iter().map(|priority| priority.name());
        format!("write one of {}", names.collect::<Vec<_>>().join(", "))
    })
}

/// Reads `5%` or `0.05`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().ok().map(|share| share * unit);
    share
        .filter(|share| (0.0..=10.0).contains(share))
        .ok_or_else(|| format!("`{text}` is no share: write 5% or 0.05"))
}

/// Reads `10s`, `500ms`, `0.5s`, `2m`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        other => return Err(format!("`{other}` is no unit of time: use ms, s, m or h")),
    };
    let number: f64 =
        digits.parse().map_err(|_| format!("`{text}` is no time, like 10s or 500ms"))?;
    let seconds = number * unit;
    if !(0.0..=31_536_000.0).contains(&seconds) {
        return Err("a time is between 0 and a year".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<RunArgs, clap::Error> {
        let words = ["blast", "run"].into_iter().chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Run(args) => *args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_reaches_the_run() {
        let args = parse(
            "--addr unix:///s --op lm-head --closed --connections 8 --depth 4 --tensor f.st:x \
             --rows 2 --k 7 --values bf16 --timeout-ms 9 --threads 3 --duration 1m --warmup 0 \
             --grace 250ms --sources 2 --reconnect --poll frugal --json - --quiet --priority high",
        )
        .expect("a run");
        let config = args.config().expect("sound");
        assert_eq!(config.op, Op::Work(Operation::LmHead));
        assert_eq!(config.pace, Pace::Closed);
        assert_eq!((config.connections, config.depth, config.threads), (8, 4, 3));
        assert_eq!((config.rows, config.k, config.timeout_ms, config.sources), (2, 7, 9, 2));
        assert_eq!(config.values, Dtype::Bf16);
        assert_eq!(config.duration, Duration::from_secs(60));
        assert_eq!((config.warmup, config.grace), (Duration::ZERO, Duration::from_millis(250)));
        assert!(config.reconnect && !config.progress);
        assert_eq!(config.priority, Priority::High);
        assert_eq!(config.poll, Policy::Frugal);
        assert_eq!(config.tensor, "f.st:x".parse().ok());
        assert_eq!(args.load.out.json, Some("-".into()));
    }

    #[test]
    fn the_default_is_an_open_loop() {
        let config = parse("--addr h:1 --op ping").expect("a run").config().expect("sound");
        assert_eq!(config.pace, Pace::Open { rate: 10_000.0 });
        assert_eq!(config.duration, Duration::from_secs(10));
        assert_eq!(config.warmup, Duration::from_secs(1));
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        for line in [
            "--op ping",
            "--addr h:1",
            "--addr nonsense --op ping",
            "--addr h:1 --op sing",
            "--addr h:1 --op ping --closed --rate 5",
            "--addr h:1 --op topk --size 4 --tensor f:x",
            "--addr h:1 --op ping --duration 5parsecs",
            "--addr h:1 --op ping --duration -1s",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--addr h:1 --op ping --depth 0").expect("parses").config().is_err());
    }

    #[test]
    fn overload_offers_multiples_and_needs_them_to_be_sound() {
        let parse = |rest: &str| {
            let line = format!("blast overload --addr h:1 --op echo {rest}");
            match Cli::try_parse_from(line.split_whitespace()).expect("parses").command {
                Command::Overload(args) => args.plan(),
                _ => panic!("another command"),
            }
        };
        assert_eq!(parse("").expect("sound").factors, [0.9, 1.0, 2.0, 10.0]);
        assert_eq!(parse("--factor 0.5,3 --capacity 7").expect("sound").factors, [0.5, 3.0]);
        for bad in ["--factor 0", "--factor NaN", "--capacity 0", "--probe-depth 0"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert!(duration("").is_err() && duration("s").is_err() && duration("NaN").is_err());
    }
}
