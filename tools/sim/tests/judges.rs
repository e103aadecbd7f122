//! The judges themselves: each must notice what it is there for.

use dataplane_core::{
    driver::{Caller, ConnId, Driver, Event, Segment, WorkerId},
    memory::{ChunkId, Memory, SlotId},
};
use sim::{
    Plan,
    client::{Allowed, Client},
    custody::{Custody, Holder},
    driver::SimDriver,
    memory::{POISON, SimMemory},
    plan::{roomy, tiny},
    request::Message,
    rng::Rng,
    trace::{Lines, Trace},
};
use std::{cell::RefCell, rc::Rc};
use wire::{Role, Roles};

const CONN: ConnId = ConnId(0);

/// A driver with one accepted connection, and what it shares with the memory.
fn driver() -> (SimDriver, Rc<Custody>) {
    let custody = Rc::new(Custody::new(tiny().slots()));
    let trace = Rc::new(RefCell::new(Trace::new(Lines::Hashed)));
    let mut driver = SimDriver::new(2, tiny(), custody.clone(), trace);
    driver.accept(CONN, Caller::LOCAL);
    assert!(matches!(driver.next_event(), Some(Event::Accepted { .. })));
    (driver, custody)
}

/// The breach that these orders are.
fn breach(orders: impl FnOnce(&mut SimDriver)) -> Option<String> {
    let (mut driver, custody) = driver();
    orders(&mut driver);
    custody.first_breach()
}

#[test]
fn orders_in_order_are_no_breach() {
    assert_eq!(breach(|d| d.start_stream(CONN)), None);
    assert_eq!(breach(|d| d.fill_slot(CONN, SlotId(0), 0, 64)), None);
    assert_eq!(breach(|d| d.transmit(CONN, &[chunk(0, 10)])), None);
}

const fn chunk(from: u32, len: u32) -> Segment {
    Segment::Chunk { chunk: ChunkId(0), from, len }
}

#[test]
fn reading_two_things_at_once_is_a_breach() {
    assert!(breach(|d| [d.start_stream(CONN), d.start_stream(CONN)].fill(())).is_some());
    assert!(breach(|d| [d.start_stream(CONN), d.fill_header(CONN, 32)].fill(())).is_some());
    assert!(breach(|d| [d.fill_header(CONN, 32), d.fill_header(CONN, 32)].fill(())).is_some());
    assert!(breach(|d| d.stop_stream(CONN)).is_some());
}

#[test]
fn orders_outside_an_area_or_a_life_are_a_breach() {
    assert!(breach(|d| d.fill_slot(CONN, SlotId(0), 1_000, 64)).is_some());
    assert!(breach(|d| d.fill_slot(CONN, SlotId(99), 0, 64)).is_some());
    assert!(breach(|d| d.fill_header(CONN, 33)).is_some());
    assert!(breach(|d| d.transmit(CONN, &[chunk(16_000, 1_000)])).is_some());
    assert!(breach(|d| d.transmit(CONN, &[chunk(0, 0)])).is_some());
    assert!(breach(|d| d.start_stream(ConnId(1))).is_some());
    assert!(breach(|d| [d.close(CONN), d.close(CONN)].fill(())).is_some());
}

#[test]
fn sending_two_things_at_once_or_after_the_end_is_a_breach() {
    let twice = |d: &mut SimDriver| {
        d.transmit(CONN, &[chunk(0, 10)]);
        d.transmit(CONN, &[chunk(10, 10)]);
    };
    assert!(breach(twice).is_some());
    let after = |d: &mut SimDriver| {
        d.finish(CONN);
        d.transmit(CONN, &[chunk(0, 10)]);
    };
    assert!(breach(after).is_some());
}

#[test]
fn touching_or_lending_what_is_lent_is_a_breach() {
    let lent = || {
        let (mut driver, custody) = driver();
        driver.lend(WorkerId(0), &[SlotId(1)]);
        assert_eq!(custody.first_breach(), None);
        (driver, custody)
    };
    let (mut driver, custody) = lent();
    driver.lend(WorkerId(0), &[SlotId(1)]);
    assert!(custody.first_breach().is_some());
    for touch in [
        |m: &mut SimMemory| _ = m.request_mut(SlotId(1)),
        |m: &mut SimMemory| _ = m.reply(SlotId(1)),
        |m: &mut SimMemory| m.copy_reply(SlotId(1), 0, ChunkId(0), 0, 4),
    ] {
        let (_, custody) = lent();
        let mut mem = SimMemory::new(tiny(), custody.clone());
        mem.request_mut(SlotId(0)).fill(1);
        assert_eq!(custody.first_breach(), None);
        touch(&mut mem);
        assert!(custody.first_breach().is_some());
    }
}

#[test]
fn a_copied_reply_is_gone() {
    let custody = Rc::new(Custody::new(roomy().slots()));
    let mut mem = SimMemory::new(roomy(), custody.clone());
    custody.put(SlotId(2), Holder::Shard);
    mem.copy_reply(SlotId(2), 0, ChunkId(0), 5, 8);
    assert_eq!(mem.reply(SlotId(2))[..8], [POISON; 8]);
    assert!(mem.request(SlotId(2)).as_ptr().addr().is_multiple_of(64));
}

#[test]
fn a_client_notices_wrong_answers() {
    let client = |sent: &[Message]| {
        let mut client = Client::of(vec![], &Plan::quiet(1), 0);
        client.connected(0);
        sent.iter().for_each(|message| client.sent(0, message));
        client
    };
    let read = |client: &mut Client, bytes: &[u8]| client.read(5, bytes, Allowed::default());
    let ping = Message::ping(1);
    let pong = ping.frame.clone();
    assert_eq!(read(&mut client(std::slice::from_ref(&ping)), &pong), Ok(()));
    assert!(read(&mut client(&[]), &pong).is_err(), "never asked");
    assert!(read(&mut client(std::slice::from_ref(&ping)), &pong.repeat(2)).is_err(), "twice");
    let echo = Message::echo(&mut Rng::new(1), 1, 10);
    assert!(read(&mut client(&[echo]), &pong).is_err(), "a pong for an echo");
    let mut waiting = client(&[ping]);
    waiting.fin_sent = true;
    assert!(waiting.ended(true).is_err(), "ended without an answer");
    assert!(client(&[]).ended(true).is_err(), "closed for no reason");
}

#[test]
fn a_client_notices_an_answer_to_what_it_may_not_ask() {
    let mut plan = Plan::quiet(1);
    plan.names = vec![("ann".to_owned(), Roles::of(Role::WorkerHost))];
    let mut client = Client::of(vec![], &plan, 0);
    client.connected(0);
    client.sent(0, &Message::metrics(1));
    let update = wire::payload::MetricsUpdate::default();
    let mut answer = Vec::new();
    wire::frame::append(&mut answer, &update, 1, 1).expect("it fits");
    let read = client.read(5, &answer, Allowed::default());
    assert!(read.is_err_and(|what| what.contains("Forbidden")));
}
