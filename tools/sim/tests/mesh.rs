//! The mesh in virtual time: whatever goes wrong, its promises hold; a run is one and the same
//! every time; and what is broken on purpose is found and made small.

use fleet::{SECOND, World as Network};
use sim::mesh::{
    fault::{self, Fault, Faults, Kind},
    judge::Promise,
    plan::{Bug, Plan},
    run::{Summary, run, smallest},
    world::World,
};

fn kept(plan: &Plan) -> Summary {
    run(plan).unwrap_or_else(|breach| panic!("{breach}; replay: {}", plan.command()))
}

#[test]
fn seeds_keep_every_promise_and_every_promise_is_looked_at() {
    let mut looked = vec![0; Promise::ALL.len()];
    for seed in 0..40 {
        let summary = kept(&Plan::small(seed, Faults::Some));
        looked.iter_mut().zip(&summary.looked).for_each(|(sum, count)| *sum += count);
    }
    let blind: Vec<&str> = Promise::ALL
        .iter()
        .zip(&looked)
        .filter(|(promise, count)| **count == 0 && **promise != Promise::NeverPanics)
        .map(|(promise, _)| promise.name())
        .collect();
    assert!(blind.is_empty(), "never looked at: {blind:?}");
}

#[test]
fn each_kind_of_fault_alone_and_all_together_break_nothing() {
    for (number, kind) in Kind::ALL.iter().enumerate() {
        let mut plan = Plan::small(number as u64, Faults::All);
        plan.faults.retain(|fault| fault.kind == *kind);
        plan.agents = 40;
        plan.children = number as u32 % 3;
        plan.duration = 100 * SECOND;
        assert_eq!(kept(&plan).totals.faults, 1, "{}", kind.name());
    }
    kept(&Plan::small(7, Faults::All));
}

#[test]
fn sign_04_forged_and_replayed_orders_move_nothing() {
    let (mut looked, mut signed) = (0, 0);
    for seed in 0..12 {
        // Every fault that is about the forger, and nothing else.
        let mut plan = Plan::small(2 * seed, Faults::All);
        plan.faults.retain(|fault| fault.kind == Kind::ForgesOrders);
        let first = plan.faults[0];
        plan.faults = (0..6)
            .map(|n| Fault {
                number: n,
                when: first.when + 300 * n as u16,
                pick: first.pick.wrapping_add(n.into()),
                ..first
            })
            .collect();
        let summary = kept(&plan);
        signed += u64::from(plan.signed());
        looked += summary.looked[Promise::OrdersGenuine as usize];
    }
    assert_eq!(signed, 12);
    assert!(looked > 1_000, "{looked} orders, most of them no good");
}

#[test]
fn the_same_plan_gives_the_same_run() {
    for seed in [3, 11] {
        let plan = Plan::small(seed, Faults::Some);
        let first = kept(&plan);
        for _ in 0..3 {
            assert_eq!(kept(&plan), first, "seed {seed}");
        }
        assert_ne!(kept(&Plan::small(seed + 1, Faults::Some)).hash, first.hash);
    }
}

#[test]
fn messages_as_bytes_and_as_values_do_the_same() {
    for seed in 0..12 {
        let plan = Plan::small(seed, Faults::Some);
        let bytes = Plan { bytes: true, ..plan.clone() };
        assert_eq!(kept(&plan), kept(&bytes), "seed {seed}");
    }
}

/// The faults of a seed whose kinds are these.
fn faults_of(seed: u64, kinds: &[Kind]) -> Vec<Fault> {
    fault::draw(seed, Faults::All).into_iter().filter(|f| kinds.contains(&f.kind)).collect()
}

#[test]
fn an_agent_that_releases_early_is_caught_and_the_run_made_small() {
    let mut plan = Plan::small(5, Faults::All);
    plan.agents = 60;
    plan.per_connection = 1;
    plan.duration = 120 * SECOND;
    let noise = [Kind::Cut, Kind::WallStep, Kind::Floods, Kind::AskNobody, Kind::AnswersTwice];
    plan.faults = faults_of(5, &noise);
    plan.bug = Some(Bug::ReleasesEarly);
    let breach = run(&plan).expect_err("a release 30 ms early is noticed");
    assert_eq!(breach.promise, Promise::NeverEarly);
    let small = smallest(&plan, breach);
    assert_eq!(small.breach.promise, Promise::NeverEarly);
    assert!(small.plan.faults.len() <= 1, "{:?}", small.plan.faults);
    assert!(small.plan.agents <= 60 && small.plan.duration < plan.duration);
    let again = run(&small.plan).expect_err("it fails again");
    assert_eq!(again, small.breach);
    let mended = Plan { bug: None, ..small.plan };
    kept(&mended);
}

#[test]
fn ten_percent_that_collude_move_the_others_by_less_than_half_a_point() {
    let on_time = |colluding: bool| {
        let duration = 240 * SECOND;
        let mut plan = Plan::measure(1, 1_500, duration, Network::Wan, Faults::None);
        plan.warm_up = 60 * SECOND;
        if colluding {
            plan.faults = vec![Fault { number: 0, kind: Kind::Collusion, when: 1, pick: 9 }];
        }
        let mut world = World::new(plan);
        world.run().expect("keeps its promises");
        world.measure.honest_on_time()
    };
    let (alone, among_liars) = (on_time(false), on_time(true));
    assert!((alone - among_liars).abs() < 0.005, "{alone} alone, {among_liars} among liars");
}
