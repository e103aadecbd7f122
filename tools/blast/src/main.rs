//! The `blast` program: exit status 0, 1 for errors or lost requests, 2 for wrong usage or no
//! connection.
#![forbid(unsafe_code)]

use blast::{
    agents::{self, AgentsArgs},
    cli::{Cli, Command, CompareArgs, OutArgs, OverloadArgs, ReportArgs, RunArgs, SweepArgs},
    compare::{self, Named},
    config::BlastError,
    document::{Body, Document},
    html,
    origin::Origin,
    sweep, terminal,
};
use clap::Parser;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Sweep(args) => be_swept(&args),
        Command::Compare(args) => compare_files(&args),
        Command::Report(args) => report(&args),
        Command::Overload(args) => overload(&args),
        Command::Agents(args) => be_agents(&args),
    };
    match done {
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
    let config = args.config().map_err(text)?;
    args.load.out.check().map_err(text)?;
    let origin = origin();
    let run = blast::measure(config).map_err(text)?;
    publish(&Document::new(origin, Body::Run(Box::new(run))), &args.load.out)
}

/// True where every run was clean, and the bounds are kept at some rate.
fn be_swept(args: &SweepArgs) -> Result<bool, String> {
    let plan = args.plan().map_err(text)?;
    args.load.out.check().map_err(text)?;
    let origin = origin();
    let mut tell = |line: &str| {
        if !args.load.quiet {
            eprintln!("{line}");
        }
    };
    let found = sweep::sweep(&plan, &mut tell).map_err(text)?;
    publish(&Document::new(origin, Body::Sweep(found)), &args.load.out)
}

/// True where B is not worse.
fn compare_files(args: &CompareArgs) -> Result<bool, String> {
    let (a, b) = args.sides().map_err(text)?;
    args.out.check().map_err(text)?;
    let read = |files: &[PathBuf]| -> Result<Vec<Named>, String> {
        files.iter().map(|file| named(file)).collect()
    };
    let (a, b) = (read(a)?, read(b)?);
    let found = compare::compare(&a, &b, args.plan())?;
    publish(&Document::new(origin(), Body::Compare(found)), &args.out)
}

fn named(file: &Path) -> Result<Named, String> {
    let document = Document::open(file)?;
    let kind = document.body.kind();
    let Body::Run(run) = document.body else {
        let file = file.display();
        return Err(format!("{file}: is of blast {kind}: only runs can be compared"));
    };
    let host = document.origin.host;
    let machine = format!("{}, {} cores", host.cpu, host.cores);
    Ok(Named { file: file.display().to_string(), run: *run, machine })
}

/// True where the report is clean.
fn report(args: &ReportArgs) -> Result<bool, String> {
    args.out.check().map_err(text)?;
    publish(&Document::open(&args.file)?, &args.out)
}

/// True where every step was clean.
fn overload(args: &OverloadArgs) -> Result<bool, String> {
    let plan = args.plan().map_err(text)?;
    args.load.out.check().map_err(text)?;
    let origin = origin();
    let found = blast::overload(&plan).map_err(text)?;
    publish(&Document::new(origin, Body::Overload(found)), &args.load.out)
}

/// True where all agents registered and nothing broke.
fn be_agents(args: &AgentsArgs) -> Result<bool, String> {
    let config = args.config().map_err(text)?;
    args.out.check().map_err(text)?;
    let origin = origin();
    let stop = Arc::new(AtomicBool::new(false));
    watch_signals(stop.clone())?;
    let report = agents::run(config, &stop).map_err(text)?;
    publish(&Document::new(origin, Body::Agents(Box::new(report))), &args.out)
}

fn text(fault: BlastError) -> String {
    fault.to_string()
}

/// This moment, this machine, this command.
fn origin() -> Origin {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let command = std::iter::once("blast".to_owned()).chain(words).collect();
    Origin { command, ..Origin::here() }
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

/// Prints and writes a report. True where it is clean.
fn publish(document: &Document, out: &OutArgs) -> Result<bool, String> {
    if !out.takes_stdout() {
        print(&format!("{}\n", document.body.text(terminal::columns())))?;
    }
    if let Some(path) = &out.json {
        write(path, &document.json()?)?;
    }
    if let Some(path) = &out.html {
        write(path, &html::page(document))?;
    }
    Ok(document.body.is_clean())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    if path == Path::new("-") {
        return print(text);
    }
    fs::write(path, text).map_err(|fault| format!("cannot write {}: {fault}", path.display()))
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|fault| format!("cannot write to standard output: {fault}"))
}
