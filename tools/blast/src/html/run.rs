//! The page of a run.

use super::{
    PERCENTILES, counted, heights, latency_axis, line, per_second, percentiles, provenance,
    remarks, series, share_axis, shares, time,
};
use crate::{
    origin::Origin,
    report::{Report, Run},
    timeline::{Slice, Timeline},
};
use plot::{
    Axis, Chart, Mark, Page, Rule, Scale, Series, Tile,
    text::{bytes, count, digits, short},
};

pub(super) fn page(origin: &Origin, run: &Run) -> String {
    let report = &run.report;
    let title = format!("blast run: {} at {}", report.load.op, pace(report));
    let mut page = Page::new(&title, &line(origin, Some(&report.server)));
    page.tiles(&tiles(report));
    page.notes(&remarks::of_run(origin, report));
    page.heading("Latency over time");
    let caption = "Each latency stands where its request was planned: what a stall did to those \
                   who wanted to send in it.";
    page.figure(&over_time(&run.timeline), caption);
    page.heading("Latency by share of the answers");
    let caption = "How long the slowest take: half, a tenth, a hundredth of the answers and so on \
                   took longer than the curve says.";
    page.figure(&curve(run), caption);
    let rows = [("answered", &report.latency_us), ("refused", &report.refused_us)]
        .into_iter()
        .filter(|(_, latency)| latency.max.is_some())
        .map(|(name, latency)| [vec![name.to_owned()], percentiles(latency)].concat());
    let head = [&[""][..], &PERCENTILES].concat();
    page.table("From planned send to checked answer", &head, &rows.collect::<Vec<_>>());
    page.heading("Answers over time");
    page.figure(&answers(report, &run.timeline), "Each answer stands where it came.");
    slices(&mut page, &run.timeline);
    faults(&mut page, report);
    provenance(
        &mut page,
        origin,
        Some((&report.load, &pace_in_words(report))),
        Some(&report.server),
    );
    page.finish()
}

fn pace(report: &Report) -> String {
    match report.load.rate {
        Some(rate) => per_second(rate),
        None => "closed loop".to_owned(),
    }
}

fn pace_in_words(report: &Report) -> String {
    match report.load.rate {
        Some(rate) => format!("open loop, {} planned", per_second(rate)),
        None => "closed loop: as fast as answers come".to_owned(),
    }
}

fn tiles(report: &Report) -> Vec<Tile> {
    let planned = match report.load.rate {
        Some(rate) => format!("{} planned", per_second(rate)),
        None => "closed loop".to_owned(),
    };
    let share =
        |n: u64| format!("{}%", digits(100.0 * n as f64 / (report.planned as f64).max(1.0)));
    let per_s = |n: u64| format!("{}/s", bytes(n as f64 / report.duration_s.max(1e-9)));
    let latency = &report.latency_us;
    vec![
        Tile::new("answered", per_second(report.rps), planned),
        Tile::new("p50", time(latency.p50), "half within this"),
        Tile::new("p99", time(latency.p99), format!("max {}", time(latency.max))),
        Tile::new("good answers", count(report.ok), format!("{} of planned", share(report.ok))),
        Tile::new("refused", count(report.refused), share(report.refused)),
        Tile::new("errors and lost", count(report.errors + report.lost), {
            format!("{} wrong, {} lost", count(report.errors), count(report.lost))
        }),
        Tile::new("sent", per_s(report.bytes_out), "with headers"),
        Tile::new("received", per_s(report.bytes_in), "with headers"),
    ]
}

/// The middle of each stretch, in seconds.
fn middles(line: &Timeline) -> impl Iterator<Item = (f64, &Slice)> {
    line.slices.iter().enumerate().map(|(at, slice)| ((at as f64 + 0.5) * line.slice_s, slice))
}

fn time_axis(line: &Timeline) -> Axis {
    let end = line.slices.len() as f64 * line.slice_s;
    Axis::new("seconds", Scale::between(0.0, end), digits)
}

fn over_time(line: &Timeline) -> Chart {
    let of =
        |share: f64| move |(at, slice): (f64, &Slice)| (at, slice.latency_ns.quantile_us(share));
    let drawn =
        |name: &str, tone, share| series(name, tone, Mark::Line, middles(line).map(of(share)));
    let all = vec![drawn("max", 2, 1.0), drawn("p99", 1, 0.99), drawn("p50", 0, 0.5)];
    Chart {
        title: "Latency over time".to_owned(),
        desc: format!(
            "Median, 99th percentile and maximum of the latency in stretches of {} seconds. {}",
            digits(line.slice_s),
            spread(&all)
        ),
        x: time_axis(line),
        y: latency_axis(heights(&all)),
        series: all,
        rules: Vec::new(),
    }
}

/// Between which values each line runs, in words.
fn spread(all: &[Series]) -> String {
    let said = all.iter().filter_map(|one| {
        let known = one.points.iter().map(|point| point.y).filter(|y| y.is_finite());
        let (low, high) =
            known.fold((f64::INFINITY, 0.0_f64), |(low, high), y| (low.min(y), high.max(y)));
        let (low, high) = (time(Some(low)), time(Some(high)));
        (low != "-").then(|| format!("{} from {low} to {high}.", one.name))
    });
    said.collect::<Vec<_>>().join(" ")
}

fn curve(run: &Run) -> Chart {
    let report = &run.report;
    let points = shares(&run.curve, report.ok);
    let most = points.iter().map(|(x, _)| *x).fold(100.0, f64::max);
    let all = vec![series("", 0, Mark::Line, points)];
    let latency = &report.latency_us;
    Chart {
        title: "Latency by share of the answers".to_owned(),
        desc: format!(
            "Half of the answers came within {}, 99% within {}, 99.9% within {}, all within {}.",
            time(latency.p50),
            time(latency.p99),
            time(latency.p999),
            time(latency.max)
        ),
        x: share_axis(most),
        y: latency_axis(heights(&all)),
        series: all,
        rules: Vec::new(),
    }
}

fn answers(report: &Report, line: &Timeline) -> Chart {
    let rate = |n: u64| Some(n as f64 / line.slice_s.max(1e-9));
    let mut all = vec![series(
        "answered",
        0,
        Mark::Line,
        middles(line).map(|(at, slice)| (at, rate(slice.answered))),
    )];
    if line.slices.iter().any(|slice| slice.refused > 0) {
        let refused = middles(line).map(|(at, slice)| (at, rate(slice.refused)));
        all.push(series("refused", 1, Mark::Line, refused));
    }
    let planned = report.load.rate;
    let rules = planned.map(|at| Rule { at, level: true, label: "planned".to_owned() });
    Chart {
        title: "Answers over time".to_owned(),
        desc: format!(
            "Good answers per second in stretches of {} seconds; {} per second over the run.",
            digits(line.slice_s),
            short(report.rps)
        ),
        x: time_axis(line),
        y: Axis::new(
            "per second",
            Scale::from_zero(heights(&all).into_iter().chain(planned)),
            short,
        ),
        series: all,
        rules: rules.into_iter().collect(),
    }
}

fn slices(page: &mut Page, line: &Timeline) {
    let rows = line.slices.iter().enumerate().map(|(at, slice)| {
        let of = |share| time(slice.latency_ns.quantile_us(share));
        vec![
            digits(at as f64 * line.slice_s),
            count(slice.answered),
            count(slice.refused),
            of(0.5),
            of(0.99),
            of(1.0),
        ]
    });
    let head = ["from second", "answered", "refused", "p50", "p99", "max"];
    page.table("The charts over time as a table", &head, &rows.collect::<Vec<_>>());
}

fn faults(page: &mut Page, report: &Report) {
    page.heading("What was not answered");
    let mut rows = counted("refused", &report.refusals);
    rows.extend(counted("error", &report.error_kinds));
    if report.lost > 0 {
        rows.push(vec!["lost".to_owned(), "no answer".to_owned(), count(report.lost)]);
    }
    if report.sent < report.planned {
        let unsent = count(report.planned - report.sent);
        rows.push(vec!["unsent".to_owned(), "windows full until the end".to_owned(), unsent]);
    }
    if rows.is_empty() {
        page.paragraph("Nothing: every planned request was sent, answered and right.");
    } else {
        page.table("By reason", &["", "reason", "requests"], &rows);
    }
    let retries = [
        ("connections replaced", Some(report.reconnects)),
        ("run again by the node, as a worker died", report.server.reclaimed),
    ];
    let known = retries.into_iter().filter_map(|(what, n)| Some((what, n?)));
    let words: Vec<String> = known.map(|(what, n)| format!("{what} {}", count(n))).collect();
    page.paragraph(&format!("Retries: blast sends no request twice; {}.", words.join("; ")));
    page.paragraph(&format!("{} sends left over 1 ms after their plan.", count(report.late)));
}
