//! An answer that is kept.

use crate::{Buffer, ClientError, Reply};
use wire::{Header, Kind, payload::Payload, response::Response};

/// One frame of an answer, with memory of its own. The payload lies 64-byte aligned and is read in
/// place.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The header, checked.
    pub header: Header,
    /// The message type.
    pub kind: Kind,
    /// The payload, CRC-16 checked.
    pub payload: Buffer,
}

impl Answer {
    /// A view of it.
    #[must_use]
    pub fn reply(&self) -> Reply<'_> {
        Reply { header: self.header, kind: self.kind, payload: self.payload.as_slice() }
    }

    /// The answer to a QUERY_REQUEST, with checked views of its tensors.
    ///
    /// # Errors
    /// As [`Reply::response`].
    pub fn response(&self) -> Result<Response<'_>, ClientError> {
        self.reply().response()
    }

    /// The payload as a `T`, checked.
    ///
    /// # Errors
    /// As [`Reply::open`].
    pub fn open<T: Payload>(&self) -> Result<&rkyv::Archived<T>, ClientError> {
        self.reply().open::<T>()
    }
}
