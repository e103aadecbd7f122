//! The highest rate that keeps a promise: what is promised, and the search. The search does no
//! load: it says which rate to try, and is told whether the promise held.

use crate::report::Latency;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What is bounded.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Latency of half of the answers, microseconds.
    P50,
    /// Of 90%.
    P90,
    /// Of 99%.
    P99,
    /// Of 99.9%.
    P999,
    /// Of all.
    Max,
    /// Share of the planned requests without a good answer.
    Errors,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::P50, Self::P90, Self::P99, Self::P999, Self::Max, Self::Errors];

    /// Name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p999",
            Self::Max => "max",
            Self::Errors => "errors",
        }
    }

    fn of(self, latency: &Latency, unanswered: f64) -> Option<f64> {
        match self {
            Self::P50 => latency.p50,
            Self::P90 => latency.p90,
            Self::P99 => latency.p99,
            Self::P999 => latency.p999,
            Self::Max => latency.max,
            Self::Errors => Some(unanswered),
        }
    }

    /// A value of this with its unit.
    #[must_use]
    pub fn written(self, value: f64) -> String {
        match self {
            Self::Errors => format!("{}%", plot::text::digits(value * 100.0)),
            _ => plot::text::micros(value).replace('µ', "u"),
        }
    }
}

/// A promise: this is at most that.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Bound {
    /// What is bounded.
    pub measure: Measure,
    /// Microseconds, or a share from 0 to 1.
    pub most: f64,
}

impl Bound {
    /// What holds where nothing is said of errors.
    pub const FEW_ERRORS: Self = Self { measure: Measure::Errors, most: 0.001 };

    /// Why a measurement does not keep it, or nothing where it does.
    #[must_use]
    pub fn broken_by(&self, latency: &Latency, unanswered: f64) -> Option<String> {
        let Some(found) = self.measure.of(latency, unanswered) else {
            return Some("no request was answered".to_owned());
        };
        let name = self.measure.name();
        let written = |value| self.measure.written(value);
        (found > self.most).then(|| format!("{name} {} > {}", written(found), written(self.most)))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <= {}", self.measure.name(), self.measure.written(self.most))
    }
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || {
            let names = Measure::ALL.map(Measure::name).join(", ");
            format!("`{text}` is no bound: write p99=5ms or errors=0.1%, of {names}")
        };
        let (name, value) = text.split_once('=').ok_or_else(fault)?;
        let measure = Measure::ALL.into_iter().find(|measure| measure.name() == name.trim());
        let measure = measure.ok_or_else(fault)?;
        let value = value.trim();
        let end = value.find(|c: char| c.is_ascii_alphabetic() || c == '%').unwrap_or(value.len());
        let (number, unit) = value.split_at(end);
        let number: f64 = number.trim().parse().map_err(|_| fault())?;
        let most = match (measure, unit) {
            (Measure::Errors, "%") => number / 100.0,
            (Measure::Errors, "") => number,
            (Measure::Errors, _) => return Err(format!("`{text}`: errors are a share: 0.1%")),
            (_, "us") => number,
            (_, "ms") => number * 1e3,
            (_, "s") => number * 1e6,
            _ => return Err(format!("`{text}`: a latency has a unit: us, ms or s")),
        };
        let sound = match measure {
            Measure::Errors => (0.0..1.0).contains(&most),
            _ => most > 0.0 && most <= 3.6e9,
        };
        sound.then_some(Self { measure, most }).ok_or_else(|| match measure {
            Measure::Errors => format!("`{text}`: errors are at least 0% and under 100%"),
            _ => format!("`{text}`: a latency is over 0 and at most an hour"),
        })
    }
}

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Rate that is tried first.
    pub start: f64,
    /// Lowest rate that is tried.
    pub floor: f64,
    /// Highest rate that is tried.
    pub ceiling: f64,
    /// The search ends where the rate that fails is at most this share above the one that holds.
    pub step: f64,
    /// Runs in which the rate must hold, the first one included.
    pub confirmations: u32,
    /// Most runs.
    pub runs_max: u32,
}

/// Why a rate is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// To find one rate that holds and one that fails.
    Bracket,
    /// To bring the two together.
    Bisect,
    /// To see whether it holds again.
    Confirm,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Try this rate and say what came of it.
    Try(f64, Why),
    /// The search is over.
    Done(End),
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// This rate holds, and one at most a step above it fails.
    Found(f64),
    /// The highest rate that may be tried holds.
    Ceiling(f64),
    /// The lowest rate that may be tried fails.
    Floor(f64),
    /// The runs were used up; the highest rate that held, as far as it was confirmed.
    Unsettled(Option<f64>),
}

/// A search. Ask [`Search::next`], try, tell [`Search::record`], until it is done.
///
/// Rates double until one fails, or are quartered until one holds; then the middle between the two
/// (by factor) is tried until they are a step apart. Then the one that holds must hold again: what
/// held by luck fails now, becomes the upper end, and the search goes on below it.
#[derive(Clone, Debug)]
pub struct Search {
    limits: Limits,
    /// Rates that held and that no lower one contradicts, rising, each with how often it held.
    held: Vec<(f64, u32)>,
    /// The lowest that failed.
    failed: Option<f64>,
    runs: u32,
}

impl Search {
    /// A search that has tried nothing.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, held: Vec::new(), failed: None, runs: 0 }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Next {
        let Limits { start, floor, ceiling, step, confirmations, runs_max } = self.limits;
        let holds = self.held.last().copied();
        let end = match (holds, self.failed) {
            (Some((rate, _)), None) if rate >= ceiling => Some(End::Ceiling(rate)),
            (Some((rate, _)), Some(failed)) if failed <= rate * (1.0 + step) => {
                Some(End::Found(rate))
            }
            (None, Some(failed)) if failed <= floor => return Next::Done(End::Floor(failed)),
            _ => None,
        };
        if let (Some(end), Some((_, times))) = (end, holds)
            && times >= confirmations
        {
            return Next::Done(end);
        }
        if self.runs >= runs_max {
            return Next::Done(End::Unsettled(holds.map(|(rate, _)| rate)));
        }
        match (holds, self.failed) {
            (Some((rate, _)), _) if end.is_some() => Next::Try(rate, Why::Confirm),
            (None, None) => Next::Try(start.clamp(floor, ceiling), Why::Bracket),
            (Some((rate, _)), None) => Next::Try((rate * 2.0).min(ceiling), Why::Bracket),
            (None, Some(failed)) => Next::Try((failed / 4.0).max(floor), Why::Bracket),
            (Some((rate, _)), Some(failed)) => Next::Try((rate * failed).sqrt(), Why::Bisect),
        }
    }

    /// What came of a rate.
    pub fn record(&mut self, rate: f64, holds: bool) {
        self.runs += 1;
        if !holds {
            self.failed = Some(self.failed.map_or(rate, |failed| failed.min(rate)));
            self.held.retain(|(held, _)| *held < rate);
            return;
        }
        match self.held.last_mut() {
            Some((held, times)) if *held == rate => *times += 1,
            _ => self.held.push((rate, 1)),
        }
    }

    /// The lowest rate that failed.
    #[must_use]
    pub const fn failed(&self) -> Option<f64> {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        start: 1_000.0,
        floor: 1.0,
        ceiling: 1e9,
        step: 0.05,
        confirmations: 3,
        runs_max: 80,
    };

    /// All tries of a search against a server, and how it ended.
    fn seek(limits: Limits, mut holds: impl FnMut(f64) -> bool) -> (Vec<(f64, bool)>, End) {
        let mut search = Search::new(limits);
        let mut tries = Vec::new();
        loop {
            match search.next() {
                Next::Done(end) => return (tries, end),
                Next::Try(rate, _) => {
                    let held = holds(rate);
                    tries.push((rate, held));
                    search.record(rate, held);
                }
            }
            assert!(tries.len() <= limits.runs_max as usize, "it does not end");
        }
    }

    /// 99% of the waits of a queue with one server that does `capacity` a second are within this,
    /// microseconds.
    fn p99(capacity: f64, rate: f64) -> f64 {
        if rate >= capacity { f64::INFINITY } else { 1e6 * 100_f64.ln() / (capacity - rate) }
    }

    #[test]
    fn promises_are_read_with_their_units() {
        let cases = [
            ("p99=5ms", Measure::P99, 5_000.0),
            ("p50=250us", Measure::P50, 250.0),
            ("max=1.5s", Measure::Max, 1_500_000.0),
            ("errors=0.1%", Measure::Errors, 0.001),
            ("errors=0", Measure::Errors, 0.0),
        ];
        for (text, measure, most) in cases {
            assert_eq!(text.parse(), Ok(Bound { measure, most }), "{text}");
        }
        for bad in [
            "",
            "p99",
            "p98=1ms",
            "p99=5",
            "p99=0ms",
            "p99=-1ms",
            "p99=NaNms",
            "errors=5ms",
            "errors=100%",
            "errors=-1%",
            "p99=2h",
            "p999=inf s",
        ] {
            let fault = bad.parse::<Bound>().expect_err(bad);
            assert!(fault.contains(bad), "{fault}");
        }
    }

    #[test]
    fn a_promise_without_answers_is_broken() {
        let bound: Bound = "p99=5ms".parse().expect("sound");
        assert!(bound.broken_by(&Latency::default(), 1.0).is_some());
        let slow = Latency { p99: Some(7_200.0), ..Latency::default() };
        assert_eq!(bound.broken_by(&slow, 0.0).as_deref(), Some("p99 7.2 ms > 5 ms"));
        assert_eq!(bound.broken_by(&Latency { p99: Some(5_000.0), ..slow }, 0.0), None);
    }

    #[test]
    fn the_ends_of_what_may_be_tried_are_ends() {
        assert_eq!(seek(Limits { ceiling: 5_000.0, ..LIMITS }, |_| true).1, End::Ceiling(5_000.0));
        assert_eq!(seek(Limits { floor: 50.0, ..LIMITS }, |_| false).1, End::Floor(50.0));
        let few = Limits { runs_max: 4, ..LIMITS };
        assert_eq!(seek(few, |rate| rate < 1e6).1, End::Unsettled(Some(8_000.0)));
        assert_eq!(seek(Limits { runs_max: 0, ..LIMITS }, |_| true).1, End::Unsettled(None));
    }

    #[test]
    fn what_held_by_luck_is_given_up() {
        // Truly 2,000 a second; 2,500 holds the first time.
        let mut lucky = true;
        let (tries, end) =
            seek(LIMITS, |rate| rate <= 2_000.0 || (rate < 2_900.0 && std::mem::take(&mut lucky)));
        let End::Found(rate) = end else { panic!("{end:?}") };
        assert!((1_900.0..=2_000.0).contains(&rate), "{rate}: {tries:?}");
        assert!(tries.iter().any(|(rate, held)| *held && *rate > 2_000.0), "{tries:?}");
    }

    proptest! {
        #[test]
        fn a_queue_is_measured_to_a_step(
            capacity in 10.0..1e7f64,
            slack in 1.5..1e3f64,
            start in 1.0..1e6f64,
            step in 0.01..0.5f64,
        ) {
            // The rate at which the queue's p99 is what is promised.
            let bound = p99(capacity, 0.0) * slack;
            let exact = capacity - 1e6 * 100_f64.ln() / bound;
            let limits = Limits { start, step, ..LIMITS };
            let (tries, end) = seek(limits, |rate| p99(capacity, rate) <= bound);
            let End::Found(rate) = end else { panic!("{end:?} {tries:?}") };
            let above = rate * (1.0 + step);
            prop_assert!(rate <= exact * (1.0 + 1e-9) && exact <= above * (1.0 + 1e-9));
            let again = tries.iter().filter(|(tried, _)| *tried == rate).count();
            prop_assert_eq!(again, 3, "it held three times: {:?}", tries);
            // Doubling or quartering, then halving the gap, then two more.
            let bracket = (exact / start).log2().abs() + 3.0;
            let bisect = (4.0_f64.ln() / step.ln_1p()).log2().max(0.0) + 2.0;
            prop_assert!((tries.len() as f64) <= bracket + bisect + 2.0, "{}", tries.len());
        }

        #[test]
        fn a_server_with_moods_never_gets_a_rate_that_did_not_hold(
            capacity in 100.0..1e6f64,
            moods in prop::collection::vec(0.7..1.3f64, 80),
        ) {
            let mut moods = moods.into_iter();
            let (tries, end) = seek(LIMITS, |rate| rate <= capacity * moods.next().unwrap_or(1.0));
            match end {
                End::Found(rate) => {
                    prop_assert_eq!(tries.last(), Some(&(rate, true)));
                    let all: Vec<_> = tries.iter().filter(|(tried, _)| *tried == rate).collect();
                    let held = all.iter().all(|(_, held)| *held);
                    prop_assert!(all.len() >= 3 && held, "{:?}", tries);
                    let failed = tries.iter().filter(|(_, held)| !held).map(|(rate, _)| *rate);
                    let lowest = failed.fold(f64::INFINITY, f64::min);
                    prop_assert!(rate < lowest && lowest <= rate * 1.05 * (1.0 + 1e-12));
                    prop_assert!(rate <= capacity * 1.3);
                }
                End::Unsettled(_) => prop_assert_eq!(tries.len(), 80),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
