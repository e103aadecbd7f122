//! What a node keeps over a restart.

use super::crowd::{Crowd, all_ready, config, counts, gather, shown};
use crate::rig::{Folder, Node};
use rustix::process::Signal;
use std::collections::BTreeMap;

/// Who has which name.
fn names(node: &Node) -> BTreeMap<String, String> {
    let listing = shown(node, &["agents", "--limit", "0"]);
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let agents = listing["agents"].as_array().expect("a list");
    agents.iter().map(|agent| (text(&agent["id"]), text(&agent["name"]))).collect()
}

#[test]
fn reg_a_node_that_comes_back_knows_its_agents_and_their_names() {
    let folder = Folder::new();
    let dir = folder.file("state");
    let flags = ["--state", dir.to_str().expect("text")];
    let node = Node::start(&flags);
    // One connection, or which came first would decide who has which name.
    let same = |node: &Node| blast::agents::Config { per_connection: 200, ..config(node, 80) };
    let crowd = Crowd::at(&node, same(&node));
    let (code, _) = gather(&node, &[]);
    assert_eq!(code, 0);
    let before = names(&node);
    drop(crowd);
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    let node = Node::start(&flags);
    node.await_note("80 agents known from before");
    assert_eq!(names(&node), before, "known, though none is here");
    let (code, report) = gather(&node, &[]);
    assert_eq!((code, counts(&report, ["targets", "skipped"])), (3, [80, 80]), "{report}");
    let _crowd = Crowd::at(&node, same(&node));
    assert_eq!(names(&node), before);
    let (code, report) = gather(&node, &[]);
    assert_eq!(code, 0, "{report}");
    all_ready(&report, 80);
}
