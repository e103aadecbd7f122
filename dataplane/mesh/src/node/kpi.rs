//! The indicators of a node's coordination (KPI-01..07), over the last hour.

use crate::{MS, SECOND, Time};
use wire::payload::mesh::Counts;

/// Width of a bucket, and how many there are: an hour.
const BUCKET: Time = 300 * SECOND;
const BUCKETS: usize = 12;
/// Cascades whose duration is kept.
const DURATIONS: usize = 100;
/// A prediction is accurate when it is within this (KPI-03).
const ACCURATE: Time = 50 * MS;
/// Available: at least this share of the agents is active (KPI-05).
const AVAILABLE: f32 = 0.95;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    number: u64,
    operations: u64,
    succeeded: u64,
    sent: u64,
    targets: u64,
    in_time: u64,
    conflicts: u64,
    predictions: u64,
    accurate: u64,
    samples: u64,
    available: u64,
    outages: u64,
    recovered: u64,
}

/// The indicators. Shares are of the last hour, in five-minute steps; none where nothing happened.
#[derive(Clone, Debug)]
pub struct Kpi {
    buckets: [Bucket; BUCKETS],
    durations: [Time; DURATIONS],
    cascades: u64,
}

impl Default for Kpi {
    fn default() -> Self {
        Self { buckets: [Bucket::default(); BUCKETS], durations: [0; DURATIONS], cascades: 0 }
    }
}

impl Kpi {
    /// The bucket of a moment, emptied where it was another moment's.
    fn bucket(&mut self, now: Time) -> &mut Bucket {
        let number = now / BUCKET + 1;
        let bucket = &mut self.buckets[(number % BUCKETS as u64) as usize];
        if bucket.number != number {
            *bucket = Bucket { number, ..Bucket::default() };
        }
        bucket
    }

    /// The buckets of the last hour.
    fn recent(&self, now: Time) -> impl Iterator<Item = &Bucket> {
        let last = now / BUCKET + 1;
        let recent = move |bucket: &&Bucket| {
            bucket.number <= last && bucket.number + BUCKETS as u64 > last && bucket.number > 0
        };
        self.buckets.iter().filter(recent)
    }

    fn share(&self, now: Time, of: fn(&Bucket) -> (u64, u64)) -> Option<f64> {
        let parts = self.recent(now).map(of);
        let (part, whole) = parts.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        (whole > 0).then(|| part as f64 / whole as f64)
    }

    /// A gather ended. One without targets is no operation.
    pub(super) fn ended(&mut self, now: Time, counts: &Counts, proceed: bool, took: Time) {
        let bucket = self.bucket(now);
        bucket.operations += 1;
        bucket.succeeded += u64::from(proceed);
        bucket.sent += u64::from(counts.sent);
        bucket.targets += u64::from(counts.targets);
        bucket.in_time += u64::from(counts.in_time);
        bucket.conflicts += u64::from(counts.conflicts);
        self.durations[(self.cascades % DURATIONS as u64) as usize] = took;
        self.cascades += 1;
    }

    /// A READY came, so far from where it was predicted.
    pub(super) fn predicted(&mut self, now: Time, error: Time) {
        let bucket = self.bucket(now);
        bucket.predictions += 1;
        bucket.accurate += u64::from(error <= ACCURATE);
    }

    /// So many of so many agents are active now.
    pub(super) fn active(&mut self, now: Time, active: u32, agents: u32) {
        if agents == 0 {
            return;
        }
        let bucket = self.bucket(now);
        bucket.samples += 1;
        bucket.available += u64::from(crate::trinary::reaches(active, agents, AVAILABLE));
    }

    /// Outages of clusters and sectors were decided: so many of them over in time.
    pub(super) fn recovered(&mut self, now: Time, in_time: u64, all: u64) {
        if all == 0 {
            return;
        }
        let bucket = self.bucket(now);
        bucket.outages += all;
        bucket.recovered += in_time;
    }

    /// Outages that were over in time: a cluster's within five minutes, a sector's within fifteen
    /// (KPI-07).
    #[must_use]
    pub fn recovery(&self, now: Time) -> Option<f64> {
        self.share(now, |bucket| (bucket.recovered, bucket.outages))
    }

    /// CONFLICT answers of the last hour (CONS-01).
    #[must_use]
    pub fn conflicts(&self, now: Time) -> u64 {
        let conflicts = self.recent(now).map(|bucket| bucket.conflicts);
        conflicts.fold(0, u64::saturating_add)
    }

    /// Gathers that ended with PROCEED (KPI-01: at least 0.99).
    #[must_use]
    pub fn success_rate(&self, now: Time) -> Option<f64> {
        self.share(now, |bucket| (bucket.succeeded, bucket.operations))
    }

    /// READY by the moment, of all copies that left (KPI-02: at least 0.95).
    #[must_use]
    pub fn window_hit_rate(&self, now: Time) -> Option<f64> {
        self.share(now, |bucket| (bucket.in_time, bucket.sent))
    }

    /// READY within 50 ms of the prediction (KPI-03: at least 0.90).
    #[must_use]
    pub fn accuracy(&self, now: Time) -> Option<f64> {
        self.share(now, |bucket| (bucket.accurate, bucket.predictions))
    }

    /// CONFLICT answers over targets (KPI-04: at most 0.01). What one operation may have is
    /// another number (Y-15).
    #[must_use]
    pub fn conflict_rate(&self, now: Time) -> Option<f64> {
        self.share(now, |bucket| (bucket.conflicts, bucket.targets))
    }

    /// Time during which at least 0.95 of the agents were active (KPI-05: at least 0.999).
    #[must_use]
    pub fn availability(&self, now: Time) -> Option<f64> {
        self.share(now, |bucket| (bucket.available, bucket.samples))
    }

    /// 95th percentile of the last hundred cascades' durations (KPI-06: at most 1 s), by nearest
    /// rank.
    #[must_use]
    pub fn cascade_p95(&self) -> Option<Time> {
        let known = self.cascades.min(DURATIONS as u64) as usize;
        let mut sorted = self.durations;
        let sorted = &mut sorted[..known];
        sorted.sort_unstable();
        let rank = (known * 95).div_ceil(100);
        sorted.get(rank.checked_sub(1)?).copied()
    }

    /// Shows each indicator that has a case.
    pub fn measure(&self, now: Time, measure: super::Measure<'_>) {
        for (name, share) in [
            ("coordination_success", self.success_rate(now)),
            ("window_hit", self.window_hit_rate(now)),
            ("prediction_within_50ms", self.accuracy(now)),
            ("conflict", self.conflict_rate(now)),
            ("availability", self.availability(now)),
            ("recovery", self.recovery(now)),
        ] {
            if let Some(share) = share {
                measure("butterfly_mesh_kpi_ratio", "kpi", name, share);
            }
        }
        if let Some(p95) = self.cascade_p95() {
            measure("butterfly_mesh_cascade_p95_seconds", "", "", p95 as f64 / 1e9);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sent: u32, in_time: u32, conflicts: u32) -> Counts {
        Counts { targets: sent, sent, in_time, conflicts, ..Counts::default() }
    }

    #[test]
    fn kpi_01_04_shares_are_of_the_last_hour() {
        let mut kpi = Kpi::default();
        assert_eq!(kpi.success_rate(0), None);
        kpi.ended(0, &counts(100, 90, 2), true, MS);
        kpi.ended(SECOND, &counts(100, 100, 0), false, MS);
        assert_eq!(kpi.success_rate(SECOND), Some(0.5));
        assert_eq!(kpi.window_hit_rate(SECOND), Some(0.95));
        assert_eq!(kpi.conflict_rate(SECOND), Some(0.01));
        assert_eq!(kpi.conflicts(SECOND), 2);
        let later = 2 * 3600 * SECOND;
        assert_eq!(kpi.success_rate(later), None, "two hours later nothing of it is left");
        assert_eq!(kpi.conflicts(later), 0);
        kpi.ended(later, &counts(1, 1, 0), true, MS);
        assert_eq!(kpi.success_rate(later), Some(1.0));
    }

    #[test]
    fn kpi_03_05_a_prediction_within_50_ms_and_95_percent_active_count() {
        let mut kpi = Kpi::default();
        kpi.predicted(0, 50 * MS);
        kpi.predicted(0, 50 * MS + 1);
        assert_eq!(kpi.accuracy(0), Some(0.5));
        kpi.active(0, 0, 0);
        assert_eq!(kpi.availability(0), None, "no agents: neither");
        kpi.active(0, 95, 100);
        kpi.active(0, 94, 100);
        assert_eq!(kpi.availability(0), Some(0.5));
    }

    #[test]
    fn kpi_07_recovery_is_a_share_of_the_outages_of_the_last_hour() {
        let mut kpi = Kpi::default();
        kpi.recovered(0, 0, 0);
        assert_eq!(kpi.recovery(0), None, "no outage");
        kpi.recovered(0, 3, 4);
        assert_eq!(kpi.recovery(SECOND), Some(0.75));
        assert_eq!(kpi.recovery(2 * 3600 * SECOND), None);
    }

    #[test]
    fn kpi_06_p95_is_over_the_last_hundred_cascades() {
        let mut kpi = Kpi::default();
        assert_eq!(kpi.cascade_p95(), None);
        for took in 1..=300 {
            kpi.ended(0, &counts(1, 1, 0), true, took);
        }
        assert_eq!(kpi.cascade_p95(), Some(295));
    }
}
