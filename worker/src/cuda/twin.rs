//! Stand-in until the kernels are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: u32,
}
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct TopKJob {
    pub(crate) row: u64,
    pub(crate) indices: u64,
    pub(crate) values: u64,
    pub(crate) count: u64,
    pub(crate) max: u64,
    pub(crate) log_sum: u64,
    pub(crate) flags: u64,
}
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct RowJob {
    pub(crate) row: u64,
    pub(crate) codes: u64,
    pub(crate) scales: u64,
    pub(crate) flags: u64,
}
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning;
impl Tuning {
    pub(crate) fn for_capability(_a: i32, _b: i32, _m: u32) -> Self {
        Self
    }
}
pub(crate) const ROWS_MAX: u32 = 65_535;
pub(crate) struct TopKPlan {
    pub(crate) split: u32,
    pub(crate) scan: Launch,
    pub(crate) merge: Launch,
    pub(crate) scratch_len: u64,
}
pub(crate) fn topk_plan(rows: u32, _cols: u32, k: u32, _t: Tuning) -> Option<TopKPlan> {
    let launch = Launch { grid: [1, rows, 1], block: [256, 1, 1], shared: 0 };
    Some(TopKPlan { split: 1, scan: launch, merge: launch, scratch_len: u64::from(rows * k * 12) })
}
pub(crate) fn int8_row_plan(rows: u32, _cols: u32, _t: Tuning) -> Option<Launch> {
    Some(Launch { grid: [rows, 1, 1], block: [256, 1, 1], shared: 0 })
}
pub(crate) fn project_plan(count: u32, outputs: u32, _t: Tuning) -> Option<Launch> {
    Some(Launch { grid: [outputs, count, 1], block: [256, 1, 1], shared: 0 })
}
#[derive(Clone, Copy, Debug)]
pub(crate) struct Module {
    pub(crate) name: &'static str,
    pub(crate) ptx: &'static str,
    pub(crate) kernels: &'static [&'static str],
}
pub(crate) const MODULES: &[Module] = &[];
