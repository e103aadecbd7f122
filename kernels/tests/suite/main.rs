//! Kernels against answers that other software computed, against slow and plain references, and
//! against themselves at every level.

mod casts;
mod fidelity;
mod int8;
mod learned;
mod lmhead;
mod merge;
mod reference;
mod samples;
mod topk;
