//! What a dishonest agent makes of the messages that its core wants to send.

use super::{fault::Kind, parts::Up};
use fleet::{Rng, SECOND};
use wire::mesh::Trinary;

/// Ways to lie, each a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Lie {
    Early = 1,
    Late = 2,
    Work = 4,
    Load = 8,
    Time = 16,
    Twice = 32,
    ForOthers = 64,
    AsBefore = 128,
    Nothing = 256,
    Colludes = 512,
}

/// Which lies an agent tells.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lies(u16);

impl Lies {
    pub(super) const fn none(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn has(self, lie: Lie) -> bool {
        self.0 & lie as u16 != 0
    }

    pub(super) const fn add(&mut self, lie: Lie) {
        self.0 |= lie as u16;
    }

    /// Whether its answers still say what it did.
    pub(super) const fn honest(self) -> bool {
        self.0 & !(Lie::Twice as u16) == 0
    }

    /// Whether the node may take it for gone: its heartbeats are of an earlier life, or say so.
    pub(super) const fn lets_go(self) -> bool {
        self.has(Lie::AsBefore) || self.has(Lie::Load)
    }

    /// What is sent in place of `what`: itself, changed, and more.
    pub(super) fn tell(self, mut what: Up, others: u32, rng: &mut Rng, said: &mut Vec<Up>) {
        match &mut what {
            Up::Ack(ack) => {
                if self.has(Lie::Early) || self.has(Lie::Colludes) {
                    ack.ready_ns = ack.received_ns;
                    ack.processing_ns = 0;
                    ack.acted_ns = ack.target_own_ns;
                }
                if self.has(Lie::Late) {
                    ack.ready_ns = ack.ready_ns.saturating_add(3 * SECOND);
                    ack.acted_ns = ack.ready_ns;
                }
                if self.has(Lie::Work) {
                    ack.processing_ns = absurd(rng);
                }
                if self.has(Lie::Time) {
                    (ack.received_ns, ack.sent_ns) = (absurd(rng), absurd(rng));
                    (ack.ready_ns, ack.target_own_ns) = (absurd(rng), absurd(rng));
                    ack.origin_ns = absurd(rng);
                    ack.hlc = absurd(rng);
                }
                if self.has(Lie::AsBefore) {
                    ack.generation = ack.generation.wrapping_sub(1);
                }
                if self.has(Lie::ForOthers) {
                    let mut other = *ack;
                    other.handle = rng.below(u64::from(others) + 2) as u32;
                    other.generation = 1 + rng.below(2) as u32;
                    said.push(Up::Ack(other));
                }
                if self.has(Lie::Nothing) {
                    let mut other = *ack;
                    other.message_id[15] ^= 0x55;
                    other.state = Trinary::Ready.code();
                    said.push(Up::Ack(other));
                }
            }
            Up::Beat(beat) => {
                if self.has(Lie::Load) {
                    beat.queue_depth = absurd(rng) as u32;
                    beat.impedance = f32::from_bits(rng.next() as u32);
                    beat.reliability = f32::NAN;
                    beat.drift = f32::NEG_INFINITY;
                    beat.latency_ms = f32::from_bits(rng.next() as u32);
                    beat.processing_ms = -1.0;
                    beat.state = rng.next() as u8;
                }
                if self.has(Lie::Time) {
                    (beat.origin_ns, beat.received_ns) = (absurd(rng), absurd(rng));
                    beat.sent_ns = absurd(rng);
                    beat.hlc = absurd(rng);
                }
                if self.has(Lie::AsBefore) {
                    beat.generation = beat.generation.wrapping_sub(1);
                }
                if self.has(Lie::ForOthers) {
                    let mut other = *beat;
                    other.handle = rng.below(u64::from(others) + 2) as u32;
                    said.push(Up::Beat(other));
                }
            }
            Up::Frame(_) => {}
        }
        said.push(what);
    }
}

/// A number that nobody would state: 0, the largest, or anything.
fn absurd(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX / 2 + 1,
        _ => rng.next(),
    }
}

/// The lie that a fault of this kind makes an agent tell.
pub(super) const fn lie_of(kind: Kind) -> Option<Lie> {
    Some(match kind {
        Kind::ClaimsEarly => Lie::Early,
        Kind::ClaimsLate => Lie::Late,
        Kind::ClaimsWork => Lie::Work,
        Kind::ClaimsLoad => Lie::Load,
        Kind::ClaimsTime => Lie::Time,
        Kind::AnswersTwice => Lie::Twice,
        Kind::AnswersForOthers => Lie::ForOthers,
        Kind::AnswersAsBefore => Lie::AsBefore,
        Kind::AnswersNothing => Lie::Nothing,
        _ => return None,
    })
}
