//! What the codings cost and keep on the samples, measured. Used by the tests, which hold the goals
//! against it, and by `cargo run -p codec --example quality`, which prints it.

use super::samples::Samples;
use codec::{Coding, set};
use kernels::{fidelity, topk::TopK};

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
