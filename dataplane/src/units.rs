//! Sizes and times as people write them: `2MiB`, `64 KiB`, `10ms`, `5s`. One reading for flags and
//! files.

use serde::{Deserialize, Deserializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) u64);

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

const BYTE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const TIME_UNITS: [(&str, u64); 5] =
    [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000)];

/// `number unit`, the unit from a closed list, case as printed. No unit is an error for times:
/// `--batch-wait 10` would otherwise mean ten of something that the reader has to guess.
fn parse(text: &str, units: &[(&str, u64)], bare: Option<u64>) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.replace('_', "").parse().ok()?;
    let unit = unit.trim();
    let factor = if unit.is_empty() {
        bare?
    } else {
        units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1
    };
    number.checked_mul(factor)
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, &BYTE_UNITS, Some(1))
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a size; write for example 4096, 64KiB or 2MiB"))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, &TIME_UNITS, None)
            .map(|ns| Self(Duration::from_nanos(ns)))
            .ok_or_else(|| format!("`{text}` is not a time; write for example 500us, 10ms or 5s"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = BYTE_UNITS
            .iter()
            .filter(|(unit, _)| unit.len() != 2)
            .find(|(_, factor)| self.0 >= *factor)
            .unwrap_or(&("B", 1));
        let whole = self.0 as f64 / *factor as f64;
        if self.0.is_multiple_of(*factor) {
            write!(f, "{whole:.0} {unit}")
        } else {
            write!(f, "{whole:.1} {unit}")
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)
            .map_err(|_| de::Error::custom("expected a size such as 65536 or \"2MiB\""))?
        {
            Either::Number(bytes) => Ok(Self(bytes)),
            Either::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)
            .map_err(|_| de::Error::custom("expected a time in quotes such as \"10ms\""))?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64KiB", 65_536),
            ("2 mib", 2 << 20),
            ("1_000", 1000),
            ("3MB", 3_000_000),
        ] {
            assert_eq!(text.parse::<Bytes>(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "KiB", "-1", "2.5MiB", "1 parsec", "99999999999GiB", "0x10"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert_eq!(Bytes(2 << 20).to_string(), "2 MiB");
        assert_eq!(Bytes((2 << 20) + (1 << 19)).to_string(), "2.5 MiB");
        assert_eq!(Bytes(0).to_string(), "0 B");
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!("10ms".parse(), Ok(Span(Duration::from_millis(10))));
        assert_eq!("5s".parse(), Ok(Span(Duration::from_secs(5))));
        assert_eq!("2m".parse(), Ok(Span(Duration::from_secs(120))));
        for text in ["10", "", "ms", "10 days", "-5s", "1e3s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
