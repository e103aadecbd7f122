//! Worlds drawn from seeds: whatever goes wrong in them, the shard keeps its promises.

use sim::{run_seed, trace::Lines};

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
