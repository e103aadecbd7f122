//! After its start a driver takes no memory: not for streams, fills, sends, closing or accepting.

use crate::rig::{GEOMETRY, Link, Rig, config, connect, pattern};
use dataplane_core::{
    driver::{ConnId, Driver, Event, Segment},
    memory::{ChunkId, Memory, SlotId},
};
use dataplane_uring::{Config, TlsSizes};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::{Read, Write},
    net::TcpStream,
};
use tls::RECORD_MAX;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// Allocations of the calling thread so far.
pub(crate) fn taken() -> u64 {
    TAKEN.get()
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local
// that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.set(TAKEN.get() + 1);
        HELD.set(HELD.get() + layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as i64);
        // SAFETY: `place` came from `alloc` above, hence from the system's allocator, with this
        // layout.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Serves until so many answers have left or lanes have changed: echoes the small lane, answers a
/// filled slot with its first 100 bytes. Returns the connection of the last event.
fn serve(rig: &mut Rig, count: usize) -> ConnId {
    let mut left = count;
    let mut last = ConnId(0);
    while left > 0 {
        let Some(event) = rig.driver.next_event() else {
            let limit = rig.driver.now() + 20_000_000_000;
            rig.driver.flush(true, Some(limit));
            assert!(rig.driver.now() < limit, "no event: {:?}", rig.driver.counters());
            continue;
        };
        match event {
            Event::Accepted { conn, .. } => rig.driver.start_stream(conn),
            Event::Bytes { conn, bytes } => {
                let len = bytes.len();
                rig.memory.chunk_mut(ChunkId(conn.0 % GEOMETRY.chunks))[..len]
                    .copy_from_slice(bytes);
                rig.driver.consumed(len);
                answer(rig, conn, len as u32);
            }
            Event::Filled { conn } => answer(rig, conn, 100),
            Event::Sent { conn, .. } => {
                last = conn;
                left -= 1;
            }
            Event::StreamStopped { conn } => {
                rig.driver.fill_slot(conn, SlotId(4), 0, 50_000);
                left -= 1;
            }
            other => panic!("{other:?}"),
        }
    }
    last
}

fn answer(rig: &mut Rig, conn: ConnId, len: u32) {
    let chunk = ChunkId(conn.0 % GEOMETRY.chunks);
    // Two segments, so that messages of several parts are made as well.
    let parts = [
        Segment::Chunk { chunk, from: 0, len: len / 2 },
        Segment::Chunk { chunk, from: len / 2, len: len - len / 2 },
    ];
    rig.driver.transmit(conn, &parts);
}

/// Accept, small lane, bulk lane, back, close.
fn round(
    rig: &mut Rig,
    clients: &mut [Option<(ConnId, TcpStream)>],
    address: std::net::SocketAddr,
) {
    let small = [7; 960];
    let bulk = [8; 50_000];
    let mut reply = [0; 960];
    for place in clients.iter_mut() {
        let mut client = connect(address);
        client.write_all(&small).unwrap();
        let conn = serve(rig, 1);
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply, small);
        *place = Some((conn, client));
    }
    for (conn, client) in clients.iter_mut().flatten() {
        rig.driver.stop_stream(*conn);
        serve(rig, 1);
        client.write_all(&bulk).unwrap();
        serve(rig, 1);
        client.read_exact(&mut reply[..100]).unwrap();
    }
    for place in clients.iter_mut() {
        if let Some((conn, client)) = place.take() {
            drop(client);
            rig.driver.close(conn);
        }
    }
    let closed = rig.driver.counters().closed + clients.len() as u64;
    while rig.driver.counters().closed < closed {
        if rig.driver.next_event().is_none() {
            rig.driver.flush(false, None);
        }
    }
}

#[test]
fn the_steady_state_takes_no_memory() {
    let (mut rig, address) = Rig::tcp(&config());
    let mut clients = [const { None }; 8];
    for _ in 0..3 {
        round(&mut rig, &mut clients, address);
    }
    let before = TAKEN.get();
    for _ in 0..20 {
        round(&mut rig, &mut clients, address);
    }
    assert_eq!(TAKEN.get() - before, 0);
    // The count can be seen to count.
    let seen = TAKEN.get();
    drop(pattern(1_000, 1));
    assert!(TAKEN.get() > seen);
}

/// Small messages and rows, in and out, over connections that stay.
fn round_under_tls(rig: &mut Rig, clients: &mut [(ConnId, TcpStream)]) {
    let small = [7; 960];
    let bulk = [8; 50_000];
    let mut reply = [0; 960];
    for (conn, client) in clients.iter_mut() {
        client.write_all(&small).unwrap();
        rig.driver.start_stream(*conn);
        serve(rig, 1);
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply, small);
        rig.driver.stop_stream(*conn);
        serve(rig, 1);
        client.write_all(&bulk).unwrap();
        serve(rig, 1);
        client.read_exact(&mut reply[..100]).unwrap();
    }
}

/// A connection takes memory when it comes, not more than the printed sum says, and none for its
/// messages.
#[test]
fn the_steady_state_under_tls_takes_no_memory_and_a_connection_what_was_announced() {
    const CLIENTS: usize = 8;
    let sizes = TlsSizes { handshakes: 1, ..TlsSizes::default() };
    let config = Config {
        accepted: CLIENTS as u32,
        adopted: 0,
        buffer_len: 16 << 10,
        tls: Some(sizes),
        ..config()
    };
    let (mut rig, address) = Rig::over(Link::Tls, &config);
    let held = HELD.get();
    let mut clients: Vec<_> = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let client = connect(address);
        clients.push((rig.accepted(), client));
    }
    // The first record of a connection that straddles buffers takes room for itself. When that is
    // depends on how the relay and the kernel cut what they pass on.
    let (open, mut rounds) = (HELD.get(), 0);
    while HELD.get() - open < (CLIENTS * RECORD_MAX) as i64 {
        round_under_tls(&mut rig, &mut clients);
        rounds += 1;
        assert!(rounds < 1_000, "some connection's records never straddled");
    }
    let before = TAKEN.get();
    let each = (HELD.get() - held) as u64 / CLIENTS as u64;
    let announced = config.bytes().map(|(_, bytes)| bytes)[5] / CLIENTS as u64;
    assert!(each <= announced && each * 2 > announced, "{each} of {announced}");
    for _ in 0..20 {
        round_under_tls(&mut rig, &mut clients);
    }
    assert_eq!(TAKEN.get() - before, 0);
    assert_eq!(rig.driver.counters().tls_poured_bytes, (rounds + 20) * CLIENTS as u64 * 50_000);
    for (conn, _client) in clients {
        rig.close(conn);
    }
    assert!(HELD.get() - held < 4_096, "all of it goes with the connections");
}
