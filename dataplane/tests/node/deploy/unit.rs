//! The unit for systemd and the configuration of the package.

use super::{is_here, place, text};
use crate::rig::{Folder, butterfly, words};
use std::{fs, process::Command};

/// Most that `systemd-analyze security` may find, 0 to 10.
const EXPOSURE_MAX: f64 = 2.5;

/// The unit with the program under test, so that its lines can be run.
fn unit_here() -> String {
    text("systemd/butterfly.service").replace("/usr/bin/butterfly", env!("CARGO_BIN_EXE_butterfly"))
}

#[test]
fn ops_the_unit_is_valid_and_closed() {
    if !is_here("systemd-analyze") {
        return;
    }
    let folder = Folder::new();
    let unit = folder.file("butterfly.service");
    // Manual pages are installed by the package only.
    let lines = unit_here();
    let lines: Vec<_> = lines.lines().filter(|line| !line.starts_with("Documentation=")).collect();
    fs::write(&unit, lines.join("\n")).expect("writes");
    let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output().expect("runs");
    assert!(verified.status.success(), "{}", words(&verified));
    let ours: Vec<String> = words(&verified)
        .lines()
        .filter(|line| line.contains("butterfly"))
        .map(str::to_owned)
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
    let judged = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&unit)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&judged.stdout).into_owned();
    let level = said.lines().rev().find_map(|line| line.split("exposure level").nth(1));
    let level = level.and_then(|rest| rest.split(": ").nth(1)?.split(' ').next()?.parse().ok());
    assert!(level.is_some_and(|level: f64| level <= EXPOSURE_MAX), "{level:?}: {said}");
}

#[test]
fn ops_01_the_packages_configuration_is_one_that_the_unit_can_start_with() {
    let folder = Folder::new();
    let config = folder.file("butterfly.toml");
    let settings = butterfly().arg("config").output().expect("runs");
    let settings = String::from_utf8(settings.stdout).expect("text");
    fs::write(&config, text("debian/head.toml") + &settings).expect("writes");
    let unit = text("systemd/butterfly.service");
    let exec = |key: &str| {
        let line =
            unit.lines().find_map(|line| line.strip_prefix(key)).expect("a line of the unit");
        let words = line.split(' ').skip(1).map(|word| {
            word.replace("/etc/butterfly/butterfly.toml", config.to_str().expect("text"))
        });
        words.collect::<Vec<_>>()
    };
    // Nothing runs at the unit's socket here: all else of the reload was taken.
    let reload = butterfly().args(exec("ExecReload=")).output().expect("runs");
    assert_eq!(reload.status.code(), Some(2));
    assert!(words(&reload).contains("no node runs at --handover /run/butterfly/"), "{reload:?}");
    assert_eq!(exec("ExecStart=")[0], "serve");
    let said = |key: &str| text("debian/head.toml").lines().any(|line| line.starts_with(key));
    for (key, place) in [("uds", "RuntimeDirectory"), ("state", "StateDirectory")] {
        assert!(said(key) && unit.contains(&format!("{place}=butterfly")), "{key}");
    }
    // A key that no setting has would be refused.
    fs::write(&config, text("debian/head.toml") + "\nno_such_key = 1\n").expect("writes");
    let refused = butterfly().args(exec("ExecReload=")).output().expect("runs");
    assert!(words(&refused).contains("no_such_key"), "{refused:?}");
}

#[test]
fn ops_drop_ins_name_only_what_systemd_knows() {
    if !is_here("systemd-analyze") {
        return;
    }
    for name in ["gpu.conf", "cores.conf"] {
        let folder = Folder::new();
        let unit = folder.file("butterfly.service");
        let of_service = text(&format!("systemd/{name}"));
        let of_service = of_service.split("[Service]").nth(1).expect("a section");
        let lines = unit_here().replace("[Install]", &format!("{of_service}\n[Install]"));
        let lines: Vec<_> =
            lines.lines().filter(|line| !line.starts_with("Documentation=")).collect();
        fs::write(&unit, lines.join("\n")).expect("writes");
        let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output();
        let verified = verified.expect("runs");
        assert!(verified.status.success(), "{name}: {}", words(&verified));
        assert!(!words(&verified).contains("Unknown"), "{name}: {}", words(&verified));
    }
    assert!(place("systemd/gpu.conf").is_file());
}
