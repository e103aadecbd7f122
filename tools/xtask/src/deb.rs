//! `cargo xtask deb`: the Debian package, made with `dpkg-deb` alone from what `deploy/` holds and
//! what the built programs say of themselves.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What to make.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// With the programs of the debug build: for tests.
    debug: bool,
    /// Instead of the workspace's version: for tests of upgrades.
    version: Option<String>,
}

impl Options {
    /// Reads `--debug` and `--version V`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--debug" => options.debug = true,
                "--version" => {
                    let version = arguments.next().ok_or("--version needs one, as in 1.2.3")?;
                    let fits = |b: u8| b.is_ascii_alphanumeric() || b".+~".contains(&b);
                    let digit = version.starts_with(|c: char| c.is_ascii_digit());
                    if !digit || !version.bytes().all(fits) {
                        return Err(format!("`{version}` is no version of a package"));
                    }
                    options.version = Some(version.clone());
                }
                other => return Err(format!("unknown argument `{other}` of deb")),
            }
        }
        Ok(options)
    }
}

/// A file of the package: where from, where to, whether it runs.
const FILES: [(&str, &str, u32); 8] = [
    ("deploy/systemd/butterfly.service", "usr/lib/systemd/system/butterfly.service", 0o644),
    ("deploy/systemd/gpu.conf", "usr/share/doc/butterfly/examples/gpu.conf", 0o644),
    ("deploy/systemd/cores.conf", "usr/share/doc/butterfly/examples/cores.conf", 0o644),
    ("deploy/README.md", "usr/share/doc/butterfly/README.md", 0o644),
    ("deploy/TUNING.md", "usr/share/doc/butterfly/TUNING.md", 0o644),
    ("deploy/grafana/butterfly.json", "usr/share/doc/butterfly/examples/grafana.json", 0o644),
    ("deploy/prometheus/alerts.yml", "usr/share/doc/butterfly/examples/alerts.yml", 0o644),
    ("deploy/debian/lintian-overrides", "usr/share/lintian/overrides/butterfly", 0o644),
];
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
const PROGRAMS: [&str; 2] = ["butterfly", "blast"];

/// Builds the programs and the package; says where it lies.
pub(crate) fn make(root: &Path, target: &Path, options: &Options) -> Result<PathBuf, String> {
    let profile: &[&str] = if options.debug { &[] } else { &["--release"] };
    let packages = ["build", "--locked", "--quiet", "--package", "dataplane", "--package", "blast"];
    run(Command::new("cargo").args(packages).args(profile).current_dir(root))?;
    let built = target.join(if options.debug { "debug" } else { "release" });
    let version = options.version.clone().map_or_else(|| workspace_version(root), Ok)?;
    let tree = target.join("deb").join(format!("butterfly-{version}"));
    let _ = fs::remove_dir_all(&tree);
    programs(&tree, &built)?;
    for (from, to, mode) in FILES {
        let text = fs::read(root.join(from)).map_err(|error| format!("{from}: {error}"))?;
        write(&tree, to, &text, mode)?;
    }
    papers(root, &tree, &version)?;
    words_of_programs(&tree)?;
    let head = read(root, "deploy/debian/head.toml")?;
    let settings = head + &output(Command::new(tree.join("usr/bin/butterfly")).arg("config"))?;
    write(&tree, "etc/butterfly/butterfly.toml", settings.as_bytes(), 0o644)?;
    control(root, &tree, &version)?;
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let package = format!("butterfly_{version}_{}.deb", architecture.trim());
    let package = target.join("deb").join(package);
    // Fast for tests, whose programs are large.
    let packing = if options.debug { ["-Zgzip", "-z1"] } else { ["-Zxz", "-z6"] };
    let flags = ["--root-owner-group", packing[0], packing[1], "--build"];
    run(Command::new("dpkg-deb").args(flags).args([&tree, &package]).stdout(Stdio::null()))?;
    println!("{}", package.display());
    Ok(package)
}

/// The two programs, without what only a debugger reads.
fn programs(tree: &Path, built: &Path) -> Result<(), String> {
    for program in PROGRAMS {
        let to = tree.join("usr/bin").join(program);
        create(to.parent().unwrap_or(tree))?;
        let strip = ["--strip-unneeded", "--remove-section=.comment", "-o"];
        run(Command::new("strip").args(strip).args([&to, &built.join(program)]))?;
    }
    Ok(())
}

/// Copyright and changes.
fn papers(root: &Path, tree: &Path, version: &str) -> Result<(), String> {
    let licence = read(root, "LICENSE-MIT")?;
    let indented: Vec<String> = licence
        .lines()
        .map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") })
        .collect();
    let copyright = format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: butterfly\n\nFiles: *\nCopyright: 2026 The Butterfly authors\n\
         License: MIT or Apache-2.0\n\nLicense: MIT or Apache-2.0\n{}\n .\n \
         Or the Apache License 2.0: /usr/share/common-licenses/Apache-2.0\n",
        indented.join("\n")
    );
    write(tree, "usr/share/doc/butterfly/copyright", copyright.as_bytes(), 0o644)?;
    let date = output(Command::new("git").args(["log", "-1", "--format=%aD"]).current_dir(root))
        .unwrap_or_else(|_| "Thu, 01 Jan 2026 00:00:00 +0000".to_owned());
    let changes = format!(
        "butterfly ({version}) unstable; urgency=medium\n\n  * Made from the checkout; its history \
         has the changes.\n\n -- The Butterfly authors <butterfly@localhost>  {}\n",
        date.trim()
    );
    zip(tree, "usr/share/doc/butterfly/changelog.gz", &changes)
}

/// Manual pages and completions, as far as the program writes them.
fn words_of_programs(tree: &Path) -> Result<(), String> {
    let program = tree.join("usr/bin/butterfly");
    let pages = tree.join("pages");
    let man = Command::new(&program).args(["man", "--out"]).arg(&pages).output();
    if man.is_ok_and(|output| output.status.success()) {
        for page in fs::read_dir(&pages).map_err(|error| error.to_string())?.flatten() {
            let name = page.file_name().to_string_lossy().into_owned();
            let section = name.rsplit('.').next().unwrap_or("1");
            let text = fs::read_to_string(page.path()).map_err(|error| error.to_string())?;
            zip(tree, &format!("usr/share/man/man{section}/{name}.gz"), &text)?;
        }
    }
    let _ = fs::remove_dir_all(&pages);
    for program in PROGRAMS {
        let name = format!("usr/share/man/man1/{program}.1.gz");
        if !tree.join(&name).is_file() {
            let help = output(Command::new(tree.join("usr/bin").join(program)).arg("--help"))?;
            zip(tree, &name, &page(program, &help))?;
        }
    }
    let places = [
        ("bash", "usr/share/bash-completion/completions/butterfly"),
        ("zsh", "usr/share/zsh/vendor-completions/_butterfly"),
        ("fish", "usr/share/fish/vendor_completions.d/butterfly.fish"),
    ];
    for (shell, place) in places {
        let words = Command::new(&program).args(["completions", shell]).output();
        if let Ok(words) = words
            && words.status.success()
        {
            write(tree, place, &words.stdout, 0o644)?;
        }
    }
    Ok(())
}

/// A manual page that says what `--help` says.
fn page(program: &str, help: &str) -> String {
    let first = help.lines().next().unwrap_or_default().trim_end_matches('.');
    // A line that begins with a dot or a quote would be an order to the formatter.
    let lines = help.lines().map(|line| format!("\\&{}", line.replace('\\', "\\e")));
    let body = lines.collect::<Vec<_>>().join("\n").replace('-', "\\-");
    format!(
        ".TH {} 1\n.SH NAME\n{program} \\- {}\n.SH DESCRIPTION\n.nf\n{body}\n.fi\n",
        program.to_uppercase(),
        first.replace('-', "\\-")
    )
}

/// `DEBIAN/`: what dpkg reads.
fn control(root: &Path, tree: &Path, version: &str) -> Result<(), String> {
    let (mut bytes, mut sums) = (0, String::new());
    let mut files = Vec::new();
    walk(tree, &mut files)?;
    files.sort();
    for file in &files {
        bytes += fs::metadata(file).map_or(0, |meta| meta.len());
        let name = file.strip_prefix(tree).unwrap_or(file);
        if !name.starts_with("etc") {
            let sum = output(Command::new("md5sum").arg(name).current_dir(tree))?;
            sums += &sum;
        }
    }
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let text = read(root, "deploy/debian/control")?
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", architecture.trim())
        .replace("@KIB@", &(bytes / 1024).to_string())
        .replace("@LIBRARIES@", &libraries(tree));
    write(tree, "DEBIAN/control", text.as_bytes(), 0o644)?;
    write(tree, "DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
    write(tree, "DEBIAN/conffiles", b"/etc/butterfly/butterfly.toml\n", 0o644)?;
    for script in SCRIPTS {
        let text = read(root, &format!("deploy/debian/{script}"))?;
        write(tree, &format!("DEBIAN/{script}"), text.as_bytes(), 0o755)?;
    }
    Ok(())
}

/// Packages of the libraries that the programs load, in the versions that they need.
fn libraries(tree: &Path) -> String {
    let scratch = tree.join("scratch");
    let stub =
        write(tree, "scratch/debian/control", b"Source: butterfly\n\nPackage: butterfly\n", 0o644);
    let mut command = Command::new("dpkg-shlibdeps");
    command.arg("-O").current_dir(&scratch).stderr(Stdio::null());
    for program in PROGRAMS {
        command.arg("-e").arg(tree.join("usr/bin").join(program));
    }
    let said = stub.and_then(|()| output(&mut command)).unwrap_or_default();
    let _ = fs::remove_dir_all(&scratch);
    let found = said.trim().strip_prefix("shlibs:Depends=");
    found.unwrap_or("libc6 (>= 2.36), libgcc-s1").to_owned()
}

fn workspace_version(root: &Path) -> Result<String, String> {
    let manifest = read(root, "Cargo.toml")?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \""));
    Ok(line.ok_or("Cargo.toml names no version")?.trim_end_matches('"').to_owned())
}

fn read(root: &Path, name: &str) -> Result<String, String> {
    fs::read_to_string(root.join(name)).map_err(|error| format!("{name}: {error}"))
}

fn create(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(())
}

fn write(tree: &Path, name: &str, text: &[u8], mode: u32) -> Result<(), String> {
    let path = tree.join(name);
    create(path.parent().unwrap_or(tree))?;
    let done = fs::write(&path, text)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
    done.map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes it packed, with nothing in it that changes from one build to the next.
fn zip(tree: &Path, name: &str, text: &str) -> Result<(), String> {
    let plain = name.trim_end_matches(".gz");
    write(tree, plain, text.as_bytes(), 0o644)?;
    run(Command::new("gzip").args(["-9n", "--force"]).arg(tree.join(plain)))
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        // Folders as dpkg wants them, whatever the mask of who builds.
        if path.is_dir() {
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o755));
            walk(&path, into)?;
        } else {
            into.push(path);
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("cannot start {name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) }
}

fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot start {name}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{name} ended with {}: {said}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_versions_of_packages_are_what_dpkg_takes() {
        let parse = |text: &str| Options::parse(&[text].map(str::to_owned));
        let both = |version: &str| Options::parse(&["--version", version].map(str::to_owned));
        assert!(both("0.1.0+2~rc1").is_ok() && parse("--debug").is_ok_and(|it| it.debug));
        for version in ["", "v1", "1 2", "1/2", "1-2"] {
            assert!(both(version).is_err(), "{version}");
        }
        assert!(parse("--version").is_err() && parse("--fast").is_err());
    }

    #[test]
    fn ops_everything_that_is_packed_is_in_the_tree() {
        let root = crate::root();
        for (from, _, _) in FILES {
            assert!(root.join(from).is_file(), "{from}");
        }
        for script in SCRIPTS {
            let text = read(&root, &format!("deploy/debian/{script}")).expect("there");
            assert!(text.starts_with("#!/bin/sh\n") && text.contains("set -e"), "{script}");
        }
    }
}
