//! Load for a Butterfly node: planned, checked and counted. [`agents`] are another load: a fleet
//! that registers, holds and acts.
//!
//! [`run`] takes a [`Config`] and gives a [`Report`]; the `blast` program is a command line around
//! it. Inside,
//! [`load::Load`] is the load of one thread as a state machine over the data plane's driver, so
//! that tests run it in virtual time and a run drives it with io_uring.
#![forbid(unsafe_code)]

pub mod agents;
pub mod check;
pub mod cli;
pub mod config;
pub mod conn;
mod connect;
pub mod load;
pub mod outbox;
pub mod overload;
pub mod reference;
pub mod report;
pub mod request;
pub mod rows;
mod run;
pub mod schedule;
pub mod server;
pub mod tally;
mod thread;
pub mod window;

pub use config::{BlastError, Config, Op, Pace, TensorRef};
pub use overload::{Overload, overload};
pub use report::Report;
pub use run::run;
