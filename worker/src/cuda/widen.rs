//! Lent rows of 16 bits as f32, which is what a projection takes. The host widens what lies in
//! requests; what lies on the device is widened there, by the kernel that spreads sets over rows: a
//! row is the set of all its columns.

use super::driver::{Arg, Context, DeviceMemory, Fault};
use kernels::cuda::{ScatterJob, dtype};
use std::rc::Rc;
use wire::Dtype;

/// The columns of a row, and how many they are, on the device.
#[derive(Debug)]
pub(super) struct Columns {
    memory: DeviceMemory,
    count: u32,
}

impl Columns {
    pub(super) fn new(context: &Rc<Context>, count: u32) -> Result<Self, Fault> {
        let numbers: Vec<u32> = (0..=count).collect();
        let memory = DeviceMemory::new(context, size_of_val(&numbers[..]))?;
        memory.fill(0, bytemuck::cast_slice(&numbers))?;
        Ok(Self { memory, count })
    }

    /// Device memory it takes.
    pub(super) const fn len(&self) -> usize {
        self.memory.len()
    }

    /// Columns of a row.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Widens the row at `from` to the f32 row at `to`.
    pub(super) const fn job(&self, from: u64, to: u64) -> ScatterJob {
        let indices = self.memory.address();
        // The number behind the last column is how many there are.
        let count = indices + self.count as u64 * 4;
        ScatterJob { indices, values: from, count, out: to }
    }

    /// What `scatter_topk` takes: a table of jobs over rows of this type.
    pub(super) fn args(&self, jobs: u64, from: Dtype) -> [Arg; 6] {
        [
            Arg::U64(jobs),
            Arg::U32(self.count),
            Arg::U32(self.count),
            // Every column is written, so what fills it before does not matter.
            Arg::U32(0),
            Arg::U32(u32::from(from.code())),
            Arg::U32(dtype::F32),
        ]
    }
}
