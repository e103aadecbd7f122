//! Lending to workers and losing them: the real rings and doorbells, the worker on a thread of the
//! test's own.

use crate::rig::{GEOMETRY, duplicate, pattern};
use dataplane_core::{
    driver::{Driver, Event, WorkerId},
    memory::{ChunkId, Memory, SlotId},
};
use dataplane_uring::{Command, Commander, Commands, Gone, PlainMemory, SharedMemory, UringDriver};
use link::{Layout, Segment, ShardSide, WorkerSide, door::Door};
use std::{
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::Arc,
    thread::{self, JoinHandle},
};
use wire::{Dtype, Operation, Order, Outcome, Work};

const LAYOUT: Layout = Layout {
    shards: 1,
    workers: 2,
    small_slots: GEOMETRY.small_slots,
    small_request: GEOMETRY.small_request,
    small_reply: GEOMETRY.small_reply,
    bulk_slots: GEOMETRY.bulk_slots,
    bulk_request: GEOMETRY.bulk_request,
    bulk_reply: GEOMETRY.bulk_reply,
};

struct Node {
    driver: UringDriver,
    memory: SharedMemory,
    commander: Commander,
    segment: Arc<Segment>,
    shard_door: Arc<Door>,
    worker_doors: Vec<Arc<Door>>,
}

impl Node {
    fn new() -> Self {
        let segment = Arc::new(Segment::create(&LAYOUT).unwrap());
        let shard_door = Arc::new(Door::new().unwrap());
        let worker_doors: Vec<_> = (0..2).map(|_| Arc::new(Door::new().unwrap())).collect();
        let side = ShardSide::new(&segment, 0, Arc::clone(&shard_door), &worker_doors);
        let memory = SharedMemory::new(side, GEOMETRY.chunks, GEOMETRY.chunk_len).unwrap();
        let (commander, commands) = Commands::new(8).unwrap();
        let driver =
            UringDriver::new(&crate::rig::config(), memory.places(), memory.workers(), commands)
                .unwrap();
        Self { driver, memory, commander, segment, shard_door, worker_doors }
    }

    /// The far side, over a mapping of its own.
    fn worker(&self, worker: u16) -> WorkerSide {
        let link::Files { segment, requests } = self.segment.files();
        let files = link::Files { segment: duplicate(segment), requests: duplicate(requests) };
        let segment = Arc::new(Segment::attach(files).unwrap());
        let door = Door::from_fd(duplicate(self.worker_doors[usize::from(worker)].fd()));
        WorkerSide::new(
            &segment,
            worker,
            door,
            vec![Door::from_fd(duplicate(self.shard_door.fd()))],
        )
    }

    fn up(&mut self, worker: u16) {
        let worker = WorkerId(worker);
        self.commander.send(Command::WorkerUp { worker, operations: 3 }).unwrap();
        self.wait_for(
            |event| matches!(event, Event::WorkerUp { worker: up, operations: 3 } if *up == worker),
        );
    }

    /// Waits in the kernel until an event comes, which must be this one.
    fn wait_for(&mut self, expected: impl Fn(&Event<'_>) -> bool) {
        let limit = self.driver.now() + 20_000_000_000;
        loop {
            match self.driver.next_event() {
                Some(event) => return assert!(expected(&event), "{event:?}"),
                None => self.driver.flush(true, Some(limit)),
            }
            assert!(self.driver.now() < limit, "no event: {:?}", self.driver.counters());
        }
    }

    fn completed(&mut self, by: u16, slot: u32) {
        self.wait_for(|event| {
            matches!(event, Event::Completed { worker, slot: done }
                if worker.0 == by && done.0 == slot)
        });
    }

    fn order(&mut self, slot: u32, id: u64) {
        let work = Work {
            operation: Operation::TopK,
            dtype: Dtype::F32,
            values: Dtype::F32,
            coding: wire::Coding::Plain,
            source: wire::Source::Inline,
            quality: 0.0,
            streaming: false,
            k: 1,
            rows: 1,
            cols: 16,
            data_offset: 0,
            data_len: 64,
            check: None,
        };
        self.memory.set_order(SlotId(slot), &Order::new(&work, id, 64, 0, 0, 1));
    }
}

/// A worker that answers `count` orders, each with its payload turned round, asleep in between.
fn answer(side: WorkerSide, count: usize) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut done = 0;
        while done < count {
            let mut batch = Vec::new();
            if side.next_batch(8, &mut batch).unwrap() == 0 {
                if side.park() {
                    let mut poll =
                        [rustix::event::PollFd::new(side.door(), rustix::event::PollFlags::IN)];
                    rustix::event::poll(&mut poll, None).unwrap();
                }
                side.unpark();
            }
            for mut lent in batch {
                let (payload, reply) = lent.parts().unwrap();
                let len = payload.len();
                reply[..len].copy_from_slice(payload);
                reply[..len].reverse();
                let outcome = Outcome { reply_len: len as u32, ..Outcome::default() };
                lent.complete(outcome).unwrap();
                done += 1;
            }
        }
    })
}

#[test]
fn a_sleeping_shard_learns_what_a_worker_finished() {
    let mut node = Node::new();
    node.up(0);
    let worker = answer(node.worker(0), 40);
    for round in 0..10_u8 {
        for slot in 0..4 {
            let payload = pattern(64, round ^ (slot as u8) << 4);
            node.memory.request_mut(SlotId(slot))[..64].copy_from_slice(&payload);
            node.order(slot, 7);
        }
        node.driver.lend(WorkerId(0), &[SlotId(0), SlotId(1)]);
        node.driver.lend(WorkerId(0), &[SlotId(2), SlotId(3)]);
        for slot in 0..4 {
            node.completed(0, slot);
            assert_eq!(node.memory.outcome(SlotId(slot)).reply_len, 64);
            let mut expected = pattern(64, round ^ (slot as u8) << 4);
            expected.reverse();
            assert_eq!(node.memory.reply(SlotId(slot))[..64], expected);
        }
    }
    worker.join().unwrap();
}

#[test]
fn a_dead_workers_finished_slots_come_before_its_end_and_the_rest_is_taken_back() {
    let mut node = Node::new();
    node.up(0);
    for slot in 0..3 {
        node.order(slot, u64::from(slot));
    }
    node.driver.lend(WorkerId(0), &[SlotId(0), SlotId(1), SlotId(2)]);
    let side = node.worker(0);
    let mut batch = Vec::new();
    assert_eq!(side.next_batch(8, &mut batch).unwrap(), 3);
    batch.remove(0).complete(Outcome::default()).unwrap();
    batch.remove(0).complete(Outcome::default()).unwrap();
    drop(batch);
    drop(side);

    let (done, successor_may_start) = crossbeam_channel::bounded(1);
    let gone = Gone::new(WorkerId(0), ExitStatus::from_raw(9), done);
    node.commander.send(Command::WorkerDown(gone)).unwrap();
    node.completed(0, 0);
    node.completed(0, 1);
    node.wait_for(|event| matches!(event, Event::WorkerDown { worker: WorkerId(0) }));
    assert!(successor_may_start.try_recv().is_err(), "not before the shard has dealt with it");
    assert!(node.driver.next_event().is_none());
    assert_eq!(successor_may_start.try_recv(), Ok(WorkerId(0)));

    // Slot 2 is the shard's again, and a successor serves it.
    node.memory.request_mut(SlotId(2))[..64].fill(9);
    node.order(2, 5);
    node.up(0);
    let worker = answer(node.worker(0), 1);
    node.driver.lend(WorkerId(0), &[SlotId(2)]);
    node.completed(0, 2);
    assert_eq!(node.memory.reply(SlotId(2))[..64], [9; 64]);
    worker.join().unwrap();
}

#[test]
fn a_lost_worker_does_not_disturb_another() {
    let mut node = Node::new();
    node.up(0);
    node.up(1);
    let healthy = answer(node.worker(1), 1);
    node.order(0, 1);
    node.order(1, 2);
    node.driver.lend(WorkerId(0), &[SlotId(0)]);
    let (done, _successor) = crossbeam_channel::bounded(1);
    let gone = Gone::new(WorkerId(0), ExitStatus::from_raw(9), done);
    node.commander.send(Command::WorkerDown(gone)).unwrap();
    node.wait_for(|event| matches!(event, Event::WorkerDown { worker: WorkerId(0) }));
    node.driver.lend(WorkerId(1), &[SlotId(1)]);
    node.completed(1, 1);
    node.driver.lend(WorkerId(1), &[SlotId(0)]);
    healthy.join().unwrap();
}

#[test]
#[should_panic(expected = "lent")]
fn a_lent_slot_is_out_of_reach() {
    let mut node = Node::new();
    node.order(0, 1);
    node.driver.lend(WorkerId(0), &[SlotId(0)]);
    let _ = node.memory.request(SlotId(0));
}

/// What every memory must do, whatever it is made of.
fn conforms(memory: &mut impl Memory) {
    let geometry = memory.geometry();
    assert_eq!(geometry, GEOMETRY);
    for slot in (0..geometry.slots()).map(SlotId) {
        let len = geometry.request_cap(slot) as usize;
        let area = memory.request_mut(slot);
        assert_eq!((area.len(), area.as_ptr() as usize % 64), (len, 0));
        area.copy_from_slice(&pattern(len, slot.0 as u8));
        assert_eq!(memory.reply(slot).len(), geometry.reply_cap(slot) as usize);
    }
    for chunk in (0..geometry.chunks).map(ChunkId) {
        memory.chunk_mut(chunk).fill(chunk.0 as u8);
    }
    for slot in (0..geometry.slots()).map(SlotId) {
        let len = geometry.request_cap(slot) as usize;
        assert_eq!(memory.request(slot), pattern(len, slot.0 as u8), "areas do not overlap");
    }
    let (from, to) = memory.request_pair(SlotId(5), SlotId(4));
    to.copy_from_slice(from);
    assert_eq!(memory.request(SlotId(4)), memory.request(SlotId(5)));
    memory.copy_reply(SlotId(0), 10, ChunkId(3), 20, 30);
    assert_eq!(memory.chunk(ChunkId(3))[19..51], {
        let mut expected = [3; 32];
        expected[1..31].fill(0);
        expected
    });
    assert_eq!(memory.chunk(ChunkId(2)), [2; GEOMETRY.chunk_len as usize]);
}

#[test]
fn both_memories_conform() {
    conforms(&mut PlainMemory::new(GEOMETRY).unwrap());
    conforms(&mut Node::new().memory);
}
