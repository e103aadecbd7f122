//! The bridge against a client of quinn-proto, in virtual time.

mod bounds;
mod early;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod world;
