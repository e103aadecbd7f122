//! A connection after its handshake: records opened and sealed in place, keys replaced in time.

use crate::{
    Fault, Identity,
    key::Key,
    record::{ALERT, DATA, HANDSHAKE, HEAD, TAIL},
};
use rustls::{
    kernel::KernelConnection,
    server::{ServerConnectionData, UnbufferedServerConnection},
};
use std::{fmt, ops::Range};

/// Records without data that may follow one another: new keys, empty records, warnings.
pub const QUIET_MAX: u8 = 32;
/// Room for all that can be owed at once: a new key and an alert.
pub const OWED_MAX: usize = (HEAD + KEY_UPDATE.len() + TAIL) + (HEAD + 2 + TAIL);
/// How many times over its limit a key may be used, while its replacement is on its way.
const OVERDUE: u64 = 4;

const CLOSE_NOTIFY: u8 = 0;
const ACCESS_DENIED: u8 = 49;
const USER_CANCELED: u8 = 90;
/// A message that replaces the sender's key; the last byte asks the other side to do the same.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// What a record was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Data: these bytes of the record. Never empty.
    Data(Range<usize>),
    /// Nothing for the reader. Something may be owed to the peer now.
    Nothing,
    /// The peer will send nothing more, and said so.
    Closed,
}

/// The server's side of a connection.
pub struct Session {
    kernel: KernelConnection<ServerConnectionData>,
    rx: Key,
    tx: Key,
    /// Records after which a key is replaced.
    limit: u64,
    peer: Identity,
    /// Records without data since the last with some.
    quiet: u8,
    /// The peer was asked for a new key and has not sent one.
    asked: bool,
    /// A new key is owed; true where the peer is to send one too.
    update: Option<bool>,
    /// An alert is owed, after which nothing may be sent.
    alert: Option<u8>,
    ended: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(
        connection: UnbufferedServerConnection,
        peer: Identity,
        limit: u64,
    ) -> Result<Self, Fault> {
        let (secrets, kernel) =
            connection.dangerous_into_kernel_connection().map_err(Fault::Handshake)?;
        Ok(Self {
            kernel,
            rx: Key::new(secrets.rx)?,
            tx: Key::new(secrets.tx)?,
            limit,
            peer,
            quiet: 0,
            asked: false,
            update: None,
            alert: None,
            ended: false,
        })
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Identity {
        &self.peer
    }

    /// Opens a whole record (see [`record_len`](crate::record_len)) where it lies.
    ///
    /// # Errors
    /// The connection is of no more use; an alert may be owed to the peer.
    #[inline]
    pub fn open(&mut self, record: &mut [u8]) -> Result<Opened, Fault> {
        let opened = self.open_inner(record);
        if let Err(fault) = &opened {
            self.fail(fault);
        }
        opened
    }

    /// Ends the connection for this reason: owes the peer the alert for it, if there is one.
    #[cold]
    pub fn fail(&mut self, fault: &Fault) {
        self.alert = self.alert.or_else(|| fault.alert());
    }

    #[inline]
    fn open_inner(&mut self, record: &mut [u8]) -> Result<Opened, Fault> {
        if self.rx.records() >= self.limit {
            self.renew_rx()?;
        }
        let (kind, len) = self.rx.open(record)?;
        if kind == DATA && len > 0 {
            self.quiet = 0;
            return Ok(Opened::Data(HEAD..HEAD + len));
        }
        self.quiet += 1;
        if self.quiet > QUIET_MAX {
            return Err(Fault::Flood);
        }
        let message = record.get(HEAD..HEAD + len).unwrap_or_default();
        match kind {
            DATA => Ok(Opened::Nothing),
            ALERT => alert(message),
            HANDSHAKE => self.key_update(message),
            _ => Err(Fault::Unexpected),
        }
    }

    /// The peer's key has done enough: ask for another, and insist.
    #[cold]
    fn renew_rx(&mut self) -> Result<(), Fault> {
        if self.rx.records() >= self.limit.saturating_mul(OVERDUE) {
            return Err(Fault::Worn);
        }
        if !self.asked {
            self.asked = true;
            self.update = Some(true);
        }
        Ok(())
    }

    /// The only message that may still come: a new key of the peer's. A server's tickets, a second
    /// handshake and late certificates are none of a client's business.
    #[cold]
    fn key_update(&mut self, message: &[u8]) -> Result<Opened, Fault> {
        let asks = match message.split_last() {
            Some((asks @ (0 | 1), start)) if start == &KEY_UPDATE[..4] => *asks == 1,
            Some((_, start)) if start == &KEY_UPDATE[..4] => return Err(Fault::Malformed),
            _ => return Err(Fault::Unexpected),
        };
        let secrets = self.kernel.update_rx_secret().map_err(Fault::Handshake)?;
        self.rx = Key::new(secrets)?;
        self.asked = false;
        if asks && self.update.is_none() {
            self.update = Some(false);
        }
        Ok(Opened::Nothing)
    }

    /// True where something is owed to the peer: see [`Self::write_owed`].
    #[inline]
    #[must_use]
    pub const fn owes(&self) -> bool {
        !self.ended
            && (self.update.is_some() || self.alert.is_some() || self.tx.records() >= self.limit)
    }

    /// Writes what is owed, which goes out before any more data; returns its length, at most
    /// [`OWED_MAX`].
    ///
    /// # Errors
    /// [`Fault::TooLong`] where there is too little room.
    pub fn write_owed(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        if self.ended || !self.owes() {
            return Ok(0);
        }
        let mut written = 0;
        if self.update.is_some() || self.tx.records() >= self.limit {
            let mut message = KEY_UPDATE;
            message[4] = u8::from(self.update.take().unwrap_or(false));
            written += self.write(out, HANDSHAKE, &message)?;
            let secrets = self.kernel.update_tx_secret().map_err(Fault::Handshake)?;
            self.tx = Key::new(secrets)?;
        }
        if let Some(alert) = self.alert.take() {
            // The level means nothing any more; by custom a close is a warning.
            let level = if alert == CLOSE_NOTIFY { 1 } else { 2 };
            let out = out.get_mut(written..).unwrap_or_default();
            written += self.write(out, ALERT, &[level, alert])?;
            self.ended = true;
        }
        Ok(written)
    }

    fn write(&mut self, out: &mut [u8], kind: u8, message: &[u8]) -> Result<usize, Fault> {
        let len = HEAD + message.len() + TAIL;
        let record = out.get_mut(..len).ok_or(Fault::TooLong)?;
        record[HEAD..HEAD + message.len()].copy_from_slice(message);
        self.tx.seal(record, kind)?;
        Ok(len)
    }

    /// Seals a record where it lies: its data are all bytes but the first [`HEAD`] and the last
    /// [`TAIL`]. What is owed was written before.
    ///
    /// # Errors
    /// After the end, with more than [`PLAIN_MAX`](crate::PLAIN_MAX) bytes, or with a key that is
    /// long overdue because nobody wrote what was owed.
    #[inline]
    pub fn seal(&mut self, record: &mut [u8]) -> Result<(), Fault> {
        if self.ended {
            return Err(Fault::Unexpected);
        }
        if self.tx.records() >= self.limit.saturating_mul(OVERDUE) {
            return Err(Fault::Worn);
        }
        self.tx.seal(record, DATA)
    }

    /// This peer is who it says, and has no business here: owes it the word of that.
    pub const fn refuse(&mut self) {
        if self.alert.is_none() {
            self.alert = Some(ACCESS_DENIED);
        }
    }

    /// Nothing more will be sent: owes the peer the word of it.
    pub const fn close(&mut self) {
        if self.alert.is_none() {
            self.alert = Some(CLOSE_NOTIFY);
        }
    }
}

#[cold]
fn alert(message: &[u8]) -> Result<Opened, Fault> {
    match *message {
        [_, CLOSE_NOTIFY] => Ok(Opened::Closed),
        [_, USER_CANCELED] => Ok(Opened::Nothing),
        [_, other] => Err(Fault::Alert(other)),
        _ => Err(Fault::Malformed),
    }
}
