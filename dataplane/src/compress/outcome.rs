//! Answers into the output file, and what is worth saying about them.

use super::{
    Setup,
    ask::{Ask, Coded},
    job::Job,
};
use crate::{
    coded::{CodedWriter, Decoded, Decoder},
    failure::Failure,
    judge::Judge,
    tensors::Writer,
};
use codec::basis::Basis;
use serde_json::{Map, Value, json};
use wire::{
    flags,
    response::{CodedView, Int8View, Response, TopKView},
};

/// Rows whose fidelity is computed, spread over the tensor: enough for a mean, little beside the
/// transfer.
pub(crate) const JUDGED: u64 = 256;
/// Answers that may wait for one before them, as coded rows are written in order.
const HELD_MAX: usize = 64;

/// Flags by name.
const FLAGS: [(&str, u8); 5] = [
    ("nan", flags::NAN),
    ("short", flags::SHORT),
    ("non_finite", flags::NON_FINITE),
    ("zero", flags::ZERO),
    ("subnormal", flags::SUBNORMAL),
];

/// Rows by flag.
pub(crate) type Flagged = [u64; FLAGS.len()];

/// The output file.
pub(super) enum Output {
    /// Arrays, filled in any order.
    Plain(Writer),
    /// Coded rows.
    Coded(CodedWriter),
}

/// What came back so far.
pub(super) struct Outcome<'a> {
    output: Output,
    /// Made when the first coded answer says how wide its rows are.
    decoder: Option<Decoder<'a>>,
    basis: Option<&'a Basis>,
    /// Every so many rows one is judged.
    judge_every: u64,
    judge: Judge,
    flagged: Flagged,
    requests: u64,
    pub(super) retries: u64,
    answer_bytes: u64,
    backend: String,
    /// Reused memory: one row's bytes, one request's output columns.
    row: Vec<u8>,
    columns: [Vec<u8>; 3],
}

impl<'a> Outcome<'a> {
    pub(super) fn new(setup: &Setup<'_>, output: Output, basis: Option<&'a Basis>) -> Self {
        Self {
            output,
            decoder: None,
            basis,
            judge_every: setup.tensor.rows.div_ceil(JUDGED).max(1),
            judge: Judge::new(),
            flagged: Flagged::default(),
            requests: 0,
            retries: 0,
            answer_bytes: 0,
            backend: String::new(),
            row: Vec::new(),
            columns: Default::default(),
        }
    }

    /// Whether answers to more requests can be taken in.
    pub(super) fn has_room(&self) -> bool {
        match &self.output {
            Output::Plain(_) => true,
            Output::Coded(writer) => writer.held() < HELD_MAX,
        }
    }

    /// Takes in the answer to one request.
    pub(super) fn take(
        &mut self,
        setup: &Setup<'_>,
        job: Job,
        response: &Response<'_>,
        frame_len: usize,
    ) -> Result<(), Failure> {
        self.requests += 1;
        self.answer_bytes += frame_len as u64;
        if self.backend.is_empty() {
            let meta = &response.root.metadata;
            self.backend = format!("{}: {}", &*meta.backend, &*meta.backend_reason);
        }
        let fits = match (setup.ask, &response.logits, &response.hidden_states) {
            (Ask::TopK { k, .. }, Some(view), _) if view.rows == job.rows && view.k == k => {
                self.write_topk(job, view)?;
                self.judge_topk(setup, job, view)?;
                self.flag(view.flags);
                true
            }
            (Ask::Int8, _, Some(view))
                if view.rows == job.rows && view.cols == setup.tensor.cols =>
            {
                self.write_int8(job, view)?;
                self.judge_int8(setup, job, view)?;
                self.flag(view.flags);
                true
            }
            (Ask::Coded(asked), ..) => match &response.coded {
                Some(view) if fits(&asked, setup, job, view) => {
                    self.judge_coded(setup, job, view)?;
                    self.flag(view.flags);
                    if let Output::Coded(writer) = &mut self.output {
                        writer.put(job.first, view).map_err(Failure::run)?;
                    }
                    true
                }
                _ => false,
            },
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(Failure::run("an answer has other rows or another operation than was asked"))
        }
    }

    fn write_topk(&mut self, job: Job, view: &TopKView<'_>) -> Result<(), Failure> {
        self.columns.iter_mut().for_each(Vec::clear);
        for row in 0..view.rows as usize {
            let set = (view.row_indices(row), view.row_values_f32(row));
            let logsumexp = view.logsumexp(row).unwrap_or(f64::NAN);
            push_set(&mut self.columns, view.k as usize, set, logsumexp);
        }
        let Self { output: Output::Plain(writer), columns, .. } = self else { return Ok(()) };
        for (column, bytes) in columns.iter().enumerate() {
            writer.write(column, job.first, bytes).map_err(Failure::run)?;
        }
        writer.write(3, job.first, view.flags).map_err(Failure::run)
    }

    fn write_int8(&mut self, job: Job, view: &Int8View<'_>) -> Result<(), Failure> {
        let Self { output: Output::Plain(writer), columns, .. } = self else { return Ok(()) };
        let [scales, codes, _] = columns;
        scales.clear();
        scales.extend(view.scales.iter().flat_map(|scale| scale.to_le_bytes()));
        codes.clear();
        codes.extend(view.codes.iter().map(|code| code.cast_unsigned()));
        writer.write(0, job.first, scales).map_err(Failure::run)?;
        writer.write(1, job.first, codes).map_err(Failure::run)?;
        writer.write(2, job.first, view.flags).map_err(Failure::run)
    }

    fn judge_topk(
        &mut self,
        setup: &Setup<'_>,
        job: Job,
        view: &TopKView<'_>,
    ) -> Result<(), Failure> {
        let dtype = setup.tensor.dtype;
        // The rows sent for lm-head are not the rows that the set was chosen from.
        let from_rows = matches!(setup.ask, Ask::TopK { lm_head: false, .. });
        for row in judged(job, self.judge_every) {
            if from_rows {
                setup
                    .tensor
                    .read(job.first + row as u64, 1, &mut self.row)
                    .map_err(Failure::run)?;
            }
            self.judge.topk(view, row, from_rows.then_some((dtype, &self.row)));
        }
        Ok(())
    }

    fn judge_int8(
        &mut self,
        setup: &Setup<'_>,
        job: Job,
        view: &Int8View<'_>,
    ) -> Result<(), Failure> {
        for row in judged(job, self.judge_every) {
            setup.tensor.read(job.first + row as u64, 1, &mut self.row).map_err(Failure::run)?;
            self.judge.int8(view, row, setup.tensor.dtype, &self.row);
        }
        Ok(())
    }

    fn judge_coded(
        &mut self,
        setup: &Setup<'_>,
        job: Job,
        view: &CodedView<'_>,
    ) -> Result<(), Failure> {
        let decoder = self
            .decoder
            .get_or_insert_with(|| Decoder::new(view.coding, view.k, view.cols, self.basis));
        let dtype = setup.tensor.dtype;
        let from_rows = !matches!(setup.ask, Ask::Coded(Coded { lm_head: true, .. }));
        for row in judged(job, self.judge_every) {
            let at = job.first + row as u64;
            if from_rows {
                setup.tensor.read(at, 1, &mut self.row).map_err(Failure::run)?;
            }
            let original = from_rows.then_some((dtype, &self.row[..]));
            let decoded = decoder.row(view.row(row)).map_err(|fault| {
                Failure::run(format!("row {at} of the answers cannot be decoded: {fault}"))
            })?;
            match decoded {
                Decoded::Set(set) => self.judge.coded_set(set, original),
                Decoded::Hidden(found) => self.judge.hidden(found, dtype, &self.row),
            }
        }
        Ok(())
    }

    fn flag(&mut self, rows: &[u8]) {
        count_flags(&mut self.flagged, rows);
    }

    /// Gives the file its name and says how it went.
    pub(super) fn finish(self, setup: &Setup<'_>, seconds: f64) -> Result<Value, Failure> {
        let tensor_bytes = setup.tensor.rows * setup.tensor.row_bytes();
        let mut report = json!({
            "operation": setup.ask.name(),
            "rows": setup.tensor.rows,
            "cols": setup.tensor.cols,
            "dtype": setup.tensor.dtype.name(),
            "tensor_bytes": tensor_bytes,
            "answer_bytes": self.answer_bytes,
            "ratio": tensor_bytes as f64 / self.answer_bytes.max(1) as f64,
            "flagged_rows": flag_report(&self.flagged),
            "backend": self.backend,
            "requests": self.requests,
            "retries": self.retries,
            "seconds": seconds,
            "rows_per_second": setup.tensor.rows as f64 / seconds.max(1e-9),
            "out": setup.args.out.display().to_string(),
        });
        let fidelity = match setup.ask {
            Ask::TopK { .. } => self.judge.topk_report(),
            Ask::Coded(Coded { coding, .. }) if coding.is_set() => self.judge.topk_report(),
            Ask::Coded(_) | Ask::Int8 => self.judge.hidden_report(),
        };
        for (key, value) in fidelity {
            report[key] = value;
        }
        match self.output {
            Output::Plain(writer) => writer.finish().map_err(Failure::run)?,
            Output::Coded(writer) => {
                report["file_bytes"] = json!(writer.len());
                writer.finish(&setup.args.out).map_err(Failure::run)?;
            }
        }
        Ok(report)
    }
}

/// Whether an answer is what was asked for: an answer from a node that does otherwise must not be
/// written under the wrong label.
fn fits(asked: &Coded, setup: &Setup<'_>, job: Job, view: &CodedView<'_>) -> bool {
    let named = !asked.coding.needs_basis() || view.basis.starts_with(&asked.basis);
    view.rows == job.rows
        && view.coding == asked.coding
        && view.k == asked.k
        && view.quality == asked.quality
        && (asked.lm_head || view.cols == setup.tensor.cols)
        && named
}

/// Appends a row to the columns of a file of sets: log-sum-exp, indices, values.
pub(crate) fn push_set<'a>(
    columns: &mut [Vec<u8>; 3],
    k: usize,
    (indices, set_values): (&[u32], impl Iterator<Item = f32> + 'a),
    log_sum_exp: f64,
) {
    let [logsumexp, all, values] = columns;
    logsumexp.extend_from_slice(&log_sum_exp.to_le_bytes());
    all.extend(indices.iter().flat_map(|index| index.to_le_bytes()));
    values.extend(set_values.flat_map(f32::to_le_bytes));
    // No index for what does not exist; its value is no number either.
    for _ in indices.len()..k {
        all.extend_from_slice(&(-1i32).to_le_bytes());
        values.extend_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    }
}

/// Counts the rows that have each flag.
pub(crate) fn count_flags(counts: &mut Flagged, rows: &[u8]) {
    for (count, (_, bit)) in counts.iter_mut().zip(FLAGS) {
        *count += rows.iter().filter(|flags| **flags & bit != 0).count() as u64;
    }
}

/// How many rows have each flag, by name.
pub(crate) fn flag_report(counts: &Flagged) -> Map<String, Value> {
    let named = FLAGS.iter().zip(counts);
    named.map(|((name, _), count)| ((*name).to_owned(), json!(count))).collect()
}

/// Rows of a job that are judged, counted from its first.
fn judged(job: Job, every: u64) -> impl Iterator<Item = usize> {
    (0..job.rows as usize).filter(move |row| (job.first + *row as u64).is_multiple_of(every))
}
