//! The server at a real socket, in front of a node that is played.

mod bounds;
mod paths;
mod promtool;
mod rig;
mod streams;
