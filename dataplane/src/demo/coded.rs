//! The same rows once more, their answers in a coding: how far the bytes go down, and what that
//! costs.

use crate::{failure::Failure, judge::Judge, table, tensors::TensorFile};
use client::{Client, ClientError};
use codec::{
    hidden::{self, Scratch},
    set::{self, SetBuf},
};
use serde_json::{Map, Value, json};
use std::path::Path;
use wire::{
    Coding, Dtype,
    payload::{QueryRequest, TensorWork},
    response::CodedView,
};

/// What is shown: a bundled tensor, the most rows of a request, and a coding that needs no basis.
const SHOWN: [(&str, u32, Coding); 3] = [
    ("logits", 4, Coding::SetSteps),
    ("wide", 1, Coding::SetSteps),
    ("hidden", 128, Coding::Int8Group),
];

/// One tensor in one coding.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Coded {
    tensor: &'static str,
    coding: Coding,
    cols: u32,
    rows: u64,
    coded_bytes: u64,
    figures: Map<String, Value>,
}

impl Coded {
    fn bytes_per_row(&self) -> f64 {
        self.coded_bytes as f64 / self.rows.max(1) as f64
    }

    /// Bytes of a row as f32 over its bytes here.
    fn ratio(&self) -> f64 {
        f64::from(self.cols) * 4.0 / self.bytes_per_row().max(1.0)
    }
}

/// Sends the rows of everything that is shown and judges the answers.
pub(crate) fn measure(client: &mut Client, file: &Path) -> Result<Vec<Coded>, Failure> {
    let file = TensorFile::open(file).map_err(Failure::run)?;
    SHOWN
        .into_iter()
        .map(|(tensor, most, coding)| one(client, &file, tensor, most, coding))
        .collect()
}

fn one(
    client: &mut Client,
    file: &TensorFile,
    name: &'static str,
    most: u32,
    coding: Coding,
) -> Result<Coded, Failure> {
    let tensor = file.rows(name).map_err(Failure::run)?;
    let (dtype, cols) = (tensor.dtype, tensor.cols);
    let mut judge = Judge::new();
    let mut coded =
        Coded { tensor: name, coding, cols, rows: 0, coded_bytes: 0, figures: Map::new() };
    let mut rows = Vec::new();
    while coded.rows < tensor.rows {
        let count = most.min(u32::try_from(tensor.rows - coded.rows).unwrap_or(most));
        let work = if coding.is_set() {
            TensorWork::topk(dtype, count, cols, super::K, Dtype::F32).coded(coding, 0.0)
        } else {
            TensorWork::hidden(dtype, count, cols, coding, 0.0)
        };
        tensor.read(coded.rows, count.into(), &mut rows).map_err(Failure::run)?;
        let mut request = QueryRequest { work, ..QueryRequest::default() };
        client.sender().send_request(&mut request, &rows).map_err(Failure::run)?;
        let reply = client.receive().map_err(Failure::run)?;
        let view = reply.response().map_err(Failure::run)?.coded;
        let view = view.filter(|view| view.rows == count && view.coding == coding);
        let view = view.ok_or_else(|| wrong("an answer is not coded as asked"))?;
        coded.coded_bytes += (view.data.len() + 4 * view.ends.len()) as u64;
        coded.rows += u64::from(count);
        judge_rows(&mut judge, &view, dtype, &rows)?;
    }
    let figures = if coding.is_set() { judge.topk_report() } else { judge.hidden_report() };
    coded.figures = figures.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(coded)
}

fn judge_rows(
    judge: &mut Judge,
    view: &CodedView<'_>,
    dtype: Dtype,
    rows: &[u8],
) -> Result<(), Failure> {
    let mut set = SetBuf::new(view.k as usize);
    let mut row = vec![0.0; if view.coding.is_set() { 0 } else { view.cols as usize }];
    let mut scratch = Scratch::new(row.len());
    let originals = rows.chunks_exact(view.cols as usize * dtype.size());
    for (at, original) in originals.enumerate() {
        let bytes = view.row(at);
        if view.coding.is_set() {
            set::decode(view.coding, bytes, view.cols, view.k as usize, &mut set)
                .map_err(|fault| wrong(&fault.to_string()))?;
            judge.coded_set(&set, Some((dtype, original)));
        } else {
            hidden::decode(view.coding, bytes, None, &mut row, &mut scratch)
                .map_err(|fault| wrong(&fault.to_string()))?;
            judge.hidden(&row, dtype, original);
        }
    }
    Ok(())
}

fn wrong(what: &str) -> Failure {
    Failure::run(ClientError::Protocol { what: what.to_owned() })
}

/// For programs.
pub(crate) fn as_json(shown: &[Coded]) -> Value {
    let one = |coded: &Coded| {
        json!({
            "tensor": coded.tensor,
            "coding": coded.coding.name(),
            "rows": coded.rows,
            "cols": coded.cols,
            "bytes_per_row": coded.bytes_per_row(),
            "ratio_to_f32": coded.ratio(),
            "fidelity": coded.figures,
        })
    };
    shown.iter().map(one).collect()
}

/// For people.
pub(crate) fn as_text(shown: &[Coded]) -> String {
    let head = ["in a coding", "bytes a row", "ratio to f32", "mass", "KL, nats", "rel. error"];
    let mut rows = vec![head.map(str::to_owned)];
    for coded in shown {
        let figure = |key: &str, digits: usize| {
            let value = coded.figures.get(key).and_then(Value::as_f64);
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let what = if coded.coding.is_set() {
            format!("top-{} of {}, {}", super::K, coded.cols, coded.coding)
        } else {
            format!("hidden states of {}, {}", coded.cols, coded.coding)
        };
        rows.push([
            what,
            format!("{:.0}", coded.bytes_per_row()),
            format!("{:.1}", coded.ratio()),
            figure("retained_mass", 3),
            figure("kl_nats", 4),
            figure("relative_error", 4),
        ]);
    }
    table::plain(&rows)
}
