//! Identity and encryption of links: certificates of our own authority, TLS 1.3, and a record layer
//! that works in place. No I/O apart from reading and writing PEM files.
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
pub use handshake::{HANDSHAKE_MAX, Handshake};
pub use identity::{Identity, NAME_MAX, peer_identity, role};
pub use record::{HEAD, PLAIN_MAX, RECORD_MAX, SEALED_MAX, TAIL, record_len};
pub use session::{OWED_MAX, Opened, QUIET_MAX, Session};
