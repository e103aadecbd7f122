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
pub mod compare;
pub mod config;
pub mod conn;
mod connect;
pub mod document;
pub mod html;
pub mod load;
pub mod origin;
pub mod outbox;
pub mod overload;
pub mod reference;
pub mod report;
pub mod request;
pub mod rows;
mod run;
pub mod schedule;
pub mod server;
pub mod slo;
pub mod sweep;
pub mod tally;
pub mod terminal;
mod thread;
pub mod timeline;
pub mod window;

pub use config::{BlastError, Config, Op, Pace, TensorRef};
pub use overload::{Overload, overload};
pub use report::{Report, Run};
pub use run::{measure, run};
