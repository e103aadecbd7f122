//! The data path in virtual time: one shard of `dataplane-core`, simulated clients, a simulated
//! network and simulated workers, all drawn from one seed, and the checks that judge what they see.
//!
//! A run is a pure function of its [`Plan`]: the same seed gives the same trace, to the byte. Start
//! at [`world::World`]; [`custody`] and [`driver`] hold the rules of the seam that a driver relies
//! on.
#![forbid(unsafe_code)]

pub mod accounts;
mod actor;
pub mod checks;
pub mod client;
pub mod custody;
pub mod driver;
pub mod memory;
pub mod mesh;
pub mod net;
pub mod plan;
pub mod port;
pub mod request;
pub mod rng;
pub mod run;
pub mod script;
pub mod trace;
pub mod worker;
pub mod world;

pub use plan::Plan;
pub use run::{Failure, Summary, run_seed};
pub use world::World;

/// Reads `A..B`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("expected A..B")?;
    let parse = |n: &str| n.parse().map_err(|_| format!("{n:?} is no number"));
    Ok((parse(from)?, parse(to)?))
}
