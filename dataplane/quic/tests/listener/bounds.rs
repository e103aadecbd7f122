//! What is over a bound, and who may not come in.

use crate::{
    support::{Papers, nobody},
    world::{MS, World},
};
use dataplane_quic::{Limits, Refusal};
use proptest::prelude::*;
use quinn_proto::Event;
use std::time::Duration;

fn connected(world: &mut World, peer: usize) -> bool {
    let peer = world.peer(peer);
    let lost = peer.events.iter().any(|event| matches!(event, Event::ConnectionLost { .. }));
    !lost && peer.events.iter().any(|event| matches!(event, Event::Connected))
}

#[test]
fn a_crowd_has_to_show_its_addresses_and_one_more_is_refused() {
    let papers = Papers::new();
    let limits = Limits { retry_above: 0, connections: 2, ..Limits::default() };
    let mut world = World::new(limits, &papers, "client", 1);
    let peers = [world.connect(), world.connect(), world.connect()];
    world.run(1000 * MS);
    let connected = peers.map(|peer| connected(&mut world, peer));
    assert_eq!(connected.iter().filter(|connected| **connected).count(), 2);
    // The third comes with its token and is refused, at that step or at the one before.
    assert!((2..=3).contains(&world.counters.retries.get()));
    assert_eq!(world.counters.refused(Refusal::Connections), 1);
}

#[test]
fn a_handshake_that_does_not_go_on_ends_and_makes_room() {
    let papers = Papers::new();
    let limits = Limits { handshakes: 1, ..Limits::default() };
    let mut world = World::new(limits, &papers, "client", 1);
    world.weather.loss = 1000;
    world.connect();
    world.settle();
    let initial = world.sent[0].clone();
    world.deliver("10.6.6.6:666", &initial);
    assert_eq!(world.counters.connections_open.get(), 1);
    world.peers.clear();
    world.weather.loss = 0;
    let second = world.connect();
    world.run(1000 * MS);
    assert!(!connected(&mut world, second));
    assert_eq!(world.counters.refused(Refusal::Handshakes), 1);
    world.run(Duration::from_secs(60));
    assert_eq!(world.counters.refused(Refusal::Slow), 1);
    assert_eq!(world.counters.connections_open.get(), 0);
    let third = world.connect();
    world.run(1000 * MS);
    assert!(connected(&mut world, third));
}

#[test]
fn streams_over_the_limit_are_refused_and_counted() {
    let papers = Papers::new();
    let limits = Limits { streams_in_all: 2, ..Limits::default() };
    let mut world = World::new(limits, &papers, "client", 1);
    let peer = world.connect();
    world.run(200 * MS);
    for _ in 0..3 {
        world.open(peer, b"hello");
    }
    world.run(200 * MS);
    assert_eq!(world.shards.len(), 2);
    assert_eq!(world.counters.refused(Refusal::Streams), 1);
    assert!(connected(&mut world, peer), "the connection goes on");
}

#[test]
fn a_draining_node_takes_no_new_streams_and_no_new_connections() {
    let papers = Papers::new();
    let mut world = World::new(Limits::default(), &papers, "client", 1);
    world.echo = true;
    let peer = world.connect();
    world.run(200 * MS);
    let (old, _) = world.open(peer, b"before");
    world.run(200 * MS);
    world.bridge.drain();
    world.open(peer, b"after");
    let late = world.connect();
    world.peer(peer).quic.send_stream(old).write(b" and after").expect("room");
    world.run(200 * MS);
    let mut back = Vec::new();
    world.read(peer, old, &mut back);
    assert_eq!(back, b"before and after");
    assert_eq!(world.shards.len(), 1);
    assert!(!connected(&mut world, late));
    assert_eq!(world.counters.refused(Refusal::Draining), 2);
}

#[test]
fn trans_03_no_certificate_another_authority_and_unknown_names_are_kept_out() {
    let (papers, others) = (Papers::new(), Papers::new());
    let mut world = World::new(Limits::default(), &papers, "stranger", 1);
    let peer = world.connect();
    world.run(1000 * MS);
    assert!(!connected(&mut world, peer));
    assert_eq!(world.counters.refused(Refusal::Identity), 1);

    let forged = papers.client_of(&others, "client");
    let mut mixed = World::with(Limits::default(), &papers, forged, 1);
    let peer = mixed.connect();
    mixed.run(1000 * MS);
    assert!(!connected(&mut mixed, peer));
    assert_eq!(mixed.counters.refused(Refusal::Handshake), 1);
    let mut bare = World::with(Limits::default(), &papers, nobody(&papers.client("client")), 1);
    let peer = bare.connect();
    bare.run(1000 * MS);
    assert!(!connected(&mut bare, peer));
    assert_eq!(bare.counters.refused(Refusal::Handshake), 1);
    for world in [&world, &mixed, &bare] {
        assert!(world.shards.is_empty());
        assert_eq!(world.counters.connections.get(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn noise_changes_nothing(
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 1..100),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let papers = Papers::new();
        let mut world = World::new(Limits::default(), &papers, "client", 1);
        world.echo = true;
        let peer = world.connect();
        world.run(200 * MS);
        let (id, _) = world.open(peer, b"hello");
        world.run(200 * MS);
        for datagram in &noise {
            world.deliver("10.6.6.6:666", datagram);
        }
        for (at, bits) in &flips {
            let sent = world.sent.clone();
            for mut datagram in sent {
                let at = at.index(datagram.len());
                datagram[at] ^= bits | 1;
                world.deliver("10.0.0.1:4000", &datagram);
            }
        }
        world.peer(peer).quic.send_stream(id).write(b" again").expect("room");
        world.run(200 * MS);
        let mut back = Vec::new();
        world.read(peer, id, &mut back);
        prop_assert_eq!(back, b"hello again");
        prop_assert_eq!(world.shards.len(), 1);
    }
}
