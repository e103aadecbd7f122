//! Every reader of bytes that others write, as a function of bytes: what must hold for any of them
//! is asserted, and nothing may panic, hang or leave its memory.
//!
//! The same [`TARGETS`] are run by libFuzzer (`libfuzzer/`, guided by coverage), by a plain loop
//! (`main.rs`, where that cannot be built), and over the corpus by `cargo test`.
#![deny(unsafe_code)]

mod bytes;
mod codecs;
mod frames;
mod handshakes;
mod meshes;
pub mod mutate;
mod records;
#[allow(unsafe_code, reason = "says when a worker is no more")]
mod segment;
mod stream;
mod wired;

/// One entrance for hostile bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// For command lines and the corpus' folder.
    pub name: &'static str,
    /// Takes any bytes, and panics where something does not hold.
    pub run: fn(&[u8]),
    /// Inputs that get far, to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

/// Longest input that is worth its time.
pub const INPUT_MAX: usize = 16 << 10;

/// All of them.
pub const TARGETS: &[Target] = &[
    target("header", wired::header, frames::all),
    target("payloads", wired::payloads, frames::payloads),
    target("requests", wired::requests, frames::payloads),
    target("responses", wired::responses, frames::payloads),
    target("packed", wired::packed, frames::packed),
    target("tokens", wired::tokens, wired::token_seeds),
    target("texts", wired::texts, wired::text_seeds),
    target("orders", wired::orders, wired::order_seeds),
    target("sets", codecs::sets, codecs::set_seeds),
    target("rows", codecs::rows, codecs::row_seeds),
    target("basis", codecs::basis, codecs::basis_seeds),
    target("weights", codecs::weights, codecs::basis_seeds),
    target("stream", stream::run, frames::streams),
    target("segment", segment::run, segment::seeds),
    target("answers", segment::answers, segment::answer_seeds),
    target("mesh", meshes::node, meshes::seeds),
    target("identities", handshakes::identities, handshakes::identity_seeds),
    target("handshake", handshakes::handshake, handshakes::handshake_seeds),
    target("records", records::records, records::record_seeds),
    target("snapshot", meshes::snapshot, meshes::snapshot_seeds),
];

/// The target of this name.
///
/// # Errors
/// The names there are.
pub fn find(name: &str) -> Result<&'static Target, String> {
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    TARGETS.iter().find(|target| target.name == name).ok_or_else(|| format!("one of {}", names()))
}
