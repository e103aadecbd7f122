//! The wheel against a sorted map: never early, nothing lost, always in the one order.

use dataplane_core::{
    driver::Time,
    schedule::wheel::{Full, PRIORITY_MAX, Wheel},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CAPACITY: u32 = 300;

/// What must come next: by time, then priority 3 first, then number of insertion.
type Model = BTreeMap<(Time, u8, u64), u64>;

#[derive(Clone, Debug)]
enum Op {
    /// Inserts so far from now, with a priority.
    Insert(i64, u8),
    /// Inserts so many at one moment, all priorities in turn.
    Volley(Time, u16),
    /// Time passes; everything due leaves.
    Wait(Time),
    /// Time passes; at most so many leave.
    WaitAndTake(Time, u8),
    /// To the next entry's time, exactly.
    ToNext,
}

/// Distances of every size: within a tick, over some ticks, over many rounds.
fn distance() -> impl Strategy<Value = Time> {
    prop_oneof![
        3 => 0..20_000u64,
        3 => 0..5_000_000u64,
        2 => 0..2_000_000_000u64,
        1 => 0..400_000_000_000u64,
        1 => (0..60u32).prop_map(|bits| 1 << bits),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (distance(), 0..5u8).prop_map(|(d, p)| Op::Insert(d.cast_signed(), p)),
        1 => (0..100_000i64, 0..4u8).prop_map(|(d, p)| Op::Insert(-d, p)),
        1 => (distance(), 1..120u16).prop_map(|(d, n)| Op::Volley(d, n)),
        3 => distance().prop_map(Op::Wait),
        2 => (distance(), 0..8u8).prop_map(|(d, n)| Op::WaitAndTake(d, n)),
        3 => Just(Op::ToNext),
    ]
}

struct Pair {
    wheel: Wheel<u64>,
    model: Model,
    inserted: u64,
    now: Time,
}

impl Pair {
    fn insert(&mut self, at: Time, priority: u8) -> Result<(), TestCaseError> {
        let item = self.inserted.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let wanted = if self.model.len() < CAPACITY as usize { Ok(()) } else { Err(Full) };
        prop_assert_eq!(self.wheel.insert(at, priority, item), wanted);
        if wanted.is_ok() {
            let rank = PRIORITY_MAX - priority.min(PRIORITY_MAX);
            self.model.insert((at, rank, self.inserted), item);
            self.inserted += 1;
        }
        Ok(())
    }

    fn take(&mut self, at_most: usize) -> Result<(), TestCaseError> {
        for _ in 0..at_most {
            let wanted = self.model.first_key_value().filter(|(key, _)| key.0 <= self.now);
            let wanted = wanted.map(|(key, item)| (key.0, *item));
            prop_assert_eq!(self.wheel.peek(self.now), wanted);
            prop_assert_eq!(self.wheel.pop(self.now), wanted);
            if wanted.is_none() {
                return Ok(());
            }
            self.model.pop_first();
        }
        Ok(())
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Insert(distance, priority) => {
                self.insert(self.now.saturating_add_signed(distance), priority)?;
            }
            Op::Volley(distance, count) => {
                let at = self.now.saturating_add(distance);
                for n in 0..count {
                    self.insert(at, (n % 4) as u8)?;
                }
            }
            Op::Wait(time) => {
                self.now = self.now.saturating_add(time);
                self.take(usize::MAX)?;
            }
            Op::WaitAndTake(time, at_most) => {
                self.now = self.now.saturating_add(time);
                self.take(at_most.into())?;
            }
            Op::ToNext => {
                let next = self.model.first_key_value().map(|(key, _)| key.0);
                prop_assert_eq!(self.wheel.next_due(), next, "the wake-up is exact");
                let Some(next) = next else { return Ok(()) };
                if next > self.now {
                    prop_assert_eq!(self.wheel.pop(next - 1), None, "not a nanosecond early");
                }
                self.now = self.now.max(next);
                self.take(1)?;
            }
        }
        prop_assert_eq!(self.wheel.len(), self.model.len());
        prop_assert_eq!(self.wheel.room(), CAPACITY as usize - self.model.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn sched_10_never_early_never_lost_always_in_order(
        start in distance(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let wheel = Wheel::new(CAPACITY);
        let mut pair = Pair { wheel, model: Model::new(), inserted: 0, now: start };
        for op in &ops {
            pair.step(op)?;
        }
        pair.now = Time::MAX;
        pair.take(usize::MAX)?;
        prop_assert!(pair.wheel.is_empty() && pair.wheel.next_due().is_none());
    }
}

/// Every schedule of four entries over the moments at which a wheel's levels meet, the clock moved
/// to each of them half-way.
#[test]
fn sched_10_every_small_schedule_leaves_in_order() {
    const TICK: Time = 1 << 14;
    let moments = [0, TICK - 1, TICK, TICK << 8, (TICK << 8) + 1, TICK << 16];
    let choices: Vec<(Time, u8)> =
        moments.iter().flat_map(|at| [0, PRIORITY_MAX].map(|priority| (*at, priority))).collect();
    let all = choices.len();
    for number in 0..all.pow(4) * moments.len() {
        let entry = |place: u32| choices[number / all.pow(place) % all];
        let halfway = moments[number / all.pow(4)];
        let wheel = Wheel::new(4);
        let mut pair = Pair { wheel, model: Model::new(), inserted: 0, now: 0 };
        let mut run = || {
            for places in [[0, 1], [2, 3]] {
                for (at, priority) in places.map(entry) {
                    pair.insert(at, priority)?;
                }
                pair.now = pair.now.max(halfway);
                pair.take(usize::MAX)?;
            }
            pair.now = Time::MAX;
            pair.take(usize::MAX)
        };
        run().unwrap_or_else(|why| panic!("schedule {number}: {why}"));
        assert!(pair.wheel.is_empty(), "schedule {number}");
    }
}

#[test]
fn meshmsg_07_priority_three_leaves_first_among_those_due_together() {
    let mut wheel = Wheel::new(8);
    for (item, priority) in [0, 3, 1, 2, 3, 0].into_iter().enumerate() {
        wheel.insert(5_000_000, priority, item).unwrap();
    }
    wheel.insert(4_999_999, 0, 6).unwrap();
    let order: Vec<usize> = std::iter::from_fn(|| wheel.pop(5_000_000)).map(|(_, i)| i).collect();
    assert_eq!(order, [6, 1, 4, 3, 2, 0, 5], "an earlier time goes before any priority");
}

#[test]
fn a_wheel_takes_as_many_as_it_was_made_for_over_and_over() {
    let mut wheel = Wheel::new(1_000);
    for round in 0..50u64 {
        let now = round * 3_000_000_000;
        // Over four levels, in an order that visits slots again and again.
        for n in 0..1_000 {
            wheel.insert(now + n * 7_919 % 1_000 * 2_000_003, 0, n).unwrap();
        }
        assert_eq!(wheel.insert(now, 3, 0), Err(Full));
        let mut last = 0;
        let mut count = 0;
        while let Some((at, _)) = wheel.pop(now + 2_500_000_000) {
            assert!(at >= last);
            (last, count) = (at, count + 1);
        }
        assert_eq!(count, 1_000);
    }
}

#[test]
fn an_entry_of_the_sends_takes_48_bytes() {
    // Eight numbers beside time and order.
    let two = Wheel::<[u32; 8]>::bytes(2 << 20);
    let one = Wheel::<[u32; 8]>::bytes(1 << 20);
    let blocks_and_near = 3 * 48;
    let links = 2 * size_of::<u32>() as u64 * (1 << 20) / 32;
    assert_eq!(two - one, (1 << 20) * blocks_and_near + links);
}
