//! The operator: asks for gathers, reads what comes of them, and looks at the agents.

use super::{
    engine::Time,
    fault::{Fault, Kind as FaultKind},
    frames::frame_of,
    node::TO_OPERATOR,
    parts::{Due, Flight, Up},
    world::World,
};
use crate::rng::Rng;
use fleet::{MS, SECOND};
use std::collections::HashMap;
use wire::{
    Kind, Payload,
    mesh::{AgentClass, MESSAGE_MAX, SelectBy, Strategy, View, message_id},
    payload::{
        ErrorReport,
        mesh::{EVERY_SECTOR, Gather, GatherReport, MeshQuery, MeshView},
        open,
    },
};

/// Time that a gather may take when nothing else is asked.
const TIMEOUT: Time = 5 * SECOND;

/// Numbers of queries, apart from those of gathers.
const QUERY: u64 = 1 << 40;

/// The operator.
#[derive(Debug)]
pub(super) struct Operator {
    rng: Rng,
    asked: u64,
    /// Agents by id, for whoever has to know whom a node means. Never iterated.
    pub(super) names: HashMap<[u8; 16], u32>,
}

impl Operator {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed ^ 0x9E7A), asked: 0, names: HashMap::new() }
    }
}

impl World {
    /// The operator's connection to a node.
    pub(super) fn desk_of(&self, node: u8) -> u32 {
        self.plan.connections() + u32::from(node)
    }

    /// The next gather of the plan, and when the one after that comes.
    pub(super) fn ask(&mut self) {
        let mut ask = self.plain_ask();
        if !self.plan.steady {
            self.vary(&mut ask);
        }
        self.send_gather(ask, true);
        let period = self.plan.period;
        self.after(period, Due::Ask);
    }

    /// For all, at once, of the next dial.
    pub(super) fn plain_ask(&mut self) -> Gather {
        let turn = self.operator.asked as usize;
        self.operator.asked += 1;
        let epoch = self.nodes[0].clocks(self.now).epoch_ns;
        let random = |rng: &mut Rng| u128::from(rng.next()) << 64 | u128::from(rng.next());
        let rng = &mut self.operator.rng;
        Gather {
            message_id: message_id(epoch, random(rng)),
            correlation_id: message_id(epoch, random(rng)),
            select: SelectBy::All.code(),
            strategy: Strategy::Parallel.code(),
            on_time: self.plan.dials[turn % self.plan.dials.len()],
            timeout_ns: TIMEOUT,
            payload_weight: 1.0,
            hold: true,
            payload: vec![7; 64],
            ..Gather::default()
        }
    }

    fn vary(&mut self, ask: &mut Gather) {
        let epoch = self.nodes[0].clocks(self.now).epoch_ns;
        let agents = u64::from(self.plan.agents);
        let rng = &mut self.operator.rng;
        ask.select = rng.pick(&[0, 0, 0, 1, 2, 3, 4, 5]);
        ask.class = rng.pick(&AgentClass::ALL[..5]).code();
        ask.sector = rng.range(1, 3) as u16;
        ask.cluster = rng.range(1, 3) as u16;
        ask.capability = "vision".into();
        ask.strategy = rng.pick(&[0, 1, 1, 1, 2]);
        ask.hold = rng.chance(70);
        ask.priority = rng.below(4) as u8;
        ask.payload_weight = rng.pick(&[0.0, 1.0, 3.0]);
        ask.ttl_ms = rng.pick(&[0, 0, 2_000, 10_000]);
        ask.progress = rng.chance(30);
        if rng.chance(30) {
            ask.at_epoch_ns = epoch + rng.range(300, 3_000) * MS;
        }
        if rng.chance(20) {
            ask.window_ns = rng.range(50, 2_000) * MS;
        }
        ask.payload = vec![7; rng.size(2_000) as usize];
        if ask.select == SelectBy::Ids.code() {
            let some = rng.range(1, 40);
            let picked: Vec<u32> = (0..some).map(|_| rng.below(agents) as u32).collect();
            ask.ids = picked.into_iter().map(|agent| self.fleet.id(agent)).collect();
        }
    }

    /// Sends it to the first node. `sound`: it must end with a report.
    pub(super) fn send_gather(&mut self, mut ask: Gather, sound: bool) {
        self.totals.gathers += 1;
        let number = self.totals.gathers;
        let conn = self.desk_of(0);
        let timeout = if ask.timeout_ns == 0 { TIMEOUT } else { ask.timeout_ns };
        let dial = self.plan.dials.iter().position(|dial| *dial == ask.on_time).unwrap_or(0);
        if self.conns[conn as usize].up {
            self.watch.asked(number, ask.correlation_id, self.now, timeout, dial, sound);
        }
        self.sign(&mut ask);
        self.operator_sends(0, &ask, number);
    }

    /// Any payload from the operator to a node.
    pub(super) fn operator_sends<T: Payload>(&mut self, node: u8, value: &T, number: u64) {
        let epoch = self.nodes[usize::from(node)].clocks(self.now).epoch_ns;
        let frame = frame_of(value, number, epoch);
        if self.plan.signed() && T::KIND != Kind::MeshQuery {
            self.overhear(&frame);
        }
        self.operator_sends_frame(node, frame);
    }

    fn operator_sends_frame(&mut self, node: u8, frame: Vec<u8>) {
        let conn = self.desk_of(node);
        let link = &self.conns[conn as usize];
        if link.up {
            let flight = Flight { conn, life: link.life, what: Up::Frame(frame) };
            let place = self.ups.put(flight);
            self.at(self.now + TO_OPERATOR, u32::from(node), Due::Up(place, u32::MAX));
        }
    }

    /// Asks every node which agents it has.
    pub(super) fn ask_for_agents(&mut self) {
        for node in 0..self.nodes.len() as u8 {
            let query = MeshQuery {
                sector: EVERY_SECTOR,
                view: View::Agents.code(),
                ..MeshQuery::default()
            };
            self.operator_sends(node, &query, QUERY);
        }
    }

    pub(super) fn operator_reads(&mut self, node: u8, frame: &[u8]) {
        let mut desk = std::mem::take(&mut self.desk);
        if let Some(read) = desk.open(frame) {
            match read.kind {
                Kind::GatherReport => {
                    if let Ok(report) = open::<GatherReport>(read.payload) {
                        self.reported(read.message_id, report);
                    }
                }
                Kind::MeshView => {
                    if let Ok(view) = open::<MeshView>(read.payload) {
                        self.judge_view(node, view);
                    }
                }
                Kind::ErrorReport => {
                    self.totals.refused += 1;
                    // Refused orders about parts have numbers of the node's own.
                    let of_gather = open::<ErrorReport>(read.payload)
                        .is_ok_and(|report| report.offending_kind == Kind::Gather.code());
                    if of_gather {
                        self.watch.refused(read.message_id);
                    }
                }
                _ => {}
            }
        }
        self.desk = desk;
    }

    /// The gathers that faults make.
    pub(super) fn odd_ask(&mut self, fault: &Fault) {
        let mut ask = self.plain_ask();
        let epoch = self.nodes[0].clocks(self.now).epoch_ns;
        match fault.kind {
            FaultKind::AskPast => {
                ask.at_epoch_ns = epoch - (1 + fault.below(1, 100)) * SECOND / 10;
            }
            FaultKind::AskNobody => {
                ask.select = SelectBy::Ids.code();
                ask.ids = vec![[0xEE; 16]; fault.below(1, 3) as usize];
            }
            FaultKind::AskTooMany if fault.below(1, 2) == 0 => {
                ask.payload = vec![1; MESSAGE_MAX + 1]
            }
            FaultKind::AskTooMany => {
                ask.select = SelectBy::Ids.code();
                let many = self.nodes[0].config.targets + 1;
                ask.ids = (0..many).map(|i| self.fleet.id(i % self.plan.agents)).collect();
            }
            FaultKind::AskNonsense => {
                ask.on_time = f32::NAN;
                ask.min_rate = -3.0;
                ask.max_conflict = f32::INFINITY;
                ask.payload_weight = f32::NEG_INFINITY;
                ask.window_ns = u64::MAX;
                ask.timeout_ns = if fault.below(1, 2) == 0 { u64::MAX } else { 1 };
                (ask.select, ask.verb, ask.priority) = (99, 99, 99);
                (ask.strategy, ask.phase) = (99, 99);
            }
            _ => ask.ttl_ms = 1 + fault.below(1, 60) as u32,
        }
        let sound = !matches!(fault.kind, FaultKind::AskTooMany | FaultKind::AskNonsense);
        self.send_gather(ask, sound);
        if fault.kind == FaultKind::AskAndLeave {
            let conn = self.desk_of(0);
            self.after(fault.below(2, 900) * MS, Due::Heal(fault.number as u16));
            debug_assert!(self.conns[conn as usize].child.is_none());
        }
    }
}
