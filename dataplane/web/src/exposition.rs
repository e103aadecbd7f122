//! The text format of Prometheus, version 0.0.4. Kinds and words of the names are those of
//! [`dataplane_core::stats::names`].

use dataplane_core::stats::{
    Value,
    names::{self, Kind},
};
use std::{
    collections::BTreeMap,
    fmt::{self, Display, Write as _},
};
use wire::payload::Number;

/// Series by their names and their labels, these as [`dataplane_core::stats::labels`] writes them.
pub type Series = BTreeMap<(&'static str, String), Value>;

/// All of them, family by family.
#[must_use]
pub fn render(series: &Series) -> String {
    let mut text = String::new();
    let mut family = "";
    for ((name, labels), value) in series {
        if family != *name {
            family = name;
            head(&mut text, name, value);
        }
        value.spell(name, labels, &mut |name, labels, number| {
            // Writing to a string cannot fail.
            let _ = match labels {
                "" => writeln!(text, "{name} {}", Spelled(number)),
                _ => writeln!(text, "{name}{{{labels}}} {}", Spelled(number)),
            };
        });
    }
    text
}

/// What a family is and says. A name without an entry is no reason to hide its figures.
fn head(text: &mut String, name: &str, value: &Value) {
    let known = names::find(name);
    if let Some(known) = known {
        let _ = writeln!(text, "# HELP {name} {}", known.help);
    }
    let kind = match (known.map(|known| known.kind), value) {
        (_, Value::Spread(_)) => Kind::Histogram.name(),
        (Some(kind), _) => kind.name(),
        (None, _) => "untyped",
    };
    let _ = writeln!(text, "# TYPE {name} {kind}");
}

/// A number as the format has it.
struct Spelled(Number);

impl Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Number::Count(count) => write!(f, "{count}"),
            Number::Real(real) if real.is_nan() => f.write_str("NaN"),
            Number::Real(real) if real.is_infinite() => {
                f.write_str(if real > 0.0 { "+Inf" } else { "-Inf" })
            }
            Number::Real(real) => write!(f, "{real}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_core::stats::{BOUNDS, Spread, labels};
    use proptest::prelude::*;

    const GAUGE: &str = "butterfly_identities";

    fn lines(series: Series) -> Vec<String> {
        let text = render(&series);
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn metr_08_families_samples_and_histograms_read_as_the_format_has_them() {
        let mut spread = Spread::default();
        spread.put(20_000, 2);
        spread.put(u64::MAX, 1);
        spread.add_sum(1_250_000_000);
        let text = lines(Series::from([
            (("butterfly_bytes_total", "direction=\"in\"".to_owned()), Value::Count(u64::MAX)),
            (("butterfly_bytes_total", "direction=\"out\"".to_owned()), Value::Count(0)),
            ((GAUGE, String::new()), Value::Real(0.5)),
            (("butterfly_request_seconds", "operation=\"echo\"".to_owned()), Value::Spread(spread)),
            (("butterfly_zzz", String::new()), Value::Count(1)),
        ]));
        let help = |name| names::find(name).map_or("", |known| known.help);
        assert_eq!(
            text[0],
            format!("# HELP butterfly_bytes_total {}", help("butterfly_bytes_total"))
        );
        assert_eq!(
            text[1..4],
            [
                "# TYPE butterfly_bytes_total counter",
                "butterfly_bytes_total{direction=\"in\"} 18446744073709551615",
                "butterfly_bytes_total{direction=\"out\"} 0",
            ]
        );
        assert_eq!(text[5..7], ["# TYPE butterfly_identities gauge", "butterfly_identities 0.5"]);
        assert_eq!(text[8], "# TYPE butterfly_request_seconds histogram");
        let bucket = "butterfly_request_seconds_bucket{operation=\"echo\",le=";
        assert_eq!(text[9], format!("{bucket}\"0.00001\"}} 0"));
        assert_eq!(text[10], format!("{bucket}\"0.000025\"}} 2"));
        let after = 9 + BOUNDS.len();
        assert_eq!(text[after], format!("{bucket}\"+Inf\"}} 3"));
        assert_eq!(
            text[after + 1..],
            [
                "butterfly_request_seconds_sum{operation=\"echo\"} 1.25",
                "butterfly_request_seconds_count{operation=\"echo\"} 3",
                "# TYPE butterfly_zzz untyped",
                "butterfly_zzz 1",
            ]
        );
    }

    #[test]
    fn what_is_no_number_is_spelled_as_the_format_has_it() {
        for (real, spelled) in [
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (-0.5, "-0.5"),
        ] {
            let text = lines(Series::from([((GAUGE, String::new()), Value::Real(real))]));
            assert_eq!(text.last(), Some(&format!("{GAUGE} {spelled}")));
        }
    }

    #[test]
    fn no_help_breaks_its_line() {
        for known in names::NAMES {
            assert!(!known.help.contains(['\n', '\\']), "{}", known.name);
        }
    }

    /// A label's value as a reader of the format takes it, and what stands behind it.
    fn read_value(line: &str) -> Option<(String, &str)> {
        let start = line.find("=\"")? + 2;
        let mut letters = line[start..].char_indices();
        let mut value = String::new();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => return Some((value, &line[start + at + 1..])),
                '\\' => value.push(match letters.next()?.1 {
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
        fn any_label_and_number_comes_back_and_makes_no_line_of_its_own(
            value in "\\PC*|[\\\\\"\n a{},=]{0,12}",
            n in any::<u64>(),
            real in any::<f64>(),
        ) {
            let text = render(&Series::from([
                ((GAUGE, labels(&[("l", &value)])), Value::Count(n)),
                (("butterfly_zzz", String::new()), Value::Real(real)),
            ]));
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert_eq!(lines.len(), 6, "two heads, two samples, the end: {:?}", lines);
            let (read, rest) = read_value(lines[2]).expect("a value");
            prop_assert_eq!(read, value);
            prop_assert_eq!(rest, format!("}} {n}"));
            let read = lines[4].strip_prefix("butterfly_zzz ").expect("a sample");
            let read: f64 = read.parse().expect("a number");
            prop_assert!(read == real || (read.is_nan() && real.is_nan()));
        }
    }
}
