//! Waves, priorities, and nodes above and below each other.

use crate::rig::{Act, Rig, everybody};
use mesh::{MS, SECOND};
use wire::{
    ErrorCode, Kind, frame,
    mesh::{AgentClass, CircuitAction, Decision, Scope, SelectBy, SkipReason, Strategy},
    payload::mesh::{Circuit, Counts, Freeze, Gather, GatherReport},
};

const EDGE: AgentClass = AgentClass::Edge;

/// Opens the breaker of a sector.
fn open(rig: &mut Rig, node: usize, sector: u16) {
    let operator = rig.peer();
    let (action, scope) = (CircuitAction::Open.code(), Scope::Sector.code());
    let order = Circuit { action, scope, sector, ..Circuit::default() };
    rig.call(node, |mesh, now, out| mesh.circuit(now, operator, &order, out));
}

#[test]
fn cascade_01_08_a_wave_says_what_it_reached_on_each_level() {
    let mut rig = Rig::new(1, 900);
    rig.add(0, 0..600, EDGE, Act::Ready(5 * MS));
    rig.ask(0, &everybody());
    rig.run(10 * SECOND);
    let result = rig.result();
    let phases: Vec<_> =
        result.phases.iter().map(|(name, reached, of)| (name.as_str(), *reached, *of)).collect();
    assert_eq!(phases, [("sectors", 2, 2), ("clusters", 20, 20), ("agents", 600, 600)]);
    assert_eq!((result.decision, result.reached), (Decision::Proceed, (2, 20)));
}

#[test]
fn cascade_02_meshmsg_17_a_sector_without_a_way_in_fails_the_wave_and_nothing_is_sent() {
    let mut rig = Rig::new(1, 900);
    rig.add(0, 0..600, EDGE, Act::Ready(5 * MS));
    open(&mut rig, 0, 1);
    rig.ask(0, &everybody());
    rig.run(10 * SECOND);
    let result = rig.result();
    assert_eq!(result.decision, Decision::FailedAtSector);
    assert!(result.reason.starts_with("1 of 2 sectors confirmed"), "{}", result.reason);
    assert_eq!(result.counts.sent, 0);
    let skips: Vec<_> = result.skips.iter().map(|row| (row.0, row.1)).collect();
    assert_eq!(skips, [(SkipReason::CircuitOpen, 300), (SkipReason::Unconfirmed, 300)]);
    assert!(rig.agents.iter().all(|agent| agent.got == 0));
    // The parallel strategy asks nobody first.
    rig.inbox.clear();
    rig.ask(0, &Gather { strategy: Strategy::Parallel.code(), ..everybody() });
    rig.run(20 * SECOND);
    assert_eq!(rig.result().decision, Decision::Proceed);
}

#[test]
fn cascade_03_y_18_a_waves_status_is_its_worst_levels() {
    let mut rig = Rig::new(1, 900);
    rig.add(0, 0..300, EDGE, Act::Ready(5 * MS));
    let operator = rig.peer();
    for cluster in 0..2 {
        let order = Circuit { cluster, ..Circuit::default() };
        rig.call(0, |mesh, now, out| mesh.circuit(now, operator, &order, out));
    }
    rig.ask(0, &everybody());
    rig.run(10 * SECOND);
    let result = rig.result();
    assert_eq!(result.phases[1], ("clusters".to_owned(), 8, 10));
    assert_eq!((result.counts.ready, result.counts.sent), (240, 240), "it goes on");
    assert_eq!(result.decision, Decision::Retry);
    assert!(result.reason.starts_with("8 of 10 clusters confirmed"), "{}", result.reason);
}

#[test]
fn meshmsg_17_18_what_is_shut_after_the_choice_gets_no_later_phase() {
    let shut = [(Some(Scope::Global), 0), (Some(Scope::Global), 3), (Some(Scope::Sector), 3)];
    for (breaker, priority) in shut.into_iter().chain([(None, 3)]) {
        let mut rig = Rig::new(1, 100);
        rig.add(0, 0..10, AgentClass::Gpu, Act::Ready(5 * MS));
        rig.add(0, 10..30, EDGE, Act::Ready(5 * MS));
        let ask = Gather { strategy: Strategy::Priority.code(), priority, ..everybody() };
        rig.ask(0, &ask);
        // The first phase is planned, the second is to come.
        let operator = rig.peer();
        if let Some(scope) = breaker {
            let (action, scope) = (CircuitAction::Open.code(), scope.code());
            let order = Circuit { action, scope, ..Circuit::default() };
            rig.call(0, |mesh, now, out| mesh.circuit(now, operator, &order, out));
        } else {
            let order = Freeze { scope: Scope::Global.code(), ..Freeze::default() };
            rig.call(0, |mesh, now, out| mesh.freeze(now, operator, &order, out));
        }
        rig.run(20 * SECOND);
        let result = rig.result();
        let skips: Vec<_> = result.skips.iter().map(|row| (row.0, row.1)).collect();
        let reason = if breaker.is_some() { SkipReason::CircuitOpen } else { SkipReason::Frozen };
        let passes = breaker == Some(Scope::Global) && priority == 3;
        let (sent, expected) = if passes { (30, vec![]) } else { (10, vec![(reason, 20)]) };
        assert_eq!((result.counts.sent, skips), (sent, expected), "{breaker:?} {priority}");
        assert_eq!(rig.agents.iter().map(|agent| agent.got).sum::<u32>(), sent);
    }
}

#[test]
fn cascade_05_parallel_needs_ninety_percent_within_a_second() {
    for (silent, decision) in [(10, Decision::Proceed), (11, Decision::Wait)] {
        let mut rig = Rig::new(1, 100);
        rig.add(0, 0..100 - silent, EDGE, Act::Ready(5 * MS));
        rig.add(0, 100 - silent..100, EDGE, Act::Silent);
        rig.ask(0, &Gather { strategy: Strategy::Parallel.code(), ..everybody() });
        rig.run(10 * SECOND);
        let result = rig.result();
        assert_eq!((result.decision, result.window), (decision, SECOND), "{}", result.reason);
    }
}

#[test]
fn cascade_06_priority_goes_by_class_and_on_after_a_failed_one() {
    let mut rig = Rig::new(1, 200);
    for (first, class) in [(0, AgentClass::Edge), (10, AgentClass::Gpu), (30, AgentClass::Local)] {
        rig.add(0, first..first + 10, class, Act::Ready(5 * MS));
    }
    // One of eleven GPUs is silent: 0.91 is under 0.99.
    rig.add(0, 20..21, AgentClass::Gpu, Act::Silent);
    // People have no phase.
    rig.add(0, 60..62, AgentClass::Human, Act::Ready(MS));
    let ask =
        Gather { strategy: Strategy::Priority.code(), timeout_ns: 20 * SECOND, ..everybody() };
    rig.ask(0, &ask);
    rig.run(30 * SECOND);
    let result = rig.result();
    let phases: Vec<_> =
        result.phases.iter().map(|(name, reached, of)| (name.as_str(), *reached, *of)).collect();
    assert_eq!(phases, [("D", 10, 11), ("A", 10, 10), ("E", 10, 10)]);
    assert_ne!(result.decision, Decision::Proceed);
    assert!(result.reason.starts_with("class D:"), "{}", result.reason);
    assert_eq!(
        result.skips.iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(),
        [(SkipReason::OverRange, 2)]
    );
    // The failed class was waited for, then the next ones came.
    assert!(result.total > 500 * MS);
}

#[test]
fn y_13_people_are_asked_when_they_are_meant_and_have_hours() {
    let mut rig = Rig::new(1, 20);
    rig.add(0, 0..3, AgentClass::Human, Act::Ready(30 * SECOND));
    let human = Gather {
        select: SelectBy::Class.code(),
        class: AgentClass::Human.code(),
        window_ns: 3600 * SECOND,
        strategy: Strategy::Parallel.code(),
        ..everybody()
    };
    rig.ask(0, &human);
    rig.run(3 * 3600 * SECOND);
    let result = rig.result();
    assert_eq!((result.counts.ready, result.decision), (3, Decision::Proceed), "{result:?}");
}

/// A root with two nodes below it, agents everywhere; joined and with known clocks.
fn tree() -> Rig {
    let mut rig = Rig::new(3, 300);
    for node in 0..3 {
        let first = node as u32 * 1_000;
        rig.add(node, first..first + 50, EDGE, Act::Ready(5 * MS));
    }
    rig.join(1, 0);
    rig.join(2, 0);
    rig.run(4 * SECOND);
    rig
}

#[test]
fn cascade_01_hier_04_a_tree_is_one_gather_and_its_reports_add_up() {
    let mut rig = tree();
    assert_eq!(rig.nodes[0].counters().children_joined, 2);
    assert_eq!(rig.nodes[1].counters().parent_joined, 1);
    let before = rig.inbox.len();
    rig.ask(0, &everybody());
    rig.run(rig.now + 10 * SECOND);
    assert_eq!(rig.inbox.len() - before, 1, "one result, whoever was asked below");
    let result = rig.result();
    assert_eq!((result.counts.targets, result.counts.ready), (150, 150), "{result:?}");
    assert_eq!(result.counts.in_time, 150, "each hop has its own leads: {result:?}");
    assert_eq!(result.phases[0], ("sectors".to_owned(), 3, 3));
    assert_eq!(result.phases[2], ("agents".to_owned(), 150, 150));
    assert_eq!(result.decision, Decision::Proceed);
    assert_eq!(result.reached.0, 3);
    assert_eq!(result.classes, [(EDGE, 150, 150, 150)]);
}

#[test]
fn cascade_02_a_node_below_that_does_not_answer_is_named() {
    let mut rig = tree();
    // Its connection stands, and nothing comes over it any more.
    rig.deaf = Some(2);
    rig.ask(0, &Gather { strategy: Strategy::Parallel.code(), ..everybody() });
    rig.run(rig.now + 10 * SECOND);
    let result = rig.result();
    assert_eq!((result.counts.ready, result.counts.sent), (100, 100));
    assert_eq!(result.counts.skipped, 50, "those that its last summary knew");
    assert_eq!(result.names, ["node node-2"]);
    rig.inbox.clear();
    rig.ask(0, &everybody());
    rig.run(rig.now + 10 * SECOND);
    assert_eq!(rig.result().decision, Decision::FailedAtSector, "two of three sectors");
}

#[test]
fn hier_07_a_node_that_dies_in_mid_cascade_leaves_stragglers_and_the_rest_goes_on() {
    let mut rig = tree();
    rig.add(1, 1_050..1_060, EDGE, Act::Silent);
    rig.run(rig.now + 6 * SECOND);
    rig.ask(0, &everybody());
    // Asked, prepared, told; its silent agents keep its result back.
    rig.run(rig.now + 300 * MS);
    rig.part(1);
    rig.run(rig.now + 10 * SECOND);
    let results: Vec<_> =
        rig.reports().into_iter().filter(|report| report.is_final && report.node == 0).collect();
    assert_eq!(results.len(), 1);
    let result = &results[0];
    assert_eq!((result.counts.targets, result.counts.ready), (160, 100));
    assert_eq!(result.counts.stragglers, 60);
    assert_eq!(result.names[0], "node node-1");
    assert_ne!(result.decision, Decision::Proceed);
    assert_eq!(rig.nodes[0].running() + rig.nodes[1].running(), 0);
}

#[test]
fn hier_03_without_its_parent_a_node_serves_on_and_joins_again() {
    let mut rig = tree();
    rig.part(1);
    assert_eq!(rig.nodes[1].counters().parent_lost, 1);
    rig.inbox.clear();
    rig.ask(1, &everybody());
    rig.run(rig.now + 5 * SECOND);
    assert_eq!((rig.result().node, rig.result().counts.ready), (1, 50));
    rig.join(1, 0);
    rig.run(rig.now + 3 * SECOND);
    rig.inbox.clear();
    rig.ask(0, &everybody());
    rig.run(rig.now + 5 * SECOND);
    assert_eq!(rig.result().counts.ready, 150, "{:?}", rig.result());
}

#[test]
fn hier_08_agents_of_a_lost_node_are_taken_over_by_another() {
    let mut rig = tree();
    rig.part(1);
    // Its agents come to the standby, which is the node 2.
    for number in 1_000..1_050 {
        let at = rig
            .agents
            .iter()
            .position(|agent| agent.place.agent_id == Rig::record(number, EDGE).agent_id);
        let at = at.expect("registered before");
        let peer = rig.peer();
        let place = rig.register(2, peer, vec![Rig::record(number, EDGE)])[0];
        assert_eq!(place.fault, 0);
        let agent = &mut rig.agents[at];
        (agent.node, agent.peer, agent.place) = (2, peer, place);
    }
    rig.run(rig.now + 6 * SECOND);
    rig.inbox.clear();
    rig.ask(0, &everybody());
    rig.run(rig.now + 5 * SECOND);
    let result = rig.result();
    assert_eq!((result.counts.targets, result.counts.ready), (150, 150));
    assert_eq!(result.decision, Decision::Proceed);
}

#[test]
fn hier_04_a_sector_of_a_node_below_has_a_number_of_its_parents() {
    let mut rig = tree();
    // 300 seats are one sector of the root: the first below is number 1.
    rig.ask(0, &Gather { select: SelectBy::Sector.code(), sector: 1, ..everybody() });
    rig.run(rig.now + 5 * SECOND);
    let result = rig.result();
    assert_eq!((result.counts.targets, result.counts.ready), (50, 50));
    let got = |node| rig.agents.iter().filter(|it| it.node == node && it.got == 1).count();
    assert_eq!((got(0), got(1) + got(2)), (0, 50));
    rig.inbox.clear();
    open(&mut rig, 0, 1);
    rig.run(rig.now + SECOND);
    rig.ask(0, &Gather { select: SelectBy::Sector.code(), sector: 1, ..everybody() });
    rig.run(rig.now + 5 * SECOND);
    assert_eq!(rig.result().decision, Decision::FailedAtSector, "the order went down");
}

#[test]
fn cascade_01_ids_are_unknown_only_where_no_node_knows_them() {
    let mut rig = tree();
    let id = |number: u32| Rig::record(number, EDGE).agent_id;
    let ids = vec![id(0), id(1_000), id(2_000), id(77_777)];
    rig.ask(0, &Gather { select: SelectBy::Ids.code(), ids, ..everybody() });
    rig.run(rig.now + 5 * SECOND);
    let result = rig.result();
    assert_eq!((result.counts.targets, result.counts.ready), (4, 3));
    assert_eq!(result.skips, [(SkipReason::Unknown, 1, 0, 0)]);
}

#[test]
fn hier_04_a_report_from_below_that_does_not_add_up_is_none() {
    let mut rig = tree();
    rig.add(1, 1_050..1_051, EDGE, Act::Silent);
    rig.ask(0, &Gather { strategy: Strategy::Parallel.code(), ..everybody() });
    rig.run(rig.now + 60 * MS);
    // The node 1 is still waiting; somebody on its connection says what cannot be.
    let (number, from) = rig.asked_of(1).expect("it was asked");
    let counts = Counts { targets: 51, scheduled: 51, sent: 51, ready: 52, ..Counts::default() };
    let lie = GatherReport { counts, is_final: true, ..GatherReport::default() };
    let mut bytes = Vec::new();
    frame::append(&mut bytes, &lie, number, 0).expect("fits");
    rig.call(0, |mesh, now, out| {
        mesh.frame(now, from, now.node, Kind::GatherReport, number, &bytes[32..], out);
    });
    assert_eq!(rig.nodes[0].counters().bad_sums, 1);
    rig.run(rig.now + 10 * SECOND);
    let result = rig.result();
    assert_eq!((result.counts.ready, result.counts.stragglers), (100, 51));
    assert_eq!(result.names[0], "node node-1");
    // From somebody who was never asked it is refused.
    let stranger = rig.peer();
    rig.call(0, |mesh, now, out| {
        mesh.frame(now, stranger, now.node, Kind::GatherReport, number, &bytes[32..], out);
    });
    assert_eq!(rig.refusals(), [(stranger, ErrorCode::UnservedType)]);
}
