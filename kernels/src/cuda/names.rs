//! Names of the kernels by file. The host build of the kernels reads this file too.

pub(crate) const TOPK: &[&str] = &[
    "topk_scan_f32",
    "topk_scan_f16",
    "topk_scan_bf16",
    "topk_merge_f32",
    "topk_merge_f16",
    "topk_merge_bf16",
];
pub(crate) const INT8: &[&str] = &[
    "int8_row_f32",
    "int8_row_f16",
    "int8_row_bf16",
    "int8_channel_f32",
    "int8_channel_f16",
    "int8_channel_bf16",
    "int8_group_f32",
    "int8_group_f16",
    "int8_group_bf16",
];
pub(crate) const CENTER: &[&str] = &["center_f32", "center_f16", "center_bf16", "steps"];
pub(crate) const PROJECT: &[&str] = &["project_f32", "project_f16", "project_bf16"];
pub(crate) const RESTORE: &[&str] =
    &["restore_row", "restore_channel", "restore_group", "scatter_topk"];
