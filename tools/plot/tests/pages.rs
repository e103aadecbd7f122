//! Pages of anything: well-formed, without numbers that are none, and with every mark inside its
//! drawing.

use plot::{Axis, Chart, HEIGHT, Mark, Page, Point, Rule, Scale, Series, Tile, WIDTH, text};
use proptest::prelude::*;
use roxmltree::Document;

/// The page as a tree, after the line that is no XML.
fn parse(page: &str) -> Document<'_> {
    let xml = page.strip_prefix("<!DOCTYPE html>\n").expect("a page");
    Document::parse(xml).unwrap_or_else(|fault| panic!("{fault}: {page}"))
}

/// Every coordinate of every drawing is a number inside it.
fn check_drawings(page: &Document<'_>) -> usize {
    let mut marks = 0;
    let drawings = page.descendants().filter(|node| node.has_tag_name("svg"));
    for node in drawings.flat_map(|svg| svg.descendants().skip(1)) {
        for attribute in node.attributes() {
            let most = match attribute.name() {
                "x" | "x1" | "x2" | "cx" | "width" => WIDTH,
                "y" | "y1" | "y2" | "cy" | "height" => HEIGHT,
                "points" => {
                    for place in attribute.value().split(' ') {
                        let (x, y) = place.split_once(',').expect("two numbers");
                        inside(x, WIDTH);
                        inside(y, HEIGHT);
                        marks += 1;
                    }
                    continue;
                }
                _ => continue,
            };
            inside(attribute.value(), most);
            marks += 1;
        }
    }
    marks
}

fn inside(text: &str, most: f64) {
    let number: f64 = text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"));
    assert!((-0.05..=most).contains(&number), "{number} is outside of 0 to {most}");
}

fn chart(points: &[(f64, f64)], logarithmic: bool, mark: Mark, name: &str) -> Chart {
    let scale = |of: fn(&(f64, f64)) -> f64| match logarithmic {
        true => Scale::logarithmic(points.iter().map(of)),
        false => Scale::around(points.iter().map(of)),
    };
    let points = points.iter().map(|(x, y)| Point { x: *x, y: *y, name: name.to_owned() });
    let series = Series { name: name.to_owned(), tone: 7, mark, points: points.collect() };
    let rule = |level| Rule { at: 3.0, level, label: name.to_owned() };
    Chart {
        title: name.to_owned(),
        desc: name.to_owned(),
        x: Axis::new(name, scale(|point| point.0), text::short),
        y: Axis::new(name, scale(|point| point.1), text::micros),
        series: vec![series.clone(), series],
        rules: vec![rule(true), rule(false)],
    }
}

fn page(chart: &Chart, name: &str) -> String {
    let mut page = Page::new(name, name);
    page.heading(name);
    page.lead(name);
    page.paragraph(name);
    page.notes(&[name]);
    page.tiles(&[Tile::new(name, name, name)]);
    page.facts(&[(name.to_owned(), name.to_owned())]);
    page.figure(chart, name);
    page.figure(chart, name);
    page.table(name, &[name, name], &vec![vec![name.to_owned(), name.to_owned()]; 17]);
    page.typed(name);
    page.finish()
}

const MARKS: [Mark; 5] = [Mark::Line, Mark::Dotted, Mark::Dots, Mark::Bars, Mark::Named];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_points_and_any_words_make_a_sound_page(
        points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..30),
        logarithmic in any::<bool>(),
        mark in prop::sample::select(&MARKS[..]),
        name in any::<String>(),
    ) {
        let text = page(&chart(&points, logarithmic, mark, &name), &name);
        check_drawings(&parse(&text));
    }
}

#[test]
fn no_number_is_none() {
    let points = [(f64::NAN, 1.0), (1.0, f64::INFINITY), (2.0, 2.0), (3.0, f64::NAN), (4.0, 1e300)];
    for mark in MARKS {
        for logarithmic in [false, true] {
            let text = page(&chart(&points, logarithmic, mark, "one"), "one");
            let tree = parse(&text);
            assert!(check_drawings(&tree) > 0);
            let (_, body) = text.split_once("<body>").expect("a body");
            assert!(!body.contains("NaN") && !body.contains("inf"), "{body}");
        }
    }
}

#[test]
fn a_chart_says_in_words_what_it_shows() {
    let text = page(&chart(&[(1.0, 2.0), (2.0, 3.0)], false, Mark::Line, "cats & <dogs>"), "page");
    let tree = parse(&text);
    let mut ids = Vec::new();
    for svg in tree.descendants().filter(|node| node.has_tag_name("svg")) {
        let named = svg.attribute("aria-labelledby").expect("is labelled");
        for id in named.split(' ') {
            let by =
                svg.children().find(|node| node.attribute("id") == Some(id)).expect("is there");
            assert_eq!(by.text(), Some("cats & <dogs>"));
            ids.push(id.to_owned());
        }
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "two drawings, none named by the other's words");
}

#[test]
fn a_page_runs_nothing_and_fetches_nothing() {
    let text = page(&chart(&[], false, Mark::Line, "<script>x</script>"), "<script>x</script>");
    let tree = parse(&text);
    let lower = text.to_lowercase();
    for bad in ["<script", "http:", "https:", "url(", "src=", "onload", "@import"] {
        assert!(!lower.contains(bad), "{bad}");
    }
    assert!(tree.descendants().any(|node| {
        node.attribute("http-equiv") == Some("Content-Security-Policy")
            && node.attribute("content").is_some_and(|rule| rule.starts_with("default-src 'none'"))
    }));
    assert!(text.contains("prefers-color-scheme: dark") && text.contains("@media print"));
}
