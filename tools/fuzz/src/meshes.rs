//! `mesh`: a node's machine between connections that send any frames, and the registry of its
//! earlier life.

use crate::{bytes::Input, frames};
use mesh::{
    SECOND,
    node::{Config, Effect, Effects, Mesh, Now, Peer, Record, VolleyReport},
};
use wire::{HEADER_LEN, Header, Kind};

const EPOCH: u64 = 1_700_000_000 * SECOND;
const PEERS: u32 = 4;
/// Effects of one call: each is a frame, a volley or a record, and calls are bounded.
const EFFECTS_MAX: usize = 1_000;

fn config() -> Config {
    Config {
        node_id: [9; 16],
        name: "node".into(),
        agents: 64,
        gathers: 4,
        targets: 64,
        children: 3,
        snapshot_every: SECOND,
        ..Config::default()
    }
}

fn peer(number: u8) -> Peer {
    Peer { shard: 0, conn: u32::from(number) % PEERS, life: 1 }
}

struct World {
    mesh: Mesh,
    now: Now,
    volleys: Vec<(u32, u16, u32)>,
    kept: Option<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let now = Now { node: SECOND, epoch_ns: EPOCH };
        Self { mesh: Mesh::new(&config(), 7), now, volleys: Vec::new(), kept: None }
    }

    fn pass(&mut self, time: u64) {
        self.now.node += time;
        self.now.epoch_ns += time;
        self.call(|mesh, now, out| mesh.advance(now, out));
    }

    fn call(&mut self, act: impl FnOnce(&mut Mesh, Now, &mut Effects)) {
        let mut effects = Effects::new();
        act(&mut self.mesh, self.now, &mut effects);
        assert!(effects.len() <= EFFECTS_MAX, "{} effects of one call", effects.len());
        for effect in effects {
            self.judge(effect);
        }
        let config = self.mesh.config();
        assert!(self.mesh.running() <= config.gathers, "bounded");
        assert!(self.mesh.registry().len() <= self.mesh.registry().capacity());
    }

    fn judge(&mut self, effect: Effect) {
        match effect {
            Effect::Send { frame, .. } => {
                let header = Header::peek(&frame).expect("a whole header");
                assert_eq!(header.check(1 << 24), Ok(()));
                assert_eq!(header.payload_len() as usize, frame.len() - HEADER_LEN);
            }
            Effect::Volley(order) => {
                assert!(order.sends.is_sorted_by_key(|send| send.at));
                assert!(!order.sends.is_empty());
                self.volleys.push((order.number, order.shard, order.sends.len() as u32));
            }
            Effect::Persist(Record::Registry(bytes)) => self.kept = Some(bytes),
            Effect::Persist(Record::Gather { .. }) | Effect::Close { .. } => {}
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (op, who) = (input.byte(), peer(input.byte()));
        match op % 8 {
            0..=3 => {
                let len = usize::from(input.byte()) | usize::from(input.byte()) << 8;
                let frame = input.take(len);
                let Some(header) = Header::peek(frame) else { return };
                let Ok(kind) = header.kind() else { return };
                let (id, payload) = (header.message_id(), &frame[HEADER_LEN..]);
                let arrived = self.now.node.saturating_sub(u64::from(op));
                self.call(|mesh, now, out| mesh.frame(now, who, arrived, kind, id, payload, out));
            }
            4 => self.pass(u64::from(input.byte()).pow(4)),
            5 => self.call(|mesh, now, out| mesh.gone(now, who, out)),
            6 => {
                let honest = self.volleys.pop();
                let (number, shard, sent) =
                    honest.unwrap_or_else(|| (input.word(), input.byte().into(), input.word()));
                let report = VolleyReport { number, shard, sent, ..VolleyReport::default() };
                self.call(|mesh, now, out| mesh.volley_done(now, &report, out));
            }
            _ if who.conn == 0 => self.call(|mesh, now, out| mesh.parent_down(now, out)),
            _ => self.call(|mesh, now, out| mesh.parent_up(now, who, out)),
        }
    }
}

pub(crate) fn node(bytes: &[u8]) {
    let (mut world, mut input) = (World::new(), Input(bytes));
    while !input.is_empty() {
        world.step(&mut input);
    }
    // Longer than any gather may take.
    for _ in 0..700 {
        if world.mesh.running() == 0 {
            break;
        }
        world.pass(SECOND);
    }
    assert_eq!(world.mesh.running(), 0, "every gather ends");
}

fn step(peer: u8, frame: &[u8]) -> Vec<u8> {
    let head = [0, peer, (frame.len() & 0xFF) as u8, (frame.len() >> 8) as u8];
    [&head, frame].concat()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let frames = frames::mesh();
    let mut seeds: Vec<_> = frames.iter().map(|frame| step(1, frame)).collect();
    // Agents on one connection, an operator on another, time between, and everything else.
    let mut all = Vec::new();
    for frame in &frames {
        let agents = Header::peek(frame).is_some_and(|header| header.kind() != Ok(Kind::Gather));
        all.extend(step(u8::from(agents), frame));
        all.extend([4, 0, 180, 6, 0]);
    }
    seeds.push([&all[..], &[7, 2, 4, 0, 200, 5, 1, 4, 0, 255]].concat());
    seeds
}

/// A registry as it was kept: what is accepted is a registry that goes on.
pub(crate) fn snapshot(bytes: &[u8]) {
    let mut world = World::new();
    if !world.mesh.restore(world.now, bytes) {
        return;
    }
    (0..3).for_each(|_| world.pass(SECOND));
    for frame in frames::mesh() {
        world.step(&mut Input(&step(1, &frame)));
    }
    world.pass(SECOND);
}

pub(crate) fn snapshot_seeds() -> Vec<Vec<u8>> {
    let mut world = World::new();
    for frame in frames::mesh() {
        world.step(&mut Input(&step(1, &frame)));
    }
    (0..3).for_each(|_| world.pass(SECOND));
    world.kept.into_iter().collect()
}
