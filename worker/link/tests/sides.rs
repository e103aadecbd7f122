//! Lending over a real segment: who owns a slot when, what a lie does, and what a dead worker
//! leaves behind.
#![cfg(not(loom))]

use link::{Files, Layout, Lent, LinkFault, Segment, ShardSide, WorkerSide, door::Door};
use rustix::fd::BorrowedFd;
use std::{panic, sync::Arc, thread};
use wire::{Dtype, ErrorCode, Operation, Order, Outcome, Work};

const LAYOUT: Layout = Layout {
    shards: 2,
    workers: 2,
    small_slots: 5,
    small_request: 100,
    small_reply: 200,
    bulk_slots: 2,
    bulk_request: 70_000,
    bulk_reply: 9_000,
};

struct Node {
    segment: Arc<Segment>,
    shards: Vec<ShardSide>,
    shard_doors: Vec<Arc<Door>>,
    worker_doors: Vec<Arc<Door>>,
}

impl Node {
    fn new() -> Self {
        let segment = Arc::new(Segment::create(&LAYOUT).expect("segment"));
        let doors = |count| (0..count).map(|_| Arc::new(Door::new().expect("door"))).collect();
        let (shard_doors, worker_doors): (Vec<_>, Vec<_>) = (doors(2), doors(2));
        let shards = (0..2)
            .map(|shard| {
                let door = Arc::clone(&shard_doors[usize::from(shard)]);
                ShardSide::new(&segment, shard, door, &worker_doors)
            })
            .collect();
        Self { segment, shards, shard_doors, worker_doors }
    }

    /// A worker as its own process would see it: over a second mapping.
    fn worker(&self, worker: u16) -> WorkerSide {
        let segment = Arc::new(attached(&self.segment));
        let clone = |door: &Arc<Door>| door.try_clone().expect("descriptor");
        let shards = self.shard_doors.iter().map(clone).collect();
        WorkerSide::new(&segment, worker, clone(&self.worker_doors[usize::from(worker)]), shards)
    }
}

/// A second mapping of the same memory.
fn attached(segment: &Segment) -> Segment {
    let Files { segment, requests } = segment.files();
    let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().expect("descriptor");
    Segment::attach(Files { segment: own(segment), requests: own(requests) }).expect("attach")
}

fn order(message_id: u64, payload_len: u32, lending: u32) -> Order {
    let work = Work {
        operation: Operation::Echo,
        dtype: Dtype::U8,
        values: Dtype::F32,
        coding: wire::Coding::Plain,
        source: wire::Source::Inline,
        quality: 0.0,
        streaming: false,
        k: 0,
        rows: 1,
        cols: payload_len.max(1),
        data_offset: 0,
        data_len: payload_len.max(1),
        check: None,
    };
    Order::new(&work, message_id, payload_len, 7, 0, lending)
}

fn take<'s>(worker: &'s WorkerSide, max: usize) -> Vec<Lent<'s>> {
    let mut batch = Vec::new();
    worker.next_batch(max, &mut batch).expect("honest node");
    batch
}

#[test]
fn slots_go_out_in_batches_and_come_back_with_replies() {
    let mut node = Node::new();
    let worker = node.worker(1);
    let shard = &mut node.shards[1];
    for slot in 0..7 {
        shard.request_mut(slot).fill(slot as u8 + 1);
        shard.set_order(slot, &order(u64::from(slot) << 40, 64, slot * 10));
    }
    shard.lend(1, [6, 0, 3].into_iter());
    shard.lend(1, [1].into_iter());
    assert_eq!(shard.completion(1), None);

    // Batches keep their ends; a limit splits one.
    let sizes: Vec<usize> = (0..4).map(|_| take(&worker, 2).len()).collect();
    assert_eq!(sizes, [2, 1, 1, 0]);
    assert_eq!(worker.held(), 4);
    drop(worker);

    // SAFETY: the worker side above is dropped, which is how a process ends here.
    assert_eq!(unsafe { shard.reset(1) }, 4);
    let worker = node.worker(1);
    let shard = &mut node.shards[1];
    shard.lend(1, [6, 0, 3].into_iter());
    for mut lent in take(&worker, 8) {
        let byte = lent.payload().expect("fits")[0];
        let id = lent.order().message_id;
        assert_eq!(id, u64::from(byte - 1) << 40);
        let (payload, reply) = lent.parts().expect("fits");
        assert_eq!(payload, [byte; 64]);
        assert!(payload.as_ptr().addr().is_multiple_of(64));
        assert!(reply.as_ptr().addr().is_multiple_of(64));
        reply.fill(byte * 2);
        let outcome = Outcome { reply_len: 32, frames: 1, ..Outcome::default() };
        lent.complete(outcome).expect("honest node");
    }
    for slot in [6_u32, 0, 3] {
        assert_eq!(shard.completion(1), Some(Ok(slot)));
        let outcome = shard.outcome(slot);
        assert_eq!((outcome.lending, outcome.reply_len, outcome.frames), (slot * 10, 32, 1));
        let cap = LAYOUT.reply_cap(slot) as usize;
        assert_eq!(shard.reply(slot), vec![(slot as u8 + 1) * 2; cap]);
    }
    assert_eq!(shard.completion(1), None);
}

#[test]
fn a_worker_asks_its_shards_in_turn() {
    let mut node = Node::new();
    let worker = node.worker(0);
    for slot in 0..3 {
        for (shard, side) in (0..).zip(&mut node.shards) {
            side.set_order(slot, &order(shard, 1, 0));
            side.lend(0, [slot].into_iter());
        }
    }
    let asked: Vec<u64> = (0..6).map(|_| take(&worker, 8)[0].order().message_id).collect();
    assert_eq!(asked, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn an_order_for_more_bytes_than_the_slot_has_is_refused() {
    let mut node = Node::new();
    let worker = node.worker(0);
    node.shards[0].set_order(2, &order(1, 101, 0));
    node.shards[0].lend(0, [2].into_iter());
    let lent = take(&worker, 1).remove(0);
    assert_eq!(lent.payload(), Err(ErrorCode::BadRequest));
}

#[test]
fn a_worker_that_gives_back_what_it_does_not_hold_is_cut_off() {
    // The lie: a second process takes worker 0's place and completes a slot that was lent to worker
    // 1.
    let mut node = Node::new();
    let liar = node.worker(0);
    let shard = &mut node.shards[0];
    shard.set_order(4, &order(1, 1, 0));
    shard.lend(0, [4].into_iter());
    let lent = take(&liar, 1).remove(0);
    // SAFETY: not true, and that is the test: the process lives and completes after it was declared
    // dead.
    assert_eq!(unsafe { shard.reset(0) }, 1);
    shard.lend(1, [4].into_iter());
    lent.complete(Outcome::default()).expect("the liar notices nothing");
    assert_eq!(shard.completion(0), Some(Err(LinkFault::Slot(4))));
    assert_eq!(shard.completion(0), None, "a fault is told once");
    assert_eq!(node.segment.pulse(0).faults, 1);
    // What is lent to it from now on goes nowhere, and comes back with the reset.
    let shard = &mut node.shards[0];
    shard.lend(0, [0, 1].into_iter());
    assert_eq!(shard.completion(0), None);
    // SAFETY: the liar does nothing more.
    assert_eq!(unsafe { shard.reset(0) }, 2);
    assert_eq!(node.segment.pulse(1).faults, 0);
}

#[test]
fn sec_a_worker_that_says_what_cannot_be_of_its_own_slot_is_cut_off() {
    let mut node = Node::new();
    let liar = node.worker(0);
    let shard = &mut node.shards[0];
    // More reply than there is room for.
    shard.set_order(4, &order(1, 1, 7));
    shard.lend(0, [4].into_iter());
    let long = Outcome { reply_len: LAYOUT.small_reply + 1, ..Outcome::default() };
    take(&liar, 1).remove(0).complete(long).expect("the liar notices nothing");
    assert_eq!(shard.completion(0), Some(Err(LinkFault::Outcome(4))));
    drop(liar);
    // SAFETY: the worker side is dropped.
    assert_eq!(unsafe { shard.reset(0) }, 1, "it stayed lent");
    // An answer to the lending before.
    let liar = node.worker(0);
    let shard = &mut node.shards[0];
    shard.set_order(4, &order(1, 1, 8));
    shard.lend(0, [4].into_iter());
    let before = take(&liar, 1).remove(0);
    // SAFETY: not true, and that is the test.
    assert_eq!(unsafe { shard.reset(0) }, 1);
    shard.set_order(4, &order(1, 1, 9));
    shard.lend(0, [4].into_iter());
    before.complete(Outcome::default()).expect("the liar notices nothing");
    assert_eq!(shard.completion(0), Some(Err(LinkFault::Outcome(4))));
    assert_eq!(node.segment.pulse(0).faults, 2);
}

#[test]
fn sec_what_a_worker_said_is_read_once() {
    let mut node = Node::new();
    let worker = node.worker(0);
    let shard = &mut node.shards[0];
    shard.set_order(0, &order(1, 1, 5));
    shard.lend(0, [0].into_iter());
    let outcome = Outcome { reply_len: 33, ..Outcome::default() };
    take(&worker, 1).remove(0).complete(outcome).expect("honest node");
    assert_eq!(shard.completion(0), Some(Ok(0)));
    // Second thoughts, over the whole of shared memory that a worker can write to and that is no
    // request: the control words, the tickets, the replies.
    let other = attached(&node.segment);
    let head = other.arenas().requests.cast::<u8>().addr().get() - other.range().0.addr();
    // Behind the head's page, which says what the segment is.
    // SAFETY: the head with the control words is longer than a page, so this stays in the mapping.
    let behind = unsafe { other.range().0.add(4_096) };
    // SAFETY: mapped to be written, up to where the requests begin; no reference into this mapping
    // exists.
    unsafe { behind.write_bytes(0xA5, head - 4_096) };
    assert_eq!(shard.outcome(0), Outcome { lending: 5, ..outcome });
    // Every word of the rings is now a lie: the node is told so and goes on.
    assert!(matches!(shard.completion(0), Some(Err(LinkFault::Position(_)))));
    assert!(!shard.lend(0, [1, 2].into_iter()));
    assert!(!node.shards[0].lend(1, [3].into_iter()) || node.worker_doors[1].silence());
}

#[test]
fn a_worker_believes_no_impossible_position() {
    let mut node = Node::new();
    let worker = node.worker(0);
    node.shards[0].lend(0, [0, 1].into_iter());
    assert_eq!(take(&worker, 8).len(), 2);
    // The lie: the node empties the rings under a worker that lives.
    // SAFETY: not true, and that is the test; the worker touches none of the slots.
    unsafe { node.shards[0].reset(0) };
    let fault = worker.next_batch(8, &mut Vec::new()).expect_err("a lie");
    assert!(matches!(fault, LinkFault::Position(_)), "{fault}");
}

#[test]
fn a_slot_that_is_still_held_is_not_taken_twice() {
    let mut node = Node::new();
    let worker = node.worker(0);
    node.shards[0].lend(0, [3].into_iter());
    let first = take(&worker, 8);
    assert_eq!(first.len(), 1);
    // The lie: slot 3 comes again as the entry behind, which takes a ring that was reset meanwhile.
    // SAFETY: not true, and that is the test; the worker touches no slot.
    unsafe { node.shards[0].reset(0) };
    node.shards[0].lend(0, [0, 3].into_iter());
    let mut batch = Vec::new();
    assert_eq!(worker.next_batch(8, &mut batch), Err(LinkFault::Slot(3)));
    assert!(batch.is_empty());
}

#[test]
fn a_successor_waits_until_the_lane_is_reset() {
    let mut node = Node::new();
    let first = node.worker(0);
    node.shards[0].lend(0, [0].into_iter());
    node.shards[1].lend(0, [0].into_iter());
    assert_eq!(take(&first, 8).len() + take(&first, 8).len(), 2);
    drop(first);
    let second = node.worker(0);
    assert_eq!(take(&second, 8).len(), 0, "both lanes are the predecessor's");
    assert!(second.park(), "and so nothing keeps it awake");
    second.unpark();
    // SAFETY: the first worker side is dropped.
    assert_eq!(unsafe { node.shards[1].reset(0) }, 1);
    node.shards[1].lend(0, [0, 1].into_iter());
    node.shards[0].lend(0, [1].into_iter());
    assert_eq!(take(&second, 8).len(), 2);
    assert_eq!(take(&second, 8).len(), 0, "shard 0 has not reset its lane");
}

#[test]
fn misuse_by_the_owner_panics() {
    let caught = |act: &mut dyn FnMut(&mut ShardSide)| {
        let mut node = Node::new();
        node.shards[0].lend(0, [1].into_iter());
        panic::catch_unwind(panic::AssertUnwindSafe(|| act(&mut node.shards[0]))).is_err()
    };
    assert!(!caught(&mut |shard| assert!(!shard.request(0).is_empty())));
    assert!(caught(&mut |shard| assert!(!shard.request(1).is_empty())), "a slice of a lent slot");
    assert!(caught(&mut |shard| shard.request_mut(1).fill(0)), "writing to a lent slot");
    assert!(caught(&mut |shard| assert!(!shard.reply(1).is_empty())), "the reply of a lent slot");
    assert!(
        caught(&mut |shard| assert!(!shard.request_ptr(1).is_null())),
        "the address of a lent slot"
    );
    assert!(caught(&mut |shard| assert!(!shard.lend(1, [1].into_iter()))), "lending twice");
    assert!(caught(&mut |shard| assert!(!shard.lend(1, [7].into_iter()))), "no such slot");
    assert!(caught(&mut |shard| shard.request_pair(0, 0).1.fill(0)), "a pair of one");
}

#[test]
fn a_side_is_given_out_once_and_only_by_the_node() {
    let node = Node::new();
    let again = |segment: &Arc<Segment>| {
        let (door, workers) = (Arc::clone(&node.shard_doors[0]), &node.worker_doors);
        let make = || ShardSide::new(segment, 0, door, workers);
        panic::catch_unwind(panic::AssertUnwindSafe(make)).is_err()
    };
    assert!(again(&node.segment));
    assert!(again(&Arc::new(attached(&node.segment))));
}

#[test]
fn the_bell_rings_for_sleepers_only() {
    let mut node = Node::new();
    let worker = node.worker(0);
    // The lanes are opened by the first look; until then they count as news.
    assert!(!worker.park());
    assert!(take(&worker, 1).is_empty() && take(&worker, 1).is_empty());
    assert!(!node.shards[0].lend(0, [0].into_iter()));
    assert!(!node.worker_doors[0].silence(), "awake: no ring");
    assert!(!worker.park(), "work waits: no sleep");
    let lent = take(&worker, 1).remove(0);
    assert!(worker.park());
    assert!(node.segment.pulse(0).parked);
    assert!(node.shards[0].lend(0, [1].into_iter()), "asleep: a ring");
    assert!(!node.shards[0].lend(0, [2].into_iter()), "but one is enough");
    assert!(node.worker_doors[0].silence());
    worker.unpark();
    assert!(!node.segment.pulse(0).parked);

    assert!(node.shards[0].park());
    lent.complete(Outcome::default()).expect("honest node");
    assert!(node.shard_doors[0].silence());
    assert!(!node.shards[0].park(), "a completion waits");
    node.shards[0].unpark();
}

#[test]
fn the_pulse_moves_with_the_worker() {
    let node = Node::new();
    let worker = node.worker(1);
    assert_eq!(node.segment.pulse(1).count, 0);
    worker.beat();
    worker.beat();
    assert_eq!((node.segment.pulse(0).count, node.segment.pulse(1).count), (0, 2));
}

/// Two shard threads and two worker threads move every slot round and round, sleeping when idle;
/// every byte is checked by the next owner. The test for sanitizers.
#[test]
fn four_threads_lend_and_complete_without_a_tear() {
    const ROUNDS: u32 = 400;
    let Node { segment, shards, shard_doors, worker_doors } = Node::new();
    let workers: Vec<_> = (0..2_u16)
        .map(|number| {
            let clone = |door: &Arc<Door>| door.try_clone().expect("descriptor");
            let doors = shard_doors.iter().map(clone).collect();
            let door = clone(&worker_doors[usize::from(number)]);
            let side = WorkerSide::new(&segment, number, door, doors);
            thread::spawn(move || serve_until_poison(&side))
        })
        .collect();
    let shards: Vec<_> =
        shards.into_iter().map(|side| thread::spawn(move || go_round(side, ROUNDS))).collect();
    shards.into_iter().for_each(|shard| shard.join().expect("shard"));
    let served: u32 = workers.into_iter().map(|worker| worker.join().expect("worker")).sum();
    assert_eq!(served, 2 * 7 * ROUNDS);
}

fn wait(door: &Door) {
    use rustix::event::{PollFd, PollFlags, poll};
    let fd = door.fd();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).expect("poll");
    door.silence();
}

/// Adds one to every byte, until both shards have sent the order with the last id.
fn serve_until_poison(side: &WorkerSide) -> u32 {
    let (mut served, mut ended) = (0, 0);
    let mut batch = Vec::new();
    while ended < 2 {
        if side.next_batch(3, &mut batch).expect("honest node") == 0 {
            if side.park() {
                wait(side.door());
            }
            side.unpark();
        }
        for mut lent in batch.drain(..) {
            if lent.order().message_id == u64::MAX {
                ended += 1;
            } else {
                let (payload, reply) = lent.parts().expect("fits");
                for (to, from) in reply.iter_mut().zip(payload) {
                    *to = from.wrapping_add(1);
                }
                served += 1;
            }
            lent.complete(Outcome::default()).expect("honest node");
        }
    }
    served
}

fn go_round(mut side: ShardSide, rounds: u32) {
    let mut left = [rounds; 7];
    let lend = |side: &mut ShardSide, slot: u32, round: u32| {
        side.request_mut(slot)[..100].fill(round as u8);
        side.set_order(slot, &order(u64::from(slot), 100, round));
        side.lend((slot % 2) as u16, [slot].into_iter());
    };
    (0..7).for_each(|slot| lend(&mut side, slot, rounds));
    while left.iter().any(|&left| left > 0) {
        let mut idle = true;
        for worker in 0..2 {
            while let Some(slot) = side.completion(worker) {
                let slot = slot.expect("honest worker");
                let round = &mut left[slot as usize];
                assert_eq!(side.outcome(slot).lending, *round);
                assert_eq!(side.reply(slot)[..100], [(*round as u8).wrapping_add(1); 100]);
                *round -= 1;
                if *round > 0 {
                    lend(&mut side, slot, *round);
                }
                idle = false;
            }
        }
        if idle {
            if side.park() {
                wait(side.door());
            }
            side.unpark();
        }
    }
    for worker in 0..2 {
        side.set_order(u32::from(worker), &order(u64::MAX, 1, 0));
        side.lend(worker, [u32::from(worker)].into_iter());
    }
}
