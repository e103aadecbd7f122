//! The `blast` program: exit status 0, 1 for errors or lost requests, 2 for wrong usage or no
//! connection.
#![forbid(unsafe_code)]

use blast::{
    agents::{self, AgentsArgs},
    cli::{Cli, Command, OverloadArgs, RunArgs},
};
use clap::Parser;
use serde::Serialize;
use std::{
    fmt::Display,
    fs,
    io::Write,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let clean = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Overload(args) => overload(&args),
        Command::Agents(args) => be_agents(&args),
    };
    match clean {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(what) => {
            eprintln!("blast: {what}");
            ExitCode::from(2)
        }
    }
}

/// True for a clean run.
fn run(args: &RunArgs) -> Result<bool, String> {
    let config = args.config().map_err(|fault| fault.to_string())?;
    let report = blast::run(config).map_err(|fault| fault.to_string())?;
    show(&report, args.load.json.as_deref())?;
    Ok(report.is_clean())
}

/// True where every step was clean.
fn overload(args: &OverloadArgs) -> Result<bool, String> {
    let plan = args.plan().map_err(|fault| fault.to_string())?;
    let report = blast::overload(&plan).map_err(|fault| fault.to_string())?;
    show(&report, args.load.json.as_deref())?;
    Ok(report.is_clean())
}

/// True where all agents registered and nothing broke.
fn be_agents(args: &AgentsArgs) -> Result<bool, String> {
    let config = args.config().map_err(|fault| fault.to_string())?;
    let stop = Arc::new(AtomicBool::new(false));
    watch_signals(stop.clone())?;
    let report = agents::run(config, &stop).map_err(|fault| fault.to_string())?;
    show(&report, args.json.as_deref())?;
    Ok(report.is_clean())
}

/// Sets `stop` at the first SIGINT or SIGTERM; the second one ends the program.
fn watch_signals(stop: Arc<AtomicBool>) -> Result<(), String> {
    let fault = |fault: std::io::Error| format!("cannot watch signals: {fault}");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(fault)?;
    let signals = {
        let _context = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate()].map(signal)
    };
    let [interrupt, terminate] = signals;
    let (mut interrupt, mut terminate) = (interrupt.map_err(fault)?, terminate.map_err(fault)?);
    let watch = move || {
        runtime.block_on(async {
            for count in 0.. {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if count > 0 {
                    std::process::exit(130);
                }
                stop.store(true, Relaxed);
            }
        });
    };
    thread::Builder::new().name("blast-signals".to_owned()).spawn(watch).map_err(fault)?;
    Ok(())
}

fn show<R: Display + Serialize>(report: &R, json: Option<&Path>) -> Result<(), String> {
    let Some(path) = json else {
        return print(&format!("{report}\n"));
    };
    let mut text = serde_json::to_string_pretty(report).map_err(|fault| fault.to_string())?;
    text.push('\n');
    if path == Path::new("-") {
        return print(&text);
    }
    print(&format!("{report}\n"))?;
    fs::write(path, text).map_err(|fault| format!("cannot write {}: {fault}", path.display()))
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|fault| format!("cannot write to standard output: {fault}"))
}
