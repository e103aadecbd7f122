//! Words for people and for programs that read them. A reader that is gone is no reason to fail, so
//! `println!` and `eprintln!`, which panic then, are not used in this program.

use std::io::Write as _;

/// One line on standard output, at once: results, and what other programs wait for.
pub(crate) fn out(line: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", line.as_ref()).and_then(|()| out.flush());
}

/// One line on standard error: what happens meanwhile.
pub(crate) fn note(line: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", line.as_ref());
}

/// `1 shard`, `2 shards`.
pub(crate) fn count(number: impl Into<u64>, what: &str) -> String {
    match number.into() {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!([0_u32, 1, 2].map(|n| count(n, "shard")), ["0 shards", "1 shard", "2 shards"]);
    }
}
