//! GATHER_REPORT: how a gather goes, and what came of it.

use crate::{
    Kind,
    payload::{Seal, Text, payload},
};
use rkyv::{Archive, Serialize};

/// Progress, or the result (`is_final`). Durations are nanoseconds; histograms are lists of bins
/// of logarithmic width, as `mesh::Sketch` has them, so that reports of several nodes add up.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct GatherReport {
    /// Target moment minus READY, of those in time.
    pub earliness: Vec<Bin>,
    /// READY minus target moment, of those READY too late.
    pub lateness: Vec<Bin>,
    /// Distance between acting and the target moment, of those that held.
    pub spread: Vec<Bin>,
    /// Distance between the READY moment predicted (median) and the real one.
    pub prediction_error: Vec<Bin>,
    /// How long after its send time each message left.
    pub fire_error: Vec<Bin>,
    /// Why targets got no message.
    pub skips: Vec<SkipRow>,
    /// By class.
    pub classes: Vec<ClassRow>,
    /// By level, or by class for the priority strategy.
    pub phases: Vec<PhaseRow>,
    /// Names of some that did not answer.
    pub straggler_names: Vec<Text>,
    /// Some that know better.
    pub conflict_rows: Vec<ConflictRow>,
    /// Why this decision.
    pub reason: Text,
    /// What to do about it.
    pub recommendation: Text,
    /// Of the operation.
    pub correlation_id: [u8; 16],
    /// The moment, node time.
    pub target_ns: u64,
    /// The moment, nanoseconds since the Unix epoch.
    pub target_epoch_ns: u64,
    /// Window that was used.
    pub window_ns: u64,
    /// Time the plan took.
    pub plan_ns: u64,
    /// Time since the GATHER came.
    pub total_ns: u64,
    /// Longest lead of the plan (a parent's T must lie further ahead).
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
    /// Code of [`crate::mesh::Decision`].
    pub decision: u8,
    /// The last report of this gather.
    pub is_final: bool,
    /// Zero.
    pub reserved: [u8; 14],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// Counts of agents. `targets = scheduled + skipped`; of the sent, each is in exactly one of
/// `ready`, `conflicts`, `transit` and (at the end) `stragglers`.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct Counts {
    /// Chosen.
    pub targets: u32,
    /// Got a send time.
    pub scheduled: u32,
    /// Got none, or lost it before it came.
    pub skipped: u32,
    /// Left.
    pub sent: u32,
    /// READY within the window.
    pub ready: u32,
    /// Of these, READY by the target moment.
    pub in_time: u32,
    /// Of these, READY after the target moment.
    pub late: u32,
    /// CONFLICT.
    pub conflicts: u32,
    /// Said only that they are under way.
    pub transit: u32,
    /// Said nothing.
    pub stragglers: u32,
    /// Answers beyond the first of an agent.
    pub duplicates: u32,
    /// Answers in another's name, or to nothing.
    pub foreign: u32,
}

/// One bin of a histogram.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct Bin {
    /// Number of the bin.
    pub bin: u32,
    /// Values in it.
    pub count: u32,
}

/// Targets that got no message for one reason.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct SkipRow {
    /// How many.
    pub count: u32,
    /// Largest lead that one of them would have needed, microseconds.
    pub would_need_us: u32,
    /// What was left for that one, microseconds.
    pub available_us: u32,
    /// Code of [`crate::mesh::SkipReason`].
    pub reason: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// One class's part.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct ClassRow {
    /// Chosen.
    pub targets: u32,
    /// Left.
    pub sent: u32,
    /// READY.
    pub ready: u32,
    /// READY in time.
    pub in_time: u32,
    /// Median earliness, microseconds.
    pub earliness_p50_us: u32,
    /// 99th percentile of it.
    pub earliness_p99_us: u32,
    /// Median lead, microseconds.
    pub lead_p50_us: u32,
    /// Code of [`crate::mesh::AgentClass`].
    pub class: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// One phase of a cascade.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct PhaseRow {
    /// Time it took.
    pub took_ns: u64,
    /// `sectors`, `clusters`, `agents`, or a class's letter.
    pub name: Text,
    /// Confirmed.
    pub reached: u32,
    /// Of so many.
    pub of: u32,
    /// Share that it needed.
    pub needed: f32,
    /// Zero.
    pub reserved: [u8; 4],
}

/// One that knows better.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct ConflictRow {
    /// The agent.
    pub name: Text,
    /// What it said.
    pub detail: Text,
    /// Hash of its context.
    pub context_hash: u64,
}

payload!(GatherReport, ArchivedGatherReport, Kind::GatherReport, 1);
