//! Frames in: checked, decoded, handed to the call that takes them; what nobody can use is counted
//! and answered, within bounds.

use super::{AckView, Beat, Effect, Effects, Mesh, Now, Peer, Source};
use crate::{SECOND, Time, gather};
use std::collections::BTreeMap;
use wire::{
    ErrorCode, Kind, PayloadFault,
    error::{Refusal, sentence},
    mesh::Scope,
    payload::{
        self, Text,
        mesh::{
            Ack, AgentHeartbeat, AgentRecord, AgentRegistration, ArchivedAgentHeartbeat,
            ArchivedAgentRegistration, Circuit, Freeze, Gather, GatherReport, MeshQuery,
            MeshSummary, NodeJoin,
        },
    },
};

/// Refusals that one connection is told of in a second.
const REFUSALS_PER_SECOND: u32 = 8;
/// Frames that nobody can use after which a connection is closed: it floods, or never learns.
const FAULTS_MAX: u32 = 1_000;
/// Connections about which something is remembered. Beyond, faults are only counted.
const BOOKS_MAX: usize = 65_536;

/// What is remembered about connections that sent something unusable.
#[derive(Debug, Default)]
pub(super) struct Books {
    all: BTreeMap<Peer, Book>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Book {
    faults: u32,
    second: u64,
    told: u32,
}

/// What to do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Tell,
    Close,
    Nothing,
}

impl Books {
    fn fault(&mut self, now: Time, peer: Peer) -> Answer {
        if self.all.len() >= BOOKS_MAX && !self.all.contains_key(&peer) {
            return Answer::Nothing;
        }
        let book = self.all.entry(peer).or_default();
        book.faults = book.faults.saturating_add(1);
        if book.faults > FAULTS_MAX {
            // Once: what still comes afterwards was on its way.
            return if book.faults == FAULTS_MAX + 1 { Answer::Close } else { Answer::Nothing };
        }
        let second = now / SECOND;
        if book.second != second {
            (book.second, book.told) = (second, 0);
        }
        book.told += 1;
        if book.told <= REFUSALS_PER_SECOND { Answer::Tell } else { Answer::Nothing }
    }

    pub(super) fn forget(&mut self, peer: Peer) {
        self.all.remove(&peer);
    }
}

/// Bytes at an address that archives can be read at: those of `payload`, or a copy.
fn aligned<'a>(payload: &'a [u8], copy: &'a mut Vec<u8>) -> &'a [u8] {
    if payload.as_ptr().addr().is_multiple_of(wire::PAYLOAD_ALIGN) {
        return payload;
    }
    copy.resize(payload.len() + wire::PAYLOAD_ALIGN, 0);
    let start = copy.as_ptr().align_offset(wire::PAYLOAD_ALIGN).min(wire::PAYLOAD_ALIGN);
    let Some(room) = copy.get_mut(start..start + payload.len()) else { return payload };
    room.copy_from_slice(payload);
    room
}

impl Mesh {
    /// A whole frame of the mesh that came, as the shard copied it up; `arrived` is when the shard
    /// read it, node time.
    #[expect(clippy::too_many_arguments, reason = "one frame, with where and when it came")]
    pub fn frame(
        &mut self,
        now: Now,
        from: impl Into<Source>,
        arrived: Time,
        kind: Kind,
        message_id: u64,
        payload: &[u8],
        out: &mut Effects,
    ) {
        let source = from.into();
        let from = source.peer;
        let mut copy = Vec::new();
        let payload = aligned(payload, &mut copy);
        // What lies in the future has not come: a driver's clock is not trusted either.
        let arrived = arrived.min(now.node);
        let taken = match kind {
            Kind::AgentHeartbeat => payload::open::<AgentHeartbeat>(payload)
                .map(|beat| self.heartbeat(now, from, arrived, &decode_beat(beat), out)),
            Kind::Ack => payload::open::<Ack>(payload).map(|ack| {
                if self.is_vouched(now, from, ack) {
                    self.ack(now, from, arrived, &AckView::from(ack), out);
                }
            }),
            Kind::AgentRegistration => payload::open::<AgentRegistration>(payload)
                .map(|it| self.register_archived(now, from, message_id, it, out)),
            Kind::Gather => payload::open::<Gather>(payload).map(|ask| {
                self.gather_order(now, source, message_id, &gather::ask::decode(ask), out)
            }),
            Kind::GatherReport => payload::open::<GatherReport>(payload).map(|report| {
                self.child_report(now, from, message_id, gather::kids::decode(report), out);
            }),
            Kind::Circuit => payload::open::<Circuit>(payload)
                .map(|order| self.circuit_order(now, source, &super::read_circuit(order), out)),
            Kind::Freeze => payload::open::<Freeze>(payload)
                .map(|order| self.freeze_order(now, source, &super::read_freeze(order), out)),
            Kind::MeshQuery => payload::open::<MeshQuery>(payload)
                .map(|query| self.query(now, from, message_id, query, out)),
            Kind::NodeJoin => payload::open::<NodeJoin>(payload)
                .map(|join| self.node_join(now, from, arrived, message_id, join, out)),
            Kind::MeshSummary => payload::open::<MeshSummary>(payload)
                .map(|summary| self.child_summary(now, from, summary, out)),
            _ => {
                self.counters.unserved += 1;
                self.refuse(now, from, kind, message_id, ErrorCode::UnservedType, out);
                Ok(())
            }
        };
        if let Err(fault) = taken {
            self.bad_frame(now, from, kind, message_id, fault, out);
        }
    }

    fn gather_order(
        &mut self,
        now: Now,
        from: Source,
        message_id: u64,
        ask: &Gather,
        out: &mut Effects,
    ) {
        match self.authorise(now, from, ask, false, Kind::Gather) {
            Ok(()) => self.gather(now, from.peer, message_id, ask, out),
            Err(refusal) => self.refuse_with(now, from.peer, message_id, refusal, out),
        }
    }

    fn circuit_order(&mut self, now: Now, from: Source, order: &Circuit, out: &mut Effects) {
        let is_wide = order.scope == Scope::Global.code();
        match self.authorise(now, from, order, is_wide, Kind::Circuit) {
            Ok(()) => self.circuit(now, from.peer, order, out),
            Err(refusal) => self.refuse_with(now, from.peer, 0, refusal, out),
        }
    }

    fn freeze_order(&mut self, now: Now, from: Source, order: &Freeze, out: &mut Effects) {
        let is_wide = order.scope == Scope::Global.code();
        match self.authorise(now, from, order, is_wide, Kind::Freeze) {
            Ok(()) => self.freeze(now, from.peer, order, out),
            Err(refusal) => self.refuse_with(now, from.peer, 0, refusal, out),
        }
    }

    fn bad_frame(
        &mut self,
        now: Now,
        from: Peer,
        kind: Kind,
        message_id: u64,
        fault: PayloadFault,
        out: &mut Effects,
    ) {
        self.counters.bad_frames += 1;
        self.refuse(now, from, kind, message_id, fault.code(), out);
    }

    /// Tells a connection what was wrong, unless it has been told often enough; closes it where it
    /// does not stop.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        to: Peer,
        kind: Kind,
        message_id: u64,
        code: ErrorCode,
        out: &mut Effects,
    ) {
        self.refuse_with(now, to, message_id, Refusal::new(code, kind.code()), out);
    }

    pub(super) fn refuse_with(
        &mut self,
        now: Now,
        to: Peer,
        message_id: u64,
        refusal: Refusal,
        out: &mut Effects,
    ) {
        match self.books.fault(now.node, to) {
            Answer::Tell => {
                let report = payload::ErrorReport {
                    limit: refusal.limit,
                    actual: refusal.actual,
                    message: Text::literal(sentence(refusal.code)),
                    retry_after_ms: refusal.retry_after_ms,
                    code: refusal.code.code(),
                    offending_kind: refusal.offending_kind,
                    ..payload::ErrorReport::default()
                };
                self.send(now, to, message_id, &report, out);
            }
            Answer::Close => {
                self.counters.closed += 1;
                out.push(Effect::Close { peer: to });
            }
            Answer::Nothing => self.counters.unsaid += 1,
        }
    }

    fn register_archived(
        &mut self,
        now: Now,
        from: Peer,
        message_id: u64,
        registration: &ArchivedAgentRegistration,
        out: &mut Effects,
    ) {
        // One more than the limit: enough to see that it was passed.
        let most = wire::mesh::REGISTRATION_MAX + 1;
        let record = |record: &payload::mesh::ArchivedAgentRecord| AgentRecord {
            capabilities: {
                let most = wire::mesh::CAPABILITIES_MAX + 1;
                record.capabilities.iter().take(most).map(|text| (&**text).into()).collect()
            },
            agent_id: record.agent_id,
            public_key: record.public_key,
            latency_ms: record.latency_ms.to_native(),
            processing_ms: record.processing_ms.to_native(),
            class: record.class,
            ..AgentRecord::default()
        };
        let agents = registration.agents.iter().take(most).map(record).collect();
        let registration = AgentRegistration { agents, ..AgentRegistration::default() };
        self.register(now, from, message_id, &registration, out);
    }
}

fn decode_beat(beat: &ArchivedAgentHeartbeat) -> Beat {
    Beat {
        handle: beat.handle.to_native(),
        generation: beat.generation.to_native(),
        hlc: beat.hlc.to_native(),
        origin_ns: beat.origin_ns.to_native(),
        received_ns: beat.received_ns.to_native(),
        sent_ns: beat.sent_ns.to_native(),
        context_hash: beat.context_hash.to_native(),
        latency_ms: beat.latency_ms.to_native(),
        processing_ms: beat.processing_ms.to_native(),
        queue_depth: beat.queue_depth.to_native(),
        impedance: beat.impedance.to_native(),
        reliability: beat.reliability.to_native(),
        drift: beat.drift.to_native(),
        state: beat.state,
        ..Beat::default()
    }
}
