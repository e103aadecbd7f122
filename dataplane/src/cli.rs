//! The command line. Parsing only: every command hands its arguments to the module of its name.

mod ca;
mod codecs;
mod compress;
mod console;
mod keys;
mod mesh;
mod usage;
mod why;

pub(crate) use ca::{CaAction, CaArgs, InitArgs, IssueArgs, RotateArgs, ShowArgs};
pub(crate) use codecs::{BasisArgs, CalibrateArgs, DecompressArgs};
pub(crate) use compress::{CompressArgs, Values};
pub(crate) use console::{CompletionsArgs, ManArgs, Program, StatusArgs, TopArgs};
pub(crate) use keys::{CountersignArgs, KeyArgs, KeyCommand, SignArgs};
pub(crate) use mesh::{AgentsArgs, CircuitArgs, FreezeArgs, GatherArgs, MapArgs};
pub(crate) use usage::{command, parse};
pub(crate) use why::{RequestId, WhyArgs};

use crate::settings::{Backend, Poll, Settings, WorkerSandbox};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use worker::sandbox::{Part, trial::Attempt};

/// Zero-copy data plane that compresses logits and hidden states before they touch the wire.
#[derive(Debug, Parser)]
#[command(name = "butterfly", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a node and workers on loopback, drive bundled tensors through it, show what came out
    #[command(after_help = DEMO)]
    Demo(DemoArgs),
    /// Run a node: accept connections, batch requests, compress in worker processes
    #[command(after_help = SERVE)]
    Serve(Box<ServeArgs>),
    /// Start a node that takes over from the one that runs, and return once it serves
    #[command(after_help = HANDOVER)]
    Handover(Box<ServeArgs>),
    /// Send a tensor of a safetensors file through a node and keep the compressed answer
    #[command(after_help = compress::HELP)]
    Compress(Box<CompressArgs>),
    /// Restore the tensors of a file that compress --codec wrote
    #[command(after_help = codecs::DECOMPRESS)]
    Decompress(DecompressArgs),
    /// Learn a basis for the codings of hidden states, and what each coding makes of them
    #[command(after_help = codecs::CALIBRATE)]
    Calibrate(CalibrateArgs),
    /// Fetch the basis of a node, or describe one in a file
    #[command(after_help = codecs::BASIS)]
    Basis(BasisArgs),
    /// Send one message to many agents so that all are ready together, and gather their answers
    #[command(after_help = mesh::GATHER)]
    Gather(Box<GatherArgs>),
    /// Show the agents of a node
    #[command(after_help = mesh::AGENTS)]
    Agents(AgentsArgs),
    /// Show the sectors and clusters of a node's agents
    #[command(after_help = mesh::MAP)]
    Map(MapArgs),
    /// Open, half-open or close the breaker of a part of the mesh
    #[command(after_help = mesh::CIRCUIT)]
    Circuit(CircuitArgs),
    /// Freeze a part of the mesh, or thaw it
    #[command(after_help = mesh::FREEZE)]
    Freeze(FreezeArgs),
    /// Add a second operator's signature to an order that a node holds
    #[command(after_help = keys::COUNTERSIGN)]
    Countersign(CountersignArgs),
    /// Make a key that signs orders, or show one
    #[command(after_help = keys::KEY)]
    Key(KeyArgs),
    /// Make an authority, issue certificates, renew them, show them
    #[command(after_help = ca::CA)]
    Ca(CaArgs),
    /// Show a node at a glance: its mesh, status bar, rates, workers, what it falls back on
    #[command(after_help = console::STATUS)]
    Status(StatusArgs),
    /// The same each second in the terminal, and a way down to each agent
    #[command(after_help = console::TOP)]
    Top(TopArgs),
    /// Show what became of a request: what it waited for, where it was computed and why there
    #[command(after_help = why::HELP)]
    Why(WhyArgs),
    /// Print a configuration file with every setting, commented out
    #[command(after_help = CONFIG)]
    Config(ConfigArgs),
    /// Show what this host offers, what will be used, and what to do about the rest
    #[command(after_help = CHECK)]
    Check(CheckArgs),
    /// Print what makes a shell complete commands
    #[command(after_help = console::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Write manual pages
    #[command(after_help = console::MAN)]
    Man(ManArgs),
    /// The process that computes; started by serve, never by hand
    #[command(hide = true)]
    Worker(WorkerArgs),
    /// Read a file of kept state whole, and repair what a crash tore: for serve, and for backups
    #[command(hide = true)]
    ProveState(ProveArgs),
}

const DEMO: &str = "\
Examples:
  butterfly demo
  butterfly demo --seconds 2 --json
  butterfly demo --mesh

Exit codes: 0 shown and every check held, 1 something failed, 2 could not start";

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Seconds under load, over all operations
    #[arg(long, default_value_t = 6.0, value_name = "N")]
    pub(crate) seconds: f64,
    /// Only the mesh: simulated agents that land together
    #[arg(long)]
    pub(crate) mesh: bool,
    /// Agents of the mesh
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    pub(crate) agents: u32,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

const SERVE: &str = "\
Examples:
  butterfly serve
  butterfly serve --listen 127.0.0.1:7171 --listen '[::1]:7171' --uds /run/butterfly.sock
  butterfly serve --config node.toml --workers 4 --poll latency
  butterfly serve --lm-head lm_head.safetensors
  butterfly serve --listen 0.0.0.0:7171 --tls-ca ca.pem --tls-cert node.pem --tls-key node.key
  butterfly serve --quic '[::]:7171' --tls-ca ca.pem --tls-cert node.pem --tls-key node.key
  butterfly serve --otlp http://127.0.0.1:4318 --otlp-sample 0.01
  butterfly serve --handover /run/butterfly.handover   # started again, it takes over at once
  butterfly serve --http 127.0.0.1:7180     # the status page, /metrics, /healthz, /readyz
  butterfly serve --http 0.0.0.0:7180 --http-open --http-host node-1.example.org

In the file, [identity.ROLE] (client, worker-host, agent, node, operator), [identity.local] for
whoever proves nothing, and [[identity.peer]] with a name bound what they may do:
  max_connections = 8
  requests_per_second = 1000
  requests_in_flight = 64
  bytes_in_flight = \"64MiB\"
  operations = [\"topk\", \"int8\"]
  idle_timeout = \"300s\"

Prints `listening tcp ADDR` (`tls ADDR`, `unix PATH`, `quic ADDR`, `http http://ADDR/`) for every
address and then `ready`. SIGTERM or SIGINT drains: new work is refused, work under way is finished.
A second signal ends at once. SIGHUP reads certificates again, as does a change of their files; no
connection is dropped for it.

Exit codes: 0 drained, 1 failed while running or drain cut off, 2 could not start";

const HANDOVER: &str = "\
Takes the flags of serve. The new node runs in the background with the same standard output; the
old one answers on until its peers have left. Where the new one cannot start, the old one serves on.

Examples:
  butterfly handover --config /etc/butterfly/butterfly.toml
  butterfly handover --listen 127.0.0.1:7171 --handover /run/butterfly/handover

Exit codes: 0 the new node serves, 1 it did not come up, 2 no node runs there, or wrong flags";

/// Arguments of `serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// TOML file with the same names as the flags, `_` for `-`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Everything else.
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Arguments of `worker`: what does not come over its control socket.
#[derive(Args, Debug)]
pub(crate) struct WorkerArgs {
    /// Where to compute.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) backend: Backend,
    /// How to wait.
    #[arg(long, value_enum, default_value = "balanced")]
    pub(crate) poll: Poll,
    /// Which CUDA device, as the driver numbers them.
    #[arg(long, default_value_t = 0)]
    pub(crate) device: u16,
    /// How much of the sandbox.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) sandbox: WorkerSandbox,
    /// Close the sandbox and try this instead of serving: exit code 0 where it could be done.
    #[arg(long = "try", value_name = "WHAT", value_parser = attempt)]
    pub(crate) attempt: Option<Attempt>,
    /// For --try: only these parts of the sandbox.
    #[arg(long, value_name = "PART", value_delimiter = ',', value_parser = part)]
    pub(crate) only: Vec<Part>,
}

fn attempt(text: &str) -> Result<Attempt, String> {
    named(Attempt::ALL, Attempt::name, text)
}

fn part(text: &str) -> Result<Part, String> {
    named(Part::ALL, Part::name, text)
}

fn named<T: Copy, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
    text: &str,
) -> Result<T, String> {
    let names = || all.map(name).join(", ");
    all.into_iter().find(|one| name(*one) == text).ok_or_else(|| format!("one of {}", names()))
}

/// Arguments of `prove-state`.
#[derive(Args, Debug)]
pub(crate) struct ProveArgs {
    /// The file.
    pub(crate) file: PathBuf,
}

const CONFIG: &str = "\
Examples:
  butterfly config > butterfly.toml";

/// Arguments of `config`: none.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {}

const CHECK: &str = "\
Examples:
  butterfly check
  butterfly check --json
  butterfly check --fix                     # what to type about what is lacking
  butterfly check --fix --shell | sudo sh   # does it

Exit codes: 0 serve would work here, 1 it would not";

/// Arguments of `check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Show commands and files for what this host lacks, with reasons; nothing is changed
    #[arg(long)]
    pub(crate) fix: bool,
    /// With --fix: as a script for root
    #[arg(long, requires = "fix", conflicts_with = "json")]
    pub(crate) shell: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}
