//! What goes wrong when: all of it from a seed, so that a run can be had again. Which kinds take
//! part is drawn as well (swarm testing): a fault that is always there hides what happens without
//! it.

use fleet::Rng;
use std::{fmt, time::Duration};

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// SIGKILL of one worker.
    WorkerKill,
    /// A worker stands still for less than the node's patience.
    WorkerStop,
    /// A worker stands still for ever.
    WorkerHang,
    /// A worker runs half of the time.
    WorkerSlow,
    /// Workers that say what cannot be true, by turns.
    WorkerLies,
    /// SIGKILL of the node, which is started again.
    NodeKill,
    /// The node stands still.
    NodeStop,
    /// The node may open no descriptor more, while a worker dies.
    Descriptors,
    /// The disk of the state directory is full.
    DiskFull,
    /// The state directory can only be read.
    DiskReadOnly,
    /// Every connection through the proxy is cut.
    LinkCut,
    /// Delay and jitter both ways.
    LinkDelay,
    /// Nothing moves, both ways.
    LinkStall,
    /// Nothing moves, one way.
    LinkOneWay,
    /// Few bytes per second.
    LinkSlow,
    /// Bytes come one by one.
    LinkPieces,
}

impl Kind {
    /// All of them, in the order of reports.
    pub(crate) const ALL: [Self; 16] = [
        Self::WorkerKill,
        Self::WorkerStop,
        Self::WorkerHang,
        Self::WorkerSlow,
        Self::WorkerLies,
        Self::NodeKill,
        Self::NodeStop,
        Self::Descriptors,
        Self::DiskFull,
        Self::DiskReadOnly,
        Self::LinkCut,
        Self::LinkDelay,
        Self::LinkStall,
        Self::LinkOneWay,
        Self::LinkSlow,
        Self::LinkPieces,
    ];

    /// As on the command line and in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::WorkerKill => "worker-kill",
            Self::WorkerStop => "worker-stop",
            Self::WorkerHang => "worker-hang",
            Self::WorkerSlow => "worker-slow",
            Self::WorkerLies => "worker-lies",
            Self::NodeKill => "node-kill",
            Self::NodeStop => "node-stop",
            Self::Descriptors => "descriptors",
            Self::DiskFull => "disk-full",
            Self::DiskReadOnly => "disk-read-only",
            Self::LinkCut => "link-cut",
            Self::LinkDelay => "link-delay",
            Self::LinkStall => "link-stall",
            Self::LinkOneWay => "link-one-way",
            Self::LinkSlow => "link-slow",
            Self::LinkPieces => "link-pieces",
        }
    }

    /// By its name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Faults of processes follow each other; those of the network may fall together with them.
    pub(crate) const fn is_of_the_network(self) -> bool {
        matches!(
            self,
            Self::LinkCut
                | Self::LinkDelay
                | Self::LinkStall
                | Self::LinkOneWay
                | Self::LinkSlow
                | Self::LinkPieces
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Since the start of the run.
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
    /// How long it lasts; those of a moment have nothing to last.
    pub(crate) lasts: Duration,
    /// Which worker, which way, how much: for the kind to make something of.
    pub(crate) dice: u64,
}

/// Everything that will go wrong in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What takes part.
    pub(crate) kinds: Vec<Kind>,
    /// By time.
    pub(crate) faults: Vec<Fault>,
}

/// The first moments of a run are quiet: clients connect.
const QUIET_START: Duration = Duration::from_millis(500);
/// So are the last: whatever was broken must come back.
const QUIET_END: Duration = Duration::from_secs(3);
/// Each kind sits out with this probability.
const SITS_OUT: f64 = 1.0 / 3.0;

impl Plan {
    /// The plan of a seed for a run of this length, out of these kinds.
    pub(crate) fn new(seed: u64, length: Duration, of: &[Kind], swarm: bool) -> Self {
        let mut random = Rng::new(seed);
        let mut kinds: Vec<Kind> =
            of.iter().copied().filter(|_| !(swarm && random.chance(SITS_OUT))).collect();
        if kinds.is_empty() {
            kinds = of.to_vec();
        }
        let end = length.saturating_sub(QUIET_END);
        let mut faults = Vec::new();
        for network in [false, true] {
            let drawn: Vec<Kind> =
                kinds.iter().copied().filter(|k| k.is_of_the_network() == network).collect();
            let mut at = QUIET_START + millis(&mut random, 0, 500);
            while !drawn.is_empty() && at < end {
                let kind = drawn[random.below(drawn.len() as u64) as usize];
                let lasts = lasts(kind, &mut random).min(end.saturating_sub(at));
                faults.push(Fault { at, kind, lasts, dice: random.next() });
                at += lasts + millis(&mut random, 100, 1_500);
            }
        }
        faults.sort_by_key(|fault| fault.at);
        Self { kinds, faults }
    }
}

fn millis(random: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + random.below(to - from))
}

fn lasts(kind: Kind, random: &mut Rng) -> Duration {
    match kind {
        Kind::WorkerKill | Kind::WorkerHang | Kind::NodeKill | Kind::LinkCut => Duration::ZERO,
        Kind::WorkerStop => millis(random, 20, 600),
        Kind::NodeStop => millis(random, 20, 1_500),
        Kind::WorkerLies | Kind::DiskFull | Kind::DiskReadOnly => millis(random, 500, 3_000),
        _ => millis(random, 100, 2_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_is_a_plan_and_another_seed_another() {
        let plan = |seed| Plan::new(seed, MINUTE, &Kind::ALL, true);
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        let fewer = (0..20).filter(|seed| plan(*seed).kinds.len() < Kind::ALL.len()).count();
        assert!(fewer >= 15, "most seeds switch something off: {fewer}");
        assert_eq!(Plan::new(1, MINUTE, &Kind::ALL, false).kinds, Kind::ALL);
    }

    #[test]
    fn faults_lie_in_order_inside_the_run_and_of_what_takes_part() {
        for seed in 0..50 {
            let plan = Plan::new(seed, MINUTE, &Kind::ALL, true);
            assert!(plan.faults.is_sorted_by_key(|fault| fault.at) && plan.faults.len() > 10);
            for fault in &plan.faults {
                assert!(plan.kinds.contains(&fault.kind));
                assert!(fault.at >= QUIET_START && fault.at + fault.lasts <= MINUTE - QUIET_END);
            }
        }
        let only = Plan::new(3, MINUTE, &[Kind::NodeKill], true);
        assert!(only.faults.iter().all(|fault| fault.kind == Kind::NodeKill));
    }

    #[test]
    fn names_are_unique_and_lead_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Kind::from_name("weather"), None);
    }
}
