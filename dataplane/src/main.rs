//! `butterfly`: the assembly of the data plane. Command line to plan, plan to threads and processes.
#![forbid(unsafe_code)]

mod cli;
mod host;
mod plan;
mod settings;
mod tensors;
mod units;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let cli = cli::Cli::parse();
    println!("{cli:?}");
}
