//! What `deploy/` holds, against the program that it is for: flags, names, system calls.

mod figures;
mod manifests;
mod system_calls;
mod unit;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A file of `deploy/`.
fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(place(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

/// True where a tool is installed; says so where it is not.
fn is_here(tool: &str) -> bool {
    let mut asked = Command::new("sh");
    asked.args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null());
    let found = asked.status().is_ok_and(|status| status.success());
    if !found {
        eprintln!("{tool} is not here: what it would say stays unsaid");
    }
    found
}
