//! Weight: no large file now or anywhere in the history, and a bound on all samples together.

use super::{Finding, source::Tree};
use std::{path::Path, process::Command};

/// Largest single file.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// All files that are not text, together.
const BINARY_BYTES_MAX: u64 = 16 << 20;

/// Findings in the tree and, where git answers, in its history.
pub(crate) fn check(root: &Path, tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<_> = tree
        .files()
        .iter()
        .filter(|file| file.bytes > FILE_BYTES_MAX)
        .map(|file| Finding::new(&file.path, 0, too_large(file.bytes)))
        .collect();
    let binary = tree.files().iter().filter(|file| file.text.is_none());
    let total: u64 = binary.map(|file| file.bytes).sum();
    if total > BINARY_BYTES_MAX {
        let what = format!("files that are not text: {total} bytes, {BINARY_BYTES_MAX} allowed");
        findings.push(Finding::new(".", 0, what));
    }
    findings.extend(history(root));
    findings
}

fn too_large(bytes: u64) -> String {
    format!("{bytes} bytes, {FILE_BYTES_MAX} allowed")
}

/// Large objects that a clone would fetch although no file shows them. A tree without git has no
/// history.
fn history(root: &Path) -> Vec<Finding> {
    let arguments = [
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objecttype) %(objectsize) %(objectname)",
    ];
    let Ok(output) = Command::new("git").args(arguments).current_dir(root).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(large_object).collect()
}

fn large_object(line: &str) -> Option<Finding> {
    let mut words = line.split(' ');
    let (kind, size, name) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let large = kind == "blob" && size > FILE_BYTES_MAX;
    large.then(|| Finding::new(&format!(".git object {name}"), 0, too_large(size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_blobs_are_found() {
        assert!(large_object("blob 8388609 0a1b").is_some());
        assert!(large_object("blob 8388608 0a1b").is_none());
        assert!(large_object("tree 9999999 0a1b").is_none());
        assert!(large_object("").is_none());
    }
}
