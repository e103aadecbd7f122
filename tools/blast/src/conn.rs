//! One connection of a load: where it is in its life, what waits to leave, and the frame that is
//! not whole yet.

use crate::outbox::{Outbox, Pool};
use client::Buffer;
use dataplane_core::driver::ConnId;
use wire::{HEADER_LEN, Header};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not connected yet.
    #[default]
    New,
    /// At work.
    Open,
    /// Given up; the driver has not let go of it yet.
    Closing,
    /// Over.
    Gone,
}

/// One connection.
#[derive(Debug, Default)]
pub struct Conn {
    /// The driver's id, while there is one.
    pub id: Option<ConnId>,
    /// Where it is in its life.
    pub state: State,
    /// A transmit is under way.
    pub sending: bool,
    /// In the list of those with something to send.
    pub dirty: bool,
    /// In the queue of those with room in their window.
    pub ready: bool,
    /// What waits to leave.
    pub outbox: Outbox,
    /// The frame that is not whole yet.
    pub partial: Partial,
}

impl Conn {
    /// A socket is in place.
    pub fn open(&mut self, id: ConnId) {
        self.id = Some(id);
        self.state = State::Open;
        self.partial.have = 0;
    }

    /// The driver let go: what waited will not leave.
    pub fn gone(&mut self, pool: &mut Pool) {
        self.id = None;
        self.state = State::Gone;
        self.sending = false;
        self.outbox.clear(pool);
    }
}

/// A frame that came in pieces: header first, then payload, 16-byte aligned.
#[derive(Debug, Default)]
pub struct Partial {
    bytes: Buffer,
    have: usize,
}

/// What the next bytes gave.
#[derive(Debug)]
pub enum Step<'a> {
    /// A whole frame.
    Frame(Header, &'a [u8]),
    /// All bytes are used, and no frame is whole.
    Starved,
    /// The header cannot be followed.
    Broken,
}

impl Partial {
    /// Takes the next frame from `rest`: in place where it lies there whole, else gathered piece by
    /// piece.
    #[inline]
    pub fn step<'a, 'b: 'a>(&'a mut self, rest: &mut &'b [u8], payload_max: u32) -> Step<'a> {
        if self.have == 0
            && let Some(header) = Header::peek(rest)
        {
            if header.check(payload_max).is_err() {
                return Step::Broken;
            }
            let len = HEADER_LEN + header.payload_len() as usize;
            if let Some((frame, tail)) = rest.split_at_checked(len) {
                *rest = tail;
                return Step::Frame(*header, &frame[HEADER_LEN..]);
            }
        }
        self.gather(rest, payload_max)
    }

    fn gather<'a>(&'a mut self, rest: &mut &[u8], payload_max: u32) -> Step<'a> {
        if !self.fill(rest, HEADER_LEN) {
            return Step::Starved;
        }
        let Some(header) = Header::peek(self.bytes.as_slice()).copied() else {
            return Step::Broken;
        };
        if header.check(payload_max).is_err() {
            return Step::Broken;
        }
        let len = HEADER_LEN + header.payload_len() as usize;
        if !self.fill(rest, len) {
            return Step::Starved;
        }
        self.have = 0;
        Step::Frame(header, &self.bytes.as_slice()[HEADER_LEN..len])
    }

    /// Makes the first `len` bytes of the frame present. False when `rest` has too few.
    fn fill(&mut self, rest: &mut &[u8], len: usize) -> bool {
        if self.have < len {
            let (take, tail) = rest.split_at(rest.len().min(len - self.have));
            self.bytes.resize(len);
            self.bytes.as_mut_slice()[self.have..self.have + take.len()].copy_from_slice(take);
            self.have += take.len();
            *rest = tail;
        }
        self.have >= len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::Kind;
    use zerocopy::IntoBytes;

    #[test]
    fn a_frame_that_lies_whole_is_not_copied() {
        let mut bytes = Header::for_payload(Kind::Heartbeat, 1, 0, &[7; 16]).as_bytes().to_vec();
        bytes.extend([7; 16]);
        let (mut partial, mut rest) = (Partial::default(), &bytes[..]);
        let Step::Frame(_, payload) = partial.step(&mut rest, 16) else { panic!("no frame") };
        assert_eq!(payload.as_ptr(), bytes[HEADER_LEN..].as_ptr());
        assert!(rest.is_empty());
    }

    #[test]
    fn lengths_over_the_bound_take_no_memory() {
        let bytes = Header::new(Kind::Heartbeat, 1, 0, 17, 0).as_bytes().to_vec();
        assert!(matches!(Partial::default().step(&mut &bytes[..], 16), Step::Broken));
        let mut partial = Partial::default();
        assert!(matches!(partial.step(&mut &bytes[..31], 16), Step::Starved));
        assert!(matches!(partial.step(&mut &bytes[31..], 16), Step::Broken));
        assert_eq!(partial.bytes.as_slice().len(), HEADER_LEN);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(
            lens in prop::collection::vec(0..90usize, 1..20),
            cuts in prop::collection::vec(1..70usize, 1..200),
        ) {
            let mut stream = Vec::new();
            for (id, len) in lens.iter().enumerate() {
                let payload = vec![id as u8; *len];
                let header = Header::for_payload(Kind::QueryResponse, id as u64, 0, &payload);
                stream.extend(header.as_bytes());
                stream.extend(payload);
            }
            let mut partial = Partial::default();
            let mut got = Vec::new();
            let mut left = &stream[..];
            for cut in cuts.iter().cycle() {
                let (mut piece, tail) = left.split_at(left.len().min(*cut));
                left = tail;
                loop {
                    match partial.step(&mut piece, 100) {
                        Step::Frame(header, payload) => {
                            prop_assert_eq!(header.message_id(), got.len() as u64);
                            let id = got.len() as u8;
                            prop_assert!(payload.iter().all(|byte| *byte == id));
                            got.push(payload.len());
                        }
                        Step::Starved => break,
                        Step::Broken => prop_assert!(false, "broken"),
                    }
                }
                if left.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(got, lens);
        }
    }
}
