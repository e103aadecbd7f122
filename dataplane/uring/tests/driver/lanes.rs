//! Reading in both lanes, and the way between them.

use crate::rig::{Client, GEOMETRY, Link, Rig, Seen, config, connect, over_both, pattern};
use dataplane_core::{driver::Driver, memory::SlotId};
use std::io::Write;

#[test]
fn what_is_not_used_is_kept_and_offered_again_first() {
    over_both(kept);
}

fn kept(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
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
    over_both(silent);
}

fn silent(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
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
    over_both(end_after_kept);
}

fn end_after_kept(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
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
    over_both(bulk_lane);
}

fn bulk_lane(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
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
    if link == Link::Plain {
        assert_eq!(after.filled_bytes - before.filled_bytes, 32 + (1 << 20));
        let came = after.received_bytes - before.received_bytes;
        assert_eq!(came, 0, "nothing went through a receive buffer");
    } else {
        let poured = after.tls_poured_bytes - before.tls_poured_bytes;
        assert_eq!(poured, 32 + (1 << 20), "one copy of each byte, counted");
    }

    // And back to the small lane.
    let mut client = writer.join().unwrap();
    rig.driver.start_stream(conn);
    client.write_all(b"small again").unwrap();
    assert_eq!(rig.bytes(conn, 11), b"small again");
}

#[test]
fn bytes_that_came_before_the_lane_change_are_delivered_before_it() {
    over_both(before_the_change);
}

fn before_the_change(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
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
fn a_stop_without_room_keeps_the_rest_for_the_next_start() {
    over_both(stop_without_room);
}

fn stop_without_room(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
    let mut client = connect(address);
    let conn = rig.accepted();
    rig.driver.start_stream(conn);
    client.write_all(b"abcdef").unwrap();
    rig.use_at_most = 1;
    rig.bytes(conn, 1);
    rig.driver.stop_stream(conn);
    assert_eq!(rig.next(), Seen::Bytes(conn, b"b".to_vec()));
    assert_eq!(rig.next(), Seen::Stopped(conn));
    client.end();
    rig.use_at_most = usize::MAX;
    rig.driver.start_stream(conn);
    assert_eq!(rig.next(), Seen::Bytes(conn, b"cdef".to_vec()));
    assert_eq!(rig.next(), Seen::Eof(conn));
}

#[test]
fn an_end_in_the_middle_of_a_fill_is_an_end() {
    over_both(end_in_a_fill);
}

fn end_in_a_fill(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
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
    over_both(fill_of_nothing);
}

fn fill_of_nothing(link: Link) {
    let (mut rig, address) = Rig::over(link, &config());
    let _client = connect(address);
    let conn = rig.accepted();
    rig.driver.fill_slot(conn, SlotId(0), 0, 0);
    assert_eq!(rig.next(), Seen::Filled(conn));
}
