//! The receiving half of a connection: frames, checked before they are shown.

use crate::{Buffer, ClientError, Refusal, frame, stream::Stream};
use std::{
    io::{self, BufReader, Read},
    time::Duration,
};
use wire::{
    ErrorCode, HEADER_LEN, Header, Kind,
    payload::{self, ErrorReport, Payload, PayloadFault},
    response::{self, Response},
};

/// One received frame. The payload lies in the receiver's buffer, 64-byte aligned, until the next
/// call.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The header, magic, version, kind and length checked.
    pub header: Header,
    /// The message type.
    pub kind: Kind,
    /// The payload, CRC-16 checked.
    pub payload: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The payload as a `T`, its archive and inner CRC-32C checked, read in place.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the node sent a refusal instead; [`ClientError::Protocol`]
    /// for any other kind, and for a payload that is not a `T`.
    pub fn open<T: Payload>(&self) -> Result<&'a rkyv::Archived<T>, ClientError> {
        if let Some(refusal) = self.refusal()? {
            return Err(ClientError::Refused(refusal));
        }
        self.expect::<T>()
    }

    /// The answer to a QUERY_REQUEST, with checked views of its tensors, read in place.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn response(&self) -> Result<Response<'a>, ClientError> {
        if let Some(refusal) = self.refusal()? {
            return Err(ClientError::Refused(refusal));
        }
        self.is(Kind::QueryResponse)?;
        response::read(self.payload).map_err(|fault| self.unreadable(fault))
    }

    /// The refusal that this reply is, if it is one.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] for an ERROR_REPORT that cannot be read.
    pub fn refusal(&self) -> Result<Option<Refusal>, ClientError> {
        if self.kind != Kind::ErrorReport {
            return Ok(None);
        }
        let report = self.expect::<ErrorReport>()?;
        let code = report.code.to_native();
        let code = ErrorCode::from_code(code).ok_or_else(|| {
            ClientError::protocol(format!("a refusal has the unknown code {code}"))
        })?;
        let retry_after = match report.retry_after_ms.to_native() {
            0 => None,
            ms => Some(Duration::from_millis(ms.into())),
        };
        let request = self.header.message_id();
        Ok(Some(Refusal { code, message: report.message.to_string(), retry_after, request }))
    }

    /// `draining` about no message.
    fn asks_to_leave(&self) -> bool {
        self.header.message_id() == 0
            && self.refusal().is_ok_and(|it| it.is_some_and(|it| it.code == ErrorCode::Draining))
    }

    fn expect<T: Payload>(&self) -> Result<&'a rkyv::Archived<T>, ClientError> {
        self.is(T::KIND)?;
        payload::open::<T>(self.payload).map_err(|fault| self.unreadable(fault))
    }

    fn is(&self, kind: Kind) -> Result<(), ClientError> {
        if self.kind == kind {
            return Ok(());
        }
        Err(ClientError::protocol(format!("{} came instead of {kind}", self.kind)))
    }

    fn unreadable(&self, fault: PayloadFault) -> ClientError {
        let id = self.header.message_id();
        ClientError::protocol(format!("the {} to {id} cannot be read: {fault}", self.kind))
    }
}

/// Receives frames. A timeout loses nothing: the next call goes on inside the same frame.
#[derive(Debug)]
pub struct Receiver {
    stream: BufReader<Stream>,
    timeout: Option<Duration>,
    payload_max: u32,
    head: [u8; HEADER_LEN],
    /// Bytes of the current frame that are here, header included.
    have: usize,
    payload: Buffer,
    /// The node has asked this connection to leave.
    leaving: bool,
}

impl Receiver {
    pub(crate) fn new(stream: Stream, timeout: Option<Duration>, payload_max: u32) -> Self {
        Self {
            stream: BufReader::with_capacity(64 * 1024, stream),
            timeout,
            payload_max,
            head: [0; HEADER_LEN],
            have: 0,
            payload: Buffer::new(),
            leaving: false,
        }
    }

    /// Longest silence; `None` waits for ever.
    pub(crate) const fn patience(&self) -> Option<Duration> {
        self.timeout
    }

    /// Changes the longest silence, of both halves: they share a socket.
    pub(crate) fn be_patient(&mut self, timeout: Option<Duration>) -> Result<(), ClientError> {
        if timeout != self.timeout {
            self.stream
                .get_ref()
                .set_timeouts(timeout)
                .map_err(|source| ClientError::Io { doing: "setting a timeout", source })?;
            self.timeout = timeout;
        }
        Ok(())
    }

    /// The node has asked this connection to leave: another process takes new ones. It answers what
    /// is sent here for some seconds more; better to connect anew and close this connection once
    /// nothing is under way. Known only as far as frames were received.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// The next frame, whatever its kind. That the node asks to leave is no frame of its own: see
    /// [`Self::is_leaving`].
    ///
    /// # Errors
    /// [`ClientError::Timeout`] where the node was silent for too long; [`ClientError::Io`], also
    /// at the end of the stream; [`ClientError::Protocol`] for a header, checksum or length that
    /// breaks the format.
    pub fn receive(&mut self) -> Result<Reply<'_>, ClientError> {
        let (header, kind) = loop {
            let (header, kind) = self.frame()?;
            let reply = Reply { header, kind, payload: self.payload.as_slice() };
            if !reply.asks_to_leave() {
                break (header, kind);
            }
            self.leaving = true;
        };
        Ok(Reply { header, kind, payload: self.payload.as_slice() })
    }

    /// Receives one whole frame; its payload lies in the buffer.
    fn frame(&mut self) -> Result<(Header, Kind), ClientError> {
        while self.have < HEADER_LEN {
            let read = self.stream.read(&mut self.head[self.have..]);
            self.took(read)?;
        }
        let (header, kind) = frame::head(&self.head, self.payload_max)?;
        let len = header.payload_len() as usize;
        self.payload.resize(len);
        while self.have < HEADER_LEN + len {
            let read = self.stream.read(&mut self.payload.as_mut_slice()[self.have - HEADER_LEN..]);
            self.took(read)?;
        }
        self.have = 0;
        let payload = self.payload.as_slice();
        frame::body(&header, payload)?;
        Ok((header, kind))
    }

    fn took(&mut self, read: io::Result<usize>) -> Result<(), ClientError> {
        match read {
            Ok(0) => {
                let doing =
                    if self.have == 0 { "waiting for a reply" } else { "receiving a reply" };
                let source =
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the node closed the connection");
                Err(ClientError::Io { doing, source })
            }
            Ok(bytes) => {
                self.have += bytes;
                Ok(())
            }
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(fault) => Err(match (fault.kind(), self.timeout) {
                (io::ErrorKind::WouldBlock, Some(after)) => ClientError::Timeout { after },
                _ => ClientError::Io { doing: "receiving a reply", source: fault },
            }),
        }
    }
}
