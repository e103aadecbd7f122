//! Calls that a sans-IO package must not make, each with what to do in its place.

use super::{Finding, source::Rust};

/// Sources of packages that never do I/O and never read a clock. Their tests may.
const SANS_IO: [&str; 5] = [
    "dataplane/core/src/",
    "wire/src/",
    "wire/client/src/policy",
    "wire/codec/src/",
    "kernels/src/",
];

const BANS: [(&str, &str); 12] = [
    ("Instant::now", "take `now` as an argument"),
    ("SystemTime", "take the time as an argument, or `Driver::epoch_ns`"),
    ("thread::sleep", "hand the next due time to `Driver::flush`"),
    ("thread::spawn", "threads belong to the assembly, not to a core"),
    ("std::net", "speak to the peer through `Driver`"),
    ("std::fs", "take bytes or a reader"),
    ("std::process", "return an error; the assembly decides"),
    ("println!", "return it, or count it"),
    ("eprintln!", "return it, or count it"),
    ("print!", "return it, or count it"),
    ("eprint!", "return it, or count it"),
    ("std::env::var", "take it as an argument: one plan, passed in"),
];

/// Findings of one file.
pub(crate) fn check(file: &Rust) -> Vec<Finding> {
    let of_tests = file.path.ends_with("/tests.rs");
    if of_tests || !SANS_IO.iter().any(|folder| file.path.starts_with(folder)) {
        return Vec::new();
    }
    let tests = file.test_stretches();
    let mut findings = Vec::new();
    for (call, instead) in BANS {
        for at in file.words(call).filter(|at| !tests.iter().any(|test| test.contains(at))) {
            let what = format!("`{call}` in a sans-IO package: {instead}");
            findings.push(Finding::new(&file.path, file.line_of(at), what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_calls_are_found_outside_tests_only() {
        let text = "fn a() {\n    std::time::Instant::now();\n}\n\
                    #[cfg(test)]\nmod tests {\n    fn b() { println!(); }\n}\n";
        let findings = check(&Rust::new("wire/src/a.rs", text));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
        assert!(check(&Rust::new("tools/blast/src/a.rs", text)).is_empty());
        assert!(check(&Rust::new("wire/src/a/tests.rs", text)).is_empty());
    }
}
