//! Kernels on one core, each beside the floor that memory sets for it.
fn main() {}
