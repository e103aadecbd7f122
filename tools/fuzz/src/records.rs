//! `tls`: a session after a real handshake, and a peer with good keys and bad manners.
//!
//! The input is a list of acts: records that the peer seals as it likes, bytes that nobody sealed,
//! and what the node says meanwhile. Every input has a handshake of its own, so what happens
//! depends on the input alone; keys differ, and nothing may depend on them.

mod peer;

use crate::bytes::Input;
use peer::{Peer, pair};
use std::{collections::VecDeque, mem};
use tls::{Fault, HEAD, OWED_MAX, Opened, PLAIN_MAX, Session, TAIL, record_len};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const NEW_KEY: [u8; 4] = [24, 0, 0, 1];
/// Acts of one input at most: enough to come over every limit.
const ACTS_MAX: usize = 256;

/// A record as the peer sealed it, and what it sealed: a message, its kind, padding.
struct Sealed {
    record: Vec<u8>,
    inner: Vec<u8>,
}

impl Sealed {
    /// What has to be delivered, if this is data of a legal length.
    fn data(&self) -> Option<&[u8]> {
        let last = self.inner.iter().rposition(|byte| *byte != 0)?;
        let is_data = self.inner[last] == DATA && self.inner.len() <= PLAIN_MAX + 1;
        (is_data && last > 0).then(|| &self.inner[..last])
    }
}

/// A session and its peer.
struct Link {
    session: Session,
    peer: Peer,
    /// Bytes at the session that are no whole record yet.
    held: Vec<u8>,
    /// All that was sealed and has not come, the oldest first: the only record that may open.
    sealed: VecDeque<Sealed>,
    /// The node ended it for a reason of its own.
    closed: bool,
    /// Records so far, of both sides: each is a reason to owe one at most.
    reasons: usize,
    owed: usize,
}

/// Records, well and badly made, in any pieces.
pub(crate) fn records(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (session, peer) = pair(input.byte().is_multiple_of(2));
    let (held, sealed) = (Vec::new(), VecDeque::new());
    let mut link = Link { session, peer, held, sealed, closed: false, reasons: 1, owed: 0 };
    for _ in 0..ACTS_MAX {
        if input.is_empty() || !link.act(&mut input) {
            break;
        }
    }
    link.settle();
}

/// What is in a record: some bytes of the input, or one of them many times.
fn text(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        len @ 0..0xF0 => input.take(len.into()).to_vec(),
        fill => vec![fill; input.word() as usize % (PLAIN_MAX + 300)],
    }
}

impl Link {
    /// What happens next; false when the connection is of no more use.
    fn act(&mut self, input: &mut Input<'_>) -> bool {
        let act = input.byte();
        let bytes = match act % 8 {
            0 => input.take(input.clone().byte().into()).to_vec(),
            1 => self.seal(&text(input), DATA, input.byte()),
            2 => self.seal(&text(input), input.byte(), input.byte()),
            3 => self.seal(&[input.byte(), input.byte()], ALERT, 0),
            4 => self.new_key(input.byte() % 2),
            5 => self.seal(&text(input), HANDSHAKE, 0),
            6 => self.spoil(input),
            _ => {
                self.say(input);
                Vec::new()
            }
        };
        let step = 1 + 8 * usize::from(input.byte());
        let goes_on = bytes.chunks(step).all(|piece| self.arrive(piece));
        // A driver writes what is owed soon, if not at once.
        if act < 0xC0 {
            self.settle();
        }
        goes_on
    }

    /// A record as it should be, whatever is in it.
    fn seal(&mut self, message: &[u8], kind: u8, padding: u8) -> Vec<u8> {
        let inner = [message, &[kind], &vec![0; padding.into()]].concat();
        let record = self.peer.seal(&inner);
        self.sealed.push_back(Sealed { record: record.clone(), inner });
        record
    }

    fn new_key(&mut self, asks: u8) -> Vec<u8> {
        let record = self.seal(&[&NEW_KEY[..], &[asks]].concat(), HANDSHAKE, 0);
        self.peer.next_key();
        record
    }

    /// A record changed, cut, repeated or left out.
    fn spoil(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let mut record = self.seal(&text(input), DATA, 0);
        let at = input.word() as usize % record.len();
        match input.byte() % 4 {
            0 => record[at] ^= 1 << (input.byte() % 8),
            1 => record.truncate(at),
            2 => record.extend_from_within(..),
            _ => record.clear(),
        }
        record
    }

    /// The node's own words: an answer, or its end.
    fn say(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            0 => self.session.close(),
            1 => self.session.refuse(),
            _ => return self.answer(&text(input)),
        }
        self.closed = true;
    }

    fn answer(&mut self, text: &[u8]) {
        self.settle();
        self.reasons += 1;
        let mut record = [&[0; HEAD][..], text, &[0; TAIL]].concat();
        match self.session.seal(&mut record) {
            Ok(()) => assert_eq!(self.peer.open(&record), (DATA, text.to_vec())),
            Err(Fault::TooLong) => assert!(text.len() > PLAIN_MAX),
            Err(_) => assert!(self.peer.told().is_some(), "nothing is said after the end"),
        }
    }

    /// Bytes at the session: false when no more may come.
    fn arrive(&mut self, bytes: &[u8]) -> bool {
        self.held.extend_from_slice(bytes);
        loop {
            let len = match record_len(&self.held) {
                Ok(Some(len)) if len <= self.held.len() => len,
                Ok(_) => return true,
                Err(fault) => {
                    self.session.fail(&fault);
                    self.failed(&fault);
                    return false;
                }
            };
            let rest = self.held.split_off(len);
            let record = mem::replace(&mut self.held, rest);
            if !self.open(record) {
                return false;
            }
        }
    }

    fn open(&mut self, mut record: Vec<u8>) -> bool {
        self.reasons += 1;
        let genuine = self.sealed.pop_front().filter(|sealed| sealed.record == record);
        let data = genuine.as_ref().and_then(Sealed::data);
        match self.session.open(&mut record) {
            Ok(opened) => {
                assert!(genuine.is_some(), "what was not sealed like this does not open");
                let given = match &opened {
                    Opened::Data(range) => Some(&record[range.clone()]),
                    Opened::Nothing | Opened::Closed => None,
                };
                assert_eq!(given, data);
                opened != Opened::Closed
            }
            Err(fault) => {
                assert!(data.is_none() || fault == Fault::Worn, "{fault} for good data");
                self.failed(&fault);
                false
            }
        }
    }

    /// The peer is told why, unless it was told something before.
    fn failed(&mut self, fault: &Fault) {
        self.settle();
        assert!(self.closed || self.peer.told() == fault.alert(), "{fault}");
    }

    /// Sends what is owed, all at once, and never more than there were reasons for.
    fn settle(&mut self) {
        let mut out = [0; OWED_MAX];
        let len = self.session.write_owed(&mut out).expect("room for all that may be owed");
        assert!(!self.session.owes());
        self.owed += self.peer.hear(&out[..len]);
        assert!(self.owed <= self.reasons, "{} for {}", self.owed, self.reasons);
    }
}

/// Inputs that get far: data in pieces, new keys on both sides, answers, an end of each kind, and
/// every way to spoil a record.
pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    let data = [1, 3, b'a', b'b', b'c', 2, 0];
    let new_key = [4, 1, 255];
    let answer = [7, 2, 4, b'd', b'e', b'f', b'g', 0];
    let end = [3, 1, 0, 255];
    let long = [1, 0xF7, 0, 0x40, 0, 0, 0, 255];
    let ends: [&[u8]; 7] = [
        &end,
        &[3, 2, 40, 255],
        &[7, 0, 0, 3, 1, 0, 9],
        &[2, 1, b'x', 20, 0, 9],
        &[5, 6, 4, 0, 0, 2, 0, 0, 9],
        &[6, 1, b'x', 7, 0, 0, 0, 0, 3, 9],
        &[0, 40, 3, 3, 0, 35, 1],
    ];
    let calm = [&data[..], &new_key, &answer, &long, &data].concat();
    let mut seeds: Vec<_> = ends.iter().map(|end| [&[0][..], &calm, end].concat()).collect();
    seeds.extend((1..4).map(|way| [&[0, 6, 1, b'x', 7, 0, 0, 0, way, 9][..], &data].concat()));
    // A key that is soon used up, replaced in time and not; and records without data.
    seeds.push([&[1][..], &data.repeat(4), &new_key, &answer.repeat(8), &end].concat());
    seeds.push([&[1][..], &data.repeat(14)].concat());
    seeds.push([&[0][..], &[0xC1, 0, 0, 255].repeat(40)].concat());
    seeds.push([&[0][..], &[0xC4, 1, 255].repeat(40)].concat());
    seeds
}
