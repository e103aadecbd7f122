//! Ends of connections, of listening and of patience: half closes, resets, closes, draining.

use crate::rig::{
    Client, GEOMETRY, Link, Rig, Seen, config, connect, over_both, pattern, read_exactly,
    reset_on_drop,
};
use dataplane_core::{
    driver::{ConnId, Driver, Segment},
    memory::SlotId,
};
use dataplane_uring::{Command, Config, listen_tcp};
use std::{
    io::{Read, Write},
    net::SocketAddr,
};

#[test]
fn half_close_works_in_both_directions() {
    over_both(half_close);
}

fn half_close(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
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
    over_both(send_after_the_peers_end);
}

fn send_after_the_peers_end(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
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
    over_both(reset);
}

fn reset(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
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
    over_both(reset_in_a_fill);
}

fn reset_in_a_fill(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.fill_slot(conn, SlotId(0), 0, 100);
    client.write_all(b"some").unwrap();
    rig.driver.flush(false, None);
    reset_on_drop(&client);
    drop(client);
    // The kernel reports the bytes that came before the error, and the error itself is lost with
    // that.
    let seen = rig.next();
    assert!(seen == Seen::Failed(conn) || seen == Seen::Eof(conn), "{seen:?}");
    rig.close(conn);
}

#[test]
fn closing_ends_what_is_under_way() {
    over_both(close_under_way);
}

fn close_under_way(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
    // A stream, and a send that the peer does not take.
    let mut stalled = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    let segment = Segment::Reply { slot: SlotId(4), from: 0, len: GEOMETRY.bulk_reply };
    let segments = [segment; 16];
    rig.driver.transmit(conn, &segments);
    let mut quiet = 0;
    while quiet < 20 {
        rig.driver.flush(false, None);
        match rig.poll() {
            // Under TLS a transmit takes what an output buffer holds.
            Some(Seen::Sent(..)) if link == Link::Tls => rig.driver.transmit(conn, &segments),
            None => quiet += 1,
            other => panic!("{other:?}"),
        }
    }
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
    over_both(reuse);
}

fn reuse(link: Link) {
    let one = Config { accepted: 1, ..config() };
    let (mut rig, address) = Rig::over(link, &one);
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

/// Two processes accept from one socket while one hands over to the other. The kernel wakes one of
/// the two for a connection; where it wakes the one whose accept is just being cancelled, nobody
/// would ever take that connection.
#[test]
fn connections_that_come_while_a_listener_leaves_are_accepted_by_one_of_both() {
    let fd = listen_tcp("127.0.0.1:0".parse().unwrap(), 1_024).unwrap();
    let address: SocketAddr = rustix::net::getsockname(&fd).unwrap().try_into().unwrap();
    let [mut leaver, mut heir] = [Rig::new(&config()), Rig::new(&config())];
    leaver.driver.listen(fd.try_clone().unwrap()).unwrap();
    leaver.driver.flush(false, None);
    heir.driver.listen(fd).unwrap();
    heir.driver.flush(false, None);
    leaver.commander.send(Command::Drain).unwrap();
    assert_eq!(leaver.next(), Seen::Drain);
    // The cancellation is ordered now, and not yet with the kernel.
    let _clients: Vec<_> = (0..3).map(|_| connect(address)).collect();
    let limit = heir.driver.now() + 20_000_000_000;
    let mut accepted = 0;
    while accepted < 3 {
        for rig in [&mut leaver, &mut heir] {
            while let Some(seen) = rig.poll() {
                assert!(matches!(seen, Seen::Accepted(_)), "{seen:?}");
                accepted += 1;
            }
            let now = rig.driver.now();
            assert!(now < limit, "{accepted} of 3 were accepted: {:?}", rig.driver.counters());
            rig.driver.flush(true, Some(now + 1_000_000));
        }
    }
}

#[test]
fn a_full_command_queue_gives_the_command_back() {
    let rig = Rig::new(&config());
    for _ in 0..16 {
        rig.commander.send(Command::Drain).unwrap();
    }
    assert!(matches!(rig.commander.send(Command::Drain), Err(Command::Drain)));
}
