//! `ca`.

use crate::units::Span;
use clap::{Args, Subcommand};
use std::path::PathBuf;

pub(super) const CA: &str = "\
Examples:
  butterfly ca init --dir pki
  butterfly ca issue --dir pki --name node-1 --role node --host node-1.example.org,192.0.2.7
  butterfly ca issue --dir pki --name ann --role client,agent --life 7d
  butterfly ca rotate --dir pki
  butterfly ca show --dir pki --json

The authority signs with a key in its folder; keep that folder off the machines that serve, and
carry to each only ca.pem, its own certificate and its own key. There are no revocation lists:
certificates are short-lived, and rotate renews those past half of their life.

Exit codes: 0 done, 1 failed on the way, 2 could not start";

/// Arguments of `ca`.
#[derive(Args, Debug)]
pub(crate) struct CaArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: CaAction,
}

/// What an authority does.
#[derive(Debug, Subcommand)]
pub(crate) enum CaAction {
    /// Make an authority: ca.pem and ca.key in a folder of its own
    Init(InitArgs),
    /// Issue a certificate with a new key: NAME.pem and NAME.key in the same folder
    Issue(IssueArgs),
    /// Renew every certificate past half of its life, each with a new key
    Rotate(RotateArgs),
    /// Show what was issued, to whom, and for how long
    Show(ShowArgs),
}

/// Arguments of `ca init`.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// The authority's folder; made, for its owner alone, if it does not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// What the authority is called in certificates
    #[arg(long, default_value = "butterfly")]
    pub(crate) name: String,
    /// Replace an authority: all that it issued is worth nothing from then on
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `ca issue`.
#[derive(Args, Debug)]
pub(crate) struct IssueArgs {
    /// The authority's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Who it is for: 1 to 64 of A-Z a-z 0-9 . _ -
    #[arg(long)]
    pub(crate) name: String,
    /// What it may be: client, worker-host, agent, node, operator; several with commas
    #[arg(long, value_delimiter = ',', required = true, value_name = "ROLE")]
    pub(crate) role: Vec<String>,
    /// DNS name or IP address under which it is reached; several with commas. Only nodes need any
    #[arg(long, value_delimiter = ',', value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// How long it is valid, 398d at most [default: 30d]
    #[arg(long, value_name = "TIME")]
    pub(crate) life: Option<Span>,
    /// Replace the certificate of this name
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `ca rotate`.
#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    /// The authority's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Renew all, however young
    #[arg(long)]
    pub(crate) all: bool,
}

/// Arguments of `ca show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The authority's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}
