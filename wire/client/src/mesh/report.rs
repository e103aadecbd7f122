//! GATHER_REPORT, taken out of its frame.

use super::unknown;
use crate::ClientError;
use wire::{
    mesh::{AgentClass, BINS_MAX, Decision, SkipReason},
    payload::mesh::{
        ArchivedBin, ArchivedClassRow, ArchivedCounts, ArchivedGatherReport, ArchivedSkipRow,
        Counts,
    },
};

/// How a gather goes, or what came of it. Histograms are bins of durations, numbered as W73 of the
/// format has it, with their counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Target moment minus READY, of those in time.
    pub earliness: Vec<(u16, u64)>,
    /// READY minus target moment, of those READY too late.
    pub lateness: Vec<(u16, u64)>,
    /// Distance between acting and the target moment, of those that held.
    pub spread: Vec<(u16, u64)>,
    /// Distance between the READY moment predicted and the real one.
    pub prediction_error: Vec<(u16, u64)>,
    /// How long after its send time each message left.
    pub fire_error: Vec<(u16, u64)>,
    /// Why targets got no message.
    pub skips: Vec<Skip>,
    /// By class.
    pub classes: Vec<ClassPart>,
    /// By level of the cascade, or by class.
    pub phases: Vec<Phase>,
    /// Names of some that did not answer.
    pub stragglers: Vec<String>,
    /// Some that know better.
    pub conflicts: Vec<Conflict>,
    /// Why this decision.
    pub reason: String,
    /// What to do about it.
    pub recommendation: String,
    /// Of the operation.
    pub correlation_id: [u8; 16],
    /// The moment, nanoseconds since the Unix epoch.
    pub target_epoch_ns: u64,
    /// Window that was used.
    pub window_ns: u64,
    /// Time the plan took.
    pub plan_ns: u64,
    /// Time since the GATHER came.
    pub total_ns: u64,
    /// Longest lead of the plan.
    pub lead_max_ns: u64,
    /// The counts.
    pub counts: Counts,
    /// Scheduled over targets.
    pub coverage: f32,
    /// READY over sent.
    pub response_rate: f32,
    /// READY in time over sent.
    pub on_time: f32,
    /// READY rate minus half the CONFLICT rate, over targets.
    pub confidence: f32,
    /// Sectors with at least one READY agent.
    pub sectors_reached: u32,
    /// Clusters likewise.
    pub clusters_reached: u32,
    /// What was decided; of no meaning before the end.
    pub decision: Decision,
    /// The last report of its gather.
    pub is_final: bool,
}

/// Targets that got no message for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Why.
    pub reason: SkipReason,
    /// How many.
    pub count: u32,
    /// Largest lead that one of them would have needed, microseconds.
    pub would_need_us: u32,
    /// What was left for that one, microseconds.
    pub available_us: u32,
}

/// One class's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassPart {
    /// The class.
    pub class: AgentClass,
    /// Chosen.
    pub targets: u32,
    /// Left.
    pub sent: u32,
    /// READY.
    pub ready: u32,
    /// READY in time.
    pub in_time: u32,
    /// Median and 99th percentile of earliness, microseconds.
    pub earliness_us: [u32; 2],
    /// Median lead, microseconds.
    pub lead_p50_us: u32,
}

/// One phase of a cascade.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// `sectors`, `clusters`, `agents`, or a class's letter.
    pub name: String,
    /// Confirmed.
    pub reached: u32,
    /// Of so many.
    pub of: u32,
    /// Share that it needed.
    pub needed: f32,
    /// Time it took.
    pub took_ns: u64,
}

/// One that knows better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The agent.
    pub name: String,
    /// What it said.
    pub detail: String,
    /// Hash of its context.
    pub context_hash: u64,
}

impl Report {
    pub(super) fn read(from: &ArchivedGatherReport) -> Result<Self, ClientError> {
        let decision =
            Decision::from_code(from.decision).ok_or_else(|| unknown("decision", from.decision))?;
        let phase = |row: &wire::payload::mesh::ArchivedPhaseRow| Phase {
            name: row.name.to_string(),
            reached: row.reached.to_native(),
            of: row.of.to_native(),
            needed: row.needed.to_native(),
            took_ns: row.took_ns.to_native(),
        };
        let conflict = |row: &wire::payload::mesh::ArchivedConflictRow| Conflict {
            name: row.name.to_string(),
            detail: row.detail.to_string(),
            context_hash: row.context_hash.to_native(),
        };
        Ok(Self {
            earliness: bins(&from.earliness),
            lateness: bins(&from.lateness),
            spread: bins(&from.spread),
            prediction_error: bins(&from.prediction_error),
            fire_error: bins(&from.fire_error),
            skips: from.skips.iter().map(skip).collect::<Result<_, _>>()?,
            classes: from.classes.iter().map(class).collect::<Result<_, _>>()?,
            phases: from.phases.iter().map(phase).collect(),
            stragglers: from.straggler_names.iter().map(|name| name.to_string()).collect(),
            conflicts: from.conflict_rows.iter().map(conflict).collect(),
            reason: from.reason.to_string(),
            recommendation: from.recommendation.to_string(),
            correlation_id: from.correlation_id,
            target_epoch_ns: from.target_epoch_ns.to_native(),
            window_ns: from.window_ns.to_native(),
            plan_ns: from.plan_ns.to_native(),
            total_ns: from.total_ns.to_native(),
            lead_max_ns: from.lead_max_ns.to_native(),
            counts: counts(&from.counts),
            coverage: from.coverage.to_native(),
            response_rate: from.response_rate.to_native(),
            on_time: from.on_time.to_native(),
            confidence: from.confidence.to_native(),
            sectors_reached: from.sectors_reached.to_native(),
            clusters_reached: from.clusters_reached.to_native(),
            decision,
            is_final: from.is_final,
        })
    }
}

/// A bin beyond the last counts for the last (W73).
pub(super) fn bins(rows: &[ArchivedBin]) -> Vec<(u16, u64)> {
    let last = BINS_MAX as u32 - 1;
    rows.iter()
        .map(|row| (row.bin.to_native().min(last) as u16, row.count.to_native().into()))
        .collect()
}

fn skip(row: &ArchivedSkipRow) -> Result<Skip, ClientError> {
    let reason =
        SkipReason::from_code(row.reason).ok_or_else(|| unknown("reason to skip", row.reason))?;
    Ok(Skip {
        reason,
        count: row.count.to_native(),
        would_need_us: row.would_need_us.to_native(),
        available_us: row.available_us.to_native(),
    })
}

fn class(row: &ArchivedClassRow) -> Result<ClassPart, ClientError> {
    let class = AgentClass::from_code(row.class).ok_or_else(|| unknown("class", row.class))?;
    Ok(ClassPart {
        class,
        targets: row.targets.to_native(),
        sent: row.sent.to_native(),
        ready: row.ready.to_native(),
        in_time: row.in_time.to_native(),
        earliness_us: [row.earliness_p50_us.to_native(), row.earliness_p99_us.to_native()],
        lead_p50_us: row.lead_p50_us.to_native(),
    })
}

pub(super) fn counts(from: &ArchivedCounts) -> Counts {
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
