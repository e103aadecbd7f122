//! `butterfly`: the assembly of the data plane. Command line to plan, plan to threads and
//! processes.
#![forbid(unsafe_code)]

mod agents;
mod arrivals;
mod basis;
mod ca;
mod calibrate;
mod certificates;
mod check;
mod cli;
mod coded;
mod completions;
mod compress;
mod config;
mod control;
mod decompress;
mod demo;
mod facts;
mod failure;
#[cfg(test)]
mod folder;
mod gather;
mod glance;
mod handover;
mod health;
mod host;
mod http;
mod identity;
mod judge;
mod listen;
mod map;
mod memory;
mod mesh;
mod observe;
mod orders;
mod otlp;
mod plan;
mod process;
mod progress;
mod quic;
mod reach;
mod say;
mod screen;
mod security;
mod serve;
mod settings;
mod shards;
mod signals;
mod status;
mod successor;
mod supervisor;
mod table;
mod tensors;
mod threads;
mod top;
mod traces;
mod trust;
mod units;
mod weights;
mod why;
mod workers;

use cli::Command;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match cli::parse() {
        Command::Serve(args) => serve::run(&args),
        Command::Handover(args) => successor::run(&args),
        Command::Compress(args) => compress::run(&args),
        Command::Decompress(args) => decompress::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Basis(args) => basis::run(&args),
        Command::Gather(args) => match gather::run(&args) {
            Ok(wire::mesh::Decision::Proceed) => Ok(()),
            Ok(_) => return ExitCode::from(gather::EXIT_OTHER),
            Err(failure) => Err(failure),
        },
        Command::Agents(args) => agents::run(&args),
        Command::Map(args) => map::run(&args),
        Command::Circuit(args) => orders::circuit(&args),
        Command::Freeze(args) => orders::freeze(&args),
        Command::Countersign(args) => orders::countersign(&args),
        Command::Key(args) => trust::run(&args),
        Command::Ca(args) => ca::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
        Command::Why(args) => why::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Check(args) => match check::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(failure) => Err(failure),
        },
        Command::ProveState(args) => match mesh::store::prove_here(&args.file) {
            Ok(()) => Ok(()),
            Err((code, failure)) => {
                say::note(failure.text());
                return ExitCode::from(code);
            }
        },
        Command::Demo(args) => demo::run(&args),
        Command::Worker(args) => return process::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::note(format!("butterfly: {}", failure.text()));
            failure.exit_code()
        }
    }
}
