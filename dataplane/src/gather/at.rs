//! A moment as people write it: RFC 3339, or seconds since 1970.

use std::str::FromStr;

/// Nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At(pub(crate) u64);

/// Seconds that still fit, with their fraction.
const SECONDS_MAX: u64 = u64::MAX / 1_000_000_000 - 1;

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = if text.contains(['T', 't']) { rfc3339(text) } else { seconds(text) };
        parsed.map(Self).ok_or_else(|| {
            format!(
                "`{text}` is no moment; write for example 2030-01-01T00:00:00Z, \
                 2030-01-01T01:00:00.25+01:00 or 1893456000.5 (seconds since 1970)"
            )
        })
    }
}

/// `12.5` to nanoseconds.
fn seconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').map_or((text, None), |(a, b)| (a, Some(b)));
    let whole = number(whole, 1..=11).filter(|whole| *whole <= SECONDS_MAX)?;
    Some(whole * 1_000_000_000 + part.map_or(Some(0), fraction)?)
}

/// The digits behind a point, as nanoseconds; digits beyond the ninth are cut off.
fn fraction(digits: &str) -> Option<u64> {
    number(digits, 1..=30.min(digits.len().max(1)))?;
    let nine: String = digits.chars().chain("000000000".chars()).take(9).collect();
    nine.parse().ok()
}

/// Digits only, so many of them.
fn number(text: &str, len: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let plain = len.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    // Long fractions are cut before they are read, so what does not fit is only checked.
    if plain { Some(text.parse().unwrap_or(u64::MAX)) } else { None }
}

fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't'])?;
    let mut date = date.split('-');
    let year = number(date.next()?, 4..=4)?;
    let month = number(date.next()?, 2..=2).filter(|month| (1..=12).contains(month))?;
    let day = number(date.next()?, 2..=2)?;
    if date.next().is_some() || year < 1970 || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (clock, part) = clock.split_once('.').map_or((clock, None), |(a, b)| (a, Some(b)));
    let mut clock = clock.split(':');
    let hour = number(clock.next()?, 2..=2).filter(|hour| *hour < 24)?;
    let minute = number(clock.next()?, 2..=2).filter(|minute| *minute < 60)?;
    let second = number(clock.next()?, 2..=2).filter(|second| *second < 60)?;
    if clock.next().is_some() {
        return None;
    }
    let day_seconds = hour * 3600 + minute * 60 + second;
    let local = i64::try_from(days_before(year, month, day) * 86_400 + day_seconds).ok()?;
    let utc = u64::try_from(local - offset(zone)?).ok().filter(|utc| *utc <= SECONDS_MAX)?;
    Some(utc * 1_000_000_000 + part.map_or(Some(0), fraction)?)
}

/// Seconds by which a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'Z' | b'z' => return (zone.len() == 1).then_some(0),
        b'+' => 1,
        _ => -1,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let hours = number(hours, 2..=2).filter(|hours| *hours < 24)?;
    let minutes = number(minutes, 2..=2).filter(|minutes| *minutes < 60)?;
    Some(sign * i64::try_from(hours * 3600 + minutes * 60).ok()?)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to this day. Years have four digits, so counting them is quick.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_both_forms() {
        const S: u64 = 1_000_000_000;
        // By `date -u -d ... +%s`.
        for (text, ns) in [
            ("0", 0),
            ("1700000000", 1_700_000_000 * S),
            ("1700000000.000000001", 1_700_000_000 * S + 1),
            ("1700000000.25", 1_700_000_000 * S + S / 4),
            ("1.0000000009999", S),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00z", 951_825_600 * S),
            ("2023-11-14T22:13:20Z", 1_700_000_000 * S),
            ("2023-11-14T23:13:20.5+01:00", 1_700_000_000 * S + S / 2),
            ("2023-11-14T16:43:20-05:30", 1_700_000_000 * S),
            ("2100-03-01T00:00:00Z", 4_107_542_400 * S),
            ("2400-02-29T00:00:00Z", 13_574_563_200 * S),
        ] {
            assert_eq!(text.parse(), Ok(At(ns)), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "now",
            "-1",
            "+1",
            "1e9",
            "1.",
            ".5",
            "1700000000000",
            "1.5s",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-13-14T22:13:20Z",
            "2023-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:60:20Z",
            "2023-11-14T22:13:60Z",
            "2023-11-14T22:13Z",
            "2023-11-14T22:13:20ZZ",
            "2023-11-14T22:13:20+1:00",
            "2023-11-14T22:13:20+01:60",
            "9999-12-31T23:59:59Z",
            "23-11-14T22:13:20Z",
            "TZ",
        ] {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
    }
}
