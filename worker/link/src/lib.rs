//! The only shared memory in the tree: the segment, its rings, its doorbells, and who owns a slot
//! when.
//!
//! A node creates one [`Segment`] and starts worker processes that attach to it. Each shard holds
//! one [`ShardSide`], each worker process one [`WorkerSide`]. Payload bytes never move between
//! them: a shard *lends* slot indices through a ring, the worker answers with the same indices.
//!
//! ```text
//!   ShardSide --lend--> [submission ring] --> WorkerSide::next_batch -> Lent
//!   ShardSide <-completion-- [completion ring] <-- Lent::complete
//! ```
//!
//! # What is trusted
//! Both processes are one build of one program (the handshake compares the layout hash), but a
//! worker may crash at any instruction, scribble, or be in the hands of an attacker. So nothing
//! that is read from shared memory is used as an index, a length or a type before it was checked,
//! and it is read once; what has to be read twice, the requests, workers cannot write to (see
//! `mapping`). What a wild worker can do is spoil replies, and delay; what it cannot do is make the
//! node panic or leave its memory.
#![deny(unsafe_code)]

pub mod door;
pub mod ring;
pub mod spin;
mod sync;

#[cfg(not(loom))]
pub mod hello;
#[cfg(not(loom))]
pub mod layout;
#[cfg(not(loom))]
mod map;
#[cfg(not(loom))]
#[allow(unsafe_code, reason = "maps memory")]
mod mapping;
#[cfg(not(loom))]
#[allow(unsafe_code, reason = "turns offsets into addresses and atomics")]
mod place;
#[cfg(not(loom))]
#[allow(unsafe_code, reason = "turns places into atomics")]
pub mod segment;
#[cfg(not(loom))]
#[allow(unsafe_code, reason = "turns owned slots into slices")]
mod shard_side;
#[cfg(not(loom))]
#[allow(unsafe_code, reason = "maps a sealed file")]
mod shared_file;
#[cfg(not(loom))]
#[allow(unsafe_code, reason = "turns lent slots into slices")]
mod worker_side;

#[cfg(not(loom))]
pub use {
    layout::{Layout, LayoutError},
    mapping::Files,
    segment::{Arenas, AttachError, Pulse, Segment},
    shard_side::{LinkFault, ShardSide},
    shared_file::SharedFile,
    worker_side::{Lent, WorkerSide},
};
