//! What `cargo xtask ci` runs, in order: cheap questions first, the tests last so that their
//! closing lines are what a reader of the log sees.

use crate::{deny, kernels, tidy};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// One gate.
#[derive(Debug)]
pub(crate) struct Step {
    /// For `--only` and the table.
    pub(crate) name: &'static str,
    /// What it answers, for people.
    pub(crate) question: &'static str,
    /// Looks at the tree and the machine and says what there is to do.
    pub(crate) work: fn(&Path) -> Work,
}

/// What a step has to do.
pub(crate) enum Work {
    /// Programs to run; the first that fails ends the step.
    Calls(Vec<Call>),
    /// Answered already, inside this process.
    Findings(Vec<tidy::Finding>),
    /// Does not apply to this tree or machine, and why.
    Absent(&'static str),
}

/// One program with its arguments and surroundings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    line: String,
    environment: Vec<(&'static str, String)>,
}

impl Call {
    /// A program and its arguments, parted by single spaces (none of ours contains one).
    fn new(line: &str) -> Self {
        Self { line: line.to_owned(), environment: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// As a person would type it.
    pub(crate) fn shown(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.environment {
            text += &format!("{name}='{value}' ");
        }
        text + &self.line
    }

    /// Ready to start in the workspace's root.
    pub(crate) fn command(&self, root: &Path) -> Command {
        let mut words = self.line.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(root);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }
}

/// All gates, in the order they run.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        question: "is the code formatted?",
        work: |_| calls(&["cargo fmt --all --check"]),
    },
    Step {
        name: "tidy",
        question: "do sizes, bans, arrows and papers hold?",
        work: |root| Work::Findings(tidy::check(root)),
    },
    Step {
        name: "deny",
        question: "are the licences and sources of all dependencies allowed?",
        work: deny_work,
    },
    Step {
        name: "clippy",
        question: "does the compiler or clippy warn?",
        work: |_| {
            calls(&["cargo clippy --locked --workspace --all-targets --quiet -- -D warnings"])
        },
    },
    Step { name: "docs", question: "is every public item documented?", work: |_| docs_work() },
    Step {
        name: "kernels",
        question: "is the GPU code what its sources give, without spills?",
        work: kernels_work,
    },
    Step { name: "loom", question: "does the ring hold in every interleaving?", work: loom_work },
    Step { name: "memory", question: "is the memory of unsafe code sound?", work: memory_work },
    Step { name: "fuzz", question: "do hostile bytes make a parser panic?", work: fuzz_work },
    Step {
        name: "demo",
        question: "does the first command of the README work?",
        work: |_| calls(&["cargo run --locked --release --quiet -- demo --seconds 2"]),
    },
    Step {
        name: "commands",
        question: "does what the documents tell people to type work?",
        work: |_| {
            calls(&[
                "cargo build --locked --quiet --package dataplane --package blast",
                "cargo xtask docs",
            ])
        },
    },
    Step {
        name: "deb",
        question: "does the package install, upgrade under load and leave nothing?",
        work: deb_work,
    },
    Step {
        name: "sim",
        question: "does every seed hold in virtual time?",
        // Release, because the demo has built most of it already, and a seed takes a tenth of the
        // time.
        work: |_| {
            calls(&[
                "cargo run --locked --release --quiet --package sim -- --seeds 0..200",
                "cargo run --locked --release --quiet --package sim -- mesh --seeds 0..200",
            ])
        },
    },
    Step {
        name: "chaos",
        question: "does every request have its account while processes and links fail?",
        work: |_| {
            calls(&[
                "cargo build --release --quiet --package dataplane",
                "cargo run --release --quiet --package chaos -- --seconds 12 --seeds 1..3 --quiet",
                "cargo run --release --quiet --package chaos -- --seconds 8 --handovers 3",
            ])
        },
    },
    Step { name: "bench", question: "does every bench still run?", work: bench_work },
    Step {
        name: "peers",
        question: "do we and what people use answer the same load, side by side?",
        work: peers_work,
    },
    Step {
        name: "test",
        question: "does every test pass?",
        work: |_| calls(&["cargo test --locked --workspace"]),
    },
];

/// One line for each step.
pub(crate) fn listing() -> String {
    let lines: Vec<_> = STEPS.iter().map(|s| format!("  {:<8} {}", s.name, s.question)).collect();
    lines.join("\n")
}

fn calls(lines: &[&str]) -> Work {
    Work::Calls(lines.iter().map(|line| Call::new(line)).collect())
}

fn docs_work() -> Work {
    Work::Calls(vec![
        Call::new("cargo doc --locked --workspace --no-deps --quiet")
            .with("RUSTDOCFLAGS", "-D warnings"),
    ])
}

/// cargo-deny where it is installed, with advisories where their database is; elsewhere our own
/// reading of licences and sources against the same list.
fn deny_work(root: &Path) -> Work {
    if answers("cargo deny --version") {
        let what = "bans licenses sources";
        let advisories = if advisories_are_here() { " advisories" } else { "" };
        // Its older `-d` is gone since 0.20; without the network nothing is fetched either way.
        let call = format!("cargo deny --offline --config .deny.toml check {what}{advisories}");
        calls(&[&call])
    } else {
        println!("cargo-deny is not installed: xtask reads licences and sources by itself");
        Work::Findings(deny::check(root))
    }
}

/// True where cargo-deny has fetched its advisories before: the gates need no network.
fn advisories_are_here() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    home.is_some_and(|home| home.join("advisory-dbs").is_dir())
}

fn kernels_work(root: &Path) -> Work {
    match kernels::fetch(root) {
        Ok(()) => calls(&[kernels::CHECK]),
        Err(why) => Work::Absent(why),
    }
}

/// The package's whole life, in a throw-away root.
fn deb_work(_: &Path) -> Work {
    let tools = ["dpkg-deb --version", "python3 --version", "unshare --mount true"];
    if tools.iter().all(|tool| answers(tool)) {
        calls(&["deploy/debian/test.sh"])
    } else {
        Work::Absent("takes dpkg, python3 and the right to mount in a namespace")
    }
}

fn loom_work(root: &Path) -> Work {
    if !root.join("worker/link/tests/loom.rs").exists() {
        return Work::Absent("worker/link has no tests/loom.rs");
    }
    Work::Calls(vec![
        Call::new("cargo test --locked --release --package link --test loom")
            .with("CARGO_TARGET_DIR", &apart("loom"))
            .with("RUSTFLAGS", "--cfg loom"),
    ])
}

/// The packages that contain unsafe code, whose tests run under a memory checker.
const UNSAFE_PACKAGES: &str = "--package link --package dataplane-uring --package kernels";

/// Miri where the toolchain has it, else AddressSanitizer, whose runtime comes with the compiler.
fn memory_work(_: &Path) -> Work {
    if answers("cargo miri --version") {
        return calls(&["cargo miri test --package link --lib --quiet"]);
    }
    // The switch is unstable only in name on this target; the bootstrap variable lets a stable
    // compiler take it.
    Work::Calls(vec![
        Call::new(&format!(
            "cargo test --locked {UNSAFE_PACKAGES} --lib --tests --target x86_64-unknown-linux-gnu"
        ))
        .with("CARGO_TARGET_DIR", &apart("asan"))
        .with("RUSTC_BOOTSTRAP", "1")
        .with("RUSTFLAGS", "-Zsanitizer=address"),
    ])
}

/// Mutated frames through every reader, generated values with sixteen times the usual cases, and a
/// moment of the fuzzer.
fn fuzz_work(root: &Path) -> Work {
    if !root.join("wire/tests/hostile.rs").exists() {
        return Work::Absent("wire has no tests/hostile.rs");
    }
    Work::Calls(vec![
        Call::new(
            "cargo test --locked --package wire --test hostile --test roundtrip --test packing",
        )
        .with("PROPTEST_CASES", "4096"),
        Call::new("cargo test --locked --package codec --test suite any_")
            .with("PROPTEST_CASES", "4096"),
        // A few seconds for each target: that they run, and that the corpus holds.
        Call::new("cargo xtask fuzz --seconds 3"),
    ])
}

/// Built with the profile of the tests: it asks whether the benches run, not how fast, and so
/// compiles no dependency a second time. Without `--bench` every bench takes its smallest input
/// once.
fn bench_work(_: &Path) -> Work {
    calls(&["cargo test --locked --workspace --quiet --bench *"])
}

/// The peers are a workspace of their own, which the other steps do not see.
const PEERS: &str = "--manifest-path benches/peers/Cargo.toml";

/// Its format, its tests, a few messages through each system, its licences and sources.
fn peers_work(_: &Path) -> Work {
    let has_zmq = answers("pkg-config --exists libzmq");
    let features = if has_zmq { "" } else { " --no-default-features" };
    let (folder, node) = (apart("peers"), crate::target().join("debug/butterfly"));
    let own = |line: String| Call::new(&line).with("CARGO_TARGET_DIR", &folder);
    let smoke = format!("--smoke --butterfly {}", node.display());
    let mut calls = vec![
        Call::new(&format!("cargo fmt {PEERS} --check")),
        Call::new("cargo build --locked --quiet --package dataplane"),
        own(format!("cargo test --locked --quiet {PEERS}{features}")),
        own(format!("cargo run --locked --quiet {PEERS}{features} -- {smoke}")),
    ];
    if answers("cargo deny --version") {
        // Last: without the network it reads what the build has fetched.
        let check = "--config .deny.toml check --hide-inclusion-graph bans licenses sources";
        calls.push(Call::new(&format!("cargo deny --offline {PEERS} {check}")));
    } else {
        println!("cargo-deny is not installed: licences of the peers are not read");
    }
    Work::Calls(calls)
}

/// A target folder of its own for a build with other flags, so that the ordinary one stays warm.
fn apart(name: &str) -> String {
    crate::target().join(name).display().to_string()
}

/// True if the program runs and is content.
fn answers(line: &str) -> bool {
    let mut words = line.split(' ');
    Command::new(words.next().unwrap_or_default())
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_names_are_unique_and_typeable() {
        for (at, step) in STEPS.iter().enumerate() {
            assert!(step.name.bytes().all(|b| b.is_ascii_lowercase()), "{}", step.name);
            assert!(STEPS[..at].iter().all(|earlier| earlier.name != step.name));
        }
    }

    #[test]
    fn a_call_is_shown_as_it_would_be_typed() {
        let call = Call::new("cargo doc --no-deps").with("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(call.shown(), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }
}
