//! Pools and connections against a node that follows a script, over every transport.

mod node;
mod scripted;
mod secured;
