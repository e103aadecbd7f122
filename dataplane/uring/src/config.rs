//! Sizes and habits of a driver, with the defaults of a node.

use crate::{policy::Policy, receive::HEADER_ROOM, secure::TlsSizes, table::Conn};

/// What a driver is built with. Memory per driver: `buffers * buffer_len` for receiving, 32 bytes
/// and a table entry of under 100 bytes per connection, 16 bytes per completion entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Direct descriptors for accepted connections. Lowered to what RLIMIT_NOFILE allows.
    pub accepted: u32,
    /// Direct descriptors for connections made by the caller (see
    /// [`UringDriver::adopt`](crate::UringDriver::adopt)).
    pub adopted: u32,
    /// Receive buffers: a power of two, at most 32,768.
    pub buffers: u16,
    /// Bytes of a receive buffer.
    pub buffer_len: u32,
    /// Entries of the submission queue.
    pub submissions: u32,
    /// Entries of the completion queue.
    pub completions: u32,
    /// When to poll and when to sleep.
    pub policy: Policy,
    /// Gives the core away between two polls: for machines with fewer cores than busy threads.
    pub yields: bool,
    /// Wakes this many nanoseconds ahead of a due time and polls the rest, so that it is met
    /// precisely.
    pub early_ns: u64,
    /// Sizes of TLS, for drivers that listen under it.
    pub tls: Option<TlsSizes>,
}

impl Config {
    /// What a driver of this configuration takes of memory, item by item, in bytes; egress chunks
    /// and slots are the memory's. To be printed before it is taken.
    #[must_use]
    pub fn bytes(&self) -> [(&'static str, u64); 6] {
        let connections = u64::from(self.accepted) + u64::from(self.adopted);
        // Two lists hold an index of each connection at most once.
        let lists = 2 * size_of::<u32>() as u64;
        let conn = size_of::<Conn>() as u64 + u64::from(HEADER_ROOM) + lists;
        let [outputs, sessions] = self.tls.map_or([0; 2], |tls| tls.bytes(connections));
        [
            ("receive buffers", u64::from(self.buffers) * (u64::from(self.buffer_len) + 32)),
            ("connection table", connections * conn),
            ("submission queue", u64::from(self.submissions) * 64),
            ("completion queue", u64::from(self.completions) * 16),
            ("TLS output buffers", outputs),
            ("TLS connections, at most", sessions),
        ]
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accepted: 20_000,
            adopted: 0,
            buffers: 1_024,
            buffer_len: 16 << 10,
            submissions: 4_096,
            completions: 65_536,
            policy: Policy::default(),
            yields: false,
            early_ns: 80_000,
            tls: None,
        }
    }
}
