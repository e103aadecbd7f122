//! The sending half of a connection.

use crate::{ClientError, stream::Stream};
use std::{
    io::{self, IoSlice},
    net::Shutdown,
    time::{Duration, SystemTime},
};
use wire::{Compression, ErrorCode, Header, Kind, payload::QueryRequest, request};
use zerocopy::IntoBytes;

/// Sends frames. One per connection, so that its message ids are unique on it.
#[derive(Debug)]
pub struct Sender {
    stream: Stream,
    timeout: Option<Duration>,
    next_id: u64,
    /// What follows the rows of a request, kept for its memory.
    tail: Vec<u8>,
}

impl Sender {
    pub(crate) const fn new(stream: Stream, timeout: Option<Duration>) -> Self {
        Self { stream, timeout, next_id: 1, tail: Vec::new() }
    }

    /// Sends one frame of a kind with this payload and returns its message id. Does not wait for
    /// the answer.
    ///
    /// # Errors
    /// [`ClientError::Io`] or [`ClientError::Timeout`]; part of the frame may have left, so the
    /// connection is of no more use.
    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<u64, ClientError> {
        self.send_as(kind, Compression::None, payload)
    }

    /// As [`Self::send`], with a payload that is compressed already.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_as(
        &mut self,
        kind: Kind,
        compression: Compression,
        payload: &[u8],
    ) -> Result<u64, ClientError> {
        let id = self.take_id();
        let header =
            Header::for_payload(kind, id, epoch_ns(), payload).with_compression(compression);
        self.write(&mut [IoSlice::new(header.as_bytes()), IoSlice::new(payload)])?;
        Ok(id)
    }

    /// Sends a QUERY_REQUEST about these rows, which are not copied, and returns its message id.
    /// `request.data` is set here, the rest is the caller's.
    ///
    /// # Errors
    /// As [`Self::send`]; [`ClientError::Request`] for rows of 2 GiB and more, when nothing was
    /// sent.
    pub fn send_request(
        &mut self,
        request: &mut QueryRequest,
        rows: &[u8],
    ) -> Result<u64, ClientError> {
        let id = self.take_id();
        let mut tail = std::mem::take(&mut self.tail);
        let header = request::around(rows, request, id, epoch_ns(), &mut tail)
            .map_err(|_| ClientError::Request(ErrorCode::PayloadTooLong));
        let sent = header.and_then(|header| {
            let parts = [header.as_bytes(), rows, &tail];
            self.write(&mut parts.map(IoSlice::new))
        });
        self.tail = tail;
        sent.map(|()| id)
    }

    /// Sends bytes as they are: whole frames made elsewhere, with ids from [`Self::take_id`], or
    /// deliberate nonsense.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.write(&mut [IoSlice::new(bytes)])
    }

    /// A message id that this connection has not used yet.
    pub const fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Says that nothing more will be sent. Answers still come.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn finish(&mut self) -> Result<(), ClientError> {
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|source| ClientError::Io { doing: "ending the sending side", source })
    }

    fn write(&mut self, parts: &mut [IoSlice<'_>]) -> Result<(), ClientError> {
        self.stream.write_parts(parts).map_err(|source| match (source.kind(), self.timeout) {
            (io::ErrorKind::WouldBlock, Some(after)) => ClientError::Timeout { after },
            _ => ClientError::Io { doing: "sending a frame", source },
        })
    }
}

/// Nanoseconds since the Unix epoch, 0 on a clock set before it.
pub(crate) fn epoch_ns() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
