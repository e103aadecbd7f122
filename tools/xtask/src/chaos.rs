//! `cargo xtask chaos`: builds a node and the rig that plays with it, and runs the rig.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

/// Passes `arguments` on to `chaos`; `--debug` among them takes the builds of the tests.
pub(crate) fn run(root: &Path, arguments: &[String]) -> ExitCode {
    let debug = arguments.iter().any(|argument| argument == "--debug");
    let rest = arguments.iter().filter(|argument| *argument != "--debug");
    let profile: &[&str] = if debug { &[] } else { &["--release"] };
    // Apart from each other: the rig's share of the code is built with what makes workers lie, the
    // node's is not.
    let build =
        cargo(root).arg("build").args(profile).args(["--quiet", "--package", "dataplane"]).status();
    if !build.is_ok_and(|status| status.success()) {
        return ExitCode::from(2);
    }
    let mut play = cargo(root);
    play.arg("run").args(profile).args(["--quiet", "--package", "chaos", "--"]).args(rest);
    let code = play.status().ok().and_then(|status| u8::try_from(status.code()?).ok());
    ExitCode::from(code.unwrap_or(2))
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    command
}
