//! The load in virtual time: what is planned, what is charged, what is counted.

mod world;

use blast::{
    check::Expect,
    config::{Config, Op},
    request::{Request, requests},
    tally::Tally,
};
use wire::{Header, Kind, Operation, error, frame};
use world::{Act, MS, Setting, US, World};
use zerocopy::IntoBytes;

const SECOND: u64 = 1_000 * MS;

fn pings() -> Vec<Request> {
    vec![Request { frame: frame::ping(0, 0).as_bytes().to_vec(), expect: Expect::Ping }]
}

fn pong(id: u64) -> Act {
    Act::Reply(frame::ping(id, 0).as_bytes().to_vec())
}

const OPEN: Setting = Setting {
    rate: Some(10_000.0),
    connections: 4,
    depth: 16,
    warmup: 100 * MS,
    duration: SECOND,
    grace: 2 * SECOND,
};

fn closed() -> Setting {
    Setting { rate: None, ..OPEN }
}

fn adds_up(tally: &Tally) {
    assert_eq!(tally.sent, tally.ok + tally.refused() + tally.lost, "every request has one fate");
}

#[test]
fn an_open_loop_sends_what_is_planned_when_it_is_planned() {
    let mut times = Vec::new();
    let tally = World::new(OPEN, &pings(), 1_024).run(&mut |now, _, header, payload| {
        assert_eq!((header.kind(), payload.len()), (Ok(Kind::Heartbeat), 0));
        times.push(now);
        vec![(now + 50 * US, pong(header.message_id()))]
    });
    // 1.1 s at 10,000 a second, the first 0.1 s not counted.
    assert_eq!(
        (times.len(), tally.planned, tally.sent, tally.ok),
        (11_000, 10_000, 10_000, 10_000)
    );
    for (n, time) in times.iter().enumerate() {
        assert_eq!(*time, MS + n as u64 * 100 * US, "send {n}");
    }
    assert_eq!((tally.late, tally.lost, tally.errors()), (0, 0, 0));
    assert!(tally.latency.max().abs_diff(50 * US) <= 50 * US / 1_000);
    assert_eq!((tally.bytes_out, tally.bytes_in), (320_000, 320_000));
    adds_up(&tally);
}

#[test]
fn a_stall_is_charged_to_every_send_that_was_planned_in_it() {
    // For 300 ms in the middle the node answers nothing; 4 x 16 requests fill the windows within
    // 6.4 ms of it.
    let (from, to) = (500 * MS, 800 * MS);
    let tally = World::new(OPEN, &pings(), 1_024).run(&mut |now, _, header, _| {
        let at = if (from..to).contains(&now) { to } else { now + 50 * US };
        vec![(at, pong(header.message_id()))]
    });
    assert_eq!((tally.planned, tally.sent, tally.ok), (10_000, 10_000, 10_000));
    // 3,000 of 10,000 were planned within the stall: had only the 64 that left been charged, p90
    // would be 50 us.
    let over = |ns| tally.latency.len() - tally.latency.count_between(0, ns);
    assert!((2_900..=3_100).contains(&over(100 * US)), "{}", over(100 * US));
    let half = over(150 * MS);
    assert!((1_400..=1_600).contains(&half), "{half} waited for over half of the stall");
    assert!(tally.latency.max() >= 299 * MS);
    // They left late, because the windows were full, and not because this side was slow.
    assert!((2_800..=3_000).contains(&tally.late), "{}", tally.late);
    assert_eq!(tally.late_own, 0);
    adds_up(&tally);
}

#[test]
fn a_node_slower_than_the_rate_leaves_planned_sends_unsent() {
    // One request per millisecond, 10 asked for: the backlog is still there when the grace ends.
    let mut free = 0;
    let tally = World::new(OPEN, &pings(), 1_024).run(&mut |now, _, header, _| {
        free = now.max(free) + MS;
        vec![(free, pong(header.message_id()))]
    });
    assert_eq!(tally.planned, 10_000);
    assert!(tally.sent < 3_200 && tally.ok + tally.lost == tally.sent, "{tally:?}");
    assert!(tally.latency.max() > SECOND);
    adds_up(&tally);
}

#[test]
fn a_closed_loop_keeps_every_window_full_and_stops_in_time() {
    let mut under_way = [0_i64; 4];
    let mut most = 0;
    let mut landing: Vec<(u64, usize)> = Vec::new();
    let tally = World::new(closed(), &pings(), 1_024).run(&mut |now, conn, header, _| {
        landing.retain(|(at, conn)| {
            if *at <= now {
                under_way[*conn] -= 1;
            }
            *at > now
        });
        under_way[conn] += 1;
        landing.push((now + MS, conn));
        most = most.max(under_way[conn]);
        assert!(now < MS + 1_100 * MS, "nothing leaves after the end");
        vec![(now + MS, pong(header.message_id()))]
    });
    assert_eq!(most, 16);
    assert_eq!((tally.planned, tally.ok, tally.lost), (tally.sent, tally.sent, 0));
    assert_eq!(tally.sent, 4 * 16 * 1_000, "4 x 16 requests per millisecond for a second");
    adds_up(&tally);
}

#[test]
fn silence_is_loss_and_refusal_is_not() {
    let tally = World::new(closed(), &pings(), 1_024).run(&mut |now, conn, header, _| {
        let mut out = [0; error::FRAME_MAX];
        let refusal = error::Refusal::new(wire::ErrorCode::Overloaded, header.raw_kind());
        let len = error::write_frame(&mut out, header.message_id(), 0, &refusal);
        match conn {
            0 => vec![],
            1 => vec![(now + MS, Act::Reply(out[..len].to_vec()))],
            _ => vec![(now + MS, pong(header.message_id()))],
        }
    });
    // The silent connection's window filled in the warm-up and was never counted.
    assert_eq!((tally.lost, tally.refused(), tally.ok), (0, 16_000, 32_000));
    assert_eq!(tally.refusals()["overloaded"], 16_000);
    assert_eq!((tally.refused_after.len(), tally.latency.len()), (16_000, 32_000));
    assert!(tally.refused_after.max().abs_diff(MS) <= MS / 1_000);
    let setting = Setting { warmup: 0, ..closed() };
    let tally = World::new(setting, &pings(), 1_024).run(&mut |_, _, _, _| vec![]);
    assert_eq!((tally.sent, tally.lost, tally.ok), (64, 64, 0));
    adds_up(&tally);
}

#[test]
fn strangers_duplicates_and_corruption_are_errors() {
    let mut sent = [0_u64; 4];
    let tally = World::new(closed(), &pings(), 1_024).run(&mut |now, conn, header, _| {
        let id = header.message_id();
        let at = now + MS;
        sent[conn] += 1;
        match (conn, sent[conn]) {
            (0, 5_000..5_010) => vec![(at, pong(id)), (at, pong(id))],
            (1, 6_000..6_010) => vec![(at, pong(id)), (at, pong(id + (1 << 40)))],
            (2, 7_000..7_010) => {
                // A ping with a payload that its checksum does not cover.
                let mut bytes = Header::new(Kind::Heartbeat, id, 0, 16, 0xFFFF).as_bytes().to_vec();
                bytes.extend([1; 16]);
                vec![(at, Act::Reply(bytes))]
            }
            (3, 8_000..8_010) => {
                let bytes =
                    Header::for_payload(Kind::QueryResponse, id, 0, &[]).as_bytes().to_vec();
                vec![(at, Act::Reply(bytes))]
            }
            _ => vec![(at, pong(id))],
        }
    });
    let kinds = tally.fault_kinds();
    assert_eq!(
        kinds.keys().cloned().collect::<Vec<_>>(),
        ["checksum", "duplicate_id", "kind", "unknown_id"]
    );
    assert!(kinds.values().all(|count| *count == 10), "{kinds:?}");
    assert_eq!((tally.errors(), tally.lost), (40, 0));
    assert_eq!(tally.sent, tally.ok + kinds["checksum"] + kinds["kind"]);
}

#[test]
fn a_broken_stream_and_a_dead_connection_lose_what_was_under_way() {
    let tally = World::new(closed(), &pings(), 1_024).run(&mut |now, conn, header, _| {
        let at = now + MS;
        match conn {
            0 if now > 600 * MS => vec![(at, Act::Reply(vec![b'X'; 64]))],
            1 if now > 700 * MS => vec![(at, Act::Hangup)],
            _ => vec![(at, pong(header.message_id()))],
        }
    });
    let kinds = tally.fault_kinds();
    assert_eq!((kinds["header"], kinds["connection"]), (1, 1));
    assert_eq!((tally.errors(), tally.lost), (2, 32), "a window each");
    adds_up(&tally);
}

#[test]
fn a_run_whose_connections_all_die_ends_early() {
    let world = World::new(OPEN, &pings(), 1_024);
    let tally = world.run(&mut |now, _, header, _| match now < 400 * MS {
        true => vec![(now + US, pong(header.message_id()))],
        false => vec![(now + US, Act::Hangup)],
    });
    assert_eq!(tally.fault_kinds()["connection"], 4);
    assert!(tally.ended < 500 * MS, "{}", tally.ended);
    assert_eq!(tally.planned, 10_000);
    adds_up(&tally);
}

#[test]
fn long_payloads_arrive_whole_however_little_a_transmit_takes() {
    let mut config =
        Config::new("127.0.0.1:1".parse().expect("an address"), Op::Work(Operation::Echo));
    config.size = Some(300_000);
    let made = requests(&config).expect("requests");
    for taken_max in [1_000, 70_000, usize::MAX] {
        let setting = Setting { connections: 2, depth: 3, warmup: 0, duration: 3 * MS, ..closed() };
        let mut world = World::new(setting, &made, 1 << 20);
        world.taken_max = taken_max;
        let mut seen = 0;
        // The world checks every frame's checksum; the answers never come.
        let tally = world.run(&mut |_, _, header, payload| {
            let body = &made[seen % made.len()].frame[wire::HEADER_LEN..];
            assert!(made.iter().any(|request| request.frame[wire::HEADER_LEN..] == *payload));
            assert_eq!(payload.len(), body.len());
            assert_eq!(header.kind(), Ok(Kind::QueryRequest));
            seen += 1;
            vec![]
        });
        assert_eq!((seen, tally.sent, tally.lost), (6, 6, 6), "{taken_max}");
    }
}
