//! The CUDA kernels: their code as PTX, their argument tables, and how to launch them.
//!
//! Nothing here calls a driver: a worker loads [`MODULES`], fills job tables, and launches what a
//! plan says. The sources are in `kernels/cuda/`, one module per file, each with its contract at
//! the top; the PTX beside them is made by `cargo xtask kernels`. Every kernel gives the bits of
//! its counterpart in this crate.
//!
//! # Jobs
//! Rows are found through a table of jobs in memory the GPU can read, one job per row, so that one
//! launch serves rows from anywhere. An address is that of the device's address space, 0 for
//! "none" where a kernel allows it, and aligned as its element asks, no more. Kernels trust their
//! tables: a wrong address is the caller's fault.
//!
//! # Arguments, in order
//! | kernel | arguments |
//! | --- | --- |
//! | `topk_scan_<t>` | [`TopKJob`]s, cols, k, split, scratch |
//! | `topk_merge_<t>` | [`TopKJob`]s, cols, k, split, values' [`dtype`], scratch |
//! | `int8_row_<t>` | [`RowJob`]s, cols, mean or 0, masked or 0 |
//! | `int8_channel_<t>` | [`RowJob`]s, cols, mean, scale |
//! | `int8_group_<t>` | [`RowJob`]s, cols |
//! | `center_<t>` | [`RowJob`]s, cols, mean or 0 |
//! | `steps` | [`RowJob`]s, cols |
//! | `project_<t>` | rows, count, matrix, width, outputs, bias or 0, outs |
//! | `restore_row` | [`DenseJob`]s, cols, mean or 0, out [`dtype`] |
//! | `restore_channel` | [`DenseJob`]s, cols, mean or 0, scale, out [`dtype`] |
//! | `restore_group` | [`DenseJob`]s, cols, out [`dtype`] |
//! | `scatter_topk` | [`ScatterJob`]s, cols, k, fill (f32), values' [`dtype`], out [`dtype`] |
//!
//! `<t>` is `f32`, `f16` or `bf16`: the element of the rows (of the matrix, for `project`).
//! Numbers are `u32`, addresses `u64`.

mod names;
mod plan;
mod tuning;

pub use plan::{
    Launch, ROWS_MAX, TOPK_SCRATCH_ALIGN, TOPK_SCRATCH_ROW, TopKPlan, center_plan, dense_plan,
    int8_channel_plan, int8_group_plan, int8_row_plan, project_plan, topk_plan,
};
pub use tuning::Tuning;

use crate::row::Element;
use bytemuck::{Pod, Zeroable};

/// One file of kernels.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// The file's name without its ending.
    pub name: &'static str,
    /// For `cuModuleLoadData` once a zero byte is appended: PTX 8.0 for `compute_80`.
    pub ptx: &'static str,
    /// Entry points.
    pub kernels: &'static [&'static str],
}

/// Every file of kernels.
pub const MODULES: &[Module] = &[
    Module { name: "topk", ptx: include_str!("../cuda/ptx/topk.ptx"), kernels: names::TOPK },
    Module { name: "int8", ptx: include_str!("../cuda/ptx/int8.ptx"), kernels: names::INT8 },
    Module { name: "center", ptx: include_str!("../cuda/ptx/center.ptx"), kernels: names::CENTER },
    Module {
        name: "project",
        ptx: include_str!("../cuda/ptx/project.ptx"),
        kernels: names::PROJECT,
    },
    Module {
        name: "restore",
        ptx: include_str!("../cuda/ptx/restore.ptx"),
        kernels: names::RESTORE,
    },
];

/// Elements as kernels take them: the codes of the wire format.
pub mod dtype {
    /// IEEE binary32.
    pub const F32: u32 = 0;
    /// IEEE binary16.
    pub const F16: u32 = 1;
    /// The upper half of a binary32.
    pub const BF16: u32 = 2;
}

/// The ending of a kernel's name for rows of `element`.
#[must_use]
pub const fn suffix(element: Element) -> &'static str {
    match element {
        Element::F32 => "f32",
        Element::F16 => "f16",
        Element::Bf16 => "bf16",
    }
}

/// A row and the places of its top-k set. Addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TopKJob {
    /// In: the row.
    pub row: u64,
    /// Out: `u32[k]`, untouched beyond the count.
    pub indices: u64,
    /// Out: `[k]` of the values' dtype, untouched beyond the count.
    pub values: u64,
    /// Out: `u32`, entries written.
    pub count: u64,
    /// Out: `f32`, the largest entry.
    pub max: u64,
    /// Out: `f32`, see [`crate::topk`].
    pub log_sum: u64,
    /// Out: `u8`, see [`crate::flags`].
    pub flags: u64,
}

/// A row and the places of its codes. Addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RowJob {
    /// In: the row (`steps`: of f32).
    pub row: u64,
    /// Out: `i8[cols]`; `center`: `f32[cols]`; `steps`: `i16[cols]`.
    pub codes: u64,
    /// Out: `f32`, the row's scale (`center`: its root mean square); `int8_group`: an f16 per
    /// group. In for `steps`: `f32`, the step. Not read by `int8_channel`.
    pub scales: u64,
    /// Out: `u8`, see [`crate::flags`]. Not written by `steps`.
    pub flags: u64,
}

/// Codes and the place of what they stand for. Addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct DenseJob {
    /// In: `i8[cols]`.
    pub codes: u64,
    /// In: `f32`, the row's scale; `restore_group`: an f16 per group. Not read by
    /// `restore_channel`.
    pub scales: u64,
    /// Out: `[cols]` of the out dtype.
    pub out: u64,
}

/// A top-k set and the place of the row it is spread over. Addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ScatterJob {
    /// In: `u32[count]`. Those outside the row are passed over.
    pub indices: u64,
    /// In: `[count]` of the values' dtype.
    pub values: u64,
    /// In: `u32`, entries of the set; no more than k of them are read.
    pub count: u64,
    /// Out: `[cols]` of the out dtype.
    pub out: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_in_its_ptx_and_in_one_module_only() {
        let mut seen = Vec::new();
        for module in MODULES {
            assert!(module.ptx.contains(".target sm_80"), "{}", module.name);
            assert!(module.ptx.contains(".version 8.0"), "{}", module.name);
            let entries = module.ptx.matches(".visible .entry ").count();
            assert_eq!(entries, module.kernels.len(), "{}", module.name);
            for kernel in module.kernels {
                let entry = format!(".visible .entry {kernel}(");
                assert!(module.ptx.contains(&entry), "{kernel}");
                assert!(!seen.contains(kernel), "{kernel}");
                seen.push(kernel);
            }
        }
    }

    #[test]
    fn jobs_have_the_size_that_the_kernels_step_by() {
        assert_eq!(size_of::<TopKJob>(), 56);
        assert_eq!(size_of::<RowJob>(), 32);
        assert_eq!(size_of::<DenseJob>(), 24);
        assert_eq!(size_of::<ScatterJob>(), 32);
    }
}
