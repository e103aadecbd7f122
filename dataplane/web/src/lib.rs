//! What a node shows over HTTP: the status page, metrics for Prometheus, whether it lives and is
//! ready, an overview as JSON and as a stream of events. Read-only.
//!
//! One thread serves it ([`start`]), apart from shards and control thread. It knows the node only
//! as a [`Node`]; whatever is long is rendered once for all who ask within a moment, and nothing
//! is rendered that nobody asks for. Every bound is in [`Limits`].
#![forbid(unsafe_code)]

mod answer;
mod counters;
mod csp;
mod events;
pub mod exposition;
mod fresh;
mod history;
mod hosts;
mod limits;
pub mod page;
mod patient;
mod server;
mod site;

pub use counters::Counters;
pub use hosts::{Hosts, is_name};
pub use limits::Limits;
pub use server::{Running, start};

use overview::{Check, Overview, Point};
use std::{future::Future, pin::Pin};

/// Something that is known later.
pub type Later<T> = Pin<Box<dyn Future<Output = T>>>;

/// A node as it is seen from here. Everything is asked for by one thread.
pub trait Node: Send + Sync + 'static {
    /// The rates since this was last asked for, which is once a second.
    fn point(&self) -> Point;

    /// What a person sees; asked for about once a second at most, and only while somebody looks.
    fn overview(&self) -> Later<Overview>;

    /// Whether it turns. It lives where all of these hold.
    fn life(&self) -> Later<Vec<Check>>;

    /// Whether it takes work. It is ready where all of these hold.
    fn readiness(&self) -> Vec<Check>;

    /// Every series; asked for four times a second at most.
    fn metrics(&self) -> exposition::Series;
}
