//! Rate against latency: one run for each rate of a list, or a search for the highest rate that
//! keeps a promise ([`crate::slo`]). Always an open loop: a closed one waits for the node, and
//! hides what a rate does to those who do not.

mod text;

use crate::{
    config::{BlastError, Config, DEPTH_MAX, Pace, RATE_MAX},
    report::{Asked, Latency, Report},
    run::measure,
    server::Server,
    slo::{Bound, End, Limits, Next, Search, Why},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Parts of the capacity that are offered where no rates are given.
const SHARES: [f64; 11] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// Most rates of a sweep.
const RATES_MAX: usize = 100;
/// Answers per second over the rate, from which on it is kept up with: answers that come after the
/// end of a run make it longer.
const KEPT_UP: f64 = 0.95;
/// Fewest rates that have a knee.
const KNEE_MIN: usize = 3;

/// Which rates.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    /// These, in this order.
    List(Vec<f64>),
    /// Parts of what a closed loop of this depth gets answered.
    Found {
        /// Requests under way on each connection meanwhile.
        probe_depth: u32,
    },
    /// As a search for what keeps these promises asks for.
    Sought {
        /// The promises.
        bounds: Vec<Bound>,
        /// How to search.
        limits: Limits,
    },
}

impl Rates {
    /// Rates from one to another, each by this factor above the one before; the last one is `to`.
    ///
    /// # Errors
    /// Where that makes no list.
    pub fn range(from: f64, to: f64, factor: f64) -> Result<Self, BlastError> {
        rate("from", from)?;
        rate("to", to)?;
        if from >= to {
            return Err(BlastError::usage(format!("--from {from} must be below --to {to}")));
        }
        if !(factor.is_finite() && factor > 1.0) {
            return Err(BlastError::usage(format!("--factor {factor} must be over 1")));
        }
        let steps = (to / from).ln() / factor.ln();
        if steps > RATES_MAX as f64 - 1.0 {
            return Err(BlastError::usage(format!(
                "that is over {RATES_MAX} rates: use a larger --factor"
            )));
        }
        // What falls just short of the end but for rounding is the end.
        let count = (steps - 1e-9).ceil() as i32;
        let mut rates: Vec<f64> = (0..count).map(|n| from * factor.powi(n)).collect();
        rates.push(to);
        Ok(Self::List(rates))
    }
}

fn rate(what: &str, rate: f64) -> Result<(), BlastError> {
    let sound = rate.is_finite() && rate > 0.0 && rate <= RATE_MAX;
    sound.then_some(()).ok_or_else(|| {
        BlastError::usage(format!("--{what} {rate} must be over 0 and at most 1e9 per second"))
    })
}

/// What to find out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The load; its pace is set for each run.
    pub config: Config,
    /// Which rates.
    pub rates: Rates,
}

impl Plan {
    /// Accepts the plan as a whole or says what is wrong with it.
    ///
    /// # Errors
    /// [`BlastError::Usage`].
    pub fn check(self) -> Result<Self, BlastError> {
        match &self.rates {
            Rates::List(rates) => {
                if rates.is_empty() || rates.len() > RATES_MAX {
                    return Err(BlastError::usage(format!("--rates takes 1 to {RATES_MAX} rates")));
                }
                rates.iter().try_for_each(|one| rate("rates", *one))?;
            }
            Rates::Found { probe_depth } => {
                if *probe_depth == 0 || *probe_depth > DEPTH_MAX {
                    let bounds = format!("--probe-depth is between 1 and {DEPTH_MAX}");
                    return Err(BlastError::usage(bounds));
                }
            }
            Rates::Sought { bounds, limits } => check_search(bounds, limits)?,
        }
        Ok(self)
    }
}

fn check_search(bounds: &[Bound], limits: &Limits) -> Result<(), BlastError> {
    if bounds.is_empty() {
        return Err(BlastError::usage("--slo needs at least one bound"));
    }
    rate("from", limits.floor)?;
    rate("to", limits.ceiling)?;
    if limits.floor >= limits.ceiling {
        let Limits { floor, ceiling, .. } = limits;
        return Err(BlastError::usage(format!("--from {floor} must be below --to {ceiling}")));
    }
    if !(0.001..=1.0).contains(&limits.step) {
        return Err(BlastError::usage("--step is between 0.001 and 1"));
    }
    if !(1..=20).contains(&limits.confirmations) {
        return Err(BlastError::usage("--confirm is between 1 and 20"));
    }
    if !(limits.confirmations..=1_000).contains(&limits.runs_max) {
        return Err(BlastError::usage("--max-runs is between --confirm and 1000"));
    }
    Ok(())
}

/// What came of one rate.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Point {
    /// Requests per second that were planned.
    pub rate: f64,
    /// Good answers per second.
    pub achieved: f64,
    /// Sends that were planned.
    pub planned: u64,
    /// Those that left.
    pub sent: u64,
    /// Answered and right.
    pub ok: u64,
    /// Refused.
    pub refused: u64,
    /// Answered twice, answered wrong, or broken on the way.
    pub errors: u64,
    /// Neither answered nor refused.
    pub lost: u64,
    /// Refusals by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Errors by kind.
    pub error_kinds: BTreeMap<String, u64>,
    /// Microseconds from planned send to checked answer.
    pub latency_us: Latency,
    /// Why the numbers say more of this program than of the node, if they do.
    pub client_bound_reason: Option<String>,
    /// Why a search tried this rate: `bracket`, `bisect`, `confirm`; empty outside of one.
    pub why: String,
    /// The promise that was broken, if one was.
    pub broke: Option<String>,
}

impl Point {
    /// What came of a run at this rate.
    #[must_use]
    pub fn of(rate: f64, report: &Report) -> Self {
        Self {
            rate,
            achieved: report.rps,
            planned: report.planned,
            sent: report.sent,
            ok: report.ok,
            refused: report.refused,
            errors: report.errors,
            lost: report.lost,
            refusals: report.refusals.clone(),
            error_kinds: report.error_kinds.clone(),
            latency_us: report.latency_us,
            client_bound_reason: report.client_bound_reason.clone(),
            why: String::new(),
            broke: None,
        }
    }

    /// Share of the planned requests without a good answer, 0 to 1.
    #[must_use]
    pub fn unanswered(&self) -> f64 {
        match self.planned {
            0 => 1.0,
            planned => 1.0 - (self.ok as f64 / planned as f64).min(1.0),
        }
    }

    /// True where answers came nearly as fast as requests were planned.
    #[must_use]
    pub fn kept_up(&self) -> bool {
        self.achieved >= self.rate * KEPT_UP
    }
}

/// Where more rate begins to cost more latency than it brings.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Knee {
    /// The rate with the most good answers per second for each microsecond of p99.
    pub rate: f64,
    /// Its p99, microseconds.
    pub p99_us: f64,
}

/// A promise, and the highest rate that keeps it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Slo {
    /// What was promised.
    pub bounds: Vec<Bound>,
    /// The rate, where one was found.
    pub rate: Option<f64>,
    /// The lowest rate that broke a promise.
    pub failed: Option<f64>,
    /// How often the rate had to hold.
    pub confirmations: u32,
    /// The rate held so often, and one at most this share above it did not.
    pub step: f64,
    /// True where that is so; otherwise the search ended before.
    pub settled: bool,
    /// How it ended, in a sentence.
    pub words: String,
}

/// What came of all rates.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Sweep {
    /// The load, without a rate.
    pub load: Asked,
    /// What the node said of itself in the last run.
    pub server: Server,
    /// Good answers per second of a closed loop, where that was found out.
    pub capacity: Option<f64>,
    /// One for each run, in the order of the runs.
    pub points: Vec<Point>,
    /// The knee, where the rates show one.
    pub knee: Option<Knee>,
    /// The promise, where one was given.
    pub slo: Option<Slo>,
}

impl Sweep {
    /// True where every request was answered or refused, nothing was wrong, and a promise was kept
    /// at some rate.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let kept = self.slo.as_ref().is_none_or(|slo| slo.rate.is_some() && slo.settled);
        kept && self.points.iter().all(|point| point.lost == 0 && point.errors == 0)
    }

    /// Highest rate that was kept up with, if a higher one was not.
    #[must_use]
    pub fn saturation(&self) -> Option<f64> {
        let lost = self.points.iter().filter(|point| !point.kept_up()).map(|point| point.rate);
        let lost = lost.fold(f64::INFINITY, f64::min);
        let kept = self.points.iter().filter(|point| point.kept_up() && point.rate < lost);
        let kept = kept.map(|point| point.rate).reduce(f64::max)?;
        lost.is_finite().then_some(kept)
    }
}

/// The rate with the most power: good answers per second over p99 (Kleinrock's measure of where a
/// queue is best run, with the tail in place of the mean). None where it is the highest of the
/// rates: then the knee is beyond them.
#[must_use]
pub fn knee(points: &[Point]) -> Option<Knee> {
    let power = |point: &Point| {
        let p99 = point.latency_us.p99.filter(|us| *us > 0.0)?;
        Some((point.achieved / p99, Knee { rate: point.rate, p99_us: p99 }))
    };
    let highest = points.iter().map(|point| point.rate).reduce(f64::max)?;
    let all: Vec<_> = points.iter().filter_map(power).collect();
    let best = all.iter().max_by(|a, b| a.0.total_cmp(&b.0))?.1;
    (all.len() >= KNEE_MIN && best.rate < highest).then_some(best)
}

/// Runs all rates. `tell` gets a line for each, for people who wait.
///
/// # Errors
/// [`BlastError`] as [`measure`], and where the node answers nothing.
pub fn sweep(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Result<Sweep, BlastError> {
    let mut found = Sweep::default();
    let bench = |rate: f64, found: &mut Sweep| {
        let run = measure(Config { pace: Pace::Open { rate }, ..plan.config.clone() })?;
        let point = Point::of(rate, &run.report);
        found.load = Asked { rate: None, ..run.report.load };
        found.server = run.report.server;
        Ok::<_, BlastError>(point)
    };
    let rates = match &plan.rates {
        Rates::Sought { bounds, limits } => {
            seek(bounds, *limits, &mut found, bench, tell)?;
            return Ok(found);
        }
        Rates::List(rates) => rates.clone(),
        Rates::Found { probe_depth } => {
            tell("how much the node can do, by a closed loop");
            let depth = *probe_depth;
            let probe = Config { pace: Pace::Closed, depth, ..plan.config.clone() };
            let capacity = measure(probe)?.report.rps;
            if capacity <= 0.0 {
                return Err(BlastError::usage("the node answered nothing, so it has no capacity"));
            }
            found.capacity = Some(capacity);
            SHARES.iter().map(|share| (share * capacity).min(RATE_MAX)).collect()
        }
    };
    for (at, rate) in rates.iter().enumerate() {
        let point = bench(*rate, &mut found)?;
        tell(&format!("{} of {}: {}", at + 1, rates.len(), text::line(&point)));
        found.points.push(point);
    }
    found.knee = knee(&found.points);
    Ok(found)
}

/// Searches for the highest rate that keeps the promises.
fn seek(
    bounds: &[Bound],
    limits: Limits,
    found: &mut Sweep,
    mut bench: impl FnMut(f64, &mut Sweep) -> Result<Point, BlastError>,
    tell: &mut dyn FnMut(&str),
) -> Result<(), BlastError> {
    let mut search = Search::new(limits);
    let end = loop {
        let (rate, why) = match search.next() {
            Next::Try(rate, why) => (rate, why),
            Next::Done(end) => break end,
        };
        let mut point = bench(rate, found)?;
        let broken =
            bounds.iter().find_map(|bound| bound.broken_by(&point.latency_us, point.unanswered()));
        search.record(rate, broken.is_none());
        point.broke = broken;
        point.why = match why {
            Why::Bracket => "bracket",
            Why::Bisect => "bisect",
            Why::Confirm => "confirm",
        }
        .to_owned();
        tell(&format!("{} {}: {}", found.points.len() + 1, point.why, text::line(&point)));
        found.points.push(point);
    };
    found.slo = Some(outcome(end, bounds, limits, search.failed(), &found.points));
    Ok(())
}

fn outcome(
    end: End,
    bounds: &[Bound],
    limits: Limits,
    failed: Option<f64>,
    points: &[Point],
) -> Slo {
    let rate = match end {
        End::Found(rate) | End::Ceiling(rate) => Some(rate),
        End::Unsettled(rate) => rate,
        End::Floor(_) => None,
    };
    let settled = matches!(end, End::Found(_) | End::Ceiling(_));
    let mut words = text::outcome(end, bounds, failed);
    let by_blast = points
        .iter()
        .find(|point| Some(point.rate) == failed && point.client_bound_reason.is_some());
    if let Some(reason) = by_blast.and_then(|point| point.client_bound_reason.as_ref()) {
        words.push_str(&format!("; but blast was the limit there ({reason}), not the node"));
    }
    let (confirmations, step) = (limits.confirmations, limits.step);
    Slo { bounds: bounds.to_vec(), rate, failed, confirmations, step, settled, words }
}

#[cfg(test)]
mod tests;
