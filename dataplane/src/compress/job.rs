//! Which rows travel together, and what a request for them says.

use super::ask::Ask;
use crate::tensors::Rows;
use wire::work::{COLS_MAX, ROWS_MAX};

/// Room that a request keeps in a slot besides its rows.
const ROOT_ROOM: u64 = 1 << 10;

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
    use wire::Dtype;

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
