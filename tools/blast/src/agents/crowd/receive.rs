//! What comes from the node: places, orders, answers to heartbeats.

use super::{Arrival, Crowd, Item, Life, NOBODY};
use crate::conn::{State, Step};
use dataplane_core::driver::Time;
use wire::{
    ErrorCode, Header, Kind, PAYLOAD_ALIGN,
    check::crc16,
    payload::{
        ErrorReport,
        mesh::{
            AgentHeartbeat, AgentRegistered, ArchivedAgentHeartbeat, ArchivedAgentRegistered,
            Coordinate, Place,
        },
        open,
    },
};

/// Longest payload that is followed: a message of the mesh, or the places of a registration.
const PAYLOAD_MAX: u32 = 64 << 10;
/// Largest handle that is believed: a table of all handles is kept.
const HANDLE_MAX: u32 = 16 << 20;

impl Crowd {
    /// Reads the frames in these bytes. False when the stream cannot be followed any more.
    pub(super) fn receive(&mut self, place: usize, bytes: &[u8], now: Time) -> bool {
        if self.conns[place].state != State::Open {
            return true;
        }
        // Out of its place for the time being, so that a frame that it holds can be read.
        let mut partial = core::mem::take(&mut self.conns[place].partial);
        let mut aligned = core::mem::take(&mut self.aligned);
        let mut rest = bytes;
        let sound = loop {
            match partial.step(&mut rest, PAYLOAD_MAX) {
                Step::Frame(header, payload) => {
                    let payload = if payload.as_ptr().addr().is_multiple_of(PAYLOAD_ALIGN) {
                        payload
                    } else {
                        aligned.resize(payload.len());
                        aligned.as_mut_slice().copy_from_slice(payload);
                        aligned.as_slice()
                    };
                    self.frame(place, &header, payload, now);
                }
                Step::Starved => break true,
                Step::Broken => break false,
            }
        };
        self.conns[place].partial = partial;
        self.aligned = aligned;
        sound
    }

    fn frame(&mut self, place: usize, header: &Header, payload: &[u8], now: Time) {
        if crc16(payload) != header.checksum() {
            self.truth.count("bad_frames", 1);
            return;
        }
        let read = match header.kind() {
            Ok(Kind::Coordinate) => open::<Coordinate>(payload).map(|message| {
                let order = self.read_order(message, header.timestamp_ns());
                self.truth.count("orders", 1);
                match self.member(place, order.handle) {
                    Some(at) => self.travel(at as usize, Arrival::Order(at, order), now),
                    None => self.truth.count("unknown_handles", 1),
                }
            }),
            Ok(Kind::AgentHeartbeat) => open::<AgentHeartbeat>(payload).map(|answer| {
                let answer = beat_of(answer);
                match self.member(place, answer.handle) {
                    Some(at) => self.travel(at as usize, Arrival::Answer(at, answer), now),
                    None => self.truth.count("unknown_handles", 1),
                }
            }),
            Ok(Kind::AgentRegistered) => open::<AgentRegistered>(payload)
                .map(|registered| self.take_places(place, registered, now)),
            Ok(Kind::ErrorReport) => open::<ErrorReport>(payload).map(|report| {
                let code = ErrorCode::from_code(report.code.to_native());
                self.truth.count(code.map_or("unknown_error", ErrorCode::name), 1);
                self.truth.count("error_reports", 1);
                // Without a place, the registration is what was refused.
                self.refuse_rest(place);
            }),
            // CIRCUIT and FREEZE are for nodes: an agent is held back by getting nothing.
            _ => {
                self.truth.count("other_frames", 1);
                return;
            }
        };
        if read.is_err() {
            self.truth.count("bad_frames", 1);
        }
    }

    /// The member with this handle, if it is reached by this connection.
    fn member(&self, place: usize, handle: u32) -> Option<u32> {
        let at = *self.by_handle.get(handle as usize)?;
        let member = self.members.get(at as usize)?;
        (member.conn as usize == place).then_some(at)
    }

    /// A frame for a member, as its link delivers it.
    fn travel(&mut self, at: usize, arrival: Arrival, now: Time) {
        let member = &mut self.members[at];
        let down = self.fleet.sample_down(member.index, now, &mut member.rng);
        if down == 0 {
            self.arrive(arrival, now);
            return;
        }
        let number = self.arrivals.put(arrival);
        if self.wheel.insert(now + down, 0, Item::Arrives(number)).is_err() {
            self.truth.count("overflows", 1);
            let arrival = self.arrivals.take(number);
            self.arrive(arrival, now);
        }
    }

    pub(super) fn arrive(&mut self, arrival: Arrival, now: Time) {
        match arrival {
            Arrival::Order(at, order) => self.order(at as usize, &order, now),
            Arrival::Answer(at, answer) => self.answer(at as usize, &answer, now),
        }
    }

    /// Places for the agents of a connection, in the order of their registration.
    fn take_places(&mut self, place: usize, registered: &ArchivedAgentRegistered, now: Time) {
        self.meet(registered);
        let (first, count) = self.carried[place];
        if registered.places.len() != count as usize {
            self.truth.count("bad_frames", 1);
            self.refuse_rest(place);
            return;
        }
        let seconds = f64::from(registered.heartbeat_s.to_native()).clamp(0.0, 3_600.0);
        let every = (seconds * 1e9) as Time;
        let sent = registered.sent_ns.to_native();
        for (at, place_of) in (first as usize..).zip(registered.places.iter()) {
            let got = Place {
                agent_id: place_of.agent_id,
                handle: place_of.handle.to_native(),
                generation: place_of.generation.to_native(),
                sector: place_of.sector.to_native(),
                cluster: place_of.cluster.to_native(),
                position: place_of.position.to_native(),
                fault: place_of.fault.to_native(),
            };
            self.take_place(at, &got, (self.registered_at[place], now), sent, every);
        }
    }

    fn take_place(
        &mut self,
        at: usize,
        got: &Place,
        (asked, now): (Time, Time),
        sent: Time,
        every: Time,
    ) {
        let member = &mut self.members[at];
        if member.life != Life::Coming {
            self.truth.count("bad_frames", 1);
            return;
        }
        let index = member.index;
        if got.fault != 0 || got.handle >= HANDLE_MAX || got.agent_id != self.fleet.id(index) {
            let code = ErrorCode::from_code(got.fault);
            self.truth.count(code.map_or("bad_places", ErrorCode::name), 1);
            self.truth.count("agents_refused", 1);
            self.depart(at);
            return;
        }
        // The registration left the agent `up` before it was written, and the answer comes `down`
        // after it was read.
        let up = self.fleet.sample_up(index, asked, &mut member.rng);
        let down = self.fleet.sample_down(index, now, &mut member.rng);
        let asked = self.fleet.clock(index, asked.saturating_sub(up));
        let own = self.fleet.clock(index, now + down);
        member.agent.registered(asked, own, got, sent, every);
        if self.schedule.is_some() {
            member.agent.beat_by_hand();
        }
        member.life = Life::Here;
        let handle = got.handle as usize;
        if handle >= self.by_handle.len() {
            self.by_handle.resize(handle + 1, NOBODY);
        }
        self.by_handle[handle] = at as u32;
        self.here += 1;
        self.settled += 1;
        self.truth.count("agents_registered", 1);
        self.rearm(at);
    }

    /// Agents of the connection that have no place will get none.
    fn refuse_rest(&mut self, place: usize) {
        let (first, count) = self.carried[place];
        for at in first as usize..(first + count) as usize {
            if self.members[at].life == Life::Coming {
                self.truth.count("agents_refused", 1);
                self.depart(at);
            }
        }
    }
}

fn beat_of(beat: &ArchivedAgentHeartbeat) -> AgentHeartbeat {
    AgentHeartbeat {
        handle: beat.handle.to_native(),
        generation: beat.generation.to_native(),
        hlc: beat.hlc.to_native(),
        origin_ns: beat.origin_ns.to_native(),
        received_ns: beat.received_ns.to_native(),
        sent_ns: beat.sent_ns.to_native(),
        ..AgentHeartbeat::default()
    }
}
