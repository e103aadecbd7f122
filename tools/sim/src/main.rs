//! `sim`: runs seeds in virtual time and shows the first that fails.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use sim::{mesh::cli::MeshArgs, range, run_seed, trace::Lines};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// Runs the data path in virtual time, one world per seed.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// One seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds A..B, B not included.
    #[arg(long, value_parser = range, default_value = "0..1000")]
    seeds: (u64, u64),
    /// Go on from the first seed for so many minutes, however many seeds that is.
    #[arg(long, conflicts_with = "seed")]
    minutes: Option<u64>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the mesh in virtual time instead.
    Mesh(MeshArgs),
}

/// Lines of a failing trace that are shown.
const TAIL: usize = 60;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Mesh(args)) = &cli.command {
        return args.run();
    }
    let (from, to) = match (cli.seed, cli.minutes) {
        (Some(seed), _) => (seed, seed + 1),
        (None, Some(_)) => (cli.seeds.0, u64::MAX),
        (None, None) => cli.seeds,
    };
    let end = cli.minutes.map(|m| Instant::now() + Duration::from_secs(60 * m));
    let (mut ran, mut turns, mut answers) = (0u64, 0u64, 0usize);
    for seed in from..to {
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        match run(seed, cli.trace) {
            Ok(summary) => {
                ran += 1;
                turns += summary.turns;
                answers += summary.answers;
                if cli.seed.is_some() {
                    println!("seed {seed}: trace {:016x}, {} ns", summary.hash, summary.took);
                }
            }
            Err(()) => return ExitCode::FAILURE,
        }
    }
    println!("{ran} seeds, {turns} turns, {answers} answers: nothing wrong");
    ExitCode::SUCCESS
}

/// Runs one seed; a failing one is run again to show how it came about.
fn run(seed: u64, trace: bool) -> Result<sim::Summary, ()> {
    let seed_of_panic = seed;
    std::panic::set_hook(Box::new(move |info| {
        eprintln!("seed {seed_of_panic} panics: {info}");
        eprintln!("replay: sim --seed {seed_of_panic} --trace");
    }));
    if trace {
        return run_seed(seed, Lines::Printed)
            .map_err(|failure| eprintln!("seed {seed}: {}", failure.what));
    }
    run_seed(seed, Lines::Hashed).map_err(|failure| {
        let again = run_seed(seed, Lines::Kept).err().unwrap_or(failure);
        let shown = again.trace.len().saturating_sub(TAIL);
        again.trace[shown..].iter().for_each(|line| eprintln!("{line}"));
        eprintln!("seed {seed}: {}", again.what);
        eprintln!("replay: sim --seed {seed} --trace");
    })
}
