//! Scatter-gather (SCATTER-01..07): one message to many, answers within a window, one result.
//!
//! This module keeps the books of a gather: what was asked, each target's one outcome, what the
//! nodes below report, the result. [`crate::node::Mesh`] drives it.

pub(crate) mod ask;
pub(crate) mod kids;
pub(crate) mod past;
pub(crate) mod report;
pub(crate) mod tally;
pub(crate) mod targets;

use crate::{MS, SECOND, Time};
use ask::Order;
use kids::Kid;
use tally::Tally;
use targets::Targets;
use wire::{mesh::Decision, payload::mesh::PhaseRow};

/// How long after the target moment answers count where nobody says (SCATTER-01).
pub const WINDOW: Time = 500 * MS;
/// Longest time of a whole call where nobody says (SCATTER-01).
pub const TIMEOUT: Time = 5000 * MS;
/// Longest window and timeout that are taken: people may take a day (class F).
pub const TIMEOUT_MAX: Time = 24 * 3600 * SECOND;
/// How far ahead a moment may lie.
pub const AHEAD_MAX: Time = TIMEOUT_MAX;
/// Added to the target moment and the window for the timeout of a call that names one of them and
/// no timeout: for the last answers and the reports of the nodes below.
pub const SLACK: Time = SECOND;
/// Between two reports of progress.
pub const PROGRESS_EVERY: Time = 100 * MS;
/// How long a node keeps what its parent had it prepare.
pub const PREPARED_FOR: Time = 5 * SECOND;
/// How long after its own end a gather waits for the results of the nodes below, besides the round
/// trip to them.
pub const KIDS_GRACE: Time = 100 * MS;
/// Ended gathers whose ids are remembered, to tell late answers from unknown ones.
pub const ENDED: usize = 256;

/// Who waits for the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub peer: crate::node::Peer,
    /// Of the GATHER's frame; reports repeat it.
    pub frame_id: u64,
    /// The node above.
    pub is_parent: bool,
    /// Its connection is still there.
    pub listens: bool,
}

/// How far a gather is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The nodes below were asked how long they need.
    Preparing { until: Time },
    /// The node above knows how long this one needs.
    Prepared { until: Time },
    /// Copies leave and answers come, for this phase of the priority strategy (0 otherwise).
    Running { phase: usize, end: Time },
    /// Its own part is over; results of nodes below are still to come.
    Closing { until: Time },
    /// Its result is out.
    Ended,
}

/// A volley's part on one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub number: u32,
    pub shard: u16,
    pub is_done: bool,
    /// Copies that did not leave, by cause, as the shard says.
    pub expired: u32,
    pub gone: u32,
    pub refused: u32,
}

/// One gather.
#[derive(Debug)]
pub(crate) struct Run {
    pub number: u32,
    pub asker: Asker,
    pub order: Order,
    pub began: Time,
    /// The whole call ends here at the latest.
    pub ends_by: Time,
    pub stage: Stage,
    pub targets: Targets,
    pub tally: Tally,
    pub parts: Vec<Part>,
    pub kids: Vec<Kid>,
    pub phases: Vec<PhaseRow>,
    /// When the phase under way began.
    pub phase_began: Time,
    /// The target moment of the last volley, node time.
    pub target: Time,
    pub window: Time,
    pub lead_max: Time,
    pub plan_ns: Time,
    pub progress_at: Option<Time>,
    /// The worst decision of a level or a phase, and why.
    pub worst: Option<(Decision, String)>,
}

impl Run {
    /// The next moment at which something is due.
    pub(crate) fn due(&self) -> Time {
        let stage = match self.stage {
            Stage::Preparing { until } | Stage::Prepared { until } | Stage::Closing { until } => {
                until
            }
            Stage::Running { end, .. } => end,
            Stage::Ended => Time::MAX,
        };
        // Every stage that the end of the whole call bounds has it in its own end.
        stage.min(self.progress_at.unwrap_or(Time::MAX))
    }

    /// True where nothing of the own part can change any more before the end of the phase.
    pub(crate) fn is_settled(&self) -> bool {
        self.targets.open() == 0 && self.parts.iter().all(|part| part.is_done)
    }

    /// True where it can go on before anything is due: all that it waits for is there.
    pub(crate) fn is_ripe(&self) -> bool {
        let kids = || !self.kids.iter().any(Kid::is_pending);
        match self.stage {
            Stage::Preparing { .. } | Stage::Closing { .. } => kids(),
            Stage::Running { .. } => self.is_settled(),
            Stage::Prepared { .. } | Stage::Ended => false,
        }
    }

    /// Keeps the worst decision.
    pub(crate) fn note(&mut self, decision: Decision, reason: String) {
        let worse = |old: &(Decision, String)| {
            crate::trinary::severity(decision) > crate::trinary::severity(old.0)
        };
        if self.worst.as_ref().is_none_or(worse) {
            self.worst = Some((decision, reason));
        }
    }
}
