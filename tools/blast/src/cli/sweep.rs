//! Options of `blast sweep`.

use super::LoadArgs;
use crate::{
    config::{BlastError, Pace, RATE_MAX},
    slo::{Bound, Limits},
    sweep::{Plan, Rates},
};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  From a twentieth of what the node can do up to all of it:
    blast sweep --addr 127.0.0.1:7171 --op topk --connections 8 --html sweep.html
  These rates, five seconds each:
    blast sweep --addr 127.0.0.1:7171 --op echo --rates 1000,2000,5000,10000 --duration 5s
  From 1,000 to 100,000 a second, each half as much again:
    blast sweep --addr 127.0.0.1:7171 --op ping --from 1000 --to 100000 --factor 1.5
  The highest rate at which 99% take 5 ms at most and 99.9% are answered, to 2%:
    blast sweep --addr 127.0.0.1:7171 --op topk --slo p99=5ms --slo errors=0.1% --step 2%

A bound is p50, p90, p99, p999 or max with a time (us, ms, s), or errors with a share: planned \
requests without a good answer, refused and unsent ones included. Where no bound of errors is \
given, it is 0.1%. The rate found has held --confirm times, and a rate at most --step above it \
has not.

Exit status: 0 all answered or refused and right, and the bounds are kept at some rate, 1 errors, \
lost requests or no such rate, 2 wrong usage or no connection.";

/// Options of `blast sweep`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SweepArgs {
    /// Rates to run at, requests per second [default: parts of what a closed loop gets answered]
    #[arg(long, value_name = "R,...", value_delimiter = ',', conflicts_with_all = ["from", "to"])]
    pub rates: Vec<f64>,
    /// Lowest rate
    #[arg(long, value_name = "R")]
    pub from: Option<f64>,
    /// Highest rate
    #[arg(long, value_name = "R")]
    pub to: Option<f64>,
    /// Each rate over the one before it
    #[arg(long, value_name = "F", default_value_t = 1.5)]
    pub factor: f64,
    /// Search for the highest rate that keeps this bound; may be repeated
    #[arg(long, value_name = "BOUND", value_delimiter = ',', conflicts_with = "rates")]
    pub slo: Vec<Bound>,
    /// How near to come to it
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = super::share)]
    pub step: f64,
    /// Runs in which the rate must hold
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub confirm: u32,
    /// Most runs of a search
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub max_runs: u32,
    /// Requests under way on each connection while it is found out what the node can do
    #[arg(long, value_name = "D", default_value_t = 8)]
    pub probe_depth: u32,
    /// What is sent, and how.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// Rate that a search begins with.
const START: f64 = 1_000.0;

impl SweepArgs {
    /// The load that these options describe, and at which rates.
    ///
    /// # Errors
    /// [`BlastError::Usage`].
    pub fn plan(&self) -> Result<Plan, BlastError> {
        let config = self.load.config(Pace::Closed)?;
        let rates = match (self.from, self.to) {
            _ if !self.slo.is_empty() => self.search()?,
            (Some(from), Some(to)) => Rates::range(from, to, self.factor)?,
            (None, None) if self.rates.is_empty() => Rates::Found { probe_depth: self.probe_depth },
            (None, None) => Rates::List(self.rates.clone()),
            _ => return Err(BlastError::usage("give --from and --to together")),
        };
        Plan { config, rates }.check()
    }

    fn search(&self) -> Result<Rates, BlastError> {
        let mut bounds = self.slo.clone();
        for (at, bound) in bounds.iter().enumerate() {
            if bounds[..at].iter().any(|other| other.measure == bound.measure) {
                let name = bound.measure.name();
                return Err(BlastError::usage(format!("--slo bounds {name} twice")));
            }
        }
        if !bounds.iter().any(|bound| bound.measure == crate::slo::Measure::Errors) {
            bounds.push(Bound::FEW_ERRORS);
        }
        let floor = self.from.unwrap_or(1.0);
        let ceiling = self.to.unwrap_or(RATE_MAX);
        let limits = Limits {
            start: match (self.from, self.to) {
                (Some(from), Some(to)) => (from * to).sqrt(),
                _ => START,
            },
            floor,
            ceiling,
            step: self.step,
            confirmations: self.confirm,
            runs_max: self.max_runs,
        };
        Ok(Rates::Sought { bounds, limits })
    }
}
