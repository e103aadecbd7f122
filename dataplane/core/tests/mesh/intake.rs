//! Frames of the mesh on their way up.

use crate::desk::{Aligned, Desk, Sizes, ack, beat, compressed, frame, seen};
use dataplane_core::{
    Limits, NodeStats, Shard, Stats,
    driver::{Caller, ConnId, Event},
    mesh_port::{LONG_MAX, Up},
    stats::Copy,
};
use wire::{
    Compression, ErrorCode, HEADER_LEN, Header, Kind, Role, Roles,
    mesh::BEAT_LEN,
    payload::mesh::{Ack, AgentHeartbeat, AgentRecord, AgentRegistration, Gather, NodeJoin},
};

/// A registration of so many agents.
fn registration(agents: usize, message_id: u64) -> Vec<u8> {
    let agents = vec![AgentRecord { latency_ms: 3.0, ..AgentRecord::default() }; agents];
    frame(&AgentRegistration { agents, ..AgentRegistration::default() }, message_id)
}

#[test]
fn without_a_mesh_its_frames_are_unserved() {
    let mut desk = Desk::new(Sizes::default());
    let stats = Stats::new();
    let node = NodeStats::new(vec![stats.clone()], 1);
    let limits = Limits { connections: 4, ..Limits::default() };
    desk.shard = Shard::new(limits, crate::desk::GEOMETRY, 1, stats.clone(), node);
    let conn = desk.connect(0);
    desk.receive(conn, &[beat(1, 5), ack(2)].concat());
    assert_eq!(stats.refusals(ErrorCode::UnservedType), 2);
    assert!(desk.ups().is_empty());
}

#[test]
fn each_role_reaches_the_mesh_with_its_own_frames_only() {
    let mut desk = Desk::new(Sizes::default());
    let join = frame(&NodeJoin::default(), 3);
    let gather = frame(&Gather::default(), 4);
    let all = [beat(1, 5), ack(2), join, gather].concat();
    let passes = [
        (Role::Client, vec![]),
        (Role::WorkerHost, vec![]),
        (Role::Agent, vec![Kind::AgentHeartbeat, Kind::Ack]),
        (Role::Node, vec![Kind::AgentHeartbeat, Kind::NodeJoin]),
        (Role::Operator, vec![Kind::Gather]),
    ];
    let mut forbidden = 0;
    for (at, (role, expected)) in passes.into_iter().enumerate() {
        let conn = ConnId(at as u32);
        let who = Caller { identity: 0, roles: Roles::of(role) };
        desk.event(Event::Accepted { conn, who });
        desk.receive(conn, &all);
        let kind = |up: &Up| match up {
            Up::Frame { kind, .. } => Some(*kind),
            _ => None,
        };
        let kinds: Vec<Kind> = desk.ups().iter().filter_map(kind).collect();
        assert_eq!(kinds, expected, "{role}");
        forbidden += 4 - expected.len() as u64;
        assert_eq!(desk.stats.refusals(ErrorCode::Forbidden), forbidden);
    }
}

#[test]
fn meshmsg_14_beats_are_answered_at_once_with_four_timestamps_and_copied_up() {
    let mut desk = Desk::new(Sizes::default());
    let conn = desk.connect(0);
    let first = beat(1, 123);
    // The second comes in two stretches, the third at an odd address.
    let all = [first.clone(), beat(2, 124), vec![], beat(3, 125)].concat();
    desk.receive(conn, &all[..BEAT_LEN + 60]);
    desk.now += 50;
    desk.receive(conn, &all[BEAT_LEN + 60..]);
    let frames = desk.frames();
    assert_eq!(frames.len(), 3);
    for (at, (_, header, payload)) in frames.iter().enumerate() {
        let handle = at as u32 + 1;
        assert_eq!(
            (header.kind().unwrap(), header.message_id()),
            (Kind::AgentHeartbeat, at as u64 + 1)
        );
        let aligned = Aligned::new(payload);
        let read = wire::payload::open::<AgentHeartbeat>(aligned.bytes()).unwrap();
        assert_eq!(
            (read.handle.to_native(), read.origin_ns.to_native()),
            (handle, 123 + at as u64)
        );
        let now = desk.now - if at == 0 { 50 } else { 0 };
        assert_eq!((read.received_ns.to_native(), read.sent_ns.to_native()), (now, now));
    }
    let ups = desk.ups();
    assert_eq!(ups.len(), 3);
    assert_eq!(seen(&ups[0]), (conn, Kind::AgentHeartbeat, 1, first[HEADER_LEN..].to_vec()));
    let Up::Frame { life, received, .. } = &ups[0] else { panic!() };
    assert_eq!((*life, *received), (1, desk.now - 50));
    assert_eq!(desk.stats.mesh_frames(Kind::AgentHeartbeat), 3);
    assert_eq!(desk.stats.mesh_beats_dropped.get(), 0);
}

#[test]
fn frames_go_up_as_they_came_short_long_and_compressed() {
    let mut desk = Desk::new(Sizes::default());
    let conn = desk.connect(0);
    let short = ack(9);
    let (medium, long) = (registration(6, 7), registration(200, 8));
    assert!(medium.len() > 256 && medium.len() < 512 && long.len() > 4_096);
    let packed = [compressed(&short, Compression::Lz4), compressed(&long, Compression::Zstd)];
    let plain = [&short[..], &medium, &long];
    for piece in plain.iter().copied().chain(packed.iter().map(|frame| &frame[..])) {
        // In stretches that cut every frame somewhere.
        piece.chunks(333).for_each(|stretch| desk.receive(conn, stretch));
    }
    let ups: Vec<_> = desk.ups().iter().map(seen).collect();
    let wanted = plain.into_iter().chain([&short[..], &long[..]]);
    assert_eq!(ups.len(), 5);
    for (up, frame) in ups.iter().zip(wanted) {
        let header = Header::peek(frame).unwrap();
        let payload = frame[HEADER_LEN..].to_vec();
        assert_eq!(*up, (conn, header.kind().unwrap(), header.message_id(), payload));
    }
    assert_eq!(desk.shard.ledger().free, desk.shard.ledger().total());
    assert!(desk.stats.copies(Copy::Restore) == 2 && desk.stats.to_bulk.get() > 0);
}

#[test]
fn bad_frames_are_refused_and_the_connection_lives() {
    let mut desk = Desk::new(Sizes::default());
    let conn = desk.connect(0);
    let broken = |mut frame: Vec<u8>| {
        *frame.last_mut().unwrap() ^= 1;
        frame
    };
    let empty = Header::for_payload(Kind::Ack, 1, 1, &[]);
    let wrong_len = Header::for_payload(Kind::AgentHeartbeat, 1, 1, &[0; 64]);
    let mut nonsense =
        Header::for_payload(Kind::Ack, 1, 1, &[3; 64]).with_compression(Compression::Lz4);
    let nonsense = [zerocopy::IntoBytes::as_mut_bytes(&mut nonsense), &mut [3; 64]].concat();
    let bad = [
        broken(beat(1, 1)),
        broken(ack(1)),
        broken(registration(100, 1)),
        zerocopy::IntoBytes::as_bytes(&empty).to_vec(),
        [zerocopy::IntoBytes::as_bytes(&wrong_len), &[0; 64]].concat(),
        compressed(&beat(1, 1), Compression::Zstd),
        nonsense,
    ];
    for (at, frame) in bad.iter().enumerate() {
        desk.receive(conn, frame);
        let frames = desk.frames();
        assert_eq!(frames.len(), 1, "{at}");
        assert_eq!(frames[0].1.kind().unwrap(), Kind::ErrorReport, "{at}");
    }
    assert_eq!(desk.stats.refusals(ErrorCode::BadChecksum), 3);
    assert_eq!(desk.stats.refusals(ErrorCode::BadArchive), 2);
    assert_eq!(desk.stats.refusals(ErrorCode::BadCompression), 2);
    assert!(desk.ups().is_empty());
    desk.receive(conn, &ack(5));
    assert_eq!(desk.ups().len(), 1);
}

#[test]
fn a_full_ring_drops_beats_and_stops_others_until_the_mesh_has_taken_something() {
    let mut desk = Desk::new(Sizes { up: 2, ..Sizes::default() });
    let (one, two) = (desk.connect(0), desk.connect(1));
    // Three fit nowhere; what follows them waits, pings included.
    desk.receive(one, &[ack(1), ack(2), ack(3), ack(4)].concat());
    desk.receive(two, &beat(9, 1));
    assert_eq!(desk.stats.mesh_beats_dropped.get(), 1);
    let answered = desk.frames();
    assert_eq!(answered.len(), 1, "a beat is answered all the same");
    assert_eq!(answered[0].0, two);
    desk.settle();
    let wakeup = desk.shard.next_wakeup();
    assert!(wakeup.is_none_or(|at| at > desk.now), "nothing to poll for: {wakeup:?}");
    let Some(up) = desk.end.pop() else { panic!("two are there") };
    assert_eq!(seen(&up).2, 1);
    assert!(desk.end.made_room(), "the shard is to be told");
    assert_eq!(desk.shard.next_wakeup(), Some(0));
    desk.turn();
    let ids: Vec<u64> = desk.ups().iter().map(|up| seen(up).2).collect();
    assert_eq!(ids, [2, 3]);
    assert!(desk.end.made_room());
    desk.turn();
    assert_eq!(desk.ups().iter().map(|up| seen(up).2).collect::<Vec<_>>(), [4]);
    assert!(!desk.end.made_room(), "nobody waits any more");
    assert!(desk.stats.mesh_full.get() >= 2);
}

#[test]
fn frames_complete_in_their_slots_wait_for_the_ring_too() {
    let mut desk = Desk::new(Sizes { up: 1, ..Sizes::default() });
    let (one, two) = (desk.connect(0), desk.connect(1));
    desk.receive(one, &ack(1));
    desk.receive(one, &registration(8, 2));
    desk.receive(two, &registration(200, 3));
    desk.receive(two, &ack(4));
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.extend(desk.ups().iter().map(|up| seen(up).2));
        let _ = desk.end.made_room();
        desk.turn();
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4]);
    assert_eq!(desk.shard.ledger().free, desk.shard.ledger().total());
}

#[test]
fn only_so_many_long_frames_are_on_their_way_up() {
    let mut desk = Desk::new(Sizes::default());
    let conn = desk.connect(0);
    for id in 0..u64::from(LONG_MAX) + 2 {
        desk.receive(conn, &registration(8, id));
    }
    let other = desk.connect(1);
    desk.receive(other, &ack(99));
    let wakeup = desk.shard.next_wakeup();
    assert!(wakeup.is_none_or(|at| at > desk.now), "nothing to poll for: {wakeup:?}");
    let first = desk.ups();
    assert_eq!(first.len(), LONG_MAX as usize + 1, "short ones pass");
    assert!(desk.end.made_room());
    desk.settle();
    let rest: Vec<u64> = desk.ups().iter().map(|up| seen(up).2).collect();
    assert_eq!(rest, [u64::from(LONG_MAX), u64::from(LONG_MAX) + 1]);
}

#[test]
fn the_end_of_a_connection_is_told_once_and_after_its_frames() {
    let mut desk = Desk::new(Sizes { up: 2, ..Sizes::default() });
    let (agent, client) = (desk.connect(0), desk.connect(1));
    desk.receive(agent, &[ack(1), ack(2), ack(3)].concat());
    desk.hang_up(agent);
    desk.hang_up(client);
    // The same place again, and a frame of the new life: it must not overtake the old one's end.
    desk.connect(0);
    desk.receive(agent, &ack(4));
    let mut order = Vec::new();
    for _ in 0..6 {
        for up in desk.ups() {
            order.push(match up {
                Up::Frame { life, message_id, .. } => format!("{life} says {message_id}"),
                Up::Gone { conn, life } => format!("{life} of {} is gone", conn.0),
                other => panic!("{other:?}"),
            });
        }
        let _ = desk.end.made_room();
        desk.turn();
    }
    assert_eq!(order, ["1 says 1", "1 says 2", "1 of 0 is gone", "2 says 4"]);
    desk.event(Event::Closed { conn: ConnId(0) });
}

#[test]
fn what_an_ack_says_is_not_touched() {
    let mut desk = Desk::new(Sizes::default());
    let conn = desk.connect(0);
    let sent = Ack { handle: 3, ready_ns: 77, conflict_detail: "no".into(), ..Ack::default() };
    desk.receive(conn, &frame(&sent, 1));
    let ups = desk.ups();
    let Up::Frame { bytes, len, .. } = &ups[0] else { panic!("{ups:?}") };
    // In place: the ring keeps payloads where archives can be read.
    let read = wire::payload::open::<Ack>(&bytes.0[..usize::from(*len)]).unwrap();
    assert_eq!((read.handle.to_native(), read.ready_ns.to_native()), (3, 77));
}
