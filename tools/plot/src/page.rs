//! A page: headings, figures and tables under one style, for light, for dark and for paper.

use crate::{Chart, text::escape};
use std::fmt::Write as _;

/// Rows of a table that is folded away until asked for.
const OPEN_ROWS_MAX: usize = 16;

const STYLE: &str = "
:root { color-scheme: light; --paper: #ffffff; --ink: #1c2330; --soft: #5b6472; --rule: #dfe3ea;
  --card: #f5f7fa; --warn: #8a4b00; --warn-paper: #fff6e6; --t0: #0b62c4; --t1: #b3420d;
  --t2: #1d7a46; --t3: #7a3fb0; --t4: #5b6472; --bound: #b0122e; }
@media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --paper: #14181f; --ink: #e6e9ef; --soft: #9aa4b2; --rule: #2b323d;
    --card: #1c222c; --warn: #ffc46b; --warn-paper: #2b2415; --t0: #6cb0ff; --t1: #ff9a63;
    --t2: #5fd08c; --t3: #c79bff; --t4: #9aa4b2; --bound: #ff7d92; } }
* { box-sizing: border-box; }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  max-width: 860px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
p, figcaption, caption { color: var(--soft); overflow-wrap: anywhere; margin: .4rem 0; }
.lead { color: var(--ink); font-size: 1.05rem; }
figure { margin: .75rem 0; } caption { text-align: left; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem;
  margin: 1.25rem 0; padding: 0; list-style: none; }
.tiles li { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }
.tiles span { display: block; color: var(--soft); font-size: .85rem; }
.tiles b { display: block; font-size: 1.35rem; font-weight: 600; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
.notes { background: var(--warn-paper); border-left: 4px solid var(--warn); margin: 1rem 0;
  padding: .6rem 1rem .6rem 2rem; border-radius: 0 .5rem .5rem 0; }
.notes li { margin: .2rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--rule); }
td { white-space: nowrap; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
.words td { overflow-wrap: anywhere; white-space: normal; }
.words th { font-weight: normal; color: var(--soft); vertical-align: top; width: 14rem; }
thead th { color: var(--soft); font-weight: normal; vertical-align: bottom; }
tbody th { font-weight: normal; }
details { margin: .5rem 0; } summary { color: var(--soft); cursor: pointer; }
pre { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .tick { fill: var(--soft); } svg .grid { stroke: var(--rule); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .ask { fill: transparent; } svg .ask:hover { stroke: var(--ink); }
svg .rule { stroke: var(--bound); stroke-dasharray: 6 3; } svg .word { fill: var(--bound);
  paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
svg .t0.line { stroke: var(--t0); } svg .t0.dot, svg .t0.bar { fill: var(--t0); }
svg .t1.line { stroke: var(--t1); stroke-dasharray: 8 3; }
svg .t1.dot, svg .t1.bar { fill: var(--t1); }
svg .t2.line { stroke: var(--t2); stroke-dasharray: 2 3; }
svg .t2.dot, svg .t2.bar { fill: var(--t2); }
svg .t3.line { stroke: var(--t3); stroke-dasharray: 10 3 2 3; }
svg .t3.dot, svg .t3.bar { fill: var(--t3); }
svg .t4.line { stroke: var(--t4); stroke-width: 1.5; }
svg .t4.dot, svg .t4.bar { fill: var(--t4); }
@media print { body { max-width: none; margin: 0; font-size: 11pt; }
  figure, .tiles, table { break-inside: avoid; } h2 { break-after: avoid; } }
";

/// A figure that stands out at the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// What it is.
    pub name: String,
    /// The number, with its unit.
    pub value: String,
    /// A word below it.
    pub note: String,
}

impl Tile {
    /// A tile.
    pub fn new(name: impl Into<String>, value: impl Into<String>, note: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), note: note.into() }
    }
}

/// A page that is being written, from top to bottom. All texts are escaped here.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    body: String,
    figures: u32,
}

impl Page {
    /// A page with a title, and a line below it.
    #[must_use]
    pub fn new(title: &str, line: &str) -> Self {
        let body = format!("<h1>{}</h1>\n<p>{}</p>\n", escape(title), escape(line));
        Self { title: escape(title), body, figures: 0 }
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(text));
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// What the page has to say, in a sentence.
    pub fn lead(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"lead\">{}</p>", escape(text));
    }

    /// What is to be read with care, one line each; nothing where there is none.
    pub fn notes<T: AsRef<str>>(&mut self, notes: &[T]) {
        self.list("<ul class=\"notes\">", notes);
    }

    fn list<T: AsRef<str>>(&mut self, open: &str, lines: &[T]) {
        if lines.is_empty() {
            return;
        }
        let items = lines.iter().map(|line| format!("<li>{}</li>", escape(line.as_ref())));
        let items = items.collect::<Vec<_>>().join("\n");
        let _ = writeln!(self.body, "{open}\n{items}\n</ul>");
    }

    /// Figures that stand out.
    pub fn tiles(&mut self, tiles: &[Tile]) {
        self.body.push_str("<ul class=\"tiles\">\n");
        for Tile { name, value, note } in tiles {
            let _ = writeln!(
                self.body,
                "<li><span>{}</span><b>{}</b><span>{}</span></li>",
                escape(name),
                escape(value),
                escape(note)
            );
        }
        self.body.push_str("</ul>\n");
    }

    /// Names and what is so named.
    pub fn facts(&mut self, facts: &[(String, String)]) {
        self.body.push_str("<div class=\"wide\"><table class=\"words\"><tbody>\n");
        for (name, what) in facts {
            let (name, what) = (escape(name), escape(what));
            let _ = writeln!(self.body, "<tr><th scope=\"row\">{name}</th><td>{what}</td></tr>");
        }
        self.body.push_str("</tbody></table></div>\n");
    }

    /// A table; a long one is folded away until asked for. Every row has as many cells as the head.
    pub fn table(&mut self, caption: &str, head: &[&str], rows: &[Vec<String>]) {
        let folded = rows.len() > OPEN_ROWS_MAX;
        if folded {
            let _ = writeln!(self.body, "<details><summary>{}</summary>", escape(caption));
        }
        self.body.push_str("<div class=\"wide\"><table>");
        if !folded && !caption.is_empty() {
            let _ = write!(self.body, "<caption>{}</caption>", escape(caption));
        }
        let heads = head.iter().map(|text| format!("<th scope=\"col\">{}</th>", escape(text)));
        let heads = heads.collect::<String>();
        let _ = writeln!(self.body, "\n<thead><tr>{heads}</tr></thead>\n<tbody>");
        for row in rows {
            let cells = row.iter().map(|cell| format!("<td>{}</td>", escape(cell)));
            let _ = writeln!(self.body, "<tr>{}</tr>", cells.collect::<String>());
        }
        self.body.push_str("</tbody></table></div>\n");
        if folded {
            self.body.push_str("</details>\n");
        }
    }

    /// A chart with a line below it.
    pub fn figure(&mut self, chart: &Chart, caption: &str) {
        self.figures += 1;
        let svg = chart.svg(&format!("chart-{}", self.figures));
        let caption = escape(caption);
        let _ = writeln!(self.body, "<figure>\n{svg}<figcaption>{caption}</figcaption>\n</figure>");
    }

    /// Text as it was typed.
    pub fn typed(&mut self, text: &str) {
        let _ = writeln!(self.body, "<pre>{}</pre>", escape(text));
    }

    /// The whole page. It may run no script and fetch nothing, and says so to the browser.
    #[must_use]
    pub fn finish(self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'unsafe-inline'\" />\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n\
             <body>\n<main>\n{}</main>\n</body>\n</html>\n",
            self.title, self.body
        )
    }
}
