//! The mesh as state machines: which agents there are, how long each needs, what to send to whom
//! and when, and what came of it. No I/O, no clock, no randomness: time and bytes come as
//! arguments, effects go back.
#![forbid(unsafe_code)]

pub mod agent;
pub mod cascade;
pub mod child;
pub mod class;
pub mod clock;
pub mod cluster;
pub mod gather;
pub mod hlc;
pub mod limits;
pub mod map;
pub mod node;
pub mod plan;
pub mod predict;
pub mod profile;
pub mod registry;
pub mod sketch;
pub mod summary;
pub mod trinary;

/// Nanoseconds of a monotonic clock: the node's where nothing else is said.
pub type Time = u64;
/// One millisecond of [`Time`].
pub const MS: Time = 1_000_000;
/// One second of [`Time`].
pub const SECOND: Time = 1_000 * MS;
