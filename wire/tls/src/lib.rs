//! Identity and encryption of links: certificates of our own authority, TLS 1.3, and a record layer
//! that works in place. No I/O apart from reading and writing PEM files.
#![forbid(unsafe_code)]

pub mod ca;
mod config;
mod error;
mod files;
mod identity;
mod verify;

pub use config::{ALPN, client_config, provider, server_config};
pub use error::Error;
pub use files::Files;
pub use identity::{Identity, NAME_MAX, peer_identity, role};
