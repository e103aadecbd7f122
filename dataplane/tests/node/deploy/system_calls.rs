//! The profile for containers and the unit's filter, against the calls that a node makes.

use super::{is_here, text};
use crate::rig::{Folder, Node, PATIENCE, butterfly, words};
use client::{Client, Options};
use rustix::process::{Pid, Signal, kill_process};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use wire::{
    Dtype,
    payload::{QueryRequest, TensorWork},
};

/// What the profile allows, whatever the arguments.
fn allowed() -> BTreeSet<String> {
    let profile: Value = serde_json::from_str(&text("container/seccomp.json")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = profile["syscalls"].as_array().expect("rules");
    let allows = rules.iter().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    let names = allows.flat_map(|rule| rule["names"].as_array().expect("names"));
    names.map(|name| name.as_str().expect("text").to_owned()).collect()
}

#[test]
fn ops_the_profile_has_io_uring_and_the_box_and_nothing_that_leaves_the_container() {
    let allowed = allowed();
    for needed in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "memfd_create",
        "seccomp",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "prctl",
        "capset",
    ] {
        assert!(allowed.contains(needed), "{needed}");
    }
    for attack in [
        "mount",
        "umount2",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "bpf",
        "setns",
        "unshare",
        "pivot_root",
        "chroot",
        "init_module",
        "finit_module",
        "kexec_load",
        "reboot",
        "keyctl",
        "add_key",
        "userfaultfd",
        "perf_event_open",
        "open_by_handle_at",
        "settimeofday",
        "clock_settime",
        "swapon",
        "iopl",
        "clone3",
        "mknod",
        "mknodat",
    ] {
        assert!(!allowed.contains(attack), "{attack}");
    }
}

/// The names of calls in what strace wrote.
fn calls(trace: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let line = line.split_once(' ').map_or(line, |(_, rest)| rest.trim_start());
        let name = line.split('(').next()?.trim_start_matches("<... ");
        let name = name.split(' ').next()?;
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        (plain && !name.is_empty()).then(|| name.to_owned())
    };
    let is_call = |line: &&str| !line.contains("+++") && !line.contains("---");
    trace.lines().filter(is_call).filter_map(name).collect()
}

/// What systemd's group of calls contains, its groups unfolded.
fn group(name: &str) -> BTreeSet<String> {
    let listed = Command::new("systemd-analyze").args(["syscall-filter", name]).output();
    let listed = String::from_utf8(listed.expect("runs").stdout).expect("text");
    let mut names = BTreeSet::new();
    for line in listed.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#')) {
        if line.starts_with('@') {
            names.extend(group(line));
        } else if !line.is_empty() {
            names.insert(line.to_owned());
        }
    }
    names
}

/// What the unit's filter leaves, line by line as systemd reads it.
fn left_by_the_unit() -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    let unit = text("systemd/butterfly.service");
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (takes_away, names) = line.strip_prefix('~').map_or((false, line), |rest| (true, rest));
        for name in names.split(' ') {
            let names = match name.starts_with('@') {
                true => group(name),
                false => BTreeSet::from([name.to_owned()]),
            };
            match takes_away {
                true => left = left.difference(&names).cloned().collect(),
                false => left.extend(names),
            }
        }
    }
    // Always allowed by systemd, so that a program can start and end.
    left.extend(group("@default"));
    left
}

/// Runs a node with a worker under strace from its start to its drain, with some work between.
fn traced(folder: &Folder) -> BTreeSet<String> {
    let (trace, state) = (folder.file("trace"), folder.file("state"));
    let (uds, door) = (folder.file("node.sock"), folder.file("door"));
    let pki = folder.file("pki");
    let authority = |words: &[&str]| {
        let made = butterfly().arg("ca").args(words).arg("--dir").arg(&pki).output();
        assert!(made.expect("runs").status.success(), "{words:?}");
    };
    authority(&["init"]);
    authority(&["issue", "--name", "node", "--role", "node", "--host", "localhost"]);
    let mut child = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_butterfly"))
        .args(["serve", "--listen", "127.0.0.1:0", "--quic", "127.0.0.1:0"])
        .arg("--tls-ca")
        .arg(pki.join("ca.pem"))
        .arg("--tls-cert")
        .arg(pki.join("node.pem"))
        .arg("--tls-key")
        .arg(pki.join("node.key"))
        .args(["--shards", "1", "--workers", "1", "--poll", "frugal", "--http", "off", "--uds"])
        .arg(&uds)
        .arg("--handover")
        .arg(&door)
        .arg("--state")
        .arg(&state)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    let deadline = Instant::now() + PATIENCE;
    let addr = format!("unix://{}", uds.display()).parse().expect("an address");
    let mut client = loop {
        if let Ok(client) = Client::connect(&addr, Options::default()) {
            break client;
        }
        assert!(Instant::now() < deadline, "it does not serve: {:?}", child.try_wait());
        thread::sleep(Duration::from_millis(20));
    };
    for rows in [1, 64] {
        let work = TensorWork::echo(Dtype::F32, rows, 4096);
        let mut asked = QueryRequest { work, ..QueryRequest::default() };
        let bytes = vec![0; rows as usize * 4096 * 4];
        client.request(&mut asked, &bytes).expect("answers");
    }
    client.metrics().expect("figures");
    // The node is strace's child.
    let path = format!("/proc/{0}/task/{0}/children", child.id());
    let children = fs::read_to_string(path).expect("children");
    let node = children.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    kill_process(node.expect("the node"), Signal::TERM).expect("it runs");
    child.wait().expect("ends");
    calls(&fs::read_to_string(&trace).expect("a trace"))
}

#[test]
fn ops_every_call_of_a_node_is_in_the_profile_and_in_the_units_filter() {
    if !is_here("strace") {
        return;
    }
    let folder = Folder::new();
    let made = traced(&folder);
    for sure in ["io_uring_setup", "io_uring_enter", "execve", "memfd_create", "seccomp"] {
        assert!(made.contains(sure), "{sure} is not in the trace: {made:?}");
    }
    // The C library asks first by calls that may be refused.
    let may_fail = BTreeSet::from(["clone3".to_owned()]);
    let beyond: Vec<_> =
        made.difference(&allowed()).filter(|it| !may_fail.contains(*it)).cloned().collect();
    assert!(beyond.is_empty(), "not in the profile: {beyond:?}");
    if is_here("systemd-analyze") {
        let beyond: Vec<_> = made.difference(&left_by_the_unit()).cloned().collect();
        assert!(beyond.is_empty(), "not in the unit's filter: {beyond:?}");
    }
}

/// A filter that answers EPERM to the calls of io_uring, as engines of containers do.
fn without_io_uring() -> BpfProgram {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let target = std::env::consts::ARCH.try_into().expect("an architecture with a filter");
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, target).expect("a filter");
    filter.try_into().expect("a program")
}

#[test]
fn ops_where_a_container_forbids_io_uring_serve_says_so_and_what_to_do() {
    let under_filter = |args: &'static [&str]| {
        // What a thread is bound by binds what it starts.
        let started = thread::spawn(move || {
            seccompiler::apply_filter(&without_io_uring()).expect("a filter closes");
            butterfly().args(args).output().expect("the binary runs")
        });
        started.join().expect("no panic")
    };
    let refused = under_filter(&["serve", "--listen", "127.0.0.1:0", "--http", "off"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = words(&refused);
    for word in ["io_uring", "seccomp", "io_uring_setup"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let checked = under_filter(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("MISSING"));
    // The same without the filter: otherwise this would show nothing.
    drop(Node::start(&[]));
}
