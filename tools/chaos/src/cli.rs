//! The command line.

use crate::{
    crowd, liar,
    plan::Kind,
    report,
    run::{Ask, run},
    soak, succession,
};
use clap::{Args, Parser, Subcommand};
use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

const EXAMPLES: &str = "\
Examples:
  chaos --minutes 5 --seed 7
  chaos --minutes 1 --seed 1 --faults worker-kill,node-kill --json report.json
  chaos --seconds 20 --seeds 1..9
  chaos --handovers 5
  chaos --soak --minutes 60
  chaos --crowd 10000 --minutes 2

Exit codes: 0 every request has its account and nothing else went wrong, 1 something went wrong,
2 it could not start";

/// Real nodes, real faults, and an account of every request.
#[derive(Debug, Parser)]
#[command(name = "chaos", after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    args: ChaosArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What a node starts as its worker
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// A run of faults.
#[derive(Args, Debug)]
struct ChaosArgs {
    /// How long
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    minutes: f64,
    /// The same in seconds
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    seconds: Option<f64>,
    /// What the plan of faults comes from
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Seeds A..B, B not included, one run each
    #[arg(long, value_parser = range, value_name = "A..B", conflicts_with = "seed")]
    seeds: Option<(u64, u64)>,
    /// Only these kinds, all of them in every run [default: all, some left out by the seed]
    #[arg(long, value_delimiter = ',', value_parser = kind, value_name = "KINDS")]
    faults: Vec<Kind>,
    /// In place of faults: a steady load, and whether anything grows
    #[arg(long, conflicts_with_all = ["faults", "seed", "seeds", "crowd", "handovers"])]
    soak: bool,
    /// In place of faults: so many garbage, slow, half-open and idle connections beside the load
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10000",
          value_parser = clap::value_parser!(u32).range(4..=60_000),
          conflicts_with_all = ["faults", "seed", "seeds", "handovers"])]
    crowd: Option<u32>,
    /// In place of faults: so many nodes after each other at the same address
    #[arg(long, value_name = "N", conflicts_with_all = ["faults", "seed", "seeds"],
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    handovers: Option<u32>,
    /// Requests per second over all clients
    #[arg(long, default_value_t = 600.0, value_name = "N")]
    rate: f64,
    /// Write the reports to this file, a JSON object per line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do not print the plans
    #[arg(long)]
    quiet: bool,
}

/// Arguments of `worker`, as the node gives them.
#[derive(Args, Debug)]
struct WorkerArgs {
    #[arg(long)]
    backend: String,
    #[arg(long)]
    poll: String,
    #[arg(long)]
    sandbox: String,
    #[arg(long)]
    device: u16,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("no such kind; there are {}", names.join(", "))
    })
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let parsed = text
        .split_once("..")
        .and_then(|(from, to)| Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?)));
    parsed.filter(|(from, to)| from < to).ok_or_else(|| "write A..B with A below B".to_owned())
}

/// Parses and runs; the exit code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Some(Command::Worker(args)) => worker(args),
        None => finish(chaos(&cli.args)),
    }
}

fn finish(done: Result<bool, String>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("chaos: {why}");
            ExitCode::from(2)
        }
    }
}

fn worker(args: &WorkerArgs) -> ExitCode {
    let backend = match args.backend.as_str() {
        "cuda" => worker::Choice::Cuda,
        "auto" => worker::Choice::Auto,
        _ => worker::Choice::Cpu,
    };
    let poll = match args.poll.as_str() {
        "latency" => worker::Poll::Latency,
        "balanced" => worker::Poll::Balanced,
        _ => worker::Poll::Frugal,
    };
    let sandbox = match args.sandbox.as_str() {
        "require" => worker::sandbox::Mode::Require,
        "off" => worker::sandbox::Mode::Off,
        _ => worker::sandbox::Mode::Auto,
    };
    liar::run(&worker::Args { backend, poll, device: args.device, sandbox })
}

/// Length of a run from minutes or seconds.
fn length(minutes: f64, seconds: Option<f64>) -> Result<Duration, String> {
    let seconds = seconds.unwrap_or(minutes * 60.0);
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|length| (5..=86_400).contains(&length.as_secs()))
        .ok_or_else(|| "a run takes from 5 seconds to a day".to_owned())
}

fn chaos(args: &ChaosArgs) -> Result<bool, String> {
    let length = length(args.minutes, args.seconds)?;
    if !(1.0..=1e6).contains(&args.rate) {
        return Err("--rate takes from 1 to a million requests per second".to_owned());
    }
    if let Some(done) = other(args, length)? {
        return Ok(done);
    }
    let swarm = args.faults.is_empty();
    let kinds = if swarm { Kind::ALL.to_vec() } else { args.faults.clone() };
    let (from, to) = args.seeds.unwrap_or((args.seed, args.seed + 1));
    let (mut lines, mut holds) = (String::new(), true);
    for seed in from..to {
        let ask = Ask { seed, length, kinds: kinds.clone(), swarm, rate: args.rate };
        println!("seed {seed}, {length:?}");
        let outcome = run(&ask, |plan| {
            if !args.quiet {
                print!("{}", report::plan(plan));
            }
        })?;
        println!("{}", report::text(&outcome));
        lines += &format!("{}\n", report::json(seed, &outcome));
        if !outcome.holds() {
            holds = false;
            println!("again: chaos --seconds {} --seed {seed}", length.as_secs_f64());
        }
    }
    write_report(args.json.as_ref(), &lines)?;
    Ok(holds)
}

/// What is asked for in place of faults; `None` where nothing is.
fn other(args: &ChaosArgs, length: Duration) -> Result<Option<bool>, String> {
    let (text, json, holds) = if args.soak {
        let soak = soak::run(length, args.rate)?;
        (report::words(&soak.account) + "\n" + &soak.text(), soak.json(), soak.holds())
    } else if let Some(count) = args.crowd {
        let crowd = crowd::run(length, args.rate, count as usize)?;
        (crowd.text(), crowd.json(), crowd.holds())
    } else if let Some(count) = args.handovers {
        let pause = Duration::from_secs(2).min(length / (count + 1));
        let outcome = succession::run(count, pause, args.rate)?;
        (outcome.text(), outcome.json(), outcome.holds())
    } else {
        return Ok(None);
    };
    println!("{text}");
    write_report(args.json.as_ref(), &format!("{json}\n"))?;
    Ok(Some(holds))
}

fn write_report(file: Option<&PathBuf>, lines: &str) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    fs::write(file, lines).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
