//! The worker against a node's end of the shared memory: one binary, so that it links once.

mod coded;
mod cuda;
mod faults;
mod operations;
mod support;
