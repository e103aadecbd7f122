//! Agents at a node, over real sockets: who is asked, what they answer, what an operator sees.
//!
//! Nothing here depends on how fast a machine is: counts, names and decisions only.

pub(crate) mod crowd;
mod faults;
mod frames;
mod kept;
mod operators;
mod signed;
mod tree;

use crate::rig::{Folder, Node};
use blast::agents::{
    Mix,
    config::{Behaviours, Capability},
};
use crowd::{Crowd, all_ready, config, counts, gather, n, order, shown, skips, texts};

use std::{collections::BTreeSet, fs};

/// What the report of a gather has, whatever came of it.
const KEYS: [&str; 20] = [
    "targets",
    "scheduled",
    "skipped",
    "sent",
    "ready",
    "conflicts",
    "stragglers",
    "late",
    "coverage",
    "response_rate",
    "on_time",
    "earliness_ms",
    "spread_us",
    "prediction_error_ms",
    "fire_error_us",
    "plan_us",
    "total_ms",
    "decision",
    "reason",
    "classes",
];

#[test]
fn scatter_01_06_everybody_is_asked_and_the_report_is_whole() {
    for shards in ["1", "2"] {
        let node = Node::start(&["--shards", shards]);
        let crowd = Crowd::at(&node, config(&node, 200));
        let (code, report) = gather(&node, &["--targets", "all"]);
        assert_eq!((code, &report["decision"]), (0, &"proceed".into()), "{report}");
        all_ready(&report, 200);
        assert_eq!(counts(&report, ["stragglers", "conflicts", "duplicates", "foreign"]), [0; 4]);
        for key in KEYS {
            assert!(!report[key].is_null(), "{key}: {report}");
        }
        for (key, parts) in [
            ("earliness_ms", &["p50", "p99"][..]),
            ("spread_us", &["p50", "p99", "max"]),
            ("prediction_error_ms", &["p50", "p90", "p99"]),
            ("fire_error_us", &["p50", "p99", "max"]),
        ] {
            let found: BTreeSet<_> = report[key].as_object().expect("an object").keys().collect();
            let wanted: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            assert_eq!(found, wanted.iter().collect(), "{key}");
        }
        assert_eq!(report["response_rate"], 1.0);
        assert!(report["coverage"].as_f64() >= Some(0.95), "{report}");
        let classes = report["classes"].as_array().expect("a list");
        assert_eq!(classes.iter().map(|row| n(row, "sent")).sum::<u64>(), n(&report, "sent"));
        let truth = crowd.finish();
        let ready: u64 = truth.classes.iter().map(|class| class.ready).sum();
        assert_eq!((truth.of("refused"), ready), (0, n(&report, "ready")), "{:?}", truth.counts);
    }
}

#[test]
fn trin_05_conflicts_over_the_bound_are_to_be_resolved_first() {
    let node = Node::start(&[]);
    let behaviours = Behaviours { conflict: 0.5, ..Behaviours::default() };
    let _crowd = Crowd::at(&node, blast::agents::Config { behaviours, ..config(&node, 100) });
    let (code, report) = gather(&node, &[]);
    assert_eq!((code, &report["decision"]), (3, &"resolve_conflicts".into()), "{report}");
    assert!(n(&report, "conflicts") > 20 && n(&report, "stragglers") == 0, "{report}");
    let rows = report["conflict_rows"].as_array().expect("a list");
    assert!(!rows.is_empty() && rows.iter().all(|row| row["name"].is_string()), "{rows:?}");
}

#[test]
fn y_19_agents_are_chosen_by_class_sector_capability_id_and_name() {
    let node = Node::start(&[]);
    let capabilities = vec![Capability { name: "summarise".to_owned(), share: 0.5 }];
    let mix = Mix::Uniform;
    let asked = blast::agents::Config { capabilities, mix, ..config(&node, 120) };
    let _crowd = Crowd::at(&node, asked);
    let listing = shown(&node, &["agents", "--limit", "0"]);
    let agents = listing["agents"].as_array().expect("a list");
    assert_eq!(agents.len(), 120);
    let such = |key: &str, value: &str| agents.iter().filter(|it| it[key] == value).count() as u64;
    let (_, report) = gather(&node, &["--targets", "class=D"]);
    all_ready(&report, such("class", "D"));
    assert!(n(&report, "targets") > 0);
    let can = |it: &serde_json::Value| texts(&it["capabilities"]).contains(&"summarise".to_owned());
    let able = agents.iter().filter(|it| can(it)).count() as u64;
    let (_, report) = gather(&node, &["--targets", "capability=summarise"]);
    all_ready(&report, able);
    assert!(able > 20 && able < 100);
    for sector in 0..3_u64 {
        let name = format!("S{sector:02}-");
        let there =
            agents.iter().filter(|it| it["name"].as_str().expect("text").starts_with(&name));
        let (code, report) = gather(&node, &["--targets", &format!("sector={sector}")]);
        let there = there.count() as u64;
        all_ready(&report, there);
        assert_eq!(code, if there == 0 { 3 } else { 0 }, "{report}");
    }
    let text = |at: usize, key: &str| agents[at][key].as_str().expect("text");
    let folder = Folder::new();
    let file = folder.file("ids.txt");
    let ids =
        format!("# some\n{}\n{} # by name\n\n{}\n", text(0, "id"), text(1, "name"), text(2, "id"));
    fs::write(&file, ids).expect("written");
    let (code, report) = gather(&node, &["--targets", file.to_str().expect("text")]);
    assert_eq!((code, counts(&report, ["targets", "ready"])), (0, [3, 3]), "{report}");
    let nobody = "00000000-0000-0000-0000-00000000abcd";
    fs::write(&file, format!("{}\n{nobody}\n", text(0, "id"))).expect("written");
    let (_, report) = gather(&node, &["--targets", file.to_str().expect("text")]);
    assert_eq!(counts(&report, ["targets", "ready", "skipped"]), [2, 1, 1]);
    assert_eq!(skips(&report), [("unknown".to_owned(), 1)]);
}

#[test]
fn x_13_a_moment_in_the_past_and_nobody_at_all_are_no_targets() {
    let node = Node::start(&[]);
    let (code, report) = gather(&node, &[]);
    assert_eq!((code, &report["decision"]), (3, &"no_targets".into()), "{report}");
    let _crowd = Crowd::at(&node, config(&node, 50));
    let (code, report) = gather(&node, &["--at", "2020-01-01T00:00:00Z"]);
    assert_eq!((code, &report["decision"]), (3, &"no_targets".into()), "{report}");
    assert_eq!(counts(&report, ["targets", "skipped", "sent"]), [50, 50, 0]);
    assert_eq!(skips(&report), [("insufficient_lead_time".to_owned(), 50)]);
}

#[test]
fn meshmsg_17_18_freezes_and_breakers_hold_until_they_are_lifted() {
    let node = Node::start(&[]);
    let _crowd = Crowd::at(&node, config(&node, 60));
    for (hold, lift, reason) in [
        (&["freeze", "--scope", "all"][..], &["freeze", "--scope", "all", "--thaw"][..], "frozen"),
        (
            &["circuit", "open", "--scope", "sector=0", "--reason", "work in the hall"],
            &["circuit", "close", "--scope", "sector=0"],
            "circuit_open",
        ),
    ] {
        order(&node, hold);
        let (code, report) = gather(&node, &["--strategy", "parallel"]);
        assert_eq!((code, n(&report, "sent")), (3, 0), "{report}");
        assert_eq!(skips(&report), [(reason.to_owned(), 60)]);
        order(&node, lift);
        let (code, report) = gather(&node, &[]);
        assert_eq!(code, 0, "{report}");
        all_ready(&report, 60);
    }
}

#[test]
fn gmap_01_the_map_and_the_listing_say_the_same() {
    let node = Node::start(&[]);
    let _crowd = Crowd::at(&node, config(&node, 350));
    let map = shown(&node, &["map"]);
    let global = &map["global"];
    assert_eq!(counts(global, ["agents", "active"]), [350, 350]);
    let sectors = map["sectors"].as_array().expect("a list");
    assert_eq!(sectors.len() as u64, n(global, "sectors"));
    assert_eq!(sectors.iter().map(|sector| n(sector, "agents")).sum::<u64>(), 350);
    let clusters = map["clusters"].as_array().expect("a list");
    assert!(clusters.iter().all(|cluster| n(cluster, "agents") <= 30), "{clusters:?}");
    let listing = shown(&node, &["agents", "--sort", "impedance", "--limit", "0"]);
    assert_eq!(counts(&listing, ["count", "active"]), [350, 350]);
    let agents = listing["agents"].as_array().expect("a list");
    let names: BTreeSet<_> = agents.iter().map(|agent| agent["name"].as_str()).collect();
    let ids: BTreeSet<_> = agents.iter().map(|agent| agent["id"].as_str()).collect();
    assert_eq!((names.len(), ids.len()), (350, 350), "nobody shares a name");
    let impedance: Vec<_> = agents.iter().filter_map(|it| it["impedance_ms"].as_f64()).collect();
    assert!(impedance.len() == 350 && impedance.is_sorted_by(|a, b| a >= b), "worst first");
    let few = shown(&node, &["agents", "--sector", "0", "--limit", "7"]);
    assert_eq!(few["agents"].as_array().map(Vec::len), Some(7));
    let text = crowd::command(&node, &["map", "--clusters"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("350 agents") && text.contains("S00-C00"), "{text}");
}

#[test]
fn reg_01_thirty_thousand_agents_of_three_hundred_hosts_are_one_gather() {
    let node = Node::start(&["--agents", "30000"]);
    let crowd = blast::agents::Config { per_connection: 100, ..config(&node, 30_000) };
    let crowd = Crowd::at(&node, crowd);
    let (code, report) = gather(&node, &["--timeout", "60s"]);
    assert_eq!((code, &report["decision"]), (0, &"proceed".into()), "{report}");
    all_ready(&report, 30_000);
    let truth = crowd.finish();
    let asked: u64 = truth.classes.iter().map(|class| class.orders).sum();
    assert_eq!(asked, n(&report, "sent"));
}
