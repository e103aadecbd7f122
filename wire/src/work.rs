//! The numeric work a request asks for, in a form that has been checked as a whole.

use crate::{Coding, ErrorCode, kind::registry, lease::LEASE_LEN};

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
        /// Hidden rows in one of the codings for them.
        Hidden = 5, "hidden";
        /// A piece of the basis that the worker codes with.
        Fetch = 6, "fetch";
    }
}

registry! {
    /// Where the rows of a request lie.
    pub enum Source: u8 {
        /// In the request.
        Inline = 0, "inline";
        /// In device memory that another process of the node's machine lends: the request carries
        /// a [`crate::lease::Lease`].
        CudaIpc = 1, "cuda-ipc";
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

registry! {
    /// What goes first where there is more to do than time.
    pub enum Priority: u8 {
        /// Whatever is left over.
        Background = 0, "background";
        /// What nobody said anything else about.
        Normal = 1, "normal";
        /// Ahead of what is normal.
        High = 2, "high";
        /// Ahead of everything, and refused last.
        Critical = 3, "critical";
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
/// Bytes of a fetched piece; only the last one is shorter.
pub const FETCH_PIECE: u32 = 65_536;
/// Highest number of a fetched piece, and most that the field k may hold.
pub const PIECES_MAX: u32 = 65_535;
/// Most elements of a leased tensor.
pub const LEASED_MAX: u64 = 1 << 31;
/// Coarsest step of [`Coding::Rotated`], in units of a row's root mean square.
pub const STEP_MAX: f32 = 4.0;
/// Finest step of [`Coding::Rotated`].
pub const STEP_MIN: f32 = 1.0 / 1024.0;

/// One checked piece of numeric work. Values exist only after [`Work::check`] accepted them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// What to compute.
    pub operation: Operation,
    /// Element type of the input rows.
    pub dtype: Dtype,
    /// Element type of returned top-k values (F32, F16 or BF16).
    pub values: Dtype,
    /// How the rows of the answer are coded.
    pub coding: Coding,
    /// Where the rows lie.
    pub source: Source,
    /// The dial of `coding`. Sets: probability at which a set is long enough, 0 for all k entries.
    /// [`Coding::Rotated`]: the step, in units of a row's root mean square. Otherwise 0.
    pub quality: f32,
    /// Answer in chunks of rows, each a frame of its own.
    pub streaming: bool,
    /// Entries per row, for top-k and lm-head; which piece, for fetch; 0 otherwise.
    pub k: u32,
    /// Rows of the tensor.
    pub rows: u32,
    /// Columns of the tensor.
    pub cols: u32,
    /// Where the rows start in the payload, bytes.
    pub data_offset: u32,
    /// Bytes of all rows: rows * cols * dtype size; of the lease where they lie elsewhere.
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
        let wanted = if self.coding.serves(self.operation) { self.check_dial() } else { false };
        if !wanted {
            return Err(ErrorCode::BadRequest);
        }
        // Also where it means nothing: an order has 16 bits for it.
        if self.k > PIECES_MAX {
            return Err(ErrorCode::BadK);
        }
        match self.operation {
            Operation::Generate | Operation::Fetch => {
                let bare = self.rows == 0 && self.cols == 0 && self.data_len == 0;
                let numbered = self.operation == Operation::Fetch || self.k == 0;
                let here = self.source == Source::Inline;
                if bare && numbered && here { Ok(self) } else { Err(ErrorCode::BadRequest) }
            }
            _ => self.check_tensor(),
        }
    }

    /// Whether the dial is one that the coding has.
    fn check_dial(&self) -> bool {
        match self.coding {
            Coding::Rotated => (STEP_MIN..=STEP_MAX).contains(&self.quality),
            coding if coding.is_set() => (0.0..=1.0).contains(&self.quality),
            _ => self.quality == 0.0,
        }
    }

    fn check_tensor(self) -> Result<Self, ErrorCode> {
        if self.rows == 0 || self.rows > ROWS_MAX || self.cols == 0 {
            return Err(ErrorCode::BadShape);
        }
        if self.operation != Operation::Echo && self.cols > COLS_MAX {
            return Err(ErrorCode::BadShape);
        }
        let expected = match self.source {
            Source::Inline => {
                u64::from(self.rows) * u64::from(self.cols) * self.dtype.size() as u64
            }
            Source::CudaIpc => LEASE_LEN as u64,
        };
        if expected != u64::from(self.data_len) {
            return Err(ErrorCode::BadRequest);
        }
        // A lease brings no bytes that could bound the answer, and an echo of it makes no sense.
        let elements = u64::from(self.rows) * u64::from(self.cols);
        if self.source != Source::Inline
            && (self.operation == Operation::Echo || elements > LEASED_MAX)
        {
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
            Operation::Int8 | Operation::Hidden if self.dtype == Dtype::U8 => {
                return Err(ErrorCode::BadRequest);
            }
            _ => {}
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
            coding: Coding::Plain,
            source: Source::Inline,
            quality: 0.0,
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

    #[test]
    fn a_coding_fits_its_operation_and_its_dial() {
        let coded = |operation, coding, quality| {
            verdict(|work| {
                (work.operation, work.coding, work.quality) = (operation, coding, quality);
            })
        };
        assert_eq!(coded(Operation::TopK, Coding::SetSteps, 0.99), Ok(()));
        assert_eq!(coded(Operation::Hidden, Coding::Rotated, 0.125), Ok(()));
        assert_eq!(coded(Operation::Hidden, Coding::Int8Group, 0.0), Ok(()));
        for (operation, coding, quality) in [
            (Operation::TopK, Coding::SetSteps, 1.5),
            (Operation::TopK, Coding::SetSteps, f32::NAN),
            (Operation::TopK, Coding::Rotated, 0.125),
            (Operation::TopK, Coding::Plain, 0.5),
            (Operation::Int8, Coding::Int8Group, 0.0),
            (Operation::Hidden, Coding::Plain, 0.0),
            (Operation::Hidden, Coding::Rotated, 0.0),
            (Operation::Hidden, Coding::Rotated, f32::NAN),
            (Operation::Hidden, Coding::Int8Channel, 0.125),
        ] {
            assert_eq!(coded(operation, coding, quality), Err(ErrorCode::BadRequest), "{coding}");
        }
    }

    #[test]
    fn a_lease_stands_for_rows_that_lie_elsewhere() {
        let leased = |work: &mut Work| {
            work.source = Source::CudaIpc;
            work.data_len = LEASE_LEN as u32;
        };
        assert_eq!(verdict(leased), Ok(()));
        let echo = |work: &mut Work| {
            leased(work);
            work.operation = Operation::Echo;
        };
        assert_eq!(verdict(echo), Err(ErrorCode::BadRequest));
        let huge = |work: &mut Work| {
            leased(work);
            (work.rows, work.cols) = (ROWS_MAX, COLS_MAX);
        };
        assert_eq!(verdict(huge), Err(ErrorCode::BadRequest));
        assert_eq!(verdict(|work| work.source = Source::CudaIpc), Err(ErrorCode::BadRequest));
    }

    #[test]
    fn a_fetch_names_a_piece_and_brings_nothing() {
        let fetch = |work: &mut Work| {
            work.operation = Operation::Fetch;
            (work.k, work.rows, work.cols, work.data_len) = (PIECES_MAX, 0, 0, 0);
        };
        assert_eq!(verdict(fetch), Ok(()));
        let beyond = |work: &mut Work| {
            fetch(work);
            work.k = PIECES_MAX + 1;
        };
        assert_eq!(verdict(beyond), Err(ErrorCode::BadK));
        assert_eq!(verdict(|work| work.operation = Operation::Fetch), Err(ErrorCode::BadRequest));
    }
}
