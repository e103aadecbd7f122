//! Orders (GATHER, CIRCUIT, FREEZE) and the signatures that they carry.
//!
//! Each signature covers its own header (who, for which node, when), the whole order, and the
//! signatures before it: none can be taken out from under a later one.

use crate::{
    KeyId, SecretKey,
    canonical::{Canonical, Message},
};
use sha2::{Digest, Sha256};
use wire::payload::mesh::{Circuit, Freeze, Gather, Signature};

/// An order with its signatures.
pub trait Order: Message {
    /// They, in the order in which they were given.
    fn signatures(&self) -> &[Signature];

    /// The list, to add to.
    fn signatures_mut(&mut self) -> &mut Vec<Signature>;
}

/// What the signature at this place of the list covers. None where there is no such place.
#[must_use]
pub fn signed_bytes<T: Order>(order: &T, place: usize) -> Option<Canonical> {
    let before = order.signatures().get(..place)?;
    let own = order.signatures().get(place)?;
    let mut out = Canonical::new(T::CONTEXT);
    out.fixed(own.key_id).fixed(own.audience).u64(own.stamp_ms);
    order.fields(&mut out);
    out.u32(before.len() as u32);
    for one in before {
        out.fixed(one.key_id).fixed(one.audience).u64(one.stamp_ms).fixed(one.signature);
    }
    Some(out)
}

/// Adds a signature under this stamp. `audience` is the key id of the only node that may obey, or
/// [`crate::NO_KEY`].
pub fn sign<T: Order>(order: &mut T, key: &SecretKey, audience: KeyId, stamp_ms: u64) {
    let key_id = key.public().id();
    let place = order.signatures().len();
    order.signatures_mut().push(Signature { key_id, audience, stamp_ms, ..Signature::default() });
    if let Some(bytes) = signed_bytes(order, place) {
        order.signatures_mut()[place].signature = key.sign(bytes.as_bytes());
    }
}

/// Names the order without its signatures.
#[must_use]
pub fn digest<T: Order>(order: &T) -> [u8; 32] {
    let mut out = Canonical::new(T::CONTEXT);
    order.fields(&mut out);
    Sha256::digest(out.as_bytes()).into()
}

/// The stamp after `last` at this wall time: time itself, and never one twice. Consoles that share
/// no state share no stamps either, unless they sign within the same millisecond with one key.
#[must_use]
pub const fn next_stamp(last: u64, epoch_ns: u64) -> u64 {
    let now = epoch_ns / 1_000_000;
    if now > last { now } else { last + 1 }
}

macro_rules! order {
    ($($order:ty),+) => {$(
        impl Order for $order {
            fn signatures(&self) -> &[Signature] {
                &self.signatures
            }

            fn signatures_mut(&mut self) -> &mut Vec<Signature> {
                &mut self.signatures
            }
        }
    )+};
}

order!(Gather, Circuit, Freeze);

impl Message for Gather {
    const CONTEXT: &'static str = "butterfly/v1/gather-order";

    fn fields(&self, out: &mut Canonical) {
        out.bytes(&self.payload).u32(self.ids.len() as u32);
        for id in &self.ids {
            out.fixed(*id);
        }
        out.texts(self.requires_capabilities.iter().map(|text| text.as_str()));
        out.bytes(self.capability.as_str().as_bytes());
        for id in [self.message_id, self.correlation_id, self.causation_id, self.source_agent_id] {
            out.fixed(id);
        }
        out.u64(self.hlc).u64(self.at_epoch_ns).u64(self.at_node_ns);
        out.u64(self.window_ns).u64(self.timeout_ns).u32(self.ttl_ms);
        out.f32(self.payload_weight).f32(self.on_time);
        out.f32(self.min_rate).f32(self.max_conflict).f32(self.max_transit);
        out.u16(self.sector).u16(self.cluster);
        out.fixed([self.class, self.select, self.verb, self.priority, self.strategy]);
        out.fixed([u8::from(self.hold), self.phase, u8::from(self.progress)]);
    }
}

impl Message for Circuit {
    const CONTEXT: &'static str = "butterfly/v1/circuit-order";

    fn fields(&self, out: &mut Canonical) {
        out.bytes(self.reason.as_str().as_bytes()).fixed(self.message_id).u64(self.hlc);
        out.u16(self.sector).u16(self.cluster).fixed([self.action, self.scope]);
    }
}

impl Message for Freeze {
    const CONTEXT: &'static str = "butterfly/v1/freeze-order";

    fn fields(&self, out: &mut Canonical) {
        out.bytes(self.preserve_state_to.as_str().as_bytes()).fixed(self.message_id);
        out.u64(self.hlc).u16(self.sector).u16(self.cluster);
        out.fixed([self.scope, u8::from(self.thaw)]);
    }
}
