//! Arguments of what shows a node, and of what helps a person at a shell.

use clap::{Args, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

pub(super) const STATUS: &str = "\
Examples:
  butterfly status
  butterfly status --addr 127.0.0.1:7171 --counters
  butterfly status --addr unix:///run/butterfly.sock --json

Bar: agents, or workers where there are no agents. ready: active and idle; trusted: the same, and
99% of 20 or more messages of the last hour answered; busy: something waits, or degraded by load;
unknown: unheard of for 10 s, drifting or quarantined; offline.

NO_COLOR turns colours off; without UTF-8 in LC_ALL, LC_CTYPE or LANG marks are ASCII.

Exit codes: 0 shown, 1 no answer";

/// Arguments of `status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// The node: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, env = "BUTTERFLY_ADDR", default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
    /// Every counter, in tables below
    #[arg(long)]
    pub(crate) counters: bool,
    /// Print one JSON object instead
    #[arg(long, conflicts_with = "counters")]
    pub(crate) json: bool,
}

pub(super) const TOP: &str = "\
Examples:
  butterfly top
  butterfly top --addr tls://node-1.example.org:7171 --ca ca.pem --cert ann.pem --key ann.key

Keys: arrows and Tab move, Enter opens (sector, cluster, agents, agent), Esc goes back, / filters,
s sorts, p pauses, ? shows all of them, q quits. It only reads. 60 x 15 is enough.

Exit codes: 0 quit, 1 no answer at the start, 2 no terminal";

/// Arguments of `top`.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// The node: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, env = "BUTTERFLY_ADDR", default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
}

/// A program of this project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// This one.
    Butterfly,
    /// The load tool.
    Blast,
}

pub(super) const COMPLETIONS: &str = "\
Examples:
  butterfly completions bash > ~/.local/share/bash-completion/completions/butterfly
  butterfly completions zsh > ~/.zfunc/_butterfly
  butterfly completions fish > ~/.config/fish/completions/butterfly.fish
  butterfly completions bash --program blast > ~/.local/share/bash-completion/completions/blast

Exit codes: 0 printed";

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    #[arg(value_parser = shell, value_name = "bash|zsh|fish")]
    pub(crate) shell: Shell,
    /// Of which program
    #[arg(long, value_enum, default_value = "butterfly")]
    pub(crate) program: Program,
}

fn shell(text: &str) -> Result<Shell, String> {
    match text {
        "bash" => Ok(Shell::Bash),
        "zsh" => Ok(Shell::Zsh),
        "fish" => Ok(Shell::Fish),
        _ => Err("one of bash, zsh, fish".to_owned()),
    }
}

pub(super) const MAN: &str = "\
Examples:
  butterfly man --out ~/.local/share/man/man1
  man butterfly-serve

Writes a page for each command of butterfly and of blast, and replaces those that are there.

Exit codes: 0 written, 1 it could not be written";

/// Arguments of `man`.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The folder, made where it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}
