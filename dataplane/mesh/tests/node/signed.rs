//! Whose orders count, and whose messages and answers (SIGN-04, SEC-01, SEC-05, SEC-08).

use crate::rig::{Act, EPOCH, Rig, aligned, everybody};
use mesh::{
    MS, SECOND,
    agent::{Dropped, NodeKey, Order, Output},
    limits::{HELD_FOR, ORDERS_PER_MINUTE, QUARANTINE_FOR, STRIKES},
    node::{Beat, Config, Effect, Effects, Mesh, Peer, Source, Trust},
};
use sign::{NO_KEY, SecretKey, order};
use std::sync::Arc;
use wire::{
    ErrorCode, HEADER_LEN, Payload, frame,
    mesh::{AgentClass, AgentState, PerAgent, Scope, Trinary},
    payload::{
        ErrorReport, access,
        mesh::{Ack, AgentRecord, Circuit, Coordinate, Freeze, Gather, Place},
        open,
    },
};

const FAR: Peer = Peer { shard: 0, conn: 900, life: 1 };

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32]).expect("a key")
}

/// A node that knows the operators 1 and 2, and has the key 9.
fn trusting(change: impl FnOnce(&mut Trust)) -> Rig {
    let mut rig = Rig::new(1, 100);
    let mut trust = Trust {
        key: Some(Arc::new(key(9))),
        operators: vec![*key(1).public(), *key(2).public()],
        since_ms: EPOCH / MS,
        ..Trust::default()
    };
    change(&mut trust);
    let config = Config { node_id: [1; 16], agents: 100, trust, ..Config::default() };
    rig.nodes[0] = Mesh::new(&config, 0);
    rig
}

fn stamp(rig: &Rig) -> u64 {
    rig.clocks().epoch_ns / MS
}

fn freeze(scope: Scope) -> Freeze {
    Freeze { scope: scope.code(), message_id: [7; 16], ..Freeze::default() }
}

fn signed<T: order::Order>(mut it: T, by: &[(u8, u64)]) -> T {
    for (seed, stamp) in by {
        order::sign(&mut it, &key(*seed), NO_KEY, *stamp);
    }
    it
}

/// Sends an order; how it was refused, with limit and actual, or None where it was obeyed.
fn send<T: Payload>(rig: &mut Rig, from: Source, it: &T) -> Option<(ErrorCode, u64, u64)> {
    let mut bytes = Vec::new();
    frame::append(&mut bytes, it, 4, 1).expect("fits");
    let before = rig.inbox.len();
    rig.call(0, |mesh, now, out| {
        mesh.frame(now, from, now.node, T::KIND, 4, &bytes[HEADER_LEN..], out);
    });
    rig.inbox[before..].iter().filter(|(_, to, _)| *to == from.peer).find_map(|(_, _, frame)| {
        aligned(frame, |payload| {
            let report = access::<ErrorReport>(payload).ok()?;
            let code = ErrorCode::from_code(report.code.to_native()).expect("known");
            Some((code, report.limit.to_native(), report.actual.to_native()))
        })
    })
}

fn refused(rig: &mut Rig, it: &Freeze) -> Option<ErrorCode> {
    send(rig, FAR.into(), it).map(|(code, ..)| code)
}

#[test]
fn sign_04_only_orders_that_a_known_key_signed_once_and_lately_are_obeyed() {
    let mut rig = trusting(|_| {});
    let now = stamp(&rig);
    let order = freeze(Scope::Cluster);
    assert_eq!(refused(&mut rig, &order), Some(ErrorCode::Forbidden), "unsigned");
    assert_eq!(refused(&mut rig, &signed(order.clone(), &[(3, now)])), Some(ErrorCode::Forbidden));
    let good = signed(order.clone(), &[(1, now)]);
    let wider = Freeze { scope: Scope::Global.code(), ..good.clone() };
    assert_eq!(refused(&mut rig, &wider), Some(ErrorCode::Forbidden), "changed on the way");
    let mut later = good.clone();
    later.signatures[0].stamp_ms += 1;
    assert_eq!(refused(&mut rig, &later), Some(ErrorCode::Forbidden), "another stamp");
    assert_eq!(rig.nodes[0].counters().freezes, 0);
    assert_eq!(refused(&mut rig, &good), None, "forgeries used nothing up");
    assert_eq!(refused(&mut rig, &good), Some(ErrorCode::Duplicate));
    rig.now += 20 * SECOND;
    assert_eq!(refused(&mut rig, &good), Some(ErrorCode::Duplicate));
    rig.now += 20 * SECOND;
    let late = send(&mut rig, FAR.into(), &good);
    assert_eq!(late, Some((ErrorCode::Forbidden, 30_000, 40_000)), "and says by how much");
    let counters = rig.nodes[0].counters();
    assert_eq!((counters.freezes, counters.orders_signed), (1, 1));
    assert_eq!((counters.orders_unsigned, counters.orders_forged), (2, 2));
    assert_eq!((counters.orders_replayed, counters.orders_stale), (2, 1));
}

#[test]
fn sign_04_orders_of_the_own_machine_need_no_signature_unless_that_is_said() {
    let near = Source { peer: FAR, is_local: true };
    for (always, expected) in [(false, None), (true, Some(ErrorCode::Forbidden))] {
        let mut rig = trusting(|trust| trust.always = always);
        let order = freeze(Scope::Cluster);
        assert_eq!(send(&mut rig, near, &order).map(|it| it.0), expected);
        let circuit = Circuit::default();
        assert_eq!(send(&mut rig, near, &circuit).map(|it| it.0), expected);
        assert_eq!(send(&mut rig, near, &everybody()).map(|it| it.0), expected);
        // Whoever signs is held to it.
        let stranger = signed(order, &[(3, stamp(&rig))]);
        assert_eq!(send(&mut rig, near, &stranger).map(|it| it.0), Some(ErrorCode::Forbidden));
    }
    let mut open = trusting(|trust| trust.operators.clear());
    assert_eq!(refused(&mut open, &freeze(Scope::Global)), None, "no keys, no question");
}

#[test]
fn an_order_for_another_node_and_one_from_before_the_start_are_not_obeyed() {
    let mut rig = trusting(|_| {});
    let now = stamp(&rig);
    for (audience, expected) in
        [(key(8).public().id(), Some(ErrorCode::Forbidden)), (key(9).public().id(), None)]
    {
        let mut order = freeze(Scope::Cluster);
        order::sign(&mut order, &key(1), audience, now);
        assert_eq!(refused(&mut rig, &order), expected);
    }
    let earlier = signed(freeze(Scope::Cluster), &[(2, EPOCH / MS)]);
    assert_eq!(refused(&mut rig, &earlier), Some(ErrorCode::Duplicate));
}

#[test]
fn sec_08_an_order_for_the_whole_mesh_waits_for_a_second_person() {
    let mut rig = trusting(|trust| trust.two_person = true);
    let now = stamp(&rig);
    let near = Source { peer: FAR, is_local: true };
    assert_eq!(refused(&mut rig, &signed(freeze(Scope::Sector), &[(1, now)])), None);
    let wide = freeze(Scope::Global);
    assert_eq!(send(&mut rig, near, &wide).map(|it| it.0), Some(ErrorCode::Forbidden));
    let one = signed(wide.clone(), &[(1, now + 1)]);
    assert_eq!(refused(&mut rig, &one), Some(ErrorCode::Unconfirmed));
    assert_eq!(refused(&mut rig, &one), Some(ErrorCode::Unconfirmed), "saying it again is not two");
    let same = signed(one.clone(), &[(1, now + 2)]);
    assert_eq!(refused(&mut rig, &same), Some(ErrorCode::Unconfirmed), "nor is the same key");
    assert_eq!(rig.nodes[0].counters().freezes, 1);
    rig.now += HELD_FOR / 2;
    let both = signed(one.clone(), &[(2, stamp(&rig))]);
    assert_eq!(refused(&mut rig, &both), None);
    assert_eq!(rig.nodes[0].counters().freezes, 2);
    assert!(matches!(refused(&mut rig, &both), Some(ErrorCode::Duplicate | ErrorCode::Forbidden)));
    // What nobody confirms in time is over.
    let thaw = Freeze { thaw: true, ..wide };
    let one = signed(thaw, &[(1, stamp(&rig))]);
    assert_eq!(refused(&mut rig, &one), Some(ErrorCode::Unconfirmed));
    rig.now += HELD_FOR;
    let both = signed(one, &[(2, stamp(&rig))]);
    assert!(refused(&mut rig, &both).is_some());
    assert_eq!(rig.nodes[0].counters().freezes, 2);
}

#[test]
fn sec_08_a_key_that_gives_more_orders_than_a_person_is_slowed() {
    let mut rig = trusting(|_| {});
    let now = stamp(&rig);
    let mut codes = Vec::new();
    for count in 0..u64::from(ORDERS_PER_MINUTE) + 3 {
        codes.push(refused(&mut rig, &signed(freeze(Scope::Cluster), &[(1, now + count)])));
    }
    let slowed = codes.iter().filter(|code| **code == Some(ErrorCode::RateLimited)).count();
    assert_eq!((slowed, codes.iter().flatten().count()), (3, 3));
    assert_eq!(refused(&mut rig, &signed(freeze(Scope::Cluster), &[(2, now)])), None, "another's");
    rig.now += 60 * SECOND;
    let next = stamp(&rig);
    assert_eq!(refused(&mut rig, &signed(freeze(Scope::Cluster), &[(1, next)])), None);
}

#[test]
fn sign_04_nodes_below_obey_the_node_above_by_its_key() {
    for (known, reached) in [(9, 5), (8, 0)] {
        let mut rig = Rig::new(2, 100);
        let node = |at: u8, trust| Config {
            node_id: [at; 16],
            agents: 100,
            trust: Trust { since_ms: EPOCH / MS, ..trust },
            ..Config::default()
        };
        let above = Trust { key: Some(Arc::new(key(9))), ..Trust::default() };
        let below = Trust { operators: vec![*key(known).public()], ..Trust::default() };
        rig.nodes[0] = Mesh::new(&node(1, above), 0);
        rig.nodes[1] = Mesh::new(&node(2, below), 1);
        rig.join(1, 0);
        rig.run(2 * SECOND);
        rig.add(1, 0..5, AgentClass::Edge, Act::Ready(5 * MS));
        rig.ask(0, &everybody());
        rig.run(20 * SECOND);
        assert_eq!(rig.result().counts.ready, reached);
        let counters = rig.nodes[1].counters();
        assert_eq!(counters.orders_signed > 0, reached > 0);
        assert_eq!(counters.orders_unsigned > 0, reached == 0);
    }
}

/// The copy of a message that a node plans, and the agent's place.
fn copy(rig: &mut Rig) -> (Vec<u8>, Place) {
    let peer = rig.peer();
    let places = rig.register(0, peer, vec![Rig::record(1, AgentClass::Edge)]);
    let (mut out, now) = (Effects::new(), rig.clocks());
    rig.nodes[0].gather(now, FAR, 5, &Gather { payload: vec![1, 2], ..everybody() }, &mut out);
    rig.nodes[0].advance(now, &mut out);
    let order = out.iter().find_map(|effect| match effect {
        Effect::Volley(order) => Some(order),
        _ => None,
    });
    let template = order.expect("planned").template.clone();
    let mut frame = vec![0; template.frame_len()];
    let agent = PerAgent {
        handle: places[0].handle,
        generation: places[0].generation,
        ..PerAgent::default()
    };
    assert_eq!(template.write(&mut frame, 1, now.node, &agent), frame.len());
    (frame, places[0])
}

#[test]
fn sign_04_an_agent_takes_up_only_what_its_node_signed_and_only_once() {
    let mut rig = trusting(|_| {});
    rig.now = 200 * SECOND;
    let (frame, place) = copy(&mut rig);
    let now = rig.now;
    let read = |frame: &[u8], node: &mut NodeKey| {
        aligned(frame, |payload| {
            let message = open::<Coordinate>(payload).expect("sound");
            Order { is_verified: node.verify(message), ..Order::of(message, 0) }
        })
    };
    let agent = || {
        let mut agent = mesh::agent::Agent::new(0);
        agent.demand_signatures();
        agent.registered(now, now, &place, now, 0);
        agent
    };
    let drops = |orders: &[Order]| {
        let (mut agent, mut out) = (agent(), Vec::new());
        for order in orders {
            agent.order(now, order, 0, &mut out);
        }
        let dropped = |it: &&Output| matches!(it, Output::Dropped(_, Dropped::Unverified));
        out.iter().filter(dropped).count()
    };
    let order = read(&frame, &mut NodeKey::new(*key(9).public()));
    assert!(order.is_verified);
    assert_eq!(drops(&[order]), 0);
    assert_eq!(drops(&[order, order, Order { sent_ns: order.sent_ns + 5, ..order }]), 2);
    assert_eq!(drops(&[Order { is_verified: false, ..order }]), 1);
    assert_eq!(drops(&[Order { target_ns: now.saturating_sub(61 * SECOND), ..order }]), 1);
    assert!(!read(&frame, &mut NodeKey::new(*key(8).public())).is_verified);
    // Every bit of what is shared counts; those of the copy's own fields do not.
    let len = frame.len();
    let own = len - Coordinate::ROOT_LEN + core::mem::offset_of!(Archived, sent_ns);
    for at in HEADER_LEN..len - 8 {
        let mut changed = frame.clone();
        changed[at] ^= 1;
        let mut node = NodeKey::new(*key(9).public());
        let verdict = aligned(&changed, |payload| {
            open::<Coordinate>(payload).is_ok_and(|message| node.verify(message))
        });
        let is_own = (own..own + 28).contains(&at);
        let is_shared = at < own || (own + 28..len - 15).contains(&at);
        assert!(!is_own || verdict, "byte {at}");
        // Padding between the payload's parts, and what is reserved, say nothing.
        assert!(!is_shared || !verdict || changed_nothing(&frame, &changed), "byte {at}");
    }
}

type Archived = wire::payload::mesh::ArchivedCoordinate;

/// Whether two frames say the same.
fn changed_nothing(one: &[u8], other: &[u8]) -> bool {
    let text = |frame: &[u8]| {
        aligned(frame, |payload| {
            let message = open::<Coordinate>(payload).ok()?;
            let text = sign::agents::received_bytes(message);
            Some((text, message.payload.to_vec(), message.signature.to_vec()))
        })
    };
    text(one) == text(other)
}

/// An agent with a key, connected.
fn keyed(rig: &mut Rig, seed: u8) -> (Peer, Place) {
    let peer = rig.peer();
    let record =
        AgentRecord { public_key: key(seed).public().bytes(), ..Rig::record(1, AgentClass::Edge) };
    let places = rig.register(0, peer, vec![record]);
    (peer, places[0])
}

#[test]
fn sec_01_an_agents_id_belongs_to_its_key_and_its_answers_are_signed() {
    let mut rig = trusting(|trust| trust.signed_acks = true);
    let back = |rig: &mut Rig, peer: Peer, seed| {
        rig.call(0, |mesh, now, out| mesh.gone(now, peer, out));
        keyed(rig, seed)
    };
    let (peer, _) = keyed(&mut rig, 6);
    let (peer, place) = back(&mut rig, peer, 5);
    assert_eq!(place.fault, 0, "a key that nobody has shown to have binds nobody");
    let asked = signed(Gather { message_id: [3; 16], ..everybody() }, &[(1, stamp(&rig))]);
    let message_id = asked.message_id;
    assert_eq!(send(&mut rig, FAR.into(), &asked), None);
    rig.run(rig.now + 50 * MS);
    let mut ack = Ack {
        message_id,
        handle: place.handle,
        generation: place.generation,
        state: Trinary::Ready.code(),
        ..Ack::default()
    };
    assert_eq!(send(&mut rig, peer.into(), &ack), None);
    sign::agents::sign_ack(&mut ack, &key(6));
    assert_eq!(send(&mut rig, peer.into(), &ack), None);
    let counters = rig.nodes[0].counters();
    assert_eq!((counters.acks_forged, counters.acks_verified, counters.ready), (2, 0, 0));
    sign::agents::sign_ack(&mut ack, &key(5));
    assert_eq!(send(&mut rig, peer.into(), &ack), None);
    let counters = rig.nodes[0].counters();
    assert_eq!((counters.acks_verified, counters.ready), (1, 1));
    // Now it does.
    let (thief, stolen) = back(&mut rig, peer, 6);
    assert_eq!(stolen.fault, ErrorCode::NameTaken.code());
    let bare = rig.register(0, thief, vec![Rig::record(1, AgentClass::Edge)]);
    assert_eq!(bare[0].fault, ErrorCode::NameTaken.code());
    let (_, again) = back(&mut rig, thief, 5);
    assert_eq!((again.fault, again.handle), (0, place.handle));
}

#[test]
fn sec_05_an_agent_that_says_what_cannot_be_is_kept_from_work_for_a_while() {
    let mut rig = trusting(|_| {});
    let (peer, place) = keyed(&mut rig, 5);
    let (handle, generation) = (place.handle, place.generation);
    let beat = |reliability| Beat { handle, generation, reliability, ..Beat::default() };
    for strike in 0..STRIKES {
        assert_ne!(rig.nodes[0].registry().state(handle), AgentState::Quarantined, "{strike}");
        rig.now += 5 * SECOND;
        rig.call(0, |mesh, now, out| mesh.heartbeat(now, peer, now.node, &beat(f32::NAN), out));
    }
    assert_eq!(rig.nodes[0].registry().state(handle), AgentState::Quarantined);
    assert_eq!(rig.nodes[0].counters().quarantined, 1);
    let told = |rig: &mut Rig| {
        rig.call(0, |mesh, now, out| mesh.heartbeat(now, peer, now.node, &beat(1.0), out));
        rig.nodes[0].registry().state(handle)
    };
    assert_eq!(told(&mut rig), AgentState::Quarantined, "a sound beat changes nothing");
    rig.run(rig.now + QUARANTINE_FOR + 2 * SECOND);
    assert_eq!(told(&mut rig), AgentState::Active);
    assert_eq!(rig.nodes[0].counters().released, 1);
    // So much, but never so often.
    for _ in 0..2 * STRIKES {
        rig.now += 20 * SECOND;
        rig.call(0, |mesh, now, out| mesh.heartbeat(now, peer, now.node, &beat(f32::NAN), out));
    }
    assert_eq!(rig.nodes[0].counters().quarantined, 1);
}
