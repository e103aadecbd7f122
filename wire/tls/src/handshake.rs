//! A server's handshake: rustls, fed one record at a time, so that nothing of what follows the
//! handshake is touched by it.

use crate::{
    Fault, Identity, Session, peer_identity,
    record::{HEAD, RECORD_MAX},
};
use rustls::{
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, InsufficientSizeError},
};
use std::fmt;

/// Bytes of a handshake that may be held at once: a certificate chain over two records.
pub const HANDSHAKE_MAX: usize = 2 * RECORD_MAX;

/// Records of a handshake at most: a client needs four, and each costs a look at all that is held.
pub const HANDSHAKE_RECORDS_MAX: u32 = 64;

/// Kinds of records that a handshake may see: from a change of cipher (a relic) to data.
const KINDS: std::ops::RangeInclusive<u8> = 20..=23;

/// A handshake under way.
pub struct Handshake {
    connection: UnbufferedServerConnection,
    /// What rustls has still to use, and the record that is coming.
    held: Vec<u8>,
    /// Where in `held` that record begins.
    record: usize,
    /// Records so far.
    records: u32,
    out: Vec<u8>,
    complete: bool,
    limit: u64,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("complete", &self.complete).finish_non_exhaustive()
    }
}

impl Handshake {
    pub(crate) fn new(connection: UnbufferedServerConnection, limit: u64) -> Self {
        let (held, out) = (Vec::new(), Vec::new());
        Self { connection, held, record: 0, records: 0, out, complete: false, limit }
    }

    /// Takes bytes of the peer, at most up to the end of the record that completes the handshake.
    /// Returns how many were used; the others are records of the session.
    ///
    /// # Errors
    /// The handshake failed. What there is to send then says why.
    pub fn read(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        while !self.complete {
            let missing = self.missing()?;
            if missing == 0 {
                self.process()?;
                continue;
            }
            let rest = &input[used..];
            let more = &rest[..missing.min(rest.len())];
            if more.is_empty() {
                break;
            }
            self.held.extend_from_slice(more);
            used += more.len();
        }
        Ok(used)
    }

    /// Bytes of the coming record that are not here yet, as far as that is known. None of a head
    /// that cannot be: rustls is to refuse it, with an alert.
    fn missing(&self) -> Result<usize, Fault> {
        let came = &self.held[self.record..];
        let len = match came.first_chunk::<HEAD>() {
            None => HEAD,
            Some(head) => match HEAD + usize::from(u16::from_be_bytes([head[3], head[4]])) {
                len if KINDS.contains(&head[0]) && len <= RECORD_MAX => len,
                _ => return Ok(0),
            },
        };
        if self.record + len > HANDSHAKE_MAX {
            return Err(Fault::HandshakeTooLong);
        }
        Ok(len - came.len())
    }

    /// Lets rustls work on whole records.
    fn process(&mut self) -> Result<(), Fault> {
        self.records += 1;
        if self.records > HANDSHAKE_RECORDS_MAX {
            return Err(Fault::HandshakeTooLong);
        }
        loop {
            let status = self.connection.process_tls_records(&mut self.held);
            let discard = status.discard;
            let (step, failed) = match status.state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    (encode(&mut self.out, |out| data.encode(out)), None)
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => {
                    sent.done();
                    (Step::Again, None)
                }
                Ok(ConnectionState::BlockedHandshake) => (Step::Wait, None),
                Ok(ConnectionState::WriteTraffic(_)) => (Step::Complete, None),
                // Early data was not offered, and what comes after was not shown to it.
                Ok(_) => (Step::Wait, Some(Fault::Unexpected)),
                Err(error) => (Step::Wait, Some(Fault::Handshake(error))),
            };
            self.held.drain(..discard);
            self.record = self.held.len();
            if let Some(fault) = failed {
                self.last_words();
                return Err(fault);
            }
            match step {
                Step::Again => {}
                Step::Wait => return Ok(()),
                Step::Complete => {
                    // A server may write before the client has proven itself; here nobody does.
                    self.complete = !self.connection.is_handshaking();
                    return Ok(());
                }
            }
        }
    }

    /// Fetches the alert that rustls has for a failed handshake, if it has one: only then may it be
    /// called again.
    fn last_words(&mut self) {
        if self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut data)) =
                self.connection.process_tls_records(&mut []).state
        {
            encode(&mut self.out, |out| data.encode(out));
        }
    }

    /// What is to be sent now.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.out
    }

    /// The first `bytes` of it are on their way.
    pub fn sent(&mut self, bytes: usize) {
        self.out.drain(..bytes.min(self.out.len()));
    }

    /// True once both ends have proven themselves. What is to be sent may still be under way.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// The session, with its peer.
    ///
    /// # Errors
    /// The handshake is not complete.
    pub fn finish(self) -> Result<Session, Fault> {
        let peer = self.peer()?;
        Session::new(self.connection, peer, self.limit)
    }

    fn peer(&self) -> Result<Identity, Fault> {
        let chain = self.connection.peer_certificates().unwrap_or_default();
        // The verifier has found an identity in it.
        peer_identity(chain).map_err(|_| Fault::Handshake(rustls::Error::HandshakeNotComplete))
    }
}

enum Step {
    Again,
    Wait,
    Complete,
}

/// Appends what `write` has, which says how much room it needs.
fn encode(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Step {
    let start = out.len();
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        write(&mut [])
    {
        out.resize(start + required_size, 0);
        let written = write(&mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
    Step::Again
}
