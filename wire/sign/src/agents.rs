//! What passes between a node and its agents: COORDINATE by the node's key, ACK by the agent's.

use crate::{
    PublicKey, SecretKey,
    canonical::{Canonical, Message},
};
use wire::payload::mesh::{Ack, ArchivedAck, ArchivedCoordinate, Coordinate};

/// What all copies of a COORDINATE share. `payload` is covered by its hash, which the agent checks
/// (W66); when a copy left, for whom and how long before the moment is not covered: copies differ.
struct Shared<'a> {
    requires: Vec<&'a str>,
    ids: [[u8; 16]; 4],
    payload_hash: [u8; 32],
    key_id: [u8; 8],
    hlc: u64,
    created_ns: u64,
    target_ns: u64,
    ttl_ms: u32,
    weight: f32,
    codes: [u8; 5],
}

impl<'a> From<&'a Coordinate> for Shared<'a> {
    fn from(of: &'a Coordinate) -> Self {
        Self {
            requires: of.requires_capabilities.iter().map(|text| text.as_str()).collect(),
            ids: [of.message_id, of.correlation_id, of.causation_id, of.source_agent_id],
            payload_hash: of.payload_hash,
            key_id: of.key_id,
            hlc: of.hlc,
            created_ns: of.created_ns,
            target_ns: of.target_ns,
            ttl_ms: of.ttl_ms,
            weight: of.payload_weight,
            codes: [of.routing, of.verb, of.priority, of.expectation, u8::from(of.hold)],
        }
    }
}

impl<'a> From<&'a ArchivedCoordinate> for Shared<'a> {
    fn from(of: &'a ArchivedCoordinate) -> Self {
        Self {
            requires: of.requires_capabilities.iter().map(|text| &**text).collect(),
            ids: [of.message_id, of.correlation_id, of.causation_id, of.source_agent_id],
            payload_hash: of.payload_hash,
            key_id: of.key_id,
            hlc: of.hlc.to_native(),
            created_ns: of.created_ns.to_native(),
            target_ns: of.target_ns.to_native(),
            ttl_ms: of.ttl_ms.to_native(),
            weight: of.payload_weight.to_native(),
            codes: [of.routing, of.verb, of.priority, of.expectation, u8::from(of.hold)],
        }
    }
}

impl Message for Shared<'_> {
    const CONTEXT: &'static str = "butterfly/v1/coordinate";

    fn fields(&self, out: &mut Canonical) {
        out.texts(self.requires.iter().copied());
        for id in self.ids {
            out.fixed(id);
        }
        out.fixed(self.payload_hash).fixed(self.key_id);
        out.u64(self.hlc).u64(self.created_ns).u64(self.target_ns);
        out.u32(self.ttl_ms).f32(self.weight).fixed(self.codes);
    }
}

/// What an answer says.
struct Answer<'a> {
    detail: &'a str,
    message_id: [u8; 16],
    place: [u32; 2],
    times: [u64; 9],
    queue: [u32; 2],
    state: u8,
}

impl<'a> From<&'a Ack> for Answer<'a> {
    fn from(of: &'a Ack) -> Self {
        let (ready, acted) = (of.ready_ns, of.acted_ns);
        let (own, work, context) = (of.target_own_ns, of.processing_ns, of.context_hash);
        let (origin, received) = (of.origin_ns, of.received_ns);
        Self {
            detail: of.conflict_detail.as_str(),
            message_id: of.message_id,
            place: [of.handle, of.generation],
            times: [of.hlc, origin, received, ready, acted, of.sent_ns, own, work, context],
            queue: [of.queue_found, of.queue_depth],
            state: of.state,
        }
    }
}

impl<'a> From<&'a ArchivedAck> for Answer<'a> {
    fn from(of: &'a ArchivedAck) -> Self {
        let times = [
            of.hlc,
            of.origin_ns,
            of.received_ns,
            of.ready_ns,
            of.acted_ns,
            of.sent_ns,
            of.target_own_ns,
            of.processing_ns,
            of.context_hash,
        ];
        Self {
            detail: &of.conflict_detail,
            message_id: of.message_id,
            place: [of.handle.to_native(), of.generation.to_native()],
            times: times.map(|time| time.to_native()),
            queue: [of.queue_found.to_native(), of.queue_depth.to_native()],
            state: of.state,
        }
    }
}

impl Message for Answer<'_> {
    const CONTEXT: &'static str = "butterfly/v1/ack";

    fn fields(&self, out: &mut Canonical) {
        out.bytes(self.detail.as_bytes()).fixed(self.message_id);
        out.u32(self.place[0]).u32(self.place[1]);
        for time in self.times {
            out.u64(time);
        }
        out.u32(self.queue[0]).u32(self.queue[1]).fixed([self.state]);
    }
}

fn text<T: Message>(of: &T) -> Canonical {
    let mut out = Canonical::new(T::CONTEXT);
    of.fields(&mut out);
    out
}

/// What the node signs of a COORDINATE (SIGN-04).
#[must_use]
pub fn coordinate_bytes(message: &Coordinate) -> Canonical {
    text(&Shared::from(message))
}

/// The same of a copy that came.
#[must_use]
pub fn received_bytes(message: &ArchivedCoordinate) -> Canonical {
    text(&Shared::from(message))
}

/// What the agent signs of an ACK.
#[must_use]
pub fn ack_bytes(ack: &Ack) -> Canonical {
    text(&Answer::from(ack))
}

/// Signs what the copies of a message share, once for all of them.
pub fn sign_coordinate(message: &mut Coordinate, key: &SecretKey) {
    message.key_id = key.public().id();
    message.signature = key.sign(coordinate_bytes(message).as_bytes()).to_vec();
}

/// Whether this node signed this message.
#[must_use]
pub fn verify_coordinate(message: &ArchivedCoordinate, key: &PublicKey) -> bool {
    let bytes = received_bytes(message);
    message.key_id == key.id() && key.verify(bytes.as_bytes(), &message.signature)
}

/// Signs an answer.
pub fn sign_ack(ack: &mut Ack, key: &SecretKey) {
    ack.signature = key.sign(ack_bytes(ack).as_bytes()).to_vec();
}

/// Whether this agent signed this answer.
#[must_use]
pub fn verify_ack(ack: &ArchivedAck, key: &PublicKey) -> bool {
    key.verify(text(&Answer::from(ack)).as_bytes(), &ack.signature)
}
