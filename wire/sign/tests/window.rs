//! The window against a plain set.

use proptest::{collection::vec, prelude::*};
use sign::{SKEW_MS, Stale, Window};
use std::collections::BTreeSet;

/// Who, how far from the clock (milliseconds), and how far the clock goes first.
type Step = (u8, i64, u32);

fn steps(keys: u8, far: i64) -> impl Strategy<Value = Vec<Step>> {
    let skip = prop_oneof![4 => 0..3_u32, 2 => 0..40_000_u32, 1 => 0..200_000_u32];
    let away = prop_oneof![4 => -3..3_i64, 2 => -far..far];
    vec((0..keys, away, skip), 1..200)
}

proptest! {
    #[test]
    fn with_room_for_all_keys_it_is_a_set(steps in steps(4, SKEW_MS as i64)) {
        let start = 1_000_000;
        let (mut window, mut taken, mut now) = (Window::new(4, start), BTreeSet::new(), start + 1);
        for (key, away, skip) in steps {
            now += u64::from(skip);
            let stamp = now.saturating_add_signed(away);
            let fresh = stamp > start && taken.insert((key, stamp));
            let expected = if fresh { Ok(()) } else { Err(Stale::Seen) };
            prop_assert_eq!(window.check([key; 8], stamp, now), expected);
            prop_assert_eq!(window.take([key; 8], stamp, now), expected);
        }
    }

    #[test]
    fn nothing_is_taken_twice_whatever_is_evicted_and_wherever_the_clock_goes(
        steps in steps(5, 80_000),
        back in vec(any::<bool>(), 200),
    ) {
        let (mut window, mut taken, mut now) = (Window::new(2, 0), BTreeSet::new(), 10_000_000_u64);
        for ((key, away, skip), back) in steps.into_iter().zip(back) {
            let skip = u64::from(skip);
            now = if back { now - skip / 2 } else { now + skip };
            let stamp = now.saturating_add_signed(away);
            match window.take([key; 8], stamp, now) {
                Ok(()) => prop_assert!(taken.insert((key, stamp)), "{key} {stamp} twice"),
                Err(Stale::Clock(off)) => prop_assert!(off == stamp.abs_diff(now) && off > SKEW_MS),
                Err(Stale::Seen) => {}
            }
        }
    }
}

#[test]
fn stamps_of_an_earlier_life_are_not_taken() {
    let mut window = Window::new(1, 50_000);
    assert_eq!(window.take([1; 8], 50_000, 51_000), Err(Stale::Seen));
    assert_eq!(window.take([1; 8], 50_001, 51_000), Ok(()));
    assert_eq!(window.take([1; 8], 20_000, 51_000), Err(Stale::Clock(31_000)));
}
