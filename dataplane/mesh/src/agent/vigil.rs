//! What an agent that knows its node's key makes sure of before it takes a message up (SIGN-04).

use crate::{SECOND, Time};
use sha2::{Digest, Sha256};
use sign::PublicKey;
use wire::payload::mesh::ArchivedCoordinate;

/// A signed message whose moment is longer past than this is not taken up: it was kept back.
pub(super) const LATE_MOST: Time = 60 * SECOND;

/// Messages that an agent knows by their stamps; older ones than it knows it does not take.
const STAMPS: usize = 32;

/// The node's key, for all agents of a host: a message that comes to many is verified once.
#[derive(Clone, Debug)]
pub struct NodeKey {
    key: PublicKey,
    /// What was verified last, and the signature of it.
    last: Option<(Vec<u8>, Vec<u8>)>,
}

impl NodeKey {
    /// Of this node.
    #[must_use]
    pub const fn new(key: PublicKey) -> Self {
        Self { key, last: None }
    }

    /// Which key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether the node signed this message, and the payload is the one that it signed.
    #[must_use]
    pub fn verify(&mut self, message: &ArchivedCoordinate) -> bool {
        let hash: [u8; 32] = Sha256::digest(message.payload.as_slice()).into();
        if hash != message.payload_hash || message.key_id != self.key.id() {
            return false;
        }
        let text = sign::agents::received_bytes(message);
        let same = |(known, signature): &(Vec<u8>, Vec<u8>)| {
            known == text.as_bytes() && signature == message.signature.as_slice()
        };
        if self.last.as_ref().is_some_and(same) {
            return true;
        }
        let holds = self.key.verify(text.as_bytes(), &message.signature);
        if holds {
            self.last = Some((text.as_bytes().to_vec(), message.signature.to_vec()));
        }
        holds
    }
}

/// The stamps of the messages that one agent took. The node writes none twice, so that a message
/// that comes again is known by it, whatever else about the copy was changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Stamps {
    known: Vec<u64>,
    /// Nothing up to here is taken: it may have been forgotten.
    floor: u64,
}

impl Stamps {
    /// Takes a stamp; false for one that was taken, or may have been.
    pub(super) fn take(&mut self, stamp: u64) -> bool {
        if stamp <= self.floor || self.known.contains(&stamp) {
            return false;
        }
        if self.known.len() == STAMPS {
            let least = (0..STAMPS).min_by_key(|at| self.known[*at]).unwrap_or(0);
            // The smallest of all is forgotten, be it the new one.
            self.floor = self.known[least].min(stamp);
            if stamp == self.floor {
                return true;
            }
            self.known.swap_remove(least);
        }
        self.known.push(stamp);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn no_stamp_is_taken_twice(stamps in vec(1..200_u64, 1..400)) {
            let (mut stamped, mut seen) = (Stamps::default(), BTreeSet::new());
            for stamp in stamps {
                if stamped.take(stamp) {
                    prop_assert!(seen.insert(stamp), "{stamp} twice");
                }
            }
        }
    }

    #[test]
    fn what_comes_in_order_is_taken() {
        let mut stamps = Stamps::default();
        assert!((1..1_000).all(|stamp| stamps.take(2 * stamp)));
        assert!(stamps.take(2 * 999 - 1) && !stamps.take(2), "a little late, and far too late");
    }
}
