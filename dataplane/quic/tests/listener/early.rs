//! Data of a first flight (0-RTT): what may come twice passes, the rest waits for the handshake.

use crate::{
    support::Papers,
    world::{CLIENT, MS, World},
};
use dataplane_quic::{Limits, Refusal};
use std::time::Duration;
use wire::{Header, Kind};
use zerocopy::IntoBytes;

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    [Header::for_payload(kind, 7, 0, payload).as_bytes(), payload].concat()
}

/// A world whose client has a ticket, and the first flight of its next connection: a heartbeat and
/// a query on one stream.
fn flight(papers: &Papers) -> (World, usize, Vec<Vec<u8>>) {
    let mut world = World::new(Limits::default(), papers, "client", 1);
    let first = world.connect();
    world.run(200 * MS);
    let now = world.now;
    world.peer(first).quic.close(now, 0_u32.into(), Vec::new().into());
    world.run(Duration::from_secs(10));
    world.shards.clear();
    let peer = world.connect();
    assert!(world.peer(peer).quic.has_0rtt(), "the client has a ticket");
    world.open(peer, &[frame(Kind::Heartbeat, b"early"), frame(Kind::QueryRequest, b"q")].concat());
    // What is sent now never arrives by itself.
    world.weather.loss = 1000;
    let before = world.sent.len();
    world.settle();
    world.weather.loss = 0;
    let flight = world.sent[before..].to_vec();
    (world, peer, flight)
}

fn got(world: &World) -> Vec<Vec<u8>> {
    world.shards.values().map(|shard| shard.got.clone()).collect()
}

#[test]
fn y_06_a_replayed_query_of_a_first_flight_never_reaches_a_shard() {
    let papers = Papers::new();
    let (mut world, _, flight) = flight(&papers);
    // The attacker's copy comes first and the client's own never does: the session is good, so the
    // heartbeat passes, and the query waits for a handshake that nobody can confirm.
    for datagram in &flight {
        world.deliver("10.6.6.6:666", datagram);
    }
    assert_eq!(got(&world), [frame(Kind::Heartbeat, b"early")]);
    assert_eq!((world.counters.early.get(), world.counters.early_held.get()), (1, 1));
    // More copies, from the same and from other places.
    for from in ["10.6.6.6:666", "10.6.6.7:667", CLIENT] {
        for datagram in &flight {
            world.deliver(from, datagram);
        }
    }
    for _ in 0..100 {
        world.now += 1000 * MS;
        world.bridge.timeout(world.now);
        world.settle();
    }
    assert_eq!(got(&world), [frame(Kind::Heartbeat, b"early")]);
    assert!(world.shards.values().all(|shard| shard.gone));
    assert_eq!(world.counters.connections_open.get(), 0);
    assert!(world.counters.refused(Refusal::Slow) >= 1);
    // And once all of it is forgotten: the session was used, so nothing of it is taken again.
    for datagram in &flight {
        world.deliver("10.6.6.8:668", datagram);
    }
    assert_eq!(got(&world).len(), 1);
    assert_eq!(world.counters.early.get(), 1);
}

#[test]
fn y_06_held_frames_go_on_once_the_handshake_is_confirmed() {
    let papers = Papers::new();
    let (mut world, peer, flight) = flight(&papers);
    for datagram in &flight {
        world.deliver(CLIENT, datagram);
    }
    assert_eq!(got(&world), [frame(Kind::Heartbeat, b"early")]);
    world.run(2000 * MS);
    assert!(world.peer(peer).quic.accepted_0rtt());
    let all = [frame(Kind::Heartbeat, b"early"), frame(Kind::QueryRequest, b"q")].concat();
    assert_eq!(got(&world), [all]);
    assert_eq!(world.counters.early_held.get(), 1);
    assert_eq!(world.counters.connections.get(), 2);
}
