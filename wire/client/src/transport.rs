//! What a connection runs over.

use std::fmt;

/// What a connection runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, in the clear.
    Tcp,
    /// A Unix socket.
    Unix,
    /// TLS over TCP.
    Tls,
    /// QUIC.
    Quic,
    /// TLS over TCP for a `quic://` address, because UDP got no answer.
    TlsForQuic,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::TlsForQuic => "tls, because UDP got no answer",
        })
    }
}
