//! Nodes above and below each other, as processes of their own.

use super::crowd::{
    Crowd, all_ready, await_active, config, counts, ended, gather, gather_meanwhile, n, shown,
    texts, until,
};
use crate::rig::Node;
use rustix::process::Signal;
use std::time::{SystemTime, UNIX_EPOCH};

fn child(parent: &str, name: &str) -> Node {
    Node::start(&["--parent", parent, "--role", "sector", "--name", name])
}

/// The agents of one node differ from those of another.
fn crowd(node: &Node, count: u32, seed: u64) -> Crowd {
    Crowd::at(node, blast::agents::Config { seed, ..config(node, count) })
}

/// Seconds since 1970, so many from now: far enough for an order to go down on a busy machine. The
/// moment that a node chooses by itself leaves some milliseconds for that.
fn in_seconds(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    (now.as_secs() + seconds).to_string()
}

#[test]
fn cascade_01_hier_04_one_gather_reaches_the_agents_of_all_nodes() {
    let root = Node::start(&[]);
    let nodes = ["left", "right"].map(|name| child(&root.addr_text(), name));
    let _crowds = [crowd(&nodes[0], 40, 1), crowd(&nodes[1], 50, 2)];
    await_active(&root, 90);
    for strategy in ["wave", "parallel"] {
        let (code, report) = gather(&root, &["--strategy", strategy, "--at", &in_seconds(3)]);
        assert_eq!(code, 0, "{strategy}: {report}");
        all_ready(&report, 90);
    }
    let map = shown(&root, &["map"]);
    let nodes: Vec<_> =
        map["sectors"].as_array().expect("a list").iter().map(|it| &it["node"]).collect();
    assert!(nodes.contains(&&"left".into()) && nodes.contains(&&"right".into()), "{map}");
    assert_eq!(counts(&map["global"], ["agents", "active"]), [90, 90]);
}

#[test]
fn hier_07_a_node_that_is_killed_in_mid_cascade_is_named_and_the_other_goes_on() {
    let root = Node::start(&[]);
    let [left, right] = ["left", "right"].map(|name| child(&root.addr_text(), name));
    let _crowds = [crowd(&left, 40, 1), crowd(&right, 50, 2)];
    await_active(&root, 90);
    let at = in_seconds(12);
    let words = ["--strategy", "parallel", "--at", &at, "--window", "3s", "--timeout", "40s"];
    let running = gather_meanwhile(&root, &words);
    // Told what to do, long before the moment at which it is to be done.
    left.await_total("butterfly_mesh_gathers_begun_total", 1);
    left.await_count("butterfly_mesh_copies_total", "result", "scheduled", 38);
    left.signal(Signal::KILL);
    let (code, report) = ended(running);
    assert_eq!((code, n(&report, "targets")), (3, 90), "{report}");
    let [ready, silent] = counts(&report, ["ready", "stragglers"]);
    assert!((48..=50).contains(&ready) && (38..=40).contains(&silent), "{report}");
    let names = texts(&report["straggler_names"]);
    assert_eq!(names[0], "node left", "{names:?}");
    let _ = left.wait();
    let (code, report) = gather(&root, &["--strategy", "parallel", "--at", &in_seconds(3)]);
    assert_eq!(code, 0, "the other node goes on: {report}");
    assert!(n(&report, "ready") >= 48, "{report}");
}

#[test]
fn hier_03_without_its_parent_a_node_goes_on_and_joins_again() {
    let root = Node::start(&[]);
    let place = root.addr_text();
    let left = child(&place, "left");
    let _crowd = crowd(&left, 30, 1);
    await_active(&root, 30);
    root.signal(Signal::KILL);
    let _ = root.wait();
    let (code, report) = gather(&left, &[]);
    assert_eq!(code, 0, "{report}");
    all_ready(&report, 30);
    let root = Node::start(&["--listen", &place]);
    await_active(&root, 30);
    until("joined", || root.metrics().total("butterfly_mesh_children_total") >= Some(1));
    let (code, report) = gather(&root, &["--at", &in_seconds(3)]);
    assert_eq!(code, 0, "{report}");
    all_ready(&report, 30);
}
