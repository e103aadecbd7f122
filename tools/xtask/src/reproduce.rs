//! `cargo xtask reproduce`: whoever builds this commit gets the same program, byte for byte. Built
//! twice, in folders of different names, from what is committed; folders are taken out of what the
//! compilers write down.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Two names of different lengths.
const FOLDERS: [&str; 2] = ["one", "another-place"];

/// Builds twice and compares.
///
/// # Errors
/// What could not be done, or where the two programs part.
pub(crate) fn check(root: &Path, target: &Path) -> Result<(), String> {
    let base = target.join("reproduce");
    let mut programs = Vec::new();
    for name in FOLDERS {
        let folder = base.join(name);
        check_out(root, &folder)?;
        let program = build(&folder)?;
        let bytes =
            fs::read(&program).map_err(|error| format!("{}: {error}", program.display()))?;
        println!("{}: {} bytes", program.display(), bytes.len());
        programs.push(bytes);
    }
    match first_difference(&programs[0], &programs[1]) {
        None => {
            println!("the two programs are the same");
            Ok(())
        }
        Some(at) => {
            Err(format!("the two programs part at byte {at}; compare them with diffoscope"))
        }
    }
}

/// The committed tree, in a folder that was empty.
fn check_out(root: &Path, folder: &Path) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", folder.display());
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(said)?;
    let mut archive = Command::new("git")
        .args(["archive", "HEAD"])
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(said)?;
    let tree = archive.stdout.take().ok_or("git archive has no output")?;
    let unpacked = Command::new("tar").arg("-x").current_dir(folder).stdin(tree).status();
    let archived = archive.wait().map_err(said)?;
    match unpacked {
        Ok(status) if status.success() && archived.success() => Ok(()),
        _ => Err(format!("{}: the tree cannot be checked out", folder.display())),
    }
}

/// A release build there, as a package would be built: locked, and without names of folders.
fn build(folder: &Path) -> Result<PathBuf, String> {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    let pairs = [(folder, "/butterfly"), (home.as_path(), "/cargo")];
    let flags = |flag: &str| {
        let all = pairs.iter().map(|(from, to)| format!("{flag}={}={to}", from.display()));
        all.collect::<Vec<_>>().join(" ")
    };
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked", "--package", "dataplane"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("CARGO_INCREMENTAL", "0")
        .env("RUSTFLAGS", flags("--remap-path-prefix"))
        .env("CFLAGS", flags("-ffile-prefix-map"))
        .env("CXXFLAGS", flags("-ffile-prefix-map"))
        .env("SOURCE_DATE_EPOCH", "0")
        .status();
    match status {
        Ok(status) if status.success() => Ok(folder.join("target/release/butterfly")),
        Ok(status) => Err(format!("the build ended with {status}")),
        Err(error) => Err(format!("cargo does not start: {error}")),
    }
}

/// Where two programs part, if they do.
fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let common = one.len().min(other.len());
    let at = one.iter().zip(other).position(|(a, b)| a != b);
    at.or_else(|| (one.len() != other.len()).then_some(common))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_part_at_a_byte_or_by_length() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"axc"), Some(1));
        assert_eq!(first_difference(b"abc", b"abcd"), Some(3));
    }
}
