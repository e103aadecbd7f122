//! The driver of a real shard: io_uring for sockets, shared rings for worker processes.
//!
//! ```text
//!                 +-------------------------- UringDriver --------------------------+
//!   sockets <---> | ring: net (accept, close)  receive (stream, fills)  send        |
//!   workers <---> | workers: a lane each                                            | <--> Shard
//!   control ----> | commands: a bounded queue                                       |
//!   mesh    <---> | bell: who is to be woken                                        |
//!   time    <---> | policy: poll or sleep                                           |
//!                 +-----------------------------------------------------------------+
//! ```
//!
//! One thread builds a driver and uses it; the kernel insists on that. Connections live in the
//! ring's own table of direct descriptors and take no file descriptor of the process; a
//! [`ConnId`](dataplane_core::driver::ConnId) is an index into that table.
//!
//! [`probe`] says beforehand what the machine lacks, and what to do about it.

mod bell;
mod buffers;
mod commands;
mod config;
mod counters;
mod driver;
mod events;
mod fault;
mod listeners;
mod memory;
mod net;
mod op;
mod pages;
mod policy;
pub mod probe;
mod receive;
mod ring;
mod secure;
mod send;
mod shared;
mod sockets;
mod table;
mod workers;

pub use bell::Bell;
pub use commands::{Command, Commander, Commands, Gone};
pub use config::Config;
pub use counters::DriverCounters;
pub use driver::UringDriver;
pub use fault::{SetupError, Step};
pub use memory::{Places, PlainMemory};
pub use policy::Policy;
pub use secure::{Gate, Identify, TlsSizes};
pub use shared::SharedMemory;
pub use sockets::{listen_tcp, listen_unix};
pub use workers::Workers;
