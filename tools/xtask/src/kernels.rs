//! The GPU code beside its sources: made, or compared, by `kernels/cuda/build.py`.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

/// The script, from the root.
const SCRIPT: &str = "kernels/cuda/build.py";

/// What the script answers where the compiler could not be fetched.
const UNREACHABLE: i32 = 3;

/// The command line that compares and writes nothing.
pub(crate) const CHECK: &str = "python3 kernels/cuda/build.py --check";

/// Makes the PTX anew, or with `check` compares it and asks the assembler about every architecture.
pub(crate) fn run(root: &Path, check: bool) -> ExitCode {
    let mut command = Command::new("python3");
    command.arg(SCRIPT).current_dir(root);
    if check {
        command.arg("--check");
    }
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => ExitCode::from(status.code().map_or(1, |code| code.clamp(1, 255) as u8)),
        Err(error) => {
            eprintln!("xtask: cannot start python3: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Brings compiler and assembler, or says why they cannot be had here.
pub(crate) fn fetch(root: &Path) -> Result<(), &'static str> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the CUDA compiler that is pinned runs on x86-64 Linux only");
    }
    let status = Command::new("python3").args([SCRIPT, "--fetch"]).current_dir(root).status();
    match status {
        Err(_) => Err("python3 is not here"),
        // Anything else the check itself will show.
        Ok(status) if status.code() != Some(UNREACHABLE) => Ok(()),
        Ok(_) => Err("the pinned CUDA compiler could not be fetched with pip"),
    }
}
