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
    /// CRC-32C that the payload states of everything before its root, where it is long enough to
    /// need one.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn topk() -> Work {
        Work {
            operation: Operation::TopK,
            dtype: Dtype::F32,
            values: Dtype::F16,
            streaming: false,
            k: 5,
            rows: 2,
            cols: 10,
            data_offset: 0,
            data_len: 80,
            check: None,
        }
    }

    /// The verdict on good work after one change.
    fn verdict(change: impl FnOnce(&mut Work)) -> Result<(), ErrorCode> {
        let mut work = topk();
        change(&mut work);
        work.check().map(|_| ())
    }

    #[test]
    fn k_is_between_one_and_its_limit() {
        assert_eq!(verdict(|_| ()), Ok(()));
        assert_eq!(verdict(|work| work.k = 0), Err(ErrorCode::BadK));
        assert_eq!(verdict(|work| work.k = K_MAX + 1), Err(ErrorCode::BadK));
        assert_eq!(verdict(|work| work.k = K_MAX), Ok(()), "k may exceed the columns");
    }

    #[test]
    fn shapes_stay_within_their_limits_and_match_the_data() {
        assert_eq!(verdict(|work| work.rows = 0), Err(ErrorCode::BadShape));
        assert_eq!(verdict(|work| work.cols = 0), Err(ErrorCode::BadShape));
        assert_eq!(verdict(|work| work.rows = ROWS_MAX + 1), Err(ErrorCode::BadShape));
        assert_eq!(verdict(|work| work.cols = COLS_MAX + 1), Err(ErrorCode::BadShape));
        assert_eq!(verdict(|work| work.data_len = 79), Err(ErrorCode::BadRequest));
        assert_eq!(verdict(|work| work.dtype = Dtype::F16), Err(ErrorCode::BadRequest));
        let one = |work: &mut Work| (work.rows, work.cols, work.data_len) = (1, 1, 4);
        assert_eq!(verdict(one), Ok(()), "a vocabulary of one");
        // 65,536 rows of 65,536 columns: the product does not fit 32 bits.
        let wide = |work: &mut Work| (work.rows, work.cols, work.data_len) = (1 << 16, 1 << 16, 0);
        assert_eq!(verdict(wide), Err(ErrorCode::BadRequest));
    }

    #[test]
    fn bytes_are_for_echo_only_and_echo_may_be_wide() {
        let bytes = |work: &mut Work| (work.dtype, work.data_len) = (Dtype::U8, 20);
        assert_eq!(verdict(bytes), Err(ErrorCode::BadRequest));
        assert_eq!(verdict(|work| work.values = Dtype::U8), Err(ErrorCode::BadRequest));
        let int8 = |work: &mut Work| {
            bytes(work);
            work.operation = Operation::Int8;
        };
        assert_eq!(verdict(int8), Err(ErrorCode::BadRequest));
        let echo = |work: &mut Work| {
            work.operation = Operation::Echo;
            (work.dtype, work.rows, work.cols) = (Dtype::U8, 1, COLS_MAX + 1);
            (work.k, work.data_len) = (0, COLS_MAX + 1);
        };
        assert_eq!(verdict(echo), Ok(()));
    }

    #[test]
    fn text_brings_no_tensor() {
        let text = |work: &mut Work| {
            work.operation = Operation::Generate;
            (work.k, work.rows, work.cols, work.data_len) = (0, 0, 0, 0);
        };
        assert_eq!(verdict(text), Ok(()));
        assert_eq!(
            verdict(|work| work.operation = Operation::Generate),
            Err(ErrorCode::BadRequest)
        );
    }
}
