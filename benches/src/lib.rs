//! What the benches share: a bare io_uring floor to compare with, one client for both, and the
//! report.

pub mod cores;
pub mod fire;
pub mod floor;
pub mod frames;
pub mod ours;
pub mod report;
