//! `cargo xtask`: the one door to everything that keeps this tree in order.
#![forbid(unsafe_code)]

mod chaos;
mod ci;
mod deb;
mod deny;
mod docs;
mod fuzz;
mod kernels;
mod reproduce;
mod sbom;
mod steps;
mod tidy;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

pub(crate) const HELP: &str = "\
cargo xtask <command>

  ci [--only A,B] [--skip A,B] [--list]   every gate, in order, with a table at the end
  tidy                                    reads the sources: sizes, bans, arrows, dead files
  kernels [--check]                       makes the GPU code from its sources, or compares it
  chaos [--debug] [...]                   real nodes under faults; chaos --help says more
  deny                                    licences and sources of all dependencies, without tools
  fuzz [--seconds N] [--target A,B] [--jobs J] [--keep] [--plain]
                                          hostile bytes through every reader, N seconds each
  deb [--debug] [--version V]             the Debian package, in target/deb/
  docs [FILE...]                          runs what the documents tell people to type
  sbom                                    what is in the program, as CycloneDX in target/
  reproduce                               two release builds in two folders: the same bytes?
  help                                    this text

`ci` goes on after a failing step, so that one run shows everything, and ends with exit code 1.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    match command {
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        "ci" if rest.iter().any(|argument| argument == "--help" || argument == "-h") => {
            println!("{HELP}\n\nSteps:\n{}", steps::listing());
            ExitCode::SUCCESS
        }
        "ci" => match ci::Selection::parse(rest) {
            Ok(Some(selection)) => ci::run(&root(), &selection),
            Ok(None) => {
                println!("{}", steps::listing());
                ExitCode::SUCCESS
            }
            Err(message) => refuse(&message),
        },
        "tidy" => report("tidy", &tidy::check(&root())),
        "kernels" => match rest {
            [] => kernels::run(&root(), false),
            [flag] if flag == "--check" => kernels::run(&root(), true),
            _ => refuse("kernels takes --check, or nothing"),
        },
        "fuzz" => match fuzz::Options::parse(rest) {
            Ok(options) => fuzz::run(&root(), &options),
            Err(message) => refuse(&message),
        },
        "chaos" => chaos::run(&root(), rest),
        "sbom" => done("sbom", sbom::write(&root(), &target())),
        "deb" => match deb::Options::parse(rest) {
            Ok(options) => done("deb", deb::make(&root(), &target(), &options).map(drop)),
            Err(message) => refuse(&message),
        },
        "docs" => docs::run(&root(), &target(), rest),
        "reproduce" => done("reproduce", reproduce::check(&root(), &target())),
        "deny" => report("deny", &deny::check(&root())),
        other => refuse(&format!("unknown command `{other}`")),
    }
}

/// The workspace's root folder: known at compile time, because xtask only ever runs from its own
/// checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tools/xtask lies two folders below the root")
        .to_path_buf()
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |folder| root().join(PathBuf::from(folder)))
}

fn done(name: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{name}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("xtask: {message}\n\n{HELP}");
    ExitCode::from(2)
}

fn report(name: &str, findings: &[tidy::Finding]) -> ExitCode {
    for finding in findings {
        println!("{finding}");
    }
    println!("{name}: {} finding(s)", findings.len());
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
