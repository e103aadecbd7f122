//! The cheapest top-k set whose KL stays under a target.

use super::{Chosen, SAMPLED, as_written, figures, short, spread};
use crate::{
    compress::ask::{Ask, Coded},
    judge::{self, with_rest},
    tensors::{Rows, TensorError},
};
use codec::{
    Coding,
    set::{self, Scratch, Set, SetBuf},
};
use kernels::{
    Row,
    topk::{RowSummary, TopK},
};

/// Masses are tried by twentieths of a power of ten of what they leave out, to 1 - 10^-4.
const MASSES: u32 = 20;
const MASSES_MAX: u32 = 80;

/// A sampled row: its best entries, and of the rest only what the KL needs.
#[derive(Debug)]
struct Sample {
    indices: Vec<u32>,
    values: Vec<f32>,
    summary: RowSummary,
    /// Places in `indices`, by index.
    by_index: Vec<u32>,
    /// ln of the sum of exp over the row.
    log_z: f64,
    /// Sum of p ln p over the row.
    p_log_p: f64,
    /// Entries that are numbers.
    valid: usize,
}

/// The rows that a choice is made on.
#[derive(Debug)]
pub(super) struct Samples {
    rows: Vec<Sample>,
    cols: u32,
    cap: u32,
    /// True where there are no rows besides the sampled ones.
    all: bool,
}

/// Means over the sampled rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    coding: Coding,
    k: u32,
    mass: f32,
    bytes: f64,
    kl: f64,
    retained: f64,
    /// Entries of the longest set.
    longest: u32,
}

impl Sample {
    fn new(topk: &mut TopK, row: Row<'_>, cap: u32) -> Option<Self> {
        let mut indices = vec![0; cap as usize];
        let mut values = vec![0.0; cap as usize];
        let summary = topk.run(row, cap as usize, &mut indices, &mut values);
        indices.truncate(summary.count as usize);
        values.truncate(summary.count as usize);
        let mut full = vec![0.0; row.len()];
        row.widen(&mut full);
        full.retain(|x| !x.is_nan());
        let top = f64::from(summary.max);
        let sum: f64 = full.iter().map(|x| (f64::from(*x) - top).exp()).sum();
        let log_z = top + sum.ln();
        if !log_z.is_finite() || indices.is_empty() {
            return None;
        }
        let p_log_p = full.iter().map(|x| p_log_p(f64::from(*x) - log_z)).sum();
        let mut by_index: Vec<u32> = (0..indices.len() as u32).collect();
        by_index.sort_unstable_by_key(|place| indices[*place as usize]);
        Some(Self { by_index, indices, values, summary, log_z, p_log_p, valid: full.len() })
    }

    fn set(&self, k: u32) -> Set<'_> {
        let count = self.indices.len().min(k as usize);
        Set {
            indices: &self.indices[..count],
            values: &self.values[..count],
            max: self.summary.max,
            log_sum: self.summary.log_sum,
            flags: self.summary.flags,
        }
    }

    /// The value at an index of the row, if it is among the best.
    fn value(&self, index: u32) -> Option<f64> {
        let place = self
            .by_index
            .binary_search_by_key(&index, |place| self.indices[*place as usize])
            .ok()?;
        self.values.get(self.by_index[place] as usize).map(|value| f64::from(*value))
    }

    /// Retained mass and KL(P || Q) in nats of a decoded set, as `kernels::fidelity` defines them:
    /// what lies outside the set follows from sums over the whole row.
    fn judge(&self, set: &SetBuf) -> Option<(f64, f64)> {
        let log_sum = with_rest(&set.values, set.max, set.log_sum);
        let sent_log_z = f64::from(set.max) + f64::from(log_sum);
        let (mut mass, mut kl, mut inside, mut sent) = (0.0, 0.0, 0.0, 0.0_f64);
        for (index, decoded) in set.indices.iter().zip(&set.values) {
            let log_p = self.value(*index)? - self.log_z;
            let log_q = f64::from(*decoded) - sent_log_z;
            sent += log_q.exp();
            mass += log_p.exp();
            inside += p_log_p(log_p);
            kl += if log_p == f64::NEG_INFINITY { 0.0 } else { log_p.exp() * (log_p - log_q) };
        }
        let others = self.valid.saturating_sub(set.indices.len());
        if others > 0 {
            let log_tail = ((1.0 - sent).max(0.0) / others as f64).ln();
            kl += (self.p_log_p - inside) - (1.0 - mass).max(0.0) * log_tail;
        }
        Some((mass, kl))
    }
}

/// p ln p from ln p.
fn p_log_p(log_p: f64) -> f64 {
    if log_p == f64::NEG_INFINITY { 0.0 } else { log_p.exp() * log_p }
}

impl Samples {
    /// Reads rows and finds the `cap` best of each; rows without a distribution are left out.
    pub(super) fn take(tensor: &Rows<'_>, cap: u32) -> Result<Self, TensorError> {
        let cap = cap.min(tensor.cols);
        let mut topk = TopK::new();
        let mut bytes = Vec::new();
        let mut rows = Vec::new();
        for at in spread(tensor.rows) {
            tensor.read(at, 1, &mut bytes)?;
            let row = judge::row(tensor.dtype, &bytes);
            rows.extend(row.and_then(|row| Sample::new(&mut topk, row, cap)));
        }
        Ok(Self { rows, cols: tensor.cols, cap, all: tensor.rows <= SAMPLED })
    }

    /// What sets of `k` entries cost and keep, in the mean. `None` where a row cannot be judged.
    pub(super) fn measure(&self, coding: Coding, k: u32, mass: f32) -> Option<Found> {
        let mut found = Found { coding, k, mass, bytes: 0.0, kl: 0.0, retained: 0.0, longest: 0 };
        let mut out = vec![0; set::worst_len(coding, k, self.cols)];
        let (mut scratch, mut read) = (Scratch::new(k as usize), SetBuf::new(k as usize));
        let share = 1.0 / self.rows.len() as f64;
        for row in &self.rows {
            let set = row.set(k);
            let len = set::encode(coding, &set, self.cols, mass, &mut out, &mut scratch).ok()?;
            set::decode(coding, &out[..len], self.cols, k as usize, &mut read).ok()?;
            let (retained, kl) = row.judge(&read)?;
            found.bytes += share * len as f64;
            found.kl += share * kl;
            found.retained += share * retained;
            found.longest = found.longest.max(read.indices.len() as u32);
        }
        Some(found)
    }

    /// The smallest k that meets the target, by halving: more entries never tell less.
    fn smallest(&self, coding: Coding, target: f64, mass: f32) -> Result<Found, Option<Found>> {
        let measure = |k| self.measure(coding, k, mass);
        let mut best = measure(self.cap).ok_or(None)?;
        if !meets(&best, target) {
            return Err(Some(best));
        }
        let (mut low, mut high) = (1, self.cap);
        while low < high {
            let middle = low + (high - low) / 2;
            match measure(middle) {
                Some(found) if meets(&found, target) => (best, high) = (found, middle),
                _ => low = middle + 1,
            }
        }
        Ok(best)
    }

    /// The smallest mass that meets the target, with as many entries as that takes in each row:
    /// a row that is sure of itself needs few.
    fn least_mass(&self, coding: Coding, target: f64) -> Option<Found> {
        let measure = |place: u32| {
            let mass = short(1.0 - 10_f32.powf(-(place as f32) / MASSES as f32), 5);
            self.measure(coding, self.cap, mass).filter(|found| meets(found, target))
        };
        let (mut low, mut high) = (1, MASSES_MAX);
        let mut best = measure(high)?;
        while low < high {
            let middle = low + (high - low) / 2;
            match measure(middle) {
                Some(found) => (best, high) = (found, middle),
                None => low = middle + 1,
            }
        }
        // Rows that were not sampled may need more than those that were.
        let room = if self.all { 1 } else { 2 };
        best.k = best.longest.saturating_mul(room).clamp(1, self.cap);
        Some(best)
    }

    /// The cheapest that meets the target.
    pub(super) fn choose(
        &self,
        target: f64,
        only: Option<Coding>,
        mass: f32,
    ) -> Result<Chosen, String> {
        if self.rows.is_empty() {
            return Err("no sampled row has a distribution: infinities or only NaN".to_owned());
        }
        let codings = Coding::ALL.iter().copied();
        let mut best: Option<Found> = None;
        let mut nearest: Option<Found> = None;
        for coding in codings.filter(|coding| coding.is_set() && only.is_none_or(|o| o == *coding))
        {
            let adaptive = if mass > 0.0 { None } else { self.least_mass(coding, target) };
            if let Some(found) = adaptive
                && best.is_none_or(|best| found.bytes < best.bytes)
            {
                best = Some(found);
            }
            match self.smallest(coding, target, mass) {
                Ok(found) if best.is_none_or(|best| found.bytes < best.bytes) => best = Some(found),
                Err(Some(found)) if nearest.is_none_or(|near| found.kl < near.kl) => {
                    nearest = Some(found);
                }
                _ => {}
            }
        }
        best.map(|found| self.chosen(found)).ok_or_else(|| {
            let reached = nearest.map_or(f64::NAN, |near| near.kl);
            let name = nearest.map_or_else(String::new, |near| format!(" ({})", near.coding));
            format!(
                "--target-kl {target}: {} entries a row reach {reached:.5}{name}; allow more with \
                 --topk or --mass, or a larger KL",
                self.cap
            )
        })
    }

    fn chosen(&self, found: Found) -> Chosen {
        let Found { coding, k, mass, bytes, kl, retained, .. } = found;
        let ask = Ask::Coded(Coded { coding, k, quality: mass, lm_head: false, basis: [0; 8] });
        let pairs = [("bytes_per_row", bytes), ("kl_nats", kl), ("retained_mass", retained)];
        let mut predicted = figures(&pairs);
        predicted["coding"] = coding.name().into();
        predicted["k"] = k.into();
        if mass > 0.0 {
            predicted["mass"] = as_written(mass);
        }
        predicted["rows_sampled"] = self.rows.len().into();
        Chosen { ask, predicted }
    }
}

fn meets(found: &Found, target: f64) -> bool {
    found.kl <= target
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::TensorFile;
    use kernels::fidelity;
    use std::path::Path;

    fn logits() -> TensorFile {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/samples/logits.safetensors");
        TensorFile::open(&path).expect("sample")
    }

    #[test]
    fn the_short_way_to_the_kl_is_the_definition() {
        let file = logits();
        let tensor = file.rows("wide.bf16").expect("tensor");
        let samples = Samples::take(&tensor, 200).expect("reads");
        let mut bytes = Vec::new();
        for (at, sample) in samples.rows.iter().enumerate() {
            tensor.read(at as u64, 1, &mut bytes).expect("reads");
            let row = judge::row(tensor.dtype, &bytes).expect("a row");
            for k in [1, 17, 200] {
                let set = sample.set(k);
                let mut buf = SetBuf::new(k as usize);
                buf.indices.extend(set.indices);
                buf.values.extend(set.values.iter().map(|x| x + 0.01));
                (buf.max, buf.log_sum) = (set.max, set.log_sum);
                let (mass, kl) = sample.judge(&buf).expect("judged");
                let log_sum = with_rest(&buf.values, buf.max, buf.log_sum);
                let whole =
                    fidelity::topk(row, &buf.indices, &buf.values, buf.max, log_sum).expect("kl");
                assert!((mass - whole.retained_mass).abs() < 1e-9, "{mass} {whole:?}");
                assert!((kl - whole.kl_with_tail).abs() < 1e-9, "{kl} {whole:?}");
            }
        }
    }

    #[test]
    fn the_choice_meets_the_target_and_one_entry_less_does_not() {
        let file = logits();
        let tensor = file.rows("head.f32").expect("tensor");
        let samples = Samples::take(&tensor, 1024).expect("reads");
        for target in [0.5, 0.1, 0.03] {
            let found = samples.smallest(Coding::SetU8, target, 0.0).expect("reachable");
            assert!(found.kl <= target, "{found:?}");
            let less = samples.measure(Coding::SetU8, found.k - 1, 0.0).expect("measured");
            assert!(less.kl > target, "{target}: {less:?}");
            let chosen = samples.choose(target, None, 0.0).expect("reachable");
            let bytes = chosen.predicted["bytes_per_row"].as_f64().expect("a number");
            assert!(bytes <= found.bytes);
            let adaptive = samples.least_mass(Coding::SetU8, target).expect("reachable");
            assert!(adaptive.kl <= target && bytes <= adaptive.bytes, "{adaptive:?}");
            // What is cut to the longest set of the sample is what was measured.
            let again = samples.measure(Coding::SetU8, adaptive.k, adaptive.mass);
            assert_eq!(again.map(|again| again.kl), Some(adaptive.kl));
            assert!(chosen.predicted["kl_nats"].as_f64().expect("a number") <= target);
        }
        let error = samples.choose(1e-9, Some(Coding::SetU8), 0.0).expect_err("unreachable");
        assert!(error.contains("1024 entries") && error.contains("set-u8"), "{error}");
    }
}
