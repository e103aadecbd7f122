//! Butterfly's data path as a state machine: intake, batch, route, egress. It does no I/O, reads no clock
//! and allocates nothing after start; a [`driver::Driver`] feeds it and acts for it.
#![forbid(unsafe_code)]

pub mod driver;
pub mod memory;
