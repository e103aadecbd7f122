//! What ends a connection, and what the peer is told of it.

/// Why a connection is of no more use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The handshake failed: a certificate was refused, nothing in common was found, or what came
    /// was no handshake.
    #[error("the handshake failed: {0}")]
    Handshake(rustls::Error),
    /// A handshake of more bytes or records than anybody needs.
    #[error(
        "the handshake is longer than {} bytes or {} records",
        crate::HANDSHAKE_MAX,
        crate::HANDSHAKE_RECORDS_MAX
    )]
    HandshakeTooLong,
    /// A record that is longer than records may be.
    #[error("a record is longer than allowed")]
    TooLong,
    /// A record that cannot come here.
    #[error("a record of a kind that does not belong here")]
    Unexpected,
    /// A record that nobody with our keys wrote, or that was changed on the way, left out, repeated
    /// or moved.
    #[error("a record is not what the peer sent")]
    Forged,
    /// A message inside a record that makes no sense.
    #[error("a malformed message of the protocol")]
    Malformed,
    /// Record after record without data.
    #[error("more than {} records without data in a row", crate::QUIET_MAX)]
    Flood,
    /// A key that has done all that it may, and no new one came.
    #[error("a key was used for too many records")]
    Worn,
    /// The peer ended the connection for a reason of its own (the number of an alert).
    #[error("the peer reports alert {0}")]
    Alert(u8),
}

impl Fault {
    /// What the peer is told (RFC 8446, 6.2), if anything. The handshake has said so itself.
    #[must_use]
    pub const fn alert(&self) -> Option<u8> {
        match self {
            Self::Handshake(_) | Self::HandshakeTooLong | Self::Alert(_) => None,
            Self::TooLong => Some(22),
            Self::Unexpected | Self::Flood => Some(10),
            Self::Forged => Some(20),
            Self::Malformed => Some(50),
            Self::Worn => Some(80),
        }
    }
}
