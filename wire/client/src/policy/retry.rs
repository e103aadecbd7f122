//! One call: how often it may be tried, when, and when it is over.

use super::{backoff, budget::Budget};
use std::time::{Duration, Instant};
use wire::ErrorCode;

/// How a pool tries again (POOL-06).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Tries of one call, the first included.
    pub attempts: u32,
    /// Bound of the wait before the second try; doubled for each further one.
    pub first: Duration,
    /// Bound of all waits. A node's own advice (`retry_after_ms`) may ask for longer.
    pub most: Duration,
    /// Retries per call that all calls of a pool may make together, 0 to 1.
    pub share: f64,
    /// Retries beyond that share that a quiet pool saves up.
    pub reserve: u32,
}

impl Retry {
    /// Three tries, 10 ms to 1 s, one retry to five calls and ten saved.
    pub const DEFAULT: Self = Self {
        attempts: 3,
        first: Duration::from_millis(10),
        most: Duration::from_millis(1_000),
        share: 0.2,
        reserve: 10,
    };
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a try failed, as far as it matters for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No connection came about: nothing was sent.
    Unreached,
    /// The connection ended before the answer; `safe` where the same may be sent again.
    Lost { safe: bool },
    /// The node said no.
    Refused { code: ErrorCode, after: Option<Duration> },
    /// Anything that another try would not change.
    Final,
}

/// What to do after a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again at this moment, which is before the deadline.
    Again(Instant),
    /// The failure stands.
    Stop,
}

/// The tries of one call.
#[derive(Clone, Debug)]
pub(crate) struct Tries {
    retry: Retry,
    deadline: Instant,
    /// Sent, and not answered by `duplicate`.
    made: u32,
    /// Times in a row that the node named the request a duplicate.
    duplicates: u32,
}

impl Tries {
    pub(crate) const fn new(retry: Retry, deadline: Instant) -> Self {
        Self { retry, deadline, made: 0, duplicates: 0 }
    }

    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// A try begins: its number from 0 (the format's `attempt`) and the time that is left. `None`
    /// at the deadline.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<(u8, Duration)> {
        let left = self.deadline.checked_duration_since(now).filter(|left| !left.is_zero())?;
        // Whoever asks after a duplicate must not look like a first try.
        let number = (self.made + self.duplicates.min(1)).min(u32::from(u8::MAX)) as u8;
        self.made += 1;
        Some((number, left))
    }

    /// The try that began last has failed at `now`; `random` is in [0, 1).
    pub(crate) fn failed(
        &mut self,
        fault: Fault,
        now: Instant,
        random: f64,
        budget: &mut Budget,
    ) -> Next {
        let Retry { first, most, .. } = self.retry;
        let wait = match fault {
            // The first of the twins is still at work: to ask again is to wait for it, and runs
            // nothing. It is no try, and does not come out of the budget. Without advice, its
            // answer is gone.
            Fault::Refused { code: ErrorCode::Duplicate, after: Some(after) } => {
                self.made = self.made.saturating_sub(1);
                self.duplicates += 1;
                after + backoff(first, most, self.duplicates, random)
            }
            _ if !again(fault) || self.made >= self.retry.attempts || !budget.take() => {
                return Next::Stop;
            }
            Fault::Refused { after, .. } => {
                after.unwrap_or_default() + backoff(first, most, self.made, random)
            }
            _ => backoff(first, most, self.made, random),
        };
        match now.checked_add(wait) {
            Some(at) if at < self.deadline => Next::Again(at),
            _ => Next::Stop,
        }
    }
}

const fn again(fault: Fault) -> bool {
    match fault {
        Fault::Unreached => true,
        Fault::Lost { safe } => safe,
        Fault::Refused { code, .. } => code.retryable(),
        Fault::Final => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn refused(code: ErrorCode, ms: u32) -> Fault {
        Fault::Refused { code, after: (ms > 0).then(|| MS * ms) }
    }

    fn plenty() -> Budget {
        Budget::new(1.0, 1_000)
    }

    #[test]
    fn pool_06_three_tries_and_the_advice_of_the_node_is_kept() {
        let now = Instant::now();
        let mut tries = Tries::new(Retry::DEFAULT, now + MS * 1_000);
        assert_eq!(tries.begin(now), Some((0, MS * 1_000)));
        let next = tries.failed(refused(ErrorCode::Overloaded, 30), now, 0.5, &mut plenty());
        assert_eq!(next, Next::Again(now + MS * 35));
        let now = now + MS * 35;
        assert_eq!(tries.begin(now), Some((1, MS * 965)));
        let next = tries.failed(Fault::Lost { safe: true }, now, 0.5, &mut plenty());
        assert_eq!(next, Next::Again(now + MS * 10));
        assert_eq!(tries.begin(now + MS * 10), Some((2, MS * 955)));
        assert_eq!(tries.failed(Fault::Unreached, now, 0.5, &mut plenty()), Next::Stop);
    }

    #[test]
    fn only_what_is_safe_is_tried_again() {
        let now = Instant::now();
        let next = |fault| {
            let mut tries = Tries::new(Retry::DEFAULT, now + MS * 10_000);
            tries.begin(now).expect("time");
            tries.failed(fault, now, 0.0, &mut plenty())
        };
        for code in ErrorCode::ALL {
            let again = next(refused(*code, 0)) != Next::Stop;
            assert_eq!(again, code.retryable(), "{code}");
        }
        assert_eq!(next(Fault::Lost { safe: false }), Next::Stop);
        assert_eq!(next(Fault::Final), Next::Stop);
        assert_ne!(next(Fault::Unreached), Next::Stop);
    }

    #[test]
    fn a_duplicate_is_waited_for_and_is_no_try() {
        let start = Instant::now();
        let mut now = start;
        let mut tries = Tries::new(Retry::DEFAULT, start + MS * 2_000);
        let mut none = Budget::new(0.0, 0);
        let mut asked = 0;
        loop {
            let (number, _) = tries.begin(now).expect("time");
            assert_eq!(number, u8::from(asked > 0));
            asked += 1;
            match tries.failed(refused(ErrorCode::Duplicate, 50), now, 0.5, &mut none) {
                Next::Again(at) => now = at,
                Next::Stop => break,
            }
        }
        assert!((6..40).contains(&asked), "{asked}: until the deadline, ever less often");
        let next = tries.failed(refused(ErrorCode::Duplicate, 0), start, 0.0, &mut plenty());
        assert_eq!(next, Next::Stop, "without advice its answer is gone");
    }

    fn fault() -> impl Strategy<Value = Fault> {
        let code = prop::sample::select(ErrorCode::ALL)
            .prop_filter("counted by its own rule", |code| *code != ErrorCode::Duplicate);
        prop_oneof![
            Just(Fault::Unreached),
            any::<bool>().prop_map(|safe| Fault::Lost { safe }),
            (code, 0..3_000_u32).prop_map(|(code, ms)| refused(code, ms)),
        ]
    }

    proptest! {
        #[test]
        fn pool_06_never_more_tries_than_allowed_and_never_past_the_deadline(
            faults in prop::collection::vec((fault(), 0..500_u32, 0.0..1.0_f64), 1..20),
            attempts in 1..6_u32,
            timeout in 1..5_000_u32,
        ) {
            let start = Instant::now();
            let deadline = start + MS * timeout;
            let mut tries = Tries::new(Retry { attempts, ..Retry::DEFAULT }, deadline);
            let (mut now, mut made) = (start, 0);
            for (fault, took, random) in faults {
                let Some((number, left)) = tries.begin(now) else {
                    prop_assert!(now >= deadline);
                    break;
                };
                prop_assert_eq!(u32::from(number), made);
                prop_assert_eq!(now + left, deadline);
                made += 1;
                now += MS * took;
                match tries.failed(fault, now, random, &mut plenty()) {
                    Next::Again(at) => {
                        prop_assert!(at >= now && at < deadline && again(fault));
                        now = at;
                    }
                    Next::Stop => break,
                }
            }
            prop_assert!(made <= attempts);
        }
    }
}
