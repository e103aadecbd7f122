//! Frames written by hand: what no well-behaved agent sends.

use super::crowd::{self, counts, until};
use crate::rig::{Node, Raw};
use wire::{
    ErrorCode, Kind, frame,
    mesh::Trinary,
    payload::{
        self, Payload,
        mesh::{Ack, AgentHeartbeat, AgentRecord, AgentRegistered, AgentRegistration, Coordinate},
    },
};

/// An agent by hand: its connection, its handle and generation.
struct Hand {
    raw: Raw,
    handle: u32,
    generation: u32,
}

fn send<T: Payload>(raw: &mut Raw, value: &T, message_id: u64) {
    let mut bytes = Vec::new();
    frame::append(&mut bytes, value, message_id, 0).expect("fits");
    raw.send(&bytes);
}

/// Asks for a place; the fault that came, or handle and generation.
fn register(raw: &mut Raw, id: u8) -> Result<(u32, u32), u16> {
    let agent = AgentRecord {
        agent_id: [id; 16],
        latency_ms: 1.0,
        processing_ms: 5.0,
        class: 1,
        ..AgentRecord::default()
    };
    send(raw, &AgentRegistration { agents: vec![agent], ..AgentRegistration::default() }, 7);
    let answer = raw.frame().expect("an answer");
    assert_eq!(answer.header.kind(), Ok(Kind::AgentRegistered));
    let found = payload::open::<AgentRegistered>(answer.payload.as_slice()).expect("sound");
    let place = &found.places[0];
    assert_eq!(place.agent_id, [id; 16]);
    match place.fault.to_native() {
        0 => Ok((place.handle.to_native(), place.generation.to_native())),
        fault => Err(fault),
    }
}

fn hand(node: &Node, id: u8) -> Hand {
    let mut raw = node.raw();
    let (handle, generation) = register(&mut raw, id).expect("a place");
    Hand { raw, handle, generation }
}

/// The next COORDINATE: its id, and the message id of its header.
fn asked(raw: &mut Raw) -> ([u8; 16], u64) {
    loop {
        let frame = raw.frame().expect("still there");
        if frame.header.kind() == Ok(Kind::Coordinate) {
            let found = payload::open::<Coordinate>(frame.payload.as_slice()).expect("sound");
            return (found.message_id, frame.header.message_id());
        }
    }
}

fn answer(hand: &Hand, message_id: [u8; 16]) -> Ack {
    Ack {
        message_id,
        handle: hand.handle,
        generation: hand.generation,
        state: Trinary::Ready.code(),
        ..Ack::default()
    }
}

#[test]
fn a_name_that_is_taken_is_refused_until_its_connection_ends() {
    let node = Node::start(&[]);
    let first = hand(&node, 1);
    let mut second = node.raw();
    assert_eq!(register(&mut second, 1), Err(ErrorCode::NameTaken.code()));
    node.await_count("butterfly_mesh_registrations_total", "result", "name_taken", 1);
    second.lives();
    let (handle, generation) = (first.handle, first.generation);
    drop(first);
    until("it is offline", || crowd::in_state(&node, &["offline"]) == 1);
    let (again, newer) = register(&mut second, 1).expect("free now");
    assert!(again == handle && newer != generation, "the same agent in its next life");
}

#[test]
fn scatter_04_an_answer_in_anothers_name_changes_nothing() {
    let node = Node::start(&[]);
    let (mut honest, mut thief) = (hand(&node, 1), hand(&node, 2));
    let words = ["--window", "20s", "--timeout", "40s", "--strategy", "parallel"];
    let gather = crowd::gather_meanwhile(&node, &words);
    let (message, head) = asked(&mut honest.raw);
    let (_, other_head) = asked(&mut thief.raw);
    // In the other's name, with a handle that nobody has, and to a message that nobody sent.
    send(&mut thief.raw, &answer(&honest, message), other_head);
    let nobody = Ack { handle: 31_000, ..answer(&thief, message) };
    send(&mut thief.raw, &nobody, other_head);
    let unheard = answer(&thief, [9; 16]);
    send(&mut thief.raw, &unheard, other_head);
    node.await_count("butterfly_mesh_answers_total", "state", "foreign", 2);
    node.await_count("butterfly_mesh_answers_total", "state", "unknown", 1);
    let conflict = Ack { state: Trinary::Conflict.code(), ..answer(&thief, message) };
    send(&mut thief.raw, &conflict, other_head);
    node.await_count("butterfly_mesh_answers_total", "state", "conflict", 1);
    assert_eq!(node.counted("butterfly_mesh_answers_total", "state", "ready"), 0);
    let ready = answer(&honest, message);
    send(&mut honest.raw, &ready, head);
    let (code, report) = crowd::ended(gather);
    let keys = ["sent", "ready", "conflicts", "foreign"];
    assert_eq!((code, counts(&report, keys)), (3, [2, 1, 1, 2]), "{report}");
}

#[test]
fn meshmsg_14_a_heartbeat_for_a_handle_of_another_connection_is_refused() {
    let node = Node::start(&[]);
    let (honest, mut thief) = (hand(&node, 1), hand(&node, 2));
    let beat = AgentHeartbeat {
        handle: honest.handle,
        generation: honest.generation,
        sent_ns: 1,
        ..AgentHeartbeat::default()
    };
    send(&mut thief.raw, &beat, 3);
    until("counted", || {
        let of = |value| node.counted("butterfly_mesh_heartbeats_total", "result", value);
        of("stale") + of("foreign") > 0
    });
    // The shard's answer is quicker than the mesh's refusal.
    let mut kinds = Vec::new();
    while kinds.last() != Some(&Kind::ErrorReport) {
        let frame = thief.raw.frame().expect("still there");
        kinds.push(frame.header.kind().expect("known"));
    }
    assert_eq!(crowd::in_state(&node, &["active"]), 2);
}

#[test]
fn more_agents_than_there_is_room_for_are_refused() {
    let node = Node::start(&["--agents", "2"]);
    let _two = (hand(&node, 1), hand(&node, 2));
    let mut third = node.raw();
    assert_eq!(register(&mut third, 3), Err(ErrorCode::MeshFull.code()));
    node.await_count("butterfly_mesh_registrations_total", "result", "mesh_full", 1);
    third.lives();
}
