//! What does the hop to a worker and back add, both sides polling, through the real segment and its
//! rings?
//!
//! The worker is a thread and not a process: the memory, the rings and the lines they bounce
//! between two cores are the same. What a process adds, its own page table, shows with `blast run
//! --op echo` against a node.

use benches::cores;
use criterion::{BenchmarkId, Criterion, Throughput};
use link::{Layout, Segment, ShardSide, WorkerSide, door::Door};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};
use wire::{Dtype, Operation, Order, Outcome, Work};

const SLOTS: u32 = 256;

const WORK: Work = Work {
    operation: Operation::Echo,
    dtype: Dtype::U8,
    values: Dtype::F32,
    coding: wire::Coding::Plain,
    source: wire::Source::Inline,
    quality: 0.0,
    streaming: false,
    k: 0,
    rows: 1,
    cols: 64,
    data_offset: 0,
    data_len: 64,
    check: None,
};

/// A shard's side, and a worker's side that answers on a thread of its own.
struct Pair {
    side: ShardSide,
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Result<(), link::LinkFault>>,
}

impl Pair {
    fn start() -> io::Result<Self> {
        let segment = Arc::new(Segment::create(&Layout {
            shards: 1,
            workers: 1,
            small_slots: SLOTS,
            small_request: 4_096,
            small_reply: 4_096,
            bulk_slots: 1,
            bulk_request: 4_096,
            bulk_reply: 4_096,
        })?);
        let (shard_door, worker_door) = (Door::new()?, Door::new()?);
        let worker =
            WorkerSide::new(&segment, 0, worker_door.try_clone()?, vec![shard_door.try_clone()?]);
        let side = ShardSide::new(&segment, 0, Arc::new(shard_door), &[Arc::new(worker_door)]);
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let worker = std::thread::spawn(move || {
            cores::pin(cores::CLIENT);
            let mut batch = Vec::with_capacity(SLOTS as usize);
            while !seen.load(Relaxed) {
                if worker.next_batch(SLOTS as usize, &mut batch)? == 0 {
                    std::hint::spin_loop();
                }
                for lent in batch.drain(..) {
                    lent.complete(Outcome { frames: 1, reply_len: 96, ..Outcome::default() })?;
                }
            }
            Ok(())
        });
        Ok(Self { side, stop, worker })
    }

    /// Lends these many slots as one batch and waits until all are back.
    fn round(&mut self, slots: u32) {
        for slot in 0..slots {
            let order = Order::new(&WORK, u64::from(slot), 64, 0, 0, slot);
            self.side.set_order(slot, &order);
        }
        self.side.lend(0, 0..slots);
        let mut due = slots;
        while due > 0 {
            match self.side.completion(0) {
                Some(Ok(slot)) => {
                    assert_eq!(self.side.outcome(slot).lending, slot);
                    due -= 1;
                }
                Some(Err(fault)) => panic!("the worker lied: {fault}"),
                None => std::hint::spin_loop(),
            }
        }
    }

    fn finish(self) {
        self.stop.store(true, Relaxed);
        self.worker.join().expect("the worker does not panic").expect("the shard does not lie");
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    cores::pin(cores::SERVER);
    let mut pair = match Pair::start() {
        Ok(pair) => pair,
        Err(error) => {
            eprintln!("hop: {error}");
            std::process::exit(1);
        }
    };
    let mut group = criterion.benchmark_group("hop");
    for slots in [1, 8, 32] {
        group.throughput(Throughput::Elements(u64::from(slots)));
        group.bench_with_input(BenchmarkId::from_parameter(slots), &slots, |bench, &slots| {
            bench.iter(|| pair.round(slots));
        });
    }
    group.finish();
    pair.finish();
    criterion.final_summary();
}
