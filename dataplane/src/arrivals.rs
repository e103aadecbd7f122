//! When things were ready, around a moment: counts by distance, quantiles, and bars of text.

use std::fmt::Write as _;
use wire::mesh::bin_middle;

/// Counts by distance from the moment, nanoseconds; negative is before it. In rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrivals(Vec<(i64, u64)>);

impl Arrivals {
    /// From two histograms: how early, and how late.
    pub(crate) fn from_bins(early: &[(u16, u64)], late: &[(u16, u64)]) -> Self {
        let distance = |bin: u16| i64::try_from(bin_middle(bin)).unwrap_or(i64::MAX);
        let early = early.iter().map(|(bin, count)| (-distance(*bin), *count));
        let late = late.iter().map(|(bin, count)| (distance(*bin), *count));
        Self::sorted(early.chain(late).collect())
    }

    /// From the distances themselves.
    pub(crate) fn from_offsets(offsets: impl IntoIterator<Item = i64>) -> Self {
        Self::sorted(offsets.into_iter().map(|offset| (offset, 1)).collect())
    }

    fn sorted(mut points: Vec<(i64, u64)>) -> Self {
        points.retain(|(_, count)| *count > 0);
        points.sort_unstable();
        Self(points)
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The distance that a share `q` of all is at or before. None: nothing is there.
    pub(crate) fn quantile(&self, q: f64) -> Option<i64> {
        let total = self.count();
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut below = 0;
        self.0
            .iter()
            .find(|(_, count)| {
                below += count;
                below >= rank
            })
            .map(|(distance, _)| *distance)
    }

    /// Width of the middle part that holds this share of all.
    pub(crate) fn spread(&self, share: f64) -> Option<u64> {
        let tail = (1.0 - share) / 2.0;
        Some(self.quantile(1.0 - tail)?.abs_diff(self.quantile(tail)?))
    }
}

/// Rows of one width, the same for several histograms. The moment is the edge between two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Row `r` is from `(first + r) * width` to the next, nanoseconds.
    first: i64,
    rows: usize,
    width: i64,
}

/// Share of each end that may fall into the outermost rows, so that one straggler does not stretch
/// the axis.
const OUTLIERS: f64 = 0.001;

impl Axis {
    /// Rows that show all of these, `most` at most.
    pub(crate) fn over(all: &[&Arrivals], most: usize) -> Self {
        let ends = |q: f64| all.iter().filter_map(move |one| one.quantile(q));
        let low = ends(OUTLIERS).min().unwrap_or(0).min(0);
        let high = ends(1.0 - OUTLIERS).max().unwrap_or(0).max(0);
        // A row for each edge that is cut.
        let wanted = high.abs_diff(low).div_ceil(most.max(4) as u64 - 2).max(1);
        let width = round_up(i64::try_from(wanted).unwrap_or(i64::MAX));
        let first = low.div_euclid(width);
        let rows = (high.div_euclid(width) - first + 1).max(1) as usize;
        Self { first, rows, width }
    }

    /// How many fall into each row; those outside into the outermost.
    fn counts(&self, arrivals: &Arrivals) -> Vec<u64> {
        let mut rows = vec![0; self.rows];
        for (distance, count) in &arrivals.0 {
            let row = distance.div_euclid(self.width).saturating_sub(self.first);
            rows[row.clamp(0, self.rows as i64 - 1) as usize] += count;
        }
        rows
    }

    /// Where a row begins, nanoseconds.
    fn from(&self, row: usize) -> i64 {
        (self.first + row as i64).saturating_mul(self.width)
    }
}

/// 1, 2 or 5 times a power of ten, at least `value`.
fn round_up(value: i64) -> i64 {
    let mut power = 1_i64;
    loop {
        for step in [1, 2, 5] {
            match power.checked_mul(step) {
                Some(round) if round < value => {}
                Some(round) => return round,
                None => return value,
            }
        }
        match power.checked_mul(10) {
            Some(next) => power = next,
            None => return value,
        }
    }
}

/// A duration with a sign, in the unit that suits it.
pub(crate) fn signed(ns: i64) -> String {
    let sign = match ns {
        ..0 => "-",
        0 => "",
        _ => "+",
    };
    format!("{sign}{}", duration(ns.unsigned_abs()))
}

/// A duration in the unit that suits it.
pub(crate) fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0 => return "0".to_owned(),
        1..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let text = format!("{value:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

/// Histograms side by side over one axis: a heading over each, a label and a bar a row, and a line
/// at the moment. `width` is that of one bar, characters. The bars of one histogram have one scale.
pub(crate) fn draw(parts: &[(&str, &Arrivals)], rows: usize, width: usize) -> String {
    let all: Vec<&Arrivals> = parts.iter().map(|(_, arrivals)| *arrivals).collect();
    let axis = Axis::over(&all, rows);
    let counts: Vec<Vec<u64>> = all.iter().map(|arrivals| axis.counts(arrivals)).collect();
    let labels: Vec<String> = (0..axis.rows).map(|row| signed(axis.from(row))).collect();
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!("{:margin$}", "");
    for (heading, _) in parts {
        let _ = write!(text, "  {heading:<width$}");
    }
    let mut lines = vec![text.trim_end().to_owned()];
    for (row, label) in labels.iter().enumerate() {
        if axis.from(row) == 0 {
            let rule = "-".repeat(width);
            let rules: String = parts.iter().map(|_| format!("  {rule}")).collect();
            lines.push(format!("{:>margin$}{rules}", "T"));
        }
        let mut line = format!("{label:>margin$}");
        for counts in &counts {
            let _ = write!(line, "  {:<width$}", bar(counts[row], counts, width));
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

/// `######  1,234`: what is there at all is seen.
fn bar(count: u64, of: &[u64], width: usize) -> String {
    if count == 0 {
        return String::new();
    }
    let number = crate::say::grouped(count);
    let most = of.iter().copied().max().unwrap_or(1).max(1);
    let room = width.saturating_sub(crate::say::grouped(most).len() + 1).max(1);
    let marks = ((count as f64 / most as f64 * room as f64).round() as usize).max(1);
    format!("{} {number}", "#".repeat(marks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn a_histogram_has_a_line_at_the_moment_and_everybody_in_a_row() {
        let offsets = (0..90).map(|at| -at * MS).chain((1..=10).map(|at| at * MS));
        let arrivals = Arrivals::from_offsets(offsets);
        let text = draw(&[("ready", &arrivals)], 12, 30);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("ready"), "{text}");
        let moment =
            lines.iter().position(|line| line.trim_start().starts_with("T ")).expect(&text);
        assert!(lines[moment - 1].trim_start().starts_with("-10 ms"), "{text}");
        assert!(lines[moment + 1].trim_start().starts_with("0 "), "{text}");
        let counted: u64 = lines
            .iter()
            .filter(|line| line.contains('#'))
            .map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect(&text))
            .sum();
        assert_eq!(counted, 100, "{text}");
        assert!(lines.iter().all(|line| line.len() <= 12 + 30), "{text}");
    }

    #[test]
    fn two_histograms_share_the_axis_and_not_the_scale() {
        let here = Arrivals::from_offsets(std::iter::repeat_n(-MS, 1_000));
        let there = Arrivals::from_offsets((0..50).map(|at| -at * 10 * MS));
        let text = draw(&[("with", &here), ("without", &there)], 12, 24);
        assert!(text.contains("with ") && text.contains("without"), "{text}");
        assert!(text.contains("1,000"), "{text}");
        let rows = text.lines().filter(|line| line.contains('#')).count();
        assert!((8..=12).contains(&rows), "{text}");
    }

    #[test]
    fn durations_have_their_unit() {
        let texts =
            [0, 5, 5_400, 999_000, 12_340_000, 1_500_000_000, 120_000_000_000].map(duration);
        assert_eq!(texts, ["0", "5 ns", "5.4 us", "999 us", "12.3 ms", "1.5 s", "120 s"]);
        assert_eq!([signed(-2 * MS), signed(0), signed(2 * MS)], ["-2 ms", "0", "+2 ms"]);
    }

    #[test]
    fn nothing_and_one_are_drawn_too() {
        assert!(!draw(&[("ready", &Arrivals::default())], 10, 20).contains('#'));
        assert_eq!(Arrivals::default().quantile(0.5), None);
        let one = Arrivals::from_bins(&[], &[(2_112, 1)]);
        assert!(draw(&[("ready", &one)], 10, 20).contains("# 1"));
    }

    proptest! {
        #[test]
        fn any_distances_are_drawn_within_the_rows(
            offsets in proptest::collection::vec(any::<i64>(), 0..50),
            rows in 4..40_usize,
        ) {
            let arrivals = Arrivals::from_offsets(offsets.iter().copied());
            let axis = Axis::over(&[&arrivals], rows);
            prop_assert!(axis.rows <= rows + 1, "{axis:?}");
            prop_assert_eq!(axis.counts(&arrivals).iter().sum::<u64>(), offsets.len() as u64);
            let _ = draw(&[("any", &arrivals)], rows, 20);
        }
    }
}
