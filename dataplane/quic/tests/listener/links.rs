//! Good peers.

use crate::{
    rig::{Node, block_on, collect, echo, exchange, wait_for},
    support::NODE,
};
use dataplane_quic::Limits;
use quinn::{ApplicationClose, ConnectionError, Endpoint};
use std::{io::Write, net::UdpSocket, sync::mpsc::channel};
use wire::{Header, Kind, Role, Roles};
use zerocopy::IntoBytes;

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed) as u8).collect()
}

#[test]
fn trans_05_trans_08_streams_come_back_over_ipv4_and_ipv6() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let node = Node::start(address, Limits::default(), echo);
        block_on(async {
            let (_endpoint, connection) = node.connect().await;
            assert_eq!(exchange(&connection, b"ping".to_vec()).await, b"ping");
            let rows = bytes(3 << 20, 1);
            assert!(exchange(&connection, rows.clone()).await == rows);
        });
        let callers = node.callers.lock().expect("no panic").clone();
        assert_eq!(callers.len(), 2);
        // The name is "client", and its certificate says what it may be.
        assert_eq!((callers[0].identity, callers[0].roles), (6, Roles::of(Role::Client)));
        let total = (3 << 20) + 4;
        assert_eq!(node.counters.copied_to_shard.get(), total);
        assert_eq!(node.counters.copied_from_shard.get(), total);
        assert_eq!((node.counters.streams.get(), node.counters.connections.get()), (2, 1));
    }
}

#[test]
fn a_hundred_streams_of_one_connection_go_side_by_side() {
    let node = Node::start("127.0.0.1:0", Limits::default(), echo);
    block_on(async {
        let (_endpoint, connection) = node.connect().await;
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let connection = connection.clone();
                tokio::spawn(async move {
                    let sent = bytes(20_000 + number, number);
                    exchange(&connection, sent.clone()).await == sent
                })
            })
            .collect();
        for task in tasks {
            assert!(task.await.expect("no panic"));
        }
        wait_for("all streams to be over", || node.counters.streams_open.get() == 0).await;
        assert_eq!(node.counters.streams.get(), 100);
    });
}

#[test]
fn a_peer_that_moves_to_another_address_keeps_its_streams() {
    let node = Node::start("127.0.0.1:0", Limits::default(), echo);
    block_on(async {
        let (endpoint, connection) = node.connect().await;
        let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
        let mut back = [0; 6];
        send.write_all(b"before").await.expect("is taken");
        recv.read_exact(&mut back).await.expect("comes back");
        endpoint.rebind(UdpSocket::bind("127.0.0.1:0").expect("binds")).expect("moves");
        send.write_all(b" after").await.expect("is taken");
        recv.read_exact(&mut back).await.expect("comes back");
        assert_eq!(&back, b" after");
        assert_eq!(node.counters.connections.get(), 1);
    });
}

#[test]
fn y_06_a_real_client_resumes_and_sends_early_what_may_come_twice() {
    let node = Node::start("127.0.0.1:0", Limits::default(), echo);
    let payload = b"early";
    let frame = |kind| [Header::for_payload(kind, 7, 0, payload).as_bytes(), payload].concat();
    let all = [frame(Kind::Heartbeat), frame(Kind::QueryRequest)].concat();
    block_on(async {
        let endpoint = node.client(node.papers.client("client"));
        let connect = |endpoint: &Endpoint| endpoint.connect(node.address, NODE).expect("a name");
        let first = connect(&endpoint).await.expect("connects");
        // What comes back comes after the tickets.
        exchange(&first, b"hello".to_vec()).await;
        first.close(0_u32.into(), b"");
        let (second, accepted) = connect(&endpoint).into_0rtt().expect("the client has a ticket");
        assert!(exchange(&second, all.clone()).await == all);
        assert!(accepted.await, "the node took what came early");
        assert_eq!(node.counters.early.get(), 1);
    });
}

#[test]
fn an_ending_node_delivers_what_was_finished_and_says_that_it_ends() {
    let (tell, streams) = channel();
    let mut node = Node::start_with("127.0.0.1:0", Limits::default(), collect(tell));
    block_on(async {
        let (_endpoint, connection) = node.connect().await;
        let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
        send.write_all(b"x").await.expect("is taken");
        let answer = bytes(300_000, 2);
        let mut stream = streams.recv().expect("a stream");
        stream.write_all(&answer).expect("is taken");
        drop(stream);
        let back = tokio::spawn(async move { recv.read_to_end(1 << 20).await });
        wait_for("the shard's bytes", || node.counters.copied_from_shard.get() == 300_000).await;
        tokio::task::block_in_place(|| node.end());
        assert!(back.await.expect("no panic").expect("all of it") == answer);
        let closed = connection.closed().await;
        let ending = ApplicationClose { error_code: 0_u32.into(), reason: Vec::new().into() };
        assert_eq!(closed, ConnectionError::ApplicationClosed(ending));
    });
}

#[test]
fn new_certificates_count_for_new_connections_and_leave_the_old_ones_alone() {
    let node = Node::start("127.0.0.1:0", Limits::default(), echo);
    let other = Node::start("127.0.0.1:0", Limits::default(), echo);
    block_on(async {
        let (endpoint, connection) = node.connect().await;
        exchange(&connection, b"before".to_vec()).await;
        node.running().reload(other.papers.node());
        // Those of the new authority come in, at the latest once the order has been obeyed.
        let newcomers = node.client(other.papers.client("newcomer"));
        loop {
            let attempt = newcomers.connect(node.address, NODE).expect("a name").await;
            if let Ok(connection) = attempt {
                assert_eq!(exchange(&connection, b"new".to_vec()).await, b"new");
                break;
            }
        }
        assert_eq!(exchange(&connection, b"old".to_vec()).await, b"old");
        let attempt = endpoint.connect(node.address, NODE).expect("a name").await;
        assert!(attempt.is_err(), "an authority that counts no more");
    });
}
