//! A ring of records with one writer and any number of readers, which never wait for each other.
//!
//! ```text
//! cell n:  [ version | 15 words ]   128 bytes: two cache lines that are fetched as one
//! ```
//!
//! The version of the cell that holds position p is 2p + 2, and 2p + 1 while it is written. A
//! reader that finds the same even version before and behind the words has read a whole record, and
//! knows which. The one word that changes later ([`Ring::amend`]) holds all of what changes, so a
//! reader sees it as it was or as it is.

use super::record::{Record, SENT_AT, WORDS, with_sent};
use crate::driver::Time;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell {
    version: AtomicU64,
    words: [AtomicU64; WORDS],
}

const _: () = assert!(size_of::<Cell>() == Ring::RECORD_BYTES as usize);

/// The ring.
#[derive(Debug)]
pub struct Ring {
    cells: Box<[Cell]>,
    /// Records written so far: the next position.
    written: AtomicU64,
}

impl Ring {
    /// Bytes of a record.
    pub const RECORD_BYTES: u64 = 128;

    /// Room for so many records, a power of two.
    pub(crate) fn new(records: usize) -> Self {
        debug_assert!(records.is_power_of_two());
        Self { cells: (0..records).map(|_| Cell::default()).collect(), written: AtomicU64::new(0) }
    }

    /// Records written so far. Those at the positions below it, down to [`Self::oldest`], can be
    /// read.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Acquire)
    }

    /// The oldest position that can still be there.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.written().saturating_sub(self.cells.len() as u64)
    }

    fn cell(&self, position: u64) -> &Cell {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }

    /// The record at a position. `None` where it is not written yet, overwritten, or being so.
    #[must_use]
    pub fn read(&self, position: u64) -> Option<Record> {
        let cell = self.cell(position);
        let whole = 2 * position + 2;
        // SYNC POINT: record written.
        if cell.version.load(Acquire) != whole {
            return None;
        }
        let words = core::array::from_fn(|at| cell.words[at].load(Relaxed));
        // SYNC POINT: record overwritten.
        fence(Acquire);
        (cell.version.load(Relaxed) == whole).then(|| Record::unpack(&words))
    }

    /// Writes a record over the oldest. Only the owner of the ring calls it. Gives its position.
    pub(crate) fn write(&self, words: &[u64; WORDS]) -> u64 {
        let position = self.written.load(Relaxed);
        let cell = self.cell(position);
        cell.version.store(2 * position + 1, Relaxed);
        // SYNC POINT: record overwritten. Who sees one of the words below sees that version.
        fence(Release);
        for (place, word) in cell.words.iter().zip(words) {
            place.store(*word, Relaxed);
        }
        // SYNC POINT: record written.
        cell.version.store(2 * position + 2, Release);
        self.written.store(position + 1, Release);
        position
    }

    /// Enters when the answer at a position left, if that is still there. Only the owner of the
    /// ring calls it.
    pub(crate) fn amend(&self, position: u64, sent: Time) {
        let cell = self.cell(position);
        if cell.version.load(Relaxed) == 2 * position + 2 {
            let place = &cell.words[SENT_AT];
            place.store(with_sent(place.load(Relaxed), sent), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::record::Step, *};
    use std::thread;

    /// A record of which every word is told by its number.
    fn record(n: u64) -> Record {
        Record {
            message_id: n,
            query_id: u128::from(n).to_be_bytes(),
            at_ns: !n,
            rows: n as u32,
            carried: n as u32,
            payload: n as u32,
            reply: n as u32,
            copied_in: n as u32,
            copied_by_worker: n as u32,
            identity: n as u32,
            conn: n as u32,
            batch: n as u16,
            life: n as u16,
            ..Record::default()
        }
    }

    #[test]
    fn the_last_ones_can_be_read_and_older_ones_are_gone() {
        let ring = Ring::new(4);
        assert_eq!(ring.read(0), None, "nothing is written yet");
        for n in 0..6 {
            assert_eq!(ring.write(&record(n).pack()), n);
        }
        assert_eq!((ring.oldest(), ring.written()), (2, 6));
        assert_eq!(ring.read(1), None);
        assert_eq!(ring.read(6), None);
        assert!((2..6).all(|n| ring.read(n) == Some(record(n))));
        ring.amend(3, 64);
        ring.amend(1, 99);
        assert_eq!(ring.read(3).and_then(|record| record.step(Step::Sent)), Some(64));
        assert_eq!(ring.read(5), Some(record(5)), "who is gone is not amended");
    }

    #[test]
    fn a_record_is_whole_while_others_are_written_over_it() {
        let ring = Ring::new(8);
        const LAST: u64 = 40_000;
        let whole = thread::scope(|scope| {
            let readers = [0, 1].map(|_| {
                scope.spawn(|| {
                    let mut whole = 0;
                    while ring.written() < LAST {
                        for position in ring.oldest()..ring.written() {
                            let Some(found) = ring.read(position) else { continue };
                            let sent = found.step(Step::Sent);
                            let mut expected = record(position);
                            expected.steps[Step::Sent as usize] = sent;
                            assert_eq!(found, expected, "torn at {position}");
                            assert!(sent.is_none_or(|sent| sent == 64));
                            whole += 1;
                        }
                    }
                    whole
                })
            });
            // Until both have read something, however late they start.
            let mut n = 0;
            while n < LAST {
                ring.write(&record(n).pack());
                ring.amend(n.saturating_sub(3), 64);
                n += 1;
                if n.is_multiple_of(64) {
                    thread::yield_now();
                }
            }
            readers.map(|reader| reader.join().expect("reads"))
        });
        assert!(whole.iter().sum::<u64>() > 0, "somebody has read something");
    }
}
