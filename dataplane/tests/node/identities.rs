//! What a node allows whom, over real sockets: everybody here is local, on terms of the operator.

use crate::rig::{Folder, Node, Raw, request};
use std::fs;
use wire::{Dtype, ErrorCode, Kind, payload::TensorWork};

/// A node on these terms for whoever is local.
fn node(terms: &str) -> Node {
    let folder = Folder::new();
    let path = folder.file("node.toml");
    fs::write(&path, format!("[identity.local]\n{terms}\n")).expect("writes");
    // The file is read before the node is ready.
    Node::start(&["--config", path.to_str().expect("text")])
}

fn echo(id: u64) -> Vec<u8> {
    request(id, TensorWork::echo(Dtype::U8, 1, 9), &[7; 9])
}

#[test]
fn an_operation_that_was_not_granted_is_forbidden_and_others_are_answered() {
    let node = node("operations = [\"topk\"]");
    let mut raw = node.raw();
    raw.send(&echo(5));
    assert_eq!(raw.refusal(ErrorCode::Forbidden), 5);
    let row: Vec<u8> = (0..16).flat_map(|x| (x as f32).to_le_bytes()).collect();
    raw.send(&request(6, TensorWork::topk(Dtype::F32, 1, 16, 4, Dtype::F32), &row));
    let answer = raw.frame().expect("an answer");
    assert_eq!((answer.header.kind(), answer.header.message_id()), (Ok(Kind::QueryResponse), 6));
    assert_eq!(node.refusals("forbidden"), 1);
    assert_eq!(node.counted("butterfly_role_refusals_total", "role", "several"), 1);
}

#[test]
fn a_connection_too_many_is_told_so_and_the_first_goes_on() {
    let node = node("max_connections = 1");
    let mut first = node.raw();
    first.lives();
    let mut second = Raw::connect(&node.addr());
    assert_eq!(second.refusal(ErrorCode::TooManyConnections), 0);
    second.closed();
    first.lives();
}

#[test]
fn z_15_a_rate_is_held_and_the_connection_goes_on() {
    // Burst of one: the second frame of a volley is refused whatever the machine does meanwhile.
    let node = node("requests_per_second = 1");
    let mut raw = node.raw();
    raw.send(&[echo(1), echo(2), echo(3)].concat());
    let mut codes = Vec::new();
    for _ in 0..3 {
        let frame = raw.frame().expect("an answer");
        codes.push((frame.header.message_id(), frame.header.kind()));
    }
    codes.sort_by_key(|(id, _)| *id);
    let refused = Ok(Kind::ErrorReport);
    assert_eq!(codes, [(1, Ok(Kind::QueryResponse)), (2, refused), (3, refused)]);
}

#[test]
fn an_idle_connection_is_told_and_closed() {
    let node = node("idle_timeout = \"1s\"");
    let mut raw = node.raw();
    raw.lives();
    assert_eq!(raw.refusal(ErrorCode::PeerTooSlow), 0);
    raw.closed();
}
