//! Codings against the samples, against their goals, and against hostile bytes.

mod goals;
mod golden;
mod hidden;
#[allow(dead_code, reason = "the example prints what the tests do not ask")]
mod quality;
#[allow(dead_code, reason = "shared with the example")]
mod samples;
mod set;
