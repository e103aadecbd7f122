//! A chart as SVG: two axes, some series, a title and a description for those who do not see it.

use crate::{
    Scale,
    labels::{self, Area},
    text::escape,
};
use std::fmt::Write as _;

/// Width of a drawing, in its own units.
pub const WIDTH: f64 = 760.0;
/// Height of a drawing.
pub const HEIGHT: f64 = 300.0;
/// The plotting area: left, top, right, bottom.
const AREA: Area = (68.0, 40.0, 744.0, 252.0);
/// Most points of a series that say their numbers under the pointer; of longer ones, some do.
const SPOKEN_MAX: usize = 240;

/// How numbers stand on an axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is measured, with its unit.
    pub label: String,
    /// Where they lie.
    pub scale: Scale,
    /// How one is written.
    pub write: fn(f64) -> String,
    /// Which are written; round ones where this is empty.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis with round numbers.
    pub fn new(label: impl Into<String>, scale: Scale, write: fn(f64) -> String) -> Self {
        Self { label: label.into(), scale, write, ticks: Vec::new() }
    }

    fn written(&self, about: usize) -> Vec<(f64, String)> {
        if !self.ticks.is_empty() {
            let (from, to) = self.scale.ends();
            let inside = |tick: &&(f64, String)| (from..=to).contains(&tick.0);
            return self.ticks.iter().filter(inside).cloned().collect();
        }
        self.scale.ticks(about).into_iter().map(|tick| (tick, (self.write)(tick))).collect()
    }
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A line through the points; broken where a point has no number.
    Line,
    /// A line with a dot at every point.
    Dotted,
    /// Dots alone.
    Dots,
    /// A bar from the bottom to each point.
    Bars,
    /// Dots with the points' names beside them.
    Named,
}

/// A point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// What stands beside it, or under the pointer; its numbers where this is empty.
    pub name: String,
}

impl Point {
    /// A point without a name.
    #[must_use]
    pub const fn new(x: f64, y: f64) -> Self {
        Self { x, y, name: String::new() }
    }
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name in the legend; not in it where this is empty.
    pub name: String,
    /// Which of the colours and dashes, 0 to 4.
    pub tone: u8,
    /// How it is drawn.
    pub mark: Mark,
    /// From left to right, for lines.
    pub points: Vec<Point>,
}

/// A line across the whole area at one number, with a word beside it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where.
    pub at: f64,
    /// At that height; from bottom to top otherwise.
    pub level: bool,
    /// The word.
    pub label: String,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What there is to see, in a sentence or two.
    pub desc: String,
    /// To the right.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// What is drawn, the first one lowest.
    pub series: Vec<Series>,
    /// Bounds and the like.
    pub rules: Vec<Rule>,
}

impl Chart {
    /// The drawing. `id` sets its title and description apart from those of others on the page.
    #[must_use]
    pub fn svg(&self, id: &str) -> String {
        let id = escape(id);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-labelledby=\"{id}-t {id}-d\">\n<title id=\"{id}-t\">{}</title>\n\
             <desc id=\"{id}-d\">{}</desc>\n",
            escape(&self.title),
            escape(&self.desc)
        );
        self.grid(&mut svg);
        for series in &self.series {
            self.draw(&mut svg, series);
        }
        self.rules(&mut svg);
        self.legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (
            AREA.0 + self.x.scale.place(x) * (AREA.2 - AREA.0),
            AREA.3 - self.y.scale.place(y) * (AREA.3 - AREA.1),
        )
    }

    fn grid(&self, svg: &mut String) {
        let (left, top, right, bottom) = AREA;
        for (tick, text) in self.y.written(5) {
            let y = self.at(0.0, tick).1;
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" />\
                 <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                y + 4.0,
                escape(&text)
            );
        }
        let mut free_from = f64::NEG_INFINITY;
        for (tick, text) in self.x.written(8) {
            let x = self.at(tick, 0.0).0;
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" />"
            );
            let half = labels::width(&text) / 2.0;
            // Numbers that would touch the one before are left out; their lines stay.
            if x - half < free_from {
                continue;
            }
            free_from = x + half + 6.0;
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x.min(WIDTH - half).max(half),
                bottom + 18.0,
                escape(&text)
            );
        }
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <text class=\"tick\" x=\"{}\" y=\"{}\">{}</text>",
            bottom + 38.0,
            escape(&self.x.label),
            6.0,
            top - 24.0,
            escape(&self.y.label)
        );
    }

    fn draw(&self, svg: &mut String, series: &Series) {
        let tone = series.tone % 5;
        match series.mark {
            Mark::Line | Mark::Dotted => self.line(svg, series, tone),
            Mark::Bars => self.bars(svg, series, tone),
            Mark::Dots | Mark::Named => {}
        }
        let radius = if matches!(series.mark, Mark::Line | Mark::Bars) { 0.0 } else { 3.5 };
        self.dots(svg, series, tone, radius);
        if series.mark == Mark::Named {
            self.names(svg, series);
        }
    }

    /// A line for every stretch without a gap; a stretch of one point is a dot.
    fn line(&self, svg: &mut String, series: &Series, tone: u8) {
        for stretch in series.points.split(|point| !sound(point)) {
            match stretch {
                [] => {}
                [one] => {
                    let (x, y) = self.at(one.x, one.y);
                    let _ = writeln!(
                        svg,
                        "<circle class=\"t{tone} dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" />"
                    );
                }
                several => {
                    let places: Vec<String> = several
                        .iter()
                        .map(|point| self.at(point.x, point.y))
                        .map(|(x, y)| format!("{x:.1},{y:.1}"))
                        .collect();
                    let places = places.join(" ");
                    let _ =
                        writeln!(svg, "<polyline class=\"t{tone} line\" points=\"{places}\" />");
                }
            }
        }
    }

    fn bars(&self, svg: &mut String, series: &Series, tone: u8) {
        let step = (AREA.2 - AREA.0) / series.points.len().max(1) as f64;
        let width = (step * 0.8).clamp(0.5, 40.0);
        for point in series.points.iter().filter(|point| sound(point) && point.y > 0.0) {
            let (x, y) = self.at(point.x, point.y);
            let left = (x - width / 2.0).clamp(AREA.0, AREA.2 - width);
            let _ = writeln!(
                svg,
                "<rect class=\"t{tone} bar\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
                 height=\"{:.1}\" />",
                AREA.3 - y
            );
        }
    }

    /// What shows where a point is, and what it says when asked: larger than it looks.
    fn dots(&self, svg: &mut String, series: &Series, tone: u8, radius: f64) {
        let stride = series.points.len().div_ceil(SPOKEN_MAX).max(1);
        for (n, point) in series.points.iter().enumerate().filter(|(_, point)| sound(point)) {
            let (x, y) = self.at(point.x, point.y);
            if radius > 0.0 {
                let _ = writeln!(
                    svg,
                    "<circle class=\"t{tone} dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" />"
                );
            }
            if n % stride == 0 {
                let _ = writeln!(
                    svg,
                    "<circle class=\"ask\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7\">\
                     <title>{}</title></circle>",
                    escape(&self.said(series, point))
                );
            }
        }
    }

    fn said(&self, series: &Series, point: &Point) -> String {
        let numbers = format!("{}: {}", (self.x.write)(point.x), (self.y.write)(point.y));
        match (point.name.as_str(), series.name.as_str()) {
            ("", "") => numbers,
            ("", name) => format!("{name}, {numbers}"),
            (name, _) => format!("{name}, {numbers}"),
        }
    }

    fn names(&self, svg: &mut String, series: &Series) {
        let points = series.points.iter().filter(|point| sound(point));
        let named: Vec<_> =
            points.map(|point| (self.at(point.x, point.y), point.name.as_str())).collect();
        for ((_, name), area) in named.iter().zip(labels::place(&named, AREA)) {
            let name = escape(name);
            let _ =
                writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{name}</text>", area.0, area.3 - 3.0);
        }
    }

    fn rules(&self, svg: &mut String) {
        let (left, top, right, bottom) = AREA;
        for rule in self.rules.iter().filter(|rule| rule.at.is_finite()) {
            let (x, y) = self.at(rule.at, rule.at);
            let (line, word) = if rule.level {
                let word = (right - 4.0, if y < top + 16.0 { y + 14.0 } else { y - 5.0 }, true);
                ((left, y, right, y), word)
            } else {
                let width = labels::width(&rule.label) + 6.0;
                (
                    (x, top, x, bottom),
                    (x + if x + width > right { -4.0 } else { 4.0 }, top + 12.0, {
                        x + width > right
                    }),
                )
            };
            let anchor = if word.2 { "end" } else { "start" };
            let _ = writeln!(
                svg,
                "<line class=\"rule\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" />\
                 <text class=\"word\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                line.0,
                line.1,
                line.2,
                line.3,
                word.0,
                word.1,
                escape(&rule.label)
            );
        }
    }

    /// From the right to the left, above the area.
    fn legend(&self, svg: &mut String) {
        let mut right = AREA.2;
        for series in self.series.iter().rev().filter(|series| !series.name.is_empty()) {
            let (tone, left) = (series.tone % 5, right - labels::width(&series.name));
            if left < AREA.0 {
                break;
            }
            let key = match series.mark {
                Mark::Line | Mark::Dotted => format!(
                    "<line class=\"t{tone} line\" x1=\"{:.1}\" y1=\"14\" x2=\"{:.1}\" y2=\"14\" />",
                    left - 28.0,
                    left - 6.0
                ),
                Mark::Bars => format!(
                    "<rect class=\"t{tone} bar\" x=\"{:.1}\" y=\"9\" width=\"10\" height=\"10\" />",
                    left - 16.0
                ),
                Mark::Dots | Mark::Named => format!(
                    "<circle class=\"t{tone} dot\" cx=\"{:.1}\" cy=\"14\" r=\"4\" />",
                    left - 11.0
                ),
            };
            let name = escape(&series.name);
            let _ = writeln!(svg, "{key}<text x=\"{left:.1}\" y=\"18\">{name}</text>");
            right = left - 44.0;
        }
    }
}

fn sound(point: &Point) -> bool {
    point.x.is_finite() && point.y.is_finite()
}
