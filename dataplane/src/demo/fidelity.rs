//! The same rows once more, one request at a time, to see what the answers kept.

use crate::{failure::Failure, judge::Judge, tensors::TensorFile};
use blast::Op;
use client::{Client, ClientError};
use serde_json::{Map, Value, json};
use std::path::Path;
use wire::{
    Dtype, HEADER_LEN, Operation,
    payload::{QueryRequest, TensorWork},
};

/// Rows looked at, at most.
const ROWS_MAX: u64 = 128;

/// What answers kept of the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Kept {
    /// Bytes of the rows.
    pub(crate) row_bytes: u64,
    /// Bytes of the answers' frames.
    pub(crate) answer_bytes: u64,
    /// Mass and KL, or errors.
    pub(crate) figures: Map<String, Value>,
    /// What computed them, and why that.
    pub(crate) backend: String,
}

impl Kept {
    /// Bytes of rows per byte of answers.
    pub(crate) fn ratio(&self) -> f64 {
        self.row_bytes as f64 / self.answer_bytes.max(1) as f64
    }
}

/// Sends rows of a bundled tensor and judges the answers.
pub(crate) fn measure(
    client: &mut Client,
    file: &Path,
    tensor: &str,
    op: Op,
    per_request: u32,
) -> Result<Kept, Failure> {
    let Op::Work(operation) = op else { return Ok(Kept::default()) };
    let file = TensorFile::open(file).map_err(Failure::run)?;
    let tensor = file.rows(tensor).map_err(Failure::run)?;
    let (dtype, cols) = (tensor.dtype, tensor.cols);
    let work = match operation {
        Operation::TopK => TensorWork::topk(dtype, per_request, cols, super::K, Dtype::F16),
        Operation::Int8 => TensorWork::int8(dtype, per_request, cols),
        _ => TensorWork::echo(dtype, per_request, cols),
    };
    let mut request = QueryRequest { work, ..QueryRequest::default() };
    let mut rows = Vec::new();
    let mut judge = Judge::new();
    let mut kept = Kept::default();
    let row_bytes = tensor.row_bytes() as usize;
    let mut first = 0;
    while first + u64::from(per_request) <= tensor.rows.min(ROWS_MAX) {
        tensor.read(first, per_request.into(), &mut rows).map_err(Failure::run)?;
        first += u64::from(per_request);
        client.sender().send_request(&mut request, &rows).map_err(Failure::run)?;
        let reply = client.receive().map_err(Failure::run)?;
        let response = reply.response().map_err(Failure::run)?;
        kept.row_bytes += rows.len() as u64;
        kept.answer_bytes += (HEADER_LEN + reply.payload.len()) as u64;
        let meta = &response.root.metadata;
        kept.backend = format!("{}: {}", &*meta.backend, &*meta.backend_reason);
        for (index, row) in rows.chunks_exact(row_bytes).enumerate() {
            if let Some(view) = &response.logits {
                judge.topk(view, index, Some((dtype, row)));
            } else if let Some(view) = &response.hidden_states {
                judge.int8(view, index, dtype, row);
            }
        }
        if let Some(echo) = &response.echo
            && echo.data != rows
        {
            let what = "an echo came back with other bytes".to_owned();
            return Err(Failure::run(ClientError::Protocol { what }));
        }
    }
    let figures = match operation {
        Operation::TopK => judge.topk_report(),
        Operation::Int8 => judge.hidden_report(),
        _ => vec![("exact", json!(true))],
    };
    kept.figures = figures.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(kept)
}
