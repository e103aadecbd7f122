use super::*;

fn point(rate: f64, achieved: f64, p99: f64) -> Point {
    let ok = (achieved * 10.0) as u64;
    let latency_us = Latency { p50: Some(p99 / 3.0), p99: Some(p99), ..Latency::default() };
    let planned = (rate * 10.0) as u64;
    Point { rate, achieved, planned, sent: planned, ok, latency_us, ..Point::default() }
}

/// A queue with one server that does 1,000 a second.
fn queue(rate: f64) -> Point {
    match rate {
        rate if rate < 1_000.0 => point(rate, rate, 1e6 * 100_f64.ln() / (1_000.0 - rate)),
        rate => point(rate, 1_000.0, 1e7),
    }
}

#[test]
fn the_knee_of_a_queue_is_where_theory_has_it() {
    let points: Vec<Point> = (1..=12).map(|tenth| queue(f64::from(tenth) * 100.0)).collect();
    // Power of M/M/1: rate times (capacity - rate), most at half of the capacity.
    assert_eq!(knee(&points).map(|knee| knee.rate), Some(500.0));
    let sweep = Sweep { points: points.clone(), knee: knee(&points), ..Sweep::default() };
    assert_eq!(sweep.saturation(), Some(1_000.0));
    let text = sweep.text(80);
    assert!(text.contains("knee: 500/s") && text.contains("to 95%: 1k/s"), "{text}");
    // Rates in any order; only rates below the knee: none; too few: none.
    let mut turned = points.clone();
    turned.reverse();
    assert_eq!(knee(&turned), knee(&points));
    assert_eq!(knee(&points[..5]), None);
    assert_eq!(knee(&points[4..6]), None);
    assert_eq!(knee(&[]), None);
    let silent = Point { latency_us: Latency::default(), ..point(1.0, 0.0, 1.0) };
    assert_eq!(knee(&vec![silent; 5]), None);
}

#[test]
fn ranges_reach_their_end_and_inverted_ones_are_refused() {
    let Ok(Rates::List(rates)) = Rates::range(100.0, 1_000.0, 2.0) else { panic!("a list") };
    assert_eq!(rates, [100.0, 200.0, 400.0, 800.0, 1_000.0]);
    let Ok(Rates::List(rates)) = Rates::range(1.0, 8.0, 2.0) else { panic!("a list") };
    assert_eq!(rates, [1.0, 2.0, 4.0, 8.0]);
    for (from, to, factor, part) in [
        (10.0, 5.0, 2.0, "must be below"),
        (10.0, 10.0, 2.0, "must be below"),
        (0.0, 10.0, 2.0, "--from 0"),
        (1.0, f64::INFINITY, 2.0, "--to inf"),
        (f64::NAN, 10.0, 2.0, "--from NaN"),
        (1.0, 10.0, 1.0, "over 1"),
        (1.0, 1e9, 1.01, "over 100 rates"),
    ] {
        let fault = Rates::range(from, to, factor).expect_err(part).to_string();
        assert!(fault.contains(part), "{fault}");
    }
}

fn sought(capacity: f64, limits: Limits, bounds: &[&str]) -> Sweep {
    let bounds: Vec<Bound> = bounds.iter().map(|text| text.parse().expect("a bound")).collect();
    let mut found = Sweep::default();
    let mut lines = Vec::new();
    let bench = |rate: f64, _: &mut Sweep| {
        let mut point = queue(rate * 1_000.0 / capacity);
        (point.rate, point.achieved) = (rate, point.achieved * capacity / 1_000.0);
        Ok(point)
    };
    seek(&bounds, limits, &mut found, bench, &mut |line| lines.push(line.to_owned()))
        .expect("ends");
    assert_eq!(lines.len(), found.points.len(), "a line for each run");
    found
}

const LIMITS: Limits =
    Limits { start: 1_000.0, floor: 1.0, ceiling: 1e9, step: 0.05, confirmations: 3, runs_max: 60 };

#[test]
fn a_promise_is_kept_at_the_rate_that_is_found_and_broken_just_above() {
    let found = sought(50_000.0, LIMITS, &["p99=10ms", "errors=0.1%"]);
    let slo = found.slo.as_ref().expect("a promise");
    let (rate, failed) = (slo.rate.expect("a rate"), slo.failed.expect("a bracket"));
    assert!(slo.settled && found.is_clean() && failed <= rate * 1.05 * (1.0 + 1e-9));
    let at = |rate: f64| found.points.iter().filter(move |point| point.rate == rate);
    assert_eq!(at(rate).count(), 3);
    assert!(at(rate).all(|point| point.broke.is_none()));
    assert!(at(failed).all(|point| point.broke.is_some()));
    assert_eq!(at(rate).filter(|point| point.why == "confirm").count(), 2);
    assert!(found.text(60).contains("keeps p99 <= 10 ms"), "{}", found.text(60));
}

#[test]
fn a_promise_that_no_rate_keeps_is_no_success() {
    let found = sought(1_000.0, Limits { floor: 10.0, ..LIMITS }, &["p99=1us"]);
    let slo = found.slo.as_ref().expect("a promise");
    assert!(slo.rate.is_none() && !found.is_clean());
    assert!(slo.words.contains("not even 10/s"), "{}", slo.words);
    let found = sought(1e6, Limits { ceiling: 4_000.0, ..LIMITS }, &["p99=1s"]);
    let slo = found.slo.as_ref().expect("a promise");
    assert_eq!((slo.rate, slo.failed), (Some(4_000.0), None));
    assert!(found.is_clean() && slo.words.contains("raise --to"), "{}", slo.words);
}

#[test]
fn searches_that_cannot_end_are_refused() {
    let config = Config::new("127.0.0.1:1".parse().expect("an address"), crate::Op::Ping);
    let p99 = "p99=5ms".parse().expect("a bound");
    let check = |limits, bounds| {
        Plan { config: config.clone(), rates: Rates::Sought { bounds, limits } }.check()
    };
    assert!(check(LIMITS, vec![p99]).is_ok());
    assert!(check(LIMITS, vec![]).is_err());
    for bad in [
        Limits { floor: 10.0, ceiling: 5.0, ..LIMITS },
        Limits { step: 0.0, ..LIMITS },
        Limits { step: f64::NAN, ..LIMITS },
        Limits { confirmations: 0, ..LIMITS },
        Limits { runs_max: 2, ..LIMITS },
        Limits { ceiling: 2e9, ..LIMITS },
    ] {
        assert!(check(bad, vec![p99]).is_err(), "{bad:?}");
    }
}
