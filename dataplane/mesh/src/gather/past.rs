//! The last gathers that ended, for people who look (W97).

use super::{Run, tally::clip};
use std::collections::VecDeque;
use wire::{
    mesh::{DETAIL_LEN_MAX, GATHERS_MAX, coarse},
    payload::mesh::{Bin, GatherReport, GatherRow},
};

/// The last [`GATHERS_MAX`] of them, newest first.
#[derive(Debug, Default)]
pub(crate) struct Past(VecDeque<GatherRow>);

impl Past {
    /// One more ended, with this report.
    pub(crate) fn add(&mut self, run: &Run, report: &GatherReport, epoch_ns: u64) {
        self.0.truncate(GATHERS_MAX - 1);
        self.0.push_front(GatherRow {
            earliness: coarser(&report.earliness),
            lateness: coarser(&report.lateness),
            reason: clip(report.reason.as_str(), DETAIL_LEN_MAX).into(),
            message_id: run.order.message_id,
            ended_ns: epoch_ns,
            total_ns: report.total_ns,
            counts: report.counts,
            coverage: report.coverage,
            on_time: report.on_time,
            decision: report.decision,
            strategy: run.order.strategy.code(),
            verb: run.order.verb.code(),
            ..GatherRow::default()
        });
    }

    /// The newest ones.
    pub(crate) fn newest(&self, limit: usize) -> Vec<GatherRow> {
        self.0.iter().take(limit).cloned().collect()
    }

    /// When the last one ended, nanoseconds since the Unix epoch; 0 for never.
    pub(crate) fn last(&self) -> u64 {
        self.0.front().map_or(0, |row| row.ended_ns)
    }
}

/// Bins in rising order, put together by eight.
fn coarser(bins: &[Bin]) -> Vec<Bin> {
    let mut sums: Vec<Bin> = Vec::new();
    for bin in bins {
        let first = coarse(u16::try_from(bin.bin).unwrap_or(u16::MAX)).into();
        match sums.last_mut().filter(|last| last.bin == first) {
            Some(last) => last.count = last.count.saturating_add(bin.count),
            None => sums.push(Bin { bin: first, count: bin.count }),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w97_bins_are_put_together_by_eight_and_lose_nobody() {
        let bins: Vec<Bin> = (3..30).map(|bin| Bin { bin, count: bin }).collect();
        let sums = coarser(&bins);
        let firsts: Vec<u32> = sums.iter().map(|bin| bin.bin).collect();
        assert_eq!(firsts, [0, 8, 16, 24]);
        let all = |bins: &[Bin]| bins.iter().map(|bin| bin.count).sum::<u32>();
        assert_eq!((all(&sums), sums[1].count), (all(&bins), (8..16).sum()));
        assert_eq!(coarser(&[]), []);
    }
}
