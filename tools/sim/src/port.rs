//! One connection as the simulated driver sees it: what it was ordered to read and to send.

use dataplane_core::{driver::Segment, memory::SlotId};
use std::collections::VecDeque;

/// Life of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No connection has this id.
    #[default]
    Free,
    /// Accepted.
    Open,
    /// Close was ordered, `Closed` not yet delivered.
    Closing,
}

/// What is being read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Nothing was ordered.
    #[default]
    Idle,
    /// The stream.
    Stream,
    /// The stream, until the stop that was ordered takes effect.
    Stopping,
    /// A header of so many bytes.
    Header {
        /// Bytes ordered.
        len: usize,
        /// Bytes that are there.
        got: Vec<u8>,
    },
    /// A part of a slot.
    Slot {
        /// Which.
        slot: SlotId,
        /// Next byte to fill.
        at: u32,
        /// First byte not to fill.
        end: u32,
    },
}

/// A connection's state in the driver.
#[derive(Debug, Default)]
pub struct Port {
    /// Life.
    pub phase: Phase,
    /// The socket behind it.
    pub socket: Option<usize>,
    /// What is being read.
    pub reading: Reading,
    /// The shard used less than it was offered: the stream stands still.
    pub kept: bool,
    /// Received and not yet used, as it came.
    pub rx: VecDeque<Vec<u8>>,
    /// The OS has seen the peer's end; it comes after `rx`.
    pub fin: bool,
    /// The shard was told so.
    pub eof_told: bool,
    /// The stop has taken effect: `StreamStopped` comes after `rx`.
    pub stop_done: bool,
    /// A token for the next piece of `rx` is queued.
    pub queued: bool,
    /// The transmit under way.
    pub sending: Option<Vec<Segment>>,
    /// Bytes of that transmit as they were when it was ordered.
    pub snapshot: Vec<u8>,
    /// A half close was ordered.
    pub finished: bool,
    /// The peer broke the connection.
    pub failed: bool,
}

impl Port {
    /// True where received bytes may be shown to the shard.
    #[must_use]
    pub fn flows(&self) -> bool {
        matches!(self.reading, Reading::Stream | Reading::Stopping) && !self.kept
    }

    /// True where the driver asks the OS for more.
    #[must_use]
    pub fn wants(&self) -> bool {
        self.phase == Phase::Open
            && !self.failed
            && match &self.reading {
                Reading::Idle => false,
                Reading::Stream => !self.kept,
                Reading::Stopping => !self.stop_done,
                Reading::Header { .. } | Reading::Slot { .. } => true,
            }
    }
}
