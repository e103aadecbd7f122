//! Who said it: Ed25519 keys, signatures over canonical bytes, and windows against replays.
//!
//! A signature covers a context that names the type of message, and then every field in a fixed
//! order, big-endian, lengths said before contents ([`canonical`]): no two different messages share
//! their bytes. Verifying says true or false and never panics (SIGN-02); it is strict, so that all
//! who look at a signature agree about it: small-order keys and malleable signatures are refused,
//! and nothing is decided in batches. No clocks: time is an argument.
#![forbid(unsafe_code)]

pub mod agents;
pub mod canonical;
mod file;
mod key;
pub mod order;
mod window;

pub use file::{KeyFault, read_directory};
pub use key::{KeyId, NO_KEY, PublicKey, SecretKey};
pub use window::{SKEW_MS, Stale, Window};
