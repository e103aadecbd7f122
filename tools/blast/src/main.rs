//! The `blast` program: exit status 0, 1 for errors or lost requests, 2 for wrong usage or no
//! connection.
#![forbid(unsafe_code)]

use blast::{
    Report,
    cli::{Cli, Command, RunArgs},
};
use clap::Parser;
use std::{fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let Command::Run(args) = Cli::parse().command;
    match run(&args) {
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
    show(&report, args.json.as_deref())?;
    Ok(report.is_clean())
}

fn show(report: &Report, json: Option<&Path>) -> Result<(), String> {
    let Some(path) = json else {
        println!("{report}");
        return Ok(());
    };
    let mut text = serde_json::to_string_pretty(report).map_err(|fault| fault.to_string())?;
    text.push('\n');
    if path == Path::new("-") {
        print!("{text}");
        return Ok(());
    }
    println!("{report}");
    fs::write(path, text).map_err(|fault| format!("cannot write {}: {fault}", path.display()))
}
