//! The report of a calibration as a page: no scripts, nothing fetched, for light and for dark.

use super::{HEAD, Point, plot::Axes, summary};
use plot::{Axis, Chart, Mark, Page, Series, text::digits};
use serde_json::Value;

/// The page.
pub(super) fn render(report: &Value, points: &[Point]) -> String {
    let basis = report["id_short"].as_str().unwrap_or_default();
    let mut page = Page::new("What the codings make of these rows", &format!("basis {basis}"));
    for line in summary(report) {
        page.paragraph(&line);
    }
    page.heading("Error against size");
    page.figure(
        &drawing(points),
        "Left is smaller, down is better. The line is the dial of rotated: its step in units of a \
         row's root mean square.",
    );
    page.heading("Numbers");
    let rows: Vec<Vec<String>> = points.iter().map(|point| point.cells().to_vec()).collect();
    page.table("", &HEAD, &rows);
    page.paragraph(
        "Relative error: norm of all errors over norm of all entries. SNR: the same in dB. Cosine: \
         between a row and what it became, mean.",
    );
    page.finish()
}

fn drawing(points: &[Point]) -> Chart {
    let axes = Axes::of(points);
    let place =
        |point: &Point| plot::Point { x: point.bytes, y: point.error, name: point.name.clone() };
    let (dial, rest): (Vec<&Point>, Vec<&Point>) = points.iter().partition(|point| point.dial);
    let line = dial.iter().map(|point| plot::Point::new(point.bytes, point.error)).collect();
    // All names in one series, so that none covers another.
    let all = dial.iter().chain(&rest).map(|point| place(point)).collect();
    let series = |tone, mark, points| Series { name: String::new(), tone, mark, points };
    Chart {
        title: "Error against bytes a row".to_owned(),
        desc: format!("{} codings, and settings of them, by size and error.", points.len()),
        x: Axis::new("bytes a row", axes.bytes, digits),
        y: Axis::new("relative error", axes.error, digits),
        series: vec![series(0, Mark::Line, line), series(1, Mark::Named, all)],
        rules: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn the_page_names_every_coding_in_the_drawing_and_in_the_table() {
        let report = json!({
            "id_short": "0123456789abcdef",
            "basis": { "id": "01", "tensor": "<script>&\"'", "width": 384, "outliers": [] },
            "rows_judged": 64,
            "held_out": true,
        });
        let page = render(&report, &points());
        for point in points() {
            for tag in ["text", "td"] {
                assert!(page.contains(&format!(">{}</{tag}>", point.name)), "{tag} {}", point.name);
            }
        }
        assert!(!page.contains("<script"));
    }
}
