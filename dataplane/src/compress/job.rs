//! Which rows travel together, and what a request for them says.

use crate::{
    cli::{CompressArgs, Values},
    tensors::{Column, Rows},
};
use safetensors::Dtype as FileDtype;
use wire::{
    Dtype,
    payload::TensorWork,
    work::{COLS_MAX, K_MAX, ROWS_MAX},
};

/// Room that a request keeps in a slot besides its rows.
const ROOT_ROOM: u64 = 1 << 10;

/// What is asked of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The k largest of each row.
    TopK {
        /// Entries per row.
        k: u32,
        /// Element type of returned values.
        values: Dtype,
        /// The rows are hidden states, to be multiplied by the node's weights first.
        lm_head: bool,
    },
    /// Symmetric int8, a scale per row.
    Int8,
}

impl Ask {
    /// What the command line says.
    ///
    /// # Errors
    /// A k that no node accepts.
    pub(crate) fn from_args(args: &CompressArgs) -> Result<Self, String> {
        let Some(k) = args.topk else { return Ok(Self::Int8) };
        if k == 0 || k > K_MAX {
            return Err(format!("--topk {k}: write a number from 1 to {K_MAX}"));
        }
        let values = match args.values {
            None | Some(Values::F32) => Dtype::F32,
            Some(Values::F16) => Dtype::F16,
            Some(Values::Bf16) => Dtype::Bf16,
        };
        Ok(Self::TopK { k, values, lm_head: args.lm_head })
    }

    /// The name of the operation.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::TopK { lm_head: true, .. } => "lm-head",
            Self::TopK { .. } => "topk",
            Self::Int8 => "int8",
        }
    }

    /// The work of a request for so many rows.
    pub(crate) const fn work(&self, dtype: Dtype, rows: u32, cols: u32) -> TensorWork {
        match *self {
            Self::TopK { k, values, lm_head: true } => {
                TensorWork::lm_head(dtype, rows, cols, k, values)
            }
            Self::TopK { k, values, .. } => TensorWork::topk(dtype, rows, cols, k, values),
            Self::Int8 => TensorWork::int8(dtype, rows, cols),
        }
    }

    /// Bytes that the answer needs per row, at most.
    fn answer_row(&self, cols: u32) -> u64 {
        match self {
            // Index, value; count, max, log-sum, flags.
            Self::TopK { k, values, .. } => u64::from(*k) * (4 + values.size() as u64) + 16,
            Self::Int8 => u64::from(cols) + 8,
        }
    }

    /// Tensors of the output file.
    pub(crate) fn columns(&self, rows: u64, cols: u32) -> Vec<Column> {
        let rows = rows as usize;
        let column = |name, dtype, shape: Vec<usize>| Column { name, dtype, shape };
        match self {
            Self::TopK { k, .. } => vec![
                column("logsumexp", FileDtype::F64, vec![rows]),
                column("indices", FileDtype::I32, vec![rows, *k as usize]),
                column("values", FileDtype::F32, vec![rows, *k as usize]),
                column("flags", FileDtype::U8, vec![rows]),
            ],
            Self::Int8 => vec![
                column("scales", FileDtype::F32, vec![rows]),
                column("codes", FileDtype::I8, vec![rows, cols as usize]),
                column("flags", FileDtype::U8, vec![rows]),
            ],
        }
    }
}

/// Some rows that travel in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// First row.
    pub(crate) first: u64,
    /// Rows.
    pub(crate) rows: u32,
}

/// How many rows fit one request: its bytes, its answer's bytes and the node's bound on rows all
/// hold.
///
/// # Errors
/// Rows that no request can carry, said with what would.
pub(crate) fn rows_per_request(
    ask: &Ask,
    tensor: &Rows<'_>,
    wish: u64,
    payload_max: u64,
) -> Result<u32, String> {
    if tensor.cols > COLS_MAX {
        return Err(format!(
            "rows of {} elements are too long: the format carries up to {COLS_MAX}",
            tensor.cols
        ));
    }
    let room = payload_max.saturating_sub(ROOT_ROOM);
    let (row, answer) = (tensor.row_bytes(), ask.answer_row(tensor.cols));
    if row > room {
        return Err(format!(
            "a row has {row} bytes, but the node accepts payloads up to {payload_max}: start it \
             with --max-payload {}",
            (row + ROOT_ROOM).next_multiple_of(1024)
        ));
    }
    let fit = wish.min(room) / row.max(answer);
    Ok(u32::try_from(fit.clamp(1, u64::from(ROWS_MAX).min(tensor.rows))).unwrap_or(ROWS_MAX))
}

/// All jobs of a tensor, in order.
pub(crate) fn jobs(rows: u64, per_request: u32) -> impl Iterator<Item = Job> {
    let step = u64::from(per_request.max(1));
    (0..rows.div_ceil(step)).map(move |index| {
        let first = index * step;
        Job { first, rows: step.min(rows - first) as u32 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::TensorFile;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn requests_fit_both_ways() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/samples");
        let hidden = TensorFile::open(&samples.join("hidden.safetensors")).expect("sample");
        let hidden = hidden.rows("hidden.f16").expect("tensor");
        let few = Ask::TopK { k: 1024, values: Dtype::F32, lm_head: true };
        // Rows of 768 bytes, answers of 8 KiB a row: the answer decides.
        let per = rows_per_request(&few, &hidden, 512 << 10, 2 << 20).expect("fits");
        assert!(u64::from(per) * 1024 * 8 <= 512 << 10 && per > 32, "{per}");
        assert_eq!(rows_per_request(&Ask::Int8, &hidden, 1, 2 << 20), Ok(1));
        let error = rows_per_request(&Ask::Int8, &hidden, 1 << 20, 1500).expect_err("too small");
        assert!(error.contains("--max-payload 2048"), "{error}");
    }

    proptest! {
        #[test]
        fn jobs_cover_every_row_once(rows in 0u64..5000, per in 1u32..300) {
            let mut next = 0;
            for job in jobs(rows, per) {
                prop_assert_eq!(job.first, next);
                prop_assert!(job.rows >= 1 && job.rows <= per);
                next += u64::from(job.rows);
            }
            prop_assert_eq!(next, rows);
        }
    }
}
