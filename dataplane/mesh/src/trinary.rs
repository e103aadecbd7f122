//! The trinary decision (TRIN-01..07): what a gather's counts mean.
//!
//! The denominators, and why:
//! - READY is taken over the messages SENT. Whoever got none cannot be READY; how many that were is
//!   the coverage, which is reported beside the rate and never hidden in it.
//! - CONFLICT and "under way" are taken over the TARGETS. An agent that is under way may not answer
//!   at all, so that a share of the answers would miss it: silent agents count as under way.
//! - Nobody chosen, or nothing sent, is no rate of any kind: `NO_TARGETS`.
//!
//! `max_transit` only chooses between WAIT and RETRY: where READY suffices, it is implied.

use wire::{mesh::Decision, payload::mesh::Counts};

/// READY over sent, at least (TRIN-02, SCATTER-01).
pub const MIN_READY: f32 = 0.95;
/// CONFLICT over targets, at most (TRIN-02).
pub const MAX_CONFLICT: f32 = 0.05;
/// Under way over targets, at most, for another decision than WAIT (TRIN-02).
pub const MAX_TRANSIT: f32 = 0.10;

/// What a decision needs. All are shares, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// READY over sent, at least.
    pub min_ready: f32,
    /// CONFLICT over targets, at most.
    pub max_conflict: f32,
    /// TRANSIT and silent over targets, at most.
    pub max_transit: f32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { min_ready: MIN_READY, max_conflict: MAX_CONFLICT, max_transit: MAX_TRANSIT }
    }
}

/// A decision and its reason (TRIN-07).
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What to do.
    pub decision: Decision,
    /// READY rate minus half the CONFLICT rate, both over targets (TRIN-03); 0 without targets.
    pub confidence: f32,
    /// Why, for people.
    pub reason: String,
    /// What to do about it, for people.
    pub recommendation: &'static str,
}

/// Part of a whole; 0 of nothing.
#[must_use]
pub fn share(part: u32, whole: u32) -> f32 {
    if whole == 0 { 0.0 } else { (f64::from(part) / f64::from(whole)) as f32 }
}

/// True where `part` of `whole` is at least `rate`. Counted rather than divided, so that 95 of 100
/// reach 0.95 whatever a float makes of it.
#[must_use]
pub fn reaches(part: u32, whole: u32, rate: f32) -> bool {
    f64::from(part) + 1e-6 * f64::from(whole) >= f64::from(rate) * f64::from(whole)
}

fn exceeds(part: u32, whole: u32, rate: f32) -> bool {
    f64::from(part) > (f64::from(rate) + 1e-6) * f64::from(whole)
}

/// Decides from the counts of a gather that has ended, or as if it ended now.
#[must_use]
pub fn decide(counts: &Counts, bounds: &Bounds) -> Verdict {
    let Counts { targets, sent, ready, conflicts, .. } = *counts;
    let under_way = counts.transit.saturating_add(counts.stragglers);
    let confidence = share(ready, targets) - 0.5 * share(conflicts, targets);
    if targets == 0 || sent == 0 {
        return Verdict {
            decision: Decision::NoTargets,
            confidence: 0.0,
            reason: format!("{targets} targets, {} skipped, none sent", counts.skipped),
            recommendation: recommendation(Decision::NoTargets),
        };
    }
    let enough = reaches(ready, sent, bounds.min_ready);
    let quarrel = exceeds(conflicts, targets, bounds.max_conflict);
    let pending = exceeds(under_way, targets, bounds.max_transit);
    let decision = match (enough, quarrel, pending) {
        (true, false, _) => Decision::Proceed,
        (false, _, true) => Decision::Wait,
        (_, true, _) => Decision::ResolveConflicts,
        (false, false, false) => Decision::Retry,
    };
    let mut reason = format!(
        "{ready} of {sent} sent are READY ({:.2}%, needed {:.2}%); of {targets} targets \
         {conflicts} CONFLICT ({:.2}%, at most {:.2}%), {under_way} under way ({:.2}%)",
        100.0 * share(ready, sent),
        100.0 * bounds.min_ready,
        100.0 * share(conflicts, targets),
        100.0 * bounds.max_conflict,
        100.0 * share(under_way, targets),
    );
    if counts.skipped > 0 {
        reason.push_str(&format!(", {} skipped", counts.skipped));
    }
    Verdict { decision, confidence, reason, recommendation: recommendation(decision) }
}

/// What to do about a decision (SCATTER-05, TRIN-04..06).
#[must_use]
pub const fn recommendation(decision: Decision) -> &'static str {
    match decision {
        Decision::Proceed => "go on",
        Decision::Wait => "retry with a larger window: too many were still under way",
        Decision::ResolveConflicts => {
            "resolve the conflicts first: those that answered so know better"
        }
        Decision::Retry => "retry: predictions have been corrected by these answers",
        Decision::NoTargets => "choose others, or a later moment: the skip reasons say which",
        Decision::FailedAtSector => "look at the map: sectors without active agents, open circuits",
    }
}

/// How bad a decision is: a cascade's status is its worst part's (Y-18).
#[must_use]
pub const fn severity(decision: Decision) -> u8 {
    match decision {
        Decision::Proceed => 0,
        Decision::Wait => 1,
        Decision::ResolveConflicts => 2,
        Decision::Retry => 3,
        Decision::NoTargets => 4,
        Decision::FailedAtSector => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(targets: u32, skipped: u32, ready: u32, conflicts: u32, transit: u32) -> Counts {
        let sent = targets - skipped;
        let stragglers = sent - ready - conflicts - transit;
        Counts {
            targets,
            skipped,
            scheduled: sent,
            sent,
            ready,
            conflicts,
            transit,
            stragglers,
            ..Counts::default()
        }
    }

    fn decision(counts: &Counts) -> Decision {
        decide(counts, &Bounds::default()).decision
    }

    #[test]
    fn trin_02_03_enough_ready_and_few_conflicts_proceed() {
        assert_eq!(decision(&counts(100, 0, 95, 5, 0)), Decision::Proceed);
        assert_eq!(decision(&counts(30_000, 0, 28_500, 1_500, 0)), Decision::Proceed);
        let verdict = decide(&counts(100, 0, 96, 4, 0), &Bounds::default());
        assert!((verdict.confidence - 0.94).abs() < 1e-6);
        assert!(verdict.reason.contains("96 of 100") && verdict.recommendation == "go on");
    }

    #[test]
    fn trin_04_05_06_each_shortage_has_its_name() {
        assert_eq!(decision(&counts(100, 0, 85, 0, 15)), Decision::Wait);
        assert_eq!(decision(&counts(100, 0, 85, 0, 0)), Decision::Wait, "silence is under way");
        assert_eq!(decision(&counts(100, 0, 90, 6, 2)), Decision::ResolveConflicts);
        assert_eq!(decision(&counts(100, 0, 90, 5, 5)), Decision::Retry);
        let lenient = Bounds { min_ready: 0.9, ..Bounds::default() };
        let quarrel = decide(&counts(100, 0, 90, 6, 2), &lenient);
        assert_eq!(
            quarrel.decision,
            Decision::ResolveConflicts,
            "READY does not outvote conflicts"
        );
    }

    #[test]
    fn x_20_an_empty_set_divides_nothing() {
        let verdict = decide(&Counts::default(), &Bounds::default());
        assert_eq!((verdict.decision, verdict.confidence), (Decision::NoTargets, 0.0));
        let skipped = decide(&counts(5, 5, 0, 0, 0), &Bounds::default());
        assert_eq!(skipped.decision, Decision::NoTargets);
        assert!(skipped.reason.contains("5 skipped"));
    }

    #[test]
    fn x_13_ready_is_over_sent_and_skips_are_said() {
        let verdict = decide(&counts(100, 50, 49, 0, 0), &Bounds::default());
        assert_eq!(verdict.decision, Decision::Proceed);
        assert!(verdict.reason.ends_with("50 skipped"));
        assert!((verdict.confidence - 0.49).abs() < 1e-6, "over targets");
    }

    /// The decision by its definition: in thousandths, exact.
    fn defined(counts: &Counts) -> Decision {
        if counts.sent == 0 {
            return Decision::NoTargets;
        }
        let pending = counts.transit + counts.stragglers;
        let enough = u64::from(counts.ready) * 1000 >= 950 * u64::from(counts.sent);
        let quarrel = u64::from(counts.conflicts) * 1000 > 50 * u64::from(counts.targets);
        let pending = u64::from(pending) * 1000 > 100 * u64::from(counts.targets);
        match (enough, quarrel, pending) {
            (true, false, _) => Decision::Proceed,
            (false, _, true) => Decision::Wait,
            (_, true, _) => Decision::ResolveConflicts,
            (false, false, false) => Decision::Retry,
        }
    }

    #[test]
    fn trin_01_to_07_every_count_up_to_twenty_agents_is_decided_as_defined() {
        let mut seen = std::collections::BTreeMap::new();
        for targets in 0..=20 {
            for skipped in 0..=targets {
                for ready in 0..=targets - skipped {
                    for conflicts in 0..=targets - skipped - ready {
                        for transit in 0..=targets - skipped - ready - conflicts {
                            let counts = counts(targets, skipped, ready, conflicts, transit);
                            let found = decision(&counts);
                            assert_eq!(found, defined(&counts), "{counts:?}");
                            *seen.entry(found.code()).or_insert(0) += 1;
                        }
                    }
                }
            }
        }
        // All five, and as many counts as there are ways to share out up to 20 agents five ways.
        assert_eq!((seen.len(), seen.values().sum::<u32>()), (5, 53_130));
    }

    proptest! {
        #[test]
        fn trin_01_07_every_count_gets_one_decision_that_matches_its_definition(
            skipped in 0_u32..50,
            ready in 0_u32..200,
            conflicts in 0_u32..200,
            transit in 0_u32..200,
            silent in 0_u32..200,
        ) {
            let targets = skipped + ready + conflicts + transit + silent;
            let counts = counts(targets, skipped, ready, conflicts, transit);
            let found = decide(&counts, &Bounds::default());
            let expected = defined(&counts);
            prop_assert_eq!(found.decision, expected);
            prop_assert!((-0.5..=1.0).contains(&found.confidence));
        }
    }
}
