//! `dataplane-core`: a shard between peers that send any bytes in any pieces and a worker that may
//! say anything. The driver here keeps to the seam's rules and checks that the shard does.

mod driver;
mod memory;

use crate::bytes::Input;
use dataplane_core::{
    Geometry, Limits, NodeStats, Shard, Stats,
    limits::MS,
    mesh_port::{self, MeshEnd},
    turn,
};
use driver::{CONNECTIONS, Wire};
use memory::Slots;

/// Rounds after which a world that is left alone must have come to rest.
const REST_MAX: usize = 4_000;

const GEOMETRY: Geometry = Geometry {
    small_slots: 4,
    small_request: 1_024,
    small_reply: 1_024,
    bulk_slots: 2,
    bulk_request: 8 << 10,
    bulk_reply: 8 << 10,
    chunks: 16,
    chunk_len: 1_024,
};

struct World {
    shard: Shard,
    slots: Slots,
    wire: Wire,
    end: MeshEnd,
}

impl World {
    fn new() -> Self {
        let limits = Limits {
            connections: CONNECTIONS,
            requests_per_connection: 3,
            unsent_per_connection: 4 << 10,
            batch_max: 3,
            batch_wait: 10 * MS,
            operations: u32::MAX,
            ..Limits::default()
        };
        let stats = Stats::new();
        let node = NodeStats::new(vec![stats.clone()], 1);
        let (port, end) = mesh_port::port(4, 4);
        let shard = Shard::new(limits, GEOMETRY, 1, stats, node).with_mesh(port, 8);
        Self { shard, slots: Slots::new(GEOMETRY), wire: Wire::new(GEOMETRY), end }
    }

    /// One turn, and what the OS makes of it. Returns whether anything happened.
    fn turn(&mut self) -> bool {
        let events = turn(&mut self.shard, &mut self.slots, &mut self.wire);
        let taken = std::iter::from_fn(|| self.end.pop()).count();
        self.wire.freed |= taken > 0 && self.end.made_room();
        let ledger = self.shard.ledger();
        assert_eq!(ledger.total(), GEOMETRY.slots(), "{ledger:?}");
        self.wire.settle(&mut self.slots) || events + taken > 0
    }

    /// One thing that happens.
    fn step(&mut self, input: &mut Input<'_>) {
        let op = input.byte();
        let conn = usize::from(op / 8) % CONNECTIONS as usize;
        match op % 8 {
            0 => {
                let len = usize::from(input.byte()) | usize::from(input.byte()) << 8;
                self.wire.receive(conn, input.take(len));
            }
            1 => self.wire.now += u64::from(input.byte()).pow(2) * MS,
            2 => self.wire.work(&mut self.slots, input.byte(), None),
            3 => {
                let (outcome, slot) = (input.take(size_of::<wire::Outcome>()), input.byte());
                self.wire.work(&mut self.slots, slot, Some(outcome));
            }
            4 => self.wire.end(conn, input.byte()),
            5 => self.wire.connect(conn),
            6 => self.wire.worker_dies(),
            _ => self.wire.room = u32::from(input.byte()) + 1,
        }
    }

    /// Nobody sends any more, the worker is gone, and its successor is honest: all memory is free
    /// again.
    fn rest(mut self) {
        (0..CONNECTIONS as usize).for_each(|conn| self.wire.end(conn, 1));
        self.wire.worker_dies();
        for _ in 0..REST_MAX {
            self.wire.work(&mut self.slots, 0, None);
            if !self.turn() {
                self.wire.now += 1_000 * MS;
            }
            let ledger = self.shard.ledger();
            if self.wire.is_quiet() && ledger.free == GEOMETRY.slots() {
                assert_eq!(self.shard.free_chunks(), GEOMETRY.chunks as usize);
                return;
            }
        }
        panic!("never at rest: {:?}", self.shard.ledger());
    }
}

pub(crate) fn run(bytes: &[u8]) {
    let mut world = World::new();
    world.wire.worker_up();
    (0..CONNECTIONS as usize).for_each(|conn| world.wire.connect(conn));
    let mut input = Input(bytes);
    while !input.is_empty() {
        world.step(&mut input);
        // A shard that always has more to do would never sleep.
        let busy = (0..REST_MAX).take_while(|_| world.turn()).count();
        assert!(busy < REST_MAX, "the shard spins");
    }
    world.rest();
}
