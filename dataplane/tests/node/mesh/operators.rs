//! What the operators' book tells people to do: the daily look, agents that come by steps, a sector
//! that does not respond, a backup. The commands themselves are run by `cargo xtask docs`.

use super::crowd::{
    Crowd, all_ready, await_active, config, counts, gather, n, order, shown, skips,
};
use crate::rig::{Folder, Node, run, words};
use serde_json::Value;
use std::fs;

#[test]
fn ops_01_the_daily_look_shows_breakers_conflicts_churn_impedance_and_the_backup() {
    let folder = Folder::new();
    let state = folder.file("state");
    let node = Node::start(&["--state", state.to_str().expect("text")]);
    let _crowd = Crowd::at(&node, config(&node, 60));
    let (_, report) = gather(&node, &[]);
    assert_eq!(n(&report, "conflicts"), 0, "{report}");
    order(&node, &["circuit", "open", "--scope", "sector=0", "--reason", "forgotten"]);
    let (_, report) = gather(&node, &["--verb", "observe"]);
    assert_eq!(skips(&report), [("circuit_open".to_owned(), 60)], "a breaker nobody remembers");
    let map = shown(&node, &["map"]);
    assert!(map["sectors"][0]["impedance_ms"]["p95"].is_number(), "{map}");
    let worst = shown(&node, &["agents", "--sort", "impedance", "--limit", "20"]);
    assert_eq!(worst["agents"].as_array().map(Vec::len), Some(20), "{worst}");
    let metrics = node.metrics();
    // Churn, and whether what is known reaches the disk.
    for name in ["butterfly_mesh_registrations_total", "butterfly_mesh_offline_total"] {
        assert!(metrics.total(name).is_some(), "{name}");
    }
    node.await_total("butterfly_mesh_state_writes_total", 1);
    assert_eq!(node.metrics().total("butterfly_mesh_state_works"), Some(1));
}

#[test]
fn ops_02_agents_come_by_steps_and_each_step_is_ready_before_the_next() {
    let node = Node::start(&["--agents", "2000"]);
    let mut crowds = Vec::new();
    let mut here = 0;
    for step in [100, 200, 700] {
        let hosts = blast::agents::Config {
            per_connection: 100,
            seed: u64::from(step),
            ..config(&node, step)
        };
        crowds.push(Crowd::start(hosts));
        here += step;
        await_active(&node, here);
        let (code, report) = gather(&node, &[]);
        assert_eq!(code, 0, "{report}");
        all_ready(&report, here.into());
    }
    let map = shown(&node, &["map"]);
    assert_eq!(map["global"]["agents"], Value::from(1000), "{map}");
}

#[test]
fn ops_03_a_sector_that_does_not_respond_is_cut_off_and_taken_back_by_halves() {
    let node = Node::start(&[]);
    let _crowd = Crowd::at(&node, config(&node, 60));
    order(&node, &["circuit", "open", "--scope", "sector=0", "--reason", "no answers"]);
    let (code, report) = gather(&node, &[]);
    assert_eq!((code, counts(&report, ["targets", "sent"])), (3, [60, 0]), "{report}");
    assert_eq!(skips(&report), [("circuit_open".to_owned(), 60)], "named, not waited for");
    order(&node, &["circuit", "half-open", "--scope", "sector=0"]);
    let (_, report) = gather(&node, &[]);
    assert!(n(&report, "sent") > 0, "some are tried: {report}");
    order(&node, &["circuit", "close", "--scope", "sector=0"]);
    let (code, report) = gather(&node, &[]);
    assert_eq!(code, 0, "{report}");
    all_ready(&report, 60);
}

/// Ids and names, as they are listed.
fn listed(node: &Node) -> Vec<(String, String)> {
    let listing = shown(node, &["agents", "--limit", "0"]);
    let text = |agent: &Value, key: &str| agent[key].as_str().expect("text").to_owned();
    let agents = listing["agents"].as_array().expect("a list").iter();
    let mut all: Vec<_> = agents.map(|it| (text(it, "id"), text(it, "name"))).collect();
    all.sort();
    all
}

#[test]
fn ops_04_a_backup_is_proved_and_a_node_that_lost_its_state_is_restored_from_it() {
    let folder = Folder::new();
    let (state, kept) = (folder.file("state"), folder.file("backup.redb"));
    let flags = ["--state", state.to_str().expect("text")];
    let first = Node::start(&flags);
    let crowd = Crowd::at(&first, config(&first, 40));
    let (code, _) = gather(&first, &[]);
    assert_eq!(code, 0);
    let before = listed(&first);
    drop(crowd);
    first.signal(rustix::process::Signal::TERM);
    assert!(first.wait().success());
    fs::copy(state.join("mesh.redb"), &kept).expect("copies");
    let prove = || run(&["prove-state", kept.to_str().expect("text")]);
    let proved = prove();
    assert!(proved.status.success(), "{}", words(&proved));
    fs::remove_dir_all(&state).expect("lost");
    fs::create_dir(&state).expect("a folder");
    fs::copy(&kept, state.join("mesh.redb")).expect("restores");
    let second = Node::start(&flags);
    second.await_note("40 agents known from before");
    assert_eq!(listed(&second), before);
    // A copy that is not what was written is told from one that is.
    let mut bytes = fs::read(&kept).expect("reads");
    bytes.truncate(bytes.len() / 2);
    fs::write(&kept, bytes).expect("writes");
    assert!(!prove().status.success());
}
