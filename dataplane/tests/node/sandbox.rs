//! The box that workers compute in, tried from inside and looked at from outside.

use crate::rig::{Node, Raw, butterfly, request, strike};
use rustix::process::{Pid, Signal};
use std::{fs, os::unix::process::ExitStatusExt as _, process::Output};
use wire::{Dtype, payload::TensorWork};

const ATTEMPTS: [&str; 10] = [
    "read",
    "write",
    "socket",
    "connect",
    "execute",
    "trace",
    "signal",
    "thread",
    "descriptor",
    "code",
];
const PARTS: [&str; 8] =
    ["requests", "privileges", "capabilities", "memory", "descriptors", "files", "calls", "code"];
/// Exit code of an attempt that was refused with an error.
const REFUSED: Option<i32> = Some(10);

fn attempt(what: &str, more: &[&str]) -> Output {
    butterfly().args(["worker", "--try", what]).args(more).output().expect("the binary runs")
}

/// What holds on this kernel, by the trial's own words.
fn held() -> String {
    let output = attempt("nothing", &[]);
    assert!(output.status.success(), "a worker that does nothing wrong lives: {output:?}");
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn sec_without_the_box_every_attempt_succeeds() {
    // Otherwise the tests below would show nothing.
    for what in ATTEMPTS {
        let output = attempt(what, &["--sandbox", "off"]);
        assert!(output.status.success(), "{what}: {output:?}");
    }
}

#[test]
fn sec_no_attempt_survives_the_box() {
    let filtered = held().contains("calls");
    for what in ATTEMPTS {
        let output = attempt(what, &[]);
        let killed = output.status.signal() == Some(Signal::SYS.as_raw());
        // A kernel without seccomp may still refuse by other parts; it never says that all hold.
        assert!(killed || !filtered, "{what}: {output:?}");
    }
}

#[test]
fn sec_each_part_holds_alone() {
    let held = held();
    for (part, refused) in [
        ("files", &["read", "write", "execute", "connect", "signal"][..]),
        ("descriptors", &["read", "socket", "connect", "descriptor"][..]),
    ] {
        for what in refused.iter().filter(|_| held.contains(part)) {
            let output = attempt(what, &["--only", part]);
            // An older Landlock knows neither ports nor signals.
            let older = part == "files" && ["connect", "signal"].contains(what);
            assert!(output.status.code() == REFUSED || older, "{part} {what}: {output:?}");
        }
    }
    // And none of them stands in the way of what it does not guard.
    for (part, what) in [("files", "thread"), ("descriptors", "code"), ("privileges", "read")] {
        let output = attempt(what, &["--only", part]);
        assert!(output.status.success(), "{part} {what}: {output:?}");
    }
}

#[test]
fn sec_the_trial_says_what_it_does_not_know() {
    let output = attempt("everything", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(crate::rig::words(&output).contains("descriptor"), "{output:?}");
}

fn status(worker: Pid, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{worker}/status")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn works(raw: &mut Raw) {
    let work = TensorWork::topk(Dtype::F32, 1, 1 << 10, 8, Dtype::F32);
    raw.send(&request(1, work, &[1; 4 << 10]));
    let frame = raw.frame().expect("an answer");
    assert_eq!(frame.header.kind(), Ok(wire::Kind::QueryResponse));
}

#[test]
fn sec_a_serving_worker_is_boxed_and_says_so() {
    let held = held();
    let node = Node::start(&["--backend", "cpu", "--workers", "2"]);
    let metrics = node.metrics();
    let parts = metrics.by_label("butterfly_worker_sandbox", "part");
    for part in PARTS {
        let workers = if part == "requests" || held.contains(part) { 2 } else { 0 };
        assert_eq!(parts.get(part), Some(&workers), "{part} of {parts:?}");
    }
    assert_eq!(metrics.fact("worker_sandbox"), Some("auto"));
    for worker in node.workers() {
        assert_eq!(status(worker, "NoNewPrivs"), "1");
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&status(worker, set), 16), Ok(0), "{set}");
        }
        if held.contains("calls") {
            assert_eq!(status(worker, "Seccomp"), "2");
        }
        let limits = fs::read_to_string(format!("/proc/{worker}/limits")).expect("limits");
        for (limit, value) in [("Max core file size", "0"), ("Max open files", "3")] {
            let line = limits.lines().find_map(|line| line.strip_prefix(limit)).expect("a limit");
            assert_eq!(line.split_whitespace().next(), Some(value), "{limit}");
        }
    }
    works(&mut node.raw());
}

#[test]
fn sec_a_worker_that_breaks_out_is_ended_and_replaced() {
    let node = Node::start(&["--backend", "cpu"]);
    // What the kernel does to a call that is not on the list.
    strike(node.workers()[0], Signal::SYS);
    let note = node.await_note("SIGSYS");
    assert!(note.contains("--worker-sandbox off"), "{note}");
    node.await_total("butterfly_workers_ready", 1);
    works(&mut node.raw());
    assert_eq!(node.counted("butterfly_worker_sandbox", "part", "privileges"), 1);
}

#[test]
fn sec_the_box_can_be_left_off_or_required() {
    let off = Node::start(&["--backend", "cpu", "--worker-sandbox", "off"]);
    let metrics = off.metrics();
    assert!(metrics.by_label("butterfly_worker_sandbox", "part").values().all(|count| *count == 0));
    assert_eq!(status(off.workers()[0], "NoNewPrivs"), "0");
    works(&mut off.raw());
    if !held().contains("without") {
        let required = Node::start(&["--backend", "cpu", "--worker-sandbox", "require"]);
        works(&mut required.raw());
    }
}
