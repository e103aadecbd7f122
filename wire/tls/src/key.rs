//! One direction of a connection: a key, and the number of the record that comes next.

use crate::{
    Fault,
    record::{HEAD, PLAIN_MAX, TAG, TAIL, write_head},
};
use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use rustls::ConnectionTrafficSecrets as Secrets;

/// A traffic key in use.
///
/// A nonce is the number of the record laid over the key's own random bytes (RFC 8446, 5.3). The
/// number only ever grows, and a key is replaced long before it could run out, so no nonce is used
/// twice with one key.
#[derive(Debug)]
pub(crate) struct Key {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    number: u64,
}

impl Key {
    pub(crate) fn new((number, secrets): (u64, Secrets)) -> Result<Self, Fault> {
        let (algorithm, key, iv) = match &secrets {
            Secrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            Secrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            Secrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Fault::Unexpected),
        };
        Ok(Self {
            key: bind(algorithm, key.as_ref())?,
            iv: iv.as_ref().try_into().map_err(|_| Fault::Unexpected)?,
            number,
        })
    }

    /// Records done with this key.
    #[inline]
    pub(crate) const fn records(&self) -> u64 {
        self.number
    }

    #[inline]
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Opens a whole record in place: its kind, and how many plain bytes there are behind its head.
    #[inline]
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<(u8, usize), Fault> {
        let nonce = self.nonce();
        let (head, sealed) = record.split_at_mut_checked(HEAD).ok_or(Fault::Forged)?;
        let inner =
            self.key.open_in_place(nonce, Aad::from(&*head), sealed).map_err(|_| Fault::Forged)?;
        if inner.len() > PLAIN_MAX + 1 {
            return Err(Fault::TooLong);
        }
        // The kind is the last byte that is not zero; the zeroes behind it are padding.
        let last = inner.iter().rposition(|byte| *byte != 0).ok_or(Fault::Unexpected)?;
        Ok((inner[last], last))
    }

    /// Seals a record in place: its plain bytes lie between `HEAD` and `TAIL`.
    #[inline]
    pub(crate) fn seal(&mut self, record: &mut [u8], kind: u8) -> Result<(), Fault> {
        if record.len() < HEAD + TAIL || record.len() > HEAD + PLAIN_MAX + TAIL {
            return Err(Fault::TooLong);
        }
        write_head(record);
        let nonce = self.nonce();
        let (head, rest) = record.split_at_mut(HEAD);
        let (inner, tag) = rest.split_at_mut(rest.len() - TAG);
        if let Some(last) = inner.last_mut() {
            *last = kind;
        }
        let made = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&*head), inner)
            .map_err(|_| Fault::TooLong)?;
        tag.copy_from_slice(made.as_ref());
        Ok(())
    }
}

fn bind(algorithm: &'static Algorithm, key: &[u8]) -> Result<LessSafeKey, Fault> {
    UnboundKey::new(algorithm, key).map(LessSafeKey::new).map_err(|_| Fault::Unexpected)
}
