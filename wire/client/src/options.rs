//! How a pool behaves.

use crate::{Limits, Retry, Security};
use std::time::Duration;

/// How a pool behaves.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Time of a call, from its beginning to its answer, waits and tries included.
    pub timeout: Duration,
    /// Longest wait for one connection, handshake included.
    pub connect_timeout: Duration,
    /// Largest payload accepted from the node, bytes.
    pub payload_max: u32,
    /// Calls that may wait for a place on a connection; more are refused at once.
    pub waiting: usize,
    /// How many connections, for how long, and how many calls on each.
    pub limits: Limits,
    /// How often and when something is tried again.
    pub retry: Retry,
    /// Certificates; `tls://` and `quic://` need them.
    pub security: Option<Security>,
}

impl Default for PoolOptions {
    /// 30 s for a call, 5 s to connect, 256 MiB, 4,096 waiting calls; [`Limits::DEFAULT`],
    /// [`Retry::DEFAULT`]; no certificates.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            payload_max: 256 * 1024 * 1024,
            waiting: 4_096,
            limits: Limits::DEFAULT,
            retry: Retry::DEFAULT,
            security: None,
        }
    }
}
