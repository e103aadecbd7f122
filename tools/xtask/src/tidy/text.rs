//! What the text of a file must keep to: length, width, words that mean unfinished work.

use super::{Finding, source::Rust};

/// Longest file. Normal is 150 to 350.
const FILE_LINES_MAX: usize = 600;
/// Widest line, as `.rustfmt.toml` has it; rustfmt leaves comments and literals alone, this does
/// not.
const LINE_COLUMNS_MAX: usize = 100;

/// Marks of unfinished work, wherever they stand. Each is taken apart here so that this file
/// passes.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Code that must not be there, with what to do about it.
const CODE: [(&str, &str); 4] = [
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("dbg!", "take it out"),
    ("#[ignore", "a test that does not run proves nothing: make it run or delete it"),
];

/// A lint that a whole file is excused from must say why.
const EXCUSES: [&str; 2] = ["#![allow(", "#![expect("];

/// Findings of one file.
pub(crate) fn check(file: &Rust) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |line: usize, what: String| findings.push(Finding::new(&file.path, line, what));
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        say(0, format!("{lines} lines, {FILE_LINES_MAX} allowed: part it by concept"));
    }
    for (at, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > LINE_COLUMNS_MAX {
            say(at + 1, format!("{columns} columns, {LINE_COLUMNS_MAX} allowed"));
        }
        for mark in MARKS.iter().filter(|mark| line.contains(**mark)) {
            say(at + 1, format!("`{mark}`: do it now or open an issue"));
        }
    }
    for excuse in EXCUSES {
        for at in file.words(excuse) {
            let rest = file.code[at..].split(']').next().unwrap_or_default();
            if !rest.contains("reason") {
                say(file.line_of(at), format!("`{excuse}`: one item, one lint, or a reason"));
            }
        }
    }
    for (code, remedy) in CODE {
        for at in file.words(code) {
            say(file.line_of(at), format!("`{code}`: {remedy}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&Rust::new("a.rs", text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn wide_lines_and_long_files_are_found() {
        assert_eq!(lines(&"é".repeat(100)), [] as [usize; 0]);
        assert_eq!(lines(&format!("\n{}", "x".repeat(101))), [2]);
        assert_eq!(lines(&"\n".repeat(600)), [] as [usize; 0]);
        assert_eq!(lines(&"\n".repeat(601)), [0]);
    }

    #[test]
    fn unfinished_work_is_found() {
        assert_eq!(lines(&format!("a();\n// {} later", MARKS[0])), [2]);
        assert_eq!(lines("fn a() {\n    todo!()\n}"), [2]);
        assert_eq!(lines("#![allow(dead_code)]"), [1]);
        assert_eq!(lines("#![allow(dead_code, reason = \"why\")]"), [] as [usize; 0]);
        assert_eq!(lines("// says todo! in prose\nlet a = \"dbg!\";"), [] as [usize; 0]);
    }
}
