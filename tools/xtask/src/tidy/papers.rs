//! Documents that must not part from the code: SPEC.md, SECURITY.md and wire/FORMAT.md.

use super::{Finding, source::Tree};

/// Findings in the documents.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = format(tree);
    if let Some(spec) = tree.text("SPEC.md") {
        findings.extend(spec_rows(tree, spec));
    }
    if let Some(security) = tree.text("SECURITY.md") {
        findings.extend(attacks(tree, security));
    }
    findings
}

/// Rows of the tables whose last column is headed `shown by`: tests that exist, or `not built`.
fn attacks(tree: &Tree, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        let cell = line.trim().trim_matches('|').rsplit('|').next().map_or("", str::trim);
        if !line.starts_with('|') || cell.starts_with("---") {
            inside &= line.starts_with('|');
            continue;
        }
        if !inside {
            inside = cell == "shown by";
            continue;
        }
        let mut say = |what: String| findings.push(Finding::new("SECURITY.md", at + 1, what));
        if names(cell).next().is_none() && !cell.contains("not built") {
            say("names neither a test nor the words not built".to_owned());
        }
        for name in names(cell).filter(|name| !exists(tree, name)) {
            say(format!("names the test `{name}`, which the tree does not have"));
        }
    }
    findings
}

/// The format is written down, the code points there, and a test holds the two together.
fn format(tree: &Tree) -> Vec<Finding> {
    let path = "wire/FORMAT.md";
    if tree.text(path).is_none() {
        return vec![Finding::new(path, 0, "the wire format is not written down")];
    }
    let cites = |folder: &str| {
        let mut sources = tree.rust().iter().filter(|file| file.path.starts_with(folder));
        sources.any(|file| file.text.contains("FORMAT.md"))
    };
    ["wire/src/", "wire/tests/"]
        .iter()
        .filter(|folder| !cites(folder))
        .map(|folder| Finding::new(path, 0, format!("nothing in {folder} cites it")))
        .collect()
}

/// Rows of the form `| CODE | what it asks | tests |`, where tests are `path::name`, or the word
/// `pending`, or `premise` where there is nothing to build.
fn spec_rows(tree: &Tree, spec: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (at, line) in spec.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [code, .., tests] = cells.as_slice() else { continue };
        if !line.starts_with('|') || !code.contains('-') || code.starts_with(['-', ':']) {
            continue;
        }
        let mut say = |what: String| findings.push(Finding::new("SPEC.md", at + 1, what));
        if !is_code(code) {
            say(format!("`{code}` is not a code like WIRE-01"));
        }
        if seen.contains(code) {
            say(format!("`{code}` has a second row"));
        }
        seen.push(code);
        let names: Vec<&str> = names(tests).collect();
        if names.is_empty() && !["pending", "premise"].iter().any(|word| tests.contains(word)) {
            say(format!("`{code}` names neither a test nor the word pending, nor premise"));
        }
        for name in names.iter().filter(|name| !exists(tree, name)) {
            say(format!("`{code}` names the test `{name}`, which the tree does not have"));
        }
    }
    findings
}

/// Two or more capitals, a hyphen, two digits.
fn is_code(text: &str) -> bool {
    text.split_once('-').is_some_and(|(area, number)| {
        !area.is_empty()
            && area.bytes().all(|byte| byte.is_ascii_uppercase())
            && number.len() == 2
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split([' ', ',', ';', '`'])
        .map(|word| word.trim_end_matches("<br>"))
        .filter(|word| word.contains("::"))
}

/// True if `path/to/file.rs::name` (or `some::path::name`, anywhere in the tree) is a function
/// there.
fn exists(tree: &Tree, name: &str) -> bool {
    let (place, function) = name.rsplit_once("::").unwrap_or(("", name));
    let in_file = place.split("::").next().filter(|file| file.ends_with(".rs"));
    let mut files = tree.rust().iter().filter(|file| in_file.is_none_or(|path| file.path == path));
    files.any(|file| {
        file.words(function).any(|at| {
            file.code[..at].trim_end().ends_with("fn")
                && file.code[at + function.len()..].trim_start().starts_with(['(', '<'])
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_rows_name_real_tests() {
        let spec = "| code | what | tests |\n|------|------|-------|\n\
                    | WIRE-01 | magic | `wire/src/a.rs::holds` |\n\
                    | WIRE-02 | version | wire/src/a.rs::gone |\n\
                    | WIRE-03 | type | tests::holds, wire/src/b.rs::holds |\n\
                    | WIRE-3 | length | pending |\n| WIRE-01 | again | pending |\n\
                    | WIRE-05 | x | |\n| WIRE-06 | assumed | premise, no test |\n";
        let tree = Tree::of(&[("wire/src/a.rs", "#[test]\nfn holds() {}\n"), ("SPEC.md", spec)]);
        let lines: Vec<_> = spec_rows(&tree, spec).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [4, 5, 6, 7, 8]);
    }

    #[test]
    fn attacks_name_real_tests() {
        let text = "| who | trusted |\n| --- | --- |\n| x | y |\n\n| attack | shown by |\n\
                    | --- | --- |\n| a | `wire/src/a.rs::holds` |\n| b | a.rs::gone |\n\
                    | c | hope |\n| d | not built: e |\n";
        let tree = Tree::of(&[("wire/src/a.rs", "#[test]\nfn holds() {}\n")]);
        let lines: Vec<_> = attacks(&tree, text).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [8, 9]);
    }

    #[test]
    fn the_format_is_cited() {
        let tree = Tree::of(&[
            ("wire/FORMAT.md", "F-01"),
            ("wire/src/lib.rs", "//! See FORMAT.md"),
            ("wire/tests/golden.rs", ""),
        ]);
        assert_eq!(format(&tree).len(), 1);
        assert_eq!(format(&Tree::default()).len(), 1);
    }
}
