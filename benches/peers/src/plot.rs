//! The figures as a drawing: two panels of bars, logarithmic, one group for each payload.

use crate::{
    results::{ALONE, CROWDED, Figures, PAYLOADS, Results, Shape, median},
    systems::System,
};
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const PANEL: f64 = 300.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 70.0;
/// Colours of the systems, in their order; ours are the two that stand out.
const COLOURS: [&str; 7] =
    ["#9aa0a6", "#7aa6c2", "#4f7f9f", "#b7a57a", "#e07a2f", "#8fae8b", "#c0392b"];

struct Panel {
    title: &'static str,
    shape: Shape,
    of: fn(&Figures) -> f64,
}

const PANELS: [Panel; 2] = [
    Panel {
        title: "p50 of one message at a time, microseconds (lower is better)",
        shape: ALONE,
        of: |it| it.p50_us,
    },
    Panel {
        title: "messages a second, 4 connections x 8 (higher is better)",
        shape: CROWDED,
        of: |it| it.rate,
    },
];

/// The whole drawing.
pub(crate) fn svg(results: &Results) -> String {
    let height = TOP + PANELS.len() as f64 * (PANEL + 60.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (at, (system, colour)) in System::ALL.iter().zip(COLOURS).enumerate() {
        let (x, y) = (LEFT + (at % 4) as f64 * 200.0, 20.0 + (at / 4) as f64 * 20.0);
        rect(&mut out, (x, y - 10.0), (12.0, 12.0), colour, "");
        text(&mut out, (x + 18.0, y), "start", system.name());
    }
    for (at, panel) in PANELS.iter().enumerate() {
        panel.draw(&mut out, results, TOP + at as f64 * (PANEL + 60.0));
    }
    out + "</svg>\n"
}

impl Panel {
    fn draw(&self, out: &mut String, results: &Results, top: f64) {
        let value = |system, payload| {
            let cell = results.cell(system, self.shape.name, payload)?;
            median(&cell.rounds, self.of).filter(|value| *value > 0.0)
        };
        let all: Vec<f64> = System::ALL
            .iter()
            .flat_map(|system| PAYLOADS.iter().filter_map(|(len, _)| value(*system, *len)))
            .collect();
        text(out, (LEFT, top), "start", self.title);
        let Some((low, high)) = decades(&all) else {
            return text(out, (LEFT, top + 20.0), "start", "nothing was measured");
        };
        let (from, to) = (top + 15.0, top + PANEL);
        let y = |value: f64| to - (value.log10() - low) / (high - low) * (to - from);
        for decade in low as i32..=high as i32 {
            let value = 10_f64.powi(decade);
            let line = y(value);
            let _ = writeln!(
                out,
                "<path d=\"M{LEFT} {line:.1}H{:.0}\" stroke=\"#ddd\"/>",
                WIDTH - 20.0
            );
            text(out, (LEFT - 6.0, line + 4.0), "end", &format!("{value}"));
        }
        let group = (WIDTH - LEFT - 20.0) / PAYLOADS.len() as f64;
        let bar = group * 0.8 / System::ALL.len() as f64;
        for (at, (payload, _)) in PAYLOADS.iter().enumerate() {
            let x = LEFT + at as f64 * group + group * 0.1;
            text(out, (x + group * 0.4, to + 16.0), "middle", &format!("{payload} bytes"));
            for (place, (system, colour)) in System::ALL.into_iter().zip(COLOURS).enumerate() {
                let Some(value) = value(system, *payload) else { continue };
                let (x, y) = (x + place as f64 * bar, y(value));
                let said = format!("{}: {value:.1}", system.name());
                rect(out, (x, y), (bar * 0.9, to - y), colour, &said);
            }
        }
    }
}

/// The powers of ten around all values; `None` where there are none.
fn decades(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().reduce(f64::min)?.log10().floor();
    let high = values.iter().copied().reduce(f64::max)?.log10().ceil();
    Some((low, high.max(low + 1.0)))
}

fn rect(out: &mut String, (x, y): (f64, f64), (w, h): (f64, f64), colour: &str, said: &str) {
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{colour}\">\
         <title>{said}</title></rect>"
    );
}

/// Words of ours only: nothing in them needs escaping.
fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let _ =
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::cell;

    #[test]
    fn a_bar_for_every_figure_and_longer_where_it_is_more() {
        let cells = vec![cell(System::Floor, 96, &[10.0]), cell(System::Echo, 96, &[100.0])];
        let drawn = svg(&Results { cells, logits: Vec::new() });
        let height = |what: &str| -> f64 {
            let line = drawn.lines().find(|line| line.contains(what)).expect("a bar");
            let rest = line.split("height=\"").nth(1).expect("a height");
            rest.split('"').next().expect("a number").parse().expect("a number")
        };
        assert!(height("Butterfly, echo: 100.0") > height("tokio: 10.0"));
        assert!(drawn.contains("nothing was measured"), "the other panel is empty");
        assert_eq!(drawn.matches("<title>").count() - System::ALL.len(), 2);
    }
}
