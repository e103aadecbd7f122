//! What does the micro-batcher cost per request, with everything around it that a request passes: a
//! slot from the table, its place in a batch, the close, the lending, the return?

use criterion::{BenchmarkId, Criterion, Throughput};
use dataplane_core::{
    Geometry, Limits,
    batch::Batcher,
    driver::{ConnId, WorkerId},
    slot::{SlotTable, Tenant},
};
use std::hint::black_box;
use wire::{Dtype, Operation, Priority, Work};

const SLOTS: u32 = 1_024;

const WORK: Work = Work {
    operation: Operation::TopK,
    dtype: Dtype::F32,
    values: Dtype::F32,
    coding: wire::Coding::Plain,
    source: wire::Source::Inline,
    quality: 0.0,
    streaming: false,
    k: 100,
    rows: 1,
    cols: 512,
    data_offset: 0,
    data_len: 2_048,
    check: None,
};

fn tenant(message_id: u64) -> Tenant {
    Tenant {
        conn: ConnId(0),
        conn_life: 1,
        message_id,
        sequence: message_id,
        arrived: 1,
        deadline: 0,
        work: WORK,
        priority: Priority::Normal,
        cost: 0,
        key: 0,
        payload_len: 2_304,
        lending: 0,
        tries: 0,
        worker: WorkerId(0),
        batch: 0,
        lent_at: 0,
        lent_id: message_id,
        abandoned: false,
        canary: None,
    }
}

/// So many requests in, through batches of 32, out to a worker and back.
fn pass(slots: &mut SlotTable, batcher: &mut Batcher, requests: u64) -> u64 {
    for id in 0..requests {
        let slot = slots.receive(false, 0, false).expect("there are more slots than requests");
        let arrived = slots.arrive(slot, tenant(id));
        batcher.add(black_box(id), arrived, &WORK, Priority::Normal, 0);
    }
    batcher.advance(requests, false);
    let mut back = 0;
    while let Some(mut batch) = batcher.pop_ready(|_| true).or_else(|| batcher.pop_idle(|_| true)) {
        for arrived in batch.slots.drain(..) {
            let slot = arrived.id();
            let lending = slots.lend(arrived, WorkerId(0), 0);
            let ready = slots.give_back(slot, WorkerId(0), lending).expect("lent just now");
            slots.drop_ready(ready);
            back += 1;
        }
        batcher.recycle(batch.slots);
    }
    back
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let geometry = Geometry {
        small_slots: SLOTS,
        small_request: 4_096,
        small_reply: 4_096,
        bulk_slots: 1,
        bulk_request: 4_096,
        bulk_reply: 4_096,
        chunks: 1,
        chunk_len: 4_096,
    };
    let mut slots = SlotTable::new(geometry, std::sync::Arc::default(), 1);
    let mut batcher = Batcher::new(&Limits::default(), geometry.slots());
    let mut group = criterion.benchmark_group("batch");
    for requests in [1, 32, 1_024] {
        group.throughput(Throughput::Elements(requests));
        group.bench_with_input(BenchmarkId::from_parameter(requests), &requests, |bench, &n| {
            bench.iter(|| assert_eq!(pass(&mut slots, &mut batcher, n), n));
        });
    }
    group.finish();
    criterion.final_summary();
}
