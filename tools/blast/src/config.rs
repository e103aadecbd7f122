//! What a run is asked to do, checked as a whole before anything is opened.

use client::{Addr, Security};
use dataplane_uring::Policy;
use std::{fmt, path::PathBuf, str::FromStr, time::Duration};
use wire::{Dtype, Operation, Priority, work};

/// What each request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// An empty HEARTBEAT: 32 bytes there, 32 bytes back.
    Ping,
    /// A HEARTBEAT with its payload: the clock exchange.
    Heartbeat,
    /// Tensor work for a worker.
    Work(Operation),
}

impl Op {
    /// Name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Heartbeat => "heartbeat",
            Self::Work(operation) => operation.name(),
        }
    }
}

/// When the next request leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// At planned times, so many per second over all connections; latency counts from the planned
    /// time.
    Open {
        /// Requests per second.
        rate: f64,
    },
    /// As soon as a place in a window is free; latency counts from the send.
    Closed,
}

/// Rows of a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRef {
    /// The file.
    pub file: PathBuf,
    /// The tensor's name in it.
    pub name: String,
}

impl FromStr for TensorRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The last colon: names in files have none in practice, paths might.
        match text.rsplit_once(':') {
            Some((file, name)) if !file.is_empty() && !name.is_empty() => {
                Ok(Self { file: file.into(), name: name.to_owned() })
            }
            _ => Err(format!("`{text}` is not FILE.safetensors:TENSOR")),
        }
    }
}

impl fmt::Display for TensorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.name)
    }
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node.
    pub addr: Addr,
    /// Certificates, for an address that needs them.
    pub security: Option<Security>,
    /// What to ask for.
    pub op: Op,
    /// When to ask.
    pub pace: Pace,
    /// Connections over all threads.
    pub connections: u32,
    /// Most requests under way on one connection.
    pub depth: u32,
    /// Threads, each with its own ring; at most one per connection is used.
    pub threads: u32,
    /// Bytes of a row, where no tensor is given.
    pub size: Option<u32>,
    /// Rows to send.
    pub tensor: Option<TensorRef>,
    /// Rows of one request.
    pub rows: u32,
    /// Entries per row, for top-k and lm-head.
    pub k: u32,
    /// Element type of returned values.
    pub values: Dtype,
    /// `timeout_ms` of every request; 0 for the node's default.
    pub timeout_ms: u32,
    /// What goes first.
    pub priority: Priority,
    /// How long requests count.
    pub duration: Duration,
    /// How long requests flow before they count.
    pub warmup: Duration,
    /// How long to wait for answers, and for planned sends that are late, after the end.
    pub grace: Duration,
    /// Local addresses 127.0.0.1, 127.0.0.2, ... to connect from: each has 28,232 ports.
    pub sources: u32,
    /// Replace connections that die.
    pub reconnect: bool,
    /// What a thread does while nothing happens.
    pub poll: Policy,
    /// Show progress on a terminal.
    pub progress: bool,
}

impl Config {
    /// A run of `op` with the defaults of the command line.
    #[must_use]
    pub fn new(addr: Addr, op: Op) -> Self {
        Self {
            addr,
            security: None,
            op,
            pace: Pace::Open { rate: 10_000.0 },
            connections: 1,
            depth: 16,
            threads: 1,
            size: None,
            tensor: None,
            rows: 1,
            k: 100,
            values: Dtype::F16,
            timeout_ms: 0,
            priority: Priority::Normal,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            grace: Duration::from_secs(5),
            sources: 1,
            reconnect: false,
            poll: Policy::default(),
            progress: false,
        }
    }

    /// Threads that will run: never more than connections.
    #[must_use]
    pub fn threads_used(&self) -> u32 {
        self.threads.min(self.connections)
    }

    /// Accepts the run as a whole or says what is wrong with it.
    ///
    /// # Errors
    /// [`BlastError::Usage`].
    pub fn check(&self) -> Result<(), BlastError> {
        let bound = |what: &str, value: u32, max: u32| match value {
            0 => Err(BlastError::usage(format!("--{what} must be at least 1"))),
            value if value > max => Err(BlastError::usage(format!("--{what} is over {max}"))),
            _ => Ok(()),
        };
        bound("connections", self.connections, CONNECTIONS_MAX)?;
        bound("depth", self.depth, DEPTH_MAX)?;
        bound("threads", self.threads, THREADS_MAX)?;
        bound("rows", self.rows, work::ROWS_MAX)?;
        bound("sources", self.sources, SOURCES_MAX)?;
        if u64::from(self.connections) * u64::from(self.depth) > WINDOWS_MAX {
            return Err(BlastError::usage(format!(
                "--connections times --depth is over {WINDOWS_MAX} requests under way"
            )));
        }
        if self.duration.is_zero() {
            return Err(BlastError::usage("--duration must be longer than 0"));
        }
        if let Pace::Open { rate } = self.pace
            && !(rate.is_finite() && rate > 0.0 && rate <= RATE_MAX)
        {
            return Err(BlastError::usage("--rate must be over 0 and at most 1e9 per second"));
        }
        self.check_work()
    }

    fn check_work(&self) -> Result<(), BlastError> {
        let Op::Work(operation) = self.op else {
            if self.tensor.is_some() || self.size.is_some() {
                return Err(BlastError::usage(format!(
                    "--tensor and --size are for echo, topk, int8 and lm-head, {} has no rows",
                    self.op.name()
                )));
            }
            return Ok(());
        };
        if self.tensor.is_some() && self.size.is_some() {
            return Err(BlastError::usage("give --tensor or --size, not both"));
        }
        if operation == Operation::LmHead && self.tensor.is_none() && self.size.is_none() {
            return Err(BlastError::usage(
                "lm-head needs rows as wide as the node's weights: give --tensor, or --size in \
                 bytes",
            ));
        }
        let picks = matches!(operation, Operation::TopK | Operation::LmHead);
        // The node's answer to a bad k is worth seeing, so 0 and too much are let through; memory
        // is what is bounded.
        if picks && u64::from(self.k) * u64::from(self.rows) > u64::from(u32::MAX) {
            return Err(BlastError::usage("--k times --rows is absurd"));
        }
        Ok(())
    }
}

/// Most connections of a run.
pub const CONNECTIONS_MAX: u32 = 1_000_000;
/// Most requests under way on a connection.
pub const DEPTH_MAX: u32 = crate::window::DEPTH_MAX;
/// Most requests under way over all connections: 32 bytes each.
pub const WINDOWS_MAX: u64 = 1 << 26;
/// Most threads.
pub const THREADS_MAX: u32 = 256;
/// Most local addresses: 127.0.0.1 to 127.0.0.254.
pub const SOURCES_MAX: u32 = 254;
/// Most planned sends per second.
pub const RATE_MAX: f64 = 1e9;

/// Why there is no report. Faults of the node during the run are in the report instead.
#[derive(Debug)]
pub enum BlastError {
    /// The run cannot be done as asked.
    Usage(String),
    /// No connection came about, or the set-up exchange failed.
    Connect(client::ClientError),
    /// This host refused memory, a ring or a thread.
    Host(String),
}

impl BlastError {
    pub(crate) fn usage(what: impl ToString) -> Self {
        Self::Usage(what.to_string())
    }
}

impl fmt::Display for BlastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Host(what) => f.write_str(what),
            Self::Connect(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for BlastError {}

impl From<client::ClientError> for BlastError {
    fn from(fault: client::ClientError) -> Self {
        Self::Connect(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(op: Op) -> Config {
        Config::new("127.0.0.1:1".parse().expect("an address"), op)
    }

    #[test]
    fn defaults_are_sound_and_every_bound_is_named() {
        config(Op::Ping).check().expect("defaults");
        type Spoil = fn(&mut Config);
        let cases: [(Spoil, &str); 9] = [
            (|c| c.connections = 0, "--connections"),
            (|c| c.depth = DEPTH_MAX + 1, "--depth"),
            (|c| c.threads = 0, "--threads"),
            (|c| c.sources = 255, "--sources"),
            (|c| (c.connections, c.depth) = (1_000_000, 1_000), "under way"),
            (|c| c.duration = Duration::ZERO, "--duration"),
            (|c| c.pace = Pace::Open { rate: 0.0 }, "--rate"),
            (|c| c.pace = Pace::Open { rate: f64::NAN }, "--rate"),
            (|c| c.size = Some(4), "has no rows"),
        ];
        for (spoil, part) in cases {
            let mut config = config(Op::Ping);
            spoil(&mut config);
            let message = config.check().expect_err(part).to_string();
            assert!(message.contains(part), "{message}");
        }
        let message = config(Op::Work(Operation::LmHead)).check().expect_err("no rows").to_string();
        assert!(message.contains("--tensor"), "{message}");
    }

    #[test]
    fn tensor_references_split_at_the_last_colon() {
        let parsed: TensorRef = "a:b/c.safetensors:logits".parse().expect("a reference");
        assert_eq!((parsed.file, parsed.name.as_str()), ("a:b/c.safetensors".into(), "logits"));
        for bad in ["", "file", ":x", "file:"] {
            assert!(bad.parse::<TensorRef>().is_err(), "{bad}");
        }
    }
}
