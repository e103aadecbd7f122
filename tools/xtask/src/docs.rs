//! `cargo xtask docs`: does what the documents tell people to type work? Each line of a fenced
//! block marked `sh` is run, in a scratch folder, with the built programs on the path.
//!
//! * `butterfly serve` and, without `--duration`, `blast agents` stay in the background until the
//!   block's end. A node whose address another line takes ends first, unless that line hands over.
//! * A line with `# needs: root` (or `gpu`, `hosts`, `systemd`, ...) or `# takes: minutes` is only
//!   held against the program's `--help`: its command and its flags must be there. A marker on a
//!   line of its own holds for the rest of its block.
//! * Lines of `cargo` are held against the packages, examples, benches and steps of this tree:
//!   steps of `ci` run them.
//! * `# fails: N` says which exit code is expected.
//!
//! Blocks marked `console` or `text` are for reading only. Everything happens in namespaces of its
//! own where the system lets us, so that ports and processes of others are out of reach.

mod blocks;
mod check;
mod run;

use crate::tidy::source::{File, Tree};
use blocks::{Block, Line, Marker};
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

/// Set for the process that has namespaces of its own.
const APART: &str = "--apart";

/// A line that does not hold.
struct Failure {
    place: String,
    line: String,
    why: String,
}

/// What happened to a line.
enum Outcome {
    /// It ran.
    Ran,
    /// It was compared with the words of the program.
    Compared,
}

/// Runs the command: all documents, or those named.
pub(crate) fn run(root: &Path, target: &Path, arguments: &[String]) -> ExitCode {
    match arguments.split_first() {
        Some((flag, names)) if flag == APART => judge(root, target, names),
        _ => apart(arguments),
    }
}

/// This program again, in namespaces of its own for processes and the network.
fn apart(names: &[String]) -> ExitCode {
    const READY: &str = "ip link set lo up && exec \"$@\"";
    let spaces = ["--net", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let user = ["--user", "--map-root-user"];
    let works = |more: &[&str]| {
        let mut trial = Command::new("unshare");
        trial.args(more).args(spaces).args(["sh", "-c", READY, "sh", "true"]);
        trial.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("xtask"));
    let way = [&[][..], &user].into_iter().find(|more| works(more));
    let mut command = match way {
        Some(more) => {
            let mut command = Command::new("unshare");
            command.args(more).args(spaces).args(["sh", "-c", READY, "sh"]).arg(own);
            command
        }
        None => {
            println!("no namespaces here: the lines run among all other processes and ports");
            Command::new(own)
        }
    };
    let status = command.args(["docs", APART]).args(names).status();
    match status.ok().and_then(|status| status.code()) {
        Some(0) => ExitCode::SUCCESS,
        Some(2) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

/// Every document, then the list of what does not hold.
fn judge(root: &Path, target: &Path, names: &[String]) -> ExitCode {
    let documents = if names.is_empty() { all(root) } else { Ok(names.to_vec()) };
    let documents = match documents {
        Ok(documents) => documents,
        Err(error) => {
            println!("docs: cannot read the tree: {error}");
            return ExitCode::from(2);
        }
    };
    let programs = target.join("debug");
    let checker = check::Checker::new(root, &programs);
    let mut failures = Vec::new();
    for name in &documents {
        let text = match std::fs::read_to_string(root.join(name)) {
            Ok(text) => text,
            Err(error) => {
                println!("docs: {name}: {error}");
                return ExitCode::from(2);
            }
        };
        let (mut ran, mut compared) = (0, 0);
        for block in blocks::parse(&text) {
            for (line, outcome) in judge_block(root, &programs, &checker, &block) {
                match outcome {
                    Ok(Outcome::Ran) => ran += 1,
                    Ok(Outcome::Compared) => compared += 1,
                    Err(why) => failures.push(Failure {
                        place: format!("{name}:{}", line.number),
                        line: line.text.clone(),
                        why,
                    }),
                }
            }
        }
        println!("{name}: {ran} line(s) ran, {compared} compared with --help");
    }
    for Failure { place, line, why } in &failures {
        println!("\n{place}: {line}\n  {}", why.trim_end().replace('\n', "\n  "));
    }
    println!("docs: {} line(s) do not hold", failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All lines of a block in order, in one scratch folder.
fn judge_block<'a>(
    root: &Path,
    programs: &Path,
    checker: &check::Checker,
    block: &'a Block,
) -> Vec<(&'a Line, Result<Outcome, String>)> {
    let mut scratch = None;
    let mut judged = Vec::new();
    for line in &block.lines {
        println!("  {}: {}", line.number, line.text);
        let known = checker.check(&line.text);
        let outcome = match (known, &line.marker) {
            (Err(why), _) => Err(why),
            (Ok(()), Some(Marker::Elsewhere)) => Ok(Outcome::Compared),
            (Ok(()), _) if line.text.starts_with("cargo ") => Ok(Outcome::Compared),
            (Ok(()), marker) => {
                let expected = match marker {
                    Some(Marker::Fails(code)) => *code,
                    _ => 0,
                };
                let place = scratch.get_or_insert_with(|| run::Scratch::new(root, programs));
                match place {
                    Ok(place) => place.run(&line.text, expected).map(|()| Outcome::Ran),
                    Err(why) => Err(format!("no scratch folder: {why}")),
                }
            }
        };
        judged.push((line, outcome));
    }
    judged
}

/// Every document of the tree that tells people to type something.
fn all(root: &Path) -> std::io::Result<Vec<String>> {
    let tree = Tree::read(root)?;
    let says = |file: &&File| {
        let text = file.text.as_deref().filter(|_| file.path.ends_with(".md"));
        text.is_some_and(|text| !blocks::parse(text).is_empty())
    };
    Ok(tree.files().iter().filter(says).map(|file| file.path.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_every_document_with_lines_to_type_is_read() {
        let names = all(&crate::root()).expect("reads");
        for name in ["README.md", "deploy/TUNING.md", "benches/GPU.md", "benches/peers/README.md"] {
            assert!(names.iter().any(|it| it == name), "{name}: {names:?}");
        }
    }
}
