//! The page of a fleet.

use super::{heights, line, provenance, series};
use crate::{
    agents::{Report, report::ClassReport},
    origin::Origin,
};
use plot::{
    Axis, Chart, Mark, Page, Scale, Tile,
    text::{count, digits, micros},
};

pub(super) fn page(origin: &Origin, report: &Report) -> String {
    let title = format!("blast agents: {} agents", count(report.agents.into()));
    let mut page = Page::new(&title, &line(origin, None));
    page.tiles(&tiles(report));
    let mut notes = Vec::new();
    if report.network != "off" {
        notes.push(format!(
            "Links, clocks and services are a model ({}, seed {}) over real sockets: agents know \
             their own clocks alone, this page knows them all.",
            report.network, report.seed
        ));
    }
    if !report.is_clean() {
        notes.push("Not all agents registered, or something broke: see the counts.".to_owned());
    }
    page.notes(&notes);
    if !report.classes.is_empty() {
        page.heading("Ready before the moment");
        let caption = "How long agents were ready before the moment that they were told. Lead \
                       costs waiting, too little of it costs being late: see the share on time.";
        page.figure(&earliness(report), caption);
        let head = [
            "class",
            "orders",
            "ready",
            "conflicts",
            "on time",
            "early, mean",
            "early p99",
            "late p99",
            "oracle on time",
        ];
        let rows = report.classes.iter().map(|(name, class)| row(name, class));
        page.table("By class of agent", &head, &rows.collect::<Vec<_>>());
    }
    page.heading("Acts and heartbeats");
    let us = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), micros);
    let (act, spread, beat) = (&report.act_error_us, &report.spread_us, &report.beat_us);
    let rows = [
        ("act from the target moment", act.p50, act.p99, act.max),
        ("acts of a message from its first", spread.p50, spread.p99, spread.max),
        ("heartbeat to its answer", beat.p50, beat.p99, beat.max),
    ];
    let rows = rows.map(|(what, p50, p99, max)| vec![what.to_owned(), us(p50), us(p99), us(max)]);
    page.table("", &["", "p50", "p99", "max"], &rows);
    page.heading("Everything that was counted");
    let rows: Vec<Vec<String>> =
        report.counts.iter().map(|(what, n)| vec![what.replace('_', " "), count(*n)]).collect();
    page.table("Counts", &["what", "count"], &rows);
    provenance(&mut page, origin, None, None);
    page.finish()
}

fn tiles(report: &Report) -> Vec<Tile> {
    let all = report.classes.get("all");
    let share = |share: Option<f64>| {
        share.map_or_else(|| "-".to_owned(), |share| format!("{}%", digits(share * 100.0)))
    };
    let beats = format!("{}/s", plot::text::short(report.beats_per_second));
    let beaten = report.beat_us.p99.map_or_else(|| "-".to_owned(), micros);
    vec![
        Tile::new(
            "registered",
            count(report.registered),
            format!("of {} in {}", count(report.agents.into()), micros(report.registered_s * 1e6)),
        ),
        Tile::new("on time", share(all.and_then(|all| all.on_time)), "of those that were ready"),
        Tile::new("connections", count(report.connections.into()), "to one node"),
        Tile::new("heartbeats", beats, format!("answered, p99 {beaten}")),
        Tile::new("stayed", micros(report.stayed_s * 1e6), {
            format!("on {} cores", digits(report.cores))
        }),
    ]
}

fn earliness(report: &Report) -> Chart {
    let places = |of: fn(&ClassReport) -> Option<f64>| {
        report.classes.values().enumerate().map(move |(at, class)| (at as f64 + 1.0, of(class)))
    };
    let all = vec![
        series("p99", 1, Mark::Dots, places(|class| class.earliness_ms.p99)),
        series("p50", 0, Mark::Dots, places(|class| class.earliness_ms.p50)),
    ];
    let scale = Scale::between(0.5, report.classes.len() as f64 + 0.5);
    let mut x = Axis::new("class", scale, digits);
    x.ticks = (1_u32..).map(f64::from).zip(report.classes.keys().cloned()).collect();
    let write = |ms: f64| micros(ms * 1e3);
    Chart {
        title: "Ready before the moment".to_owned(),
        desc: "Median and 99th percentile of how early agents were ready, by class.".to_owned(),
        x,
        y: Axis::new("early", Scale::from_zero(heights(&all)), write),
        series: all,
        rules: Vec::new(),
    }
}

fn row(name: &str, class: &ClassReport) -> Vec<String> {
    let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| micros(ms * 1e3));
    let share = |share: Option<f64>| {
        share.map_or_else(|| "-".to_owned(), |share| format!("{}%", digits(share * 100.0)))
    };
    vec![
        name.to_owned(),
        count(class.orders),
        count(class.ready),
        count(class.conflicts),
        share(class.on_time),
        ms(class.earliness_mean_ms),
        ms(class.earliness_ms.p99),
        ms(class.lateness_ms.p99),
        share(class.oracle.as_ref().map(|oracle| oracle.on_time)),
    ]
}
