//! `compress`.

use crate::units::{Bytes, Span};
use clap::{Args, ValueEnum, builder::PossibleValue};
use std::path::PathBuf;

pub(super) const HELP: &str = "\
Examples:
  butterfly compress --addr 127.0.0.1:7171 --in logits.safetensors --tensor logits \\
      --topk 100 --out top.safetensors
  butterfly compress --addr 127.0.0.1:7171 --in logits.safetensors --tensor logits \\
      --topk 100 --codec set-steps --out coded.safetensors
  butterfly compress --addr 127.0.0.1:7171 --in logits.safetensors --tensor logits \\
      --target-kl 0.05 --out coded.safetensors
  butterfly compress --addr 127.0.0.1:7171 --in hidden.safetensors --tensor hidden \\
      --int8 row --out int8.safetensors
  butterfly compress --addr 127.0.0.1:7171 --in hidden.safetensors --tensor hidden \\
      --codec rotated --step 0.125 --out coded.safetensors
  butterfly compress --addr 127.0.0.1:7171 --in hidden.safetensors --tensor hidden \\
      --target-db 30 --out coded.safetensors
  butterfly compress --addr unix:///run/butterfly.sock --in hidden.safetensors --tensor hidden \\
      --lm-head --topk 256 --values bf16 --out top.safetensors

The last axis of the tensor is the row; all axes before it are counted together as rows.
Output of top-k and lm-head: indices I32 [rows,k] (-1 where a row has fewer valid entries),
values F32 [rows,k], logsumexp F64 [rows], flags U8 [rows].
Output of int8: codes I8 [rows,n], scales F32 [rows], flags U8 [rows].
Output of a codec: data U8, ends U64 [rows], flags U8 [rows]; `butterfly decompress` restores it.

Codecs of top-k sets: set-f16, set-bf16, set-u8, set-tiered, set-steps. Of hidden states:
int8-group, and with a basis on the node (`butterfly serve --basis`) int8-channel, int8-centred,
rotated, pca.

Exit codes: 0 written, 1 refused or connection lost, 2 bad arguments, file or tensor; a target that
cannot be met; a basis that is missing or another";

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

/// A coding that has a name on the command line: every one but plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Codec(pub(crate) wire::Coding);

impl ValueEnum for Codec {
    fn value_variants<'a>() -> &'a [Self] {
        use wire::Coding;
        const {
            &[
                Self(Coding::SetF16),
                Self(Coding::SetBf16),
                Self(Coding::SetU8),
                Self(Coding::SetTiered),
                Self(Coding::SetSteps),
                Self(Coding::Int8Channel),
                Self(Coding::Int8Group),
                Self(Coding::Int8Centred),
                Self(Coding::Rotated),
                Self(Coding::Pca),
            ]
        }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

/// Arguments of `compress`.
#[derive(Args, Debug)]
pub(crate) struct CompressArgs {
    /// The node: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, env = "BUTTERFLY_ADDR", default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
    /// safetensors file to read
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Tensor in it: F32, F16 or BF16, any rank from 1
    #[arg(long, value_name = "NAME")]
    pub(crate) tensor: String,
    /// Keep the K largest of each row, 1 to 1024; with --target-kl at most K
    #[arg(
        long,
        value_name = "K",
        required_unless_present_any = ["int8", "codec", "target_kl", "target_db"],
        conflicts_with_all = ["int8", "target_db"]
    )]
    pub(crate) topk: Option<u32>,
    /// How values travel [default: f32]
    #[arg(long, requires = "topk", conflicts_with_all = ["codec", "target_kl"])]
    pub(crate) values: Option<Values>,
    /// Quantise each row to int8
    #[arg(
        long,
        value_name = "SCALE",
        conflicts_with_all = ["codec", "target_kl", "target_db"]
    )]
    pub(crate) int8: Option<Int8>,
    /// How rows are coded: a set-... with --topk, any other for hidden states
    #[arg(long, value_name = "NAME")]
    pub(crate) codec: Option<Codec>,
    /// For a set-...: keep only as many entries as have this probability together, 0 to 1
    #[arg(long, value_name = "M")]
    pub(crate) mass: Option<f32>,
    /// For rotated: the step, in units of a row's root mean square [default: 0.125]
    #[arg(long, value_name = "S", requires = "codec", conflicts_with = "target_db")]
    pub(crate) step: Option<f32>,
    /// The cheapest set-..., K and mass whose mean KL to the full rows stays at or under X nats
    #[arg(long, value_name = "X", conflicts_with_all = ["target_db", "lm_head", "step"])]
    pub(crate) target_kl: Option<f64>,
    /// The cheapest codec of hidden states, and step, that reaches X dB of signal to noise
    #[arg(long, value_name = "X", conflicts_with = "mass")]
    pub(crate) target_db: Option<f64>,
    /// The basis of codecs that need one, from a file [default: fetched from the node]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topk", "int8", "target_kl"])]
    pub(crate) basis: Option<PathBuf>,
    /// The rows are hidden states: multiply by the node's weights first
    #[arg(long, requires = "topk")]
    pub(crate) lm_head: bool,
    /// safetensors file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Bytes of rows in one request at most; a single row may be larger
    #[arg(long, value_name = "SIZE", default_value = "512KiB")]
    pub(crate) request: Bytes,
    /// Requests under way at a time
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) depth: usize,
    /// What goes first on a busy node: background, normal, high or critical
    #[arg(long, value_name = "P", default_value = "normal", value_parser = priority)]
    pub(crate) priority: wire::Priority,
    /// How long to go on after refusals that may pass
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) patience: Span,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads a priority's name.
fn priority(text: &str) -> Result<wire::Priority, String> {
    wire::Priority::from_name(text).ok_or_else(|| {
        let names = wire::Priority::ALL.iter().map(|priority| priority.name());
        format!("write one of {}", names.collect::<Vec<_>>().join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser as _;

    #[test]
    fn one_operation_is_required_and_only_one() {
        let base = "butterfly compress --addr a:1 --in x --tensor t --out y";
        let parse = |rest: &str| Cli::try_parse_from(format!("{base} {rest}").split_whitespace());
        for good in [
            "--topk 5",
            "--topk 5 --values bf16",
            "--int8 row",
            "--lm-head --topk 9",
            "--codec set-steps --topk 9 --mass 0.9",
            "--codec set-f16 --topk 9 --lm-head",
            "--codec rotated --step 0.25 --basis b",
            "--target-kl 0.1",
            "--target-kl 0.1 --topk 300 --codec set-u8",
            "--target-db 30",
            "--target-db 30 --codec rotated --basis b",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "--int8 row --topk 5",
            "--lm-head",
            "--values f16",
            "--int8 column",
            "--codec plain --topk 5",
            "--codec set-steps --topk 5 --values f16",
            "--int8 row --codec int8-group",
            "--step 0.5 --topk 5",
            "--target-kl 0.1 --target-db 30",
            "--target-kl 0.1 --lm-head --topk 5",
            "--target-db 30 --topk 5",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_coding_but_plain_has_a_name() {
        let names = Codec::value_variants().iter().map(|codec| codec.0);
        assert!(names.eq(wire::Coding::ALL.iter().copied().skip(1)));
    }
}
