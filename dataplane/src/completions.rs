//! `butterfly completions` and `butterfly man`: what makes a shell complete the commands, and their
//! manual pages, made out of the command line itself.

use crate::{
    cli::{CompletionsArgs, ManArgs, Program, command},
    failure::Failure,
    say,
};
use clap::CommandFactory as _;
use std::{fs, io::Write as _};

fn of(program: Program) -> clap::Command {
    match program {
        Program::Butterfly => command(),
        Program::Blast => blast::cli::Cli::command(),
    }
}

/// Prints the completions of a program.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut command = of(args.program);
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    // A reader that is gone is no reason to fail.
    let _ = std::io::stdout().lock().write_all(&script);
    Ok(())
}

/// Writes the manual pages of both programs.
pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let out = &args.out;
    let failed = |error| Failure::run(format!("{}: {error}", out.display()));
    fs::create_dir_all(out).map_err(failed)?;
    for program in [Program::Butterfly, Program::Blast] {
        clap_mangen::generate_to(of(program), out).map_err(failed)?;
    }
    say::out(format!("pages in {}", out.display()));
    Ok(())
}
