//! What the codings cost and keep on the samples, measured. Used by the tests, which hold the goals
//! against it, and by `cargo run -p codec --example quality`, which prints it.

use super::samples::Samples;
use super::samples::Tensor;
use codec::{Basis, Coding, fit::Fit, hidden, set};
use kernels::{fidelity, topk::TopK};
use wire::Dtype;

/// Entries per set.
pub(crate) const K: usize = 100;

/// The logits of the samples.
pub(crate) const LOGITS: [&str; 4] = ["head.f32", "tied.f16", "wide.bf16", "wide.f32"];

/// How sets are coded here: with all entries or for a mass.
pub(crate) const SETS: [(Coding, f32); 8] = [
    (Coding::Plain, 0.0),
    (Coding::SetF16, 0.0),
    (Coding::SetBf16, 0.0),
    (Coding::SetU8, 0.0),
    (Coding::SetTiered, 0.0),
    (Coding::SetSteps, 0.0),
    (Coding::SetSteps, 0.99),
    (Coding::SetSteps, 0.95),
];

/// Means over the rows of a tensor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SetQuality {
    /// Bytes of a coded row.
    pub(crate) bytes: f64,
    /// Entries kept.
    pub(crate) entries: f64,
    /// See [`fidelity::TopKFidelity`].
    pub(crate) retained_mass: f64,
    /// KL(P || Q) in nats with the tail known.
    pub(crate) kl: f64,
    /// KL(R || P) of who renormalises.
    pub(crate) kl_renormalised: f64,
    /// The largest error of a value, nats.
    pub(crate) error: f64,
}

/// Codes the top-[`K`] sets of a tensor.
pub(crate) fn of_sets(logits: &Samples, name: &str, coding: Coding, mass: f32) -> SetQuality {
    let mut read = set::SetBuf::new(K);
    let mut scratch = set::Scratch::new(K);
    each_set(logits, name, |row, found, cols| {
        let mut out = vec![0; set::worst_len(coding, K as u32, cols)];
        let len = set::encode(coding, found, cols, mass, &mut out, &mut scratch).expect("room");
        set::decode(coding, &out[..len], cols, K, &mut read).expect("a row");
        let mut quality = judge(row, &read.as_set());
        quality.bytes = len as f64;
        for (index, value) in read.indices.iter().zip(&read.values) {
            let place = found.indices.iter().position(|i| i == index).expect("an index");
            quality.error = quality.error.max(f64::from((found.values[place] - value).abs()));
        }
        quality
    })
}

/// The same sets with each value rounded to f16 as it is, the way the plain layout carries them.
pub(crate) fn of_plain_f16(logits: &Samples, name: &str) -> SetQuality {
    each_set(logits, name, |row, found, _| {
        let values: Vec<f32> =
            found.values.iter().map(|value| half::f16::from_f32(*value).to_f32()).collect();
        let mut quality = judge(row, &set::Set { values: &values, ..*found });
        quality.bytes = (found.values.len() * 6 + 13) as f64;
        quality
    })
}

fn judge(row: kernels::Row<'_>, read: &set::Set<'_>) -> SetQuality {
    let kept = fidelity::topk(row, read.indices, read.values, read.max, read.log_sum);
    let kept = kept.expect("a finite row");
    SetQuality {
        entries: read.indices.len() as f64,
        retained_mass: kept.retained_mass,
        kl: kept.kl_with_tail,
        kl_renormalised: kept.kl_renormalised,
        ..SetQuality::default()
    }
}

fn each_set(
    logits: &Samples,
    name: &str,
    mut measure: impl FnMut(kernels::Row<'_>, &set::Set<'_>, u32) -> SetQuality,
) -> SetQuality {
    let tensor = logits.tensor(name);
    let mut topk = TopK::new();
    let mut mean = SetQuality::default();
    let share = 1.0 / tensor.rows as f64;
    for row in 0..tensor.rows {
        let (mut indices, mut values) = ([0; K], [0.0; K]);
        let got = topk.run(tensor.row(row), K, &mut indices, &mut values);
        let found = set::Set {
            indices: &indices,
            values: &values,
            max: got.max,
            log_sum: got.log_sum,
            flags: got.flags,
        };
        let one = measure(tensor.row(row), &found, tensor.cols as u32);
        mean.bytes += share * one.bytes;
        mean.entries += share * one.entries;
        mean.retained_mass += share * one.retained_mass;
        mean.kl += share * one.kl;
        mean.kl_renormalised += share * one.kl_renormalised;
        mean.error = mean.error.max(one.error);
    }
    mean
}

/// The hidden states of the samples.
pub(crate) const HIDDEN_TENSORS: [&str; 2] = ["hidden.f16", "outlier.f32"];

/// How hidden states are coded here: with which quality.
pub(crate) const HIDDEN: [(Coding, f32); 9] = [
    (Coding::Int8Channel, 0.0),
    (Coding::Int8Group, 0.0),
    (Coding::Int8Centred, 0.0),
    (Coding::Rotated, 0.04),
    (Coding::Rotated, 0.0625),
    (Coding::Rotated, 0.125),
    (Coding::Rotated, 0.1875),
    (Coding::Rotated, 0.25),
    (Coding::Pca, 0.0),
];

/// What a coding of hidden states costs and keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HiddenQuality {
    /// Bytes of a coded row, in the mean.
    pub(crate) bytes: f64,
    /// What that saves of f32.
    pub(crate) saving: f64,
    /// Norm of all errors over norm of all originals.
    pub(crate) relative_error: f64,
    /// Signal over noise.
    pub(crate) snr_db: f64,
    /// Mean of the rows' cosines.
    pub(crate) cosine: f64,
}

/// A basis from every other block of 16 rows: neighbours come from the same text.
pub(crate) fn learn(tensor: &Tensor<'_>, name: &str) -> Basis {
    let mut fit = Fit::new(tensor.cols, name).expect("a width");
    for row in (0..tensor.rows).filter(|row| row / 16 % 2 == 0) {
        assert!(fit.add(tensor.row(row)));
    }
    fit.finish(true, tensor.cols as u32 * 2 / 3, |_| {}).expect("a basis")
}

/// Codes the rows that [`learn`] has not seen.
pub(crate) fn of_hidden(
    tensor: &Tensor<'_>,
    basis: &Basis,
    coding: Coding,
    quality: f32,
) -> HiddenQuality {
    let mut scratch = hidden::Scratch::new(tensor.cols);
    let mut kept = fidelity::Reconstruction::new();
    let (mut bytes, mut rows) = (0, 0);
    let mut out = vec![0; hidden::worst_len(coding, tensor.cols as u32, Dtype::F32)];
    let mut restored = vec![0.0; tensor.cols];
    for row in (0..tensor.rows).filter(|row| row / 16 % 2 == 1) {
        let basis = Some(basis);
        let (len, _) =
            hidden::encode(coding, tensor.row(row), basis, quality, &mut out, &mut scratch)
                .expect("room");
        hidden::decode(coding, &out[..len], basis, &mut restored, &mut scratch).expect("a row");
        kept.add(&tensor.widened(row), &restored);
        bytes += len;
        rows += 1;
    }
    let bytes = bytes as f64 / f64::from(rows);
    HiddenQuality {
        bytes,
        saving: 1.0 - bytes / (4 * tensor.cols) as f64,
        relative_error: kept.relative_error(),
        snr_db: kept.snr_db(),
        cosine: kept.cosine_mean(),
    }
}
