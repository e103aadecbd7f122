//! Runs the steps one after the other and says at the end which held.

use crate::steps::{STEPS, Step, Work};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// Which steps to run.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    only: Vec<String>,
    skip: Vec<String>,
}

impl Selection {
    /// Reads `--only A,B`, `--skip A,B`; `None` stands for `--list`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Option<Self>, String> {
        let mut selection = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let list = match flag {
                "--list" => return Ok(None),
                "--only" => &mut selection.only,
                "--skip" => &mut selection.skip,
                _ => return Err(format!("unknown argument `{argument}` of ci")),
            };
            let value = value
                .or_else(|| arguments.next().cloned())
                .ok_or_else(|| format!("{flag} needs step names, as in {flag} tidy,clippy"))?;
            for name in value.split(',') {
                if !STEPS.iter().any(|step| step.name == name) {
                    return Err(format!("no step is called `{name}`; see cargo xtask ci --list"));
                }
                list.push(name.to_owned());
            }
        }
        Ok(Some(selection))
    }

    fn takes(&self, step: &Step) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == step.name);
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }
}

enum Verdict {
    Held,
    Failed {
        by_hand: String,
    },
    /// Nothing to do here, and why. Never used for something that could have failed.
    Absent {
        why: &'static str,
    },
}

/// Sums of the `test result:` lines that went by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    binaries: u64,
}

impl Tally {
    /// Adds a line of cargo's output, if it is the closing line of a test binary.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else { return };
        self.binaries += 1;
        let words: Vec<&str> = counts.split([' ', ';', '.']).filter(|w| !w.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(count) = pair[0].parse::<u64>() else { continue };
            match pair[1] {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

/// Runs the selected steps in the given workspace; success only if all of them held.
pub(crate) fn run(root: &Path, selection: &Selection) -> ExitCode {
    let begun = Instant::now();
    let mut table = Vec::new();
    let mut tests = Tally::default();
    for step in STEPS.iter().filter(|step| selection.takes(step)) {
        println!("\n==== {}: {}", step.name, step.question);
        let started = Instant::now();
        let mut tally = Tally::default();
        let verdict = perform(root, step, &mut tally);
        if step.name == "test" {
            tests = tally;
        }
        let took = started.elapsed();
        match &verdict {
            Verdict::Held => println!("---- {}: holds, {}", step.name, seconds(took)),
            Verdict::Absent { why } => println!("---- {}: SKIPPED: {why}", step.name),
            Verdict::Failed { by_hand } => {
                println!("---- {}: FAILED, {}; by hand: {by_hand}", step.name, seconds(took));
            }
        }
        table.push((step, verdict, took));
    }
    summarise(&table, begun.elapsed(), tests)
}

fn perform(root: &Path, step: &Step, tally: &mut Tally) -> Verdict {
    let failed = |by_hand: String| Verdict::Failed { by_hand };
    match (step.work)(root) {
        Work::Absent(why) => Verdict::Absent { why },
        Work::Findings(findings) if findings.is_empty() => Verdict::Held,
        Work::Findings(findings) => {
            for finding in &findings {
                println!("{finding}");
            }
            failed(format!("cargo xtask {}", step.name))
        }
        Work::Calls(calls) => {
            for call in calls {
                println!("$ {}", call.shown());
                if let Err(why) = execute(&mut call.command(root), tally) {
                    println!("{why}");
                    return failed(call.shown());
                }
            }
            Verdict::Held
        }
    }
}

/// Runs one program; its output passes through, closing lines of tests are added up.
fn execute(command: &mut Command, tally: &mut Tally) -> Result<(), String> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|error| format!("cannot start: {error}"))?;
    let output = child.stdout.take().expect("the output was piped just above");
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read its output: {error}"))?;
        tally.read(&String::from_utf8_lossy(&line));
        // A reader of our output that went away must not stop the gates.
        let _ = out.write_all(&line).and_then(|()| out.write_all(b"\n"));
    }
    drop(out);
    let status = child.wait().map_err(|error| format!("cannot wait for it: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) }
}

fn summarise(table: &[(&Step, Verdict, Duration)], total: Duration, tests: Tally) -> ExitCode {
    println!("\n{:<10} {:>9}  verdict", "step", "time");
    let mut failures = 0;
    for (step, verdict, took) in table {
        let (word, note) = match verdict {
            Verdict::Held => ("holds", String::new()),
            Verdict::Absent { why } => ("SKIPPED", format!(": {why}")),
            Verdict::Failed { by_hand } => {
                failures += 1;
                ("FAILED", format!("; by hand: {by_hand}"))
            }
        };
        println!("{:<10} {:>9}  {word}{note}", step.name, seconds(*took));
    }
    println!("{:<10} {:>9}  {failures} failed", "all", seconds(total));
    if tests.binaries > 0 {
        println!(
            "tests: {} passed; {} failed; {} ignored, in {} binaries",
            tests.passed, tests.failed, tests.ignored, tests.binaries
        );
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut tally = Tally::default();
        tally.read("running 3 tests");
        tally.read(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; \
             finished in 0.07s",
        );
        tally.read("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured");
        assert_eq!(tally, Tally { passed: 14, failed: 3, ignored: 1, binaries: 2 });
    }

    #[test]
    fn a_selection_names_real_steps() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let selection = Selection::parse(&words("--only tidy,clippy")).unwrap().unwrap();
        let taken: Vec<_> = STEPS.iter().filter(|step| selection.takes(step)).collect();
        assert_eq!(taken.len(), 2);
        assert!(Selection::parse(&words("--list")).unwrap().is_none());
        assert!(Selection::parse(&words("--only tdiy")).is_err());
        assert!(Selection::parse(&words("--only")).is_err());
        assert!(Selection::parse(&words("--fast")).is_err());
    }
}
