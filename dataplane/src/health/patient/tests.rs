use super::*;
use dataplane_core::{driver::WorkerId, probe::Probe};
use proptest::prelude::*;
use wire::{ErrorCode, Operation};

const ALL: u32 = u32::MAX;
const EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(250);

fn patient() -> Patient {
    Patient::new(Bounds::new(EVERY, PATIENCE), ALL, 0)
}

fn probed(canary: Canary, verdict: Verdict, took: Duration) -> Probed {
    let probe = Probe { worker: WorkerId(0), canary };
    Probed { probe, verdict, took: took.as_nanos() as u64 }
}

fn holds(report: &Report, name: &str) -> bool {
    let check = report.checks.iter().find(|check| check.name == name);
    check.unwrap_or_else(|| panic!("no check {name} in {report:?}")).holds
}

/// A worker of whose every round the canaries are answered so, its pulse moving; `rounds` of them.
fn live(
    patient: &mut Patient,
    from: Duration,
    rounds: u32,
    answer: impl Fn(Canary) -> (Verdict, Duration),
) -> (Duration, Report) {
    let (mut now, mut report) = (from, Report::default());
    let mut pulse = from.as_millis() as u64;
    for _ in 0..rounds {
        for _ in 0..EVERY.as_millis() / LOOK.as_millis() {
            pulse += 1;
            patient.pulse(now, pulse);
            for canary in patient.round(now).unwrap_or_default() {
                let (verdict, took) = answer(canary);
                patient.answered(now, &probed(canary, verdict, took));
            }
            report = patient.judge(now);
            now += LOOK;
        }
    }
    (now, report)
}

fn right(_: Canary) -> (Verdict, Duration) {
    (Verdict::Right, Duration::from_micros(300))
}

fn usage(cpu: f64, cpus: u32, resident: u64) -> Usage {
    Usage { cpu, cpus, resident, memory: 1 << 30 }
}

#[test]
fn health_01_a_worker_that_shows_no_life_for_a_second_is_unreachable() {
    let mut patient = patient();
    let (now, report) = live(&mut patient, Duration::ZERO, 2, right);
    assert!(report.healthy && report.checked && holds(&report, "reachable"), "{report:?}");
    // Alive for the last time one look before `now`.
    let last = now - LOOK;
    assert!(patient.judge(last + Duration::from_secs(1)).healthy);
    let report = patient.judge(last + Duration::from_millis(1_001));
    assert!(!report.healthy && report.changed && !holds(&report, "reachable"));
    assert!(report.complaint().contains("no sign of life for 1001 ms of 1000 ms"));
    assert!(!patient.judge(last + Duration::from_secs(2)).changed, "said once");
}

#[test]
fn health_01_a_ping_of_a_busy_worker_waits_its_turn_but_not_for_ever() {
    let mut patient = patient();
    let due = patient.round(Duration::ZERO).expect("the first round is at once");
    assert_eq!(due, Canary::ALL);
    let mut now = Duration::ZERO;
    let mut pulse = 0;
    while now <= PATIENCE {
        pulse += 1;
        patient.pulse(now, pulse);
        if let Some(again) = patient.round(now) {
            assert_eq!(again, [], "what is under way is not sent again");
        }
        assert!(patient.judge(now).healthy, "its pulse moves at {now:?}");
        now += LOOK;
    }
    patient.pulse(now, pulse + 1);
    let report = patient.judge(now);
    assert!(!report.healthy && report.complaint().contains("keeps a ping"), "{report:?}");
}

#[test]
fn health_01_a_slow_answer_to_a_ping_counts_from_its_turn() {
    let mut patient = patient();
    let slow = |canary| {
        (
            Verdict::Right,
            Duration::from_millis(match canary {
                Canary::Echo => 1_001,
                _ => 1,
            }),
        )
    };
    let (now, report) = live(&mut patient, Duration::ZERO, 1, slow);
    assert!(holds(&report, "reachable"), "a single one may be the host's");
    let (_, report) = live(&mut patient, now, 1, slow);
    assert!(!holds(&report, "reachable") && !report.healthy);
}

#[test]
fn health_02_a_wrong_or_refused_canary_is_found() {
    for (verdict, said) in [
        (Verdict::Wrong, "canary topk: a wrong answer"),
        (Verdict::Refused(ErrorCode::WorkerFailed), "canary topk: refused: worker_failed"),
    ] {
        let mut patient = patient();
        let answer = |canary| match canary {
            Canary::TopK => (verdict, Duration::from_millis(1)),
            _ => right(canary),
        };
        let (_, report) = live(&mut patient, Duration::ZERO, 1, answer);
        assert!(!report.healthy && !holds(&report, "canary_topk") && holds(&report, "canary_int8"));
        assert!(report.complaint().contains(said), "{}", report.complaint());
    }
}

#[test]
fn health_02_only_canaries_that_the_worker_serves_are_sent() {
    let bounds = Bounds::new(EVERY, PATIENCE);
    let mut patient = Patient::new(bounds, 1 << Operation::TopK.code(), 0);
    assert_eq!(patient.round(Duration::ZERO), Some(vec![Canary::TopK]));
}

#[test]
fn health_03_canaries_that_take_their_bound_twice_in_a_row_fail() {
    for (took, sound) in [(99_999, true), (100_000, false)] {
        let mut patient = patient();
        let answer = |canary| match canary {
            Canary::Int8 => (Verdict::Right, Duration::from_micros(took)),
            _ => right(canary),
        };
        let (now, report) = live(&mut patient, Duration::ZERO, 1, answer);
        assert!(holds(&report, "latency"), "a single one may be the host's");
        let (_, report) = live(&mut patient, now, 1, answer);
        assert_eq!(holds(&report, "latency"), sound, "{report:?}");
        let detail = &report.checks.iter().find(|it| it.name == "latency").unwrap().detail;
        assert!(detail.contains("canary int8: 100 ms of 100 ms"), "the slowest: {detail}");
    }
}

#[test]
fn health_04_resources_have_bounds() {
    let cases = [
        (usage(0.899, 4, 1 << 20), None, ""),
        (usage(0.9, 4, 1 << 20), None, "cpu"),
        (usage(1.0, 1, 1 << 20), None, ""),
        (usage(0.1, 4, 950 << 20), None, "memory"),
        (usage(0.1, 4, 1 << 20), Some(0.949), ""),
        (usage(0.1, 4, 1 << 20), Some(0.95), "gpu"),
    ];
    for (usage, busy, fails) in cases {
        let mut patient = patient();
        let gpu = busy.map(|busy| Gpu { name: "H200".into(), busy, ..Gpu::default() });
        patient.measured(Some(usage), gpu);
        let (_, report) = live(&mut patient, Duration::ZERO, 1, right);
        let failed: Vec<_> = report.checks.iter().filter(|it| !it.holds).collect();
        let names: Vec<_> = failed.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names.join(","), fails, "{report:?}");
        assert_eq!(report.healthy, fails.is_empty());
        if busy.is_none() {
            assert!(report.checks.iter().any(|it| it.detail == "no GPU"));
        }
    }
}

#[test]
fn health_05_it_comes_back_after_good_rounds_and_not_before() {
    let mut patient = patient();
    let wrong = |_| (Verdict::Refused(ErrorCode::WorkerFailed), Duration::from_millis(1));
    let (now, report) = live(&mut patient, Duration::ZERO, 1, wrong);
    assert!(!report.healthy && report.checked);
    // The bad round is closed by the first look of the next one.
    let (now, report) = live(&mut patient, now, 2, right);
    assert!(!report.healthy, "two rounds were good, the second has not ended");
    assert!(report.checks.iter().all(|check| check.holds));
    let (_, report) = live(&mut patient, now, 1, right);
    assert!(report.healthy);
}

/// What may happen to a worker.
#[derive(Clone, Debug)]
enum Step {
    Pulse,
    Look(u64),
    Answer(Canary, Verdict, u64),
    Measure(f64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let canary = prop_oneof![Just(Canary::Echo), Just(Canary::TopK), Just(Canary::Int8)];
    let verdict = prop_oneof![
        6 => Just(Verdict::Right),
        1 => Just(Verdict::Wrong),
        1 => Just(Verdict::Refused(ErrorCode::WorkerFailed)),
        1 => Just(Verdict::Unasked),
    ];
    let step = prop_oneof![
        3 => Just(Step::Pulse),
        4 => (1_u64..1_500).prop_map(Step::Look),
        4 => (canary, verdict, 0_u64..150).prop_map(|(c, v, ms)| Step::Answer(c, v, ms)),
        1 => (0.0..1.0_f64).prop_map(Step::Measure),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn health_05_healthy_means_that_all_checks_hold(steps in steps()) {
        let mut patient = patient();
        let (mut now, mut pulse, mut healthy) = (Duration::ZERO, 0, true);
        let (mut bad_at, mut rounds) = (None::<u64>, 0);
        for step in steps {
            match step {
                Step::Pulse => {
                    pulse += 1;
                    patient.pulse(now, pulse);
                }
                Step::Look(ms) => {
                    now += Duration::from_millis(ms);
                    rounds += u64::from(patient.round(now).is_some());
                }
                Step::Answer(canary, verdict, ms) => {
                    patient.answered(now, &probed(canary, verdict, Duration::from_millis(ms)));
                }
                Step::Measure(cpu) => patient.measured(Some(usage(cpu, 2, 1 << 20)), None),
            }
            let report = patient.judge(now);
            let all = report.checks.iter().all(|check| check.holds);
            prop_assert!(!report.healthy || all, "healthy, but {}", report.complaint());
            prop_assert_eq!(report.changed, report.healthy != healthy);
            prop_assert!(report.checks.iter().all(|check| !check.detail.is_empty()));
            if !all {
                bad_at = Some(rounds);
            } else if let Some(bad) = bad_at {
                // Back only where two whole rounds lie between.
                prop_assert_eq!(report.healthy, rounds >= bad + 3);
            }
            healthy = report.healthy;
        }
    }
}
