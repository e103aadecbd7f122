//! The frame of a record (RFC 8446, 5.1 and 5.2): five bytes, then what is sealed.
//!
//! ```text
//!   0    1         3        5                                     len-17  len-16       len
//!   +----+---------+--------+-------------------------------------+------+--------------+
//!   | 23 | version | length | plain bytes                         | kind | tag          |
//!   +----+---------+--------+-------------------------------------+------+--------------+
//!     not secret, but sealed  `- secret: the same bytes before and after, in place -'
//! ```

use crate::Fault;

/// Bytes in front of what is sealed.
pub const HEAD: usize = 5;
/// Bytes behind the plain ones in a record without padding: the kind and the tag.
pub const TAIL: usize = 1 + TAG;
/// Plain bytes of a record at most.
pub const PLAIN_MAX: usize = 1 << 14;
/// Longest record that a peer may send: with padding, up to 256 bytes more than the plain ones.
pub const RECORD_MAX: usize = HEAD + PLAIN_MAX + 256;
/// Longest record that is written here.
pub const SEALED_MAX: usize = HEAD + PLAIN_MAX + TAIL;

pub(crate) const TAG: usize = 16;

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// Length of the record that begins here, its head included; `None` while that is not known.
///
/// # Errors
/// What begins here is no sealed record, or a longer one than allowed.
#[inline]
pub fn record_len(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        // The first byte says already what cannot be.
        return if bytes.first().is_some_and(|kind| *kind != DATA) {
            Err(Fault::Unexpected)
        } else {
            Ok(None)
        };
    };
    if head[0] != DATA {
        return Err(Fault::Unexpected);
    }
    let len = HEAD + usize::from(u16::from_be_bytes([head[3], head[4]]));
    match len {
        _ if len > RECORD_MAX => Err(Fault::TooLong),
        _ if len < HEAD + TAIL => Err(Fault::Forged),
        _ => Ok(Some(len)),
    }
}

/// Writes the head of a record of `len` bytes altogether.
#[inline]
pub(crate) fn write_head(record: &mut [u8]) {
    let sealed = (record.len() - HEAD) as u16;
    let [high, low] = sealed.to_be_bytes();
    record[..HEAD].copy_from_slice(&[DATA, 3, 3, high, low]);
}
