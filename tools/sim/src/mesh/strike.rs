//! Faults strike, and heal where they do.

use super::{
    engine::Time,
    fault::{Fault, Kind},
    frames::frame_of,
    lies::{Lie, lie_of},
    parts::{Due, Up},
    world::World,
};
use fleet::{MS, SECOND};
use wire::{
    Header,
    mesh::{CircuitAction, Scope},
    payload::mesh::{AgentRegistration, Circuit, Freeze},
};

/// Heartbeats of a flood.
const FLOOD: u32 = 400;

impl World {
    /// The agent that a fault is about.
    pub(super) fn struck(&self, fault: &Fault) -> u32 {
        fault.below(0, u64::from(self.plan.agents)) as u32
    }

    /// The agent whose name a theft is about.
    pub(super) fn victim(&self, fault: &Fault) -> u32 {
        fault.below(1, u64::from(self.plan.agents)) as u32
    }

    pub(super) fn strike(&mut self, number: u16) {
        let Some(fault) = self.plan.faults.get(usize::from(number)).copied() else { return };
        if self.plan.agents == 0 {
            return;
        }
        self.totals.faults += 1;
        let agent = self.struck(&fault);
        let conn = self.conn_of(agent);
        // By its number: its place in the list is another one where faults were left out.
        let heal = |world: &mut Self, after: Time| {
            world.after(after, Due::Heal(fault.number as u16));
        };
        if let Some(lie) = lie_of(fault.kind) {
            self.actors[agent as usize].lies.add(lie);
            return;
        }
        match fault.kind {
            Kind::Collusion => self.collude(&fault),
            Kind::Vanishes => self.fall_silent(agent, true),
            Kind::Returns => {
                self.fall_silent(agent, false);
                let most = (self.plan.duration / 10 * 7).saturating_sub(self.now);
                heal(self, ((2 + fault.below(1, 40)) * SECOND).min(most));
            }
            Kind::Cut => self.cut(conn, (100 + fault.below(1, 20_000)) * MS),
            Kind::CutMidGather => {
                let asked =
                    self.plan.period - self.now.saturating_sub(4 * SECOND) % self.plan.period;
                heal(self, asked + fault.below(1, 800) * MS);
            }
            Kind::Floods => self.flood(agent),
            Kind::ForgesOrders => self.forge(agent, &fault),
            Kind::StealsName => self.steal(agent, &fault),
            Kind::RegistersAgain => self.register_again(agent),
            Kind::Garbage => self.babble(agent, &fault),
            Kind::Partition => {
                let healed = self.plan.duration / 10 * 7;
                let until = (self.now + (1 + fault.below(1, 40)) * SECOND).min(healed);
                for conn in 0..self.plan.connections() {
                    if fault.below(u64::from(conn) + 10, 8) == 0 {
                        self.conns[conn as usize].parted_until = until;
                    }
                }
            }
            Kind::ClockStep => self.step_clock(agent, (50 + fault.below(1, 5_000)) * MS),
            Kind::WallStep => self.step_wall(&fault),
            Kind::AskPast
            | Kind::AskNobody
            | Kind::AskTooMany
            | Kind::AskNonsense
            | Kind::AskShortLived
            | Kind::AskAndLeave => self.odd_ask(&fault),
            Kind::Freeze | Kind::Circuit => {
                self.order_part(&fault, true);
                heal(self, (1 + fault.below(4, 15)) * SECOND);
            }
            Kind::ParentDies => {
                let asked =
                    self.plan.period - self.now.saturating_sub(4 * SECOND) % self.plan.period;
                heal(self, asked + fault.below(1, 800) * MS);
            }
            // Those are in the model of the fleet.
            _ => {}
        }
    }

    pub(super) fn heal(&mut self, number: u16) {
        let Some(fault) = self.plan.faults.iter().find(|f| f.number == u32::from(number)).copied()
        else {
            return;
        };
        let agent = self.struck(&fault);
        let conn = self.conn_of(agent);
        match fault.kind {
            Kind::Returns => {
                self.actors[agent as usize].silent = false;
                self.arm(agent);
                let noticed = fault.below(2, 10) * SECOND;
                self.drop_silently(conn, 10 * MS, noticed);
            }
            Kind::CutMidGather => self.cut(conn, (100 + fault.below(2, 9_000)) * MS),
            Kind::AskAndLeave => {
                let conn = self.desk_of(0);
                self.watch.operator_left(self.now);
                self.cut(conn, 100 * MS);
            }
            Kind::Freeze | Kind::Circuit => self.order_part(&fault, false),
            Kind::ParentDies => self.node_down(0, (100 + fault.below(2, 12_000)) * MS),
            _ => {}
        }
    }

    fn step_wall(&mut self, fault: &Fault) {
        let step = (fault.below(1, 7_200 * SECOND) as i64) - 3_600 * SECOND as i64;
        // After a step back a node takes no stamps until it is where it was: that is as it should
        // be, and leaves nothing to watch.
        let step = if self.plan.signed() { step.abs() } else { step };
        let node = fault.below(2, self.nodes.len() as u64) as usize;
        self.nodes[node].wall_off += step;
    }

    fn fall_silent(&mut self, agent: u32, for_good: bool) {
        let now = self.now;
        let actor = &mut self.actors[agent as usize];
        actor.silent = true;
        actor.lost |= for_good;
        actor.silent_since = now;
    }

    fn collude(&mut self, fault: &Fault) {
        for agent in 0..self.plan.agents {
            if fault.below(u64::from(agent) + 10, 10) == 0 {
                self.actors[agent as usize].lies.add(Lie::Colludes);
            }
        }
    }

    fn flood(&mut self, agent: u32) {
        if self.actors[agent as usize].silent {
            return;
        }
        let (own, conn) = (self.own(agent), self.conn_of(agent));
        for _ in 0..FLOOD {
            let beat = self.actors[agent as usize].agent.beat(own, 0);
            self.send_up(conn, agent, Up::Beat(beat));
        }
    }

    /// Another one's record on this agent's connection.
    fn steal(&mut self, agent: u32, fault: &Fault) {
        let victim = self.victim(fault);
        let conn = self.conn_of(agent);
        if self.conn_of(victim) == conn {
            return;
        }
        let record = self.record(victim);
        let theft = AgentRegistration { agents: vec![record], ..AgentRegistration::default() };
        self.send_up(conn, agent, Up::Frame(frame_of(&theft, u64::MAX, 0)));
    }

    fn register_again(&mut self, agent: u32) {
        let conn = self.conn_of(agent);
        if self.actors[agent as usize].silent {
            return;
        }
        let record = self.record(agent);
        let again = AgentRegistration { agents: vec![record], ..AgentRegistration::default() };
        let own = self.own(agent);
        self.actors[agent as usize].asks_at(own);
        self.send_up(conn, agent, Up::Frame(frame_of(&again, u64::from(conn), 0)));
    }

    /// Bytes that are no message: noise, a torn frame, a frame of a wrong kind, lengths that lie.
    fn babble(&mut self, agent: u32, fault: &Fault) {
        let (conn, own) = (self.conn_of(agent), self.own(agent));
        if self.actors[agent as usize].silent {
            return;
        }
        // Some of it may be sound enough to be answered.
        self.actors[agent as usize].asks_at(own);
        let record = self.record(agent);
        let sound = AgentRegistration { agents: vec![record; 3], ..AgentRegistration::default() };
        let sound = frame_of(&sound, 3, 0);
        for round in 0..32 {
            let mut bytes = sound.clone();
            match fault.below(round, 4) {
                0 => bytes.truncate(fault.below(round + 100, bytes.len() as u64) as usize),
                1 => {
                    for at in 0..8 {
                        let place = fault.below(round * 64 + at, bytes.len() as u64) as usize;
                        bytes[place] ^= 1 + fault.below(at, 255) as u8;
                    }
                }
                2 => bytes = reseal(&sound, fault.below(round + 200, 1 << 40)),
                _ => bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31) ^ round as u8),
            }
            self.send_up(conn, agent, Up::Frame(bytes));
        }
    }

    fn step_clock(&mut self, agent: u32, by: Time) {
        let now = self.now;
        let actor = &mut self.actors[agent as usize];
        actor.skew += by;
        actor.stepped = now;
        actor.disarm();
        self.arm(agent);
    }

    /// Freezes or thaws, opens or closes a part of what the first node has.
    fn order_part(&mut self, fault: &Fault, begin: bool) {
        let scope = [Scope::Cluster, Scope::Sector, Scope::Global][fault.below(1, 3) as usize];
        let (sector, cluster) = (1 + fault.below(2, 2) as u16, 1 + fault.below(3, 2) as u16);
        let number = (1 << 41) + u64::from(fault.number);
        if fault.kind == Kind::Freeze {
            let mut freeze = Freeze {
                preserve_state_to: "disk".into(),
                sector,
                cluster,
                scope: scope.code(),
                thaw: !begin,
                ..Freeze::default()
            };
            self.sign(&mut freeze);
            self.operator_sends(0, &freeze, number);
        } else {
            let action = if begin { CircuitAction::Open } else { CircuitAction::Close };
            let mut circuit = Circuit {
                reason: "told to".into(),
                sector,
                cluster,
                scope: scope.code(),
                action: action.code(),
                ..Circuit::default()
            };
            self.sign(&mut circuit);
            self.operator_sends(0, &circuit, number);
        }
        // An order that nobody takes shuts nothing.
        if !begin || self.conns[self.desk_of(0) as usize].up {
            self.watch.part(fault, (scope, sector, cluster), begin, self.now);
        }
    }
}

/// A frame whose payload is wrong somewhere, with a checksum that is right.
pub(super) fn reseal(sound: &[u8], chance: u64) -> Vec<u8> {
    let (head, payload) = sound.split_at(wire::HEADER_LEN);
    let mut payload = payload.to_vec();
    let place = chance as usize % payload.len();
    payload[place] ^= 1 << (chance >> 32 & 7);
    let kind = Header::peek(sound).and_then(|header| header.kind().ok());
    let kind = kind.unwrap_or(wire::Kind::AgentRegistration);
    let crc = wire::check::crc16(&payload);
    let header = Header::new(kind, 4, 0, payload.len() as u32, crc);
    let mut out = zerocopy::IntoBytes::as_bytes(&header).to_vec();
    debug_assert_eq!(out.len(), head.len());
    out.extend(payload);
    out
}
