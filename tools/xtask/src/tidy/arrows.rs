//! Which package may know which: the arrows of ARCHITECTURE.md, read from the manifests.

use super::{Finding, source::Tree};

/// A package, what it may depend on, and what its tests may use on top.
struct Arrows {
    package: &'static str,
    to: &'static [&'static str],
    tests: &'static [&'static str],
}

const fn arrows(
    package: &'static str,
    to: &'static [&'static str],
    tests: &'static [&'static str],
) -> Arrows {
    Arrows { package, to, tests }
}

/// Every package of the workspace. `benches` may see anything and nothing may see it.
const ARROWS: &[Arrows] = &[
    arrows("wire", &[], &[]),
    arrows("kernels", &[], &[]),
    arrows("cuda-shim", &["kernels"], &[]),
    arrows("client", &["tls", "wire"], &[]),
    arrows("codec", &["kernels", "wire"], &[]),
    arrows("tls", &["wire"], &[]),
    arrows("link", &["wire"], &[]),
    arrows("sign", &["wire"], &[]),
    // A driver for tests; nothing that is shipped knows it.
    arrows("fake-cuda", &["cuda-shim"], &[]),
    arrows("worker", &["codec", "link", "kernels", "wire"], &["fake-cuda"]),
    arrows("dataplane-core", &["wire"], &[]),
    arrows("mesh", &["sign", "wire"], &["fleet"]),
    arrows("fleet", &["wire"], &[]),
    arrows("overview", &["client", "wire"], &[]),
    arrows("dataplane-quic", &["dataplane-core", "tls", "wire"], &[]),
    arrows("dataplane-uring", &["dataplane-core", "link", "tls", "wire"], &[]),
    arrows("web", &["dataplane-core", "overview", "wire"], &[]),
    arrows(
        "dataplane",
        &[
            "client",
            "codec",
            "dataplane-core",
            "dataplane-quic",
            "dataplane-uring",
            "kernels",
            "link",
            "mesh",
            "overview",
            "sign",
            "tls",
            "web",
            "wire",
            "worker",
            // `demo` loads itself with the load tool, over real sockets.
            "blast",
            // Pages of `calibrate`.
            "plot",
        ],
        &["fake-cuda"],
    ),
    arrows(
        "blast",
        &["client", "wire", "dataplane-core", "dataplane-uring", "fleet", "mesh", "plot", "sign"],
        &[],
    ),
    arrows("plot", &[], &[]),
    arrows("sim", &["dataplane-core", "fleet", "kernels", "mesh", "sign", "wire"], &[]),
    arrows(
        "fuzz",
        &["codec", "dataplane-core", "kernels", "link", "mesh", "tls", "wire", "worker"],
        &[],
    ),
    arrows("fuzz-libfuzzer", &["fuzz"], &[]),
    // The rig plays with real nodes from outside; of their parts it needs what makes a worker.
    arrows("chaos", &["blast", "client", "fleet", "link", "wire", "worker"], &[]),
    arrows("xtask", &[], &[]),
    // What people use, beside a node that is a process.
    arrows("peers", &["client", "codec", "kernels", "wire"], &[]),
];

/// Seen by nobody: they sit at the ends of the arrows.
const ENDS: [&str; 8] =
    ["dataplane", "sim", "chaos", "fuzz", "fuzz-libfuzzer", "benches", "peers", "xtask"];

/// Findings in all manifests.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, manifest) in tree.packages() {
        let path = format!("{folder}/Cargo.toml");
        let Some(name) = package_name(manifest) else { continue };
        let allowed = ARROWS.iter().find(|arrows| arrows.package == name);
        if allowed.is_none() && name != "benches" {
            let what = format!("`{name}` has no arrows in tools/xtask/src/tidy/arrows.rs");
            findings.push(Finding::new(&path, 0, what));
            continue;
        }
        for (line, target, tests) in dependencies(manifest) {
            let known = ARROWS.iter().any(|a| a.package == target) || target == "benches";
            let fine = match allowed {
                Some(a) => a.to.contains(&target) || (tests && a.tests.contains(&target)),
                None => !ENDS.contains(&target),
            };
            if known && !fine {
                let what = format!("`{name}` must not know `{target}`");
                findings.push(Finding::new(&path, line, what));
            }
        }
    }
    findings
}

fn package_name(manifest: &str) -> Option<&str> {
    let package = manifest.split("[package]").nth(1)?;
    let line = package.lines().find(|line| line.trim_start().starts_with("name"))?;
    line.split('"').nth(1)
}

/// Line, name, and whether only tests use it, of every dependency. Reads the plain forms of our
/// manifests: `name = ...` and `name.workspace = true` in a section, and a section of its own for
/// one dependency.
fn dependencies(manifest: &str) -> Vec<(usize, &str, bool)> {
    let mut found = Vec::new();
    let mut section = "";
    for (at, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            if let Some((kind, name)) = section.rsplit_once('.')
                && kind.ends_with("dependencies")
            {
                found.push((at + 1, name, kind.ends_with("dev-dependencies")));
            }
        } else if section.ends_with("dependencies")
            && let Some((name, _)) = line.split_once(['=', '.', ' '])
            && !name.starts_with('#')
        {
            found.push((at + 1, name, section.ends_with("dev-dependencies")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_that_turns_round_is_found() {
        let manifest = "[package]\nname = \"wire\"\n[dependencies]\nrkyv.workspace = true\n\
                        link = { path = \"../worker/link\" }\n\
                        [dev-dependencies.client]\npath = \"\"\n";
        let tree = Tree::of(&[("wire/Cargo.toml", manifest)]);
        let lines: Vec<_> = check(&tree).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [5, 6]);
    }

    #[test]
    fn a_new_package_must_be_placed() {
        let tree = Tree::of(&[("other/Cargo.toml", "[package]\nname = \"other\"\n")]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn benches_see_libraries_and_no_programs() {
        let manifest = "[package]\nname = \"benches\"\n[dependencies]\nlink.workspace = true\n\
                        [target.'cfg(unix)'.dependencies]\nsim.workspace = true\n";
        let tree = Tree::of(&[("benches/Cargo.toml", manifest)]);
        let lines: Vec<_> = check(&tree).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [6]);
    }
}
