//! Connections of every kind, many at once, and what they send.

use crate::rig::{
    Client, GEOMETRY, Link, Rig, Seen, config, connect, over_both, pattern, read_exactly,
};
use dataplane_core::{
    driver::{ConnId, Driver, Segment},
    memory::{ChunkId, Memory, SlotId},
};
use dataplane_uring::{Command, Config};
use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
};

fn echo(rig: &mut Rig, client: &mut impl Client) {
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    for round in 0..3 {
        let message = pattern(1_000, round);
        client.write_all(&message).unwrap();
        assert_eq!(rig.bytes(conn, message.len()), message);
        rig.send(conn, &message);
        rig.sent(conn, message.len());
        assert_eq!(read_exactly(client, message.len()), message);
    }
    client.end();
    assert_eq!(rig.next(), Seen::Eof(conn));
    rig.close(conn);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn echo_over_tcp_v4() {
    let (mut rig, address) = Rig::tcp(&config());
    echo(&mut rig, &mut connect(address));
}

#[test]
fn echo_over_tcp_v6() {
    let (mut rig, address) = Rig::listening(&config(), "[::1]:0");
    echo(&mut rig, &mut connect(address));
}

#[test]
fn echo_over_unix() {
    let (mut rig, path) = Rig::unix(&config());
    echo(&mut rig, &mut UnixStream::connect(&path).unwrap());
    std::fs::remove_file(path).unwrap();
}

#[test]
fn several_listeners_feed_one_driver() {
    let (mut rig, path) = Rig::unix(&config());
    let fd = dataplane_uring::listen_tcp("127.0.0.1:0".parse().unwrap(), 16).unwrap();
    let address = rustix::net::getsockname(&fd).unwrap().try_into().unwrap();
    rig.commander.send(Command::Listen(fd)).unwrap();
    echo(&mut rig, &mut UnixStream::connect(&path).unwrap());
    echo(&mut rig, &mut connect(address));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_full_table_turns_away_and_recovers() {
    let four = Config { accepted: 4, ..config() };
    let (mut rig, address) = Rig::tcp(&four);
    let clients: Vec<_> = (0..4).map(|_| connect(address)).collect();
    let conns: Vec<_> = clients.iter().map(|_| rig.accepted()).collect();
    // Too many: the peer sees the end at once instead of waiting.
    for _ in 0..3 {
        let mut client = connect(address);
        let refused = rig.driver.counters().refused;
        while rig.driver.counters().refused == refused {
            assert_eq!(rig.poll(), None);
            rig.driver.flush(true, None);
        }
        let end = client.read(&mut [0]);
        assert!(
            matches!(&end, Ok(0)) || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
        );
    }
    rig.close(conns[2]);
    let mut client = connect(address);
    let conn = rig.accepted();
    assert_eq!(conn, conns[2]);
    rig.driver.start_stream(conn);
    client.write_all(b"in").unwrap();
    assert_eq!(rig.bytes(conn, 2), b"in");
    assert_eq!(rig.driver.counters().refused, 3);
}

#[test]
fn a_thousand_connections() {
    over_both(many_connections);
}

fn many_connections(link: Link) {
    // Handshakes have a limit of time, which a slow machine under a sanitizer must keep as well.
    let count = if link == Link::Tls { 100 } else { 1_000 };
    let many = Config { accepted: count, submissions: 256, ..config() };
    let (mut rig, address) = Rig::over(link, &many);
    let mut clients: Vec<_> = (0..count).map(|_| connect(address)).collect();
    for (id, client) in clients.iter_mut().enumerate() {
        client.write_all(&pattern(96, id as u8)).unwrap();
    }
    let mut inbox: HashMap<ConnId, Vec<u8>> = HashMap::new();
    let (mut sent, mut ended) = (0, 0);
    while sent < count {
        match rig.next() {
            Seen::Accepted(conn) => rig.driver.start_stream(conn),
            Seen::Bytes(conn, bytes) => {
                let all = inbox.entry(conn).or_default();
                all.extend(bytes);
                if all.len() == 96 {
                    // Chunks are fewer than connections: answer from a reply area, which holds the
                    // same for all.
                    let segment = Segment::Reply { slot: SlotId(0), from: 0, len: 96 };
                    rig.driver.transmit(conn, &[segment]);
                }
            }
            Seen::Sent(_, 96) => sent += 1,
            other => panic!("{other:?}"),
        }
    }
    for client in &mut clients {
        assert_eq!(read_exactly(client, 96), [0; 96]);
    }
    drop(clients);
    while ended < count {
        match rig.next() {
            Seen::Eof(conn) => rig.driver.close(conn),
            Seen::Closed(_) => ended += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.driver.counters().accepts, u64::from(count));
    assert_eq!(rig.driver.counters().closed, u64::from(count));
    assert_eq!(rig.driver.free_buffers(), 64);
}

#[test]
fn starving_streams_are_fed_when_buffers_return() {
    over_both(starving);
}

fn starving(link: Link) {
    let tiny = Config { buffers: 2, buffer_len: 64, ..config() };
    let (mut rig, address) = Rig::over(link, &tiny);
    let mut clients: Vec<_> = (0..16).map(|_| connect(address)).collect();
    for (id, client) in clients.iter_mut().enumerate() {
        client.write_all(&pattern(1_000, id as u8)).unwrap();
    }
    let mut inbox: HashMap<ConnId, Vec<u8>> = HashMap::new();
    let mut whole = 0;
    while whole < 16 {
        match rig.next() {
            Seen::Accepted(conn) => rig.driver.start_stream(conn),
            Seen::Bytes(conn, bytes) => {
                let all = inbox.entry(conn).or_default();
                all.extend(bytes);
                whole += usize::from(all.len() == 1_000);
            }
            other => panic!("{other:?}"),
        }
    }
    let mut got: Vec<_> = inbox.into_values().collect();
    let mut expected: Vec<_> = (0..16).map(|id| pattern(1_000, id)).collect();
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
    assert!(rig.driver.counters().no_buffers > 0, "the pool was too roomy for this test");
    assert_eq!(rig.driver.free_buffers(), 2);
}

#[test]
fn many_segments_leave_in_order() {
    over_both(many_segments);
}

fn many_segments(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
    let mut client = connect(address);
    let conn = rig.accepted();
    let mut expected = Vec::new();
    let mut segments = Vec::new();
    for id in 0..16 {
        let (chunk, slot) = (ChunkId(id), SlotId(id % 4));
        let words = pattern(GEOMETRY.chunk_len as usize, id as u8);
        rig.memory.chunk_mut(chunk).copy_from_slice(&words);
        rig.memory.reply_mut(slot)[..100].copy_from_slice(&pattern(100, slot.0 as u8 | 0x80));
        segments.push(Segment::Chunk { chunk, from: id, len: GEOMETRY.chunk_len - id });
        segments.push(Segment::Reply { slot, from: 7, len: 90 });
        expected.extend_from_slice(&words[id as usize..]);
        expected.extend_from_slice(&pattern(100, slot.0 as u8 | 0x80)[7..97]);
    }
    let len = expected.len();
    let reader = std::thread::spawn(move || read_exactly(&mut client, len));
    if link == Link::Plain {
        rig.driver.transmit(conn, &segments);
        rig.sent(conn, len);
    } else {
        rig.transmit_all(conn, &segments);
    }
    assert!(reader.join().unwrap() == expected);
    assert_eq!(rig.driver.counters().short_sends, 0, "the kernel continues short sends itself");
}

#[test]
fn adopted_sockets_are_connections_like_others() {
    let two = Config { adopted: 2, ..config() };
    let mut rig = Rig::new(&two);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..3 {
        let conns = [0; 2].map(|_| {
            let conn = rig.driver.adopt(connect(address).into()).unwrap();
            (conn, listener.accept().unwrap().0)
        });
        let full = rig.driver.adopt(connect(address).into()).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::QuotaExceeded);
        drop(listener.accept().unwrap());
        for (conn, mut peer) in conns {
            assert!(conn.0 >= 64, "outside of the part that accepted connections get");
            rig.driver.start_stream(conn);
            peer.write_all(b"hello").unwrap();
            assert_eq!(rig.bytes(conn, 5), b"hello");
            rig.send(conn, b"hi");
            rig.sent(conn, 2);
            assert_eq!(read_exactly(&mut peer, 2), b"hi");
            rig.close(conn);
        }
    }
    assert_eq!(rig.driver.counters().adopted, 6);
}
