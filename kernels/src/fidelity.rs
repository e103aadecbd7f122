//! How much of the original an encoding kept. All arithmetic is f64.
//!
//! These are measurements for reports and for choosing an encoding; unlike the kernels they use the
//! platform's `exp` and `ln`, and are not meant to be equal bit for bit everywhere.

use crate::row::Row;

/// What a top-k set says about the distribution that it came from.
///
/// With P the softmax of the full row and S the chosen entries:
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopKFidelity {
    /// P(S), the probability of all chosen entries together.
    pub retained_mass: f64,
    /// KL(R || P) in nats, R the softmax over the *decoded* values of S alone: what a reader who
    /// renormalises pays. (KL(P || R) would be infinite, as R gives the rest no probability.)
    pub kl_renormalised: f64,
    /// KL(P || Q) in nats, where Q gives entry i of S `exp(decoded_i - max - log_sum)` and shares
    /// what is then missing from 1 equally among all others; Q is scaled to sum to 1 if rounding
    /// makes S alone exceed it. What a reader who uses the normaliser pays.
    pub kl_with_tail: f64,
}

/// Judges a top-k set.
///
/// `row` is the full row; `indices` the chosen entries, each once and inside the row; `decoded`
/// their values after the wire, in the same order; `max` and `log_sum` the normaliser as it was
/// sent. `None` if the lengths differ, an index is outside the row, or a number is not finite where
/// the definition needs one (NaN in the row is skipped, -inf has probability 0).
#[must_use]
pub fn topk(
    row: Row<'_>,
    indices: &[u32],
    decoded: &[f32],
    max: f32,
    log_sum: f32,
) -> Option<TopKFidelity> {
    if indices.len() != decoded.len() || indices.is_empty() || !max.is_finite() {
        return None;
    }
    let mut full = vec![0.0; row.len()];
    row.widen(&mut full);
    let valid = || full.iter().map(|x| f64::from(*x)).filter(|x| !x.is_nan());
    let top = valid().fold(f64::NEG_INFINITY, f64::max);
    let log_z = top + valid().map(|x| (x - top).exp()).sum::<f64>().ln();
    if !log_z.is_finite() {
        return None;
    }
    let chosen: Vec<f64> = indices
        .iter()
        .map(|i| full.get(*i as usize).map(|x| f64::from(*x)))
        .collect::<Option<_>>()?;

    let sent_log_z = f64::from(max) + f64::from(log_sum);
    let sent_mass: f64 = decoded.iter().map(|x| (f64::from(*x) - sent_log_z).exp()).sum();
    let best = decoded.iter().fold(f64::NEG_INFINITY, |top, x| top.max(f64::from(*x)));
    let log_own = best + decoded.iter().map(|x| (f64::from(*x) - best).exp()).sum::<f64>().ln();

    let mut retained_mass = 0.0;
    let mut kl_renormalised = 0.0;
    let mut kl_with_tail = 0.0;
    let over = sent_mass.max(1.0).ln();
    for (x, decoded) in chosen.iter().zip(decoded) {
        let decoded = f64::from(*decoded);
        let log_p = x - log_z;
        let p = log_p.exp();
        retained_mass += p;
        kl_renormalised += cross(decoded - log_own, log_p);
        kl_with_tail += cross(log_p, decoded - sent_log_z - over);
    }
    let mut is_chosen = vec![false; full.len()];
    indices.iter().for_each(|i| is_chosen[*i as usize] = true);
    let others = valid().count() - indices.len().min(valid().count());
    let log_tail = ((1.0 - sent_mass).max(0.0) / others.max(1) as f64).ln();
    for (x, is_chosen) in full.iter().zip(is_chosen) {
        if !is_chosen && !x.is_nan() {
            kl_with_tail += cross(f64::from(*x) - log_z, log_tail);
        }
    }
    Some(TopKFidelity { retained_mass, kl_renormalised, kl_with_tail })
}

/// One entry's part of KL(P || Q), from log-probabilities; nothing where P is 0.
fn cross(log_p: f64, log_q: f64) -> f64 {
    if log_p == f64::NEG_INFINITY { 0.0 } else { log_p.exp() * (log_p - log_q) }
}

/// Errors of reconstructed rows, collected row by row.
///
/// Entries that are not finite in the original are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reconstruction {
    rows: u64,
    signal: f64,
    noise: f64,
    cosines: f64,
    cosine_least: f64,
    error_largest: f64,
}

impl Reconstruction {
    /// Nothing collected yet.
    #[must_use]
    pub fn new() -> Self {
        Self { cosine_least: 1.0, ..Self::default() }
    }

    /// Adds a row and what became of it; the longer of the two is cut.
    pub fn add(&mut self, original: &[f32], decoded: &[f32]) {
        let (mut signal, mut noise, mut norm, mut product) = (0.0, 0.0, 0.0, 0.0);
        for (x, y) in original.iter().zip(decoded) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            if x.is_finite() {
                signal += x * x;
                norm += y * y;
                product += x * y;
                noise += (x - y) * (x - y);
                self.error_largest = self.error_largest.max((x - y).abs());
            }
        }
        let lengths = (signal * norm).sqrt();
        // Two zero rows point the same way; a zero row and another one do not.
        let cosine = if lengths > 0.0 { product / lengths } else { f64::from(signal == norm) };
        self.rows += 1;
        self.signal += signal;
        self.noise += noise;
        self.cosines += cosine;
        self.cosine_least = self.cosine_least.min(cosine);
    }

    /// Norm of all errors over norm of all originals; 0 if there were no errors.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        if self.noise == 0.0 { 0.0 } else { (self.noise / self.signal).sqrt() }
    }

    /// Signal over noise in decibels; infinite if there were no errors.
    #[must_use]
    pub fn snr_db(&self) -> f64 {
        -20.0 * self.relative_error().log10()
    }

    /// Mean over rows of the cosine between original and reconstruction; 1 if there was no row.
    #[must_use]
    pub fn cosine_mean(&self) -> f64 {
        if self.rows == 0 { 1.0 } else { self.cosines / self.rows as f64 }
    }

    /// The smallest cosine of any row.
    #[must_use]
    pub const fn cosine_least(&self) -> f64 {
        self.cosine_least
    }

    /// The largest error of any entry.
    #[must_use]
    pub const fn error_largest(&self) -> f64 {
        self.error_largest
    }
}
