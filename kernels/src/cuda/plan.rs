//! How to launch the kernels: pure arithmetic over shapes and [`Tuning`].

use super::Tuning;
use crate::topk::MAX_K;

/// A grid of thread blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory per block; 48 KiB at most, so that no attribute is needed.
    pub shared: u32,
}

impl Launch {
    const fn rows(rows: u32, threads: u32, shared: u32) -> Self {
        Self { grid: [rows, 1, 1], block: [threads, 1, 1], shared }
    }
}

/// Most rows of one launch. More are launched in parts.
pub const ROWS_MAX: u32 = 65_535;

/// Scratch of `topk` per row, in bytes: 2,048 sums, 4,096 maxima, 32 words of flags, rounded up.
/// The same number is in `kernels/cuda/topk.cu`.
pub const TOPK_SCRATCH_ROW: u64 = 24_832;
/// What the address of the scratch of `topk` must be a multiple of.
pub const TOPK_SCRATCH_ALIGN: u64 = 256;

/// Threads of the merge of `topk`, and those of a scan with four lanes to a thread, in all parts of
/// a row together.
const ROW_THREADS: u32 = 512;
/// Threads of a scan with one lane to a thread, in all parts of a row together.
const ROW_THREADS_SPREAD: u32 = 2048;
/// Parts of a row when it is spread: more than 8 tell the kernels of one lane to a thread.
const SPREAD: u32 = 32;
/// Bytes of the shared memory of the merge: 4,096 keys, 4,096 group numbers, 64 words.
const MERGE_SHARED: u32 = 4096 * 8 + 4096 * 2 + 256;
/// Shared memory for what the warps of a block tell each other.
const WARPS_SHARED: u32 = 256;
/// Floats that `center` holds at a time.
const CENTER_TILE: u32 = 4096;

/// Both launches of a top-k, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopKPlan {
    /// Parts of a row.
    pub split: u32,
    /// `topk_scan_<t>`.
    pub scan: Launch,
    /// `topk_merge_<t>`.
    pub merge: Launch,
    /// Bytes of scratch, any content.
    pub scratch_len: u64,
}

/// Top-k of `rows` rows of `cols` entries. `None` without rows, with more than [`ROWS_MAX`], or
/// with k beyond [`MAX_K`].
#[must_use]
pub fn topk_plan(rows: u32, cols: u32, k: u32, tuning: Tuning) -> Option<TopKPlan> {
    if rows == 0 || rows > ROWS_MAX || k as usize > MAX_K {
        return None;
    }
    let spread = rows.saturating_mul(tuning.spread) <= tuning.multiprocessors && cols > 4096;
    let (split, threads) = if spread {
        (SPREAD, ROW_THREADS_SPREAD / SPREAD)
    } else {
        let wanted = tuning.multiprocessors.saturating_mul(tuning.blocks).div_ceil(rows);
        let split = wanted.min(tuning.split).next_power_of_two();
        (split, ROW_THREADS / split)
    };
    Some(TopKPlan {
        split,
        scan: Launch { grid: [split, rows, 1], block: [threads, 1, 1], shared: 0 },
        merge: Launch::rows(rows, ROW_THREADS, MERGE_SHARED),
        scratch_len: u64::from(rows) * TOPK_SCRATCH_ROW,
    })
}

/// `int8_row_<t>`. `None` without rows or with more than [`ROWS_MAX`], as below.
#[must_use]
pub fn int8_row_plan(rows: u32, cols: u32, tuning: Tuning) -> Option<Launch> {
    // A thread keeps 16 entries in registers, so that most rows are read once.
    let threads = cols.div_ceil(16).clamp(64, tuning.threads).next_power_of_two();
    some_rows(rows).map(|rows| Launch::rows(rows, threads, WARPS_SHARED))
}

/// `int8_channel_<t>`.
#[must_use]
pub fn int8_channel_plan(rows: u32, cols: u32, _: Tuning) -> Option<Launch> {
    some_rows(rows).map(|rows| Launch::rows(rows, threads_for(cols), WARPS_SHARED))
}

/// `int8_group_<t>`.
#[must_use]
pub fn int8_group_plan(rows: u32, cols: u32, _: Tuning) -> Option<Launch> {
    some_rows(rows).map(|rows| Launch::rows(rows, threads_for(cols), WARPS_SHARED))
}

/// `center_<t>`.
#[must_use]
pub fn center_plan(rows: u32, _: Tuning) -> Option<Launch> {
    some_rows(rows).map(|rows| Launch::rows(rows, 256, CENTER_TILE * 4 + WARPS_SHARED))
}

/// `steps`, `restore_row`, `restore_channel`, `restore_group`, `scatter_topk`.
#[must_use]
pub fn dense_plan(rows: u32, cols: u32, _: Tuning) -> Option<Launch> {
    some_rows(rows).map(|rows| Launch::rows(rows, threads_for(cols), 0))
}

/// `project_<t>` of `count` rows onto `outputs` outputs. `None` if either is 0, or more than
/// [`ROWS_MAX`] rows.
#[must_use]
pub fn project_plan(count: u32, outputs: u32, _: Tuning) -> Option<Launch> {
    /// Bytes of the tiles of many rows: 32 outputs and 16 rows of 64 columns, padded to 66.
    const MANY_SHARED: u32 = (32 + 16) * 66 * 4;
    /// Bytes of 512 columns of four rows.
    const FEW_SHARED: u32 = 4 * 512 * 4;
    let count = some_rows(count).filter(|_| outputs > 0)?;
    // The kernel decides by the same bound.
    let (grid, shared) = if count <= 4 {
        ([outputs.div_ceil(128), 1, 1], FEW_SHARED)
    } else {
        ([outputs.div_ceil(32), count.div_ceil(16), 1], MANY_SHARED)
    };
    Some(Launch { grid, block: [256, 1, 1], shared })
}

fn some_rows(rows: u32) -> Option<u32> {
    (1..=ROWS_MAX).contains(&rows).then_some(rows)
}

/// Threads of a block whose threads take eight columns at a time.
fn threads_for(cols: u32) -> u32 {
    cols.div_ceil(8).clamp(32, 512).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: (i32, i32, u32) = (9, 0, 132);

    fn tuning() -> Tuning {
        Tuning::for_capability(H200.0, H200.1, H200.2)
    }

    #[test]
    fn a_scan_covers_every_lane_once() {
        for rows in [1, 2, 33, 34, 64, 132, 256, 1000, ROWS_MAX] {
            for cols in [0, 1, 4096, 50_257, 131_072, u32::MAX] {
                let plan = topk_plan(rows, cols, 100, tuning()).expect("rows");
                let threads = plan.split * plan.scan.block[0];
                assert_eq!(threads, if plan.split > 8 { 2048 } else { 512 });
                assert_eq!(plan.scan.grid, [plan.split, rows, 1]);
                assert_eq!(plan.merge.grid, [rows, 1, 1]);
                assert!(plan.scan.block[0] >= 32 && plan.scan.block[0].is_power_of_two());
                assert_eq!(plan.scratch_len, u64::from(rows) * TOPK_SCRATCH_ROW);
            }
        }
        assert_eq!(TOPK_SCRATCH_ROW % TOPK_SCRATCH_ALIGN, 0);
    }

    #[test]
    fn few_rows_are_spread_and_many_are_not() {
        let split = |rows| topk_plan(rows, 131_072, 100, tuning()).expect("rows").split;
        assert_eq!((split(1), split(64), split(1024), split(8192)), (32, 8, 2, 1));
    }

    #[test]
    fn shapes_that_cannot_be_launched_have_no_plan() {
        let tuning = tuning();
        assert_eq!(topk_plan(0, 5, 1, tuning), None);
        assert_eq!(topk_plan(ROWS_MAX + 1, 5, 1, tuning), None);
        assert_eq!(topk_plan(1, 5, 1025, tuning), None);
        assert_eq!(int8_row_plan(0, 5, tuning), None);
        assert_eq!(project_plan(1, 0, tuning), None);
    }

    #[test]
    fn no_launch_asks_for_more_than_every_device_has() {
        let tuning = tuning();
        for cols in [0, 1, 31, 4096, u32::MAX] {
            let launches = [
                int8_row_plan(7, cols, tuning),
                int8_channel_plan(7, cols, tuning),
                int8_group_plan(7, cols, tuning),
                center_plan(7, tuning),
                dense_plan(7, cols, tuning),
                project_plan(7, 1 + cols / 2, tuning),
                topk_plan(7, cols, 1024, tuning).map(|plan| plan.merge),
            ];
            for launch in launches.into_iter().map(|launch| launch.expect("rows")) {
                assert!(launch.shared <= 48 << 10, "{launch:?}");
                assert!(launch.block[0].is_multiple_of(32) && launch.block[0] <= 1024);
                assert!(launch.grid[1] <= 65_535);
            }
        }
    }
}
