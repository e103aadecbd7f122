//! `decompress`, `calibrate`, `basis`.

use clap::Args;
use std::path::PathBuf;

pub(super) const DECOMPRESS: &str = "\
Examples:
  butterfly decompress --in coded.safetensors --out restored.safetensors
  butterfly decompress --in coded.safetensors --out restored.safetensors --basis basis.safetensors
  butterfly decompress --in coded.safetensors --out restored.safetensors --addr 127.0.0.1:7171 \\
      --original hidden.safetensors

Top-k sets are restored to indices I32 [rows,k] (-1 where a row has fewer entries), values F32
[rows,k], logsumexp F64 [rows], flags U8 [rows]; hidden states to an F32 tensor of the original
name and shape. Nothing is computed on a node: --addr serves to fetch a basis.

Exit codes: 0 written, 1 failed on the way, 2 bad arguments or file, or the basis is missing";

/// Arguments of `decompress`.
#[derive(Args, Debug)]
pub(crate) struct DecompressArgs {
    /// File that `butterfly compress --codec` wrote
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// safetensors file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The basis that the rows were coded with
    #[arg(long, value_name = "FILE")]
    pub(crate) basis: Option<PathBuf>,
    /// A node that has the basis: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, conflicts_with = "basis")]
    pub(crate) addr: Option<String>,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
    /// The file that was compressed, to judge what was kept
    #[arg(long, value_name = "FILE")]
    pub(crate) original: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) const CALIBRATE: &str = "\
Examples:
  butterfly calibrate --in hidden.safetensors --tensor hidden --out basis.safetensors
  butterfly calibrate --in hidden.safetensors --tensor hidden --out basis.safetensors \\
      --holdout 0.25 --report report.html
  butterfly serve --basis basis.safetensors

The basis is learned from the first rows and judged on the last ones. It is named by the SHA-256 of
its bytes; answers that were coded with it carry that name.

Exit codes: 0 written, 1 failed on the way, 2 bad arguments, file or tensor";

/// Arguments of `calibrate`.
#[derive(Args, Debug)]
pub(crate) struct CalibrateArgs {
    /// safetensors file to read
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Tensor of hidden states in it: F32, F16 or BF16; the last axis is the row
    #[arg(long, value_name = "NAME")]
    pub(crate) tensor: String,
    /// Basis to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Share of the rows that is kept out of learning and judged on, 0 to 0.9
    #[arg(long, value_name = "SHARE", default_value_t = 0.25)]
    pub(crate) holdout: f64,
    /// Dimensions that the lossy codec `pca` keeps [default: none, pca is off]
    #[arg(long, value_name = "R")]
    pub(crate) rank: Option<u32>,
    /// Also write a page with the table and the plot of error against size
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) const BASIS: &str = "\
Examples:
  butterfly basis --addr 127.0.0.1:7171 --out basis.safetensors
  butterfly basis --in basis.safetensors

Exit codes: 0 done, 1 the node has none or did not answer, 2 bad arguments or file";

/// Arguments of `basis`.
#[derive(Args, Debug)]
pub(crate) struct BasisArgs {
    /// Node to fetch from: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, requires = "out", required_unless_present = "input", conflicts_with = "input")]
    pub(crate) addr: Option<String>,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
    /// File to write it to
    #[arg(long, value_name = "FILE", requires = "addr", conflicts_with = "input")]
    pub(crate) out: Option<PathBuf>,
    /// Basis to describe
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;
    use clap::Parser as _;

    #[test]
    fn a_basis_is_fetched_or_described() {
        let parse = |rest: &str| {
            Cli::try_parse_from(format!("butterfly basis {rest}").split_whitespace()).is_ok()
        };
        assert!(parse("--addr a:1 --out f") && parse("--in f --json"));
        for bad in ["", "--addr a:1", "--out f", "--in f --addr a:1 --out g", "--in f --out g"] {
            assert!(!parse(bad), "{bad}");
        }
    }
}
