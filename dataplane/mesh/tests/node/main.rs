//! The machine as a whole, in virtual time: what it answers, what it decides, what it refuses.

mod cascades;
mod gathers;
mod isolation;
mod random;
mod registration;
mod rig;
mod signed;
mod views;
