//! Pages of every kind of report, of real counts and of what cannot be: well-formed, without a
//! number that is none, every mark inside its drawing; and the files that they are made from.

use blast::{
    Config, Op, Overload, Pace, Report, Run, agents,
    compare::{Comparison, Named, Plan, compare},
    document::{Body, Document, SCHEMA},
    html,
    origin::Origin,
    overload::Step,
    report::{Findings, Latency},
    server::Server,
    slo::Bound,
    sweep::{Knee, Point, Slo, Sweep},
    tally::{Fault, Tally},
    timeline::Recorder,
};
use proptest::prelude::*;
use roxmltree::Document as Tree;
use std::collections::BTreeMap;

const SECOND: u64 = 1_000_000_000;

/// Checks a page and gives the text of it.
fn check(document: &Document) -> String {
    let page = html::page(document);
    let xml = page.strip_prefix("<!DOCTYPE html>\n").expect("a page");
    let tree = Tree::parse(xml).unwrap_or_else(|fault| panic!("{fault}: {page}"));
    for node in tree.descendants().filter(|node| node.has_tag_name("svg")) {
        for inner in node.descendants().skip(1) {
            inner.attributes().for_each(|attribute| inside(attribute.name(), attribute.value()));
        }
        let words: Vec<_> =
            node.children().take(4).filter_map(|part| part.tag_name().name().into()).collect();
        assert!(words.contains(&"title") && words.contains(&"desc"), "{words:?}");
    }
    let text: String =
        tree.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect();
    let (_, body) = page.split_once("<body>").expect("a body");
    let words = body.split(|c: char| !c.is_alphanumeric());
    assert_eq!(words.filter(|word| ["NaN", "inf"].contains(word)).count(), 0, "{body}");
    text
}

fn inside(name: &str, value: &str) {
    let number = |text: &str, most: f64| {
        let number: f64 = text.parse().unwrap_or_else(|_| panic!("{name}={value}"));
        assert!((-0.05..=most).contains(&number), "{name}={value}");
    };
    match name {
        "x" | "x1" | "x2" | "cx" | "width" => number(value, plot::WIDTH),
        "y" | "y1" | "y2" | "cy" | "height" => number(value, plot::HEIGHT),
        "points" => value.split([' ', ',']).enumerate().for_each(|(at, text)| {
            number(text, if at % 2 == 0 { plot::WIDTH } else { plot::HEIGHT });
        }),
        _ => {}
    }
}

fn document(body: Body) -> Document {
    let command = ["blast", "run", "--tensor", "<a & b>"].map(str::to_owned).to_vec();
    Document::new(Origin { command, ..Origin::here() }, body)
}

fn run(latencies_ns: &[u64], pace: Pace) -> Run {
    let mut config = Config::new("127.0.0.1:7171".parse().expect("an address"), Op::Ping);
    config.pace = pace;
    let mut tally = Tally::over(0, 10 * SECOND);
    for (n, ns) in latencies_ns.iter().enumerate() {
        let planned = n as u64 * 10 * SECOND / latencies_ns.len() as u64;
        tally.answered(planned, planned + ns);
    }
    let count = latencies_ns.len() as u64;
    (tally.planned, tally.sent, tally.ok) = (count + 7, count + 5, count);
    (0..3).for_each(|n| tally.turned_away(n * SECOND, n * SECOND + 5));
    (0..3).for_each(|_| tally.refuse(wire::ErrorCode::Overloaded));
    tally.fault(Fault::Checksum);
    tally.lost = 1;
    tally.last_reply = 10 * SECOND;
    let facts =
        [("version", "9.9.9"), ("huge_page_bytes", "0"), ("security", "plaintext, loopback")];
    let facts = facts.map(|(name, what)| (name.to_owned(), what.to_owned()));
    let server = Server {
        backend: Some("cpu-<avx>".to_owned()),
        poll: Some("frugal".to_owned()),
        facts: BTreeMap::from(facts),
        ..Server::default()
    };
    let report = Report::new(Findings {
        config: &config,
        requests: (32, 1),
        interval: (0, 10 * SECOND),
        tally: &tally,
        busy: 0.2,
        server,
    });
    let curve = vec![(0.0, 1.0), (0.5, 2.0), (0.99, 30.0), (1.0, 400.0)];
    Run { report, curve, timeline: tally.recorder.timeline() }
}

fn of_run(run: Run) -> Document {
    document(Body::Run(Box::new(run)))
}

#[test]
fn a_run_says_all_that_is_needed_to_believe_it() {
    let latencies: Vec<u64> = (1..5_000).map(|us| us * 1_000).collect();
    let text = check(&of_run(run(&latencies, Pace::Open { rate: 500.0 })));
    let host = Origin::here().host;
    for part in [
        "blast run: ping at 500/s",
        "p99.9",
        "cpu-<avx>",
        "frugal",
        "plaintext, loopback",
        "node 9.9.9",
        "small pages",
        "overloaded",
        "checksum",
        "no answer at all",
        "never left",
        "shared its",
        "blast run --tensor '<a & b>'",
        &host.kernel,
        &host.cpu,
        "open loop, 500/s planned",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("coordinated omission"));
    let closed = check(&of_run(run(&latencies, Pace::Closed)));
    assert!(closed.contains("coordinated omission"), "{closed}");
}

#[test]
fn little_and_much_make_sound_pages() {
    let hour = 3_600 * SECOND;
    for latencies in [&[][..], &[1], &[0], &[hour], &[u64::MAX / 4], &[1, hour, 5]] {
        check(&of_run(run(latencies, Pace::Closed)));
    }
    check(&of_run(Run::default()));
    check(&document(Body::Overload(Overload::default())));
    check(&document(Body::Sweep(Sweep::default())));
    check(&document(Body::Compare(Comparison::default())));
    check(&document(Body::Agents(Box::default())));
    check(&Document::new(Origin::default(), Body::Sweep(Sweep::default())));
}

fn point(rate: f64, p99: f64) -> Point {
    let latency_us = Latency { p50: Some(p99 / 2.0), p99: Some(p99), ..Latency::default() };
    let broke = (p99 > 5_000.0).then(|| "p99 7 ms > 5 ms".to_owned());
    let why = "bisect".to_owned();
    let count = rate as u64;
    let (planned, sent, ok) = (count, count, count);
    Point { rate, achieved: rate, planned, sent, ok, latency_us, broke, why, ..Point::default() }
}

#[test]
fn sweeps_and_promises_show_what_they_found() {
    let points = vec![point(1e3, 100.0), point(4e3, 900.0), point(9e3, 7e3), point(5e3, 2e3)];
    let knee = Some(Knee { rate: 4e3, p99_us: 900.0 });
    let sweep = Sweep { points: points.clone(), knee, capacity: Some(1e4), ..Sweep::default() };
    let text = check(&document(Body::Sweep(sweep)));
    assert!(text.contains("knee: 4k/s") && text.contains("closed loop: 10k/s"), "{text}");
    let slo = Slo {
        bounds: vec!["p99=5ms".parse::<Bound>().expect("a bound"), Bound::FEW_ERRORS],
        rate: Some(5e3),
        failed: Some(9e3),
        confirmations: 3,
        step: 0.05,
        settled: true,
        words: "5k/s keeps it".to_owned(),
    };
    let text = check(&document(Body::Sweep(Sweep { points, slo: Some(slo), ..Sweep::default() })));
    assert!(text.contains("p99 <= 5 ms, errors <= 0.1%"), "{text}");
    assert!(text.contains("p99 7 ms > 5 ms") && text.contains("5k/s keeps it"), "{text}");
}

#[test]
fn overloads_comparisons_and_fleets_have_pages() {
    let step = |factor: f64| Step {
        factor,
        offered: factor * 1e3,
        goodput: 950.0,
        goodput_share: 0.95,
        refused: 7,
        refusals: BTreeMap::from([("quota_exceeded".to_owned(), 7)]),
        latency_us: Latency { p50: Some(10.0), p99: Some(90.0), ..Latency::default() },
        ..Step::default()
    };
    let steps = vec![step(10.0), step(0.5), step(2.0)];
    let overload = Overload { capacity: 1e3, steps, ..Overload::default() };
    let text = check(&document(Body::Overload(overload)));
    assert!(text.contains("quota_exceeded") && text.contains("95%"), "{text}");

    let side = |scale: u64| {
        let latencies: Vec<u64> = (1..5_000).map(|us| us % 997 * scale).collect();
        let run = run(&latencies, Pace::Closed);
        [Named { file: format!("{scale}.json"), run, machine: "m".to_owned() }]
    };
    let plan = Plan { tolerance: 0.05, force: false, seed: 3 };
    let found = compare(&side(1_000), &side(1_500), plan).expect("comparable");
    assert!(found.is_worse());
    let text = check(&document(Body::Compare(found)));
    for part in ["B is slower", "1500.json", "One run of a side", "95% interval", "cpu-<avx>"] {
        assert!(text.contains(part), "{part} in {text}");
    }

    let class = agents::report::ClassReport { orders: 5, ready: 4, ..Default::default() };
    let classes =
        BTreeMap::from([("all".to_owned(), class.clone()), ("class-d".to_owned(), class)]);
    let counts = BTreeMap::from([("acks".to_owned(), 4)]);
    let report = agents::Report { agents: 5, classes, counts, ..agents::Report::default() };
    let text = check(&document(Body::Agents(Box::new(report))));
    assert!(text.contains("class-d") && text.contains("acks"), "{text}");
}

#[test]
fn what_is_kept_comes_back_as_it_was() {
    let kept = of_run(run(&[5_000, 7_000, 1_000_000], Pace::Open { rate: 5.0 }));
    let json = kept.json().expect("json");
    let back = Document::read(json.as_bytes()).expect("a report");
    let (Body::Run(was), Body::Run(is)) = (&kept.body, &back.body) else { panic!("{back:?}") };
    assert_eq!((was, &kept.origin), (is, &back.origin));
    assert_eq!(html::page(&kept), html::page(&back));
    let value: serde_json::Value = serde_json::from_str(&json).expect("json");
    assert_eq!((&value["schema"], &value["kind"]), (&SCHEMA.into(), &"run".into()));
    assert_eq!((&value["ok"], &value["load"]["op"]), (&3.into(), &"ping".into()));
    for body in [
        Body::Overload(Overload::default()),
        Body::Sweep(Sweep { points: vec![point(1.0, 2.0)], ..Sweep::default() }),
        Body::Compare(Comparison::default()),
        Body::Agents(Box::default()),
    ] {
        let kept = document(body);
        let back = Document::read(kept.json().expect("json").as_bytes()).expect("a report");
        assert_eq!(back.body.kind(), kept.body.kind());
        assert_eq!(html::page(&back), html::page(&kept));
    }
}

#[test]
fn files_that_are_no_report_say_so() {
    let kept = of_run(run(&[5_000], Pace::Closed)).json().expect("json");
    let later = kept.replacen("\"schema\": 1", "\"schema\": 3", 1);
    let odd = kept.replacen("\"kind\": \"run\"", "\"kind\": \"song\"", 1);
    let wild = kept.replacen("x1\"", "x-1\"", 1);
    assert!(later != kept && odd != kept && wild != kept);
    for (bytes, part) in [
        (&b"\x00\xff"[..], "is no JSON"),
        (b"", "is no JSON"),
        (b"[]", "is no report of blast"),
        (b"{\"schema\": 1}", "is no report of blast"),
        (b"{\"schema\": 0, \"kind\": \"run\"}", "is no report of blast"),
        (b"{\"latency_us\": {}, \"load\": {}}", "before schema 1"),
        (later.as_bytes(), "has schema 3"),
        (odd.as_bytes(), "damaged"),
        (wild.as_bytes(), "is not NANOSECONDSxCOUNT"),
        (&kept.as_bytes()[..kept.len() / 2], "is no JSON"),
    ] {
        let fault = Document::read(bytes).expect_err(part);
        assert!(fault.contains(part), "{fault}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_a_file_says_the_page_is_sound(
        numbers in prop::collection::vec(any::<f64>(), 12),
        counts in prop::collection::vec(any::<u32>(), 6),
        words in any::<String>(),
        curve in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20),
        slices in prop::collection::vec((any::<u32>(), any::<u32>()), 0..20),
    ) {
        let mut recorder = Recorder::new(0, SECOND);
        slices.iter().for_each(|(at, ns)| recorder.answer((*at).into(), u64::from(*ns) * 1_000));
        let mut run = run(&[5_000, 6_000], Pace::Open { rate: numbers[0] });
        run.timeline = recorder.timeline();
        run.timeline.slice_s = numbers[1];
        run.curve = curve;
        let report = &mut run.report;
        (report.rps, report.duration_s, report.busy) = (numbers[2], numbers[3], numbers[4]);
        report.latency_us =
            Latency { p50: Some(numbers[5]), p99: Some(numbers[6]), ..Latency::default() };
        (report.ok, report.planned, report.lost) =
            (counts[0].into(), counts[1].into(), counts[2].into());
        (report.load.op, report.load.addr) = (words.clone(), words.clone());
        report.server.facts.insert(words.clone(), words.clone());
        report.refusals.insert(words.clone(), counts[3].into());
        check(&of_run(run));
        let mut odd = point(numbers[7], numbers[8]);
        odd.achieved = numbers[9];
        odd.client_bound_reason = Some(words.clone());
        let points = vec![odd, point(numbers[10], numbers[11])];
        check(&document(Body::Sweep(Sweep { points, ..Sweep::default() })));
    }
}
