//! `cargo xtask fuzz`: hostile bytes through every reader of the tree.
//!
//! The targets are those of `tools/fuzz`. They run under libFuzzer with AddressSanitizer where that
//! builds (both come with the compiler and a C++ compiler, nothing is downloaded but one crate),
//! else in a plain loop. What was found worth keeping lies in `target/fuzz/corpus`, and with
//! `--keep` the smallest part of it that reaches the same code goes into the tree.

mod keep;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
    thread,
};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const HARNESS: &str = "tools/fuzz/libfuzzer";
const TREE: &str = "tools/fuzz/corpus";
/// Coverage for the fuzzer and checks of memory. `sanitizer` is unstable in name only on this
/// target; the bootstrap variable lets a stable compiler take it.
const FLAGS: &str = "--cfg fuzzing -Zsanitizer=address \
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Ccodegen-units=1";
/// What a thread keeps until the process ends is no leak; and memory that was given back is watched
/// for a while, not for so long that making it again is most of the time.
pub(crate) const ASAN: &str = "detect_leaks=0:quarantine_size_mb=16:malloc_context_size=4";
/// One input may take so long; what takes longer hangs.
const INPUT_SECONDS: u32 = 20;
/// As a run says how many inputs it took.
const RUNS: &str = "stat::number_of_executed_units:";

/// What to run, and for how long.
#[derive(Debug)]
pub(crate) struct Options {
    seconds: u64,
    targets: Vec<String>,
    jobs: usize,
    keep: bool,
    plain: bool,
}

impl Options {
    /// Reads `--seconds N`, `--target A,B`, `--jobs J`, `--keep`, `--plain`.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut options =
            Self { seconds: 60, targets: Vec::new(), jobs: 1, keep: false, plain: false };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            let number = |text: &String| {
                text.parse::<u64>().map_err(|error| format!("{word} {text}: {error}"))
            };
            match word.as_str() {
                "--seconds" => options.seconds = number(value()?)?.max(1),
                "--jobs" => options.jobs = number(value()?)?.clamp(1, 64) as usize,
                "--target" => options.targets.extend(value()?.split(',').map(str::to_owned)),
                "--keep" => options.keep = true,
                "--plain" => options.plain = true,
                _ => return Err(format!("unknown argument `{word}` of fuzz")),
            }
        }
        Ok(options)
    }
}

/// How the targets are run on this machine.
struct Runner {
    root: PathBuf,
    /// Everything that is made: builds, corpora, logs.
    made: PathBuf,
    /// libFuzzer's program, or none: the plain loop.
    harness: Option<PathBuf>,
    /// The plain loop, which also knows the targets and their seeds.
    plain: PathBuf,
}

/// What came of one target.
struct Run {
    name: String,
    inputs: u64,
    /// The last words of a run that failed.
    failure: Option<String>,
}

/// Runs the targets; success if no input broke one.
pub(crate) fn run(root: &Path, options: &Options) -> ExitCode {
    match Runner::new(root, options.plain).and_then(|runner| runner.run(options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            println!("fuzz: {why}");
            ExitCode::FAILURE
        }
    }
}

impl Runner {
    fn new(root: &Path, plain_only: bool) -> Result<Self, String> {
        let target = crate::target();
        let built = Command::new("cargo")
            .args(["build", "--quiet", "--package", "fuzz"])
            .current_dir(root)
            .status();
        if !built.is_ok_and(|status| status.success()) {
            return Err("tools/fuzz does not build".to_owned());
        }
        let made = target.join("fuzz");
        let harness = if plain_only { None } else { harness(root, &made) };
        if harness.is_none() {
            println!("without libFuzzer: inputs are mutated, and nothing guides them");
        }
        Ok(Self { root: root.to_owned(), plain: target.join("debug/fuzz"), made, harness })
    }

    fn run(&self, options: &Options) -> Result<bool, String> {
        let all = self.seeds()?;
        let wanted = |name: &String| options.targets.is_empty() || options.targets.contains(name);
        if let Some(unknown) = options.targets.iter().find(|name| !all.contains(name)) {
            return Err(format!("no target is called `{unknown}`; there are {}", all.join(", ")));
        }
        let queue: Mutex<Vec<String>> = Mutex::new(all.into_iter().filter(wanted).rev().collect());
        let next = || queue.lock().ok().and_then(|mut queue| queue.pop());
        let runs = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..options.jobs {
                scope.spawn(|| {
                    while let Some(name) = next() {
                        let run = self.one(&name, options.seconds);
                        println!("{:<10} {:>12} inputs{}", run.name, run.inputs, run.word());
                        if let Ok(mut runs) = runs.lock() {
                            runs.push(run);
                        }
                    }
                });
            }
        });
        let runs = runs.into_inner().map_err(|error| error.to_string())?;
        self.total(&runs)?;
        if options.keep {
            let harness = self.harness.as_ref().ok_or("--keep needs libFuzzer")?;
            let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
            keep::keep(harness, &self.made, &self.root.join(TREE), &names)?;
        }
        for (name, why) in runs.iter().filter_map(|run| Some((&run.name, run.failure.as_ref()?))) {
            println!("\n==== {name} broke:\n{why}");
        }
        Ok(runs.iter().all(|run| run.failure.is_none()))
    }

    /// Writes the seeds of all targets into their working corpora; gives the targets' names.
    fn seeds(&self) -> Result<Vec<String>, String> {
        let said = Command::new(&self.plain)
            .arg("--seeds")
            .arg(self.made.join("corpus"))
            .output()
            .map_err(|error| format!("{}: {error}", self.plain.display()))?;
        let names = String::from_utf8_lossy(&said.stdout).into_owned();
        Ok(names.lines().map(str::to_owned).collect())
    }

    fn one(&self, name: &str, seconds: u64) -> Run {
        let work = self.made.join("corpus").join(name);
        let tree = self.root.join(TREE).join(name);
        let mut command = match &self.harness {
            Some(harness) => under_libfuzzer(harness, &self.made, name, seconds),
            None => {
                let mut command = Command::new(&self.plain);
                command.arg(name).arg(seconds.to_string());
                command
            }
        };
        command.arg(&work);
        if tree.exists() {
            command.arg(&tree);
        }
        let failed = |why: String| Run { name: name.to_owned(), inputs: 0, failure: Some(why) };
        match command.stdin(Stdio::null()).output() {
            Err(error) => failed(error.to_string()),
            Ok(output) => {
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said).into_owned();
                let inputs = inputs(&said);
                let broke = !output.status.success();
                let failure = broke.then(|| format!("{}\n{}", output.status, tail(&said)));
                Run { name: name.to_owned(), inputs, failure }
            }
        }
    }

    /// Adds to the sums of all runs on this machine, and shows them.
    fn total(&self, runs: &[Run]) -> Result<(), String> {
        let path = self.made.join("totals.txt");
        let before = fs::read_to_string(&path).unwrap_or_default();
        let mut totals: BTreeMap<String, u64> = before
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(name, sum)| Some((name.to_owned(), sum.trim().parse().ok()?)))
            .collect();
        for run in runs {
            *totals.entry(run.name.clone()).or_default() += run.inputs;
        }
        let mut text = String::new();
        for (name, sum) in &totals {
            let _ = writeln!(text, "{name} {sum}");
        }
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        let now: u64 = runs.iter().map(|run| run.inputs).sum();
        let ever: u64 = totals.values().sum();
        println!("{:<10} {now:>12} inputs; {ever} since {} began", "all", path.display());
        Ok(())
    }
}

impl Run {
    fn word(&self) -> &'static str {
        if self.failure.is_some() { "  BROKE" } else { "" }
    }
}

/// Builds libFuzzer's program, where this machine can.
fn harness(root: &Path, made: &Path) -> Option<PathBuf> {
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--target", TRIPLE])
        .current_dir(root.join(HARNESS))
        .env("CARGO_TARGET_DIR", made)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS)
        .status();
    let program = made.join(TRIPLE).join("debug/fuzz-libfuzzer");
    built.is_ok_and(|status| status.success()).then_some(program)
}

/// libFuzzer for one target; the folders of the corpus are still to be named.
fn under_libfuzzer(harness: &Path, made: &Path, name: &str, seconds: u64) -> Command {
    let crashes = made.join("crashes");
    let _ = fs::create_dir_all(&crashes);
    let mut command = Command::new(harness);
    command
        .env("FUZZ_TARGET", name)
        .env("ASAN_OPTIONS", ASAN)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .args(["-max_len=16384", "-rss_limit_mb=3072", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/{name}-", crashes.display()));
    command
}

fn inputs(said: &str) -> u64 {
    let numbers = said.lines().filter_map(|line| line.strip_prefix(RUNS));
    numbers.filter_map(|number| number.trim().parse::<u64>().ok()).sum()
}

/// The part of a log that says what happened.
fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let start =
        lines.iter().position(|line| line.contains("panicked at") || line.contains("ERROR"));
    let start = start.unwrap_or_else(|| lines.len().saturating_sub(30));
    lines[start..lines.len().min(start + 40)].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let options = Options::parse(&words("--seconds 3 --target a,b --jobs 2 --keep")).unwrap();
        assert_eq!((options.seconds, options.jobs, options.keep), (3, 2, true));
        assert_eq!(options.targets, ["a", "b"]);
        assert!(Options::parse(&words("--seconds x")).is_err());
        assert!(Options::parse(&words("--seconds")).is_err());
        assert!(Options::parse(&words("--fast")).is_err());
    }

    #[test]
    fn inputs_are_counted_from_what_a_run_says() {
        assert_eq!(inputs("Done\nstat::number_of_executed_units: 42\nstat::x: 7\n"), 42);
        assert_eq!(inputs("panicked"), 0);
    }

    #[test]
    fn a_log_is_cut_to_what_happened() {
        assert_eq!(
            tail("#1 pulse\nthread panicked at a.rs\nleft: 1"),
            "thread panicked at a.rs\nleft: 1"
        );
    }
}
