//! How counters are shown: series of a name, some labels and a value.

use core::fmt::Write;
use wire::payload::Number;

/// One count for exposition: name, label pair (or none), value.
pub type Visit<'a> = &'a mut dyn FnMut(&'static str, &'static str, &str, u64);

/// One value of any kind for exposition: name, label pairs, value.
pub type Show<'a> = &'a mut dyn FnMut(&'static str, &[(&'static str, &str)], Value);

/// Something with counters to show: a shard, a driver, a supervisor. Equal name and labels from
/// several sources are added up. Every name stands in [`super::names`].
pub trait Source: Send + Sync {
    /// Shows each count that has one label at most, once.
    fn visit(&self, visit: Visit<'_>);

    /// Shows what has several labels, is measured rather than counted, or is a histogram, once.
    fn show(&self, _show: Show<'_>) {}
}

/// What a series says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// A measured quantity.
    Real(f64),
    /// A histogram of durations.
    Spread(Spread),
}

impl Value {
    /// Adds the value of the same series from another source. Where the kinds differ, which is a
    /// mistake of a source, the first one stands.
    pub fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Count(own), Self::Count(more)) => *own = own.wrapping_add(*more),
            (Self::Real(own), Self::Real(more)) => *own += more,
            (Self::Spread(own), Self::Spread(more)) => own.merge(more),
            _ => debug_assert!(false, "one series of two kinds"),
        }
    }

    /// Shows the value as plain numbers: a histogram as its buckets in ascending order, its sum and
    /// its count, under the names that Prometheus gives them.
    pub fn spell(&self, name: &str, labels: &str, each: &mut dyn FnMut(&str, &str, Number)) {
        match self {
            Self::Count(count) => each(name, labels, Number::Count(*count)),
            Self::Real(real) => each(name, labels, Number::Real(*real)),
            Self::Spread(spread) => {
                let comma = if labels.is_empty() { "" } else { "," };
                let bucket = format!("{name}_bucket");
                for (bound, count) in spread.buckets() {
                    let labels = format!("{labels}{comma}le=\"{bound}\"");
                    each(&bucket, &labels, Number::Count(count));
                }
                each(&format!("{name}_sum"), labels, Number::Real(spread.sum_seconds()));
                each(&format!("{name}_count"), labels, Number::Count(spread.count()));
            }
        }
    }
}

/// Label pairs as they are written: `key="value"` with commas between, quotes, backslashes and line
/// breaks behind a backslash.
#[must_use]
pub fn labels(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs.iter().filter(|(key, _)| !key.is_empty()) {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{key}=\"");
        for c in value.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '\n' => text.push_str("\\n"),
                _ => text.push(c),
            }
        }
        text.push('"');
    }
    text
}

/// Upper bounds of a histogram's buckets: nanoseconds, and seconds as they are written.
pub const BOUNDS: [(u64, &str); 19] = [
    (10_000, "0.00001"),
    (25_000, "0.000025"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];

/// A histogram of durations, folded into [`BOUNDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Between two bounds each; the last one is above all bounds.
    counts: [u64; BOUNDS.len() + 1],
    sum_ns: u128,
}

impl Spread {
    /// So many durations that are at most this long, and longer than the bound below it.
    pub fn put(&mut self, ns: u64, count: u64) {
        let at = BOUNDS.partition_point(|(bound, _)| *bound < ns);
        self.counts[at] = self.counts[at].wrapping_add(count);
    }

    /// Adds to the sum of all durations.
    pub const fn add_sum(&mut self, ns: u128) {
        self.sum_ns = self.sum_ns.wrapping_add(ns);
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (own, more) in self.counts.iter_mut().zip(&other.counts) {
            *own = own.wrapping_add(*more);
        }
        self.add_sum(other.sum_ns);
    }

    /// How many durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// Their sum.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// For each bound in ascending order, `+Inf` last: how many durations are not longer.
    pub fn buckets(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let bounds = BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"]);
        bounds.zip(self.counts).scan(0_u64, |sum, (bound, n)| {
            *sum = sum.wrapping_add(n);
            Some((bound, *sum))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_bounds_are_inclusive() {
        let mut spread = Spread::default();
        for ns in [10_000, 10_001, 1_000_000_000, u64::MAX] {
            spread.put(ns, 1);
        }
        spread.add_sum(1_000_020_001);
        let buckets: Vec<_> = spread.buckets().collect();
        assert_eq!(buckets[0], ("0.00001", 1));
        assert_eq!(buckets[1], ("0.000025", 2));
        assert_eq!(buckets[14], ("0.5", 2));
        assert_eq!(buckets[15], ("1", 3));
        assert_eq!(buckets.last(), Some(&("+Inf", 4)));
        assert_eq!(spread.count(), 4);
        assert!((spread.sum_seconds() - 1.000_020_001).abs() < 1e-12);
    }

    #[test]
    fn bounds_ascend_and_say_what_they_are() {
        assert!(BOUNDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (ns, text) in BOUNDS {
            let seconds: f64 = text.parse().unwrap();
            assert_eq!((seconds * 1e9).round() as u64, ns);
        }
    }

    #[test]
    fn a_histogram_is_spelled_out_as_prometheus_does() {
        let mut spread = Spread::default();
        spread.put(1, 7);
        let mut lines = Vec::new();
        Value::Spread(spread).spell("x_seconds", "op=\"a\"", &mut |name, labels, value| {
            lines.push((name.to_owned(), labels.to_owned(), value));
        });
        assert_eq!(lines.len(), BOUNDS.len() + 3);
        let first = ("x_seconds_bucket".to_owned(), "op=\"a\",le=\"0.00001\"".to_owned());
        assert_eq!(lines[0], (first.0, first.1, Number::Count(7)));
        assert_eq!(lines[BOUNDS.len()].1, "op=\"a\",le=\"+Inf\"");
        let last = lines.last().unwrap();
        assert_eq!((last.0.as_str(), last.2), ("x_seconds_count", Number::Count(7)));
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(labels(&[]), "");
        assert_eq!(labels(&[("", "")]), "");
        assert_eq!(labels(&[("a", "1,2"), ("b", "\"\\\n")]), r#"a="1,2",b="\"\\\n""#);
    }
}
