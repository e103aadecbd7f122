//! What happened, as a running hash (always) and as lines (when asked for).

use dataplane_core::driver::Time;
use std::fmt::{Arguments, Write as _};

/// What becomes of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Only their hash is kept.
    Hashed,
    /// They are kept.
    Kept,
    /// They are printed as they come.
    Printed,
}

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    mode: Lines,
    lines: Vec<String>,
    scratch: String,
}

impl Trace {
    /// An empty record.
    #[must_use]
    pub fn new(mode: Lines) -> Self {
        Self { hash: digest(&[]), mode, lines: Vec::new(), scratch: String::new() }
    }

    /// Adds one line.
    pub fn note(&mut self, now: Time, what: Arguments<'_>) {
        self.scratch.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.scratch, "{now:>14} {what}");
        self.hash = fold(self.hash, self.scratch.as_bytes());
        match self.mode {
            Lines::Hashed => {}
            Lines::Kept => self.lines.push(self.scratch.clone()),
            Lines::Printed => println!("{}", self.scratch),
        }
    }

    /// The hash of everything noted so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines, where they were kept.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// FNV-1a.
fn fold(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3))
}

/// A short fingerprint of bytes, for trace lines.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    fold(0xCBF2_9CE4_8422_2325, bytes)
}
