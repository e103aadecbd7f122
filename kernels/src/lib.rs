//! What a worker computes, and the same on a CPU.
//!
//! - [`topk`]: the k best entries of a row of logits and its normaliser.
//! - [`int8`]: symmetric int8 of a row of hidden states: a scale per row, channel or group.
//! - [`rotation`]: centring and steps, for rows that are rotated before they are rounded.
//! - [`lmhead`]: logits from hidden states and an output projection.
//! - [`cast`]: f32 to f16 and bf16, and back.
//! - [`merge`]: one top-k set from several, with bounds.
//! - [`probability`]: probabilities of a top-k set's entries.
//! - [`fidelity`]: how much of the original an encoding kept.
//! - [`cuda`]: the same operations for a GPU, as data: code, argument tables, launch plans.
//!
//! **Same bits everywhere.** Each operation is defined by correctly rounded IEEE operations (add,
//! multiply, fused multiply-add, divide, max, conversions) in a fixed order, so that every CPU
//! level gives the same bits, and a GPU gives them too: its kernels are in `kernels/cuda/`.
//!
//! **Total.** Rows come from outside: every length, every alignment, NaN, infinities and subnormal
//! numbers have a defined answer and a flag (see [`flags`]). Nothing here panics on values.
//!
//! Architecture-specific code is confined to `simd/`, the only place with `unsafe`.

#[cfg(target_endian = "big")]
compile_error!("rows are little-endian in shared memory; this crate reads them in place");

pub mod cast;
pub mod cpu;
pub mod cuda;
pub mod fidelity;
pub mod int8;
pub mod lmhead;
pub mod merge;
pub mod probability;
pub mod rotation;
pub mod row;
pub mod topk;

mod exp;
mod simd;

pub use cpu::Level;
pub use row::{Element, Row};

/// What a kernel saw in a row, one bit each. The frame carries the same bits.
pub mod flags {
    /// At least one NaN. It was skipped (top-k) or coded as 0 (int8).
    pub const NAN: u8 = 1 << 0;
    /// Fewer valid entries than the k asked for: `count` says how many there are.
    pub const FEWER_THAN_K: u8 = 1 << 1;
    /// top-k: the largest entry is infinite. int8: at least one entry is infinite.
    pub const INFINITY: u8 = 1 << 2;
    /// int8: no finite entry differs from zero; scale and finite codes are 0.
    pub const ZERO_ROW: u8 = 1 << 3;
    /// int8: the scale is subnormal, or so small that it became 0; precision is lost.
    pub const DENORMAL_SCALE: u8 = 1 << 4;
}
