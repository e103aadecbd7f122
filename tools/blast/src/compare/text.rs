//! A comparison in words.

use super::{Comparison, Row, Side, Verdict};
use crate::terminal::table;
use plot::text::{digits, micros, short};

/// A share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{}%", digits(share * 100.0))
}

/// A change as a percentage, with its sign.
pub(crate) fn signed(change: f64) -> String {
    format!("{}{}", if change >= 0.0 { "+" } else { "-" }, percent(change.abs()))
}

/// A figure with its unit.
pub(crate) fn figure(what: &str, value: Option<f64>) -> String {
    match (what, value) {
        (_, None) => "-".to_owned(),
        ("rate", Some(rate)) => format!("{}/s", short(rate)),
        (_, Some(us)) => micros(us).replace('µ', "u"),
    }
}

/// `p99.9` for `p999`.
pub(crate) fn name(what: &str) -> &str {
    if what == "p999" { "p99.9" } else { what }
}

/// Why a figure fails.
pub(super) fn failure(row: &Row, tolerance: f64) -> String {
    let change = row.change.map_or_else(String::new, signed);
    format!("{} {change}, beyond the {} that is tolerated", name(&row.what), percent(tolerance))
}

/// The verdict over all figures that decide.
pub(super) fn words(rows: &[Row], failures: &[String]) -> String {
    let of = |wanted: Verdict| {
        let named = rows.iter().filter(|row| row.decides && row.verdict == wanted);
        let said = named.map(|row| {
            format!("{} {}", name(&row.what), row.change.map_or_else(String::new, signed))
        });
        said.collect::<Vec<_>>().join(", ")
    };
    let (better, worse) = (of(Verdict::Better), of(Verdict::Worse));
    let unknown = rows.iter().any(|row| row.decides && row.verdict == Verdict::Unknown);
    let mut words = match (better.is_empty(), worse.is_empty()) {
        (true, true) if unknown => {
            "too little was measured to tell a difference from chance: let runs last longer"
                .to_owned()
        }
        (true, true) => "no difference that could not be chance".to_owned(),
        (false, true) => format!("B is faster: {better}"),
        (true, false) => format!("B is slower: {worse}"),
        (false, false) => format!("mixed: better {better}; worse {worse}"),
    };
    if !failures.is_empty() && worse.is_empty() {
        words.push_str(&format!("; {}", failures.join("; ")));
    }
    words
}

/// What the intervals take for granted.
pub(super) fn assumptions(a: &Side, b: &Side, rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    if rows.iter().any(|row| row.interval.is_some()) {
        lines.push(
            "An interval holds 95% of 2,000 draws, each figure for itself: stretches of each run \
             drawn with replacement, in blocks of neighbours. It takes for granted that a run was \
             steady and that stretches further apart than a block do not depend on each other."
                .to_owned(),
        );
    }
    let fewest = a.files.len().min(b.files.len());
    if fewest == 1 {
        lines.push(
            "One run of a side: the interval knows what varies within a run, not what varies from \
             run to run (placement, neighbours, clocks). Measure each side several times, in \
             alternation, and give all files with --a and --b."
                .to_owned(),
        );
    } else if fewest < 5 {
        lines.push(format!(
            "Runs are drawn first, then stretches in them; with {fewest} runs of a side the \
             interval is rather too narrow. Five or more are better."
        ));
    }
    lines
}

impl Verdict {
    /// One word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "same",
            Self::Unknown => "unknown",
        }
    }
}

impl Comparison {
    /// For people, in so many columns.
    #[must_use]
    pub fn text(&self, columns: u16) -> String {
        let head = ["", "A", "B", "change", "95% interval", ""].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let mut text = format!("{}\n\n{}\n", self.words, table(&rows, columns));
        for (name, side) in [("A", &self.a), ("B", &self.b)] {
            text.push_str(&format!(
                "\n{name}: {} answers of {} in {}, {} without a good answer",
                side.ok,
                side.load.op,
                if side.files.len() == 1 {
                    "one run".to_owned()
                } else {
                    format!("{} runs", side.files.len())
                },
                percent(side.unanswered)
            ));
        }
        for difference in &self.differences {
            text.push_str(&format!("\nnot alike: {difference}"));
        }
        for line in &self.assumes {
            text.push_str(&format!("\n{line}"));
        }
        text
    }
}

impl Row {
    /// As a row of a table.
    pub(crate) fn cells(&self) -> Vec<String> {
        let interval = self.interval.map_or_else(
            || "-".to_owned(),
            |(low, high)| format!("{} to {}", signed(low), signed(high)),
        );
        vec![
            name(&self.what).to_owned(),
            figure(&self.what, self.a),
            figure(&self.what, self.b),
            self.change.map_or_else(|| "-".to_owned(), signed),
            interval,
            self.verdict.word().to_owned(),
        ]
    }
}
