//! What leaves: registrations, heartbeats, answers.

use super::{Crowd, Item};
use crate::conn::State;
use dataplane_core::{
    driver::{Driver, Segment, Time},
    memory::Memory,
};
use fleet::Rng;
use mesh::agent::Ack;
use wire::{
    frame,
    payload::{
        Text,
        mesh::{AgentHeartbeat, AgentRecord, AgentRegistration},
    },
};

/// Bytes of the longest answer: its frame and what a conflict says.
const LETTER_MAX: usize = 512;

/// What an agent says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Letter {
    Beat(AgentHeartbeat),
    Ack(Ack),
}

#[repr(align(64))]
struct Aligned([u8; LETTER_MAX]);

impl Letter {
    /// The same with times that are `factor` of the true ones, and a queue to match.
    fn bent(self, factor: f64) -> Self {
        let scale = |time: u64| (time as f64 * factor) as u64;
        match self {
            Self::Beat(mut beat) => {
                beat.latency_ms *= factor as f32;
                beat.processing_ms *= factor as f32;
                beat.queue_depth = scale(u64::from(beat.queue_depth) * 4 + 4) as u32;
                Self::Beat(beat)
            }
            Self::Ack(mut ack) => {
                ack.processing_ns = scale(ack.processing_ns);
                if ack.ready_ns > 0 {
                    let took = ack.ready_ns.saturating_sub(ack.received_ns);
                    ack.ready_ns = ack.received_ns.saturating_add(scale(took));
                }
                ack.queue_depth = scale(u64::from(ack.queue_depth) * 4 + 4) as u32;
                Self::Ack(ack)
            }
        }
    }
}

impl Crowd {
    /// An agent says something at true time `now`; it is written when its link has carried it.
    pub(super) fn send(&mut self, at: usize, letter: Letter, now: Time) {
        let member = &mut self.members[at];
        let letter = match member.manners.lie {
            1.0 => letter,
            factor => letter.bent(factor),
        };
        let up = self.fleet.sample_up(member.index, now, &mut member.rng);
        if up == 0 {
            self.ready.push((at as u32, letter));
            return;
        }
        let number = self.letters.put((at as u32, letter));
        if self.wheel.insert(now + up, 0, Item::Leaves(number)).is_err() {
            self.truth.count("overflows", 1);
            let letter = self.letters.take(number);
            self.ready.push(letter);
        }
    }

    /// Writes the registration of a connection's agents.
    pub(super) fn register(&mut self, place: usize, now: Time, epoch: u64) {
        let (first, count) = self.carried[place];
        let agents = (first..first + count).map(|at| self.record(at as usize)).collect();
        let message = AgentRegistration { agents, ..AgentRegistration::default() };
        self.sequence += 1;
        let mut bytes = Vec::new();
        if frame::append(&mut bytes, &message, self.sequence, epoch).is_err() {
            // Only payloads of gigabytes do not fit.
            self.truth.count("unwritten", 1);
            return;
        }
        self.registered_at[place] = now;
        self.registrations.push_back((place as u32, bytes));
    }

    fn record(&self, at: usize) -> AgentRecord {
        let index = self.members[at].index;
        let mut rng = Rng::of(self.config.seed ^ 0xCAB, u64::from(index));
        let able = self.config.capabilities.iter().filter(|one| rng.chance(one.share));
        AgentRecord {
            capabilities: able.map(|one| Text::from(one.name.as_str())).collect(),
            agent_id: self.fleet.id(index),
            public_key: self.public_key(index),
            class: self.fleet.class(index).code(),
            ..AgentRecord::default()
        }
    }

    /// Writes what is ready into the connections' outboxes. What finds no room waits for the next
    /// turn.
    pub(super) fn leave<M: Memory>(&mut self, memory: &mut M, epoch: u64) {
        while let Some((place, bytes)) = self.registrations.pop_front() {
            if !self.append(place as usize, &bytes, memory) {
                self.registrations.push_front((place, bytes));
                self.truth.count("stalls", 1);
                return;
            }
        }
        let mut ready = core::mem::take(&mut self.ready);
        let mut frame = Aligned([0; LETTER_MAX]);
        let mut written = 0;
        for (at, letter) in &ready {
            self.sequence += 1;
            let id = self.sequence;
            let len = match letter {
                Letter::Beat(beat) => frame::write(&mut frame.0, beat, id, epoch),
                Letter::Ack(ack) => {
                    let index = self.members[*at as usize].index;
                    frame::write(&mut frame.0, &self.signed(index, ack.payload()), id, epoch)
                }
            };
            let place = self.members[*at as usize].conn as usize;
            match len.ok().and_then(|len| frame.0.get(..len)) {
                Some(bytes) if !self.append(place, bytes, memory) => {
                    self.truth.count("stalls", 1);
                    break;
                }
                Some(_) => {}
                None => self.truth.count("unwritten", 1),
            }
            written += 1;
        }
        ready.drain(..written);
        self.ready = ready;
    }

    /// Queues bytes for a connection; those for one that is gone are lost. False, and nothing is
    /// queued, where there is no room.
    fn append<M: Memory>(&mut self, place: usize, bytes: &[u8], memory: &mut M) -> bool {
        let conn = &mut self.conns[place];
        if conn.state != State::Open {
            self.truth.count("unsent", 1);
            return true;
        }
        let chunk_len = memory.geometry().chunk_len as usize;
        if self.pool.free() < bytes.len().div_ceil(chunk_len) {
            return false;
        }
        for piece in bytes.chunks(chunk_len) {
            let Some((chunk, from)) = conn.outbox.append(&mut self.pool, piece.len() as u32) else {
                unreachable!("there are as many free chunks as pieces");
            };
            let from = from as usize;
            memory.chunk_mut(chunk)[from..from + piece.len()].copy_from_slice(piece);
        }
        self.touch(place);
        true
    }

    /// Notes that a connection may have something to send.
    pub(super) fn touch(&mut self, place: usize) {
        let conn = &mut self.conns[place];
        if !conn.dirty && !conn.sending && !conn.outbox.is_empty() {
            conn.dirty = true;
            self.dirty.push(place as u32);
        }
    }

    /// Orders a transmit for every connection that has something to send and none under way, and
    /// the end of those that are given up.
    pub(super) fn transmit<D: Driver>(&mut self, driver: &mut D) {
        for place in self.dirty.drain(..) {
            let conn = &mut self.conns[place as usize];
            conn.dirty = false;
            let (State::Open, Some(id)) = (conn.state, conn.id) else { continue };
            let (segments, count): ([Segment; _], _) = conn.outbox.front();
            conn.sending = true;
            driver.transmit(id, &segments[..count]);
        }
        for place in self.closing.drain(..) {
            if let Some(id) = self.conns[place as usize].id {
                driver.close(id);
            }
        }
    }
}
