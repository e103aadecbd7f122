//! What an order carries of those who gave it.

use rkyv::{Archive, Serialize};

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;

/// One signature of an order, over the order's canonical bytes and the fields before it (SIGN-04).
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct Signature {
    /// First bytes of the SHA-256 of the public key.
    pub key_id: [u8; 8],
    /// Key id of the only node that may obey; zero for every node that trusts the key.
    pub audience: [u8; 8],
    /// Milliseconds since the Unix epoch; one key signs at most one order under each.
    pub stamp_ms: u64,
    /// Ed25519.
    pub signature: [u8; SIGNATURE_LEN],
}

impl Default for Signature {
    fn default() -> Self {
        Self { key_id: [0; 8], audience: [0; 8], stamp_ms: 0, signature: [0; SIGNATURE_LEN] }
    }
}

const _: () = assert!(size_of::<ArchivedSignature>() == 88);
