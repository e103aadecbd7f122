//! tmp
pub mod wheel;
