//! The cheapest coding of hidden rows that reaches a ratio of signal to noise.

use super::{Chosen, as_written, figures, short, spread};
use crate::{
    coded::{Decoded, Decoder},
    compress::ask::{Ask, Coded},
    judge,
    tensors::{Rows, TensorError},
};
use codec::{Coding, basis::Basis, hidden};
use kernels::fidelity::Reconstruction;
use wire::{
    Dtype,
    work::{STEP_MAX, STEP_MIN},
};

/// Elements that are sampled at most: rotating wide rows takes time.
const ELEMENTS_MAX: u64 = 1 << 18;
/// Steps are tried in thirty-seconds of an octave, under a fifth of a dB.
const STEPS: i32 = 32;

/// The rows that a choice is made on.
#[derive(Debug)]
pub(crate) struct Samples {
    rows: Vec<Vec<u8>>,
    dtype: Dtype,
    cols: u32,
}

/// Means over the rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Found {
    /// How.
    pub(crate) coding: Coding,
    /// The dial.
    pub(crate) quality: f32,
    /// Bytes of a row.
    pub(crate) bytes: f64,
    /// What became of the rows.
    pub(crate) kept: Reconstruction,
}

impl Samples {
    /// Reads rows spread over the tensor.
    pub(super) fn take(tensor: &Rows<'_>) -> Result<Self, TensorError> {
        let count = (ELEMENTS_MAX / u64::from(tensor.cols)).max(4) as usize;
        let all: Vec<u64> = spread(tensor.rows).collect();
        let every = all.len().div_ceil(count);
        Self::of(tensor, all.into_iter().step_by(every))
    }

    /// Reads these rows.
    pub(crate) fn of(
        tensor: &Rows<'_>,
        rows: impl Iterator<Item = u64>,
    ) -> Result<Self, TensorError> {
        let read = |at| {
            let mut bytes = Vec::new();
            tensor.read(at, 1, &mut bytes).map(|()| bytes)
        };
        let rows = rows.map(read).collect::<Result<_, _>>()?;
        Ok(Self { rows, dtype: tensor.dtype, cols: tensor.cols })
    }

    /// Rows that there are.
    pub(crate) const fn len(&self) -> usize {
        self.rows.len()
    }

    /// What a coding costs and keeps. An error says why it cannot be used.
    pub(crate) fn measure(
        &self,
        coding: Coding,
        quality: f32,
        basis: Option<&Basis>,
    ) -> Result<Found, codec::Fault> {
        let mut out = vec![0; hidden::worst_len(coding, self.cols, self.dtype)];
        let mut scratch = hidden::Scratch::new(self.cols as usize);
        let mut decoder = Decoder::new(coding, 0, self.cols, basis);
        let mut original = vec![0.0; self.cols as usize];
        let mut kept = Reconstruction::new();
        let mut bytes = 0.0;
        for row in &self.rows {
            let Some(row) = judge::row(self.dtype, row) else { continue };
            let (len, _) = hidden::encode(coding, row, basis, quality, &mut out, &mut scratch)?;
            bytes += len as f64;
            row.widen(&mut original);
            if let Decoded::Hidden(decoded) = decoder.row(&out[..len])? {
                kept.add(&original, decoded);
            }
        }
        Ok(Found { coding, quality, bytes: bytes / self.rows.len().max(1) as f64, kept })
    }

    /// The coarsest step that reaches the target, by halving: the error grows with the step.
    fn coarsest(&self, target: f64, basis: Option<&Basis>) -> Result<Found, Option<Found>> {
        let step = |place: i32| {
            short(2.0_f32.powf(place as f32 / STEPS as f32), 3).clamp(STEP_MIN, STEP_MAX)
        };
        let measure = |place| self.measure(Coding::Rotated, step(place), basis).map_err(|_| None);
        let [mut low, mut high] =
            [STEP_MIN, STEP_MAX].map(|end| (end.log2() * STEPS as f32).round() as i32);
        let mut best = measure(low)?;
        if !meets(&best, target) {
            return Err(Some(best));
        }
        while low < high {
            let middle = high - (high - low) / 2;
            match measure(middle)? {
                found if meets(&found, target) => (best, low) = (found, middle),
                _ => high = middle - 1,
            }
        }
        Ok(best)
    }

    /// The cheapest that reaches the target.
    pub(super) fn choose(
        &self,
        target: f64,
        only: Option<Coding>,
        basis: Option<&Basis>,
    ) -> Result<Chosen, String> {
        let mut best: Option<Found> = None;
        let mut nearest: Option<Found> = None;
        let codings = Coding::ALL.iter().copied();
        for coding in codings.filter(|c| c.is_hidden() && only.is_none_or(|only| only == *c)) {
            let found = match coding {
                Coding::Rotated => self.coarsest(target, basis),
                // Loses what it was not shown; whoever wants that says so.
                Coding::Pca if only.is_none() => continue,
                coding => self.measure(coding, 0.0, basis).map_err(|_| None).and_then(|found| {
                    if meets(&found, target) { Ok(found) } else { Err(Some(found)) }
                }),
            };
            match found {
                Ok(found) if best.is_none_or(|best| found.bytes < best.bytes) => best = Some(found),
                Err(Some(found))
                    if nearest.is_none_or(|near| found.kept.snr_db() > near.kept.snr_db()) =>
                {
                    nearest = Some(found);
                }
                _ => {}
            }
        }
        best.map(|found| self.chosen(&found, basis))
            .ok_or_else(|| unreached(target, nearest, basis))
    }

    fn chosen(&self, found: &Found, basis: Option<&Basis>) -> Chosen {
        let Found { coding, quality, bytes, kept } = *found;
        let basis = super::super::prefix(coding, basis);
        let ask = Ask::Coded(Coded { coding, k: 0, quality, lm_head: false, basis });
        let mut predicted = figures(&[
            ("bytes_per_row", bytes),
            ("snr_db", kept.snr_db()),
            ("relative_error", kept.relative_error()),
            ("cosine", kept.cosine_mean()),
        ]);
        predicted["coding"] = coding.name().into();
        if coding == Coding::Rotated {
            predicted["step"] = as_written(quality);
        }
        predicted["rows_sampled"] = self.len().into();
        Chosen { ask, predicted }
    }
}

fn meets(found: &Found, target: f64) -> bool {
    found.kept.snr_db() >= target
}

fn unreached(target: f64, nearest: Option<Found>, basis: Option<&Basis>) -> String {
    let reached = nearest.map_or_else(
        || "nothing that is at hand can code these rows".to_owned(),
        |near| format!("the best is {:.2} dB ({})", near.kept.snr_db(), near.coding),
    );
    let advice = match basis {
        None => {
            "; finer codings need a basis: `butterfly calibrate`, then `butterfly serve --basis`"
        }
        Some(_) => "; was the basis learned from rows like these?",
    };
    format!("--target-db {target}: {reached}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::TensorFile;
    use codec::fit::Fit;
    use std::path::Path;

    #[test]
    fn the_choice_reaches_the_target_and_costs_the_least() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/samples/hidden.safetensors");
        let file = TensorFile::open(&path).expect("sample");
        let tensor = file.rows("hidden.f16").expect("tensor");
        let mut fit = Fit::new(tensor.cols as usize, "hidden.f16").expect("a width");
        let mut bytes = Vec::new();
        for at in 0..tensor.rows {
            tensor.read(at, 1, &mut bytes).expect("reads");
            assert!(fit.add(judge::row(tensor.dtype, &bytes).expect("a row")));
        }
        let basis = fit.finish(true, 0, |_| ()).expect("a basis");
        let samples = Samples::take(&tensor).expect("reads");
        let mut last = f64::INFINITY;
        for target in [45.0, 36.0, 28.0, 15.0] {
            let chosen = samples.choose(target, None, Some(&basis)).expect("reachable").predicted;
            let bytes = chosen["bytes_per_row"].as_f64().expect("a number");
            let reached = chosen["snr_db"].as_f64().expect("a number");
            assert!(reached >= target, "{chosen}");
            // The dial is fine enough not to pay for much more than was asked for.
            let rotated = chosen["coding"] == "rotated";
            assert!(!rotated || reached < target + 0.5, "{target}: {chosen}");
            assert!(rotated || target > 40.0, "the dial is cheapest here: {chosen}");
            assert!(bytes <= last, "{target}: {chosen}");
            last = bytes;
        }
        // Without a basis there is one coding, and it has its limit.
        let chosen = samples.choose(36.0, None, None).expect("reachable").predicted;
        assert_eq!(chosen["coding"], "int8-group");
        let error = samples.choose(60.0, None, None).expect_err("out of reach");
        assert!(error.contains("int8-group") && error.contains("--basis"), "{error}");
        let error = samples.choose(60.0, Some(Coding::Int8Channel), Some(&basis));
        assert!(error.expect_err("out of reach").contains("learned from rows like these"));
    }
}
