//! Agents that do not behave: each has a defined outcome, which is counted.

use super::crowd::{Crowd, all_ready, config, gather, in_state, n, texts, until};
use crate::rig::Node;
use blast::agents::{Config, config::Behaviours};

fn misbehaving(node: &Node, count: u32, behaviours: Behaviours) -> Crowd {
    Crowd::at(node, Config { behaviours, ..config(node, count) })
}

#[test]
fn scatter_04_agents_that_fall_silent_are_named() {
    let node = Node::start(&[]);
    let behaviours = Behaviours { vanish: 0.3, ..Behaviours::default() };
    let crowd = misbehaving(&node, 100, behaviours);
    let (code, report) = gather(&node, &["--window", "2s", "--timeout", "20s"]);
    let silent = n(&report, "stragglers");
    assert_eq!((code, n(&report, "targets")), (3, 100), "{report}");
    assert!((10..60).contains(&silent), "{report}");
    let names = texts(&report["straggler_names"]);
    assert_eq!(names.len() as u64, silent.min(32));
    assert!(names.iter().all(|name| name.starts_with("S0")), "{names:?}");
    assert_ne!(report["decision"], "proceed");
    drop(crowd);
}

#[test]
fn kpi_01_agents_that_end_in_the_middle_are_not_waited_for() {
    let node = Node::start(&[]);
    let behaviours = Behaviours { crash: 1.0, ..Behaviours::default() };
    let crowd = Config { behaviours, per_connection: 1, ..config(&node, 40) };
    let _crowd = Crowd::at(&node, crowd);
    let (code, report) = gather(&node, &["--window", "50s", "--timeout", "60s"]);
    assert_eq!((code, n(&report, "ready")), (3, 0), "{report}");
    let sent = n(&report, "sent");
    assert!(sent >= 38 && n(&report, "stragglers") == sent, "{report}");
    assert!(report["total_ms"].as_f64() < Some(50_000.0), "their connections are gone");
    node.await_count("butterfly_mesh_offline_total", "cause", "connection", sent);
}

#[test]
fn scatter_04_answers_given_twice_count_once() {
    let node = Node::start(&[]);
    let behaviours = Behaviours { twice: 1.0, ..Behaviours::default() };
    let _crowd = misbehaving(&node, 60, behaviours);
    let (code, report) = gather(&node, &[]);
    assert_eq!(code, 0, "{report}");
    all_ready(&report, 60);
    let ready = n(&report, "ready");
    let again = || {
        let state = |value| node.counted("butterfly_mesh_answers_total", "state", value);
        state("duplicate") + state("after_end")
    };
    until("second answers", || again() >= ready);
    assert_eq!(node.counted("butterfly_mesh_answers_total", "state", "ready"), ready);
}

#[test]
fn meshmsg_14_agents_that_lie_about_times_are_counted_and_the_rest_goes_on() {
    let node = Node::start(&[]);
    let behaviours = Behaviours { liars: 0.5, ..Behaviours::default() };
    let _crowd = Crowd::start(Config { behaviours, ..config(&node, 100) });
    // Whoever says that it is four times as slow as it is counts as degraded, and is asked.
    until("all are here", || in_state(&node, &["active", "degraded"]) == 100);
    for _ in 0..3 {
        let (code, report) = gather(&node, &[]);
        assert_eq!(code, 0, "{report}");
        all_ready(&report, 100);
    }
}
