//! Two loads beside each other: how far apart, and how sure. The stretches of time that a run keeps
//! ([`crate::timeline`]) are drawn again and again (`bootstrap`); how much the figures differ
//! between draws is how much of a difference may be chance.

mod bootstrap;
mod settings;
mod text;

use crate::report::{Asked, Report, Run};
use bootstrap::{Drawn, Pool};
use serde::{Deserialize, Serialize};

/// Draws from which an interval is made.
const DRAWS: u32 = 2_000;
/// Fewest stretches with answers that an interval is made from.
const SLICES_MIN: usize = 10;
/// Smaller changes are called none: the classes of latencies are as wide as this.
const CHANGE_MIN: f64 = 0.01;
/// Most runs of one side.
const RUNS_MAX: usize = 64;
/// Unanswered requests may grow by this share of all before that is worse.
const UNANSWERED_MORE: f64 = 0.001;

/// What to compare, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// A change for the worse beyond this share is a failure.
    pub tolerance: f64,
    /// Compare what was measured differently.
    pub force: bool,
    /// Where the draws begin.
    pub seed: u64,
}

/// What is said of a change.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Sooner, or more.
    Better,
    /// Later, or less.
    Worse,
    /// What differs may be chance, or is too little to matter.
    #[default]
    Same,
    /// Too short a run to say.
    Unknown,
}

/// One figure of both sides.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Row {
    /// `rate`, `p50`, `p90`, `p99`, `p999`.
    pub what: String,
    /// Of A: per second, or microseconds.
    pub a: Option<f64>,
    /// Of B.
    pub b: Option<f64>,
    /// B over A, less 1.
    pub change: Option<f64>,
    /// 95% of the draws lie within this.
    pub interval: Option<(f64, f64)>,
    /// What that means.
    pub verdict: Verdict,
    /// Worse by more than is tolerated, where this figure decides.
    pub fails: bool,
    /// Whether it decides.
    pub decides: bool,
}

/// One side.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Side {
    /// The files.
    pub files: Vec<String>,
    /// The load, of the first run.
    pub load: Asked,
    /// Where it was computed, of the first run.
    pub backend: String,
    /// Version of the node, of the first run.
    pub version: String,
    /// Stretches of time, of all runs.
    pub slices: u64,
    /// Good answers, of all runs.
    pub ok: u64,
    /// Share of the planned requests without a good answer, of all runs.
    pub unanswered: f64,
    /// Requests lost or answered wrong, of all runs.
    pub faults: u64,
    /// Latency by share of the answers of all runs: (share, microseconds), rising.
    pub curve: Vec<(f64, f64)>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Comparison {
    /// What was there before.
    pub a: Side,
    /// What is judged.
    pub b: Side,
    /// The figures.
    pub rows: Vec<Row>,
    /// What was not alike and is compared all the same.
    pub differences: Vec<String>,
    /// Changes for the worse beyond this share are failures.
    pub tolerance: f64,
    /// In words: faster, slower, no difference, mixed.
    pub words: String,
    /// Why it fails, a sentence each.
    pub failures: Vec<String>,
    /// What the intervals take for granted.
    pub assumes: Vec<String>,
}

/// A run, and the file that it came from.
#[derive(Clone, Debug)]
pub struct Named {
    /// The file.
    pub file: String,
    /// The run.
    pub run: Run,
    /// Processor and cores of the machine that the load came from.
    pub machine: String,
}

/// Compares the runs of two sides.
///
/// # Errors
/// Where they cannot be compared, and what to do.
pub fn compare(a: &[Named], b: &[Named], plan: Plan) -> Result<Comparison, String> {
    for (side, runs) in [("A", a), ("B", b)] {
        if runs.is_empty() || runs.len() > RUNS_MAX {
            return Err(format!("{side} takes 1 to {RUNS_MAX} runs, not {}", runs.len()));
        }
        if let Some(empty) = runs.iter().find(|named| named.run.report.ok == 0) {
            return Err(format!("{}: no request was answered, nothing to compare", empty.file));
        }
    }
    if !(0.0..=10.0).contains(&plan.tolerance) {
        return Err("--tolerance is between 0% and 1000%".to_owned());
    }
    let differences = settings::differences(a, b);
    if !differences.is_empty() && !plan.force {
        let list = differences.join("; ");
        return Err(format!(
            "these are not runs of one kind: {list}; --force compares them anyway"
        ));
    }
    let rows = rows(a, b, plan);
    let (a, b) = (side(a), side(b));
    let mut failures: Vec<String> =
        rows.iter().filter(|row| row.fails).map(|row| text::failure(row, plan.tolerance)).collect();
    failures.extend(faults(&a, &b));
    let words = text::words(&rows, &failures);
    let assumes = text::assumptions(&a, &b, &rows);
    let tolerance = plan.tolerance;
    Ok(Comparison { a, b, rows, differences, tolerance, words, failures, assumes })
}

impl Comparison {
    /// True where B is worse than is tolerated.
    #[must_use]
    pub const fn is_worse(&self) -> bool {
        !self.failures.is_empty()
    }
}

fn side(runs: &[Named]) -> Side {
    let first = &runs[0].run.report;
    let sum = |of: fn(&Report) -> u64| -> u64 { runs.iter().map(|n| of(&n.run.report)).sum() };
    let (planned, ok) = (sum(|report| report.planned), sum(|report| report.ok));
    Side {
        files: runs.iter().map(|named| named.file.clone()).collect(),
        load: first.load.clone(),
        backend: first.server.backend.clone().unwrap_or_default(),
        version: first.server.facts.get("version").cloned().unwrap_or_default(),
        slices: runs.iter().map(|named| named.run.timeline.slices.len() as u64).sum(),
        ok,
        unanswered: 1.0 - (ok as f64 / (planned as f64).max(1.0)).min(1.0),
        faults: sum(|report| report.errors + report.lost),
        curve: Pool::of(runs).curve(),
    }
}

/// What is worse whatever the latencies are.
fn faults(a: &Side, b: &Side) -> Vec<String> {
    let mut failures = Vec::new();
    if b.faults > 0 && a.faults == 0 {
        failures.push(format!("B lost or spoiled {} requests, A none", b.faults));
    }
    if b.unanswered > a.unanswered + UNANSWERED_MORE {
        failures.push(format!(
            "B left {} of the planned requests without a good answer, A {}",
            text::percent(b.unanswered),
            text::percent(a.unanswered)
        ));
    }
    failures
}

fn rows(a: &[Named], b: &[Named], plan: Plan) -> Vec<Row> {
    let (pool_a, pool_b) = (Pool::of(a), Pool::of(b));
    let (as_is_a, as_is_b) = (pool_a.as_it_is(), pool_b.as_it_is());
    let enough = pool_a.len() >= SLICES_MIN && pool_b.len() >= SLICES_MIN;
    let mut changes: [Vec<f64>; Drawn::NAMES.len()] = Default::default();
    if enough {
        let mut rng = bootstrap::Rng::new(plan.seed);
        for _ in 0..DRAWS {
            let (a, b) = (pool_a.draw(&mut rng), pool_b.draw(&mut rng));
            for (at, changes) in changes.iter_mut().enumerate() {
                changes.extend(change(a.values[at], b.values[at]));
            }
        }
    }
    let row = |(at, changes): (usize, &mut Vec<f64>)| {
        let what = Drawn::NAMES[at];
        let (a, b) = (as_is_a.values[at], as_is_b.values[at]);
        let change = change(a, b);
        let interval = interval(changes);
        let verdict = verdict(at == 0, change, interval);
        let decides = matches!(what, "rate" | "p50" | "p99");
        let beyond = change.is_some_and(|change| change.abs() > plan.tolerance);
        let fails = decides && verdict == Verdict::Worse && beyond;
        Row { what: what.to_owned(), a, b, change, interval, verdict, fails, decides }
    };
    changes.iter_mut().enumerate().map(row).collect()
}

fn change(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    let (a, b) = (a.filter(|a| *a > 0.0)?, b?);
    Some(b / a - 1.0)
}

/// What 95% of the draws lie within.
fn interval(changes: &mut [f64]) -> Option<(f64, f64)> {
    if changes.len() < DRAWS as usize {
        return None;
    }
    changes.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| changes[(share * (changes.len() - 1) as f64).round() as usize];
    Some((at(0.025), at(0.975)))
}

/// What a change means; more is better of a rate, and less of a latency.
fn verdict(more: bool, change: Option<f64>, interval: Option<(f64, f64)>) -> Verdict {
    let (Some(change), Some((low, high))) = (change, interval) else { return Verdict::Unknown };
    if (low <= 0.0 && high >= 0.0) || change.abs() < CHANGE_MIN {
        return Verdict::Same;
    }
    if (low > 0.0) == more { Verdict::Better } else { Verdict::Worse }
}

#[cfg(test)]
mod tests;
