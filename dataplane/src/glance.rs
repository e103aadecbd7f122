//! An overview in words and marks, as `status` and `top` show it.

use crate::{say::grouped, units::Bytes};
use overview::{Bar, Gather, Standing};

/// A standing's mark where letters beyond ASCII are understood, where they are not, and its colour
/// (the code of SGR): never told by colour alone.
pub(crate) const fn mark(standing: Standing) -> (char, char, &'static str) {
    match standing {
        Standing::Ready => ('█', '#', "32"),
        Standing::Trusted => ('▓', '+', "1;97"),
        Standing::Busy => ('▒', '=', "31"),
        Standing::Unknown => ('░', '?', "33"),
        Standing::Offline => ('·', '.', "90"),
    }
}

/// `33.4%`, from tenths of a percent.
pub(crate) fn permille(permille: u32) -> String {
    format!("{}.{}%", permille / 10, permille % 10)
}

/// `33.4%`, from a share of 0 to 1.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Every standing with its share and its count.
pub(crate) fn legend(bar: &Bar) -> Vec<(Standing, String)> {
    let of = |part: &overview::Part| {
        let (share, count) = (permille(part.permille), grouped(part.count));
        (part.standing, format!("{} {share} ({count})", part.standing.name()))
    };
    bar.parts.iter().map(of).collect()
}

/// `12 s`, `3 min 20 s`, `5 h 2 min`, `4 d 5 h`: the two largest units.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match (seconds, hours) {
        (..60, _) => format!("{seconds} s"),
        (_, 0) => format!("{minutes} min {} s", seconds % 60),
        (_, ..24) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// `3 s ago`; `never` for 0.
pub(crate) fn ago(now_ms: u64, then_ms: u64) -> String {
    match then_ms {
        0 => "never".to_owned(),
        then => format!("{} ago", span(now_ms.saturating_sub(then))),
    }
}

/// `0.42 ms`, `12.3 ms`, `1.52 s`.
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.2} ms"),
        ..1_000.0 => format!("{ms:.1} ms"),
        _ => format!("{:.2} s", ms / 1e3),
    }
}

/// Something per second.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        ..10.0 => format!("{per_second:.1}"),
        // A cast of what is too large is the largest.
        _ => grouped(per_second as u64),
    }
}

/// Bytes per second.
pub(crate) fn bytes(per_second: f64) -> String {
    format!("{}/s", Bytes(per_second as u64))
}

/// What came of a gather, in a line.
pub(crate) fn gather(row: &Gather) -> String {
    let mut text = format!(
        "{}, {} of {} in time, {}",
        row.decision.replace('_', " "),
        grouped(row.in_time.into()),
        grouped(row.sent.into()),
        milliseconds(row.took_ms),
    );
    for (count, what) in [
        (row.late, "late"),
        (row.conflicts, "in conflict"),
        (row.silent, "silent"),
        (row.skipped, "skipped"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {} {what}", grouped(count.into())));
        }
    }
    text
}

/// An indicator, what is asked of it, and whether it holds. Those without a case are left out.
pub(crate) fn indicators(mesh: &overview::Mesh) -> Vec<(&'static str, String, bool)> {
    let least = [
        ("success", "gathers that proceed", 0.99),
        ("window_hit", "ready by the moment", 0.95),
        ("accuracy", "predicted within 50 ms", 0.90),
        ("availability", "time with 95% active", 0.999),
        ("recovery", "outages over in time", 1.0),
    ];
    let mut found: Vec<_> = least
        .iter()
        .filter_map(|(key, what, least)| {
            let share = *mesh.kpi.get(*key)?;
            let text = format!("{}, at least {}", percent(share), percent(*least));
            Some((*what, text, share >= *least))
        })
        .collect();
    if let Some(share) = mesh.kpi.get("conflict") {
        found.push(("conflicts", format!("{}, at most 1.0%", percent(*share)), *share <= 0.01));
    }
    if mesh.cascade_p95_ms > 0.0 {
        let took = milliseconds(mesh.cascade_p95_ms);
        let text = format!("{took}, at most 1 s");
        found.push(("gathers take (p95)", text, mesh.cascade_p95_ms <= 1_000.0));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        let spans = [0, 59_999, 60_000, 3_600_000, 26 * 3_600_000].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min 0 s", "1 h 0 min", "1 d 2 h"]);
        assert_eq!(
            (ago(9, 0), ago(4_000, 1_000), ago(1, 2)),
            ("never".to_owned(), "3 s ago".to_owned(), "0 s ago".to_owned())
        );
        assert_eq!([0.5, 12.34, 1_520.0].map(milliseconds), ["0.50 ms", "12.3 ms", "1.52 s"]);
        assert_eq!([0.25, 12_345.6, f64::NAN].map(rate), ["0.2", "12,345", "0"]);
    }

    #[test]
    fn kpi_01_to_07_each_indicator_stands_beside_what_is_asked_of_it() {
        let mut mesh = overview::Mesh { cascade_p95_ms: 1_200.0, ..overview::Mesh::default() };
        for (key, share) in
            [("success", 0.98), ("conflict", 0.02), ("window_hit", 0.96), ("recovery", 1.0)]
        {
            mesh.kpi.insert(key.to_owned(), share);
        }
        let shown = indicators(&mesh);
        let holds: Vec<_> = shown.iter().map(|(what, _, holds)| (*what, *holds)).collect();
        assert_eq!(
            holds,
            [
                ("gathers that proceed", false),
                ("ready by the moment", true),
                ("outages over in time", true),
                ("conflicts", false),
                ("gathers take (p95)", false)
            ]
        );
        assert_eq!(shown[0].1, "98.0%, at least 99.0%");
        assert!(indicators(&overview::Mesh::default()).is_empty());
    }

    #[test]
    fn a_gather_says_what_became_of_everybody() {
        let row = Gather {
            decision: "resolve_conflicts".to_owned(),
            in_time: 1_200,
            sent: 1_300,
            conflicts: 3,
            took_ms: 412.0,
            ..Gather::default()
        };
        let text = "resolve conflicts, 1,200 of 1,300 in time, 412.0 ms, 3 in conflict";
        assert_eq!(gather(&row), text);
    }
}
