//! Answers into the output file, and what is worth saying about them.

use super::{
    Setup,
    job::{Ask, Job},
};
use crate::{failure::Failure, judge::Judge, tensors::Writer};
use serde_json::{Value, json};
use wire::{
    flags,
    response::{Int8View, Response, TopKView},
};

/// Rows whose fidelity is computed, spread over the tensor: enough for a mean, little beside the
/// transfer.
const JUDGED: u64 = 256;

/// Flags by name.
const FLAGS: [(&str, u8); 5] = [
    ("nan", flags::NAN),
    ("short", flags::SHORT),
    ("non_finite", flags::NON_FINITE),
    ("zero", flags::ZERO),
    ("subnormal", flags::SUBNORMAL),
];

/// What came back so far.
pub(super) struct Outcome {
    writer: Writer,
    /// Every so many rows one is judged.
    judge_every: u64,
    judge: Judge,
    flagged: [u64; FLAGS.len()],
    requests: u64,
    pub(super) retries: u64,
    answer_bytes: u64,
    backend: String,
    /// Reused memory: one row's bytes, one request's output columns.
    row: Vec<u8>,
    columns: [Vec<u8>; 3],
}

impl Outcome {
    pub(super) fn new(setup: &Setup<'_>, writer: Writer) -> Self {
        Self {
            writer,
            judge_every: setup.tensor.rows.div_ceil(JUDGED).max(1),
            judge: Judge::new(),
            flagged: [0; FLAGS.len()],
            requests: 0,
            retries: 0,
            answer_bytes: 0,
            backend: String::new(),
            row: Vec::new(),
            columns: Default::default(),
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
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(Failure::run("an answer has other rows or another operation than was asked"))
        }
    }

    fn write_topk(&mut self, job: Job, view: &TopKView<'_>) -> Result<(), Failure> {
        let [logsumexp, indices, values] = &mut self.columns;
        for column in [&mut *logsumexp, &mut *indices, &mut *values] {
            column.clear();
        }
        for row in 0..view.rows as usize {
            let lse = view.logsumexp(row).unwrap_or(f64::NAN);
            logsumexp.extend_from_slice(&lse.to_le_bytes());
            let valid = view.row_indices(row);
            let missing = view.k as usize - valid.len();
            for index in valid {
                indices.extend_from_slice(&index.to_le_bytes());
            }
            for value in view.row_values_f32(row) {
                values.extend_from_slice(&value.to_le_bytes());
            }
            // No index for what does not exist; its value is no number either.
            for _ in 0..missing {
                indices.extend_from_slice(&(-1i32).to_le_bytes());
                values.extend_from_slice(&f32::NEG_INFINITY.to_le_bytes());
            }
        }
        for (column, bytes) in self.columns.iter().enumerate() {
            self.writer.write(column, job.first, bytes).map_err(Failure::run)?;
        }
        self.writer.write(3, job.first, view.flags).map_err(Failure::run)
    }

    fn write_int8(&mut self, job: Job, view: &Int8View<'_>) -> Result<(), Failure> {
        let [scales, codes, _] = &mut self.columns;
        scales.clear();
        scales.extend(view.scales.iter().flat_map(|scale| scale.to_le_bytes()));
        codes.clear();
        codes.extend(view.codes.iter().map(|code| code.cast_unsigned()));
        self.writer.write(0, job.first, scales).map_err(Failure::run)?;
        self.writer.write(1, job.first, codes).map_err(Failure::run)?;
        self.writer.write(2, job.first, view.flags).map_err(Failure::run)
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

    fn flag(&mut self, rows: &[u8]) {
        for (count, (_, bit)) in self.flagged.iter_mut().zip(FLAGS) {
            *count += rows.iter().filter(|flags| **flags & bit != 0).count() as u64;
        }
    }

    /// Gives the file its name and says how it went.
    pub(super) fn finish(self, setup: &Setup<'_>, seconds: f64) -> Result<Value, Failure> {
        let tensor_bytes = setup.tensor.rows * setup.tensor.row_bytes();
        let flagged: serde_json::Map<String, Value> = FLAGS
            .iter()
            .zip(self.flagged)
            .map(|((name, _), count)| ((*name).to_owned(), json!(count)))
            .collect();
        let mut report = json!({
            "operation": setup.ask.name(),
            "rows": setup.tensor.rows,
            "cols": setup.tensor.cols,
            "dtype": setup.tensor.dtype.name(),
            "tensor_bytes": tensor_bytes,
            "answer_bytes": self.answer_bytes,
            "ratio": tensor_bytes as f64 / self.answer_bytes.max(1) as f64,
            "flagged_rows": flagged,
            "backend": self.backend,
            "requests": self.requests,
            "retries": self.retries,
            "seconds": seconds,
            "rows_per_second": setup.tensor.rows as f64 / seconds.max(1e-9),
            "out": setup.args.out.display().to_string(),
        });
        let fidelity = match setup.ask {
            Ask::TopK { .. } => self.judge.topk_report(),
            Ask::Int8 => self.judge.int8_report(),
        };
        for (key, value) in fidelity {
            report[key] = value;
        }
        self.writer.finish().map_err(Failure::run)?;
        Ok(report)
    }
}

/// Rows of a job that are judged, counted from its first.
fn judged(job: Job, every: u64) -> impl Iterator<Item = usize> {
    (0..job.rows as usize).filter(move |row| (job.first + *row as u64).is_multiple_of(every))
}
