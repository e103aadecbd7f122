//! Butterfly beside what people use: the same payloads and rates through plain tokio, gRPC,
//! ZeroMQ, NATS and a node, each with its servers in processes of their own. See README.md.
#![forbid(unsafe_code)]

mod floor;
mod grpc;
mod json;
mod load;
mod logits;
mod machine;
mod nats;
mod node;
mod plot;
mod processes;
mod report;
mod results;
mod samples;
mod session;
mod systems;
mod turns;
#[cfg(feature = "zmq")]
mod zeromq;

use clap::{Parser, Subcommand};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};
use systems::System;

/// Butterfly beside what people use: one command, a table for people, JSON for machines.
///
/// Examples:
///   peers --write benches/PEERS.md --json /tmp/peers.json   about five minutes
///   peers --seconds 0.2 --rounds 1 --only floor,nats,echo
///   peers --smoke                                            a few hundred messages each
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
struct Args {
    /// Seconds of load in each cell of each round.
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// Rounds; medians are taken over them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these systems.
    #[arg(long, value_delimiter = ',')]
    only: Vec<System>,
    /// Leave out logits as text and as frames.
    #[arg(long)]
    no_logits: bool,
    /// A few hundred messages in each cell: does everything answer, and with the right bytes?
    #[arg(long)]
    smoke: bool,
    /// The node's program [default: built from this checkout with the profile of this program].
    #[arg(long)]
    butterfly: Option<PathBuf>,
    /// Write every figure of every round here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report here, and its drawing beside it as `.svg`.
    #[arg(long)]
    write: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be one of the servers; this program starts itself so.
    #[command(hide = true)]
    Serve { name: String, place: Option<String> },
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        Some(Command::Serve { name, place }) => serve(name, place.as_deref()).await.map(|()| true),
        None => run(&args).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("peers: {why}");
            ExitCode::from(2)
        }
    }
}

async fn serve(name: &str, place: Option<&str>) -> Result<(), String> {
    match (name, place) {
        ("floor", None) => floor::serve().await,
        ("grpc", None) => grpc::serve().await,
        ("json", None) => json::serve().await,
        #[cfg(feature = "zmq")]
        ("zmq", None) => {
            let serving = tokio::task::spawn_blocking(zeromq::serve);
            serving.await.map_err(|error| error.to_string())?
        }
        ("nats-responder", Some(place)) => nats::respond(place).await,
        _ => Err(format!("no server `{name}`")),
    }
}

/// True if all that was asked for was measured.
async fn run(args: &Args) -> Result<bool, String> {
    if !(args.seconds > 0.0 && args.seconds <= 600.0) || args.rounds == 0 || args.rounds > 1_000 {
        return Err("--seconds takes up to 600, --rounds 1 to 1,000".into());
    }
    let program = match &args.butterfly {
        Some(program) => program.clone(),
        None => node::build()?,
    };
    let begun = Instant::now();
    let scratch = Scratch::new()?;
    let only = if args.only.is_empty() { System::ALL.to_vec() } else { args.only.clone() };
    let (machine, versions) = (machine::machine(), machine::versions(&program));
    let servers = systems::Servers::start(&program, &scratch.0, &only)?;
    for (system, why) in &servers.absent {
        eprintln!("{}: {why}", system.name());
    }
    let amount = session::Amount {
        // A smoke run ends by its count alone.
        time: Duration::from_secs_f64(if args.smoke { 60.0 } else { args.seconds }),
        rounds: if args.smoke { 1 } else { args.rounds },
        most: if args.smoke { session::SMOKE } else { u64::MAX },
    };
    let mut results = results::Results::default();
    session::echoes(&servers, &only, amount, &mut results).await;
    match servers.node() {
        Some((node, id)) if !args.no_logits => {
            let logs = logits::Logs::start(node, id)?;
            session::logits(&logs, amount, &mut results).await?;
        }
        _ => {}
    }
    let about = report::About {
        command: command_line(),
        rounds: amount.rounds,
        seconds: args.seconds,
        machine,
        versions,
        absent: servers.absent.clone(),
        plot: args.write.as_deref().map(plot_path).map(|path| file_name(&path)),
    };
    let failed = results.failures();
    for why in &failed {
        eprintln!("failed: {why}");
    }
    deliver(args, &results, &about)?;
    eprintln!("{:.0} s", begun.elapsed().as_secs_f64());
    Ok(failed.is_empty())
}

fn deliver(args: &Args, results: &results::Results, about: &report::About) -> Result<(), String> {
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let text = report::markdown(results, about);
    if let Some(path) = &args.json {
        let pairs = |facts: &machine::Facts| -> serde_json::Value {
            facts.iter().map(|(name, what)| ((*name).to_owned(), what.clone())).collect()
        };
        let mut all = results.json();
        all["machine"] = pairs(&about.machine);
        all["versions"] = pairs(&about.versions);
        all["command"] = about.command.clone().into();
        write(path, &format!("{all:#}\n"))?;
    }
    if let Some(path) = &args.write {
        write(path, &text)?;
        write(&plot_path(path), &plot::svg(results))?;
    } else if !args.smoke {
        println!("{text}");
    }
    if args.smoke {
        let answered = session::answered(results);
        println!("peers: {answered} messages, each answered with the right bytes or named above");
    }
    Ok(())
}

/// `PEERS.md` has its drawing in `peers.svg`.
fn plot_path(report: &Path) -> PathBuf {
    let stem = report.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    report.with_file_name(format!("{stem}.svg"))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// As a person types it, from the root of the tree.
fn command_line() -> String {
    let profile = if cfg!(debug_assertions) { "" } else { " --release" };
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words = words.join(" ");
    let line = format!("cargo run{profile} --manifest-path benches/peers/Cargo.toml -- {words}");
    line.trim_end().to_owned()
}

/// A folder that is gone with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("butterfly-peers-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
