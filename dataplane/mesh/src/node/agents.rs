//! Agents: they come, beat, and their connections end.

use super::{Beat, Effects, Mesh, Now, Peer};
use crate::{
    Time,
    class::{base_processing, latency_span},
    clock::OffsetFilter,
    limits::{BEAT_EVERY, LATENCY_MAX, PROCESSING_MAX},
    registry::{AgentRef, Impedance, Link, Newcomer, RefFault, RegisterFault},
};
use wire::{
    ErrorCode, Kind,
    error::Refusal,
    mesh::{AgentClass, AgentState, REGISTRATION_MAX},
    payload::mesh::{AgentRecord, AgentRegistered, AgentRegistration, Place},
};

/// Heartbeats that the node expects, seconds.
const BEAT_S: f32 = (BEAT_EVERY / crate::SECOND) as f32;

impl From<Peer> for Link {
    fn from(peer: Peer) -> Self {
        Self { shard: peer.shard, conn: peer.conn, life: peer.life }
    }
}

/// Milliseconds as somebody states them. None: negative, not a number.
pub(super) fn from_ms(ms: f32, most: Time) -> Option<Time> {
    // Beyond the range of the integer the conversion saturates.
    (ms >= 0.0).then(|| ((f64::from(ms) * 1e6) as Time).min(most))
}

impl Mesh {
    /// Agents announce themselves. Each gets a place or the fault that kept it out; `message_id` is
    /// the frame's.
    pub fn register(
        &mut self,
        now: Now,
        from: Peer,
        message_id: u64,
        registration: &AgentRegistration,
        out: &mut Effects,
    ) {
        let many = registration.agents.len();
        if many == 0 || many > REGISTRATION_MAX {
            self.counters.bad_record += 1;
            let kind = Kind::AgentRegistration.code();
            let refusal = Refusal::new(ErrorCode::BadRequest, kind)
                .over(REGISTRATION_MAX as u64, many as u64);
            self.refuse_with(now, from, message_id, refusal, out);
            return;
        }
        let place = |record| self.place(now, from, record);
        let places = registration.agents.iter().map(place).collect();
        let trust = &self.config.trust;
        let answer = AgentRegistered {
            places,
            node_id: self.config.node_id,
            node_key: trust.key.as_ref().map_or([0; 32], |key| key.public().bytes()),
            signed_acks: trust.signed_acks,
            sent_ns: now.node,
            heartbeat_s: BEAT_S,
            ..AgentRegistered::default()
        };
        self.send(now, from, message_id, &answer, out);
    }

    fn place(&mut self, now: Now, from: Peer, record: &AgentRecord) -> Place {
        match self.admit(now, from, record) {
            Ok(agent) => {
                let seat = self.registry.seat(agent.handle);
                let name = seat.name();
                Place {
                    agent_id: record.agent_id,
                    handle: agent.handle,
                    generation: agent.generation,
                    sector: name.sector,
                    cluster: u16::from(name.cluster),
                    position: u16::from(name.agent),
                    fault: 0,
                }
            }
            Err(code) => {
                *match code {
                    ErrorCode::NameTaken => &mut self.counters.name_taken,
                    ErrorCode::MeshFull => &mut self.counters.mesh_full,
                    _ => &mut self.counters.bad_record,
                } += 1;
                Place { agent_id: record.agent_id, fault: code.code(), ..Place::default() }
            }
        }
    }

    fn admit(&mut self, now: Now, from: Peer, record: &AgentRecord) -> Result<AgentRef, ErrorCode> {
        let class = AgentClass::from_code(record.class).ok_or(ErrorCode::BadRequest)?;
        let key = self.key_of(record)?;
        if let Some(agent) = self.known(from, class, record) {
            self.counters.repeated += 1;
            self.note_key(agent.handle, key, true);
            return Ok(agent);
        }
        let capabilities: Vec<&str> =
            record.capabilities.iter().map(|text| text.as_str()).collect();
        let newcomer = Newcomer {
            id: record.agent_id,
            class,
            link: from.into(),
            capabilities: &capabilities,
            impedance: self.told(class, record),
        };
        let joined = self.registry.register(now.node, &newcomer).map_err(|fault| match fault {
            RegisterFault::NameTaken => ErrorCode::NameTaken,
            RegisterFault::Full | RegisterFault::LinkFull | RegisterFault::CapabilitiesFull => {
                ErrorCode::MeshFull
            }
            RegisterFault::BadRecord => ErrorCode::BadRequest,
        })?;
        let handle = joined.agent.handle;
        // The process may be another one, on another machine: its clock is unknown.
        self.clocks[handle as usize] = OffsetFilter::new();
        if joined.resumed {
            self.counters.resumed += 1;
        } else {
            self.counters.joined += 1;
            self.predictor.join(handle, class);
        }
        self.note_key(handle, key, joined.resumed);
        // Gathers that asked its earlier life hear no more of it.
        for run in &mut self.runs {
            run.targets.lose(handle);
        }
        Ok(joined.agent)
    }

    /// The agent that this record repeats: same id, class and abilities on the same connection,
    /// not offline. Saying it again changes nothing.
    fn known(&self, from: Peer, class: AgentClass, record: &AgentRecord) -> Option<AgentRef> {
        let agent = self.registry.by_id(&record.agent_id)?;
        let handle = agent.handle;
        let same = self.registry.link(handle) == Some(from.into())
            && self.registry.class(handle) == class
            && self.registry.state(handle) != AgentState::Offline
            && self.registry.capability_count(handle) == record.capabilities.len()
            && record.capabilities.iter().all(|text| {
                let known = self.registry.capability(text.as_str());
                known.is_some_and(|known| self.registry.is_capable(handle, known))
            });
        same.then_some(agent)
    }

    /// What an agent says of its speed, or what its class lets one expect.
    fn told(&mut self, class: AgentClass, record: &AgentRecord) -> Impedance {
        let mut told = |ms, most, class| match from_ms(ms, most) {
            Some(0) => class,
            Some(time) => time,
            None => {
                self.counters.bad_numbers += 1;
                class
            }
        };
        // It states one way; the registry keeps round trips.
        let one_way = told(record.latency_ms, LATENCY_MAX / 2, latency_span(class).0);
        Impedance {
            latency: 2 * one_way,
            processing: told(record.processing_ms, PROCESSING_MAX, base_processing(class)),
            queue: 0,
            reliability: 1.0,
            drift: 0.0,
            state: AgentState::Active,
            context: 0,
        }
    }

    /// A heartbeat, which the shard has answered. From the node above it is the answer to ours.
    pub fn heartbeat(
        &mut self,
        now: Now,
        from: Peer,
        arrived: Time,
        beat: &Beat,
        out: &mut Effects,
    ) {
        self.stamp(now, beat.hlc);
        if self.up.as_ref().is_some_and(|up| up.peer == from) {
            self.parent_beat(arrived, beat);
            return;
        }
        if let Some(child) = self.children.at(from) {
            self.child_beat(now, child, arrived, beat);
            return;
        }
        let agent = AgentRef { handle: beat.handle, generation: beat.generation };
        let handle = match self.registry.verify(agent, from.into()) {
            Ok(handle) => handle,
            Err(fault) => {
                *match fault {
                    RefFault::Foreign => &mut self.counters.beats_foreign,
                    RefFault::Unknown | RefFault::Stale | RefFault::Gone => {
                        &mut self.counters.beats_stale
                    }
                } += 1;
                let code = ErrorCode::StaleAgent;
                self.refuse(now, from, Kind::AgentHeartbeat, 0, code, out);
                return;
            }
        };
        self.counters.beats += 1;
        let seen = self.exchange(handle, arrived, beat);
        let odd = self.counters.bad_numbers;
        let impedance = self.impedance(handle, beat, seen);
        // Times that do not fit may be a path's or a clock's fault; such figures are the agent's.
        if self.counters.bad_numbers > odd {
            self.suspect(now, handle);
        }
        // Verified above: it is present and connected.
        let _ = self.registry.heartbeat(now.node, agent, &impedance);
    }

    /// The four timestamps of a beat. Returns the round trip that they show.
    fn exchange(&mut self, handle: u32, arrived: Time, beat: &Beat) -> Option<Time> {
        if beat.origin_ns == 0 {
            return None;
        }
        let (t1, t2, t3, t4) = (beat.origin_ns, beat.received_ns, beat.sent_ns, arrived);
        if !self.clocks[handle as usize].sample(t1, t2, t3, t4) {
            self.counters.bad_times += 1;
            return None;
        }
        let trip = t4.saturating_sub(t1).saturating_sub(t3.saturating_sub(t2));
        let alone = self.surges.is_held(arrived, self.registry.seat(handle).sector());
        self.predictor.observe_rtt(handle, trip / 2, alone);
        Some(trip)
    }

    /// A beat's record, brought into range. Where it says nothing of its delay, what was seen.
    fn impedance(&mut self, handle: u32, beat: &Beat, trip: Option<Time>) -> Impedance {
        let one_way = from_ms(beat.latency_ms, LATENCY_MAX / 2);
        let processing = from_ms(beat.processing_ms, PROCESSING_MAX);
        let state = AgentState::from_code(beat.state);
        let share = (0.0..=1.0).contains(&beat.reliability);
        let sound = share && beat.drift >= 0.0 && beat.impedance >= 0.0;
        if one_way.is_none() || processing.is_none() || state.is_none() || !sound {
            self.counters.bad_numbers += 1;
        }
        let known = self.registry.latency(handle);
        let latency = match one_way {
            Some(one_way) if one_way > 0 => 2 * one_way,
            _ => trip.unwrap_or(known),
        };
        Impedance {
            latency,
            processing: match processing {
                Some(time) if time > 0 => time,
                _ => self.registry.processing(handle),
            },
            queue: beat.queue_depth,
            reliability: beat.reliability,
            drift: beat.drift,
            state: state.unwrap_or(AgentState::Active),
            context: beat.context_hash,
        }
    }

    /// A connection ended: its agents are offline at once, gathers count on them no more, a node
    /// below or above is away.
    pub fn gone(&mut self, now: Now, from: Peer, out: &mut Effects) {
        self.books.forget(from);
        self.chosen.clear();
        self.registry.unlink(now.node, from.into(), &mut self.chosen);
        self.counters.unlinked += self.chosen.len() as u64;
        for run in &mut self.runs {
            for handle in &self.chosen {
                run.targets.lose(*handle);
            }
            run.asker.listens &= run.asker.peer != from;
        }
        if let Some(child) = self.children.at(from) {
            self.lose_child(child);
        }
        if self.up.as_ref().is_some_and(|up| up.peer == from) {
            self.parent_down(now, out);
        }
        self.tend_runs(now, out);
    }
}
