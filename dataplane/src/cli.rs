//! The command line. Parsing only: every command hands its arguments to the module of its name.

use crate::{
    settings::{Backend, Poll, Settings},
    units::Span,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it ran and failed; the last line says why
  2  it could not start: usage, configuration, address in use, missing file, host not suitable";

/// Zero-copy data plane that compresses logits and hidden states before they touch the wire.
#[derive(Debug, Parser)]
#[command(name = "butterfly", version, after_help = EXIT_CODES, propagate_version = true)]
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
    /// Send a tensor of a safetensors file through a node and keep the compressed answer
    #[command(after_help = COMPRESS)]
    Compress(CompressArgs),
    /// Show a node's counters
    #[command(after_help = STATUS)]
    Status(StatusArgs),
    /// Show what this host offers, what will be used, and what to do about the rest
    #[command(after_help = CHECK)]
    Check(CheckArgs),
    /// The process that computes; started by serve, never by hand
    #[command(hide = true)]
    Worker(WorkerArgs),
}

const DEMO: &str = "\
Examples:
  butterfly demo
  butterfly demo --seconds 2 --json

Exit codes: 0 shown and every check held, 1 something failed, 2 could not start";

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Seconds under load, over all operations
    #[arg(long, default_value_t = 6.0, value_name = "N")]
    pub(crate) seconds: f64,
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

Prints `listening tcp ADDR` for every address and then `ready`. SIGTERM or SIGINT drains: new work
is refused, work under way is finished. A second signal ends at once.

Exit codes: 0 drained, 1 failed while running or drain cut off, 2 could not start";

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
}

const COMPRESS: &str = "\
Examples:
  butterfly compress --addr 127.0.0.1:7171 --in logits.safetensors --tensor logits \\
      --topk 100 --out top.safetensors
  butterfly compress --addr 127.0.0.1:7171 --in hidden.safetensors --tensor hidden \\
      --int8 row --out int8.safetensors
  butterfly compress --addr unix:///run/butterfly.sock --in hidden.safetensors --tensor hidden \\
      --lm-head --topk 256 --values bf16 --out top.safetensors

The last axis of the tensor is the row; all axes before it are counted together as rows.
Output of top-k and lm-head: indices I32 [rows,k] (-1 where a row has fewer valid entries),
values F32 [rows,k], logsumexp F64 [rows], flags U8 [rows].
Output of int8: codes I8 [rows,n], scales F32 [rows], flags U8 [rows].

Exit codes: 0 written, 1 refused or connection lost, 2 bad arguments, file or tensor";

/// Element type of returned values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Values {
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// As computed.
    F32,
}

/// Groups of an int8 scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Int8 {
    /// One scale per row.
    Row,
}

/// Arguments of `compress`.
#[derive(Args, Debug)]
pub(crate) struct CompressArgs {
    /// The node: HOST:PORT or unix:///PATH
    #[arg(long)]
    pub(crate) addr: String,
    /// safetensors file to read
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Tensor in it: F32, F16 or BF16, any rank from 1
    #[arg(long, value_name = "NAME")]
    pub(crate) tensor: String,
    /// Keep the K largest of each row, 1 to 1024
    #[arg(long, value_name = "K", required_unless_present = "int8", conflicts_with = "int8")]
    pub(crate) topk: Option<u32>,
    /// How values travel [default: f32]
    #[arg(long, requires = "topk")]
    pub(crate) values: Option<Values>,
    /// Quantise each row to int8
    #[arg(long, value_name = "SCALE")]
    pub(crate) int8: Option<Int8>,
    /// The rows are hidden states: multiply by the node's weights first
    #[arg(long, requires = "topk")]
    pub(crate) lm_head: bool,
    /// safetensors file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Bytes of rows in one request at most; a single row may be larger
    #[arg(long, value_name = "SIZE", default_value = "512KiB")]
    pub(crate) request: crate::units::Bytes,
    /// Requests under way at a time
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) depth: usize,
    /// How long to go on after refusals that may pass
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) patience: Span,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

const STATUS: &str = "\
Examples:
  butterfly status --addr 127.0.0.1:7171
  butterfly status --addr unix:///run/butterfly.sock --json

Exit codes: 0 shown, 1 no answer";

/// Arguments of `status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// The node: HOST:PORT or unix:///PATH
    #[arg(long, default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

const CHECK: &str = "\
Examples:
  butterfly check
  butterfly check --json

Exit codes: 0 serve would work here, 1 it would not";

/// Arguments of `check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_operation_is_required_and_only_one() {
        let base = "butterfly compress --addr a:1 --in x --tensor t --out y";
        let parse = |rest: &str| Cli::try_parse_from(format!("{base} {rest}").split_whitespace());
        for good in ["--topk 5", "--topk 5 --values bf16", "--int8 row", "--lm-head --topk 9"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "--int8 row --topk 5", "--lm-head", "--values f16", "--int8 column"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
