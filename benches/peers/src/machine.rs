//! What the figures were taken on, and of which versions.

use crate::{nats, node};
use std::{fs, path::Path, process::Command};

/// The versions that were built are those of the lock.
const LOCK: &str = include_str!("../Cargo.lock");
/// Packages that are named in the report.
const PACKAGES: [&str; 9] =
    ["tokio", "tonic", "prost", "async-nats", "zmq", "axum", "hyper", "serde_json", "flate2"];

/// Pairs of a name and what is found.
pub(crate) type Facts = Vec<(&'static str, String)>;

/// The machine, as far as it says.
pub(crate) fn machine() -> Facts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    vec![
        ("processor", after(&read("/proc/cpuinfo"), "model name")),
        ("cores", cores.to_string()),
        ("memory", after(&read("/proc/meminfo"), "MemTotal")),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("compiler", said(Command::new("rustc").arg("--version"))),
        ("build", if cfg!(debug_assertions) { "debug: worth nothing" } else { "release" }.into()),
        ("load before the start", load.split(' ').next().unwrap_or_default().to_owned()),
    ]
}

/// Versions of every peer and of the node.
pub(crate) fn versions(program: &Path) -> Facts {
    // Both say their own names first.
    let last = |said: String| said.rsplit(' ').next().unwrap_or_default().to_owned();
    let mut facts = vec![("butterfly", last(node::version(program)))];
    let broker = nats::found().map_or_else(|why| why, |(_, version)| last(version));
    facts.push(("nats-server", broker));
    #[cfg(feature = "zmq")]
    facts.push(("libzmq", crate::zeromq::version()));
    let locked = |name| locked(LOCK, name).map(|version| (name, version.to_owned()));
    facts.extend(PACKAGES.into_iter().filter_map(locked));
    facts
}

fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let named = format!("\nname = \"{name}\"\n");
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&named))?;
    let line = entry.lines().find(|line| line.starts_with("version = "))?;
    line.split('"').nth(1)
}

fn said(command: &mut Command) -> String {
    let output = command.output();
    output.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_package_is_in_the_lock() {
        for name in PACKAGES {
            assert!(locked(LOCK, name).is_some_and(|it| it.contains('.')), "{name}");
        }
        assert_eq!(locked(LOCK, "no-such-package"), None);
    }
}
