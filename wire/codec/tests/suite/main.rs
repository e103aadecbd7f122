//! Codings against the samples, against their goals, and against hostile bytes.

mod goals;
mod golden;
mod hidden;
#[path = "../support/quality.rs"]
#[allow(dead_code)]
mod quality;
#[path = "../support/samples.rs"]
#[allow(dead_code)]
mod samples;
mod set;
