//! The numeric work a request asks for, in a form that has been checked as a whole.

use crate::{ErrorCode, kind::registry};

registry! {
    /// What the built-in workers compute.
    pub enum Operation: u8 {
        /// Text for a model. No built-in worker serves it.
        Generate = 0, "generate";
        /// Returns the tensor as it came, through a worker: measures the hop.
        Echo = 1, "echo";
        /// Top-k of every logits row, with (max, log-sum-exp).
        TopK = 2, "topk";
        /// Symmetric int8 of every hidden-state row, one scale per row.
        Int8 = 3, "int8";
        /// Hidden rows times the worker's resident weight matrix, then top-k of the products.
        LmHead = 4, "lm-head";
    }
}

registry! {
    /// Element types of tensors.
    pub enum Dtype: u8 {
        /// IEEE binary32, little-endian.
        F32 = 0, "f32";
        /// IEEE binary16, little-endian.
        F16 = 1, "f16";
        /// bfloat16, little-endian.
        Bf16 = 2, "bf16";
        /// Bytes without a meaning to us (echo).
        U8 = 3, "u8";
    }
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    #[inline]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }
}

/// Largest k of a top-k (K-01 in `FORMAT.md`).
pub const K_MAX: u32 = 1_024;
/// Most columns (vocabulary or hidden width) of a tensor row.
pub const COLS_MAX: u32 = 262_144;
/// Most rows of one request.
pub const ROWS_MAX: u32 = 65_536;

/// One checked piece of numeric work. Values exist only after [`Work::check`] accepted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// What to compute.
    pub operation: Operation,
    /// Element type of the input rows.
    pub dtype: Dtype,
    /// Element type of returned top-k values (F32, F16 or BF16).
    pub values: Dtype,
    /// Answer in chunks of rows, each a frame of its own.
    pub streaming: bool,
    /// Entries per row, for top-k and lm-head; 0 otherwise.
    pub k: u32,
    /// Rows of the tensor.
    pub rows: u32,
    /// Columns of the tensor.
    pub cols: u32,
    /// Where the rows start in the payload, bytes.
    pub data_offset: u32,
    /// Bytes of all rows: rows * cols * dtype size.
    pub data_len: u32,
    /// CRC-32C that the payload states of everything before its root, where it is long enough to need one.
    pub check: Option<u32>,
}

impl Work {
    /// Accepts the work as a whole or says what is wrong with it.
    ///
    /// # Errors
    /// `BadK`, `BadShape`, `BadRequest`: see `FORMAT.md`, rules on requests.
    pub fn check(self) -> Result<Self, ErrorCode> {
        if self.operation == Operation::Generate {
            let bare = self.rows == 0 && self.cols == 0 && self.k == 0 && self.data_len == 0;
            return if bare { Ok(self) } else { Err(ErrorCode::BadRequest) };
        }
        if self.rows == 0 || self.rows > ROWS_MAX || self.cols == 0 {
            return Err(ErrorCode::BadShape);
        }
        if self.operation != Operation::Echo && self.cols > COLS_MAX {
            return Err(ErrorCode::BadShape);
        }
        let expected = u64::from(self.rows) * u64::from(self.cols) * self.dtype.size() as u64;
        if expected != u64::from(self.data_len) {
            return Err(ErrorCode::BadRequest);
        }
        match self.operation {
            Operation::TopK | Operation::LmHead => {
                if self.k == 0 || self.k > K_MAX {
                    return Err(ErrorCode::BadK);
                }
                if self.dtype == Dtype::U8 || self.values == Dtype::U8 {
                    return Err(ErrorCode::BadRequest);
                }
            }
            Operation::Int8 if self.dtype == Dtype::U8 => return Err(ErrorCode::BadRequest),
            Operation::Echo | Operation::Int8 | Operation::Generate => {}
        }
        Ok(self)
    }
}
