//! Which stamps were used already: a sliding window for each key, as IPsec has it (RFC 4303,
//! 3.4.3), over milliseconds. What lies within the allowed distance from the reader's clock lies in
//! the window too, so that nothing is ever taken twice, whatever the clocks do.

use crate::KeyId;

/// How far a stamp may be from the reader's wall clock, milliseconds.
pub const SKEW_MS: u64 = 30_000;

/// Stamps that a key's window spans.
const SPAN: u64 = 65_536;
const WORDS: usize = (SPAN / 64) as usize;

// Both ends of the allowed range lie in one window.
const _: () = assert!(2 * SKEW_MS < SPAN);

/// Why a stamp is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Too far from the clock, by so many milliseconds from it.
    Clock(u64),
    /// Taken before, or so old that it may have been.
    Seen,
}

/// One key's.
#[derive(Clone, Debug)]
struct Row {
    key: KeyId,
    newest: u64,
    /// Nothing at or below it is taken: what the window had forgotten when the row was made.
    floor: u64,
    used: u64,
    bits: Box<[u64; WORDS]>,
}

impl Row {
    fn has(&self, stamp: u64) -> bool {
        let bit = stamp % SPAN;
        self.bits[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    fn is_fresh(&self, stamp: u64) -> bool {
        let within = stamp > self.newest || (self.newest - stamp < SPAN && !self.has(stamp));
        stamp > self.floor && within
    }

    fn put(&mut self, stamp: u64) {
        if stamp > self.newest {
            if stamp - self.newest >= SPAN {
                self.bits.fill(0);
            } else {
                for passed in self.newest + 1..=stamp {
                    let bit = passed % SPAN;
                    self.bits[(bit / 64) as usize] &= !(1 << (bit % 64));
                }
            }
            self.newest = stamp;
        }
        let bit = stamp % SPAN;
        self.bits[(bit / 64) as usize] |= 1 << (bit % 64);
    }
}

/// The windows of so many keys; 8 KiB each, taken at a key's first stamp. The key that was used
/// least recently makes room for another. No stamp of any key is forgotten thereby: what comes
/// under a key without a row must be newer than all that was given up.
#[derive(Clone, Debug)]
pub struct Window {
    rows: Vec<Row>,
    most: usize,
    floor: u64,
    uses: u64,
}

impl Window {
    /// Room for this many keys, at least one. Stamps up to `start_ms` are not taken: an earlier
    /// life may have taken them.
    #[must_use]
    pub fn new(most: usize, start_ms: u64) -> Self {
        Self { rows: Vec::new(), most: most.max(1), floor: start_ms, uses: 0 }
    }

    /// Whether [`Self::take`] would take it.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, key: KeyId, stamp: u64, now_ms: u64) -> Result<(), Stale> {
        if stamp.abs_diff(now_ms) > SKEW_MS {
            return Err(Stale::Clock(stamp.abs_diff(now_ms)));
        }
        let fresh = match self.rows.iter().find(|row| row.key == key) {
            Some(row) => row.is_fresh(stamp),
            None => stamp > self.floor,
        };
        if fresh { Ok(()) } else { Err(Stale::Seen) }
    }

    /// Takes a stamp; the same one is never taken again. Call it for what was verified only.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn take(&mut self, key: KeyId, stamp: u64, now_ms: u64) -> Result<(), Stale> {
        self.check(key, stamp, now_ms)?;
        self.uses += 1;
        let uses = self.uses;
        let row = self.row(key, stamp);
        row.used = uses;
        row.put(stamp);
        Ok(())
    }

    fn row(&mut self, key: KeyId, stamp: u64) -> &mut Row {
        if let Some(at) = self.rows.iter().position(|row| row.key == key) {
            return &mut self.rows[at];
        }
        if self.rows.len() == self.most {
            let oldest = (0..self.most).min_by_key(|at| self.rows[*at].used).unwrap_or(0);
            let gone = self.rows.swap_remove(oldest);
            self.floor = self.floor.max(gone.newest);
        }
        let bits = Box::new([0; WORDS]);
        self.rows.push(Row { key, newest: stamp, floor: self.floor, used: 0, bits });
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }
}
