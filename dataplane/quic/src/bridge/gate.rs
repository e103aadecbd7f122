//! What of a stream may pass before the handshake is confirmed.
//!
//! Data that a peer sends with its first flight (0-RTT) can be recorded and sent again by anyone on
//! the way. Only frames that do no harm twice pass: heartbeats, gossip, metrics. From the first
//! other frame on everything is held: the gate keeps at most a header, the rest stays in the
//! stream, bounded by its window.

use crate::limits::EARLY_PAYLOAD_MAX;
use bytes::Bytes;
use wire::{HEADER_LEN, Header, Kind};

/// Frames that may come twice.
const HARMLESS: [Kind; 3] = [Kind::Heartbeat, Kind::GossipStateUpdate, Kind::MetricsUpdate];

/// A stream's gate, in place until the handshake is confirmed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    head: [u8; HEADER_LEN],
    have: usize,
    /// Payload bytes of a harmless frame that are still to come.
    body: usize,
    shut: bool,
}

impl Gate {
    /// How many bytes it takes at once; 0 when it is shut.
    pub(crate) const fn want(&self) -> usize {
        match (self.shut, self.body) {
            (true, _) => 0,
            (false, 0) => HEADER_LEN - self.have,
            (false, body) => body,
        }
    }

    /// Takes the next bytes of the stream, at most [`want`](Self::want); gives what may pass.
    pub(crate) fn pass(&mut self, bytes: Bytes) -> Option<Bytes> {
        debug_assert!(bytes.len() <= self.want(), "more than the gate wants");
        if self.body > 0 {
            self.body -= bytes.len();
            return Some(bytes);
        }
        self.head[self.have..][..bytes.len()].copy_from_slice(&bytes);
        self.have += bytes.len();
        let header = Header::peek(&self.head).filter(|_| self.have == HEADER_LEN)?;
        let harmless = header.kind().is_ok_and(|kind| HARMLESS.contains(&kind));
        if !harmless || header.check(EARLY_PAYLOAD_MAX).is_err() {
            self.shut = true;
            return None;
        }
        self.body = header.payload_len() as usize;
        self.have = 0;
        Some(Bytes::copy_from_slice(&self.head))
    }

    /// True once something was held.
    pub(crate) const fn is_shut(&self) -> bool {
        self.shut
    }

    /// True while a header, or a part of one, waits here.
    pub(crate) const fn holds(&self) -> bool {
        self.have > 0
    }

    /// The handshake is confirmed: what was kept of a header goes ahead of the rest.
    pub(crate) fn open(self) -> Bytes {
        Bytes::copy_from_slice(&self.head[..self.have])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    fn frame(kind: Kind, payload: usize) -> Vec<u8> {
        let payload = vec![7; payload];
        let header = Header::for_payload(kind, 1, 2, &payload);
        [header.as_bytes(), &payload].concat()
    }

    /// Sends `stream` through a gate in cuts of these lengths; gives what passed and what was held.
    fn through(stream: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<u8>) {
        let (mut gate, mut passed, mut at) = (Gate::default(), Vec::new(), 0);
        let mut cuts = cuts.iter().cycle();
        while at < stream.len() && gate.want() > 0 {
            let cut = *cuts.next().expect("endless");
            let len = cut.min(gate.want()).min(stream.len() - at);
            let piece = Bytes::copy_from_slice(&stream[at..at + len]);
            passed.extend(gate.pass(piece).unwrap_or_default());
            at += len;
        }
        let held = [&gate.open(), &stream[at..]].concat();
        (passed, held)
    }

    proptest! {
        #[test]
        fn y_06_only_frames_that_do_no_harm_twice_pass_however_they_are_cut(
            kinds in prop::collection::vec((prop::sample::select(Kind::ALL), 0..300_usize), 0..8),
            cuts in prop::collection::vec(1..200_usize, 1..10),
        ) {
            let frames: Vec<_> = kinds.iter().map(|(kind, len)| frame(*kind, *len)).collect();
            let first_other =
                kinds.iter().position(|(kind, _)| !HARMLESS.contains(kind)).unwrap_or(kinds.len());
            let (passed, held) = through(&frames.concat(), &cuts);
            prop_assert_eq!(passed, frames[..first_other].concat());
            prop_assert_eq!(held, frames[first_other..].concat());
        }
    }

    #[test]
    fn what_is_no_frame_or_too_long_is_held() {
        let mut long = frame(Kind::Heartbeat, 0);
        long[24..28].copy_from_slice(&(EARLY_PAYLOAD_MAX + 1).to_be_bytes());
        for stream in [vec![b'x'; 100], long, frame(Kind::Heartbeat, 0)[..31].to_vec()] {
            assert_eq!(through(&stream, &[1000]), (Vec::new(), stream));
        }
    }
}
