//! What compression kept: the numbers that stand beside every ratio.

use codec::set::SetBuf;
use kernels::{
    Element, Row,
    fidelity::{self, Reconstruction},
};
use serde_json::{Value, json};
use wire::{
    Dtype,
    response::{Int8View, TopKView},
};

/// Least probability that a reader leaves to all entries that were not sent.
const REST_MIN: f64 = 1e-4;

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
pub(crate) fn row(dtype: Dtype, bytes: &[u8]) -> Option<Row<'_>> {
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

    /// One row of a top-k set, with the row it was chosen from where that is at hand (for lm-head
    /// it never left the worker).
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
        self.set(view.row_indices(index), *max, *log_sum, original);
    }

    /// One row of a coded set, as [`Judge::topk`].
    pub(crate) fn coded_set(&mut self, set: &SetBuf, original: Option<(Dtype, &[u8])>) {
        self.decoded.clear();
        self.decoded.extend_from_slice(&set.values);
        self.set(&set.indices, set.max, set.log_sum, original);
    }

    /// One set whose values lie in `decoded`.
    fn set(&mut self, indices: &[u32], max: f32, log_sum: f32, original: Option<(Dtype, &[u8])>) {
        let log_sum = with_rest(&self.decoded, max, log_sum);
        let judged = original
            .and_then(|(dtype, bytes)| row(dtype, bytes))
            .and_then(|row| fidelity::topk(row, indices, &self.decoded, max, log_sum));
        if let Some(judged) = judged {
            self.mass += judged.retained_mass;
            self.kl += judged.kl_with_tail;
            self.compared += 1;
            self.rows += 1;
        } else if original.is_none() && (max + log_sum).is_finite() {
            self.mass += mass_of(&self.decoded, max, log_sum);
            self.rows += 1;
        }
    }

    /// One hidden row after decoding, with the row it was made from.
    pub(crate) fn hidden(&mut self, decoded: &[f32], dtype: Dtype, bytes: &[u8]) {
        let Some(original) = row(dtype, bytes) else { return };
        self.original.resize(original.len(), 0.0);
        original.widen(&mut self.original);
        self.rebuilt.add(&self.original, decoded);
        self.rows += 1;
    }

    /// One row of an int8 block, with the row it was made from.
    pub(crate) fn int8(&mut self, view: &Int8View<'_>, index: usize, dtype: Dtype, bytes: &[u8]) {
        let cols = view.cols as usize;
        let Some(scale) = view.scales.get(index) else { return };
        let codes = view.codes.get(index * cols..(index + 1) * cols).unwrap_or_default();
        let mut decoded = core::mem::take(&mut self.decoded);
        decoded.clear();
        decoded.extend(codes.iter().map(|code| f32::from(*code) * scale));
        self.hidden(&decoded, dtype, bytes);
        self.decoded = decoded;
    }

    /// The means of top-k sets: `rows_judged`, `retained_mass` and, where rows could be compared,
    /// `kl_nats`.
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

    /// The figures of hidden rows: `rows_judged`, `relative_error`, `snr_db`, `cosine`,
    /// `largest_error`.
    pub(crate) fn hidden_report(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("rows_judged", json!(self.rows)),
            ("relative_error", json!(self.rebuilt.relative_error())),
            ("snr_db", json!(self.rebuilt.snr_db())),
            ("cosine", json!(self.rebuilt.cosine_mean())),
            ("largest_error", json!(self.rebuilt.error_largest())),
        ]
    }
}

/// Probability that a reader gives to the decoded entries.
fn mass_of(decoded: &[f32], max: f32, log_sum: f32) -> f64 {
    let log_z = f64::from(max) + f64::from(log_sum);
    decoded.iter().map(|x| (f64::from(*x) - log_z).exp()).sum()
}

/// The log-sum of a sensible reader: values rounded to few bits may sum to more than 1, and who
/// believes them would call the rest impossible. Such a set is scaled down until the rest keeps the
/// least share.
pub(crate) fn with_rest(decoded: &[f32], max: f32, log_sum: f32) -> f32 {
    let mass = mass_of(decoded, max, log_sum);
    if mass <= 1.0 - REST_MIN { log_sum } else { log_sum + (mass.ln() + REST_MIN) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(values: &'a [u8], log_sum: &'a [f32]) -> TopKView<'a> {
        TopKView {
            rows: 1,
            k: 2,
            cols: 3,
            dtype: Dtype::F16,
            indices: &[0, 2],
            values,
            counts: &[2],
            max: &[8.0],
            log_sum,
            flags: &[0],
        }
    }

    #[test]
    fn values_rounded_up_do_not_make_the_rest_impossible() {
        let row: [f32; 3] = [8.0, -3.0, 0.0];
        let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
        // One ulp above 8 in f16: the set alone sums to more than 1.
        let values: Vec<u8> = [0x4801_u16, 0x0000].iter().flat_map(|x| x.to_le_bytes()).collect();
        let log_sum = [row.iter().map(|x| (x - 8.0).exp()).sum::<f32>().ln()];
        let mut judge = Judge::new();
        judge.topk(&view(&values, &log_sum), 0, Some((Dtype::F32, &bytes)));
        let report: serde_json::Map<String, Value> =
            judge.topk_report().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let kl = report["kl_nats"].as_f64().expect("finite");
        assert!((0.0..0.01).contains(&kl), "{kl}");
        assert_eq!(report["rows_judged"], 1);
    }

    #[test]
    fn a_coded_set_is_judged_as_the_plain_one() {
        let row: [f32; 3] = [8.0, -3.0, 0.0];
        let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
        let values: Vec<u8> = [0x4800_u16, 0x0000].iter().flat_map(|x| x.to_le_bytes()).collect();
        let log_sum = [row.iter().map(|x| (x - 8.0).exp()).sum::<f32>().ln()];
        let (mut plain, mut coded) = (Judge::new(), Judge::new());
        plain.topk(&view(&values, &log_sum), 0, Some((Dtype::F32, &bytes)));
        let mut set = SetBuf::new(2);
        set.indices.extend([0, 2]);
        set.values.extend([8.0, 0.0]);
        (set.max, set.log_sum) = (8.0, log_sum[0]);
        coded.coded_set(&set, Some((Dtype::F32, &bytes)));
        assert_eq!(plain.topk_report(), coded.topk_report());
    }

    #[test]
    fn hidden_rows_are_judged_by_what_they_became() {
        let bytes: Vec<u8> = [3.0_f32, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut judge = Judge::new();
        judge.hidden(&[3.0, 3.5], Dtype::F32, &bytes);
        let report: serde_json::Map<String, Value> =
            judge.hidden_report().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let float = |key: &str| report[key].as_f64().expect("a number");
        assert!((float("relative_error") - 0.1).abs() < 1e-12, "{report:?}");
        assert!((float("snr_db") - 20.0).abs() < 1e-9, "{report:?}");
        assert!((float("cosine") - 23.0 / (5.0 * 21.25_f64.sqrt())).abs() < 1e-12, "{report:?}");
        assert_eq!((float("largest_error"), &report["rows_judged"]), (0.5, &json!(1)));
    }

    #[test]
    fn without_the_rows_only_the_mass_is_known() {
        let values: Vec<u8> = [0x4800_u16, 0x0000].iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut judge = Judge::new();
        judge.topk(&view(&values, &[2.0_f32.ln()]), 0, None);
        let report = judge.topk_report();
        assert!(report.iter().all(|(key, _)| *key != "kl_nats"));
        let mass = report[1].1.as_f64().expect("a number");
        assert!((0.5..0.51).contains(&mass), "{mass}");
    }
}
