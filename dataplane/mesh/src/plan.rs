//! The send plan.
