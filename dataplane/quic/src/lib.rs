//! QUIC as a listener: each bidirectional stream of an authenticated peer becomes a stream socket
//! that a shard serves as it serves any other.
//!
//! ```text
//!   UDP <-- io_uring --> driver == datagrams, time ==> bridge (quinn-proto, sans-IO)
//!                          |   <== bytes of streams ==
//!                          +-- one socket pair per stream --> shards
//! ```
//!
//! The price of leaving the shards as they are is two copies more per byte each way: into the
//! socket pair and out of it. They are counted, see [`Counters`].

mod bridge;
mod config;
mod counters;
mod driver;
mod limits;
mod recognise;
mod running;
mod tickets;

pub use bridge::{Bridge, Code, Happening, Identify, Read, Recognise, SEGMENTS_MAX, StreamKey};
pub use counters::{Count, Counters, Refusal};
pub use driver::{BYTES, Hand, bind_udp};
pub use limits::{EARLY_PAYLOAD_MAX, Limits, PIECE_MAX};
pub use recognise::recognise;
pub use running::Running;
