//! A listener on real sockets against quinn: threads of the test play the shards.

mod links;
mod peers;
mod rig;
#[path = "../support/mod.rs"]
mod support;
