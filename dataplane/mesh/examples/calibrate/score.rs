//! Counts of what came true, per class.

use fleet::{Fleet, Time};

use crate::field::Shot;

/// One in this many messages is put to the oracle.
const ASK: u32 = 8;
/// The dials that are scored.
pub(crate) const SHARES: [f64; 2] = [0.99, 0.999];

/// Scores of one class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Score {
    pub(crate) count: u64,
    pub(crate) late: [u64; 2],
    pub(crate) late_seen: [u64; 2],
    early: [f64; 2],
    early_oracle: [f64; 2],
    late_oracle: [u64; 2],
    asked: [u64; 2],
    errors: Vec<u64>,
    errors_oracle: Vec<u64>,
}

impl Score {
    pub(crate) fn add(&mut self, fleet: &Fleet, shot: &Shot) {
        self.count += 1;
        let ask = (shot.agent + shot.number) % ASK == 0;
        let oracle = |tau| fleet.oracle_quantile(shot.agent, shot.at, tau, shot.weight, shot.queue);
        for k in 0..SHARES.len() {
            self.late[k] += u64::from(shot.ready > shot.leads[k]);
            self.late_seen[k] += u64::from(shot.seen > shot.leads[k]);
            if ask {
                let best = oracle(SHARES[k]);
                self.late_oracle[k] += u64::from(shot.ready > best);
                self.early[k] += shot.leads[k].saturating_sub(shot.ready) as f64;
                self.early_oracle[k] += best.saturating_sub(shot.ready) as f64;
                self.asked[k] += 1;
            }
        }
        if ask {
            self.errors.push(shot.median.abs_diff(shot.ready));
            self.errors_oracle.push(oracle(0.5).abs_diff(shot.ready));
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for k in 0..2 {
            self.late[k] += other.late[k];
            self.late_seen[k] += other.late_seen[k];
            self.early[k] += other.early[k];
            self.early_oracle[k] += other.early_oracle[k];
            self.late_oracle[k] += other.late_oracle[k];
            self.asked[k] += other.asked[k];
        }
        self.errors.extend(&other.errors);
        self.errors_oracle.extend(&other.errors_oracle);
    }

    /// Percent on time, in truth.
    pub(crate) fn on_time(&self, k: usize) -> f64 {
        100.0 - 100.0 * self.late[k] as f64 / self.count as f64
    }

    /// Percent on time, as the node reckons.
    pub(crate) fn on_time_seen(&self, k: usize) -> f64 {
        100.0 - 100.0 * self.late_seen[k] as f64 / self.count as f64
    }

    /// Percent on time had the oracle chosen the leads.
    pub(crate) fn on_time_oracle(&self, k: usize) -> f64 {
        100.0 - 100.0 * self.late_oracle[k] as f64 / self.asked[k] as f64
    }

    /// Mean earliness in ms (0 for late ones), and over the oracle's.
    pub(crate) fn earliness(&self, k: usize) -> (f64, f64) {
        (self.early[k] / self.asked[k] as f64 / 1e6, self.early[k] / self.early_oracle[k])
    }

    /// p90 of the prediction error in ms, over the oracle's, and the share within 50 ms (KPI-03).
    pub(crate) fn error(&self) -> (f64, f64, f64) {
        let p90 = |of: &[Time]| {
            let mut sorted = of.to_vec();
            sorted.sort_unstable();
            sorted[sorted.len() * 9 / 10] as f64 / 1e6
        };
        let (own, best) = (p90(&self.errors), p90(&self.errors_oracle));
        let within = self.errors.iter().filter(|&&e| e <= 50_000_000).count();
        (own, own / best, 100.0 * within as f64 / self.errors.len() as f64)
    }
}
