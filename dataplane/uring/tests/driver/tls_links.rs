//! What only links under TLS have: who is let in, how long a handshake may take, and what a record
//! that is not right does.

use crate::{
    relay::{self, ANN, party},
    rig::{Link, Rig, Seen, config, connect, pattern, read_exactly},
};
use dataplane_core::driver::{Caller, Driver, Event};
use dataplane_uring::{Config, DriverCounters, TlsSizes};
use rustls::{ClientConnection, StreamOwned};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};
use wire::{Role, Roles};

/// Turns until a counter says so; no event may come.
fn until(rig: &mut Rig, done: impl Fn(&DriverCounters) -> bool) {
    let limit = rig.driver.now() + 20_000_000_000;
    while !done(rig.driver.counters()) {
        assert_eq!(rig.poll(), None);
        let now = rig.driver.now();
        assert!(now < limit, "{:?}", rig.driver.counters());
        rig.driver.flush(true, Some(now + 10_000_000));
    }
}

/// A client on a thread of its own, which shakes hands and says hello.
fn greet(
    address: SocketAddr,
    files: &'static tls::Files,
) -> thread::JoinHandle<std::io::Result<StreamOwned<ClientConnection, TcpStream>>> {
    thread::spawn(move || {
        let config = tls::client_config(files).unwrap();
        let mut stream = StreamOwned::new(relay::client(&config), connect(address));
        stream.write_all(b"hello")?;
        let mut reply = [0; 2];
        stream.read_exact(&mut reply).map(|()| stream)
    })
}

#[test]
fn sec_03_the_shard_learns_who_a_peer_is_with_the_connection() {
    let (mut rig, address) = Rig::under_tls(&config());
    let client = greet(address, &party().ann);
    let (conn, who) = loop {
        match rig.driver.next_event() {
            Some(Event::Accepted { conn, who }) => break (conn, who),
            Some(other) => panic!("{other:?}"),
            None => rig.driver.flush(true, None),
        }
    };
    assert_eq!(who, Caller { identity: ANN, roles: Roles::of(Role::Client) });
    rig.driver.start_stream(conn);
    assert_eq!(rig.bytes(conn, 5), b"hello");
    rig.send(conn, b"hi");
    rig.sent(conn, 2);
    let client = client.join().unwrap().unwrap();
    assert_eq!(client.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(rig.driver.counters().handshakes, 1);
}

#[test]
fn sec_03_a_proven_peer_that_may_not_come_in_is_told_so() {
    let (mut rig, address) = Rig::under_tls(&config());
    let client = greet(address, &party().eve);
    until(&mut rig, |counters| counters.identities_refused == 1 && counters.closed == 1);
    client.join().unwrap().unwrap_err();
    assert_eq!(rig.driver.free_buffers(), 64);
}

#[test]
fn trans_03_plaintext_at_a_port_of_tls_gets_an_alert_and_no_connection() {
    let (mut rig, address) = Rig::under_tls(&config());
    let mut client = connect(address);
    client.write_all(&[0x42; 96]).unwrap();
    until(&mut rig, |counters| counters.handshakes_failed == 1 && counters.closed == 1);
    let mut told = Vec::new();
    // A reset may overtake the alert.
    if client.read_to_end(&mut told).is_ok() {
        assert_eq!(told.first(), Some(&21));
    }
}

#[test]
fn a_peer_that_leaves_in_a_handshake_is_no_event() {
    let (mut rig, address) = Rig::under_tls(&config());
    for _ in 0..3 {
        drop(connect(address));
    }
    until(&mut rig, |counters| counters.handshakes_failed == 3 && counters.closed == 3);
}

#[test]
fn a_handshake_may_not_take_for_ever() {
    let sizes = TlsSizes { handshake_ns: 50_000_000, ..TlsSizes::default() };
    let (mut rig, address) = Rig::under_tls(&Config { tls: Some(sizes), ..config() });
    let mut silent = connect(address);
    until(&mut rig, |counters| counters.handshakes_slow == 1 && counters.closed == 1);
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
}

#[test]
fn over_the_limit_handshakes_wait_in_line_and_the_silent_go_sooner() {
    let sizes = TlsSizes { handshakes: 2, handshake_ns: 400_000_000, ..TlsSizes::default() };
    let (mut rig, address) = Rig::under_tls(&Config { tls: Some(sizes), ..config() });
    let _silent: Vec<_> = (0..5)
        .map(|count| {
            let silent = connect(address);
            until(&mut rig, |counters| counters.accepts == count + 1);
            silent
        })
        .collect();
    assert!(rig.driver.counters().handshakes_in_line >= 3);
    let client = greet(address, &party().ann);
    let conn = rig.accepted();
    assert!(rig.driver.counters().handshakes_slow >= 4, "two rounds of silence before her");
    rig.driver.start_stream(conn);
    assert_eq!(rig.bytes(conn, 5), b"hello");
    rig.send(conn, b"hi");
    rig.sent(conn, 2);
    client.join().unwrap().unwrap();
}

#[test]
fn trans_03_an_end_that_the_peer_did_not_seal_is_a_failure() {
    let (mut rig, address) = Rig::under_tls(&config());
    let client = greet(address, &party().ann);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    assert_eq!(rig.bytes(conn, 5), b"hello");
    rig.send(conn, b"hi");
    rig.sent(conn, 2);
    let stream = client.join().unwrap().unwrap();
    stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rig.next(), Seen::Failed(conn));
    assert_eq!(rig.driver.counters().tls_cut_off, 1);
    rig.close(conn);
}

#[test]
fn trans_03_a_forged_record_ends_the_connection_with_an_alert() {
    let (mut rig, address) = Rig::under_tls(&config());
    let client = greet(address, &party().ann);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    assert_eq!(rig.bytes(conn, 5), b"hello");
    rig.send(conn, b"hi");
    rig.sent(conn, 2);
    let mut stream = client.join().unwrap().unwrap();
    stream.sock.write_all(&[&[23, 3, 3, 0, 40][..], &[9; 40]].concat()).unwrap();
    assert_eq!(rig.next(), Seen::Failed(conn));
    rig.driver.flush(false, None);
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    rig.close(conn);
    assert_eq!((rig.driver.counters().tls_faults, rig.driver.free_buffers()), (1, 64));
}

#[test]
fn few_output_buffers_are_shared_by_many() {
    let sizes = TlsSizes { outputs: 1, output_records: 1, ..TlsSizes::default() };
    let (mut rig, address) = Rig::over(Link::Tls, &Config { tls: Some(sizes), ..config() });
    let mut clients: Vec<_> = (0..8).map(|_| connect(address)).collect();
    let conns: Vec<_> = (0..8).map(|_| rig.accepted()).collect();
    for (seed, client) in clients.iter_mut().enumerate() {
        client.write_all(&pattern(10, seed as u8)).unwrap();
    }
    let len = 40_000;
    let mut left: Vec<_> = conns.iter().map(|conn| (*conn, 0)).collect();
    for conn in &conns {
        rig.send(*conn, &pattern(len, 3));
    }
    while !left.is_empty() {
        let Seen::Sent(conn, bytes) = rig.next() else { panic!("nothing else was ordered") };
        let place = left.iter().position(|(one, _)| *one == conn).unwrap();
        left[place].1 += bytes as usize;
        match left[place].1 {
            sent if sent == len => drop(left.remove(place)),
            sent => rig.send(conn, &pattern(len, 3)[sent..]),
        }
    }
    for client in &mut clients {
        assert!(read_exactly(client, len) == pattern(len, 3));
    }
    assert!(rig.driver.counters().tls_output_waits > 0, "nobody had to wait");
}

/// The peer may replace its keys at any time, and is answered.
#[test]
fn keys_are_replaced_while_bytes_flow() {
    let (mut rig, address) = Rig::under_tls(&config());
    let client = greet(address, &party().ann);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    assert_eq!(rig.bytes(conn, 5), b"hello");
    rig.send(conn, b"hi");
    rig.sent(conn, 2);
    let mut stream = client.join().unwrap().unwrap();
    for round in 0..20 {
        stream.conn.refresh_traffic_keys().unwrap();
        let data = pattern(3_000, round);
        stream.write_all(&data).unwrap();
        assert_eq!(rig.bytes(conn, data.len()), data);
        // The answer to the new key may be under way: then nothing was sent yet.
        let mut sent = 0;
        while sent == 0 {
            rig.send(conn, &data);
            let Seen::Sent(_, bytes) = rig.next() else { panic!("nothing else was ordered") };
            sent = bytes as usize;
        }
        assert_eq!(sent, data.len());
        assert_eq!(read_exactly(&mut stream, data.len()), data);
    }
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    // The seal's own end is enough, with the socket still open.
    assert_eq!(rig.next(), Seen::Eof(conn));
    rig.send(conn, b"bye");
    rig.sent(conn, 3);
    assert_eq!(read_exactly(&mut stream, 3), b"bye");
    rig.close(conn);
}
