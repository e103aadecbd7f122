//! The mesh in virtual time: the node's core, the agents' core and the shard's wheel, over modelled
//! links, clocks and hosts, with faults drawn from a seed and a judge that knows what is true.
//!
//! A run is a pure function of its [`plan::Plan`]. Start at [`world::World`]; [`judge`] has the
//! promises, [`fault`] what goes wrong, [`shrink`] makes a failing run small.

mod actor;
pub mod cli;
pub mod engine;
pub mod fault;
mod forger;
mod frames;
pub mod judge;
mod lies;
mod links;
pub mod measure;
mod node;
mod operator;
mod parts;
pub mod plan;
pub mod run;
pub mod shrink;
pub mod slab;
mod strike;
mod sweep;
mod table;
mod warm;
mod watch;
pub mod world;
