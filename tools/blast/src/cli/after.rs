//! Options of the commands that read reports.

use super::OutArgs;
use crate::{compare, config::BlastError};
use clap::Args;
use std::path::PathBuf;

const COMPARE_EXAMPLES: &str = "\
Examples:
  Is B slower than A? In a test of every change, the exit status is the answer:
    blast compare a.json b.json --tolerance 5%
  Several runs of each, made in alternation, which also shows what varies from run to run:
    blast compare --a a1.json a2.json a3.json --b b1.json b2.json b3.json --html compare.html

B is worse where its rate, its p50 or its p99 is worse than A's by more than --tolerance and that \
is not chance, where it lost or spoiled requests and A did not, or where 0.1% more of its requests \
had no good answer.

Exit status: 0 not worse, 1 worse, 2 wrong usage, or runs that cannot be compared.";

/// Options of `blast compare`.
#[derive(Args, Debug)]
#[command(after_help = COMPARE_EXAMPLES)]
pub struct CompareArgs {
    /// Two runs, kept with --json: what was, and what is judged
    #[arg(value_name = "A.json B.json", num_args = 0..=2, conflicts_with_all = ["a", "b"])]
    pub files: Vec<PathBuf>,
    /// Runs of what was
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "b")]
    pub a: Vec<PathBuf>,
    /// Runs of what is judged
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "a")]
    pub b: Vec<PathBuf>,
    /// How much worse is not a failure
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = super::share)]
    pub tolerance: f64,
    /// Compare runs of different settings, backends or machines
    #[arg(long)]
    pub force: bool,
    /// Where the draws begin from which intervals are made
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where the comparison goes.
    #[command(flatten)]
    pub out: OutArgs,
}

impl CompareArgs {
    /// The files of both sides.
    ///
    /// # Errors
    /// [`BlastError::Usage`].
    pub fn sides(&self) -> Result<(&[PathBuf], &[PathBuf]), BlastError> {
        match self.files.as_slice() {
            [a, b] => Ok((std::slice::from_ref(a), std::slice::from_ref(b))),
            [] if !self.a.is_empty() && !self.b.is_empty() => Ok((&self.a, &self.b)),
            _ => Err(BlastError::usage(
                "give two files, `blast compare A.json B.json`, or several with --a and --b",
            )),
        }
    }

    /// How to compare.
    #[must_use]
    pub const fn plan(&self) -> compare::Plan {
        compare::Plan { tolerance: self.tolerance, force: self.force, seed: self.seed }
    }
}

const REPORT_EXAMPLES: &str = "\
Examples:
  A page of a run that was kept:
    blast report run.json --html run.html
  The table again:
    blast report run.json

Exit status: 0 clean, 1 the report is of errors, lost requests or something worse, 2 wrong usage.";

/// Options of `blast report`.
#[derive(Args, Debug)]
#[command(after_help = REPORT_EXAMPLES)]
pub struct ReportArgs {
    /// What `--json FILE` wrote, of any command
    #[arg(value_name = "FILE.json")]
    pub file: PathBuf,
    /// Where it goes.
    #[command(flatten)]
    pub out: OutArgs,
}
