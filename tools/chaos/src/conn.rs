//! One connection of a client: bytes out, frames in, every answer judged and put into the account.

use crate::{
    client::Field,
    ledger::{Account, Ledger, Owner, note},
};
use blast::{
    check::{Checker, Expect, Verdict},
    conn::{Partial, Step},
};
use rustix::{
    fd::OwnedFd,
    io::{Errno, read},
    net::{SendFlags, send},
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use wire::{ErrorCode, Header, frame};
use zerocopy::IntoBytes;

/// Largest payload of an answer.
const PAYLOAD_MAX: u32 = 16 << 20;
/// Bytes that may wait to leave.
const OUT_MAX: usize = 4 << 20;
/// Requests that may wait for their answers.
const PENDING_MAX: usize = 4_096;
/// Between two pings, which show that the connection lives.
const PING_EVERY: Duration = Duration::from_millis(250);
/// Where a header has its message id.
const ID_AT: std::ops::Range<usize> = 8..16;

/// The connection.
#[derive(Debug)]
pub(crate) struct Conn {
    socket: OwnedFd,
    ledger: Ledger,
    checker: Checker,
    partial: Partial,
    buffer: Vec<u8>,
    /// Bytes that wait to leave.
    out: VecDeque<u8>,
    /// Pings on their way, by when they were sent.
    pings: VecDeque<Instant>,
    pinged: Instant,
    /// A ping that was sent at this moment has come back.
    lived: Instant,
    leaving: bool,
    /// Refused as a whole: it will end.
    refused: bool,
}

/// Message ids of pings have the highest bit, which no request has.
const PING: u64 = 1 << 63;

impl Conn {
    /// A connected socket.
    pub(crate) fn new(socket: OwnedFd, client: u16, life: u32, expects: &Arc<[Expect]>) -> Self {
        // A blocking one would hold up the client's plan; where the OS refuses, reads do not block
        // for longer than a poll says.
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        let now = Instant::now();
        Self {
            socket,
            ledger: Ledger::new(client, life),
            checker: Checker::new(Arc::clone(expects), PAYLOAD_MAX),
            partial: Partial::default(),
            buffer: vec![0; 256 << 10],
            out: VecDeque::new(),
            pings: VecDeque::new(),
            pinged: now,
            lived: now,
            leaving: false,
            refused: false,
        }
    }

    /// For polling.
    pub(crate) const fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Bytes wait to leave.
    pub(crate) fn wants_out(&self) -> bool {
        !self.out.is_empty()
    }

    /// Takes another request.
    pub(crate) fn has_room(&self) -> bool {
        !self.refused && self.out.len() < OUT_MAX && self.ledger.pending() < PENDING_MAX
    }

    /// Every request has its outcome.
    pub(crate) fn is_settled(&self) -> bool {
        self.ledger.pending() == 0
    }

    /// The node wants to be rid of it: no new requests here.
    pub(crate) const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Queues a request made from a frame with message id 0.
    pub(crate) fn send(&mut self, frame: &[u8], template: usize, planned: Instant, now: Instant) {
        let id = self.ledger.open(template, planned, now);
        self.out.extend(&frame[..ID_AT.start]);
        self.out.extend(id.to_be_bytes());
        self.out.extend(&frame[ID_AT.end..]);
    }

    /// Sends, receives, judges. False when the connection is over; its requests have their outcome
    /// then.
    pub(crate) fn turn(&mut self, field: &Field, account: &mut Account) -> bool {
        let now = Instant::now();
        if now.saturating_duration_since(self.pinged) >= PING_EVERY && self.wants_answers() {
            self.pinged = now;
            self.pings.push_back(now);
            self.out.extend(frame::ping(PING, 0).as_bytes());
        }
        let alive = self.flush() && self.receive(field, account);
        if !alive {
            account.died += self.ledger.pending() as u64;
            return false;
        }
        self.look_for_lost(field.grace, account)
    }

    fn wants_answers(&self) -> bool {
        self.ledger.pending() > 0 && self.pings.len() < 1_000
    }

    /// What has no outcome for too long is lost where a later ping came back, and its connection is
    /// given up where none did.
    fn look_for_lost(&mut self, grace: Duration, account: &mut Account) -> bool {
        let now = Instant::now();
        let Some(since) = now.checked_sub(grace) else { return true };
        if self.ledger.oldest().is_none_or(|oldest| oldest >= since) {
            return true;
        }
        let proven = self.lived;
        account.lost += self.ledger.drop_older(since.min(proven));
        if self.ledger.oldest().is_some_and(|oldest| oldest < since) {
            account.stalled += 1;
            account.died += self.ledger.pending() as u64;
            return false;
        }
        true
    }

    fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match send(&self.socket, self.out.as_slices().0, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.out.drain(..sent);
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn receive(&mut self, field: &Field, account: &mut Account) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let alive = loop {
            match read(&self.socket, &mut buffer[..]) {
                Ok(0) => break false,
                Ok(len) => {
                    if !self.take(&buffer[..len], field, account) {
                        break false;
                    }
                }
                Err(Errno::AGAIN) => break true,
                Err(Errno::INTR) => {}
                Err(_) => break false,
            }
        };
        self.buffer = buffer;
        alive
    }

    /// False for bytes that are no frames.
    fn take(&mut self, mut bytes: &[u8], field: &Field, account: &mut Account) -> bool {
        let mut partial = std::mem::take(&mut self.partial);
        let sound = loop {
            match partial.step(&mut bytes, PAYLOAD_MAX) {
                Step::Frame(header, payload) => self.judge(&header, payload, field, account),
                Step::Starved => break true,
                Step::Broken => {
                    *account.wrong.entry("header").or_default() += 1;
                    break false;
                }
            }
        };
        self.partial = partial;
        sound
    }

    fn judge(&mut self, header: &Header, payload: &[u8], field: &Field, account: &mut Account) {
        let id = header.message_id();
        if id == PING {
            self.lived = self.pings.pop_front().unwrap_or(self.lived);
            return;
        }
        if id == 0 {
            return self.whole(header, payload, account);
        }
        let now = Instant::now();
        match self.ledger.settle(id) {
            Owner::Settled => account.duplicated += 1,
            Owner::Nobody => account.foreign += 1,
            Owner::Pending(pending) => {
                match self.checker.check(pending.template, header, payload) {
                    Verdict::Good => {
                        pending.answered(account, now);
                        field.line.note(now);
                    }
                    Verdict::Refused(code) => note(&mut account.refused, code),
                    Verdict::Bad(fault) => *account.wrong.entry(fault.name()).or_default() += 1,
                }
            }
        }
    }

    /// A word about the connection as a whole.
    fn whole(&mut self, header: &Header, payload: &[u8], account: &mut Account) {
        match self.checker.refusal(header, payload) {
            Some(ErrorCode::Draining) => self.leaving = true,
            Some(code) => {
                note(&mut account.turned_away, code);
                self.refused = true;
            }
            None => account.foreign += 1,
        }
    }
}
