//! A CUDA driver without a device, for tests: the folder of a `libcuda.so.1` that runs the kernels
//! on the CPU, one fiber per thread.
//!
//! A test starts the unmodified worker with `LD_LIBRARY_PATH` set to [`folder`]. Nothing that is
//! shipped knows of it.
//!
//! # What it checks
//! Copies stay within allocations; a device address is never the address of the host's memory it
//! stands for; allocations end at a page that cannot be touched, and begin with garbage. Streams
//! are queues: what is queued runs when somebody waits or asks, or when a host function is queued
//! behind it, in an order that only streams and events bind; which order follows from
//! `FAKE_CUDA_SEED`.
//!
//! # What it does on purpose
//! `FAKE_CUDA_FAIL` names one failure: `init`, `ptx`, `register`, `alloc:N`, `pin:N`, `launch:N`
//! (the N-th call fails, from 1) and `lost:N` (the N-th launch kills the device as it runs: every
//! call fails from then on). `FAKE_CUDA_DEVICES` is the number of devices, 1 unless set. With
//! `FAKE_CUDA_BLAS` set there is a cuBLASLt too, for the one product that is asked of it.
#![forbid(unsafe_code)]

use std::path::Path;

// Linked into the library by the build script; named here so that cargo builds it first.
use cuda_shim as _;

/// Where `libcuda.so.1` lies.
#[must_use]
pub fn folder() -> &'static Path {
    Path::new(env!("FAKE_CUDA_FOLDER"))
}
