//! `chaos`: real nodes, real faults, and an account of every request.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod conn;
mod crowd;
mod inject;
mod ledger;
mod liar;
mod netem;
mod node;
mod operator;
mod plan;
mod proxy;
mod report;
mod requests;
mod run;
mod sample;
mod soak;
mod stage;
mod succession;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
