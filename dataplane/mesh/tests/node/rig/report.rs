//! Reports as the tests look at them, and what must hold of each.

use super::aligned;
use mesh::{Time, node::Peer};
use wire::{
    Header,
    mesh::{AgentClass, Decision, SkipReason},
    payload::{
        access,
        mesh::{Counts, GatherReport},
    },
};

/// What of a report the tests look at.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub node: usize,
    pub to: Peer,
    pub message_id: u64,
    pub counts: Counts,
    pub decision: Decision,
    pub is_final: bool,
    pub reason: String,
    pub recommendation: String,
    pub names: Vec<String>,
    pub conflicts: Vec<(String, String)>,
    pub phases: Vec<(String, u32, u32)>,
    pub skips: Vec<(SkipReason, u32, u32, u32)>,
    pub classes: Vec<(AgentClass, u32, u32, u32)>,
    pub reached: (u32, u32),
    pub earliness: u64,
    pub fire: u64,
    pub target: Time,
    pub total: Time,
    pub window: Time,
    pub shares: [f32; 4],
}

fn counts(it: &wire::payload::mesh::ArchivedCounts) -> Counts {
    Counts {
        targets: it.targets.into(),
        scheduled: it.scheduled.into(),
        skipped: it.skipped.into(),
        sent: it.sent.into(),
        ready: it.ready.into(),
        in_time: it.in_time.into(),
        late: it.late.into(),
        conflicts: it.conflicts.into(),
        transit: it.transit.into(),
        stragglers: it.stragglers.into(),
        duplicates: it.duplicates.into(),
        foreign: it.foreign.into(),
    }
}

pub(crate) fn read(node: usize, to: Peer, frame: &[u8]) -> Report {
    let message_id = Header::peek(frame).expect("a header").message_id();
    aligned(frame, |bytes| {
        let it = access::<GatherReport>(bytes).expect("sound");
        let counts = counts(&it.counts);
        let sum = |bins: &[wire::payload::mesh::ArchivedBin]| {
            bins.iter().map(|bin| u64::from(bin.count.to_native())).sum()
        };
        Report {
            node,
            to,
            message_id,
            counts,
            decision: Decision::from_code(it.decision).expect("known"),
            is_final: it.is_final,
            reason: it.reason.to_string(),
            recommendation: it.recommendation.to_string(),
            names: it.straggler_names.iter().map(|name| name.to_string()).collect(),
            conflicts: {
                let rows = it.conflict_rows.iter();
                rows.map(|row| (row.name.to_string(), row.detail.to_string())).collect()
            },
            phases: {
                let rows = it.phases.iter();
                rows.map(|row| (row.name.to_string(), row.reached.into(), row.of.into())).collect()
            },
            skips: it
                .skips
                .iter()
                .map(|row| {
                    let reason = SkipReason::from_code(row.reason).expect("known");
                    let (need, left) = (row.would_need_us.into(), row.available_us.into());
                    (reason, row.count.into(), need, left)
                })
                .collect(),
            classes: it
                .classes
                .iter()
                .map(|row| {
                    let class = AgentClass::from_code(row.class).expect("known");
                    (class, row.targets.into(), row.sent.into(), row.ready.into())
                })
                .collect(),
            reached: (it.sectors_reached.into(), it.clusters_reached.into()),
            earliness: sum(&it.earliness),
            fire: sum(&it.fire_error),
            target: it.target_ns.into(),
            total: it.total_ns.into(),
            window: it.window_ns.into(),
            shares: [
                it.coverage.into(),
                it.response_rate.into(),
                it.on_time.into(),
                it.confidence.into(),
            ],
        }
    })
}

/// What must hold of every result.
pub(crate) fn check(report: &Report) {
    let it = &report.counts;
    assert_eq!(it.targets, it.scheduled + it.skipped, "{report:?}");
    assert_eq!(it.ready, it.in_time + it.late, "{report:?}");
    assert!(it.sent <= it.scheduled, "{report:?}");
    let skipped: u32 = report.skips.iter().map(|row| row.1).sum();
    assert_eq!(skipped, it.skipped, "{report:?}");
    if report.is_final {
        assert_eq!(it.sent, it.ready + it.conflicts + it.transit + it.stragglers, "{report:?}");
        assert_eq!(it.sent, it.scheduled, "{report:?}");
        assert_eq!(report.earliness, u64::from(it.in_time), "{report:?}");
        assert!(report.names.len() <= it.stragglers as usize + 8, "{report:?}");
        assert!(!report.reason.is_empty() && !report.recommendation.is_empty());
    }
    assert!(report.shares[..3].iter().all(|share| (0.0..=1.0).contains(share)), "{report:?}");
}
