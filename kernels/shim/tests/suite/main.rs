//! The CUDA kernels, run on this machine by the shim, against the CPU's kernels: bit for bit.

mod center;
mod data;
mod int8;
mod project;
mod restore;
mod shim;
mod topk;
