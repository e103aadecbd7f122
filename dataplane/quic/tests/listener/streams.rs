//! Streams through good and bad weather.

use crate::{
    support::Papers,
    world::{MS, Weather, World},
};
use dataplane_quic::{Limits, PIECE_MAX};
use quinn_proto::{ConnectionError, Event};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed) as u8).collect()
}

#[test]
fn trans_05_streams_come_back_whole_through_loss_and_reordering() {
    let papers = Papers::new();
    for seed in 1..=6 {
        let mut world = World::new(Limits::default(), &papers, "client", seed);
        world.echo = true;
        world.weather = Weather { loss: 10 * seed, jitter: 3 * seed };
        let peer = world.connect();
        world.run(5 * MINUTE / 60);
        let mut streams = Vec::new();
        for number in 0..4 {
            let bytes = bytes(150_000 + number, number);
            let (id, taken) = world.open(peer, &bytes);
            streams.push((id, bytes, taken, Vec::new(), false));
        }
        for _ in 0..3000 {
            let mut open = false;
            for (id, bytes, taken, back, ended) in &mut streams {
                if *taken < bytes.len() {
                    let quic = &mut world.peer(peer).quic;
                    *taken += quic.send_stream(*id).write(&bytes[*taken..]).unwrap_or(0);
                    if *taken == bytes.len() {
                        quic.send_stream(*id).finish().expect("open");
                    }
                } else if back.is_empty() {
                    let _ = world.peer(peer).quic.send_stream(*id).finish();
                }
                *ended = *ended || world.read(peer, *id, back);
                open |= !*ended;
            }
            if !open {
                break;
            }
            world.run(20 * MS);
        }
        for (_, bytes, _, back, _) in streams {
            assert_eq!(back.len(), bytes.len(), "seed {seed}");
            assert!(back == bytes, "seed {seed}: other bytes than were sent");
        }
        assert_eq!(world.counters.connections.get(), 1);
        // Nothing of the four is left in the bridge: it has room for as many as at first.
        assert!(world.shards.values().all(|shard| shard.ended && !shard.gone));
    }
}

#[test]
fn a_shard_that_does_not_take_stops_its_peer_within_the_window() {
    let papers = Papers::new();
    let limits = Limits { stream_window: 100_000, ..Limits::default() };
    let mut world = World::new(limits, &papers, "client", 1);
    world.taking = false;
    let peer = world.connect();
    world.run(100 * MS);
    let all = bytes(1 << 20, 9);
    let (id, mut taken) = world.open(peer, &all);
    for _ in 0..50 {
        world.run(20 * MS);
        taken += world.peer(peer).quic.send_stream(id).write(&all[taken..]).unwrap_or(0);
    }
    assert_eq!(taken, 100_000, "as much as the window");
    // Once it takes, everything comes.
    world.taking = true;
    for _ in 0..100 {
        world.run(20 * MS);
        taken += world.peer(peer).quic.send_stream(id).write(&all[taken..]).unwrap_or(0);
    }
    world.run(1000 * MS);
    let shard = world.shards.values().next().expect("a stream");
    assert!(shard.got == all);
}

#[test]
fn a_peer_that_does_not_read_leaves_its_shard_no_room() {
    let papers = Papers::new();
    let limits = Limits { send_window: 200_000, ..Limits::default() };
    let mut world = World::new(limits, &papers, "client", 1);
    let peer = world.connect();
    world.run(100 * MS);
    world.open(peer, b"hello");
    world.run(100 * MS);
    let key = *world.shards.keys().next().expect("a stream");
    let mut written = 0;
    // What the peer's machine takes without anyone reading there is its own window.
    let mut longest = 0;
    for _ in 0..1000 {
        let before = written;
        while world.bridge.room(key) {
            world.bridge.write(key, &[7; PIECE_MAX]);
            written += PIECE_MAX;
        }
        longest = longest.max(written - before);
        world.run(20 * MS);
    }
    assert!(longest <= 200_000 + 2 * PIECE_MAX, "{longest} bytes at once");
    let window = 1_250_000;
    assert!(written <= window + 2 * PIECE_MAX, "{written} bytes for a peer that reads none");
    assert!(!world.bridge.room(key));
}

#[test]
fn a_stream_that_its_peer_resets_is_gone_for_the_shard() {
    let papers = Papers::new();
    let mut world = World::new(Limits::default(), &papers, "client", 1);
    let peer = world.connect();
    world.run(100 * MS);
    let (id, _) = world.open(peer, b"hello");
    world.run(100 * MS);
    world.peer(peer).quic.send_stream(id).reset(9_u32.into()).expect("open");
    world.run(100 * MS);
    let shard = world.shards.values().next().expect("a stream");
    assert!(shard.gone && shard.got == b"hello");
}

#[test]
fn a_peer_that_vanishes_is_given_up_after_the_idle_time() {
    let papers = Papers::new();
    let mut world = World::new(Limits::default(), &papers, "client", 1);
    let peer = world.connect();
    world.run(100 * MS);
    world.open(peer, b"hello");
    world.run(100 * MS);
    world.weather.loss = 1000;
    world.run(Duration::from_secs(29));
    assert!(!world.shards.values().next().expect("a stream").gone);
    assert_eq!(world.counters.connections_open.get(), 1);
    world.run(MINUTE);
    assert!(world.shards.values().next().expect("a stream").gone);
    assert_eq!(world.counters.connections_open.get(), 0);
}

#[test]
fn an_ending_node_says_so_and_answers_what_comes_later_with_a_reset() {
    let papers = Papers::new();
    let mut world = World::new(Limits::default(), &papers, "client", 1);
    let peer = world.connect();
    world.run(100 * MS);
    world.open(peer, b"hello");
    world.run(100 * MS);
    // The farewell is lost, and the bridge forgets the connection.
    world.weather.loss = 1000;
    world.bridge.end(world.now);
    world.run(Duration::from_secs(5));
    assert_eq!(world.counters.connections_open.get(), 0);
    world.weather.loss = 0;
    world.peer(peer).quic.ping();
    world.run(Duration::from_secs(5));
    let lost = world
        .peer(peer)
        .events
        .iter()
        .any(|event| matches!(event, Event::ConnectionLost { reason: ConnectionError::Reset }));
    assert!(lost, "{:?}", world.peer(peer).events);
}
