//! `key`, `countersign`, and what commands that give orders are signed with.

use crate::trust::HexId;
use clap::{Args, Subcommand};
use std::path::PathBuf;

pub(super) const KEY: &str = "\
Examples:
  butterfly key new operator.key            # writes operator.key and operator.key.pub
  butterfly key show operator.key --json
  butterfly serve --operator-keys keys/     # keys/ has operator.key.pub
  butterfly freeze --scope all --sign-key operator.key

Exit codes: 0 done, 1 no randomness, 2 a file cannot be read or written";

/// Arguments of `key`.
#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    /// What to do with it
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

/// What `key` does.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key that signs: FILE, for its owner alone, and FILE.pub for nodes to trust
    New {
        /// A file that is not there yet
        file: PathBuf,
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Show the public half and the id of a key
    Show {
        /// A file of `key new`, either half
        file: PathBuf,
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
}

/// What an order is signed with.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SignArgs {
    /// Key to sign with, made by `butterfly key new`; repeat for more
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: Vec<PathBuf>,
    /// Only the node with this key id may obey [default: every node that trusts the key]
    #[arg(long, value_name = "ID", requires = "sign_key")]
    pub(crate) for_node: Option<HexId>,
}

pub(super) const COUNTERSIGN: &str = "\
Examples:
  butterfly freeze --scope all --sign-key ann.key --save freeze.order   # is held by the node
  butterfly countersign freeze.order --sign-key bob.key                 # within five minutes

Shows what the order says, adds a signature and sends it.

Exit codes: 0 it holds, 1 failed, 2 bad arguments";

/// Arguments of `countersign`.
#[derive(Args, Debug)]
pub(crate) struct CountersignArgs {
    /// What --save wrote
    pub(crate) file: PathBuf,
    /// The node: HOST:PORT or unix:///PATH
    #[arg(long, env = "BUTTERFLY_ADDR", default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// The second operator's key
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) sign_key: Vec<PathBuf>,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
}

#[cfg(test)]
mod tests {
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn parse(line: &str) -> Result<Command, String> {
        let words = format!("butterfly {line}");
        Cli::try_parse_from(words.split_whitespace())
            .map(|cli| cli.command)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn orders_name_their_keys() {
        let line = "freeze --scope all --sign-key a --sign-key b --for-node 00112233445566ff";
        let Ok(Command::Freeze(args)) = parse(line) else { panic!("parses") };
        assert_eq!(args.sign.sign_key.len(), 2);
        assert_eq!(args.sign.for_node.map(|id| id.0[7]), Some(0xFF));
        assert!(matches!(parse("key new x"), Ok(Command::Key(_))));
        assert!(matches!(parse("countersign x --sign-key b"), Ok(Command::Countersign(_))));
        for bad in
            ["key", "countersign x", "freeze --scope all --for-node 00112233445566ff", "key new"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
