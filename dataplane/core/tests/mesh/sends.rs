//! Sends at their moments: order, company, bounds.

use crate::desk::{Aligned, Desk, GEOMETRY, Sizes, Volleyed, send, template};
use dataplane_core::{
    driver::{ConnId, Time},
    limits::{FIRED_CONNECTIONS_PER_TURN, FIRES_PER_TURN, INSERTS_PER_TURN},
    mesh_port::Down,
    schedule::ScheduledSend,
};
use wire::{Kind, payload::mesh::Coordinate};

/// Handles of the frames sent, by connection, in order.
fn handles(desk: &mut Desk) -> Vec<(u32, u32)> {
    let handle = |payload: &[u8]| {
        let aligned = Aligned::new(payload);
        wire::payload::open::<Coordinate>(aligned.bytes()).unwrap().handle.to_native()
    };
    desk.frames().iter().map(|(conn, _, payload)| (conn.0, handle(payload))).collect()
}

#[test]
fn sched_08_sends_leave_at_their_moment_and_those_due_together_share_a_transmit() {
    let mut desk = Desk::new(Sizes::default());
    (0..3).for_each(|conn| _ = desk.connect(conn));
    let t = desk.now + 5_000_000;
    let template = template(100);
    let sends = vec![send(t, 0, 10), send(t + 40, 1, 11), send(t, 0, 12), send(t - 1, 2, 13)];
    desk.volley(7, Volleyed::new(&template, sends));
    desk.settle();
    assert_eq!(desk.shard.next_wakeup(), Some(t - 1), "not a nanosecond of polling too much");
    desk.now = t - 2;
    desk.settle();
    assert!(desk.sent.is_empty() && desk.shard.scheduled() == 4);
    desk.now = t;
    desk.turn();
    assert_eq!(desk.sent.len(), 2, "one transmit each for two connections");
    let frames = desk.frames();
    let [(_, first, payload), ..] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(first.kind().unwrap(), Kind::Coordinate);
    assert_eq!(frames.len(), 3);
    let by_id: Vec<u64> = frames.iter().map(|(_, header, _)| header.message_id()).collect();
    assert!(by_id.contains(&(7 << 32 | 13)), "volley and handle: {by_id:x?}");
    let aligned = Aligned::new(payload);
    let read = wire::payload::open::<Coordinate>(aligned.bytes()).unwrap();
    assert_eq!(read.sent_ns, t);
    assert_eq!((read.lead_us.to_native(), read.expected_us.to_native()), (50, 9));
    desk.now = t + 100;
    desk.settle();
    assert_eq!(handles(&mut desk), [(1, 11)]);
    let reports = desk.reports();
    assert_eq!((reports.len(), reports[0].number, reports[0].shard), (1, 7, 3));
    assert_eq!((reports[0].sent, reports[0].fire_error.count()), (4, 4));
    assert_eq!(reports[0].fire_error.max(), 60);
    assert_eq!((desk.stats.schedule_fired.get(), desk.stats.schedule_pending.get()), (4, 0));
}

#[test]
fn meshmsg_07_priority_three_goes_before_zero_among_those_due_together() {
    let mut desk = Desk::new(Sizes::default());
    desk.connect(0);
    let t = desk.now + 100_000;
    let template = template(0);
    for (number, priority) in [(1, 0), (2, 3), (3, 1), (4, 3)] {
        let sends = vec![send(t, 0, number * 10), send(t, 0, number * 10 + 1)];
        desk.volley(number, Volleyed { priority, ..Volleyed::new(&template, sends) });
    }
    desk.settle();
    desk.now = t;
    desk.settle();
    let order: Vec<u32> = handles(&mut desk).iter().map(|(_, handle)| *handle).collect();
    assert_eq!(order, [20, 21, 40, 41, 30, 31, 10, 11]);
}

#[test]
fn meshmsg_06_what_is_out_of_time_is_dropped_and_counted() {
    let mut desk = Desk::new(Sizes::default());
    desk.connect(0);
    let t = desk.now + 1_000_000;
    let template = template(0);
    let sends = vec![send(t, 0, 1), send(t + 10, 0, 2), send(t + 11, 0, 3)];
    desk.volley(1, Volleyed { expires: t + 10, ..Volleyed::new(&template, sends) });
    desk.settle();
    desk.now = t + 10;
    desk.settle();
    assert_eq!(handles(&mut desk), [(0, 1), (0, 2)], "the last moment is in time");
    desk.now = t + 11;
    desk.settle();
    assert!(desk.frames().is_empty());
    let report = &desk.reports()[0];
    assert_eq!((report.sent, report.expired), (2, 1));
    assert_eq!(desk.stats.schedule_expired.get(), 1);
}

#[test]
fn sends_without_a_chunk_wait_in_order_and_go_on_when_one_is_free() {
    let mut desk = Desk::new(Sizes { chunks: 2, ..Sizes::default() });
    (0..4).for_each(|conn| _ = desk.connect(conn));
    let t = desk.now + 50_000;
    let template = template(64);
    let sends = (0..12).map(|n| send(t + u64::from(n), n % 4, n)).collect();
    desk.volley(1, Volleyed::new(&template, sends));
    desk.settle();
    desk.stuck = true;
    desk.now = t + 100;
    desk.turn();
    assert_eq!(desk.shard.free_chunks(), 0);
    assert_eq!(desk.shard.scheduled(), 10, "the third send has the third connection");
    assert!(desk.stats.schedule_blocked.get() == 1);
    let wakeup = desk.shard.next_wakeup();
    assert!(wakeup.is_none_or(|at| at > desk.now), "nothing to poll for: {wakeup:?}");
    desk.stuck = false;
    desk.take_sent();
    desk.settle();
    let order: Vec<u32> = handles(&mut desk).iter().map(|(_, handle)| *handle).collect();
    let mut by_conn: Vec<Vec<u32>> = vec![Vec::new(); 4];
    order.iter().for_each(|handle| by_conn[(*handle % 4) as usize].push(*handle));
    assert_eq!(by_conn, [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]);
    assert_eq!(desk.reports()[0].sent, 12);
}

#[test]
fn a_message_longer_than_a_chunk_leaves_whole() {
    let mut desk = Desk::new(Sizes::default());
    desk.connect(0);
    let template = template(10_000);
    assert!(template.frame_len() > 2 * GEOMETRY.chunk_len as usize);
    let at = desk.now;
    desk.volley(1, Volleyed::new(&template, vec![send(at, 0, 5)]));
    desk.settle();
    let frames = desk.frames();
    assert_eq!((frames.len(), frames[0].2.len()), (1, template.frame_len() - 32));
    assert_eq!(desk.reports()[0].sent, 1);
}

#[test]
fn a_great_volley_is_taken_in_and_sent_in_portions() {
    const SENDS: usize = 10_000;
    let mut desk = Desk::new(Sizes::default());
    desk.connect(0);
    let t = desk.now + 10_000_000;
    let template = template(0);
    let sends = (0..SENDS as u32).map(|n| send(t, 0, n)).collect();
    desk.volley(1, Volleyed::new(&template, sends));
    desk.turn();
    assert_eq!(desk.shard.scheduled(), INSERTS_PER_TURN);
    assert_eq!(desk.shard.next_wakeup(), Some(0), "there is more to take in");
    desk.settle();
    assert_eq!(desk.shard.scheduled(), SENDS);
    desk.now = t;
    desk.turn();
    // A share of a turn; what the chunks hold may be less.
    let fired = desk.stats.schedule_fired.get() as usize;
    assert!(fired > 0 && fired <= FIRES_PER_TURN, "{fired}");
    desk.settle();
    let order: Vec<u32> = handles(&mut desk).iter().map(|(_, handle)| *handle).collect();
    assert!(order.iter().copied().eq(0..SENDS as u32));
}

#[test]
fn sched_08_many_connections_due_together_leave_in_portions() {
    let mut desk = Desk::new(Sizes { chunks: 64, ..Sizes::default() });
    (0..60).for_each(|conn| _ = desk.connect(conn));
    let t = desk.now + 1_000_000;
    // Two for each connection, one after the other in order.
    let sends = (0..120).map(|n| send(t, n / 2, n)).collect();
    desk.volley(1, Volleyed::new(&template(0), sends));
    desk.settle();
    desk.now = t;
    desk.turn();
    assert_eq!(desk.sent.len(), FIRED_CONNECTIONS_PER_TURN);
    let conns: Vec<u32> = desk.sent.iter().map(|(conn, _)| conn.0).collect();
    assert!(conns.is_sorted(), "in the order of their moments");
    assert!(desk.shard.next_wakeup().is_some_and(|at| at <= t), "the next turn comes at once");
    desk.settle();
    let sent = handles(&mut desk);
    assert_eq!(sent.len(), 120);
    for conn in 0..60 {
        let mine: Vec<u32> = sent.iter().filter(|s| s.0 == conn).map(|s| s.1).collect();
        assert_eq!(mine, [2 * conn, 2 * conn + 1]);
    }
}

#[test]
fn frames_from_the_mesh_leave_at_once_and_a_connection_ends_when_it_says_so() {
    let mut desk = Desk::new(Sizes { unsent: 1_000, ..Sizes::default() });
    desk.connect(0);
    desk.connect(1);
    let frame = crate::desk::ack(4);
    let down =
        |conn, life, frame: &[u8]| Down::Send { conn: ConnId(conn), life, frame: frame.into() };
    desk.push(down(0, 1, &frame));
    desk.push(down(0, 2, &frame));
    desk.push(down(1, 1, &[0; 1_001]));
    desk.push(Down::Close { conn: ConnId(0), life: 9 });
    desk.push(Down::Close { conn: ConnId(1), life: 1 });
    desk.settle();
    assert_eq!(desk.sent, [(ConnId(0), frame)]);
    assert_eq!((desk.stats.mesh_sent.get(), desk.stats.mesh_dropped.get()), (1, 2));
    assert_eq!(desk.stats.open.get(), 1);
    assert!(desk.ups().is_empty(), "it never sent a frame of the mesh");
}

#[test]
fn frames_without_a_chunk_hold_back_what_follows_them() {
    let mut desk = Desk::new(Sizes { chunks: 2, ..Sizes::default() });
    (0..3).for_each(|conn| _ = desk.connect(conn));
    desk.stuck = true;
    for conn in 0..3 {
        let frame = crate::desk::ack(conn).into();
        desk.push(Down::Send { conn: ConnId(conn), life: 1, frame });
    }
    desk.push(Down::Close { conn: ConnId(2), life: 1 });
    desk.settle();
    assert_eq!((desk.sent.len(), desk.stats.open.get()), (2, 3));
    desk.stuck = false;
    desk.take_sent();
    desk.turn();
    assert_eq!((desk.stats.mesh_sent.get(), desk.stats.open.get()), (3, 2));
}

#[test]
fn a_moment_in_the_past_means_now() {
    let mut desk = Desk::new(Sizes::default());
    desk.connect(0);
    let late: Time = 77_000;
    let sends: Vec<ScheduledSend> = vec![send(desk.now - late, 0, 1), send(0, 0, 2)];
    desk.volley(1, Volleyed::new(&template(0), sends));
    desk.settle();
    assert_eq!(handles(&mut desk), [(0, 2), (0, 1)]);
    assert!(desk.reports()[0].fire_error.quantile(0.5) >= late);
}
