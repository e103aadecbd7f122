//! What a person at a terminal sees of a real node: status, top, and help to begin with.

use crate::{
    mesh::crowd::{Crowd, config, gather},
    rig::{Folder, Node, butterfly, run, words},
};
use serde_json::Value;
use std::{fs, process::Command};

mod top;

fn status(node: &Node) -> Value {
    let output = run(&["status", "--addr", &node.addr_text(), "--json"]);
    assert!(output.status.success(), "{}", words(&output));
    serde_json::from_slice::<Value>(&output.stdout).expect("json")
}

fn text(args: &[&str]) -> String {
    let output = butterfly().args(args).env("LC_ALL", "C.UTF-8").output().expect("runs");
    assert!(output.status.success(), "{}", words(&output));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn cons_01_bar_01_bar_02_status_tells_of_agents_gathers_and_mode() {
    let node = Node::start(&["--name", "hall-1"]);
    let before = status(&node);
    assert_eq!(before["overview"]["bar"]["of"], "workers", "{before}");
    assert_eq!(before["overview"]["mesh"]["last_gather_ms"], 0);
    let _crowd = Crowd::at(&node, config(&node, 60));
    let (code, _) = gather(&node, &["--targets", "all"]);
    assert_eq!(code, 0);
    // Who stands how is looked at once a second.
    node.await_total("butterfly_mesh_standing_agents", 60);
    let seen = &status(&node)["overview"];
    assert_eq!((&seen["node"]["name"], &seen["node"]["ready"]), (&"hall-1".into(), &true.into()));
    assert_eq!((&seen["bar"]["of"], &seen["bar"]["total"]), (&"agents".into(), &60.into()));
    let parts = seen["bar"]["parts"].as_array().expect("parts");
    let sum = |key: &str| parts.iter().filter_map(|part| part[key].as_u64()).sum::<u64>();
    assert_eq!((sum("count"), sum("permille"), parts.len()), (60, 1_000, 5));
    let row = &seen["gathers"][0];
    assert_eq!((&row["decision"], &row["targets"]), (&"proceed".into(), &60.into()), "{row}");
    let arrived: u64 = row["arrivals"]
        .as_array()
        .expect("a histogram")
        .iter()
        .filter_map(|bin| bin[1].as_u64())
        .sum();
    assert_eq!(arrived, 60, "everybody was ready at some time: {row}");
    assert_eq!(seen["mesh"]["last_gather_ms"], row["at_ms"]);
    assert_eq!((&seen["mesh"]["mode"], &seen["mesh"]["agents"]), (&"normal".into(), &60.into()));
    let addr = node.addr_text();
    let frozen = run(&["freeze", "--addr", &addr, "--scope", "all"]);
    assert!(frozen.status.success(), "{}", words(&frozen));
    assert_eq!(status(&node)["overview"]["mesh"]["mode"], "frozen");
    let shown = text(&["status", "--addr", &addr]);
    for part in ["60 of 60 active (100.0%)", "frozen", "proceed, ", "agents: ", "╭─ hall-1 ─"]
    {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "no colours where there is no terminal: {shown}");
}

#[test]
fn cons_01_counters_are_shown_on_demand_and_the_address_may_come_from_the_environment() {
    let node = Node::start(&[]);
    let addr = node.addr_text();
    let ask = |args: &[&str], language: &str| {
        let output = butterfly()
            .args(args)
            .env("BUTTERFLY_ADDR", &addr)
            .env("LC_ALL", language)
            .output()
            .expect("runs");
        assert!(output.status.success(), "{}", words(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    let shown = ask(&["status"], "C");
    assert!(shown.contains("workers: ") && shown.contains("worker-0"), "{shown}");
    assert!(shown.starts_with("+- ") && !shown.contains("counter"), "{shown}");
    assert!(shown.lines().all(|line| line.is_ascii() && line.len() <= 80), "{shown}");
    assert!(ask(&["status", "--counters"], "C").contains("turns"));
    assert!(ask(&["map"], "C").contains("0 agents"), "every command takes it");
}

#[test]
fn a_newcomer_is_told_where_to_begin() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    let said = words(&output);
    let places = ["Where to begin", "butterfly demo", "butterfly serve", "blast run", "or top"];
    let at: Vec<Option<usize>> = places.iter().map(|part| said.find(part)).collect();
    assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{at:?} in {said}");
    assert!(said.contains("Agents and orders:") && !said.contains("prove-state"), "{said}");
}

#[test]
fn shells_complete_and_every_command_has_a_page() {
    for (shell, part) in [("bash", "_butterfly"), ("zsh", "#compdef"), ("fish", "complete -c")] {
        let script = text(&["completions", shell]);
        assert!(script.contains(part) && script.contains("counters"), "{shell}");
        assert!(text(&["completions", shell, "--program", "blast"]).contains("blast"), "{shell}");
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
    let folder = Folder::new();
    let out = folder.file("man1");
    text(&["man", "--out", out.to_str().expect("text")]);
    let pages: Vec<String> = fs::read_dir(&out)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    for page in ["butterfly", "butterfly-serve", "butterfly-top", "butterfly-ca-issue", "blast-run"]
    {
        assert!(pages.contains(&format!("{page}.1")), "{page} in {pages:?}");
    }
    assert!(!pages.iter().any(|page| page.contains("prove-state")), "{pages:?}");
    let lint = Command::new("mandoc")
        .args(["-T", "lint", "-W", "error"])
        .args(pages.iter().map(|page| out.join(page)));
    match { lint }.output() {
        Err(_) => eprintln!("not run: mandoc is missing; apt-get install mandoc"),
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout))
        }
    }
}
