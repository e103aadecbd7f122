//! Peers that are slow, gone, strangers or worse.

use crate::{
    rig::{Node, block_on, collect, echo, exchange, flood, wait_for},
    support::{NODE, Papers, nobody},
};
use dataplane_quic::{Limits, PIECE_MAX, Refusal};
use std::{net::UdpSocket, sync::mpsc::channel, time::Duration};

#[test]
fn a_peer_that_never_reads_stops_its_shard_and_nobody_else() {
    let limits = Limits { send_window: 1 << 20, ..Limits::default() };
    let node = Node::start("127.0.0.1:0", limits, flood);
    block_on(async {
        let (_endpoint, idle) = node.connect().await;
        let (mut send, _recv) = idle.open_bi().await.expect("a stream");
        send.write_all(b"x").await.expect("is taken");
        // The window of quinn's client, and what may wait in the bridge, and no more.
        let most = 1_250_000 + 2 * PIECE_MAX as u64;
        wait_for("the flood to reach the window", || {
            node.counters.copied_from_shard.get() >= 1_250_000
        })
        .await;
        let (_endpoint, other) = node.connect().await;
        let (mut send, mut recv) = other.open_bi().await.expect("a stream");
        send.write_all(b"x").await.expect("is taken");
        let mut back = vec![0; 2 << 20];
        recv.read_exact(&mut back).await.expect("the other flood");
        assert!(node.counters.copied_from_shard.get() <= 2 * most + (3 << 20));
        assert_eq!(node.counters.streams_open.get(), 2);
    });
}

#[test]
fn a_shard_that_never_reads_stops_its_peer_within_the_window() {
    let (tell, streams) = channel();
    let limits = Limits { stream_window: 256 << 10, ..Limits::default() };
    let node = Node::start_with("127.0.0.1:0", limits, collect(tell));
    block_on(async {
        let (_endpoint, connection) = node.connect().await;
        let (mut send, _recv) = connection.open_bi().await.expect("a stream");
        let mut taken = 0;
        let piece = [7; 50_000];
        // The last write waits for ever.
        while let Ok(done) = tokio::time::timeout(Duration::from_secs(2), send.write(&piece)).await
        {
            taken += done.expect("open");
            assert!(taken < 4 << 20, "the shard takes nothing");
        }
        assert!(taken >= 256 << 10);
        drop(streams.recv());
        // The shard closed without reading: its peer hears of it.
        let stopped = async { while send.write(&piece).await.is_ok() {} };
        stopped.await;
        wait_for("the stream to be over", || node.counters.streams_open.get() == 0).await;
    });
}

#[test]
fn a_peer_that_vanishes_is_forgotten_after_the_idle_time() {
    let limits = Limits { idle: Duration::from_secs(3), ..Limits::default() };
    let node = Node::start("127.0.0.1:0", limits, echo);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let kept = runtime.block_on(async {
        let (endpoint, connection) = node.connect().await;
        let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
        send.write_all(b"x").await.expect("is taken");
        recv.read_exact(&mut [0]).await.expect("comes back");
        (endpoint, connection, send, recv)
    });
    // Its tasks end at once and say nothing.
    runtime.shutdown_background();
    block_on(async {
        wait_for("the connection to be forgotten", || {
            node.counters.connections_open.get() == 0 && node.counters.streams_open.get() == 0
        })
        .await;
    });
    std::mem::forget(kept);
}

#[test]
fn garbage_beside_a_good_connection_changes_nothing() {
    let node = Node::start("127.0.0.1:0", Limits::default(), echo);
    let to = node.address;
    let noise = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let mut random = 1_u64;
        let mut datagram = [0; 1300];
        for number in 0..100_000_u32 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = random as usize % 1290;
            datagram[at..at + 8].copy_from_slice(&random.to_ne_bytes());
            // Long headers of version 1, short headers, anything.
            datagram[0] = [0xC3, 0x43, random as u8][number as usize % 3];
            datagram[1..5].copy_from_slice(&[0, 0, 0, 1]);
            let len = [1300, 1200, at][(random >> 32) as usize % 3];
            // A full buffer drops it, which is as good.
            let _ = socket.send_to(&datagram[..len], to);
        }
    });
    block_on(async {
        let (_endpoint, connection) = node.connect().await;
        while !noise.is_finished() {
            let sent = vec![3; 10_000];
            assert!(exchange(&connection, sent.clone()).await == sent);
        }
        assert_eq!(exchange(&connection, b"after".to_vec()).await, b"after");
    });
    noise.join().expect("no panic");
    assert_eq!(node.counters.connections.get(), 1);
}

#[test]
fn trans_03_without_a_certificate_that_counts_nobody_comes_in() {
    let (node, others) = (Node::start("127.0.0.1:0", Limits::default(), echo), Papers::new());
    block_on(async {
        let forged = node.papers.client_of(&others, "client");
        let stranger = node.papers.client("stranger");
        let nobody = nobody(&stranger);
        for tls in [forged, stranger, nobody] {
            let endpoint = node.client(tls);
            // A client believes in its connection before the node has looked at its certificate.
            if let Ok(connection) = endpoint.connect(node.address, NODE).expect("a name").await {
                connection.closed().await;
            }
        }
        wait_for("three refusals", || {
            let counters = &node.counters;
            counters.refused(Refusal::Handshake) + counters.refused(Refusal::Identity) == 3
        })
        .await;
    });
    assert_eq!(node.counters.refused(Refusal::Identity), 1);
    assert_eq!((node.counters.connections.get(), node.counters.streams.get()), (0, 0));
}

#[test]
fn a_stream_without_a_shard_is_refused() {
    let node = Node::start_with("127.0.0.1:0", Limits::default(), |_| false);
    block_on(async {
        let (_endpoint, connection) = node.connect().await;
        let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
        let _ = send.write_all(b"x").await;
        assert!(recv.read_to_end(10).await.is_err());
        assert_eq!(node.counters.refused(Refusal::Shards), 1);
    });
}
