//! Codings against the samples, against their goals, and against hostile bytes.

mod goals;
mod golden;
mod hidden;
#[allow(dead_code)]
mod quality;
#[allow(dead_code)]
mod samples;
mod set;
