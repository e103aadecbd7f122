//! The projection of lm-head, resident on the device.

use super::{
    driver::{Arg, Context, DeviceMemory, Fault},
    lt::Product,
    trial::{PATTERN, make_up},
};
use crate::weights::Projection;
use std::rc::Rc;
use wire::Dtype;

/// Most bytes for the logits of one wave's tile.
const LOGITS_MAX: usize = 32 << 20;

/// Weights and bias on the device, in the type they have in their file: what the CPU computes with.
#[derive(Debug)]
pub(super) struct Head {
    matrix: DeviceMemory,
    bias: Option<DeviceMemory>,
    dtype: Dtype,
    width: u32,
    vocabulary: u32,
    /// `None` where our own kernel multiplies.
    product: Option<Product>,
}

/// Bytes of a tile's logits: a few rows at least, and no more than pays.
pub(super) fn logits_len(vocabulary: usize) -> usize {
    let row = vocabulary * 4;
    row * (LOGITS_MAX / row.max(1)).clamp(1, 64)
}

impl Head {
    pub(super) fn new(context: &Rc<Context>, projection: &Projection<'_>) -> Result<Self, Fault> {
        let (dtype, bytes) = projection.bytes();
        let matrix = DeviceMemory::new(context, bytes.len())?;
        matrix.fill(0, bytes)?;
        let bias = projection.bias().map(|bias| {
            let memory = DeviceMemory::new(context, size_of_val(bias))?;
            memory.fill(0, bytemuck::cast_slice(bias))?;
            Ok(memory)
        });
        let bias = bias.transpose()?;
        let (width, vocabulary) = (projection.width() as u32, projection.vocabulary() as u32);
        let product = Product::open(context, &matrix, dtype, width, vocabulary);
        Ok(Self { matrix, bias, dtype, width, vocabulary, product })
    }

    /// Made-up weights that repeat after a while, for a bench.
    pub(super) fn made_up(
        context: &Rc<Context>,
        dtype: Dtype,
        vocabulary: u32,
        width: u32,
    ) -> Result<Self, Fault> {
        let len = vocabulary as usize * width as usize * dtype.size();
        let matrix = DeviceMemory::new(context, len)?;
        let mut pattern = vec![0; len.min(PATTERN)];
        make_up(dtype, &mut pattern);
        let mut at = 0;
        while at < len {
            let part = &pattern[..pattern.len().min(len - at)];
            matrix.fill(at, part)?;
            at += part.len();
        }
        let product = Product::open(context, &matrix, dtype, width, vocabulary);
        Ok(Self { matrix, bias: None, dtype, width, vocabulary, product })
    }

    /// What multiplies hidden rows of this type, if it is not our own kernel.
    pub(super) fn product(&self, hidden: Dtype) -> Option<&Product> {
        self.product.as_ref().filter(|_| hidden == self.dtype)
    }

    /// True where a library multiplies.
    pub(super) const fn has_library(&self) -> bool {
        self.product.is_some()
    }

    /// Address of the bias.
    pub(super) fn bias(&self) -> Option<u64> {
        self.bias.as_ref().map(DeviceMemory::address)
    }

    /// Entries of a hidden row.
    pub(super) const fn width(&self) -> u32 {
        self.width
    }

    /// Device memory it takes.
    pub(super) fn len(&self) -> usize {
        self.matrix.len() + self.bias.as_ref().map_or(0, DeviceMemory::len)
    }

    /// Type of the weights.
    pub(super) const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Logits of a row.
    pub(super) const fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// What `project` takes: tables of hidden rows and of logits, and the weights.
    pub(super) fn args(&self, hidden: u64, rows: u32, logits: u64) -> [Arg; 7] {
        [
            Arg::U64(hidden),
            Arg::U32(rows),
            Arg::U64(self.matrix.address()),
            Arg::U32(self.width),
            Arg::U32(self.vocabulary),
            Arg::U64(self.bias.as_ref().map_or(0, DeviceMemory::address)),
            Arg::U64(logits),
        ]
    }
}
