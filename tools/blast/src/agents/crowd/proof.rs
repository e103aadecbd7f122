//! Keys of agents and of their node: what is signed, and what is believed.

use super::Crowd;
use mesh::agent::{NodeKey, Order};
use sign::{PublicKey, SecretKey, agents::sign_ack};
use wire::payload::mesh::{Ack, ArchivedAgentRegistered, ArchivedCoordinate};

/// What a thread's agents know of keys.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The node's.
    node: Option<NodeKey>,
    /// The node asked for signed answers.
    asked: bool,
}

impl Known {
    pub(super) fn new(node: Option<PublicKey>) -> Self {
        Self { node: node.map(NodeKey::new), asked: false }
    }
}

impl Crowd {
    /// A message as its agent takes it up: with whether the node signed it, where that matters.
    pub(super) fn read_order(&mut self, message: &ArchivedCoordinate, epoch_ns: u64) -> Order {
        let order = Order::of(message, epoch_ns);
        if !self.config.proof.verify {
            return order;
        }
        let is_verified = self.keys.node.as_mut().is_some_and(|node| node.verify(message));
        Order { is_verified, ..order }
    }

    /// The first answer to a registration says who the node is, unless that was known before. A
    /// node that turns out to be another one is counted, and not believed.
    pub(super) fn meet(&mut self, registered: &ArchivedAgentRegistered) {
        self.keys.asked = registered.signed_acks;
        let told = PublicKey::from_bytes(&registered.node_key);
        match (&self.keys.node, told) {
            (None, Some(key)) => self.keys.node = Some(NodeKey::new(key)),
            (Some(known), told) if told != Some(*known.key()) => self.truth.count("node_keys", 1),
            _ => {}
        }
    }

    /// The key of an agent, the same in every run of a seed: for measuring, not for keeping out.
    fn key_of(&self, index: u32) -> Option<SecretKey> {
        let mut seed = [0x42; 32];
        seed[..8].copy_from_slice(&self.config.seed.to_be_bytes());
        seed[8..12].copy_from_slice(&index.to_be_bytes());
        self.config.proof.sign.then(|| SecretKey::from_seed(&seed)).flatten()
    }

    /// What an agent registers with.
    pub(super) fn public_key(&self, index: u32) -> [u8; 32] {
        self.key_of(index).map_or([0; 32], |key| key.public().bytes())
    }

    /// An answer as it leaves.
    pub(super) fn signed(&self, index: u32, mut ack: Ack) -> Ack {
        if self.keys.asked
            && let Some(key) = self.key_of(index)
        {
            sign_ack(&mut ack, &key);
        }
        ack
    }
}
