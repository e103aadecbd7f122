//! The CUDA kernels, run on this machine by the shim, against the CPU's kernels: bit for bit.

mod data;
mod shim;
mod topk;
