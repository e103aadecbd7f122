//! The mesh of a node: the thread that runs it, its link to the shards, what it keeps.

pub(crate) mod link;
mod store;
