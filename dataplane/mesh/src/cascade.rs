//! The rules of cascades (CASCADE-01..08): which levels or phases, in which order, within which
//! time, and how many of each must confirm.
//!
//! The times here bound failures; how long a cascade should take is another number, the KPI of
//! the node's counters (Y-14).

use crate::{MS, Time, trinary};
use wire::mesh::{AgentClass, Strategy};

/// The strategy of a gather that names none (CASCADE-07).
pub const DEFAULT: Strategy = Strategy::Wave;

/// One level of a wave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Name in the report.
    pub name: &'static str,
    /// Longest time that it may take.
    pub within: Time,
    /// Share that must confirm.
    pub needed: f32,
}

/// First level of a wave (CASCADE-02): without it nothing is sent.
pub const SECTORS: Level = Level { name: "sectors", within: 200 * MS, needed: 0.98 };
/// Second level (CASCADE-03). The sources give no rate for it: the general one holds. A wave goes
/// on without it, and says so by its status, which is the worst level's (Y-18).
pub const CLUSTERS: Level =
    Level { name: "clusters", within: 1000 * MS, needed: trinary::MIN_READY };
/// Third level (CASCADE-04).
pub const AGENTS: Level = Level { name: "agents", within: 2000 * MS, needed: trinary::MIN_READY };

/// Window of a parallel cascade (CASCADE-05).
pub const PARALLEL_WINDOW: Time = 1000 * MS;
/// READY over sent that a parallel cascade needs (CASCADE-05).
pub const PARALLEL_RATE: f32 = 0.90;

/// Classes of the priority strategy in their order, each with the share that must be READY
/// (CASCADE-06). Class F has no phase: people have deadlines, not arrival windows (Y-13, Y-18).
pub const PRIORITY: [(AgentClass, f32); 5] = [
    (AgentClass::Gpu, 0.99),
    (AgentClass::Persistent, 0.98),
    (AgentClass::Serverless, 0.95),
    (AgentClass::Edge, 0.90),
    (AgentClass::Local, 0.85),
];

/// READY over sent that a strategy needs where the operator says nothing. The priority strategy
/// has one rate for each phase.
#[must_use]
pub const fn rate(strategy: Strategy) -> f32 {
    match strategy {
        Strategy::Parallel => PARALLEL_RATE,
        Strategy::Wave | Strategy::Priority => trinary::MIN_READY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cascade_01_to_07_the_rules_are_the_specified_ones() {
        assert_eq!((SECTORS.within, SECTORS.needed), (200_000_000, 0.98));
        assert_eq!((CLUSTERS.within, AGENTS.within), (1_000_000_000, 2_000_000_000));
        assert_eq!((PARALLEL_WINDOW, rate(Strategy::Parallel)), (1_000_000_000, 0.90));
        assert_eq!(DEFAULT, Strategy::Wave);
    }

    #[test]
    fn y_18_priority_has_five_phases_and_no_people() {
        let names: String = PRIORITY.iter().map(|(class, _)| class.name()).collect();
        assert_eq!(names, "DCBAE");
        assert!(PRIORITY.windows(2).all(|pair| pair[0].1 > pair[1].1));
    }

    #[test]
    fn y_14_the_bounds_of_a_wave_add_up_to_more_than_its_goal() {
        assert_eq!(SECTORS.within + CLUSTERS.within + AGENTS.within, 3_200 * MS);
    }
}
