//! What compression kept: the numbers that stand beside every ratio.

use kernels::{
    Element, Row,
    fidelity::{self, Reconstruction},
};
use serde_json::{Value, json};
use wire::{
    Dtype,
    response::{Int8View, TopKView},
};

/// Means over the rows that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    rows: u64,
    mass: f64,
    kl: f64,
    /// Rows with a KL: those whose original is at hand.
    compared: u64,
    rebuilt: Reconstruction,
    original: Vec<f32>,
    decoded: Vec<f32>,
}

/// Bytes of a row as the kernels read them.
fn row(dtype: Dtype, bytes: &[u8]) -> Option<Row<'_>> {
    let element = match dtype {
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::Bf16 => Element::Bf16,
        Dtype::U8 => return None,
    };
    Row::from_bytes(element, bytes)
}

impl Judge {
    /// Nothing judged yet.
    pub(crate) fn new() -> Self {
        Self { rebuilt: Reconstruction::new(), ..Self::default() }
    }

    /// One row of a top-k set, with the row it was chosen from where that is at hand (for lm-head it never left the
    /// worker).
    pub(crate) fn topk(
        &mut self,
        view: &TopKView<'_>,
        index: usize,
        original: Option<(Dtype, &[u8])>,
    ) {
        let (Some(max), Some(log_sum)) = (view.max.get(index), view.log_sum.get(index)) else {
            return;
        };
        self.decoded.clear();
        self.decoded.extend(view.row_values_f32(index));
        let judged = original.and_then(|(dtype, bytes)| row(dtype, bytes)).and_then(|original| {
            let indices = view.row_indices(index);
            fidelity::topk(original, indices, &self.decoded, *max, *log_sum)
        });
        if let Some(judged) = judged {
            self.mass += judged.retained_mass;
            self.kl += judged.kl_with_tail;
            self.compared += 1;
            self.rows += 1;
        } else if original.is_none() && (max + log_sum).is_finite() {
            let log_z = f64::from(*max) + f64::from(*log_sum);
            let mass: f64 = self.decoded.iter().map(|x| (f64::from(*x) - log_z).exp()).sum();
            self.mass += mass.min(1.0);
            self.rows += 1;
        }
    }

    /// One row of an int8 block, with the row it was made from.
    pub(crate) fn int8(&mut self, view: &Int8View<'_>, index: usize, dtype: Dtype, bytes: &[u8]) {
        let cols = view.cols as usize;
        let (Some(original), Some(scale)) = (row(dtype, bytes), view.scales.get(index)) else {
            return;
        };
        let codes = view.codes.get(index * cols..(index + 1) * cols).unwrap_or_default();
        self.original.resize(original.len(), 0.0);
        original.widen(&mut self.original);
        self.decoded.clear();
        self.decoded.extend(codes.iter().map(|code| f32::from(*code) * scale));
        self.rebuilt.add(&self.original, &self.decoded);
        self.rows += 1;
    }

    /// The means of top-k sets: `rows_judged`, `retained_mass` and, where rows could be compared, `kl_nats`.
    pub(crate) fn topk_report(&self) -> Vec<(&'static str, Value)> {
        let mut report = vec![
            ("rows_judged", json!(self.rows)),
            ("retained_mass", json!(self.mass / self.rows.max(1) as f64)),
        ];
        if self.compared > 0 {
            report.push(("kl_nats", json!(self.kl / self.compared as f64)));
        }
        report
    }

    /// The figures of int8 blocks: `rows_judged`, `relative_error`, `snr_db`, `largest_error`.
    pub(crate) fn int8_report(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("rows_judged", json!(self.rows)),
            ("relative_error", json!(self.rebuilt.relative_error())),
            ("snr_db", json!(self.rebuilt.snr_db())),
            ("largest_error", json!(self.rebuilt.error_largest())),
        ]
    }
}
