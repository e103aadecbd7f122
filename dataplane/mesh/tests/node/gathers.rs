//! Scatter-gather: each target one outcome, sums that hold, answers that do not count.

use crate::rig::{Act, Rig, everybody};
use mesh::{MS, SECOND, node::Record};
use wire::{
    ErrorCode,
    mesh::{AgentClass, Decision, SelectBy, SkipReason, Trinary},
    payload::mesh::{AgentRecord, Gather},
};

const EDGE: AgentClass = AgentClass::Edge;

#[test]
fn scatter_01_03_06_everybody_ready_proceeds_before_the_window_ends() {
    let mut rig = Rig::new(1, 100);
    rig.add(0, 0..100, EDGE, Act::Ready(5 * MS));
    let asker = rig.ask(0, &everybody());
    rig.run(10 * SECOND);
    let result = rig.result();
    assert_eq!((result.to, result.message_id), (asker, 77));
    assert_eq!((result.counts.targets, result.counts.ready), (100, 100));
    assert_eq!(result.decision, Decision::Proceed, "{result:?}");
    assert_eq!(result.counts.in_time, 100, "leads have room for 2 ms and 5 ms");
    assert!(result.window >= 500 * MS && result.total < 400 * MS, "{result:?}");
    assert_eq!(result.fire, 100);
    assert_eq!(result.reached, (1, 4), "100 agents of one kind sit in four clusters");
    assert!(rig.agents.iter().all(|agent| agent.got == 1));
    assert_eq!(rig.nodes[0].running(), 0);
    assert!(matches!(&rig.records[..], [Record::Gather { .. }]));
    assert_eq!(rig.nodes[0].kpi().success_rate(rig.now), Some(1.0));
}

#[test]
fn scatter_03_04_trin_01_each_kind_of_answer_is_kept_apart() {
    let mut rig = Rig::new(1, 100);
    rig.add(0, 0..10, EDGE, Act::Ready(5 * MS));
    rig.add(0, 10..14, EDGE, Act::Conflict);
    rig.add(0, 14..17, EDGE, Act::Transit);
    rig.add(0, 17..22, EDGE, Act::TransitThenReady(5 * MS));
    rig.add(0, 22..24, EDGE, Act::Thrice(5 * MS));
    rig.add(0, 24..25, EDGE, Act::Fickle(5 * MS));
    let silent = rig.add(0, 25..31, EDGE, Act::Silent);
    rig.ask(0, &everybody());
    rig.run(10 * SECOND);
    let result = rig.result();
    let counts = result.counts;
    assert_eq!((counts.targets, counts.sent), (31, 31));
    assert_eq!((counts.ready, counts.conflicts), (17, 5), "the first final answer counts");
    assert_eq!((counts.transit, counts.stragglers, counts.duplicates), (3, 6, 5));
    assert_eq!(result.names.len(), silent.len());
    assert_eq!(result.conflicts.len(), 5);
    assert!(
        result
            .conflicts
            .iter()
            .all(|(name, detail)| { name.starts_with("S00-C0") && detail == "knows better" })
    );
    assert_eq!(result.decision, Decision::Wait, "{}", result.reason);
    assert!(result.total >= 500 * MS, "stragglers do not block, the window ends it");
}

#[test]
fn x_13_sched_05_a_moment_in_the_past_reaches_nobody_and_says_by_how_much() {
    let mut rig = Rig::new(1, 100);
    rig.add(0, 0..20, EDGE, Act::Ready(MS));
    let at_epoch_ns = rig.clocks().epoch_ns - 10 * MS;
    rig.ask(0, &Gather { at_epoch_ns, ..everybody() });
    rig.run(10 * SECOND);
    let result = rig.result();
    assert_eq!(result.decision, Decision::NoTargets);
    assert_eq!((result.counts.skipped, result.counts.sent), (20, 0));
    let (reason, count, need, left) = result.skips[0];
    assert_eq!((reason, count, left), (SkipReason::InsufficientLeadTime, 20, 0));
    assert!(need > 10_000, "microseconds that were needed: {need}");
    assert_eq!(result.shares[0], 0.0, "coverage");
}

#[test]
fn x_13_nobody_chosen_is_no_targets() {
    let mut rig = Rig::new(1, 10);
    rig.ask(0, &everybody());
    rig.run(SECOND * 3);
    let result = rig.result();
    assert_eq!((result.decision, result.counts.targets), (Decision::NoTargets, 0));
    assert_eq!(rig.nodes[0].kpi().success_rate(rig.now), None, "no operation");
}

#[test]
fn sched_06_a_moment_that_is_given_is_kept() {
    let mut rig = Rig::new(1, 100);
    rig.add(0, 0..20, EDGE, Act::Ready(MS));
    let at = rig.now + 3 * SECOND;
    rig.ask(0, &Gather { at_epoch_ns: crate::rig::EPOCH + at, ..everybody() });
    rig.run(20 * SECOND);
    let result = rig.result();
    assert_eq!(result.target, at);
    assert_eq!(result.counts.in_time, 20);
    assert!(result.total > 2 * SECOND && result.decision == Decision::Proceed);
}

#[test]
fn sched_05_ids_that_nobody_has_are_unknown_and_the_offline_are_said() {
    let mut rig = Rig::new(1, 100);
    let added = rig.add(0, 0..3, EDGE, Act::Ready(MS));
    let gone = rig.agents[added[2]];
    rig.call(0, |mesh, now, out| mesh.gone(now, gone.peer, out));
    let id = |number: u32| Rig::record(number, EDGE).agent_id;
    let ids = vec![id(0), id(1), id(2), id(0), id(900)];
    rig.ask(0, &Gather { select: SelectBy::Ids.code(), ids, strategy: 1, ..everybody() });
    rig.run(10 * SECOND);
    let result = rig.result();
    assert_eq!((result.counts.targets, result.counts.ready), (4, 2), "once each");
    let mut reasons: Vec<_> = result.skips.iter().map(|row| (row.0, row.1)).collect();
    reasons.sort();
    assert_eq!(reasons, [(SkipReason::Offline, 1), (SkipReason::Unknown, 1)]);
}

#[test]
fn sec_04_who_lacks_an_ability_is_not_ordered_whatever_the_order_names() {
    let by_id: Vec<[u8; 16]> = (0..4).map(|number| Rig::record(number, EDGE).agent_id).collect();
    for (select, ids) in [(SelectBy::All, Vec::new()), (SelectBy::Ids, by_id)] {
        let mut rig = Rig::new(1, 100);
        rig.add(0, 0..3, EDGE, Act::Ready(MS));
        // A fourth one registers without any ability.
        let unable = AgentRecord { capabilities: Vec::new(), ..Rig::record(3, EDGE) };
        let peer = rig.peer();
        assert_eq!(rig.register(0, peer, vec![unable])[0].fault, 0);
        let requires_capabilities = vec!["act".into()];
        rig.ask(0, &Gather { select: select.code(), ids, requires_capabilities, ..everybody() });
        rig.run(10 * SECOND);
        let result = rig.result();
        let skipped: Vec<_> = result.skips.iter().map(|row| (row.0, row.1)).collect();
        assert_eq!(skipped, [(SkipReason::Incapable, 1)], "and the reason is said");
        assert_eq!((result.counts.sent, result.counts.ready), (3, 3));
    }
}

#[test]
fn scatter_07_limits_are_said_and_nothing_begins() {
    let mut rig = Rig::new(1, 10);
    rig.add(0, 0..5, EDGE, Act::Silent);
    let long = Gather { payload: vec![0; 16 * 1024 + 1], ..everybody() };
    let odd = |change: fn(&mut Gather)| {
        let mut ask = everybody();
        change(&mut ask);
        ask
    };
    let bad = [
        long,
        odd(|ask| ask.on_time = 1.0),
        odd(|ask| ask.on_time = 0.4),
        odd(|ask| ask.on_time = f32::NAN),
        odd(|ask| ask.min_rate = 1.5),
        odd(|ask| ask.min_rate = f32::NAN),
        odd(|ask| ask.max_conflict = -0.1),
        odd(|ask| ask.payload_weight = f32::INFINITY),
        odd(|ask| ask.window_ns = u64::MAX),
        odd(|ask| ask.timeout_ns = u64::MAX),
        odd(|ask| ask.at_epoch_ns = u64::MAX),
        odd(|ask| ask.priority = 4),
        odd(|ask| ask.verb = 6),
        odd(|ask| ask.strategy = 3),
        odd(|ask| ask.select = 6),
        odd(|ask| (ask.select, ask.class) = (1, 6)),
        odd(|ask| ask.select = SelectBy::Capability.code()),
        odd(|ask| ask.phase = 1),
        odd(|ask| ask.phase = 2),
        odd(|ask| ask.phase = 3),
        odd(|ask| ask.ids = vec![[1; 16]; 30_001]),
        odd(|ask| ask.requires_capabilities = vec!["a".into(); 17]),
    ];
    for (at, ask) in bad.iter().enumerate() {
        rig.ask(0, ask);
        assert_eq!(rig.refusals().len(), at + 1, "{at}");
    }
    assert_eq!(rig.nodes[0].counters().bad_gathers, bad.len() as u64);
    assert_eq!(rig.nodes[0].running(), 0);
    for _ in 0..6 {
        rig.ask(0, &everybody());
    }
    assert_eq!(rig.nodes[0].running(), 4, "so many at once");
    let refused = rig.refusals();
    let overloaded = refused.iter().filter(|(_, code)| *code == ErrorCode::Overloaded).count();
    assert_eq!(overloaded, 2);
    rig.run(20 * SECOND);
    assert_eq!(rig.nodes[0].running(), 0, "each ends");
}

#[test]
fn scatter_01_the_timeout_bounds_the_whole_call() {
    let mut rig = Rig::new(1, 10);
    rig.add(0, 0..5, EDGE, Act::Silent);
    rig.ask(0, &Gather { timeout_ns: 50 * MS, ..everybody() });
    rig.run(SECOND * 2);
    let result = rig.result();
    assert!(result.total <= 51 * MS, "{result:?}");
    assert_ne!(result.decision, Decision::Proceed);
}

#[test]
fn z_08_what_would_leave_after_its_time_to_live_does_not_leave() {
    let mut rig = Rig::new(1, 10);
    rig.add(0, 0..5, EDGE, Act::Ready(MS));
    let at_epoch_ns = rig.clocks().epoch_ns + 2 * SECOND;
    rig.ask(0, &Gather { at_epoch_ns, ttl_ms: 1000, ..everybody() });
    rig.run(10 * SECOND);
    let result = rig.result();
    assert_eq!(result.skips[0].0, SkipReason::Expired);
    assert_eq!((result.counts.sent, result.decision), (0, Decision::NoTargets));
    assert!(rig.agents.iter().all(|agent| agent.got == 0), "never delivered");
}

#[test]
fn sched_06_copies_that_a_shard_refused_are_skips_not_stragglers() {
    let mut rig = Rig::new(1, 100);
    rig.add(0, 0..20, EDGE, Act::Ready(MS));
    rig.refuse = 3;
    rig.ask(0, &everybody());
    rig.run(10 * SECOND);
    let result = rig.result();
    // Two shards, three each.
    assert_eq!((result.counts.skipped, result.counts.ready), (6, 14));
    assert_eq!(result.skips[0].0, SkipReason::QueueFull);
    assert_eq!(result.counts.stragglers, 0);
    assert_eq!(rig.nodes[0].counters().refused, 6);
}

#[test]
fn kpi_01_a_connection_that_ends_is_not_waited_for() {
    let mut rig = Rig::new(1, 100);
    rig.add(0, 0..95, EDGE, Act::Ready(MS));
    rig.add(0, 95..100, EDGE, Act::Dies);
    rig.ask(0, &everybody());
    rig.run(10 * SECOND);
    let result = rig.result();
    assert_eq!((result.counts.ready, result.counts.stragglers), (95, 5));
    assert!(result.total < 400 * MS, "known to be gone: {}", result.total);
    assert_eq!(result.decision, Decision::Proceed);
    assert_eq!(rig.nodes[0].counters().unlinked, 5);
}

#[test]
fn scatter_04_answers_for_others_to_nothing_and_after_the_end_change_nothing() {
    let mut rig = Rig::new(1, 100);
    let added = rig.add(0, 0..4, EDGE, Act::Ready(MS));
    let message_id = [9; 16];
    rig.ask(0, &Gather { message_id, ..everybody() });
    let (left, at) = (rig.now, rig.now);
    rig.now += 10 * MS;
    // In another's name: the handle is right, the connection is not.
    let stranger = rig.agents[added[1]].peer;
    let ack = rig.ack(added[0], Trinary::Ready, message_id, left, left + 2 * MS, left);
    rig.call(0, |mesh, now, out| mesh.ack(now, stranger, now.node, &ack, out));
    // Of an earlier life, and of nobody.
    let own = rig.agents[added[0]].peer;
    for (handle, generation) in [(ack.handle, ack.generation + 1), (99, 1), (u32::MAX, 1)] {
        let old = mesh::node::AckView { handle, generation, ..ack };
        rig.call(0, |mesh, now, out| mesh.ack(now, own, now.node, &old, out));
    }
    // A state that there is not, and an operation that there is not.
    let odd = mesh::node::AckView { state: 7, ..ack };
    rig.call(0, |mesh, now, out| mesh.ack(now, own, now.node, &odd, out));
    let lost = mesh::node::AckView { message_id: [8; 16], ..ack };
    rig.call(0, |mesh, now, out| mesh.ack(now, own, now.node, &lost, out));
    assert_eq!(rig.nodes[0].counters().unknown, 1);
    rig.run(at + 10 * SECOND);
    let result = rig.result();
    assert_eq!((result.counts.ready, result.counts.foreign), (4, 5));
    let late = mesh::node::AckView { message_id, ..ack };
    rig.call(0, |mesh, now, out| mesh.ack(now, own, now.node, &late, out));
    assert_eq!(rig.nodes[0].counters().after_end, 1);
    assert_eq!(rig.reports().iter().filter(|report| report.is_final).count(), 1);
}

#[test]
fn meshmsg_16_an_agent_cannot_have_been_ready_before_it_was_asked_nor_after_it_answered() {
    let mut rig = Rig::new(1, 10);
    let added = rig.add(0, 0..3, EDGE, Act::Silent);
    let message_id = [9; 16];
    rig.ask(0, &Gather { message_id, ..everybody() });
    let began = rig.now;
    rig.run(began + 100 * MS);
    for (at, ready_ns) in [(0, 1), (1, u64::MAX), (2, 0)] {
        let left = began + 50 * MS;
        let honest = rig.ack(added[at], Trinary::Ready, message_id, left, left + 2 * MS, left);
        let lie = mesh::node::AckView { ready_ns, acted_ns: ready_ns, ..honest };
        let peer = rig.agents[added[at]].peer;
        rig.call(0, |mesh, now, out| mesh.ack(now, peer, now.node, &lie, out));
    }
    rig.run(began + 10 * SECOND);
    let result = rig.result();
    assert_eq!(result.counts.ready, 3);
    assert!(rig.nodes[0].counters().bad_times >= 2);
}

#[test]
fn scatter_06_progress_comes_ten_times_a_second_and_adds_up() {
    let mut rig = Rig::new(1, 100);
    rig.add(0, 0..50, EDGE, Act::Ready(5 * MS));
    rig.add(0, 50..60, EDGE, Act::Silent);
    rig.ask(0, &Gather { progress: true, ..everybody() });
    rig.run(10 * SECOND);
    let reports = rig.reports();
    assert!((4..=8).contains(&reports.len()), "{}", reports.len());
    assert!(reports.last().is_some_and(|report| report.is_final));
    assert!(reports.iter().all(|report| report.counts.targets == 60));
}

#[test]
fn hier_07_a_fleet_where_each_fails_sometimes_is_never_waited_for_as_a_whole() {
    // 0.999^30000 is about 9e-14: somebody is always missing.
    assert!(0.999_f64.powi(30_000) < 1e-13);
    let mut rig = Rig::new(1, 1000);
    rig.add(0, 0..970, EDGE, Act::Ready(5 * MS));
    rig.add(0, 970..1000, EDGE, Act::Silent);
    rig.ask(0, &everybody());
    rig.run(10 * SECOND);
    let result = rig.result();
    assert_eq!(result.decision, Decision::Proceed);
    assert_eq!(result.counts.stragglers, 30);
}

#[test]
fn sched_08_y_12_the_copies_of_a_burst_are_kept_apart_on_each_shard() {
    let gap = 20_000;
    let mut rig = Rig::with(1, 600, gap);
    rig.add(0, 0..600, EDGE, Act::Ready(5 * MS));
    rig.ask(0, &Gather { strategy: 1, ..everybody() });
    rig.run(10 * SECOND);
    assert_eq!(rig.result().counts.in_time, 600, "smoothing sends earlier, never later");
    for shard in 0..2 {
        let times = rig.left.iter().filter(|(of, _)| *of == shard).map(|(_, at)| *at);
        let times: Vec<_> = times.collect();
        assert_eq!(times.len(), 300);
        // The one that is planned against a gap that does not fit any more may give way.
        let close = times.windows(2).filter(|pair| pair[1] - pair[0] < gap).count();
        assert!(close <= 1, "{close}");
    }
}

#[test]
fn kpi_02_03_06_what_gathers_show_is_counted_for_the_hour() {
    let mut rig = Rig::new(1, 100);
    rig.add(0, 0..99, EDGE, Act::Ready(5 * MS));
    rig.add(0, 99..100, EDGE, Act::Conflict);
    for _ in 0..3 {
        rig.ask(0, &everybody());
        rig.run(rig.now + 3 * SECOND);
    }
    let kpi = rig.nodes[0].kpi();
    assert_eq!(kpi.success_rate(rig.now), Some(1.0));
    assert_eq!(kpi.window_hit_rate(rig.now), Some(0.99));
    // Y-15: an operation may have 5 % conflicts, the day should have 1 %.
    assert_eq!(kpi.conflict_rate(rig.now), Some(0.01));
    assert!(kpi.accuracy(rig.now).is_some_and(|share| share > 0.9));
    assert_eq!(kpi.availability(rig.now), Some(1.0));
    assert!(kpi.cascade_p95().is_some_and(|time| time < 1_000 * MS));
    let mut shown = 0;
    rig.nodes[0].visit(&mut |name, _, _, _| {
        shown += u32::from(name.starts_with("butterfly_mesh_"));
    });
    assert!(shown > 60);
}

#[test]
fn scatter_01_slow_ways_back_widen_the_window() {
    let mut rig = Rig::new(1, 10);
    let added = rig.add(0, 0..3, EDGE, Act::Silent);
    // 400 ms one way: 500 ms after the moment no answer would be back.
    for at in added {
        let agent = rig.agents[at];
        for _ in 0..20 {
            rig.now += SECOND;
            let there = Rig::own(&agent, rig.now - 400 * MS);
            let beat = mesh::node::Beat {
                handle: agent.place.handle,
                generation: 1,
                origin_ns: rig.now - 800 * MS,
                received_ns: there,
                sent_ns: there,
                ..mesh::node::Beat::default()
            };
            rig.call(0, |mesh, now, out| mesh.heartbeat(now, agent.peer, now.node, &beat, out));
        }
    }
    // The median dial: with a margin these agents are out of range.
    rig.ask(0, &Gather { on_time: 0.5, strategy: 2, ..everybody() });
    rig.run(rig.now + 10 * SECOND);
    let result = rig.result();
    assert!(result.window > 700 * MS, "{result:?}");
}
