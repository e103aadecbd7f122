//! The arithmetic of a report, and the JSON that others read.

use blast::{
    Config, Op, Pace, Report,
    report::{Findings, Latency},
    server::Server,
    tally::{Fault, Tally},
};
use serde_json::Value;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

fn config() -> Config {
    let mut config = Config::new("127.0.0.1:7171".parse().expect("an address"), Op::Ping);
    config.pace = Pace::Open { rate: 1_000.0 };
    config.duration = Duration::from_secs(2);
    config
}

fn report(tally: &Tally, busy: f64) -> Report {
    Report::new(Findings {
        config: &config(),
        requests: (32, 1),
        interval: (SECOND, 3 * SECOND),
        tally,
        busy,
        server: Server::default(),
    })
}

fn tally() -> Tally {
    let mut tally = Tally::default();
    (tally.planned, tally.sent, tally.ok) = (2_000, 2_000, 1_990);
    (1..=1_990).for_each(|us| tally.latency.record(us * 1_000).expect("in bounds"));
    (0..10).for_each(|_| tally.refuse(wire::ErrorCode::Overloaded));
    (tally.bytes_in, tally.bytes_out) = (64_000, 63_680);
    (tally.last_reply, tally.ended) = (3 * SECOND + 5_000, 3 * SECOND + 10_000);
    tally
}

#[test]
fn rates_and_quantiles_are_right() {
    let report = report(&tally(), 0.3);
    assert!((report.duration_s - 2.000_005).abs() < 1e-9);
    assert!((report.rps - 1_990.0 / 2.000_005).abs() < 1e-6);
    let Latency { p50, p90, p99, p999, max } = report.latency_us;
    for (got, expected) in
        [(p50, 995.0), (p90, 1_791.0), (p99, 1_970.1), (p999, 1_988.0), (max, 1_990.0)]
    {
        let got = got.expect("answers");
        assert!((got - expected).abs() / expected < 2e-3, "{got} {expected}");
    }
    assert!(report.is_clean() && !report.client_bound);
    assert_eq!((report.refused, report.refusals["overloaded"]), (10, 10));
}

#[test]
fn a_run_that_lost_requests_or_saw_errors_is_not_clean() {
    let mut lost = tally();
    lost.lost = 1;
    assert!(!report(&lost, 0.0).is_clean());
    let mut wrong = tally();
    wrong.fault(Fault::Content);
    let report = report(&wrong, 0.0);
    assert!(!report.is_clean());
    assert_eq!((report.errors, report.error_kinds["content"]), (1, 1));
}

#[test]
fn the_time_counts_until_the_last_answer_or_the_early_end() {
    let mut overrun = tally();
    overrun.last_reply = 6 * SECOND;
    assert!((report(&overrun, 0.0).duration_s - 5.0).abs() < 1e-9);
    let mut died = tally();
    (died.last_reply, died.ended) = (SECOND + SECOND / 2, SECOND + SECOND / 2);
    assert!((report(&died, 0.0).duration_s - 0.5).abs() < 1e-9);
    let silent = report(&Tally::default(), 0.0);
    assert_eq!((silent.duration_s, silent.rps, silent.latency_us), (0.0, 0.0, Latency::default()));
}

#[test]
fn a_busy_thread_or_late_sends_of_its_own_make_the_client_the_bound() {
    let busy = report(&tally(), 0.95);
    assert!(busy.client_bound);
    assert!(busy.client_bound_reason.as_ref().is_some_and(|why| why.contains("95%")));
    assert!(busy.to_string().contains("blast-bound"));
    let mut late = tally();
    (late.late, late.late_own) = (500, 15);
    assert!(!report(&late, 0.0).client_bound, "held back by full windows, not by blast");
    late.late_own = 25;
    assert!(report(&late, 0.0).client_bound);
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn the_json_keys_are_these() {
    let json = serde_json::to_value(report(&tally(), 0.3)).expect("json");
    let mut expected = [
        "planned",
        "sent",
        "ok",
        "refused",
        "errors",
        "lost",
        "late",
        "duration_s",
        "rps",
        "bytes_in",
        "bytes_out",
        "latency_us",
        "refused_us",
        "server",
        "refusals",
        "error_kinds",
        "reconnects",
        "client_bound",
        "client_bound_reason",
        "busy",
        "load",
    ];
    expected.sort_unstable();
    assert_eq!(keys(&json), expected);
    assert_eq!(keys(&json["latency_us"]), ["max", "p50", "p90", "p99", "p999"]);
    let mut server = [
        "backend",
        "poll",
        "requests",
        "copies_per_request",
        "copies",
        "copied_bytes_per_request",
        "batch_mean",
        "batches",
        "reclaimed",
        "facts",
    ];
    server.sort_unstable();
    assert_eq!(keys(&json["server"]), server);
    assert_eq!(json["server"]["copies_per_request"], Value::Null);
    assert_eq!((&json["planned"], &json["bytes_out"]), (&2_000.into(), &63_680.into()));
    assert_eq!(json["load"]["op"], "ping");
}

#[test]
fn the_table_shows_what_went_wrong() {
    let mut tally = tally();
    (tally.planned, tally.lost) = (2_500, 3);
    tally.fault(Fault::Duplicate);
    let table = report(&tally, 0.3).to_string();
    for part in
        ["10 overloaded", "1 duplicate_id", "3 lost", "500 planned sends never left", "p99.9"]
    {
        assert!(table.contains(part), "{part} in {table}");
    }
}
