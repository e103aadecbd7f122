//! Keys, and the two things that they do.

use core::fmt;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use wire::payload::mesh::SIGNATURE_LEN;

/// Names a key where 32 bytes are too many: the first bytes of the SHA-256 of the public key.
pub type KeyId = [u8; 8];

/// The id of no key.
pub const NO_KEY: KeyId = [0; 8];

/// Verifies. One of small order, under which a signature would fit many messages, is never made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    id: KeyId,
}

impl PublicKey {
    /// The key of these bytes. None where they are no point of the curve, or one of small order.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().and_then(Self::of)
    }

    pub(crate) fn of(key: VerifyingKey) -> Option<Self> {
        let digest = Sha256::digest(key.as_bytes());
        let mut id = NO_KEY;
        id.copy_from_slice(&digest[..NO_KEY.len()]);
        (!key.is_weak()).then_some(Self { key, id })
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    pub(crate) const fn inner(&self) -> &VerifyingKey {
        &self.key
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Whether this key signed these bytes (SIGN-02). Strict: RFC 8032 without its liberties.
    #[must_use]
    pub fn verify(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = <&[u8; SIGNATURE_LEN]>::try_from(signature) else { return false };
        self.key.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex(&self.id))
    }
}

/// Signs. Its bytes are wiped from memory when it is dropped, and never shown.
#[derive(Clone)]
pub struct SecretKey {
    key: SigningKey,
    public: PublicKey,
}

impl SecretKey {
    /// The key of a seed. None for the seeds, which nobody has found yet, of weak keys.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        Self::of(SigningKey::from_bytes(seed))
    }

    pub(crate) fn of(key: SigningKey) -> Option<Self> {
        let public = PublicKey::of(key.verifying_key())?;
        Some(Self { key, public })
    }

    pub(crate) const fn inner(&self) -> &SigningKey {
        &self.key
    }

    /// The other half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A signature of these bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.key.sign(bytes).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", hex(&self.public.id))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
