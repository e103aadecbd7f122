//! Sources that nothing compiles: modules nobody declares, benches without an entry.

use super::{
    Finding,
    source::{Rust, Tree},
};

/// Findings in all packages.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, manifest) in tree.packages() {
        let inner: Vec<_> = tree
            .packages()
            .map(|(other, _)| format!("{other}/"))
            .filter(|other| other.len() > folder.len() + 1 && other.starts_with(folder))
            .collect();
        for file in tree.rust() {
            let Some(rest) = file.path.strip_prefix(folder).and_then(|p| p.strip_prefix('/'))
            else {
                continue;
            };
            if inner.iter().any(|other| file.path.starts_with(other.as_str())) {
                continue;
            }
            if let Some(what) = dead(tree, folder, manifest, rest) {
                findings.push(Finding::new(&file.path, 0, what));
            }
        }
    }
    findings
}

/// Why nothing compiles the file at `rest` in the package at `folder`.
fn dead(tree: &Tree, folder: &str, manifest: &str, rest: &str) -> Option<String> {
    let parts: Vec<&str> = rest.split('/').collect();
    match parts.as_slice() {
        ["src", "lib.rs" | "main.rs"] | ["build.rs"] | ["src", "bin", ..] => None,
        // `tests/NAME/main.rs` is a test binary of several files.
        ["tests" | "examples", _] | ["tests" | "examples", _, "main.rs"] => None,
        ["benches", file] => {
            let name = file.trim_end_matches(".rs");
            let entry = format!("name = \"{name}\"");
            let listed = manifest.split("[[bench]]").skip(1).any(|bench| bench.contains(&entry));
            (!listed).then(|| "a bench without its [[bench]] entry in Cargo.toml".to_owned())
        }
        [top @ ("src" | "tests" | "benches" | "examples"), between @ .., file] => {
            let (name, above) = match (*file, between) {
                ("mod.rs", [above @ .., name]) => (*name, above),
                _ => (file.trim_end_matches(".rs"), between),
            };
            let declared = tree
                .rust()
                .iter()
                .filter(|parent| is_parent(parent, folder, top, above))
                .any(|parent| declares(parent, name));
            (!declared).then(|| format!("no `mod {name}` declares it"))
        }
        _ => Some("outside src, tests, benches and examples".to_owned()),
    }
}

/// True where modules in `top/above/` are declared by this file.
fn is_parent(file: &Rust, folder: &str, top: &str, above: &[&str]) -> bool {
    let base = format!("{folder}/{top}");
    match above {
        [] if top == "src" => {
            file.path == format!("{base}/lib.rs") || file.path == format!("{base}/main.rs")
        }
        // Each file directly in `tests` or `benches` is a root.
        [] => file.path.strip_prefix(&base).is_some_and(|rest| rest[1..].find('/').is_none()),
        above => {
            let path = above.join("/");
            let parents =
                [format!("{path}.rs"), format!("{path}/mod.rs"), format!("{path}/main.rs")];
            parents.iter().any(|parent| file.path == format!("{base}/{parent}"))
        }
    }
}

fn declares(file: &Rust, name: &str) -> bool {
    let named_path = file.text.contains(&format!("/{name}.rs\"]"))
        || file.text.contains(&format!("\"{name}.rs\"]"));
    named_path
        || file.words("mod").any(|at| {
            let rest = file.code[at + 3..].trim_start();
            rest.strip_prefix(name).is_some_and(|tail| tail.trim_start().starts_with([';', '{']))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undeclared_file_is_found() {
        let tree = Tree::of(&[
            ("a/Cargo.toml", "[package]\nname = \"a\"\n[[bench]]\nname = \"x\"\n"),
            ("a/src/lib.rs", "mod b; // mod lost;\n"),
            ("a/src/b.rs", "pub(crate) mod c;"),
            ("a/src/b/c.rs", ""),
            ("a/src/lost.rs", ""),
            ("a/tests/one.rs", "mod support;"),
            ("a/tests/support/mod.rs", ""),
            ("a/tests/other/mod.rs", ""),
            ("a/tests/suite/main.rs", "mod part;"),
            ("a/tests/suite/part.rs", ""),
            ("a/benches/x.rs", ""),
            ("a/benches/y.rs", ""),
            ("a/core/Cargo.toml", "[package]\nname = \"core\"\n"),
            ("a/core/src/lib.rs", ""),
            ("a/core/stray.rs", ""),
        ]);
        let mut paths: Vec<_> = check(&tree).into_iter().map(|finding| finding.path).collect();
        paths.sort();
        let expected =
            ["a/benches/y.rs", "a/core/stray.rs", "a/src/lost.rs", "a/tests/other/mod.rs"];
        assert_eq!(paths, expected);
    }
}
