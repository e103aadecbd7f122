//! The part that nodes below have in a gather: asked, told the moment, reported, added up.

use super::tally::clip;
use crate::Time;
use wire::{
    mesh::{AgentClass, DETAIL_LEN_MAX, NAMES_MAX, SkipReason},
    payload::{
        Text,
        mesh::{
            ArchivedBin, ArchivedCounts, ArchivedGatherReport, Bin, ClassRow, ConflictRow, Counts,
            GatherReport, PhaseRow, SkipRow,
        },
    },
};

/// Phases of a child's report that are read.
const PHASES: usize = 16;

/// How far a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KidState {
    /// Asked how long it needs.
    Asked,
    /// It said so.
    Prepared,
    /// It knows the moment.
    Committed,
    /// Its result is here.
    Done,
    /// It did not answer, answered nonsense, or is gone.
    Lost,
}

/// A child's part in one gather.
#[derive(Debug)]
pub(crate) struct Kid {
    /// Handle of the child, and which of its joins.
    pub child: u32,
    pub generation: u32,
    pub state: KidState,
    /// Active agents and sectors that its last summary knew, for when it never answers.
    pub known_agents: u32,
    pub known_sectors: u32,
    /// Its answer to PREPARE, with the number of sectors and clusters that confirm.
    pub prepared: Option<Box<GatherReport>>,
    /// Its last report since.
    pub report: Option<Box<GatherReport>>,
}

impl Kid {
    pub(crate) const fn is_pending(&self) -> bool {
        matches!(self.state, KidState::Asked | KidState::Committed)
    }

    /// How long its agents need.
    pub(crate) fn lead_max(&self) -> Time {
        match (self.state, &self.prepared) {
            (KidState::Prepared, Some(prepared)) => prepared.lead_max_ns,
            _ => 0,
        }
    }

    /// Its counts now. Whoever was told the moment and reported nothing has sent: what came of it
    /// is unknown, and its agents are stragglers. Whoever was not told has sent nothing.
    pub(crate) fn counts(&self, is_final: bool) -> Counts {
        let prepared = self.prepared.as_ref().map(|report| report.counts);
        match (self.state, prepared, &self.report) {
            (KidState::Done, _, Some(report)) => report.counts,
            (KidState::Committed, _, Some(report)) if !is_final => report.counts,
            (KidState::Committed | KidState::Lost | KidState::Done, Some(told), _) => {
                let sent = told.scheduled;
                Counts {
                    targets: told.targets,
                    scheduled: sent,
                    skipped: told.skipped,
                    sent,
                    stragglers: if is_final { sent } else { 0 },
                    ..Counts::default()
                }
            }
            (KidState::Prepared, Some(told), _) if !is_final => told,
            // Ended before it was told the moment.
            (KidState::Prepared, Some(told), _) => {
                Counts { targets: told.targets, skipped: told.targets, ..Counts::default() }
            }
            _ => {
                let known = self.known_agents;
                Counts { targets: known, skipped: known, ..Counts::default() }
            }
        }
    }

    /// Why those were skipped that its reports do not speak of.
    pub(crate) fn unsaid_skip(&self, is_final: bool) -> Option<(SkipReason, u32)> {
        match (self.state, &self.prepared) {
            (KidState::Prepared, Some(told)) if is_final => {
                Some((SkipReason::Unconfirmed, told.counts.targets))
            }
            (_, Some(_)) => None,
            (_, None) => Some((SkipReason::Offline, self.known_agents)),
        }
    }

    /// What it says of skips, classes and the like: its last report, or its answer to PREPARE.
    pub(crate) fn said(&self, is_final: bool) -> Option<&GatherReport> {
        match self.state {
            KidState::Done => self.report.as_deref(),
            KidState::Committed if !is_final && self.report.is_some() => self.report.as_deref(),
            KidState::Prepared if is_final => None,
            _ => self.prepared.as_deref(),
        }
    }
}

/// Adds counts up.
pub(crate) fn add(sum: &mut Counts, part: &Counts) {
    for (sum, part) in [
        (&mut sum.targets, part.targets),
        (&mut sum.scheduled, part.scheduled),
        (&mut sum.skipped, part.skipped),
        (&mut sum.sent, part.sent),
        (&mut sum.ready, part.ready),
        (&mut sum.in_time, part.in_time),
        (&mut sum.late, part.late),
        (&mut sum.conflicts, part.conflicts),
        (&mut sum.transit, part.transit),
        (&mut sum.stragglers, part.stragglers),
        (&mut sum.duplicates, part.duplicates),
        (&mut sum.foreign, part.foreign),
    ] {
        *sum = sum.saturating_add(part);
    }
}

/// True where a result's counts are possible: a child's sums are checked, not believed.
pub(crate) fn adds_up(counts: &Counts) -> bool {
    let sum = |parts: &[u32]| parts.iter().map(|part| u64::from(*part)).sum::<u64>();
    sum(&[counts.targets]) == sum(&[counts.scheduled, counts.skipped])
        && counts.sent <= counts.scheduled
        && sum(&[counts.ready]) == sum(&[counts.in_time, counts.late])
        && sum(&[counts.sent])
            == sum(&[counts.ready, counts.conflicts, counts.transit, counts.stragglers])
}

/// Adds skip reasons up: counts add, the worst lead stays.
pub(crate) fn add_skips(sum: &mut Vec<SkipRow>, part: &[SkipRow]) {
    for row in part {
        match sum.iter_mut().find(|it| it.reason == row.reason) {
            Some(it) => {
                it.count = it.count.saturating_add(row.count);
                if row.would_need_us > it.would_need_us {
                    (it.would_need_us, it.available_us) = (row.would_need_us, row.available_us);
                }
            }
            None => sum.push(*row),
        }
    }
    sum.sort_unstable_by_key(|row| row.reason);
}

/// Adds classes up. Quantiles of parts do not add: the larger one stands for both, so that what is
/// shown is never too good. The exact ones are in the bins, for all classes together.
pub(crate) fn add_classes(sum: &mut Vec<ClassRow>, part: &[ClassRow]) {
    for row in part {
        match sum.iter_mut().find(|it| it.class == row.class) {
            Some(it) => {
                it.targets = it.targets.saturating_add(row.targets);
                it.sent = it.sent.saturating_add(row.sent);
                it.ready = it.ready.saturating_add(row.ready);
                it.in_time = it.in_time.saturating_add(row.in_time);
                it.earliness_p50_us = it.earliness_p50_us.max(row.earliness_p50_us);
                it.earliness_p99_us = it.earliness_p99_us.max(row.earliness_p99_us);
                it.lead_p50_us = it.lead_p50_us.max(row.lead_p50_us);
            }
            None => sum.push(*row),
        }
    }
    sum.sort_unstable_by_key(|row| row.class);
}

fn bins(from: &[ArchivedBin]) -> Vec<Bin> {
    let bin = |bin: &ArchivedBin| Bin { bin: bin.bin.to_native(), count: bin.count.to_native() };
    from.iter().take(wire::mesh::BINS_MAX).map(bin).collect()
}

fn counts(from: &ArchivedCounts) -> Counts {
    Counts {
        targets: from.targets.to_native(),
        scheduled: from.scheduled.to_native(),
        skipped: from.skipped.to_native(),
        sent: from.sent.to_native(),
        ready: from.ready.to_native(),
        in_time: from.in_time.to_native(),
        late: from.late.to_native(),
        conflicts: from.conflicts.to_native(),
        transit: from.transit.to_native(),
        stragglers: from.stragglers.to_native(),
        duplicates: from.duplicates.to_native(),
        foreign: from.foreign.to_native(),
    }
}

/// A GATHER_REPORT out of a frame that was checked as an archive; lists are cut at their limits.
pub(crate) fn decode(from: &ArchivedGatherReport) -> GatherReport {
    let skip = |row: &wire::payload::mesh::ArchivedSkipRow| SkipRow {
        count: row.count.to_native(),
        would_need_us: row.would_need_us.to_native(),
        available_us: row.available_us.to_native(),
        reason: row.reason,
        reserved: [0; 3],
    };
    let class = |row: &wire::payload::mesh::ArchivedClassRow| ClassRow {
        targets: row.targets.to_native(),
        sent: row.sent.to_native(),
        ready: row.ready.to_native(),
        in_time: row.in_time.to_native(),
        earliness_p50_us: row.earliness_p50_us.to_native(),
        earliness_p99_us: row.earliness_p99_us.to_native(),
        lead_p50_us: row.lead_p50_us.to_native(),
        class: row.class,
        reserved: [0; 3],
    };
    let phase = |row: &wire::payload::mesh::ArchivedPhaseRow| PhaseRow {
        took_ns: row.took_ns.to_native(),
        name: clip(&row.name, DETAIL_LEN_MAX).into(),
        reached: row.reached.to_native(),
        of: row.of.to_native(),
        needed: row.needed.to_native(),
        reserved: [0; 4],
    };
    let conflict = |row: &wire::payload::mesh::ArchivedConflictRow| ConflictRow {
        name: clip(&row.name, DETAIL_LEN_MAX).into(),
        detail: clip(&row.detail, DETAIL_LEN_MAX).into(),
        context_hash: row.context_hash.to_native(),
    };
    let known_reason = |row: &SkipRow| SkipReason::from_code(row.reason).is_some();
    let known_class = |row: &ClassRow| AgentClass::from_code(row.class).is_some();
    GatherReport {
        earliness: bins(&from.earliness),
        lateness: bins(&from.lateness),
        spread: bins(&from.spread),
        prediction_error: bins(&from.prediction_error),
        fire_error: bins(&from.fire_error),
        skips: from.skips.iter().take(PHASES).map(skip).filter(known_reason).collect(),
        classes: from.classes.iter().take(PHASES).map(class).filter(known_class).collect(),
        phases: from.phases.iter().take(PHASES).map(phase).collect(),
        straggler_names: {
            let names = from.straggler_names.iter().take(NAMES_MAX);
            names.map(|name| Text::from(clip(name, DETAIL_LEN_MAX))).collect()
        },
        conflict_rows: from.conflict_rows.iter().take(NAMES_MAX).map(conflict).collect(),
        reason: clip(&from.reason, DETAIL_LEN_MAX).into(),
        correlation_id: from.correlation_id,
        target_ns: from.target_ns.to_native(),
        window_ns: from.window_ns.to_native(),
        plan_ns: from.plan_ns.to_native(),
        total_ns: from.total_ns.to_native(),
        lead_max_ns: from.lead_max_ns.to_native(),
        counts: counts(&from.counts),
        sectors_reached: from.sectors_reached.to_native(),
        clusters_reached: from.clusters_reached.to_native(),
        decision: from.decision,
        is_final: from.is_final,
        ..GatherReport::default()
    }
}
