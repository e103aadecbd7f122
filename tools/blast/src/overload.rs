//! More than a node can do, on purpose: finds out how much it can do, offers parts and multiples of
//! that in an open loop, and reports for each what was answered, what was refused, and how soon.

use crate::{
    config::{BlastError, Config, DEPTH_MAX, Pace, RATE_MAX},
    report::{Asked, Latency, Report, number},
    run::run,
    server::Server,
    terminal::table,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Most of what can be offered.
const FACTOR_MAX: f64 = 1_000.0;

/// What to find out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The load; its pace is set for each step.
    pub config: Config,
    /// What to offer, in multiples of the capacity.
    pub factors: Vec<f64>,
    /// Requests per second that the node can do, where that is known.
    pub capacity: Option<f64>,
    /// Requests under way on each connection while that is found out.
    pub probe_depth: u32,
}

impl Plan {
    /// Accepts the plan as a whole or says what is wrong with it.
    ///
    /// # Errors
    /// [`BlastError::Usage`].
    pub fn check(self) -> Result<Self, BlastError> {
        let sound = |factor: &f64| factor.is_finite() && *factor > 0.0 && *factor <= FACTOR_MAX;
        if self.factors.is_empty() || !self.factors.iter().all(sound) {
            return Err(BlastError::usage(format!("--factor takes numbers up to {FACTOR_MAX}")));
        }
        if self.capacity.is_some_and(|rate| !(rate > 0.0 && rate <= RATE_MAX)) {
            return Err(BlastError::usage("--capacity must be over 0 and at most 1e9 per second"));
        }
        if self.probe_depth == 0 || self.probe_depth > DEPTH_MAX {
            return Err(BlastError::usage(format!("--probe-depth is between 1 and {DEPTH_MAX}")));
        }
        Ok(self)
    }
}

/// What came of one step.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Step {
    /// Of the capacity.
    pub factor: f64,
    /// Requests per second that were planned.
    pub offered: f64,
    /// Good answers per second.
    pub goodput: f64,
    /// The same over the capacity.
    pub goodput_share: f64,
    /// Requests that left.
    pub sent: u64,
    /// Planned, and never sent: the windows were full until the end.
    pub unsent: u64,
    /// Answered and right.
    pub ok: u64,
    /// Refused.
    pub refused: u64,
    /// By reason.
    pub refusals: BTreeMap<String, u64>,
    /// Neither answered nor refused.
    pub lost: u64,
    /// Answered twice, answered wrong, or broken on the way.
    pub errors: u64,
    /// By kind.
    pub error_kinds: BTreeMap<String, u64>,
    /// Microseconds from planned send to checked answer.
    pub latency_us: Latency,
    /// Microseconds from planned send to refusal.
    pub refused_us: Latency,
    /// Why the numbers say more of this program than of the node, if they do.
    pub client_bound_reason: Option<String>,
}

impl Step {
    fn of(factor: f64, offered: f64, capacity: f64, report: Report) -> Self {
        Self {
            factor,
            offered,
            goodput: report.rps,
            goodput_share: report.rps / capacity,
            sent: report.sent,
            unsent: report.planned.saturating_sub(report.sent),
            ok: report.ok,
            refused: report.refused,
            refusals: report.refusals,
            lost: report.lost,
            errors: report.errors,
            error_kinds: report.error_kinds,
            latency_us: report.latency_us,
            refused_us: report.refused_us,
            client_bound_reason: report.client_bound_reason,
        }
    }
}

/// What came of all of them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Overload {
    /// Requests per second that the node can do.
    pub capacity: f64,
    /// One for each factor, in the order given.
    pub steps: Vec<Step>,
    /// The load, without a rate.
    pub load: Asked,
    /// What the node said of itself in the last step.
    pub server: Server,
}

impl Overload {
    /// True where every request was answered or refused, and nothing was wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.steps.iter().all(|step| step.lost == 0 && step.errors == 0)
    }
}

/// Finds the capacity, unless it is given, and offers each of the factors.
///
/// # Errors
/// [`BlastError`] as [`run`], and where the node answers nothing.
pub fn overload(plan: &Plan) -> Result<Overload, BlastError> {
    let capacity = match plan.capacity {
        Some(capacity) => capacity,
        None => {
            let depth = plan.probe_depth;
            run(Config { pace: Pace::Closed, depth, ..plan.config.clone() })?.rps
        }
    };
    if capacity <= 0.0 {
        return Err(BlastError::usage("the node answered nothing, so it has no capacity"));
    }
    let mut found = Overload { capacity, ..Overload::default() };
    for factor in &plan.factors {
        let rate = (capacity * factor).min(RATE_MAX);
        let report = run(Config { pace: Pace::Open { rate }, ..plan.config.clone() })?;
        found.load = Asked { rate: None, ..report.load.clone() };
        found.server = report.server.clone();
        found.steps.push(Step::of(*factor, rate, capacity, report));
    }
    Ok(found)
}

impl Overload {
    /// For people, in so many columns.
    #[must_use]
    pub fn text(&self, columns: u16) -> String {
        let head = [
            "factor",
            "offered/s",
            "goodput/s",
            "of capacity",
            "p50 us",
            "p99 us",
            "refused",
            "p50 us",
            "p99 us",
            "unsent",
            "lost",
            "errors",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let us = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |us| format!("{us:.0}"));
        for step in &self.steps {
            rows.push(vec![
                step.factor.to_string(),
                number(step.offered),
                number(step.goodput),
                format!("{:.1}%", step.goodput_share * 100.0),
                us(step.latency_us.p50),
                us(step.latency_us.p99),
                step.refused.to_string(),
                us(step.refused_us.p50),
                us(step.refused_us.p99),
                step.unsent.to_string(),
                step.lost.to_string(),
                step.errors.to_string(),
            ]);
        }
        let mut text = format!("capacity {}/s\n{}", number(self.capacity), table(&rows, columns));
        for step in &self.steps {
            if let Some(reason) = &step.client_bound_reason {
                text.push_str(&format!("\nat {}: {reason}", step.factor));
            }
        }
        text
    }
}

/// The table, for a wide terminal.
impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(120))
    }
}
