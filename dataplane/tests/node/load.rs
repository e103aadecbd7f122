//! The load tool against a real node: what its reports say of the node, and what is made of them.

use crate::rig::Node;
use blast::{
    Config, Op, Pace,
    document::{Body, Document},
    html,
    origin::Origin,
    sweep::{self, Plan, Rates},
};
use client::Addr;
use std::time::Duration;
use wire::Operation;

fn short(addr: &Addr, op: Op, rate: f64) -> Config {
    let mut config = Config::new(addr.clone(), op);
    (config.pace, config.size) = (Pace::Open { rate }, Some(4_096));
    (config.duration, config.warmup) = (Duration::from_millis(500), Duration::from_millis(100));
    config.connections = 2;
    config
}

#[test]
fn card_07_a_report_of_a_real_node_says_where_it_was_computed_and_how() {
    let node = Node::start(&[]);
    let run = blast::measure(short(&node.addr(), Op::Work(Operation::TopK), 200.0)).expect("a run");
    let report = &run.report;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.planned, report.sent), (100, 100), "{report}");
    assert_eq!(report.ok + report.refused, 100, "{report}");
    let landed: u64 = run.timeline.slices.iter().map(|slice| slice.latency_ns.total()).sum();
    assert_eq!(landed, report.ok, "every answer is in the timeline");
    for fact in ["version", "security", "backend_reason", "huge_page_bytes", "worker_sandbox"] {
        assert!(report.server.facts.contains_key(fact), "{fact}: {:?}", report.server.facts);
    }
    let (backend, security) =
        (report.server.backend.clone(), report.server.facts["security"].clone());
    let kept = Document::new(Origin::here(), Body::Run(Box::new(run)));
    let back = Document::read(kept.json().expect("json").as_bytes()).expect("a report");
    let page = html::page(&back);
    for part in [backend.expect("a backend"), security, "frugal".to_owned()] {
        assert!(page.contains(&part), "{part}");
    }
}

#[test]
fn card_07_a_sweep_of_a_real_node_finds_a_capacity_and_offers_parts_of_it() {
    let node = Node::start(&[]);
    let mut config = short(&node.addr(), Op::Work(Operation::Echo), 1.0);
    config.duration = Duration::from_millis(100);
    let plan = Plan { config, rates: Rates::Found { probe_depth: 2 } }.check().expect("sound");
    let mut told = 0;
    let found = sweep::sweep(&plan, &mut |_| told += 1).expect("a sweep");
    assert!(found.is_clean(), "{}", found.text(120));
    let capacity = found.capacity.expect("a closed loop");
    assert_eq!((found.points.len(), told), (11, 12));
    for point in &found.points {
        assert!(point.rate <= capacity * 1.0001 && point.planned >= point.sent, "{point:?}");
        assert_eq!(point.sent, point.ok + point.refused, "{point:?}");
    }
    assert!(found.server.backend.is_some());
}
