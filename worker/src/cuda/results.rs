//! What the device makes for the host to code from, where it cannot write the answer itself.
//!
//! Each chunk of an answer has one stretch: written by kernels to device memory, copied to pinned
//! memory, coded from there. The stretches of an order follow each other.

use super::steps::Entry;
use kernels::cuda::RowJob;
use wire::{
    Coding, Dtype, Work,
    coding::GROUP,
    reply::{Chunk, Layout, TopKReply},
};

/// Stretches start at multiples of this, of memory that does.
pub(super) const ALIGN: usize = 256;

/// How a stretch is laid out. Offsets are from its start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Results {
    /// Plain sets, values as they are computed: f32.
    Sets(TopKReply),
    /// Rows that `center` and `project` have gone over: f32 `[rows, components]`, then f32
    /// `[rows]` of root mean squares, then u8 `[rows]` of flags.
    Projected { rows: usize, cols: usize, components: usize },
    /// Rows of `int8-group` of an odd number of bytes, one more byte apart so that their scales can
    /// be written: `[rows, len + 1]`, then u8 `[rows]` of flags.
    Groups { rows: usize, cols: usize },
}

/// Bytes of scales before the codes of a row of `int8-group`.
pub(super) const fn scales_len(cols: usize) -> usize {
    2 * cols.div_ceil(GROUP)
}

/// Bytes of a row of a coding whose rows the device writes whole.
pub(super) const fn row_len(coding: Coding, cols: usize) -> usize {
    match coding {
        Coding::Int8Group => scales_len(cols) + cols,
        _ => cols,
    }
}

/// Bytes from one row of an odd number of bytes to the next.
pub(super) const fn group_stride(cols: usize) -> usize {
    row_len(Coding::Int8Group, cols) + 1
}

impl Results {
    /// Of a chunk of the answer to `shape`; `None` where the device writes the answer itself.
    pub(super) const fn of(shape: &Work, chunk: &Chunk) -> Option<Self> {
        let (rows, cols) = (chunk.rows as usize, shape.cols as usize);
        match shape.coding {
            Coding::Rotated | Coding::Pca => {
                Some(Self::Projected { rows, cols, components: shape.k as usize })
            }
            Coding::Int8Group if cols % 2 == 1 => Some(Self::Groups { rows, cols }),
            coding if coding.is_set() => {
                Some(Self::Sets(TopKReply::layout(chunk.rows, shape.k, shape.cols, Dtype::F32)))
            }
            _ => None,
        }
    }

    /// Bytes of the stretch.
    pub(super) const fn len(&self) -> usize {
        let len = match self {
            Self::Sets(layout) => layout.end(),
            Self::Projected { rows, components, .. } => *rows * (*components * 4 + 4 + 1),
            Self::Groups { rows, cols } => *rows * (group_stride(*cols) + 1),
        };
        len.next_multiple_of(ALIGN)
    }

    /// Bytes of device memory between the kernels that make it.
    pub(super) const fn between(&self) -> usize {
        match self {
            Self::Projected { rows, cols, .. } => *rows * *cols * 4,
            Self::Sets(_) | Self::Groups { .. } => 0,
        }
    }

    /// Offset of what follows the rows, one per row: root mean squares or flags.
    pub(super) const fn behind(&self) -> usize {
        match self {
            Self::Projected { rows, components, .. } => *rows * *components * 4,
            Self::Groups { rows, cols } => *rows * group_stride(*cols),
            Self::Sets(layout) => layout.end(),
        }
    }

    /// Row `row`, made from what lies at `from`; the stretch is at `at`, and what lies between
    /// kernels at `between`.
    pub(super) fn entry(&self, from: u64, at: u64, between: u64, row: u32) -> Option<Entry> {
        let number = row as usize;
        let part = |pos: usize, stride: usize| at + (pos + number * stride) as u64;
        match self {
            Self::Sets(layout) => Entry::of(&Layout::TopK(*layout), from, at, row),
            Self::Projected { rows, cols, components } => {
                let center = RowJob {
                    row: from,
                    codes: between + (number * cols * 4) as u64,
                    scales: part(self.behind(), 4),
                    flags: part(self.behind() + rows * 4, 1),
                };
                Some(Entry::Project { center, out: part(0, components * 4) })
            }
            Self::Groups { cols, .. } => Some(Entry::Row(RowJob {
                row: from,
                codes: part(scales_len(*cols), group_stride(*cols)),
                scales: part(0, group_stride(*cols)),
                flags: part(self.behind(), 1),
            })),
        }
    }
}
