//! The page of a sweep, or of a search for what keeps a promise.

use super::{
    PERCENTILES, heights, latency_axis, line, per_second, percentiles, provenance, remarks, series,
    time,
};
use crate::{
    origin::Origin,
    slo::Measure,
    sweep::{Point, Slo, Sweep},
};
use plot::{
    Axis, Chart, Mark, Page, Rule, Scale, Tile,
    text::{count, digits, short},
};

pub(super) fn page(origin: &Origin, sweep: &Sweep) -> String {
    let title = match &sweep.slo {
        Some(slo) => format!("blast sweep: {} under {}", sweep.load.op, promises(slo)),
        None => format!("blast sweep: {}, latency by rate", sweep.load.op),
    };
    let mut page = Page::new(&title, &line(origin, Some(&sweep.server)));
    page.tiles(&tiles(sweep));
    let mut notes = remarks::of_load(origin, &sweep.load);
    let bound = sweep.points.iter().map(|point| (point.rate, &point.client_bound_reason));
    notes.extend(remarks::of_rates(bound));
    notes.extend(remarks::of_node(&sweep.server));
    page.notes(&notes);
    for finding in sweep.findings() {
        page.lead(&finding);
    }
    page.heading("Latency by rate");
    let caption = "Open loop: requests leave when they are planned, whether the node keeps up or \
                   not, and latency counts from the plan.";
    page.figure(&latency(sweep), caption);
    page.heading("Answered by offered");
    page.figure(&achieved(sweep), "On the thin line all that was offered was answered.");
    if let Some(slo) = &sweep.slo {
        page.heading("The search");
        page.figure(&search(sweep, slo), "One dot for each run, in their order.");
    }
    page.table("Every run", &head(), &sweep.points.iter().map(row).collect::<Vec<_>>());
    provenance(
        &mut page,
        origin,
        Some((&sweep.load, "open loop, one rate after another")),
        Some(&sweep.server),
    );
    page.finish()
}

fn promises(slo: &Slo) -> String {
    slo.bounds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn tiles(sweep: &Sweep) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let rate = |rate: Option<f64>| rate.map_or_else(|| "none".to_owned(), per_second);
    if let Some(slo) = &sweep.slo {
        let note = match (slo.settled, slo.rate) {
            (true, Some(_)) => format!("held in {} runs", slo.confirmations),
            (_, Some(_)) => "not settled".to_owned(),
            (_, None) => "no rate keeps it".to_owned(),
        };
        tiles.push(Tile::new("highest rate", rate(slo.rate), note));
        let within = format!("at most {}% higher", digits(slo.step * 100.0));
        tiles.push(Tile::new("first that fails", rate(slo.failed), within));
    } else {
        let note = sweep.knee.map_or_else(
            || "beyond these rates".to_owned(),
            |knee| format!("p99 {}", time(Some(knee.p99_us))),
        );
        tiles.push(Tile::new("knee", rate(sweep.knee.map(|knee| knee.rate)), note));
        let kept = match sweep.saturation() {
            Some(rate) => per_second(rate),
            None if sweep.points.iter().all(Point::kept_up) => "all rates".to_owned(),
            None => "none".to_owned(),
        };
        tiles.push(Tile::new("highest kept up with", kept, "to 95% of the rate"));
    }
    if let Some(capacity) = sweep.capacity {
        tiles.push(Tile::new("closed loop", per_second(capacity), "as many as come back"));
    }
    tiles.push(Tile::new("runs", sweep.points.len().to_string(), "one for each rate tried"));
    tiles
}

/// The points from left to right.
fn sorted(sweep: &Sweep) -> Vec<&Point> {
    let mut points: Vec<&Point> = sweep.points.iter().collect();
    points.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    points
}

fn rate_axis(sweep: &Sweep) -> Axis {
    let rates = || sweep.points.iter().map(|point| point.rate);
    let (low, high) =
        rates().fold((f64::INFINITY, 0.0_f64), |(low, high), rate| (low.min(rate), high.max(rate)));
    let scale =
        if high > 25.0 * low { Scale::logarithmic(rates()) } else { Scale::from_zero(rates()) };
    Axis::new("requests per second, offered", scale, short)
}

fn latency(sweep: &Sweep) -> Chart {
    let points = sorted(sweep);
    let drawn = |name: &str, tone, of: fn(&Point) -> Option<f64>| {
        series(name, tone, Mark::Dotted, points.iter().map(|point| (point.rate, of(point))))
    };
    let all = vec![
        drawn("p99.9", 2, |point| point.latency_us.p999),
        drawn("p99", 1, |point| point.latency_us.p99),
        drawn("p50", 0, |point| point.latency_us.p50),
    ];
    let mut rules = Vec::new();
    if let Some(slo) = &sweep.slo {
        let latencies = slo.bounds.iter().filter(|bound| bound.measure != Measure::Errors);
        rules.extend(latencies.map(|bound| Rule {
            at: bound.most,
            level: true,
            label: bound.to_string(),
        }));
        let found = slo.rate.map(|at| Rule { at, level: false, label: per_second(at) });
        rules.extend(found);
    } else if let Some(knee) = sweep.knee {
        rules.push(Rule { at: knee.rate, level: false, label: "knee".to_owned() });
    }
    let bounds = rules.iter().filter(|rule| rule.level).map(|rule| rule.at).collect::<Vec<_>>();
    Chart {
        title: "Latency by rate".to_owned(),
        desc: format!(
            "Median, 99th and 99.9th percentile of the latency at {} rates. {}",
            sweep.points.len(),
            sweep.findings().join(". ")
        ),
        x: rate_axis(sweep),
        y: latency_axis(heights(&all).into_iter().chain(bounds)),
        series: all,
        rules,
    }
}

fn achieved(sweep: &Sweep) -> Chart {
    let points = sorted(sweep);
    let rate = |point: &&&Point| point.rate;
    let all = vec![
        series("all that was offered", 4, Mark::Line, {
            points.iter().map(|point| (point.rate, Some(point.rate)))
        }),
        series("answered", 0, Mark::Dotted, {
            points.iter().map(|point| (point.rate, Some(point.achieved)))
        }),
    ];
    let x = rate_axis(sweep);
    let most = points.iter().map(|point| rate(&point)).collect::<Vec<_>>();
    let wide = x.scale.ends().0 > 0.0;
    let scale = if wide { Scale::logarithmic(heights(&all)) } else { Scale::from_zero(most) };
    Chart {
        title: "Answered by offered".to_owned(),
        desc: "Good answers per second against planned requests per second.".to_owned(),
        x,
        y: Axis::new("answers per second", scale, short),
        series: all,
        rules: Vec::new(),
    }
}

fn search(sweep: &Sweep, slo: &Slo) -> Chart {
    let tried = |kept: bool| {
        let numbered = sweep.points.iter().enumerate();
        let those = numbered.filter(move |(_, point)| point.broke.is_none() == kept);
        those.map(|(at, point)| (at as f64 + 1.0, Some(point.rate)))
    };
    let all = vec![
        series("kept", 2, Mark::Dots, tried(true)),
        series("broken", 1, Mark::Dots, tried(false)),
    ];
    let count = sweep.points.len() as f64;
    Chart {
        title: "The search".to_owned(),
        desc: format!("The rate of each run, and whether {} was kept.", promises(slo)),
        x: Axis::new("run", Scale::between(0.5, count + 0.5), digits),
        y: Axis::new("requests per second, logarithmic", Scale::logarithmic(heights(&all)), short),
        series: all,
        rules: slo
            .rate
            .map(|at| Rule { at, level: true, label: per_second(at) })
            .into_iter()
            .collect(),
    }
}

fn head() -> Vec<&'static str> {
    let counts = ["refused", "lost", "errors", "no answer", ""];
    [&["offered", "answered"][..], &PERCENTILES, &counts].concat()
}

fn row(point: &Point) -> Vec<String> {
    let mut cells = vec![per_second(point.rate), per_second(point.achieved)];
    cells.extend(percentiles(&point.latency_us));
    cells.extend([point.refused, point.lost, point.errors].map(count));
    cells.push(format!("{}%", digits(point.unanswered() * 100.0)));
    let remark = [point.why.clone(), point.broke.clone().unwrap_or_default()];
    let remark = remark.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
    cells.push(remark.join(": "));
    cells
}
