//! Butterfly's data path as a state machine: intake, batch, dispatch, egress. It does no I/O, reads
//! no clock and allocates nothing per message; a [`driver::Driver`] feeds it and acts for it.
//!
//! Start at [`turn::turn`], then [`shard::Shard`].
#![forbid(unsafe_code)]

pub mod admission;
mod answer;
pub mod batch;
pub mod canary;
mod cancel;
mod conn;
mod dispatch;
pub mod driver;
pub mod egress;
mod fair;
mod gate;
pub mod identity;
mod intake;
pub mod limits;
pub mod memory;
mod mesh;
mod mesh_intake;
pub mod mesh_port;
pub mod node;
mod owned;
pub mod policy;
pub mod probe;
pub mod recall;
mod retry;
pub mod route;
pub mod schedule;
pub mod shard;
mod shed;
pub mod slot;
pub mod stats;
mod story;
mod sweep;
pub mod trace;
pub mod turn;
mod wait;
mod why;

pub use identity::Identities;
pub use limits::Limits;
pub use memory::Geometry;
pub use node::NodeStats;
pub use policy::Policy;
pub use recall::Recall;
pub use shard::Shard;
pub use stats::Stats;
pub use turn::turn;

/// Length of the direct-descriptor table a driver must offer for so many connections.
#[must_use]
pub const fn connection_table(connections: u32) -> u32 {
    connections + conn::SPARE_CONNECTIONS
}
