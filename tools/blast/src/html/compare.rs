//! The page of a comparison.

use super::{heights, known, latency_axis, line, series, share_axis, shares};
use crate::{
    compare::{Comparison, Row, Side, Verdict},
    origin::Origin,
};
use plot::{
    Axis, Chart, Mark, Page, Rule, Scale, Tile,
    text::{count, digits},
};

pub(super) fn page(origin: &Origin, found: &Comparison) -> String {
    let mut page = Page::new("blast compare: B against A", &line(origin, None));
    let tile = |row: &Row| {
        let cells = row.cells();
        let note = format!("{} to {}, {}", cells[1], cells[2], row.verdict.word());
        Tile::new(cells[0].clone(), cells[3].clone(), note)
    };
    page.tiles(&found.rows.iter().filter(|row| row.decides).map(tile).collect::<Vec<_>>());
    page.lead(&found.words);
    let mut notes = found.failures.clone();
    notes.extend(found.differences.iter().map(|what| format!("Not alike: {what}.")));
    notes.extend(found.assumes.iter().cloned());
    page.notes(&notes);
    page.heading("Change from A to B");
    let caption = "The dot is the change, the line what 95% of the draws lie within. Of the rate \
                   more is better, of a latency less.";
    page.figure(&changes(found), caption);
    let head = ["", "A", "B", "change", "95% interval", "verdict"];
    page.table("Every figure", &head, &found.rows.iter().map(Row::cells).collect::<Vec<_>>());
    page.heading("Latency by share of the answers");
    page.figure(&curves(found), "As far as ten answers are beyond.");
    for (name, side) in [("A", &found.a), ("B", &found.b)] {
        page.heading(name);
        page.facts(&facts(side));
    }
    if !origin.command.is_empty() {
        page.heading("Command");
        page.typed(&origin.typed());
    }
    page.finish()
}

fn facts(side: &Side) -> Vec<(String, String)> {
    known([
        ("files", side.files.join(", ")),
        ("operation", side.load.op.clone()),
        ("node", side.load.addr.clone()),
        ("version of the node", side.version.clone()),
        ("backend", side.backend.clone()),
        ("good answers", count(side.ok)),
        ("stretches of time", count(side.slices)),
        ("without a good answer", format!("{}%", digits(side.unanswered * 100.0))),
        ("lost or wrong", count(side.faults)),
    ])
}

/// A line for each figure, the first one on top.
fn changes(found: &Comparison) -> Chart {
    let rows = found.rows.len() as f64;
    let height = |at: usize| rows - at as f64;
    let percent = |change: f64| change * 100.0;
    let mut all = Vec::new();
    for (at, row) in found.rows.iter().enumerate() {
        let tone = match row.verdict {
            Verdict::Better => 2,
            Verdict::Worse => 1,
            Verdict::Same | Verdict::Unknown => 4,
        };
        if let Some((low, high)) = row.interval {
            let ends = [percent(low), percent(high)].map(|x| (x, Some(height(at))));
            all.push(series("", tone, Mark::Line, ends));
        }
        let dot = row.change.map(|change| (percent(change), Some(height(at))));
        all.push(series("", tone, Mark::Dots, dot));
    }
    let places = all.iter().flat_map(|one| &one.points).map(|point| point.x);
    let tolerated = percent(found.tolerance);
    let write = |x: f64| format!("{}{}%", if x > 0.0 { "+" } else { "" }, digits(x));
    let x = Scale::around(places.chain([-tolerated, 0.0, tolerated]));
    let mut y = Axis::new("", Scale::between(0.5, rows + 0.5), digits);
    let names = found.rows.iter().map(|row| row.cells()[0].clone());
    y.ticks = names.enumerate().map(|(at, name)| (height(at), name)).collect();
    let rule = |at: f64, label: &str| Rule { at, level: false, label: label.to_owned() };
    Chart {
        title: "Change from A to B".to_owned(),
        desc: found.words.clone(),
        x: Axis::new("change", x, write),
        y,
        series: all,
        rules: vec![rule(0.0, "no change")],
    }
}

fn curves(found: &Comparison) -> Chart {
    let drawn = |name: &str, tone, side: &Side| {
        series(name, tone, Mark::Line, shares(&side.curve, side.ok))
    };
    let all = vec![drawn("A", 0, &found.a), drawn("B", 1, &found.b)];
    let points = all.iter().flat_map(|one| &one.points);
    let most = points.map(|point| point.x).fold(100.0, f64::max);
    Chart {
        title: "Latency by share of the answers".to_owned(),
        desc: "The percentile curves of both sides, over all their runs.".to_owned(),
        x: share_axis(most),
        y: latency_axis(heights(&all)),
        series: all,
        rules: Vec::new(),
    }
}
