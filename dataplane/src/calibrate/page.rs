//! The report of a calibration as a page: no scripts, nothing fetched, for light and for dark.

use super::{HEAD, Point, plot::Axes, summary};
use serde_json::Value;
use std::fmt::Write as _;

/// Size of the drawing, and of the plotting area in it: left, top, right, bottom.
const SIZE: (f64, f64) = (760.0, 440.0);
const AREA: (f64, f64, f64, f64) = (64.0, 16.0, 740.0, 392.0);
/// About what a character of a label takes, and its height.
const GLYPH: (f64, f64) = (6.4, 13.0);

const STYLE: &str = "
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2330; --soft: #5b6472;
  --rule: #dfe3ea; --dial: #0b62c4; --point: #b3420d; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181f; --ink: #e6e9ef; --soft: #9aa4b2; --rule: #2b323d; --dial: #6cb0ff;
    --point: #ff9a63; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  max-width: 780px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p, figcaption { color: var(--soft); overflow-wrap: anywhere; } figure { margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--rule); }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .tick { fill: var(--soft); } svg .grid { stroke: var(--rule); }
svg .dial { stroke: var(--dial); fill: none; stroke-width: 2; }
svg .step { fill: var(--dial); } svg .point { fill: var(--point); }
";

/// The page.
pub(super) fn render(report: &Value, points: &[Point]) -> String {
    let lines = summary(report);
    let mut page = String::new();
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n\
         <title>Basis {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>What the codings make of these rows</h1>\n",
        escape(report["id_short"].as_str().unwrap_or_default())
    );
    for line in &lines {
        let _ = writeln!(page, "<p>{}</p>", escape(line));
    }
    page.push_str("<h2>Error against size</h2>\n<figure>\n");
    page.push_str(&drawing(points));
    page.push_str(
        "<figcaption>Left is smaller, down is better. The line is the dial of rotated: its step in \
         units of a row's root mean square.</figcaption>\n</figure>\n<h2>Numbers</h2>\n\
         <div class=\"wide\">\n<table>\n",
    );
    let _ = writeln!(page, "<thead><tr>{}</tr></thead>\n<tbody>", cells("th", &HEAD));
    for point in points {
        let _ = writeln!(page, "<tr>{}</tr>", cells("td", &point.cells()));
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
    page.push_str(
        "<p>Relative error: norm of all errors over norm of all entries. SNR: the same in dB. \
         Cosine: between a row and what it became, mean.</p>\n</body>\n</html>\n",
    );
    page
}

fn cells<T: AsRef<str>>(tag: &str, texts: &[T]) -> String {
    texts.iter().fold(String::new(), |mut all, text| {
        let _ = write!(all, "<{tag}>{}</{tag}>", escape(text.as_ref()));
        all
    })
}

/// Text as it may stand between tags and in attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Control characters are not text in any page.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// Left, top, right, bottom.
type Area = (f64, f64, f64, f64);

fn overlap(a: Area, b: Area) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
}

fn drawing(points: &[Point]) -> String {
    let axes = Axes::of(points);
    let at = |bytes: f64, error: f64| {
        let (right, up) = axes.place(bytes, error);
        (AREA.0 + right * (AREA.2 - AREA.0), AREA.3 - up * (AREA.3 - AREA.1))
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Error against bytes a row\">\n",
        SIZE.0, SIZE.1
    );
    for tick in axes.error_ticks() {
        let y = at(axes.bytes.0, tick).1;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" />\n\
             <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            AREA.0,
            AREA.2,
            AREA.0 - 6.0,
            y + 4.0
        );
    }
    for tick in axes.byte_ticks() {
        let x = at(tick, 1.0).0;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{}\" />\n\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
            AREA.1,
            AREA.3,
            AREA.3 + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">bytes a row</text>\n\
         <text class=\"tick\" x=\"{}\" y=\"{}\">relative error</text>",
        AREA.2,
        AREA.3 + 38.0,
        AREA.0 + 6.0,
        AREA.1 + 10.0
    );
    let dial: Vec<String> = points
        .iter()
        .filter(|point| point.dial)
        .map(|point| at(point.bytes, point.error))
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let _ = writeln!(svg, "<polyline class=\"dial\" points=\"{}\" />", dial.join(" "));
    svg.push_str(&dots(points, at));
    svg.push_str("</svg>\n");
    svg
}

/// The points and their names, each name where it covers nothing if there is such a place.
fn dots(points: &[Point], at: impl Fn(f64, f64) -> (f64, f64)) -> String {
    let places: Vec<(f64, f64)> = points.iter().map(|p| at(p.bytes, p.error)).collect();
    let mut taken: Vec<Area> =
        places.iter().map(|(x, y)| (x - 5.0, y - 5.0, x + 5.0, y + 5.0)).collect();
    let mut svg = String::new();
    for (point, (x, y)) in points.iter().zip(&places) {
        let (class, radius) = if point.dial { ("step", 3.5) } else { ("point", 5.0) };
        let width = point.name.chars().count() as f64 * GLYPH.0;
        let beside = [
            (x + 9.0, y - GLYPH.1 / 2.0),
            (x - 9.0 - width, y - GLYPH.1 / 2.0),
            (x - width / 2.0, y - 9.0 - GLYPH.1),
            (x - width / 2.0, y + 9.0),
            (x + 6.0, y - 6.0 - GLYPH.1),
            (x + 6.0, y + 6.0),
            (x - 6.0 - width, y - 6.0 - GLYPH.1),
            (x - 6.0 - width, y + 6.0),
            (x + 12.0, y - 24.0 - GLYPH.1),
            (x + 12.0, y + 24.0),
            (x - 12.0 - width, y - 24.0 - GLYPH.1),
            (x - 12.0 - width, y + 24.0),
        ];
        let boxes = beside.map(|(left, top)| (left, top, left + width, top + GLYPH.1));
        let inside = |area: &Area| {
            area.0 >= AREA.0 && area.1 >= AREA.1 && area.2 <= SIZE.0 - 4.0 && area.3 <= AREA.3
        };
        let free = boxes
            .into_iter()
            .find(|area| inside(area) && !taken.iter().any(|other| overlap(*area, *other)));
        let label = free.unwrap_or(boxes[0]);
        taken.push(label);
        let name = escape(&point.name);
        let _ = writeln!(
            svg,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\">\
             <title>{name}: {:.1} bytes a row, relative error {:.4}</title></circle>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            point.bytes,
            point.error,
            label.0,
            label.3 - 3.0
        );
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Checks that tags close in order and that no bare `<` or `&` is left. Gives the text of every
    /// element of a name.
    fn parse(page: &str, wanted: &str) -> Vec<String> {
        let (mut open, mut found) = (Vec::new(), Vec::new());
        let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a page");
        while let Some(start) = rest.find('<') {
            let (text, tag) = rest.split_at(start);
            for part in text.split('&').skip(1) {
                let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
                assert!(known.iter().any(|name| part.starts_with(name)), "{part}");
            }
            if open.last() == Some(&wanted) {
                found.push(text.to_owned());
            }
            let end = tag.find('>').expect("a tag ends");
            let inside = &tag[1..end];
            assert!(!inside.contains('<'), "{inside}");
            rest = &tag[end + 1..];
            let name = inside.trim_start_matches('/').split([' ', '/']).next().expect("a name");
            if inside.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !inside.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
        found
    }

    fn points() -> Vec<Point> {
        let point = |at: usize, name: &str, bytes, error| Point {
            name: name.to_owned(),
            mark: char::from(b'a' + at as u8),
            dial: name.starts_with("rotated"),
            bytes,
            saving: 0.75,
            error,
            snr_db: 30.0,
            cosine: 0.999,
        };
        vec![
            point(0, "int8-channel", 384.0, 0.011),
            point(1, "int8-group", 408.0, 0.007),
            point(2, "int8-centred", 388.0, 0.012),
            point(3, "rotated 0.0625", 290.0, 0.018),
            point(4, "rotated 0.125", 227.0, 0.036),
            point(5, "rotated 0.25", 170.0, 0.07),
        ]
    }

    #[test]
    fn the_page_is_well_formed_and_names_every_coding() {
        let report = json!({
            "id_short": "0123456789abcdef",
            "basis": { "id": "01", "tensor": "<script>&\"'", "width": 384, "outliers": [] },
            "rows_judged": 64,
            "held_out": true,
        });
        let page = render(&report, &points());
        let (labels, cells) = (parse(&page, "text"), parse(&page, "td"));
        for point in points() {
            assert!(labels.contains(&point.name), "{}: {labels:?}", point.name);
            assert!(cells.contains(&point.name), "{}: {cells:?}", point.name);
        }
        let lower = page.to_lowercase();
        for bad in ["<script", "http:", "https:", "url(", "src="] {
            assert!(!lower.contains(bad), "{bad}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn names_do_not_cover_each_other() {
        let axes = Axes::of(&points());
        let svg = dots(&points(), |bytes, error| {
            let (right, up) = axes.place(bytes, error);
            (AREA.0 + right * (AREA.2 - AREA.0), AREA.3 - up * (AREA.3 - AREA.1))
        });
        let number = |line: &str, key: &str| -> f64 {
            let rest = line.split_once(&format!(" {key}=\"")).expect("attribute").1;
            rest.split_once('"').expect("quoted").0.parse().expect("a number")
        };
        let boxes: Vec<Area> = svg
            .lines()
            .filter(|line| line.starts_with("<text"))
            .zip(points())
            .map(|(line, point)| {
                let (left, bottom) = (number(line, "x"), number(line, "y") + 3.0);
                let width = point.name.len() as f64 * GLYPH.0;
                (left, bottom - GLYPH.1, left + width, bottom)
            })
            .collect();
        assert_eq!(boxes.len(), 6);
        for (at, one) in boxes.iter().enumerate() {
            assert!(boxes[at + 1..].iter().all(|other| !overlap(*one, *other)), "{boxes:?}");
        }
    }
}
