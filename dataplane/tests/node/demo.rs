//! The first command of the README, and the status of a node.

use crate::rig::{Node, run, words};

#[test]
fn the_demo_shows_every_operation_and_ends_well() {
    let output = run(&["demo", "--seconds", "1.5", "--json"]);
    assert!(output.status.success(), "{}", words(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(report["clean"], true);
    assert!(report["node"]["backend"].is_string() && report["node"]["backend_reason"].is_string());
    let operations = report["operations"].as_array().expect("a list");
    let names: Vec<_> = operations.iter().map(|op| op["op"].as_str().expect("text")).collect();
    assert_eq!(names, ["ping", "echo", "topk", "topk", "int8"]);
    for operation in operations {
        let load = &operation["load"];
        assert!(load["ok"].as_u64() > Some(0), "{operation}");
        assert_eq!((&load["lost"], &load["errors"]), (&0.into(), &0.into()), "{operation}");
    }
    let float = |at: usize, key: &str| {
        let value = &operations[at]["fidelity"][key];
        value.as_f64().unwrap_or_else(|| panic!("{key}: {}", operations[at]))
    };
    assert!((0.9..1.0).contains(&float(2, "retained_mass")) && float(2, "kl_nats") < 0.3);
    assert!((0.9..1.0).contains(&float(3, "retained_mass")) && float(3, "kl_nats") < 0.3);
    assert!(float(4, "relative_error") < 0.02 && float(4, "snr_db") > 30.0);
    assert!(operations[2]["ratio"].as_f64() > Some(90.0));
    assert_eq!(operations[1]["fidelity"]["exact"], true);
    let coded = report["coded"].as_array().expect("a list");
    let bytes: Vec<f64> = coded.iter().filter_map(|c| c["bytes_per_row"].as_f64()).collect();
    assert_eq!(bytes.len(), 3, "{coded:?}");
    assert!(bytes[0] < 215.0 && bytes[1] < 190.0, "COMP-04: {bytes:?}");
    assert!(coded[0]["fidelity"]["kl_nats"].as_f64() < Some(0.3));
    assert!(coded[2]["fidelity"]["relative_error"].as_f64() < Some(0.01));
    landed_together(&report["mesh"], 2_000);
}

#[test]
fn the_mesh_can_be_shown_by_itself() {
    let output = run(&["demo", "--mesh", "--agents", "500", "--json"]);
    assert!(output.status.success(), "{}", words(&output));
    landed_together(&serde_json::from_slice(&output.stdout).expect("json"), 500);
}

/// Agents were sent one message so that they were ready together: what is shown of it.
fn landed_together(mesh: &serde_json::Value, agents: u64) {
    let gather = &mesh["gather"];
    let count = |key: &str| gather[key].as_u64().unwrap_or_else(|| panic!("{key}: {gather}"));
    assert_eq!((mesh["agents"].as_u64(), count("targets")), (Some(agents), agents), "{mesh}");
    assert_eq!(count("targets"), count("sent") + count("skipped"), "{gather}");
    assert!(count("ready") * 100 >= agents * 90, "{gather}");
    let outcomes = ["ready", "conflicts", "transit", "stragglers"].map(count);
    assert_eq!(outcomes.iter().sum::<u64>(), count("sent"), "{gather}");
    for way in ["scheduled", "broadcast"] {
        let ready = &mesh["ready_ms"][way];
        assert!(ready["count"].as_u64() >= Some(100), "a fair choice of them: {way}: {mesh}");
        for key in ["p01", "p50", "p99", "spread_98"] {
            assert!(ready[key].is_number(), "{way} {key}: {mesh}");
        }
    }
}

#[test]
fn the_table_answers_every_question_of_a_first_reader() {
    let output = run(&["demo", "--seconds", "0.5"]);
    assert!(output.status.success(), "{}", words(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "requests/s",
        "latency p50",
        "latency p99",
        "to the node",
        "from the node",
        "ratio",
        "retained mass",
        "KL",
        "relative error",
        "copies per request",
        "batches closed by",
        "backend:",
        "2,000 agents, one message",
        "each at its own moment",
        "a plain broadcast",
    ] {
        assert!(text.contains(line), "`{line}` is missing in\n{text}");
    }
}

#[test]
fn metr_status_shows_counters_for_people_and_programs() {
    let node = Node::start(&[]);
    node.raw().lives();
    let addr = node.addr_text();
    let json = run(&["status", "--addr", &addr, "--json"]);
    assert!(json.status.success(), "{}", words(&json));
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("json");
    assert_eq!(report["counters"]["butterfly_pings_total"], 1);
    assert_eq!(report["active_workers"], 1);
    assert_eq!(report["info"]["poll"], "frugal");
    assert_eq!(report["counters"]["butterfly_refusals_total"]["bad_k"], 0);
    let text = run(&["status", "--addr", &addr, "--counters"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("pings") && text.contains("worker-0"), "{text}");
    let absent = run(&["status", "--addr", "127.0.0.1:1"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(words(&absent).contains("butterfly serve"), "{}", words(&absent));
}
