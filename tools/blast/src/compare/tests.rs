use super::*;
use crate::{tally::Tally, timeline::Recorder};
use bootstrap::Rng;

const SECOND: u64 = 1_000_000_000;

/// A run of ten seconds whose latencies are drawn around `median_us`, at so many answers a second.
fn run(seed: u64, median_us: f64, rate: u64) -> Named {
    let mut rng = Rng::new(seed);
    let mut recorder = Recorder::new(0, 10 * SECOND);
    let mut tally = Tally::default();
    for n in 0..10 * rate {
        let planned = n * SECOND / rate;
        // Half as much to five times as much, most near the lower end.
        let u = rng.below(1 << 20) as f64 / f64::from(1 << 20);
        let us = median_us * (0.5 + u + 0.1 / (1.02 - u));
        let ns = (us * 1e3) as u64;
        recorder.answer(planned, planned + ns);
        tally.ok += 1;
    }
    let mut report =
        Report { ok: tally.ok, planned: tally.ok, sent: tally.ok, ..Report::default() };
    report.load.duration_s = 10.0;
    report.load.rate = Some(rate as f64);
    report.server.backend = Some("cpu-scalar".to_owned());
    let run = Run { report, curve: Vec::new(), timeline: recorder.timeline() };
    Named { file: format!("{seed}.json"), run, machine: "one".to_owned() }
}

const PLAN: Plan = Plan { tolerance: 0.05, force: false, seed: 1 };

fn p99(comparison: &Comparison) -> &Row {
    comparison.rows.iter().find(|row| row.what == "p99").expect("a row")
}

#[test]
fn equal_runs_rarely_differ_and_slower_ones_always_do() {
    let (mut alarms, mut missed, mut praised) = (0, 0, 0);
    for seed in 0..40 {
        let a = [run(seed, 100.0, 500)];
        let b = [run(seed + 1_000, 100.0, 500)];
        let equal = compare(&a, &b, PLAN).expect("comparable");
        alarms += u32::from(equal.is_worse());
        let slow = [run(seed + 2_000, 120.0, 500)];
        let slower = compare(&a, &slow, PLAN).expect("comparable");
        missed += u32::from(!slower.is_worse() || !slower.words.starts_with("B is slower"));
        let faster = compare(&slow, &a, PLAN).expect("comparable");
        praised += u32::from(!faster.is_worse() && faster.words.starts_with("B is faster"));
    }
    assert!(alarms <= 2, "{alarms} of 40 equal pairs were called worse");
    assert_eq!((missed, praised), (0, 40));
}

#[test]
fn an_interval_holds_the_change_and_the_same_seed_gives_it_again() {
    let (a, b) = ([run(1, 100.0, 500)], [run(2, 110.0, 500)]);
    let one = compare(&a, &b, PLAN).expect("comparable");
    assert_eq!(one, compare(&a, &b, PLAN).expect("comparable"));
    for row in &one.rows[1..3] {
        let ((low, high), change) = (row.interval.expect("enough"), row.change.expect("both"));
        assert!(low < change && change < high && low < 0.1 && high > 0.1, "{row:?}");
    }
    assert_eq!(one.rows[0].verdict, Verdict::Same, "the rate is planned: {:?}", one.rows[0]);
}

#[test]
fn several_runs_know_what_varies_between_runs() {
    // Every run is steady, and each has its own level: one pair alone looks sure.
    let side = |seed: u64| {
        let levels = [100.0, 130.0, 90.0, 115.0, 105.0];
        let runs = levels.iter().zip(seed..).map(|(level, seed)| run(seed, *level, 500));
        runs.collect::<Vec<_>>()
    };
    let (a, b) = (side(10), side(20));
    let pair = compare(&a[..1], &b[1..2], PLAN).expect("comparable");
    assert_eq!(p99(&pair).verdict, Verdict::Worse);
    assert!(pair.assumes.iter().any(|line| line.contains("One run of a side")));
    let all = compare(&a, &b, PLAN).expect("comparable");
    assert_eq!(p99(&all).verdict, Verdict::Same, "{:?}", p99(&all));
    assert!(!all.assumes.iter().any(|line| line.contains("One run")));
}

#[test]
fn a_change_within_the_tolerance_is_said_and_does_not_fail() {
    let (a, b) = ([run(1, 100.0, 2_000)], [run(2, 104.0, 2_000)]);
    let found = compare(&a, &b, Plan { tolerance: 0.2, ..PLAN }).expect("comparable");
    assert!(found.words.starts_with("B is slower") && !found.is_worse(), "{}", found.words);
    let strict = compare(&a, &b, Plan { tolerance: 0.01, ..PLAN }).expect("comparable");
    assert!(strict.is_worse() && strict.failures[0].contains("1%"), "{:?}", strict.failures);
}

#[test]
fn what_is_not_alike_is_refused_by_name() {
    let (a, mut b) = ([run(1, 100.0, 500)], [run(2, 100.0, 500)]);
    b[0].run.report.server.backend = Some("cuda".to_owned());
    b[0].run.report.load.depth = 7;
    let fault = compare(&a, &b, PLAN).expect_err("not alike");
    for part in ["backend of the node: cpu-scalar", "cuda in 2.json", "depth: 0", "--force"] {
        assert!(fault.contains(part), "{part}: {fault}");
    }
    let forced = compare(&a, &b, Plan { force: true, ..PLAN }).expect("forced");
    assert_eq!(forced.differences.len(), 2);
    assert!(forced.text(60).contains("not alike: depth"));
}

#[test]
fn faults_are_worse_whatever_the_latency() {
    let (a, mut b) = ([run(1, 100.0, 500)], [run(2, 80.0, 500)]);
    b[0].run.report.lost = 3;
    b[0].run.report.planned += 100;
    let found = compare(&a, &b, PLAN).expect("comparable");
    assert!(found.is_worse() && found.failures.len() == 2, "{:?}", found.failures);
    assert!(found.words.contains("faster") && found.words.contains("lost"), "{}", found.words);
}

#[test]
fn too_little_is_said_to_be_too_little() {
    let (a, mut b) = ([run(1, 100.0, 500)], [run(2, 100.0, 500)]);
    b[0].run.timeline.slices.truncate(5);
    let found = compare(&a, &b, PLAN).expect("comparable");
    assert!(found.rows.iter().all(|row| row.interval.is_none()));
    assert!(found.words.starts_with("too little") && !found.is_worse(), "{}", found.words);
    let fault = compare(&[], &a, PLAN).expect_err("no runs");
    assert!(fault.contains("A takes 1 to"), "{fault}");
    b[0].run.report.ok = 0;
    assert!(compare(&a, &b, PLAN).expect_err("silent").contains("2.json"));
    let wild = Plan { tolerance: f64::NAN, ..PLAN };
    assert!(compare(&a, &a, wild).expect_err("no tolerance").contains("--tolerance"));
}
