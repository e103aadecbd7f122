//! The one loop. It runs over io_uring in production and over virtual time in the simulator.

use crate::{
    driver::{ConnId, Driver, Event, SEGMENTS_MAX, Segment},
    limits::{BYTES_PER_TURN, EVENTS_PER_TURN},
    memory::{ChunkId, Memory},
    shard::{Cx, Order, Shard},
};

/// One pass: events in, time, orders out, then the driver's turn to wait or not. Returns how many
/// events there were.
pub fn turn<M: Memory, D: Driver>(shard: &mut Shard, mem: &mut M, driver: &mut D) -> usize {
    let mut cx = Cx { now: driver.now(), epoch_ns: driver.epoch_ns(), mem };
    let (mut events, mut taken) = (0, 0);
    while events < EVENTS_PER_TURN && taken < BYTES_PER_TURN {
        match driver.next_event() {
            None => break,
            Some(Event::Bytes { conn, bytes }) => {
                let used = shard.handle_bytes(&mut cx, conn, bytes);
                driver.consumed(used);
                taken += used;
            }
            Some(event) => shard.handle(&mut cx, event),
        }
        events += 1;
    }
    if events > 0 && shard.scheduled() > 0 {
        // Handling events takes time, and scheduled sends are to leave at theirs.
        (cx.now, cx.epoch_ns) = (driver.now(), driver.epoch_ns());
    }
    shard.advance(&mut cx);
    while let Some((worker, batch)) = shard.poll_lend(&mut cx) {
        driver.lend(worker, batch);
    }
    while let Some((conn, order)) = shard.poll_order() {
        carry_out(driver, conn, order);
    }
    let mut segments = [Segment::Chunk { chunk: ChunkId(0), from: 0, len: 0 }; SEGMENTS_MAX];
    while let Some((conn, count)) = shard.poll_transmit(&mut segments) {
        driver.transmit(conn, &segments[..count]);
    }
    while let Some(probed) = shard.poll_probed() {
        driver.probed(probed);
    }
    if shard.take_fed() {
        driver.wake_mesh();
    }
    driver.flush(events == 0, shard.next_wakeup());
    events
}

fn carry_out<D: Driver>(driver: &mut D, conn: ConnId, order: Order) {
    match order {
        Order::StartStream => driver.start_stream(conn),
        Order::StopStream => driver.stop_stream(conn),
        Order::FillHeader { len } => driver.fill_header(conn, len),
        Order::FillSlot { slot, from, len } => driver.fill_slot(conn, slot, from, len),
        Order::Finish => driver.finish(conn),
        Order::Close => driver.close(conn),
    }
}
