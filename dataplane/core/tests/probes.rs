//! Probes through a shard: asked, answered, lost; no client sees them, and no slot is lost.

use dataplane_core::{
    Geometry, Limits, NodeStats, Shard, Stats,
    canary::Canary,
    driver::{Event, Time, WorkerId},
    memory::{ChunkId, Memory, SlotId},
    probe::{Probe, Probed, Verdict},
    shard::Cx,
};
use proptest::prelude::*;
use std::sync::Arc;
use wire::{
    ErrorCode, HEADER_LEN, Operation, Order, Outcome,
    reply::{self, Author, Layout, Stamp},
};
use zerocopy::FromZeros;

const SLOTS: u32 = 2;
const GEOMETRY: Geometry = Geometry {
    small_slots: SLOTS,
    small_request: 1 << 10,
    small_reply: 4 << 10,
    bulk_slots: 0,
    bulk_request: 1 << 10,
    bulk_reply: 1 << 10,
    chunks: 1,
    chunk_len: 1 << 10,
};

/// A slot's areas; the reply lies as an archive wants it.
#[derive(Clone)]
struct Slot {
    request: Vec<u8>,
    reply: Vec<u8>,
    order: Order,
    outcome: Outcome,
}

struct Bytes {
    slots: Vec<Slot>,
    chunk: Vec<u8>,
    accused: Vec<WorkerId>,
}

impl Memory for Bytes {
    fn geometry(&self) -> Geometry {
        GEOMETRY
    }
    fn request(&self, slot: SlotId) -> &[u8] {
        &self.slots[slot.0 as usize].request
    }
    fn request_mut(&mut self, slot: SlotId) -> &mut [u8] {
        &mut self.slots[slot.0 as usize].request
    }
    fn request_pair(&mut self, _: SlotId, _: SlotId) -> (&[u8], &mut [u8]) {
        unreachable!("nothing is compressed here")
    }
    fn reply(&self, slot: SlotId) -> &[u8] {
        &self.slots[slot.0 as usize].reply
    }
    fn set_order(&mut self, slot: SlotId, order: &Order) {
        self.slots[slot.0 as usize].order = *order;
    }
    fn outcome(&self, slot: SlotId) -> Outcome {
        self.slots[slot.0 as usize].outcome
    }
    fn chunk(&self, _: ChunkId) -> &[u8] {
        &self.chunk
    }
    fn chunk_mut(&mut self, _: ChunkId) -> &mut [u8] {
        &mut self.chunk
    }
    fn copy_reply(&mut self, _: SlotId, _: u32, _: ChunkId, _: u32, _: u32) {}
    fn accuse(&mut self, worker: WorkerId) {
        self.accused.push(worker);
    }
}

struct Rig {
    shard: Shard,
    mem: Bytes,
    stats: Arc<Stats>,
    now: Time,
}

const WORKER: WorkerId = WorkerId(1);

impl Rig {
    /// A shard of two workers that are up.
    fn new() -> Self {
        let stats = Stats::new();
        let node = NodeStats::new(vec![Arc::clone(&stats)], 2);
        // Few connections: each sweep looks over all of them.
        let limits = Limits { connections: 1, ..Limits::default() };
        let shard = Shard::new(limits, GEOMETRY, 2, Arc::clone(&stats), node);
        let slot = Slot {
            request: vec![0; 1 << 10],
            reply: vec![0; 4 << 10],
            order: Order::new_zeroed(),
            outcome: Outcome::default(),
        };
        let slots = vec![slot; SLOTS as usize];
        let mem = Bytes { slots, chunk: vec![0; 1 << 10], accused: Vec::new() };
        let mut rig = Self { shard, mem, stats, now: 1_000 };
        for worker in [WorkerId(0), WORKER] {
            rig.tell(Event::WorkerUp { worker, operations: u32::MAX });
        }
        rig
    }

    fn tell(&mut self, event: Event<'_>) {
        let mut cx = Cx { now: self.now, epoch_ns: 0, mem: &mut self.mem };
        self.shard.handle(&mut cx, event);
        self.shard.advance(&mut cx);
        assert_eq!(self.shard.ledger().total(), SLOTS);
    }

    fn ask(&mut self, canary: Canary) {
        self.tell(Event::Probe(Probe { worker: WORKER, canary }));
    }

    /// What is lent now.
    fn lent(&mut self) -> Option<SlotId> {
        let mut cx = Cx { now: self.now, epoch_ns: 0, mem: &mut self.mem };
        let (worker, slots) = self.shard.poll_lend(&mut cx)?;
        assert_eq!((worker, slots.len()), (WORKER, 1), "to whom it was meant for, alone");
        Some(slots[0])
    }

    /// Answers as a worker does that computes rightly; the frame is then spoilt.
    fn answer(&mut self, canary: Canary, slot: SlotId, spoil: impl Fn(&mut [u8])) {
        let it = &mut self.mem.slots[slot.0 as usize];
        let work = it.order.work().expect("sound work");
        assert_eq!(work.operation, canary.operation());
        let payload = &it.request[..it.order.payload_len as usize];
        assert!(wire::request::verify(payload, &work));
        let rows = wire::request::rows(payload, &work).expect("rows");
        let chunk = reply::chunks(&work).next().expect("one chunk");
        let layout = Layout::of(&work, &chunk).expect("a layout");
        // Where an archive can be read: 64 bytes apart from a vector's own start.
        compute(&layout, rows, &mut it.reply[HEADER_LEN..]);
        let stamp = Stamp {
            message_id: it.order.message_id,
            timestamp_ns: 7,
            query_id: wire::request::query_id(payload),
            operation: work.operation,
            compute_ns: 1,
            chunk,
        };
        let mut author = Author::new("worker-1", "cpu", "a test");
        let len = reply::finish(&mut it.reply, &layout, &mut author, &stamp).expect("room");
        spoil(&mut it.reply[..len]);
        it.outcome = Outcome {
            lending: it.order.lending,
            frames: 1,
            reply_len: len as u32,
            started_ns: self.now + 10,
            ..Outcome::default()
        };
    }

    /// The worker gives the slot back so much later.
    fn give_back(&mut self, slot: SlotId, later: Time) -> Probed {
        self.now += later;
        self.tell(Event::Completed { worker: WORKER, slot });
        self.shard.poll_probed().expect("it has ended")
    }

    /// No client ever asked.
    fn nothing_counted(&self) {
        let stats = &self.stats;
        assert!(Operation::ALL.iter().all(|op| stats.requests(*op) == 0));
        for counter in [&stats.replies, &stats.batched, &stats.orphaned, &stats.reclaimed] {
            assert_eq!(counter.get(), 0);
        }
        assert_eq!(stats.worker_busy(1), 0);
        assert_eq!(self.shard.ledger().free, SLOTS);
    }
}

/// The right numbers, by other means than the kernels.
fn compute(layout: &Layout, rows: &[u8], payload: &mut [u8]) {
    let floats: Vec<f32> =
        rows.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect();
    match layout {
        Layout::Echo(echo) => echo.parts(payload).unwrap().data.copy_from_slice(rows),
        Layout::Int8(block) => {
            let parts = block.parts(payload).unwrap();
            let most = floats.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            parts.scales[0] = most / 127.0;
            parts.codes.iter_mut().zip(&floats).for_each(|(code, x)| *code = *x as i8);
            parts.flags[0] = 0;
        }
        Layout::TopK(set) => {
            let parts = set.parts(payload).unwrap();
            let mut order: Vec<usize> = (0..floats.len()).collect();
            order.sort_by(|a, b| floats[*b].total_cmp(&floats[*a]).then(a.cmp(b)));
            for (at, column) in order.iter().take(set.k as usize).enumerate() {
                parts.indices[at] = *column as u32;
                parts.values[4 * at..4 * at + 4].copy_from_slice(&floats[*column].to_le_bytes());
            }
            let max = floats[order[0]];
            parts.counts[0] = set.k;
            parts.max[0] = max;
            parts.log_sum[0] = floats.iter().map(|x| (x - max).exp()).sum::<f32>().ln();
            parts.flags[0] = 0;
        }
        Layout::Coded(_) => unreachable!("canaries ask for no coding"),
    }
}

#[test]
fn health_02_the_right_answer_is_right_and_any_other_byte_is_wrong() {
    for canary in Canary::ALL {
        let mut rig = Rig::new();
        rig.ask(canary);
        let slot = rig.lent().expect("a slot is free");
        rig.answer(canary, slot, |_| {});
        let ended = rig.give_back(slot, 510);
        let probe = Probe { worker: WORKER, canary };
        // Taken up 10 ns after it was lent.
        assert_eq!(ended, Probed { probe, verdict: Verdict::Right, took: 500 });
        assert_eq!(rig.mem.accused, []);
        rig.nothing_counted();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn health_02_a_changed_payload_is_a_wrong_answer_and_its_worker_is_accused(
        which in 0..Canary::ALL.len(), at in any::<prop::sample::Index>(), mask in 1..=u8::MAX,
    ) {
        let (canary, mut rig) = (Canary::ALL[which], Rig::new());
        rig.ask(canary);
        let slot = rig.lent().expect("a slot is free");
        rig.answer(canary, slot, |frame| {
            let payload = &mut frame[HEADER_LEN..];
            let at = at.index(payload.len());
            payload[at] ^= mask;
        });
        prop_assert_eq!(rig.give_back(slot, 1).verdict, Verdict::Wrong);
        prop_assert_eq!(&rig.mem.accused, &[WORKER]);
        prop_assert_eq!(rig.stats.link_faults.get(), 1);
        rig.nothing_counted();
    }
}

#[test]
fn health_02_a_refusal_is_no_lie_and_nonsense_is() {
    for (status, verdict) in [
        (ErrorCode::WorkerFailed.code(), Verdict::Refused(ErrorCode::WorkerFailed)),
        (u16::MAX, Verdict::Wrong),
    ] {
        let mut rig = Rig::new();
        rig.ask(Canary::TopK);
        let slot = rig.lent().expect("a slot is free");
        let it = &mut rig.mem.slots[slot.0 as usize];
        it.outcome = Outcome { lending: it.order.lending, status, ..Outcome::default() };
        assert_eq!(rig.give_back(slot, 1).verdict, verdict);
        assert_eq!(rig.mem.accused.len(), usize::from(verdict == Verdict::Wrong));
        rig.nothing_counted();
    }
}

#[test]
fn health_03_a_worker_cannot_say_that_it_began_later_than_now_or_before_it_was_asked() {
    for (started, took) in [(0, 700), (u64::MAX, 0)] {
        let mut rig = Rig::new();
        rig.ask(Canary::Echo);
        let slot = rig.lent().expect("a slot is free");
        rig.answer(Canary::Echo, slot, |_| {});
        rig.mem.slots[slot.0 as usize].outcome.started_ns = started;
        assert_eq!(rig.give_back(slot, 700).took, took);
    }
}

#[test]
fn health_01_probes_wait_for_a_slot_and_end_with_their_worker() {
    let mut rig = Rig::new();
    for canary in Canary::ALL {
        rig.ask(canary);
    }
    let slots: Vec<SlotId> = std::iter::from_fn(|| rig.lent()).collect();
    assert_eq!(slots.len(), SLOTS as usize, "the third waits");
    rig.answer(Canary::Echo, slots[0], |_| {});
    assert_eq!(rig.give_back(slots[0], 1).verdict, Verdict::Right);
    assert_eq!(rig.lent(), Some(slots[0]));
    rig.tell(Event::WorkerDown { worker: WORKER });
    let ended: Vec<Verdict> =
        std::iter::from_fn(|| rig.shard.poll_probed()).map(|it| it.verdict).collect();
    assert_eq!(ended, [Verdict::Unasked; 2]);
    rig.ask(Canary::Echo);
    assert_eq!(rig.lent(), None, "nobody is there to ask");
    assert_eq!(rig.shard.poll_probed().map(|it| it.verdict), Some(Verdict::Unasked));
    rig.nothing_counted();
}

#[test]
fn health_01_a_kept_probe_is_an_overdue_request() {
    let mut rig = Rig::new();
    rig.ask(Canary::Echo);
    rig.lent().expect("a slot is free");
    let patience = Limits::default().hold_timeout;
    rig.now += patience - 1;
    rig.tell(Event::WorkerHealth { worker: WORKER, healthy: true });
    assert_eq!(rig.mem.accused, []);
    rig.now += patience;
    rig.tell(Event::WorkerHealth { worker: WORKER, healthy: true });
    assert_eq!(rig.mem.accused, [WORKER]);
}
