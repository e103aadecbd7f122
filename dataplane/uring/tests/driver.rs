//! The driver over the real kernel: loopback TCP of both families and Unix sockets. Nothing is faked, nothing sleeps.

mod rig;

use dataplane_core::{
    driver::{ConnId, Driver, Segment},
    memory::{ChunkId, Memory, SlotId},
};
use dataplane_uring::{Command, Config};
use rig::{Client, GEOMETRY, Rig, Seen, config, connect, pattern, read_exactly, reset_on_drop};
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
fn what_is_not_used_is_kept_and_offered_again_first() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut client = connect(address);
    let conn = rig.accepted();
    let message = pattern(50_000, 1);
    client.write_all(&message).unwrap();
    rig.use_at_most = 700;
    let mut got = Vec::new();
    while got.len() < message.len() {
        rig.driver.start_stream(conn);
        got.extend(rig.bytes(conn, 1));
    }
    assert_eq!(got, message);
    assert!(rig.driver.counters().kept > 0);
    rig.use_at_most = usize::MAX;
    client.write_all(b"more").unwrap();
    rig.driver.start_stream(conn);
    assert_eq!(rig.bytes(conn, 4), b"more");
    assert_eq!(rig.driver.free_buffers(), 64, "all buffers are back");
}

#[test]
fn a_stream_that_stopped_by_itself_stays_silent_until_it_is_started() {
    let (mut rig, address) = Rig::tcp(&config());
    let (mut client, mut other) = (connect(address), connect(address));
    let (conn, witness) = (rig.accepted(), rig.accepted());
    rig.driver.start_stream(conn);
    rig.driver.start_stream(witness);
    client.write_all(&pattern(9_000, 2)).unwrap();
    rig.use_at_most = 1;
    rig.bytes(conn, 1);
    rig.use_at_most = usize::MAX;
    client.write_all(&pattern(9_000, 2)).unwrap();
    other.write_all(b"witness").unwrap();
    // The other connection's bytes come, and none of the stopped one.
    assert_eq!(rig.bytes(witness, 7), b"witness");
    rig.driver.start_stream(conn);
    assert_eq!(rig.bytes(conn, 17_999)[..8_999], pattern(9_000, 2)[1..]);
}

#[test]
fn the_end_comes_after_kept_bytes_and_once() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    client.write_all(b"abcdef").unwrap();
    client.end();
    rig.use_at_most = 2;
    assert_eq!(rig.next(), Seen::Bytes(conn, b"ab".to_vec()));
    for rest in [b"cd", b"ef"] {
        rig.driver.start_stream(conn);
        assert_eq!(rig.next(), Seen::Bytes(conn, rest.to_vec()));
    }
    assert_eq!(rig.next(), Seen::Eof(conn));
    rig.driver.start_stream(conn);
    rig.close(conn);
    assert_eq!(rig.driver.free_buffers(), 64);
}

#[test]
fn the_bulk_lane_fills_headers_and_slots_in_place() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    client.write_all(b"small lane").unwrap();
    assert_eq!(rig.bytes(conn, 10), b"small lane");
    rig.driver.stop_stream(conn);
    assert_eq!(rig.next(), Seen::Stopped(conn));
    let before = *rig.driver.counters();

    let slot = SlotId(GEOMETRY.small_slots);
    let (header, payload) = (pattern(32, 3), pattern(1 << 20, 4));
    let writer = std::thread::spawn({
        let (header, payload) = (header.clone(), payload.clone());
        move || {
            // In pieces, so that the driver meets short receives.
            client.write_all(&header[..7]).unwrap();
            client.write_all(&header[7..]).unwrap();
            for part in payload.chunks(100_000) {
                client.write_all(part).unwrap();
            }
            client
        }
    });
    rig.driver.fill_header(conn, 32);
    assert_eq!(rig.next(), Seen::Bytes(conn, header));
    rig.driver.fill_slot(conn, slot, 0, 1_000);
    assert_eq!(rig.next(), Seen::Filled(conn));
    rig.driver.fill_slot(conn, slot, 1_000, (1 << 20) - 1_000);
    assert_eq!(rig.next(), Seen::Filled(conn));
    assert_eq!(rig.request(slot, 1 << 20), payload);
    let after = *rig.driver.counters();
    assert_eq!(after.filled_bytes - before.filled_bytes, 32 + (1 << 20));
    assert_eq!(
        after.received_bytes, before.received_bytes,
        "nothing went through a receive buffer"
    );

    // And back to the small lane.
    let mut client = writer.join().unwrap();
    rig.driver.start_stream(conn);
    client.write_all(b"small again").unwrap();
    assert_eq!(rig.bytes(conn, 11), b"small again");
}

#[test]
fn bytes_that_came_before_the_lane_change_are_delivered_before_it() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    let head = pattern(20_000, 5);
    client.write_all(&head).unwrap();
    rig.use_at_most = 100;
    let mut got = rig.bytes(conn, 1);
    rig.use_at_most = usize::MAX;
    rig.driver.stop_stream(conn);
    loop {
        match rig.next() {
            Seen::Bytes(_, bytes) => got.extend(bytes),
            Seen::Stopped(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let left = head.len() - got.len();
    if left > 0 {
        rig.driver.fill_slot(conn, SlotId(4), 0, left as u32);
        assert_eq!(rig.next(), Seen::Filled(conn));
        got.extend(rig.request(SlotId(4), left));
    }
    assert_eq!(got, head);
}

#[test]
fn a_stop_without_room_is_offered_again_until_there_is() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    client.write_all(b"abcd").unwrap();
    rig.use_at_most = 1;
    rig.bytes(conn, 1);
    rig.driver.stop_stream(conn);
    for byte in [b"b", b"c", b"d"] {
        assert_eq!(rig.next(), Seen::Bytes(conn, byte.to_vec()));
    }
    assert_eq!(rig.next(), Seen::Stopped(conn));
}

#[test]
fn an_end_in_the_middle_of_a_fill_is_an_end() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.fill_header(conn, 32);
    client.write_all(b"half a header").unwrap();
    client.end();
    assert_eq!(rig.next(), Seen::Eof(conn));
    rig.close(conn);
}

#[test]
fn a_fill_of_nothing_is_filled() {
    let (mut rig, address) = Rig::tcp(&config());
    let _client = connect(address);
    let conn = rig.accepted();
    rig.driver.fill_slot(conn, SlotId(0), 0, 0);
    assert_eq!(rig.next(), Seen::Filled(conn));
}

#[test]
fn half_close_works_in_both_directions() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    // Ours first: the peer reads the end and can still write.
    rig.send(conn, b"last words");
    rig.driver.finish(conn);
    rig.sent(conn, 10);
    rig.driver.flush(false, None);
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"last words");
    client.write_all(b"still here").unwrap();
    assert_eq!(rig.bytes(conn, 10), b"still here");
    client.end();
    assert_eq!(rig.next(), Seen::Eof(conn));
    rig.close(conn);
}

#[test]
fn after_the_peers_end_we_can_still_send() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    client.end();
    assert_eq!(rig.next(), Seen::Eof(conn));
    rig.send(conn, b"answer");
    rig.sent(conn, 6);
    assert_eq!(read_exactly(&mut client, 6), b"answer");
}

#[test]
fn a_reset_fails_the_connection_once() {
    let (mut rig, address) = Rig::tcp(&config());
    let client = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    rig.driver.flush(false, None);
    reset_on_drop(&client);
    drop(client);
    assert_eq!(rig.next(), Seen::Failed(conn));
    // Sending now fails as well, which is no second event.
    rig.send(conn, b"too late");
    rig.driver.flush(false, None);
    rig.close(conn);
}

#[test]
fn a_reset_in_the_middle_of_a_fill_is_an_end_or_a_failure() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.fill_slot(conn, SlotId(0), 0, 100);
    client.write_all(b"some").unwrap();
    rig.driver.flush(false, None);
    reset_on_drop(&client);
    drop(client);
    // The kernel reports the bytes that came before the error, and the error itself is lost with that.
    let seen = rig.next();
    assert!(seen == Seen::Failed(conn) || seen == Seen::Eof(conn), "{seen:?}");
    rig.close(conn);
}

#[test]
fn closing_ends_what_is_under_way() {
    let (mut rig, address) = Rig::tcp(&config());
    // A stream, and a send that the peer does not take.
    let mut stalled = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    let segment = Segment::Reply { slot: SlotId(4), from: 0, len: GEOMETRY.bulk_reply };
    let segments = [segment; 16];
    rig.driver.transmit(conn, &segments);
    rig.driver.flush(false, None);
    assert_eq!(rig.poll(), None);
    rig.close(conn);
    let mut taken = Vec::new();
    let end = stalled.read_to_end(&mut taken);
    assert!(taken.len() < 16 * GEOMETRY.bulk_reply as usize, "cut off: {end:?}");

    // A fill.
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.fill_slot(conn, SlotId(0), 0, 1_000);
    client.write_all(&[1; 10]).unwrap();
    rig.driver.flush(false, None);
    rig.close(conn);

    // A stream with bytes kept.
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    client.write_all(&pattern(30_000, 0)).unwrap();
    rig.use_at_most = 1;
    rig.bytes(conn, 1);
    rig.close(conn);
    assert_eq!(rig.driver.free_buffers(), 64);
    assert_eq!(rig.driver.counters().closed, 3);
}

#[test]
fn an_id_is_reused_clean_and_commands_to_the_dead_do_nothing() {
    let one = Config { accepted: 1, ..config() };
    let (mut rig, address) = Rig::tcp(&one);
    for round in 0..20_u8 {
        let mut client = connect(address);
        let conn = rig.accepted();
        assert_eq!(conn, ConnId(0));
        rig.driver.start_stream(conn);
        client.write_all(&[round; 9_000]).unwrap();
        rig.use_at_most = 10;
        assert_eq!(rig.bytes(conn, 1), [round; 10]);
        rig.driver.close(conn);
        // All of these come too late, and must neither disturb the close nor the next life.
        rig.driver.start_stream(conn);
        rig.driver.stop_stream(conn);
        rig.driver.fill_header(conn, 32);
        rig.driver.finish(conn);
        rig.send(conn, b"nobody");
        rig.driver.close(conn);
        assert_eq!(rig.next(), Seen::Closed(conn));
    }
    assert_eq!(rig.driver.free_buffers(), 64);
    assert_eq!(rig.driver.counters().closed, 20);
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
    let many = Config { accepted: 1_000, submissions: 256, ..config() };
    let (mut rig, address) = Rig::tcp(&many);
    let mut clients: Vec<_> = (0..1_000).map(|_| connect(address)).collect();
    for (id, client) in clients.iter_mut().enumerate() {
        client.write_all(&pattern(96, id as u8)).unwrap();
    }
    let mut inbox: HashMap<ConnId, Vec<u8>> = HashMap::new();
    let (mut sent, mut ended) = (0, 0);
    while sent < 1_000 {
        match rig.next() {
            Seen::Accepted(conn) => rig.driver.start_stream(conn),
            Seen::Bytes(conn, bytes) => {
                let all = inbox.entry(conn).or_default();
                all.extend(bytes);
                if all.len() == 96 {
                    // Chunks are fewer than connections: answer from a reply area, which holds the same for all.
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
    while ended < 1_000 {
        match rig.next() {
            Seen::Eof(conn) => rig.driver.close(conn),
            Seen::Closed(_) => ended += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.driver.counters().accepts, 1_000);
    assert_eq!(rig.driver.counters().closed, 1_000);
    assert_eq!(rig.driver.free_buffers(), 64);
}

#[test]
fn starving_streams_are_fed_when_buffers_return() {
    let tiny = Config { buffers: 2, buffer_len: 64, ..config() };
    let (mut rig, address) = Rig::tcp(&tiny);
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
    let (mut rig, address) = Rig::tcp(&config());
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
    rig.driver.transmit(conn, &segments);
    rig.sent(conn, len);
    assert_eq!(reader.join().unwrap(), expected);
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

#[test]
fn draining_stops_accepting_and_keeps_connections() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    rig.commander.send(Command::Drain).unwrap();
    assert_eq!(rig.next(), Seen::Drain);
    client.write_all(b"still served").unwrap();
    assert_eq!(rig.bytes(conn, 12), b"still served");
    // The listening socket goes when the kernel has ended the accept, a turn or two later.
    let limit = rig.driver.now() + 20_000_000_000;
    while let Ok(stray) = std::net::TcpStream::connect(address) {
        drop(stray);
        while rig.poll().is_some() {}
        let now = rig.driver.now();
        assert!(now < limit, "still listening");
        rig.driver.flush(true, Some(now));
    }
    client.write_all(b"and still").unwrap();
    while rig.next() != Seen::Bytes(conn, b"and still".to_vec()) {}
}

#[test]
fn a_full_command_queue_gives_the_command_back() {
    let rig = Rig::new(&config());
    for _ in 0..16 {
        rig.commander.send(Command::Drain).unwrap();
    }
    assert!(matches!(rig.commander.send(Command::Drain), Err(Command::Drain)));
}

#[test]
fn a_sleep_ends_when_something_is_due() {
    let mut rig = Rig::new(&config());
    while rig.poll().is_some() {}
    rig.driver.flush(true, None);
    let due = rig.driver.now() + 3_000_000;
    rig.driver.flush(true, Some(due));
    assert!(rig.driver.now() >= due, "the sleep ended early, with nothing to tell");
    assert_eq!(rig.poll(), None);
}

#[test]
fn one_entry_into_the_kernel_carries_a_whole_turn() {
    const CONNECTIONS: usize = 64;
    const DEPTH: usize = 16;
    const ROUNDS: usize = 20;
    let (mut rig, address) = Rig::tcp(&config());
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(address)).collect();
    for _ in 0..CONNECTIONS {
        let conn = rig.accepted();
        rig.driver.start_stream(conn);
    }
    let burst = pattern(96 * DEPTH, 9);
    let before = *rig.driver.counters();
    for _ in 0..ROUNDS {
        for client in &mut clients {
            client.write_all(&burst).unwrap();
        }
        let (mut came, mut left) = (0, 0);
        while left < CONNECTIONS * burst.len() {
            match rig.next() {
                Seen::Bytes(conn, bytes) => {
                    came += bytes.len();
                    rig.send(conn, &bytes);
                }
                Seen::Sent(_, bytes) => left += bytes as usize,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came, left);
        for client in &mut clients {
            assert_eq!(read_exactly(client, burst.len()), burst);
        }
    }
    let messages = (CONNECTIONS * DEPTH * ROUNDS) as f64;
    let calls = (rig.driver.counters().syscalls() - before.syscalls()) as f64;
    assert!(calls / messages <= 0.05, "{calls} system calls for {messages} messages");
}

#[test]
fn a_turn_with_nothing_to_do_makes_no_call() {
    let config = Config { policy: dataplane_uring::Policy::Latency, ..config() };
    let (mut rig, _address) = Rig::tcp(&config);
    while rig.poll().is_some() {}
    rig.driver.flush(true, None);
    while rig.poll().is_some() {}
    let before = rig.driver.counters().syscalls();
    for _ in 0..1_000 {
        assert_eq!(rig.poll(), None);
        rig.driver.flush(true, None);
    }
    assert_eq!(rig.driver.counters().syscalls(), before, "polling reads memory only");
}
