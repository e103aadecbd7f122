//! The text format of Prometheus, version 0.0.4: families with their help and type, and samples.

use std::fmt::{self, Display, Write as _};

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many values lie under each bound.
    Histogram,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A sample's value.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// A count.
    Count(u64),
    /// A measure.
    Real(f64),
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Real(real) if real.is_nan() => f.write_str("NaN"),
            Self::Real(real) if real.is_infinite() => {
                f.write_str(if *real > 0.0 { "+Inf" } else { "-Inf" })
            }
            Self::Real(real) => write!(f, "{real}"),
        }
    }
}

/// A label's name and its value.
pub type Label<'a> = (&'a str, &'a str);

/// Writes families one after the other. Names of families and labels are ours and stand as they
/// are; help and values of labels may be any text.
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
    family: String,
}

impl Writer {
    /// Begins a family: all samples until the next one are of it.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.family.clear();
        self.family.push_str(name);
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {}", Escaped { text: help, quotes: false });
        let _ = writeln!(self.text, "# TYPE {name} {}", kind.name());
    }

    /// A sample of a counter or gauge.
    pub fn sample(&mut self, labels: &[Label<'_>], value: Value) {
        self.line("", labels, None, value);
    }

    /// A histogram: how many values lie at or under each bound, in growing order; how many there
    /// are and what they sum up to.
    pub fn histogram(
        &mut self,
        labels: &[Label<'_>],
        buckets: impl IntoIterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        for (bound, under) in buckets {
            let bound = Value::Real(bound).to_string();
            self.line("_bucket", labels, Some(("le", &bound)), Value::Count(under));
        }
        self.line("_bucket", labels, Some(("le", "+Inf")), Value::Count(count));
        self.line("_sum", labels, None, Value::Real(sum));
        self.line("_count", labels, None, Value::Count(count));
    }

    /// All that was written.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], last: Option<Label<'_>>, value: Value) {
        self.text.push_str(&self.family);
        self.text.push_str(suffix);
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            let _ =
                write!(self.text, "{before}{name}=\"{}\"", Escaped { text: value, quotes: true });
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// Text on one line.
struct Escaped<'a> {
    text: &'a str,
    quotes: bool,
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.text.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' if self.quotes => f.write_str("\\\"")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn families_samples_and_histograms_read_as_the_format_has_them() {
        let mut writer = Writer::default();
        writer.family("bytes_total", Kind::Counter, "Bytes, by\nway \\ and \"so\".");
        writer.sample(&[], Value::Count(u64::MAX));
        writer.sample(&[("way", "in"), ("who", "a\"b\\c\nd")], Value::Real(0.5));
        writer.family("wait_seconds", Kind::Histogram, "Waits.");
        writer.histogram(&[("op", "echo")], [(0.001, 1), (0.5, 3)], 4, 1.25);
        writer.family("odd", Kind::Gauge, "Odd.");
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -0.0] {
            writer.sample(&[], Value::Real(value));
        }
        let text = writer.finish();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..10],
            [
                "# HELP bytes_total Bytes, by\\nway \\\\ and \"so\".",
                "# TYPE bytes_total counter",
                "bytes_total 18446744073709551615",
                "bytes_total{way=\"in\",who=\"a\\\"b\\\\c\\nd\"} 0.5",
                "# HELP wait_seconds Waits.",
                "# TYPE wait_seconds histogram",
                "wait_seconds_bucket{op=\"echo\",le=\"0.001\"} 1",
                "wait_seconds_bucket{op=\"echo\",le=\"0.5\"} 3",
                "wait_seconds_bucket{op=\"echo\",le=\"+Inf\"} 4",
                "wait_seconds_sum{op=\"echo\"} 1.25",
            ]
        );
        assert_eq!(lines[10], "wait_seconds_count{op=\"echo\"} 4");
        assert_eq!(lines[13..16], ["odd NaN", "odd +Inf", "odd -Inf"]);
        assert!(text.ends_with('\n'));
    }

    /// A label's value as a reader of the format takes it.
    fn read_value(line: &str) -> Option<(String, &str)> {
        let mut rest = line.split_once("=\"")?.1.char_indices();
        let start = line.len() - rest.as_str().len();
        let mut value = String::new();
        while let Some((at, letter)) = rest.next() {
            match letter {
                '"' => return Some((value, &line[start + at + 1..])),
                '\\' => value.push(match rest.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_makes_no_line_of_its_own(
            help in "\\PC*|[\\\\\"\n a]{0,8}",
            value in "\\PC*|[\\\\\"\n a{},=]{0,12}",
            n in any::<u64>(),
            real in any::<f64>(),
        ) {
            let mut writer = Writer::default();
            writer.family("a", Kind::Gauge, &help);
            writer.sample(&[("l", &value)], Value::Count(n));
            writer.sample(&[], Value::Real(real));
            let text = writer.finish();
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert_eq!(lines.len(), 5, "two of the family, two samples, the end: {:?}", lines);
            let (read, rest) = read_value(lines[2]).expect("a value");
            prop_assert_eq!(read, value);
            prop_assert_eq!(rest, format!("}} {n}"));
            let read: f64 = lines[3].strip_prefix("a ").expect("a sample").parse().expect("a number");
            prop_assert!(read == real || (read.is_nan() && real.is_nan()));
        }
    }
}
