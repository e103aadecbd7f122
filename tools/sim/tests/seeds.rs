//! Worlds drawn from seeds: whatever goes wrong in them, the shard keeps its promises.

use dataplane_core::stats::Source;
use sim::{Plan, World, run_seed, trace::Lines};
use std::collections::BTreeMap;

#[test]
fn three_hundred_worlds_hold() {
    let mut answers = 0;
    for seed in 0..300 {
        match run_seed(seed, Lines::Hashed) {
            Ok(summary) => answers += summary.answers,
            Err(failure) => panic!("{failure:?}; replay: sim --seed {seed} --trace"),
        }
    }
    assert!(answers > 5_000, "only {answers} answers: the worlds are too empty to show anything");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hash = |seed| run_seed(seed, Lines::Hashed).map(|summary| summary.hash);
    for seed in 1_000..1_030 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(1_000), hash(1_001));
}

/// What three hundred worlds do not reach, and where it is shown instead.
const ELSEWHERE: &[&str] = &[
];

#[test]
fn the_worlds_reach_every_path_that_is_counted() {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..300 {
        let mut world = World::new(Plan::from_seed(seed), Lines::Hashed);
        world.populate();
        world.run().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        world.stats.visit(&mut |name, _, label, value| {
            *sums.entry(format!("{name} {label}")).or_default() += value;
        });
    }
    let unreached = sums.iter().filter(|(_, sum)| **sum == 0).map(|(name, _)| name.trim());
    let unreached: Vec<&str> = unreached.collect();
    assert_eq!(unreached, ELSEWHERE);
}
