//! The impedance classes: what is known of an agent before anything was measured.

use wire::mesh::AgentClass;

use crate::{MS, SECOND, Time};

/// Slowest hosts first, the unpredictable ones last (CASCADE-06). People are not in it: they have
/// deadlines, not arrival windows.
pub const PRIORITY_ORDER: [AgentClass; 5] = [
    AgentClass::Gpu,
    AgentClass::Persistent,
    AgentClass::Serverless,
    AgentClass::Edge,
    AgentClass::Local,
];

/// How many classes there are: the length of tables indexed by class code.
pub const CLASSES: usize = AgentClass::ALL.len();

/// Time to process a message of weight 0 on an empty queue, before measurements (CLASS-07).
#[must_use]
pub const fn base_processing(class: AgentClass) -> Time {
    match class {
        AgentClass::Edge => 10 * MS,
        AgentClass::Serverless => 50 * MS,
        AgentClass::Persistent => 200 * MS,
        AgentClass::Gpu => 100 * MS,
        AgentClass::Local => 150 * MS,
        AgentClass::Human => 60 * SECOND,
    }
}

/// The latencies that are usual for the class, least and most (CLASS-01..06). Class E is said to
/// vary: anything up to a second is usual. People take from seconds to hours.
#[must_use]
pub const fn latency_span(class: AgentClass) -> (Time, Time) {
    match class {
        AgentClass::Edge => (5 * MS, 20 * MS),
        AgentClass::Serverless => (50 * MS, 150 * MS),
        AgentClass::Persistent => (100 * MS, 300 * MS),
        AgentClass::Gpu => (200 * MS, 500 * MS),
        AgentClass::Local => (0, SECOND),
        AgentClass::Human => (SECOND, 24 * 3600 * SECOND),
    }
}

/// How many agents of the class the specification counts on (CLASS-01..06).
#[must_use]
pub const fn population(class: AgentClass) -> u32 {
    match class {
        AgentClass::Edge => 10_000,
        AgentClass::Serverless => 8_000,
        AgentClass::Persistent => 5_000,
        AgentClass::Gpu | AgentClass::Human => 2_000,
        AgentClass::Local => 3_000,
    }
}

/// Whether arrival windows and the compensation range apply (all but F).
#[must_use]
pub const fn is_machine(class: AgentClass) -> bool {
    !matches!(class, AgentClass::Human)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_01_to_07_spans_bases_and_populations_are_those_of_the_specification() {
        let base = |c| base_processing(c) / MS;
        let of: Vec<u64> = AgentClass::ALL.iter().map(|&c| base(c)).collect();
        assert_eq!(of, [10, 50, 200, 100, 150, 60_000]);
        let machines = AgentClass::ALL.iter().filter(|&&c| is_machine(c));
        assert_eq!(machines.map(|&c| population(c)).sum::<u32>(), 28_000);
        assert_eq!(AgentClass::ALL.iter().map(|&c| population(c)).sum::<u32>(), 30_000);
        for &class in AgentClass::ALL {
            let (least, most) = latency_span(class);
            assert!(least < most && most >= base_processing(class));
        }
    }

    #[test]
    fn cascade_06_the_order_names_every_machine_class_once() {
        for &class in AgentClass::ALL {
            let times = PRIORITY_ORDER.iter().filter(|&&c| c == class).count();
            assert_eq!(times, usize::from(is_machine(class)));
        }
    }
}
