//! Every bound of the listener. What is over one is refused and counted.

use std::time::Duration;

/// Most bytes of a stream that wait here for the socket of the shard, and most that are read from
/// that socket at once. What waits beyond them waits in the windows below, or at its sender.
pub const PIECE_MAX: usize = 64 << 10;

/// Longest payload of a frame that passes before the handshake is confirmed.
pub const EARLY_PAYLOAD_MAX: u32 = 64 << 10;

/// Answers outside of connections (retries, refusals, resets) that wait for a free send. More are
/// dropped: a peer asks again.
pub(crate) const ANSWERS_MAX: usize = 64;

/// The bounds of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections, those in their handshake with them.
    pub connections: u32,
    /// Handshakes under way.
    pub handshakes: u32,
    /// Handshakes under way from which on a peer has to show first that it receives at its
    /// address (Retry).
    pub retry_above: u32,
    /// Streams of one connection.
    pub streams: u32,
    /// Streams of all connections: each takes a socket and a place on a shard.
    pub streams_in_all: u32,
    /// Bytes of one stream that a peer may have sent and no shard has taken.
    pub stream_window: u32,
    /// The same for all streams of a connection.
    pub connection_window: u32,
    /// Bytes of a connection that a shard has sent and the peer has not acknowledged.
    pub send_window: u32,
    /// Silence after which a connection is given up.
    pub idle: Duration,
    /// Time for a handshake.
    pub handshake: Duration,
    /// Sessions that can be resumed; beyond them the oldest is forgotten.
    pub tickets: usize,
    /// How long after its handshake a session can be resumed.
    pub ticket_life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshakes: 256,
            retry_above: 32,
            streams: 128,
            streams_in_all: 1024,
            stream_window: 1 << 20,
            connection_window: 2 << 20,
            send_window: 2 << 20,
            idle: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            tickets: 4096,
            ticket_life: Duration::from_secs(600),
        }
    }
}
