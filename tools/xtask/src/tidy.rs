//! Reads the sources and says where they break a house rule. Also a test, so that `cargo test` runs
//! it.

mod arrows;
mod bans;
mod blobs;
mod functions;
mod modules;
mod papers;
pub(crate) mod source;
mod text;
mod unsafety;

use source::Tree;
use std::{fmt, path::Path};

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Relative to the root.
    pub(crate) path: String,
    /// Counted from 1; 0 where the whole file is meant.
    pub(crate) line: usize,
    /// What is wrong and what to do.
    pub(crate) what: String,
}

impl Finding {
    /// A finding at a line, or at line 0 for a whole file.
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.path, self.what)
        } else {
            write!(f, "{}:{}: {}", self.path, self.line, self.what)
        }
    }
}

/// Every finding in the tree, sorted.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    let tree = match Tree::read(root) {
        Ok(tree) => tree,
        Err(error) => return vec![Finding::new(".", 0, format!("cannot read the tree: {error}"))],
    };
    let ratchet = tree.text("tools/xtask/ratchet.txt").unwrap_or_default();
    let mut findings = Vec::new();
    for file in tree.rust() {
        findings.extend(text::check(file));
        findings.extend(bans::check(file));
        findings.extend(unsafety::check(file));
    }
    findings.extend(functions::check(&tree, ratchet));
    findings.extend(arrows::check(&tree));
    findings.extend(modules::check(&tree));
    findings.extend(papers::check(&tree));
    findings.extend(blobs::check(root, &tree));
    findings.sort();
    findings
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let findings = super::check(&crate::root());
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{} finding(s):\n{}", lines.len(), lines.join("\n"));
    }
}
