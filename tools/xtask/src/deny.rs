//! Licences and sources of every dependency, read without a tool: what stands in where cargo-deny
//! is missing. The list of allowed licences is the one in `.deny.toml`, so that both readings
//! agree.

use crate::tidy::Finding;
use std::{fs, path::Path, process::Command};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Findings in the lock file and in the licences that the packages state.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    let read = |path: &str| {
        fs::read_to_string(root.join(path))
            .map_err(|error| Finding::new(path, 0, format!("cannot be read: {error}")))
    };
    let (rules, lock) = match (read(".deny.toml"), read("Cargo.lock")) {
        (Ok(rules), Ok(lock)) => (rules, lock),
        (rules, lock) => return [rules.err(), lock.err()].into_iter().flatten().collect(),
    };
    let allowed = allow_list(&rules);
    let mut findings = sources(&lock);
    match packages(root) {
        Ok(text) => findings.extend(licences(&text, &allowed)),
        Err(why) => findings.push(Finding::new("Cargo.lock", 0, why)),
    }
    findings
}

/// Every package that is not ours comes from crates.io.
fn sources(lock: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in lock.lines().enumerate() {
        if let Some(source) = line.strip_prefix("source = ")
            && source.trim_matches('"') != CRATES_IO
        {
            findings.push(Finding::new("Cargo.lock", at + 1, format!("{source} is not crates.io")));
        }
    }
    findings
}

/// One `package|licence` line for each package on any target.
fn packages(root: &Path) -> Result<String, String> {
    let arguments = "tree --workspace --locked --target all --edges normal,build,dev \
                     --prefix none --no-dedupe --format {p}|{l}";
    let output = Command::new("cargo")
        .args(arguments.split_whitespace())
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo tree does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn licences(packages: &str, allowed: &[String]) -> Vec<Finding> {
    let mut lines: Vec<&str> = packages.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines.dedup();
    let mut findings = Vec::new();
    for line in lines {
        // A trailing mark says that the package was listed before.
        let (package, licence) =
            line.trim_end_matches(" (*)").split_once('|').unwrap_or((line, ""));
        if !permits(licence, allowed) {
            let what = format!("{package}: licence `{licence}` is not allowed by .deny.toml");
            findings.push(Finding::new("Cargo.lock", 0, what));
        }
    }
    findings
}

/// The strings of `allow = [...]` in the section on licences.
fn allow_list(rules: &str) -> Vec<String> {
    let section = rules.split("[licenses]").nth(1).unwrap_or_default();
    let list = section.split("allow = [").nth(1).and_then(|rest| rest.split(']').next());
    let quoted = list.unwrap_or_default().split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// Evaluates a licence expression: `OR` (or the old `/`) over `AND` over names and brackets; `WITH`
/// belongs to its name. Anything that does not parse to its end is not permitted.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (verdict, rest) = any_of(&words, allowed);
    verdict && rest.is_empty()
}

fn any_of<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    let (mut verdict, mut rest) = all_of(words, allowed);
    while let Some((&"OR", tail)) = rest.split_first() {
        let (next, after) = all_of(tail, allowed);
        (verdict, rest) = (verdict | next, after);
    }
    (verdict, rest)
}

fn all_of<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    let (mut verdict, mut rest) = one(words, allowed);
    while let Some((&"AND", tail)) = rest.split_first() {
        let (next, after) = one(tail, allowed);
        (verdict, rest) = (verdict & next, after);
    }
    (verdict, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => {
            let (verdict, rest) = any_of(inner, allowed);
            match rest.split_first() {
                Some((&")", after)) => (verdict, after),
                _ => (false, rest),
            }
        }
        [name, "WITH", exception, rest @ ..] => {
            (allowed.contains(&format!("{name} WITH {exception}")), rest)
        }
        [name, rest @ ..] => (allowed.iter().any(|allowed| allowed == name), rest),
        [] => (false, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_evaluated() {
        let allowed = allow_list(
            "[bans]\nallow = [\"x\"]\n[licenses]\nallow = [\n \"MIT\", # m\n \"Apache-2.0\",\n \
             \"Apache-2.0 WITH LLVM-exception\",\n]\n",
        );
        assert_eq!(allowed, ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]);
        for fine in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(MIT OR GPL-3.0) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-3.0 OR MIT AND Apache-2.0",
        ] {
            assert!(permits(fine, &allowed), "{fine}");
        }
        for not in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT",
            "MIT)",
            "MIT Apache-2.0",
            "MIT WITH Classpath-exception-2.0",
            "(MIT OR GPL-3.0) AND GPL-3.0",
        ] {
            assert!(!permits(not, &allowed), "{not}");
        }
    }

    #[test]
    fn other_sources_are_found() {
        let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
                    source = \"git+https://example.org/a#1\"\n";
        let lines: Vec<_> = sources(lock).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2]);
    }

    #[test]
    fn a_package_without_a_licence_is_found() {
        let allowed = ["MIT".to_owned()];
        assert!(licences("a v1.0.0|MIT\na v1.0.0|MIT (*)\n", &allowed).is_empty());
        assert_eq!(licences("a v1.0.0|MIT\nb v1.0.0|\n", &allowed).len(), 1);
    }
}
