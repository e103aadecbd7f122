use proptest::prelude::*;

use super::*;
use crate::MS;

/// The other clock: ahead by `offset`, fast by `ppm`.
fn there(own: Time, offset: i64, ppm: f64) -> Time {
    let drift = (own as f64 * ppm * 1e-6) as i64;
    own.checked_add_signed(offset).unwrap().checked_add_signed(drift).unwrap()
}

/// One exchange that leaves at `at`, takes these times on its ways and lies there for `dwell`.
fn exchange(
    filter: &mut OffsetFilter,
    clock: (i64, f64),
    at: Time,
    ways: (Time, Time),
    dwell: Time,
) -> bool {
    let (t2, t3) = (at + ways.0, at + ways.0 + dwell);
    let (offset, ppm) = clock;
    filter.sample(at, there(t2, offset, ppm), there(t3, offset, ppm), t3 + ways.1)
}

fn error(filter: &OffsetFilter, clock: (i64, f64), at: Time) -> Time {
    filter.to_other(at).unwrap().abs_diff(there(at, clock.0, clock.1))
}

#[test]
fn x_14_offset_and_drift_are_found_through_jitter_and_long_dwells() {
    let (clock, mut filter) = ((7_777_000_000_000, 40.0), OffsetFilter::new());
    let mut rng = fleet::Rng::new(5);
    for k in 0..60 {
        let mut way = || 10 * MS + (2.0 * MS as f64 * rng.lognormal(0.9)) as Time;
        let ways = (way(), way());
        // A heartbeat every 5 s answers what came 5 s before.
        assert!(exchange(&mut filter, clock, (100 + 5 * k) * SECOND, ways, 5 * SECOND));
    }
    let end = 400 * SECOND;
    assert!(error(&filter, clock, end) < MS / 2, "{}", error(&filter, clock, end));
    // A minute without exchanges: the drift carries on.
    assert!(error(&filter, clock, end + 60 * SECOND) < MS);
    let back = filter.to_own(there(end, clock.0, clock.1), end).unwrap();
    assert!(back.abs_diff(end) < MS / 2);
}

#[test]
fn x_14_an_uneven_path_is_off_by_half_the_difference_and_within_the_bound() {
    let (clock, mut filter) = ((-50_000_000_000, 0.0), OffsetFilter::new());
    for k in 0..20 {
        assert!(exchange(&mut filter, clock, (100 + k) * SECOND, (30 * MS, 10 * MS), MS));
    }
    let off = error(&filter, clock, 120 * SECOND);
    assert!(off.abs_diff(10 * MS) < 20_000, "{off}");
    assert!(off <= filter.error_bound() && filter.error_bound() < 21 * MS);
    assert_eq!(filter.rtt_min(), Some(40 * MS));
}

#[test]
fn x_14_a_clock_that_steps_is_followed_after_three_contradictions() {
    let mut filter = OffsetFilter::new();
    let before = (SECOND as i64, 20.0);
    for k in 0..30 {
        exchange(&mut filter, before, (100 + k) * SECOND, (MS, MS), MS);
    }
    let after = (9 * SECOND as i64, 20.0);
    for k in 0..2 {
        assert!(exchange(&mut filter, after, (130 + k) * SECOND, (MS, MS), MS));
        assert!(error(&filter, before, 131 * SECOND) < MS, "one liar's sample moves nothing");
    }
    exchange(&mut filter, after, 132 * SECOND, (MS, MS), MS);
    assert!(error(&filter, after, 133 * SECOND) < MS);
}

#[test]
fn impossible_exchanges_are_ignored() {
    let mut filter = OffsetFilter::new();
    for (t1, t2, t3, t4) in [
        (10, 5, 6, 9),
        (10, 6, 5, 20),
        (10, 0, 50 * MS, 20 * MS),
        (0, 0, 0, LONGEST + 1),
        (0, u64::MAX, u64::MAX, 5),
    ] {
        assert!(!filter.sample(t1, t2, t3, t4), "{t1} {t2} {t3} {t4}");
    }
    assert_eq!((filter.offset_at(5), filter.rtt_min()), (None, None));
    assert_eq!((filter.to_own(5, 5), filter.to_other(5)), (None, None));
    assert_eq!(filter.error_bound(), Time::MAX);
}

#[test]
fn x_14_an_exchange_under_way_for_longer_than_can_be_noted_is_none() {
    let mut filter = OffsetFilter::new();
    assert!(!exchange(&mut filter, (0, 0.0), 100 * SECOND, (3 * SECOND, 2 * SECOND), 0));
    assert_eq!(filter.error_bound(), Time::MAX);
    assert!(exchange(&mut filter, (0, 0.0), 110 * SECOND, (3 * SECOND, SECOND), 0));
    assert!(filter.error_bound().abs_diff(2 * SECOND) < MS);
}

#[test]
fn x_14_a_long_first_exchange_is_forgotten_with_the_first_short_one() {
    let (clock, mut filter) = ((SECOND as i64, 0.0), OffsetFilter::new());
    exchange(&mut filter, clock, 100 * SECOND, (270 * MS, 30 * MS), 0);
    assert!(error(&filter, clock, 100 * SECOND) > 119 * MS);
    assert!(error(&filter, clock, 100 * SECOND) <= filter.error_bound());
    exchange(&mut filter, clock, 102 * SECOND, (30 * MS, 30 * MS), 0);
    assert!(error(&filter, clock, 102 * SECOND) <= filter.error_bound());
    assert!(filter.error_bound() < 61 * MS, "{}", filter.error_bound());
}

/// The clock of another machine than the one that was known before.
const OTHER: (i64, f64) = (3_600 * SECOND as i64, -30.0);

/// A filter that knows a clock, and when its next exchange begins.
fn settled() -> (OffsetFilter, Time) {
    let mut filter = OffsetFilter::new();
    for k in 0..10 {
        exchange(&mut filter, (SECOND as i64, 20.0), (100 + k) * SECOND, (MS, MS), 0);
    }
    (filter, 120 * SECOND)
}

#[test]
fn x_14_over_a_new_connection_another_clock_is_known_at_once() {
    let (mut filter, at) = settled();
    let t2 = there(at + MS, OTHER.0, OTHER.1);
    assert!(filter.sample_first(at, t2, t2, at + 2 * MS));
    assert!(error(&filter, OTHER, at) < 2 * MS);
}

#[test]
fn x_14_over_a_new_connection_nothing_is_left_of_a_clock_that_may_be_another_s() {
    let (known, at) = settled();
    // Answers that took too long to say what the time is.
    for whole in [5 * SECOND, 90 * SECOND, 601 * SECOND] {
        let mut filter = known;
        let t2 = there(at + whole / 2, OTHER.0, OTHER.1);
        assert!(!filter.sample_first(at, t2, t2, at + whole));
        assert!(!filter.is_known());
        exchange(&mut filter, OTHER, at + whole, (MS, MS), 0);
        assert!(error(&filter, OTHER, at + whole) < MS, "the next one makes it good");
        // Over the same connection it is still the same clock.
        filter = known;
        assert!(!filter.sample(at, t2, t2, at + whole) && filter.is_known());
    }
}

proptest! {
    #[test]
    fn whatever_is_said_nothing_breaks(
        says in proptest::collection::vec(any::<(u64, u64, u64, u64)>(), 0..60),
        near in proptest::collection::vec((0_u64..1 << 40, any::<u64>(), 0_u64..1 << 36), 0..60),
        at in any::<u64>(),
    ) {
        let mut filter = OffsetFilter::new();
        for (t1, t2, t3, t4) in says {
            filter.sample(t1, t2, t3, t4);
        }
        for (t1, t2, run) in near {
            filter.sample(t1, t2, t2.saturating_add(run / 2), t1 + run);
        }
        let _ = (filter.offset_at(at), filter.to_other(at), filter.to_own(at, at));
        prop_assert!(filter.p00.is_finite() && filter.p11.is_finite() && filter.drift.is_finite());
        prop_assert!(filter.bound >= 0.0 && filter.bound.is_finite(), "{}", filter.bound);
    }

    #[test]
    fn the_estimate_stays_within_its_bound_of_the_truth(
        offset in -(1_i64 << 36)..1 << 50,
        ppm in -80.0_f64..80.0,
        ways in proptest::collection::vec((1_u64..80, 1_u64..80), 4..40),
    ) {
        let (clock, mut filter) = ((offset, ppm), OffsetFilter::new());
        let mut at = 200 * SECOND;
        for &(down, up) in &ways {
            at += 2 * SECOND;
            exchange(&mut filter, clock, at, (down * MS, up * MS), MS);
        }
        let off = error(&filter, clock, at);
        prop_assert!(off <= filter.error_bound(), "{off} {}", filter.error_bound());
    }
}
