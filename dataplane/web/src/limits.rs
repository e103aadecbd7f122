//! Every bound of what is served.

use std::time::Duration;

/// Bounds, with what a node takes as default.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; one more is told so and closed.
    pub connections: usize,
    /// Readers of events among them.
    pub readers: usize,
    /// Bytes of a request's head, 8192 at least.
    pub head_bytes: usize,
    /// Header lines of a request.
    pub head_lines: usize,
    /// Longest that a head may take, and that a connection may be idle.
    pub head_time: Duration,
    /// Longest that a peer may take no bytes while there are some for it.
    pub patience: Duration,
    /// Bytes that the OS holds for a peer that does not read.
    pub send_buffer: usize,
    /// Between two looks at the node, for curves and readers.
    pub beat: Duration,
    /// After so long without an event a reader gets a comment.
    pub heartbeat: Duration,
    /// How old metrics, checks of life and points of the past may be that are shown again.
    pub metrics_age: Duration,
    /// The same for overviews: less than a beat, so that each beat makes one.
    pub overview_age: Duration,
    /// Points of the past.
    pub points: usize,
    /// At the end, how long a connection that was just accepted has to ask.
    pub grace: Duration,
    /// Longest that answers under way are waited for at the end.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            readers: 32,
            head_bytes: 8 << 10,
            head_lines: 64,
            head_time: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            send_buffer: 128 << 10,
            beat: Duration::from_secs(1),
            heartbeat: Duration::from_secs(5),
            metrics_age: Duration::from_millis(250),
            overview_age: Duration::from_millis(900),
            points: 600,
            grace: Duration::from_millis(50),
            farewell: Duration::from_millis(500),
        }
    }
}
