//! `butterfly`: the assembly of the data plane. Command line to plan, plan to threads and processes.
#![forbid(unsafe_code)]

mod check;
mod cli;
mod compress;
mod control;
mod failure;
mod host;
mod judge;
mod listen;
mod memory;
mod plan;
mod serve;
mod settings;
mod shards;
mod status;
mod table;
mod tensors;
mod threads;
mod units;
mod weights;
mod workers;

use clap::Parser;
use cli::{Cli, Command};
use failure::Failure;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Compress(args) => compress::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Check(args) => match check::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(failure) => Err(failure),
        },
        Command::Demo(_) => Err(Failure::setup("demo: not wired yet")),
        Command::Worker => Err(Failure::setup("worker: not wired yet")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("butterfly: {}", failure.text());
            failure.exit_code()
        }
    }
}
