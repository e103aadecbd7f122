//! The time that a forecast and a planned send take.

/// Prints it.
pub(crate) fn report() {}
