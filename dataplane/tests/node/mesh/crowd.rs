//! Agents at a node of a test, and the operator's commands.

use crate::rig::{Node, PATIENCE, butterfly, run, words};
use blast::{
    BlastError,
    agents::{self, Config, Report, truth::Truth},
};
use serde_json::Value;
use std::{
    process::{Child, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Every answer counts, however slow the machine is; a gather that has all answers ends at once.
const UNHURRIED: [&str; 4] = ["--window", "15s", "--timeout", "40s"];

/// Agents without a modelled network, ten on a connection.
pub(crate) fn config(node: &Node, count: u32) -> Config {
    Config { per_connection: 10, ..Config::new(node.addr(), count) }
}

/// Agents on threads of this process. Dropped, they leave.
#[derive(Debug)]
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(Report, Truth), BlastError>>>,
}

impl Crowd {
    /// Agents that register by themselves.
    pub(super) fn start(config: Config) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = thread::spawn(move || agents::observe(config, &flag));
        Self { stop, thread: Some(thread) }
    }

    /// The same, and waits until the node counts so many.
    pub(crate) fn at(node: &Node, config: Config) -> Self {
        let count = config.count;
        let crowd = Self::start(config);
        await_active(node, count);
        crowd
    }

    /// Lets them leave; what they saw.
    pub(super) fn finish(mut self) -> Truth {
        self.stop.store(true, Relaxed);
        let ended = self.thread.take().expect("runs").join().expect("no panic");
        ended.expect("a report").1
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for something that a node must come to say.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the node counts so many active agents, those of nodes below it included.
pub(super) fn await_active(node: &Node, count: u32) {
    let mut client = node.client();
    let mut active = 0;
    until(&format!("{count} agents"), || {
        active = client.map(None).expect("a map").global.active;
        active == count
    });
}

/// How many agents of this node are in one of these states, as it is now: the map is some seconds
/// old.
pub(super) fn in_state(node: &Node, states: &[&str]) -> usize {
    let listing = shown(node, &["agents", "--limit", "0"]);
    let agents = listing["agents"].as_array().expect("a list");
    agents.iter().filter(|it| states.contains(&it["state"].as_str().expect("text"))).count()
}

/// What a command printed as JSON, and its exit code.
pub(super) fn outcome(output: &Output) -> (i32, Value) {
    let code = output.status.code().expect("ended by itself");
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{code}: no JSON: {}", words(output)));
    (code, value)
}

/// A command of an operator at this node.
pub(super) fn command(node: &Node, words: &[&str]) -> Output {
    let addr = node.addr_text();
    let mut all = vec![words[0]];
    all.extend(["--addr", addr.as_str()]);
    all.extend(&words[1..]);
    run(&all)
}

/// The same for a command that must succeed and print JSON.
pub(super) fn shown(node: &Node, words: &[&str]) -> Value {
    let (code, value) = outcome(&command(node, &[words, &["--json"]].concat()));
    assert_eq!(code, 0, "{words:?}");
    value
}

/// An order that must be taken.
pub(super) fn order(node: &Node, what: &[&str]) {
    let output = command(node, what);
    assert!(output.status.success(), "{what:?}: {}", words(&output));
}

/// A gather: its exit code and its report.
pub(crate) fn gather(node: &Node, words: &[&str]) -> (i32, Value) {
    let mut all = vec!["gather", "--json"];
    all.extend(UNHURRIED);
    // A later flag of the same name would be refused.
    for pair in words.chunks(2) {
        if let Some(at) = all.iter().position(|word| *word == pair[0]) {
            all.splice(at..at + 2, []);
        }
    }
    all.extend(words);
    let (code, report) = outcome(&command(node, &all));
    adds_up(&report);
    (code, report)
}

/// A gather that goes on while the test does something else.
pub(super) fn gather_meanwhile(node: &Node, words: &[&str]) -> Child {
    butterfly()
        .args(["gather", "--json", "--addr", &node.addr_text()])
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
}

/// What came of it.
pub(super) fn ended(gather: Child) -> (i32, Value) {
    let (code, report) = outcome(&gather.wait_with_output().expect("waits"));
    adds_up(&report);
    (code, report)
}

/// A count of a report.
pub(super) fn n(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key}: {report}"))
}

/// Counts of a report, in this order.
pub(super) fn counts<const N: usize>(report: &Value, keys: [&str; N]) -> [u64; N] {
    keys.map(|key| n(report, key))
}

/// Why agents were skipped: reasons and how many each.
pub(super) fn skips(report: &Value) -> Vec<(String, u64)> {
    let rows = report["skips"].as_array().expect("a list");
    rows.iter()
        .map(|row| (row["reason"].as_str().expect("text").to_owned(), n(row, "count")))
        .collect()
}

/// Nearly all of so many targets were sent to, and every one of these was READY. Predictions begin
/// as priors: for a few they may reach further than a message is sent ahead, and those are skipped.
pub(super) fn all_ready(report: &Value, targets: u64) {
    let reasons = ["insufficient_lead_time", "over_range"];
    assert!(skips(report).iter().all(|skip| reasons.contains(&skip.0.as_str())), "{report}");
    assert_eq!(
        (n(report, "targets"), n(report, "ready")),
        (targets, n(report, "sent")),
        "{report}"
    );
    assert!(n(report, "skipped") <= targets.div_ceil(20), "{report}");
}

/// Texts of a list.
pub(super) fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter().map(|text| text.as_str().expect("text").to_owned()).collect()
}

/// Every target has one outcome, whatever happened.
fn adds_up(report: &Value) {
    let n = |key| n(report, key);
    assert_eq!(n("targets"), n("scheduled") + n("skipped"), "{report}");
    assert!(n("sent") <= n("scheduled"), "{report}");
    let outcomes = n("ready") + n("conflicts") + n("transit") + n("stragglers");
    assert_eq!(n("sent"), outcomes, "{report}");
    assert_eq!(n("ready"), n("in_time") + n("late"), "{report}");
    let skipped: u64 = skips(report).iter().map(|skip| skip.1).sum();
    assert_eq!(skipped, n("skipped"), "{report}");
}
