//! Identity and encryption of links: certificates of our own authority, TLS 1.3, and a record layer
//! that works in place. No sockets, no clock of its own; files are read and written only for
//! certificates and keys.
//!
//! Handshakes are rustls'. After them, rustls would copy every record out of the receive buffer, so
//! its keys are taken over ([`Session`]) and records are opened and sealed where they lie, with the
//! AEADs of ring. rustls goes on deriving new keys, and is the judge in the tests: every test of
//! records has it at the other end.
//!
//! # What may be tried, and what happens
//!
//! - *A changed, repeated, reordered, omitted or invented record* does not open: the nonce is the
//!   record's number, and its head is authenticated with it ([`Fault::Forged`]).
//! - *A stream cut off*: an end without the peer's sealed word for it is a failure, which the
//!   driver counts.
//! - *Records over 2^14 + 256 bytes* are refused by [`record_len`] before anything is kept of them,
//!   *plain bytes over 2^14* after opening ([`Fault::TooLong`]).
//! - *A record of another kind, outside or inside; a second handshake; tickets; late certificates;
//!   padding without a kind*: only data, alerts and new keys may come ([`Fault::Unexpected`]).
//! - *Floods of empty records, new keys or warnings* end after [`QUIET_MAX`] in a row, and many
//!   requests for a new key are answered by one ([`Fault::Flood`]).
//! - *A key used too often* is replaced after [`RECORDS_PER_KEY`] records, and the peer asked for
//!   the same; one that does not comply is ended at four times that ([`Fault::Worn`]).
//! - *A handshake without end, or in crumbs,* ends after [`HANDSHAKE_MAX`] bytes or
//!   [`HANDSHAKE_RECORDS_MAX`] records ([`Fault::HandshakeTooLong`]); how many there may be and for
//!   how long is the driver's.
//! - *An older protocol, another cipher, bytes that are no handshake*: TLS 1.3 only, three AEADs
//!   ([`Fault::Handshake`]).
//! - *Replay of a connection's start*: nothing is resumed, and over TCP nothing is taken early.
//! - *A certificate of another authority, expired, for another use or without an identity* is
//!   refused by webpki and by [`peer_identity`] ([`Fault::Handshake`]).
//! - *Another party's certificate passed off as a node's*: only the role `node` gets the use
//!   "server", which clients insist on.
//! - *A certificate that leaked* is of use until it expires, 30 days at most unless told otherwise;
//!   there are no revocation lists.
#![forbid(unsafe_code)]

mod acceptor;
pub mod ca;
mod config;
mod error;
mod fault;
mod files;
mod handshake;
mod identity;
mod key;
mod record;
mod session;
mod verify;

pub use acceptor::{Acceptor, RECORDS_PER_KEY};
pub use config::{ALPN, client_config, provider, server_config};
pub use error::Error;
pub use fault::Fault;
pub use files::Files;
pub use handshake::{HANDSHAKE_MAX, HANDSHAKE_RECORDS_MAX, Handshake};
pub use identity::{Identity, NAME_MAX, peer_identity, role};
pub use record::{HEAD, PLAIN_MAX, RECORD_MAX, SEALED_MAX, TAIL, record_len};
pub use session::{OWED_MAX, Opened, QUIET_MAX, Session};
