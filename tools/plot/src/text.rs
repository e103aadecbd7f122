//! Text that may stand in a page, and numbers that people read at a glance.

/// Text as it may stand between tags and in attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Control characters, and the two that no document may hold, are not text in any page.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// Three digits: `0`, `0.05`, `1.23`, `45.6`, `789`, `1230`; `-` for what is no number.
#[must_use]
pub fn digits(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let size = value.abs();
    let places = match size {
        _ if size == 0.0 || size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => (2.0 - size.log10().floor()).min(9.0) as usize,
    };
    let text = format!("{value:.places$}");
    match text.split_once('.') {
        Some((whole, part)) => match part.trim_end_matches('0') {
            "" => whole.to_owned(),
            part => format!("{whole}.{part}"),
        },
        None => text,
    }
}

/// Three digits and a unit of thousands: `950`, `1.2k`, `34.5M`.
#[must_use]
pub fn short(value: f64) -> String {
    for (unit, name) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        // What rounds up to the next unit is written in it.
        if value.abs() >= unit * 0.999_5 {
            return format!("{}{name}", digits(value / unit));
        }
    }
    digits(value)
}

/// Microseconds in the unit that suits them: `850 ns`, `12.3 µs`, `4.5 ms`, `2 s`.
#[must_use]
pub fn micros(us: f64) -> String {
    if !us.is_finite() {
        return "-".to_owned();
    }
    let (unit, name) = match us.abs() {
        size if size >= 999_500.0 => (1e6, "s"),
        size if size >= 999.5 => (1e3, "ms"),
        size if size >= 0.999_5 || size == 0.0 => (1.0, "µs"),
        _ => (1e-3, "ns"),
    };
    format!("{} {name}", digits(us / unit))
}

/// Bytes in powers of 1,024: `512 B`, `1.5 KiB`, `64 GiB`.
#[must_use]
pub fn bytes(count: f64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let fits =
        units.iter().enumerate().rev().find(|(at, _)| count >= 1024_f64.powi(*at as i32 + 1));
    match fits {
        Some((at, name)) => format!("{} {name}", digits(count / 1024_f64.powi(at as i32 + 1))),
        None => format!("{} B", digits(count)),
    }
}

/// A whole number in groups of three: `1,234,567`.
#[must_use]
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let seen = [0.0, 0.05, 0.012345, 1.239, 45.67, 100.0, 789.4, 1230.0, f64::NAN].map(digits);
        assert_eq!(seen, ["0", "0.05", "0.0123", "1.24", "45.7", "100", "789", "1230", "-"]);
        let seen = [950.0, 999.7, 1234.0, 34_500_000.0, 2e12].map(short);
        assert_eq!(seen, ["950", "1k", "1.23k", "34.5M", "2T"]);
        let seen = [0.0, 0.85, 12.34, 4_500.0, 999_700.0, 2e6, f64::INFINITY].map(micros);
        assert_eq!(seen, ["0 µs", "850 ns", "12.3 µs", "4.5 ms", "1 s", "2 s", "-"]);
        assert_eq!([512.0, 1536.0, 68_719_476_736.0].map(bytes), ["512 B", "1.5 KiB", "64 GiB"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn nothing_leaves_its_place() {
        assert_eq!(escape("<a b='c' d=\"e\">&\u{1}\u{ffff}"), {
            "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;  "
        });
    }
}
