//! The page of an overload.

use super::{heights, latency_axis, line, per_second, provenance, remarks, series, time};
use crate::{
    origin::Origin,
    overload::{Overload, Step},
};
use plot::{
    Axis, Chart, Mark, Page, Rule, Scale, Tile,
    text::{count, digits, short},
};

pub(super) fn page(origin: &Origin, overload: &Overload) -> String {
    let title = format!("blast overload: {} beyond what the node can do", overload.load.op);
    let mut page = Page::new(&title, &line(origin, Some(&overload.server)));
    page.tiles(&tiles(overload));
    let mut notes = remarks::of_load(origin, &overload.load);
    let bound = overload.steps.iter().map(|step| (step.offered, &step.client_bound_reason));
    notes.extend(remarks::of_rates(bound));
    notes.extend(remarks::of_node(&overload.server));
    page.notes(&notes);
    page.heading("What is still answered");
    let caption = "A node that sheds load well stays near its capacity however much is offered, \
                   and refuses the rest.";
    page.figure(&goodput(overload), caption);
    page.heading("How soon");
    page.figure(&latency(overload), "From planned send to answer, and to refusal.");
    let head = [
        "factor",
        "offered",
        "answered",
        "of capacity",
        "p50",
        "p99",
        "refused",
        "refused p99",
        "unsent",
        "lost",
        "errors",
    ];
    page.table("Every step", &head, &overload.steps.iter().map(row).collect::<Vec<_>>());
    let reasons: Vec<Vec<String>> = overload
        .steps
        .iter()
        .flat_map(|step| {
            let counts = step.refusals.iter().chain(&step.error_kinds);
            counts.map(|(why, n)| vec![step.factor.to_string(), why.clone(), count(*n)])
        })
        .collect();
    if !reasons.is_empty() {
        page.table("Refusals and errors by reason", &["factor", "reason", "requests"], &reasons);
    }
    provenance(
        &mut page,
        origin,
        Some((&overload.load, "open loop, parts and multiples of the capacity")),
        Some(&overload.server),
    );
    page.finish()
}

fn tiles(overload: &Overload) -> Vec<Tile> {
    let worst = overload.steps.iter().map(|step| step.goodput_share).reduce(f64::min);
    let most = overload.steps.iter().map(|step| step.factor).reduce(f64::max);
    let lost: u64 = overload.steps.iter().map(|step| step.lost + step.errors).sum();
    vec![
        Tile::new("capacity", per_second(overload.capacity), "good answers"),
        Tile::new("highest load", format!("{}x", digits(most.unwrap_or(0.0))), "of the capacity"),
        Tile::new(
            "least that was answered",
            format!("{}%", digits(worst.unwrap_or(0.0) * 100.0)),
            "of the capacity, over all steps",
        ),
        Tile::new("errors and lost", count(lost), "over all steps"),
    ]
}

fn axis(overload: &Overload) -> Axis {
    let factors = overload.steps.iter().map(|step| step.factor);
    Axis::new("offered, in multiples of the capacity", Scale::logarithmic(factors), digits)
}

fn sorted(overload: &Overload) -> Vec<&Step> {
    let mut steps: Vec<&Step> = overload.steps.iter().collect();
    steps.sort_by(|a, b| a.factor.total_cmp(&b.factor));
    steps
}

fn goodput(overload: &Overload) -> Chart {
    let steps = sorted(overload);
    let all = vec![series("answered", 0, Mark::Dotted, {
        steps.iter().map(|step| (step.factor, Some(step.goodput)))
    })];
    let capacity = overload.capacity;
    Chart {
        title: "What is still answered".to_owned(),
        desc: "Good answers per second at each multiple of the capacity.".to_owned(),
        x: axis(overload),
        y: Axis::new(
            "good answers per second",
            Scale::from_zero(heights(&all).into_iter().chain([capacity])),
            short,
        ),
        series: all,
        rules: vec![Rule { at: capacity, level: true, label: "capacity".to_owned() }],
    }
}

fn latency(overload: &Overload) -> Chart {
    let steps = sorted(overload);
    let drawn = |name: &str, tone, of: fn(&Step) -> Option<f64>| {
        series(name, tone, Mark::Dotted, steps.iter().map(|step| (step.factor, of(step))))
    };
    let all = vec![
        drawn("refused p99", 3, |step| step.refused_us.p99),
        drawn("answered p99", 1, |step| step.latency_us.p99),
        drawn("answered p50", 0, |step| step.latency_us.p50),
    ];
    Chart {
        title: "How soon".to_owned(),
        desc: "Latency of answers and of refusals at each multiple of the capacity.".to_owned(),
        x: axis(overload),
        y: latency_axis(heights(&all)),
        series: all,
        rules: Vec::new(),
    }
}

fn row(step: &Step) -> Vec<String> {
    vec![
        step.factor.to_string(),
        per_second(step.offered),
        per_second(step.goodput),
        format!("{}%", digits(step.goodput_share * 100.0)),
        time(step.latency_us.p50),
        time(step.latency_us.p99),
        count(step.refused),
        time(step.refused_us.p99),
        count(step.unsent),
        count(step.lost),
        count(step.errors),
    ]
}
