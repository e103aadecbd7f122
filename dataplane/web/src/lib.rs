//! What a node shows over HTTP.
#![forbid(unsafe_code)]

pub mod page;
