//! The worker process: takes batches of lent slots, computes, writes whole reply frames, gives the
//! slots back.
//!
//! One thread, one loop ([`serve()`]). It opens no file and no connection: segment, doorbells and
//! weights come as descriptors over the control socket, which is its standard input. What happens
//! to it happens to nobody else: a worker that dies is replaced, and its slots are lent again.
#![deny(unsafe_code)]

mod authors;
pub mod backend;
mod clock;
mod coded;
pub mod cpu;
#[allow(unsafe_code, reason = "calls the CUDA driver")]
pub mod cuda;
mod job;
mod lm_head;
mod run;
#[allow(unsafe_code, reason = "tries what an attacker would")]
pub mod sandbox;
pub mod serve;
pub mod weights;

pub use backend::{Backend, Choice};
pub use run::{Args, exit, run, run_on};
pub use serve::{Poll, serve};
