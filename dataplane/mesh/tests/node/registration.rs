//! Agents that come, beat, lie, flood and go.

use crate::rig::{Act, DELAY, EPOCH, Rig, kind};
use mesh::{
    SECOND,
    node::{Beat, Now, Peer},
};
use proptest::prelude::*;
use wire::{
    ErrorCode, Kind, frame,
    mesh::{AgentClass, AgentState, REGISTRATION_MAX},
    payload::mesh::{Freeze, Gather, MeshQuery},
};

const EDGE: AgentClass = AgentClass::Edge;

#[test]
fn meshmsg_14_a_place_for_each_and_the_same_again_when_it_is_said_again() {
    let mut rig = Rig::new(1, 100);
    let peer = rig.peer();
    let records: Vec<_> = (0..40).map(|number| Rig::record(number, EDGE)).collect();
    let first = rig.register(0, peer, records.clone());
    assert!(first.iter().all(|place| place.fault == 0 && place.generation == 1));
    assert_eq!(rig.register(0, peer, records), {
        let mut again = rig.register(0, peer, (0..40).map(|it| Rig::record(it, EDGE)).collect());
        again.truncate(40);
        again
    });
    assert_eq!(first[0].sector, 0);
    let counters = rig.nodes[0].counters();
    assert_eq!((counters.joined, counters.repeated), (40, 80));
}

#[test]
fn meshmsg_14_a_taken_name_a_full_mesh_and_a_bad_record_are_kept_out_with_their_reason() {
    let mut rig = Rig::new(1, 10);
    let (one, two) = (rig.peer(), rig.peer());
    rig.register(0, one, vec![Rig::record(0, EDGE)]);
    let mut odd = Rig::record(1, EDGE);
    odd.class = 6;
    let mut many = Rig::record(2, EDGE);
    many.capabilities = (0..17).map(|it| format!("c{it}").into()).collect();
    let mut nobody = Rig::record(3, EDGE);
    nobody.agent_id = [0; 16];
    let faults: Vec<u16> = rig
        .register(0, two, vec![Rig::record(0, EDGE), odd, many, nobody, Rig::record(9, EDGE)])
        .iter()
        .map(|place| place.fault)
        .collect();
    let bad = ErrorCode::BadRequest.code();
    assert_eq!(faults, [ErrorCode::NameTaken.code(), bad, bad, bad, 0]);
    let places = rig.register(0, two, (20..40).map(|it| Rig::record(it, EDGE)).collect());
    let full = places.iter().filter(|place| place.fault == ErrorCode::MeshFull.code());
    assert_eq!(full.count(), 12, "room for ten");
    let many = (0..=REGISTRATION_MAX as u32).map(|it| Rig::record(it, EDGE)).collect();
    assert_eq!(rig.register(0, two, many), []);
    assert_eq!(rig.refusals(), [(two, ErrorCode::BadRequest)]);
}

#[test]
fn meshmsg_14_an_agent_that_moves_keeps_its_place_and_its_old_name_is_stale() {
    let mut rig = Rig::new(1, 100);
    let (one, two) = (rig.peer(), rig.peer());
    let first = rig.register(0, one, vec![Rig::record(0, EDGE)])[0];
    rig.call(0, |mesh, now, out| mesh.gone(now, one, out));
    assert_eq!(rig.nodes[0].registry().count(AgentState::Offline), 1);
    let second = rig.register(0, two, vec![Rig::record(0, EDGE)])[0];
    assert_eq!((second.handle, second.generation), (first.handle, first.generation + 1));
    let beat = |place: wire::payload::mesh::Place| Beat {
        handle: place.handle,
        generation: place.generation,
        ..Beat::default()
    };
    rig.call(0, |mesh, now, out| mesh.heartbeat(now, two, now.node, &beat(first), out));
    rig.call(0, |mesh, now, out| mesh.heartbeat(now, one, now.node, &beat(second), out));
    rig.call(0, |mesh, now, out| mesh.heartbeat(now, two, now.node, &beat(second), out));
    let counters = rig.nodes[0].counters();
    assert_eq!((counters.beats_stale, counters.beats_foreign, counters.beats), (1, 1, 1));
    let stale = ErrorCode::StaleAgent;
    assert_eq!(rig.refusals(), [(two, stale), (one, stale)]);
}

#[test]
fn meshmsg_14_four_timestamps_show_the_clock_and_the_way() {
    let mut rig = Rig::new(1, 10);
    let at = rig.add(0, 0..1, EDGE, Act::Silent)[0];
    let agent = rig.agents[at];
    let (mut origin, mut received) = (rig.now, Rig::own(&agent, rig.now + DELAY));
    for _ in 0..5 {
        rig.now += SECOND;
        let beat = Beat {
            handle: agent.place.handle,
            generation: 1,
            origin_ns: origin,
            received_ns: received,
            sent_ns: Rig::own(&agent, rig.now - DELAY),
            latency_ms: 0.0,
            processing_ms: 7.0,
            reliability: 0.5,
            queue_depth: 3,
            ..Beat::default()
        };
        rig.call(0, |mesh, now, out| mesh.heartbeat(now, agent.peer, now.node, &beat, out));
        origin = rig.now;
        received = Rig::own(&agent, rig.now + DELAY);
    }
    let clock = rig.nodes[0].clock(agent.place.handle).expect("known");
    let offset = clock.offset_at(rig.now).expect("known");
    let truth = Rig::own(&agent, rig.now) as i64 - rig.now as i64;
    assert!(offset.abs_diff(truth) < 1_000, "{offset} {truth}");
    let registry = rig.nodes[0].registry();
    assert_eq!(registry.queue(agent.place.handle), 3);
    assert_eq!(registry.latency(agent.place.handle), 2 * DELAY, "measured, since it said nothing");
}

#[test]
fn meshmsg_14_lies_are_brought_into_range_and_counted() {
    let mut rig = Rig::new(1, 10);
    let at = rig.add(0, 0..1, EDGE, Act::Silent)[0];
    let agent = rig.agents[at];
    let sound = Beat { handle: agent.place.handle, generation: 1, ..Beat::default() };
    let lies = [
        Beat { latency_ms: f32::NAN, ..sound },
        Beat { latency_ms: -1.0, ..sound },
        Beat { processing_ms: f32::NEG_INFINITY, ..sound },
        Beat { reliability: 7.0, ..sound },
        Beat { drift: f32::NAN, ..sound },
        Beat { impedance: -3.0, ..sound },
        Beat { state: 200, ..sound },
    ];
    for lie in &lies {
        rig.call(0, |mesh, now, out| mesh.heartbeat(now, agent.peer, now.node, lie, out));
    }
    assert_eq!(rig.nodes[0].counters().bad_numbers, lies.len() as u64);
    let times = [
        Beat { origin_ns: u64::MAX, received_ns: 1, sent_ns: 2, ..sound },
        Beat { origin_ns: 1, received_ns: 9, sent_ns: 2, ..sound },
        Beat { origin_ns: 1, received_ns: 1, sent_ns: u64::MAX, ..sound },
    ];
    for lie in &times {
        rig.call(0, |mesh, now, out| mesh.heartbeat(now, agent.peer, now.node, lie, out));
    }
    assert_eq!(rig.nodes[0].counters().bad_times, times.len() as u64);
    let ahead = Beat { hlc: u64::MAX, ..sound };
    rig.call(0, |mesh, now, out| mesh.heartbeat(now, agent.peer, now.node, &ahead, out));
    assert_eq!(rig.nodes[0].counters().bad_stamps, 1);
    let row = rig.nodes[0].registry().row(rig.now, agent.place.handle).expect("known");
    assert!(row.score.is_finite() && (0.0..=1.0).contains(&row.reliability));
}

#[test]
fn meshmsg_14_a_flood_is_answered_a_little_and_then_closed() {
    let mut rig = Rig::new(1, 10);
    let peer = rig.peer();
    for _ in 0..5_000 {
        let beat = Beat { handle: 3, generation: 9, ..Beat::default() };
        rig.call(0, |mesh, now, out| mesh.heartbeat(now, peer, now.node, &beat, out));
    }
    assert_eq!(rig.refusals().len(), 8, "in one second");
    assert_eq!(rig.closed, [peer], "once");
    assert_eq!(rig.nodes[0].counters().beats_stale, 5_000);
}

#[test]
fn meshmsg_14_silence_takes_an_agent_offline_after_thirty_seconds() {
    let mut rig = Rig::new(1, 10);
    rig.add(0, 0..3, EDGE, Act::Silent);
    rig.run(29 * SECOND);
    assert_eq!(rig.nodes[0].registry().count(AgentState::Active), 3);
    rig.run(33 * SECOND);
    assert_eq!(rig.nodes[0].registry().count(AgentState::Offline), 3);
    assert_eq!(rig.nodes[0].counters().silent, 3);
}

#[test]
fn meshmsg_18_a_freeze_reaches_agents_and_stops_messages_until_the_thaw() {
    let mut rig = Rig::new(1, 100);
    rig.add(0, 0..5, EDGE, Act::Ready(1));
    let (operator, before) = (rig.peer(), rig.inbox.len());
    let freeze = Freeze { scope: 2, ..Freeze::default() };
    rig.call(0, |mesh, now, out| mesh.freeze(now, operator, &freeze, out));
    let told = rig.inbox[before..].iter().filter(|(_, _, frame)| kind(frame) == Kind::Freeze);
    assert_eq!(told.count(), 5, "one for each connection");
    rig.ask(0, &Gather { strategy: 1, ..crate::rig::everybody() });
    rig.run(rig.now + 3 * SECOND);
    let result = rig.result();
    assert_eq!(result.skips, [(wire::mesh::SkipReason::Frozen, 5, 0, 0)]);
    rig.inbox.clear();
    let thaw = Freeze { scope: 2, thaw: true, ..Freeze::default() };
    rig.call(0, |mesh, now, out| mesh.freeze(now, operator, &thaw, out));
    rig.ask(0, &crate::rig::everybody());
    rig.run(rig.now + 3 * SECOND);
    assert_eq!(rig.result().counts.ready, 5);
    let odd = Freeze { scope: 1, sector: 60_000, ..Freeze::default() };
    rig.call(0, |mesh, now, out| mesh.freeze(now, operator, &odd, out));
    assert_eq!(rig.nodes[0].counters().bad_orders, 1);
}

#[test]
fn meshmsg_12_whatever_bytes_come_have_a_defined_outcome() {
    let mut rig = Rig::new(1, 10);
    let peer = rig.peer();
    for kind in Kind::ALL.iter().filter(|kind| kind.is_mesh()) {
        for payload in [&[][..], &[0; 16], &[0xFF; 96], &[0xAA; 192], &[1; 33]] {
            rig.call(0, |mesh, now, out| {
                mesh.frame(now, peer, now.node, *kind, 1, payload, out);
            });
        }
    }
    let counters = rig.nodes[0].counters();
    assert_eq!(counters.bad_frames + counters.unserved, 13 * 5);
}

#[test]
fn meshmsg_12_a_view_is_bounded_and_says_who_is_there() {
    let mut rig = Rig::new(1, 100);
    rig.add(0, 0..40, EDGE, Act::Silent);
    let peer = rig.peer();
    for view in 0..2 {
        let mut bytes = Vec::new();
        let query = MeshQuery { view, limit: 7, sector: u16::MAX, ..MeshQuery::default() };
        frame::append(&mut bytes, &query, 3, EPOCH).expect("fits");
        rig.call(0, |mesh, now, out| {
            mesh.frame(now, peer, now.node, Kind::MeshQuery, 3, &bytes[32..], out);
        });
    }
    let views = rig.inbox.iter().filter(|(_, _, frame)| kind(frame) == Kind::MeshView);
    assert_eq!(views.count(), 2);
    assert_eq!(rig.nodes[0].counters().views, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn meshmsg_14_no_bytes_make_the_machine_panic(
        frames in prop::collection::vec(
            (0x0101_u16..=0x010D, any::<u64>(), any::<Vec<u8>>(), 0_u32..4),
            1..40,
        ),
    ) {
        let mut rig = Rig::new(1, 10);
        rig.add(0, 0..3, EDGE, Act::Silent);
        for (code, id, bytes, conn) in frames {
            let peer = Peer { shard: 0, conn, life: 1 };
            let kind = Kind::from_code(code).expect("in the registry");
            rig.now += 1_000_000;
            let now = Now { node: rig.now, epoch_ns: EPOCH + rig.now };
            let mut out = Vec::new();
            rig.nodes[0].frame(now, peer, rig.now, kind, id, &bytes, &mut out);
        }
    }
}
