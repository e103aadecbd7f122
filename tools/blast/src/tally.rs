//! What one thread counted, and the sum over threads.

use crate::timeline::{LATENCY_MAX_NS, Recorder};
use dataplane_core::driver::Time;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use wire::ErrorCode;

/// What was wrong with a reply, or with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A header that cannot be followed: magic, version or length. The connection is given up.
    Header,
    /// The message id was never sent on this connection.
    UnknownId,
    /// The message id was answered before.
    Duplicate,
    /// A message type that does not answer the request.
    Kind,
    /// The CRC-16 does not match.
    Checksum,
    /// The payload is not the archive it should be, or its inner CRC-32C does not match.
    Archive,
    /// A sound reply with the wrong content.
    Content,
    /// A connection ended before the run did.
    Connection,
}

impl Fault {
    /// Every fault, in the order of the counters.
    pub const ALL: [Self; 8] = [
        Self::Header,
        Self::UnknownId,
        Self::Duplicate,
        Self::Kind,
        Self::Checksum,
        Self::Archive,
        Self::Content,
        Self::Connection,
    ];

    /// Name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::UnknownId => "unknown_id",
            Self::Duplicate => "duplicate_id",
            Self::Kind => "kind",
            Self::Checksum => "checksum",
            Self::Archive => "archive",
            Self::Content => "content",
            Self::Connection => "connection",
        }
    }
}

const CODES: usize = 64;

/// The counts of one thread. Requests of the warm-up are in none of them, except faults, which
/// always count.
#[derive(Debug)]
pub struct Tally {
    /// Sends whose planned time lies in the measured interval.
    pub planned: u64,
    /// Those that left.
    pub sent: u64,
    /// Answers that passed every check.
    pub ok: u64,
    /// Neither answered nor refused.
    pub lost: u64,
    /// Left more than a millisecond after their planned time.
    pub late: u64,
    /// Of the late ones, those that no full window held back: this program was too slow.
    pub late_own: u64,
    /// Bytes of the counted requests.
    pub bytes_out: u64,
    /// Bytes of their answers.
    pub bytes_in: u64,
    /// Connections that were replaced.
    pub reconnects: u64,
    /// From planned send to checked answer, nanoseconds.
    pub latency: Histogram<u64>,
    /// From planned send to refusal, nanoseconds.
    pub refused_after: Histogram<u64>,
    /// Both by when, where that is kept.
    pub recorder: Recorder,
    /// When the last counted answer came.
    pub last_reply: Time,
    /// When the last turn ended.
    pub ended: Time,
    /// Nanoseconds of turns that found something to do, in the measured interval.
    pub busy_ns: u64,
    /// Nanoseconds of all turns in the measured interval.
    pub wall_ns: u64,
    refused: [u64; CODES],
    faults: [u64; Fault::ALL.len()],
}

impl Default for Tally {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("sound bounds");
        Self {
            planned: 0,
            sent: 0,
            ok: 0,
            lost: 0,
            late: 0,
            late_own: 0,
            bytes_out: 0,
            bytes_in: 0,
            reconnects: 0,
            latency: histogram(),
            refused_after: histogram(),
            recorder: Recorder::default(),
            last_reply: 0,
            ended: 0,
            busy_ns: 0,
            wall_ns: 0,
            refused: [0; CODES],
            faults: [0; Fault::ALL.len()],
        }
    }
}

impl Tally {
    /// Counts that are also kept by when, for requests planned in this interval.
    #[must_use]
    pub fn over(from: Time, to: Time) -> Self {
        Self { recorder: Recorder::new(from, to), ..Self::default() }
    }

    /// A good answer came to a request that was planned then.
    #[inline]
    pub fn answered(&mut self, planned: Time, now: Time) {
        self.latency.saturating_record(now.saturating_sub(planned));
        self.recorder.answer(planned, now);
    }

    /// A refusal came to a request that was planned then.
    #[inline]
    pub fn turned_away(&mut self, planned: Time, now: Time) {
        self.refused_after.saturating_record(now.saturating_sub(planned));
        self.recorder.refuse(now);
    }

    /// A request was refused.
    pub fn refuse(&mut self, code: ErrorCode) {
        self.refused[usize::from(code.code()) % CODES] += 1;
    }

    /// Something was wrong.
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// Refusals of all codes.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Refusals by code, those that came.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        let named = ErrorCode::ALL
            .iter()
            .map(|code| (code.name().to_owned(), self.refused[usize::from(code.code()) % CODES]));
        named.filter(|(_, count)| *count > 0).collect()
    }

    /// Faults by kind, those that came.
    #[must_use]
    pub fn fault_kinds(&self) -> BTreeMap<String, u64> {
        let named =
            Fault::ALL.iter().map(|fault| (fault.name().to_owned(), self.faults[*fault as usize]));
        named.filter(|(_, count)| *count > 0).collect()
    }

    /// Adds another thread's counts.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            planned,
            sent,
            ok,
            lost,
            late,
            late_own,
            bytes_out,
            bytes_in,
            reconnects,
            latency,
            refused_after,
            recorder,
            last_reply,
            ended,
            busy_ns,
            wall_ns,
            refused,
            faults,
        } = other;
        self.planned += planned;
        self.sent += sent;
        self.ok += ok;
        self.lost += lost;
        self.late += late;
        self.late_own += late_own;
        self.bytes_out += bytes_out;
        self.bytes_in += bytes_in;
        self.reconnects += reconnects;
        self.latency.add(latency).expect("equal bounds");
        self.refused_after.add(refused_after).expect("equal bounds");
        self.recorder.merge(recorder);
        self.last_reply = self.last_reply.max(*last_reply);
        self.ended = self.ended.max(*ended);
        self.busy_ns += busy_ns;
        self.wall_ns += wall_ns;
        self.refused.iter_mut().zip(refused).for_each(|(sum, n)| *sum += n);
        self.faults.iter_mut().zip(faults).for_each(|(sum, n)| *sum += n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_a_counter_of_its_own() {
        let mut tally = Tally::default();
        for (n, code) in ErrorCode::ALL.iter().enumerate() {
            (0..=n).for_each(|_| tally.refuse(*code));
        }
        let refusals = tally.refusals();
        for (n, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(refusals[code.name()], n as u64 + 1);
        }
    }

    #[test]
    fn merging_adds_everything() {
        let one = || {
            let mut tally = Tally { planned: 1, sent: 2, ok: 3, lost: 4, ..Tally::default() };
            (tally.late, tally.late_own, tally.bytes_out, tally.bytes_in) = (5, 6, 7, 8);
            (tally.reconnects, tally.busy_ns, tally.wall_ns, tally.last_reply) = (9, 10, 11, 12);
            tally.refuse(ErrorCode::Overloaded);
            tally.fault(Fault::Content);
            tally.latency.record(1_000).expect("in bounds");
            tally
        };
        let mut sum = one();
        let mut later = one();
        later.last_reply = 99;
        sum.merge(&later);
        assert_eq!([sum.planned, sum.sent, sum.ok, sum.lost], [2, 4, 6, 8]);
        assert_eq!([sum.late, sum.late_own, sum.bytes_out, sum.bytes_in], [10, 12, 14, 16]);
        assert_eq!([sum.reconnects, sum.busy_ns, sum.wall_ns, sum.last_reply], [18, 20, 22, 99]);
        assert_eq!((sum.refused(), sum.errors(), sum.latency.len()), (2, 2, 2));
    }
}
