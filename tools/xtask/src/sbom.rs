//! `cargo xtask sbom`: what is inside the program, as CycloneDX 1.6. Names, versions, checksums and
//! edges are the lock file's; which packages are built in, and their licences, is asked of cargo.
//! The same tree gives the same bytes: there is no date in it and no serial number.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

/// Where it is written, below the target folder.
const FILE: &str = "butterfly.cdx.json";
/// The package that is the program.
const ROOT: &str = "dataplane";

/// One package of the lock file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    checksum: Option<String>,
    /// `name`, or `name version` where there are several.
    dependencies: Vec<String>,
}

impl Package {
    fn key(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// The package's name in the world; ours have none.
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// Writes the document.
///
/// # Errors
/// What could not be read, run or written.
pub(crate) fn write(root: &Path, target: &Path) -> Result<(), String> {
    let lock = fs::read_to_string(root.join("Cargo.lock"))
        .map_err(|error| format!("Cargo.lock: {error}"))?;
    let built_in = built_in(root)?;
    let packages: Vec<Package> = packages(&lock)
        .into_iter()
        .filter(|package| built_in.contains_key(&package.key()))
        .collect();
    let path = target.join(FILE);
    fs::create_dir_all(target).map_err(|error| format!("{}: {error}", target.display()))?;
    fs::write(&path, document(&packages, &built_in))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}: {} packages", path.display(), packages.len());
    Ok(())
}

/// `name version` and licence of every package that the program is built from.
fn built_in(root: &Path) -> Result<BTreeMap<String, String>, String> {
    let words = format!(
        "tree --package {ROOT} --locked --target x86_64-unknown-linux-gnu --edges normal,build \
         --prefix none --no-dedupe --format {{p}}|{{l}}"
    );
    let output = Command::new("cargo")
        .args(words.split_whitespace())
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo tree does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(licence).collect())
}

/// `serde v1.0.0 (proc-macro)|MIT` as `serde 1.0.0` and `MIT`.
fn licence(line: &str) -> Option<(String, String)> {
    let (package, licence) = line.trim_end_matches(" (*)").split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some((format!("{name} {version}"), licence.replace('/', " OR ")))
}

/// Every package of a lock file.
fn packages(lock: &str) -> Vec<Package> {
    let mut all = Vec::new();
    for block in lock.split("[[package]]").skip(1) {
        let text = |key: &str| {
            let line =
                block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
            Some(line.trim_matches('"').to_owned())
        };
        let list = block.split("dependencies = [").nth(1).and_then(|rest| rest.split(']').next());
        let quoted = list.unwrap_or_default().split('"').skip(1).step_by(2);
        all.push(Package {
            name: text("name").unwrap_or_default(),
            version: text("version").unwrap_or_default(),
            checksum: text("checksum"),
            dependencies: quoted.map(str::to_owned).collect(),
        });
    }
    all
}

fn document(packages: &[Package], licences: &BTreeMap<String, String>) -> String {
    let root = packages.iter().find(|package| package.name == ROOT).cloned().unwrap_or_default();
    let mut out = String::from("{\n  \"bomFormat\": \"CycloneDX\",\n  \"specVersion\": \"1.6\",\n");
    let _ = writeln!(
        out,
        "  \"version\": 1,\n  \"metadata\": {{\"component\": {{\"type\": \"application\", \
         \"bom-ref\": {}, \"name\": \"butterfly\", \"version\": {}}}}},\n  \"components\": [",
        quoted(&root.purl()),
        quoted(&root.version),
    );
    let others: Vec<&Package> = packages.iter().filter(|package| package.name != ROOT).collect();
    let lines = others.iter().map(|package| component(package, licences));
    out += &lines.collect::<Vec<_>>().join(",\n");
    out += "\n  ],\n  \"dependencies\": [\n";
    let lines = packages.iter().map(|package| edges(package, packages));
    out += &lines.collect::<Vec<_>>().join(",\n");
    out += "\n  ]\n}\n";
    out
}

fn component(package: &Package, licences: &BTreeMap<String, String>) -> String {
    let purl = quoted(&package.purl());
    let mut line = format!(
        "    {{\"type\": \"library\", \"bom-ref\": {purl}, \"name\": {}, \"version\": {}, \
         \"purl\": {purl}",
        quoted(&package.name),
        quoted(&package.version),
    );
    if let Some(licence) = licences.get(&package.key()).filter(|licence| !licence.is_empty()) {
        let _ = write!(line, ", \"licenses\": [{{\"expression\": {}}}]", quoted(licence));
    }
    if let Some(checksum) = &package.checksum {
        let content = quoted(checksum);
        let _ = write!(line, ", \"hashes\": [{{\"alg\": \"SHA-256\", \"content\": {content}}}]");
    }
    line + "}"
}

/// What a package depends on, as far as that is built in.
fn edges(package: &Package, packages: &[Package]) -> String {
    let found = |wanted: &String| {
        let is = |other: &&Package| *wanted == other.name || *wanted == other.key();
        packages.iter().find(is).map(|other| quoted(&other.purl()))
    };
    let on: Vec<String> = package.dependencies.iter().filter_map(found).collect();
    let of = quoted(&package.purl());
    format!("    {{\"ref\": {of}, \"dependsOn\": [{}]}}", on.join(", "))
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.2.3\"\nsource = \
        \"registry\"\nchecksum = \"0f\"\ndependencies = [\n \"b 2.0.0\",\n \"c\",\n]\n\n\
        [[package]]\nname = \"b\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"b\"\nversion = \
        \"2.0.0\"\n";

    #[test]
    fn a_lock_file_is_read() {
        let all = packages(LOCK);
        let keys: Vec<String> = all.iter().map(Package::key).collect();
        assert_eq!(keys, ["a 1.2.3", "b 1.0.0", "b 2.0.0"]);
        assert_eq!(all[0].checksum.as_deref(), Some("0f"));
        assert_eq!(all[0].dependencies, ["b 2.0.0", "c"]);
        assert_eq!(all[1], Package { name: "b".into(), version: "1.0.0".into(), ..all[1].clone() });
    }

    #[test]
    fn edges_lead_to_the_right_version_and_to_nothing_that_is_not_built_in() {
        let all = packages(LOCK);
        let line = edges(&all[0], &all);
        assert!(line.contains("\"dependsOn\": [\"pkg:cargo/b@2.0.0\"]"), "{line}");
        let licences = BTreeMap::from([("a 1.2.3".to_owned(), "MIT OR Zlib".to_owned())]);
        let line = component(&all[0], &licences);
        for part in ["\"MIT OR Zlib\"", "\"content\": \"0f\"", "pkg:cargo/a@1.2.3"] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn what_cargo_says_is_read() {
        let macro_line = "serde_derive v1.0.0 (proc-macro)|MIT/Apache-2.0 (*)";
        assert_eq!(
            licence(macro_line),
            Some(("serde_derive 1.0.0".into(), "MIT OR Apache-2.0".into()))
        );
        assert_eq!(licence(""), None);
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
