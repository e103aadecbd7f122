//! Function length, as a ratchet: nothing may cross the limit, and what is over it may only shrink.

use super::{
    Finding,
    source::{Rust, Tree, item_end},
};

/// Most lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

const RATCHET: &str = "tools/xtask/ratchet.txt";

/// A function longer than the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Long {
    path: String,
    name: String,
    lines: usize,
    line: usize,
}

/// Compares all functions with the list of those that are known to be too long.
pub(crate) fn check(tree: &Tree, ratchet: &str) -> Vec<Finding> {
    let mut known = Vec::new();
    let mut findings = Vec::new();
    for (at, line) in ratchet.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match entry(line, at + 1) {
            Some(entry) => known.push(entry),
            None => findings.push(Finding::new(RATCHET, at + 1, "not `path name lines`")),
        }
    }
    for long in tree.rust().iter().flat_map(over_limit) {
        let listed = known.iter().position(|k| k.path == long.path && k.name == long.name);
        let (limit, stale) = match listed.map(|at| known.swap_remove(at)) {
            Some(entry) => (entry.lines, (long.lines < entry.lines).then_some(entry.line)),
            None => (FUNCTION_LINES_MAX, None),
        };
        if long.lines > limit {
            let what = format!("`{}` has {} lines, {limit} allowed", long.name, long.lines);
            findings.push(Finding::new(&long.path, long.line, what));
        } else if let Some(line) = stale {
            let what = format!("`{}` has shrunk to {} lines: say so", long.name, long.lines);
            findings.push(Finding::new(RATCHET, line, what));
        }
    }
    for gone in known {
        let what = format!("`{}` is within the limit now: take the line out", gone.name);
        findings.push(Finding::new(RATCHET, gone.line, what));
    }
    findings
}

fn entry(text: &str, line: usize) -> Option<Long> {
    let mut words = text.split_whitespace();
    let (path, name) = (words.next()?.to_owned(), words.next()?.to_owned());
    let lines = words.next()?.parse().ok()?;
    words.next().is_none().then_some(Long { path, name, lines, line })
}

fn over_limit(file: &Rust) -> Vec<Long> {
    let mut found = Vec::new();
    for at in file.words("fn") {
        let after = file.code[at + 2..].trim_start();
        let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // Without a name it is a function pointer's type.
        let Some(end) = item_end(&file.code, at).filter(|_| !name.is_empty()) else { continue };
        let line = file.line_of(at);
        let lines = file.line_of(end.saturating_sub(1)) - line + 1;
        if lines > FUNCTION_LINES_MAX {
            found.push(Long { path: file.path.clone(), name, lines, line });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        format!("type F = fn(u8);\nfn long(a: [u8; 2]) {{\n{}}}\n", "    {}\n".repeat(lines - 2))
    }

    fn findings(lines: usize, ratchet: &str) -> Vec<String> {
        let tree = Tree::of(&[("a.rs", &function(lines))]);
        check(&tree, ratchet).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_limit_is_seventy() {
        assert!(findings(70, "").is_empty());
        assert_eq!(findings(71, ""), ["a.rs:2: `long` has 71 lines, 70 allowed"]);
    }

    #[test]
    fn what_is_listed_may_only_shrink() {
        assert!(findings(80, "# known\na.rs long 80\n").is_empty());
        assert_eq!(findings(81, "a.rs long 80").len(), 1);
        assert_eq!(findings(79, "a.rs long 80").len(), 1);
        assert_eq!(findings(60, "a.rs long 80").len(), 1);
        assert_eq!(findings(60, "a.rs long many").len(), 1);
    }
}
