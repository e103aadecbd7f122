//! Single rules of the registry, one test each.

use mesh::limits::{KEEP_GONE, MOVE_AFTER, PROBES, SECTOR_AGENTS, SILENT_AFTER};
use mesh::registry::{
    AgentRef, By, Circuit, Impedance, Newcomer, Place, RefFault, RegisterFault, Registry,
    Selection, Swept, score_of,
};
use mesh::{MS, SECOND};
use wire::mesh::{AgentClass, AgentState, CircuitAction, REGISTRATION_MAX, SkipReason, Standing};

use super::{filled, id_of, impedance, join, link_of};

fn chosen(registry: &mut Registry, by: By<'_>, priority: u8) -> (usize, Vec<SkipReason>) {
    let (mut chosen, mut skipped) = (Vec::new(), Vec::new());
    registry.select(&Selection { by, priority, requires: &[] }, &mut chosen, &mut skipped);
    (chosen.len(), skipped.iter().map(|it| it.reason).collect())
}

#[test]
fn imped_07_y_17_z_04_the_score_is_milliseconds_from_0_to_1000() {
    assert_eq!(score_of(0, 0, 0), 0.0);
    // Half of a round trip of 40 ms, processing of 100 ms, three pending at a tenth each.
    assert_eq!(score_of(40 * MS, 100 * MS, 0), 120.0);
    assert_eq!(score_of(40 * MS, 100 * MS, 3), 150.0);
    for (latency, processing, queue) in [(0, 60 * SECOND, 0), (u64::MAX, u64::MAX, u32::MAX)] {
        assert_eq!(score_of(latency, processing, queue), 1000.0);
    }
}

#[test]
fn clust_02_class_01_to_06_slow_machines_are_degraded_and_people_are_not() {
    for class in AgentClass::ALL {
        let mut registry = Registry::new(10, 1);
        let told = Impedance { drift: 0.51, ..impedance(2 * MS, 800 * MS) };
        let newcomer = Newcomer {
            id: id_of(1),
            class: *class,
            link: link_of(1),
            capabilities: &[],
            impedance: told,
        };
        let agent = registry.register(SECOND, &newcomer).unwrap().agent;
        let slow =
            if *class == AgentClass::Human { AgentState::Active } else { AgentState::Degraded };
        assert_eq!(registry.state(agent.handle), slow, "801 ms, {class}");
        assert!(registry.unstable(agent.handle));
        let told = Impedance { drift: 0.5, ..impedance(0, 800 * MS) };
        registry.heartbeat(2 * SECOND, agent, &told).unwrap();
        assert_eq!(registry.state(agent.handle), AgentState::Active, "800 ms, {class}");
        assert!(!registry.unstable(agent.handle));
    }
}

#[test]
fn imped_03_to_05_08_to_11_what_a_heartbeat_says_is_brought_into_range() {
    let mut registry = filled(1);
    let agent = registry.reference(0).unwrap();
    let lies = Impedance {
        latency: u64::MAX,
        processing: u64::MAX,
        queue: u32::MAX,
        reliability: f32::NAN,
        drift: f32::NAN,
        state: AgentState::Active,
        context: 99,
    };
    registry.heartbeat(2 * SECOND, agent, &lies).unwrap();
    let row = registry.row(2 * SECOND, 0).unwrap();
    assert_eq!((row.reliability, row.drift, row.score), (0.0, 100.0, 1000.0));
    assert_eq!((row.latency, row.processing), (3600 * SECOND, 7 * 24 * 3600 * SECOND));
    assert_eq!((row.heartbeat, row.context, row.queue), (2 * SECOND, 99, u32::MAX));
    let lies = Impedance { reliability: f32::INFINITY, drift: f32::NEG_INFINITY, ..lies };
    registry.heartbeat(2 * SECOND, agent, &lies).unwrap();
    assert_eq!((registry.reliability(SECOND, 0), registry.drift(0)), (1.0, 100.0));
}

#[test]
fn imped_02_references_of_earlier_lives_and_of_others_are_refused() {
    let mut registry = filled(2);
    let agent = registry.reference(0).unwrap();
    assert_eq!(registry.verify(agent, link_of(0)), Ok(0));
    assert_eq!(registry.verify(agent, link_of(1)), Err(RefFault::Foreign));
    let stale = AgentRef { generation: agent.generation + 1, ..agent };
    let told = impedance(MS, MS);
    assert_eq!(registry.heartbeat(SECOND, stale, &told), Err(RefFault::Stale));
    for handle in [2, u32::MAX] {
        let unknown = AgentRef { handle, ..agent };
        assert_eq!(registry.heartbeat(SECOND, unknown, &told), Err(RefFault::Unknown));
    }
    registry.unlink(SECOND, link_of(0), &mut Vec::new());
    assert_eq!(registry.verify(agent, link_of(0)), Err(RefFault::Gone));
    assert_eq!(registry.heartbeat(SECOND, agent, &told), Err(RefFault::Gone));
    registry.remove(SECOND, agent).unwrap();
    assert_eq!(registry.get(agent), Err(RefFault::Unknown));
}

#[test]
fn imped_01_a_taken_name_is_refused_and_a_lost_one_comes_back_whole() {
    let mut registry = Registry::new(10, 1);
    let first = join(&mut registry, SECOND, 1, 3 * MS);
    for _ in 0..4 {
        registry.outcome(SECOND, first.handle, false, 0, 0);
    }
    let again = Newcomer {
        id: id_of(1),
        class: AgentClass::Edge,
        link: link_of(9),
        capabilities: &["other"],
        impedance: impedance(2 * MS, 30 * MS),
    };
    assert_eq!(registry.register(SECOND, &again), Err(RegisterFault::NameTaken));
    registry.unlink(2 * SECOND, link_of(1), &mut Vec::new());
    let name = registry.row(SECOND, first.handle).unwrap().name;
    let back = registry.register(3 * SECOND, &again).unwrap();
    assert!(back.resumed && back.agent.handle == first.handle);
    let row = registry.row(3 * SECOND, first.handle).unwrap();
    assert_eq!((row.name, row.reliability, row.average), (name, 0.0, 4.0));
    assert_eq!((row.capabilities, row.score), (vec!["other".to_owned()], 31.0));
    assert!(registry.capabilities().eq(["other"]), "nobody has the old one");
    // A silent connection does not keep its name either.
    let mut swept = Swept::default();
    registry.sweep(3 * SECOND + SILENT_AFTER, &mut swept);
    assert_eq!(swept.silent, [first.handle]);
    let moved = Newcomer { link: link_of(5), ..again };
    assert!(registry.register(40 * SECOND, &moved).unwrap().resumed);
    assert_eq!(registry.on_link(link_of(9)), 0);
}

#[test]
fn registrations_that_cannot_be_are_refused() {
    let mut registry = filled(3);
    let good = Newcomer {
        id: id_of(9),
        class: AgentClass::Gpu,
        link: link_of(9),
        capabilities: &[],
        impedance: impedance(MS, MS),
    };
    let full = Err(RegisterFault::Full);
    assert_eq!(registry.register(SECOND, &good), full);
    registry.unlink(SECOND, link_of(1), &mut Vec::new());
    assert_eq!(registry.register(SECOND + KEEP_GONE - 1, &good), full);
    let joined = registry.register(SECOND + KEEP_GONE, &good).unwrap();
    assert!(!joined.resumed && registry.by_id(&id_of(1)).is_none());
    let bad = Err(RegisterFault::BadRecord);
    assert_eq!(registry.register(SECOND, &Newcomer { id: [0; 16], ..good }), bad);
    assert_eq!(registry.register(SECOND, &Newcomer { capabilities: &["x"; 17], ..good }), bad);
    assert_eq!(registry.register(SECOND, &Newcomer { capabilities: &[""], ..good }), bad);
    registry.quarantine(SECOND, joined.agent.handle, true);
    assert_eq!(registry.register(SECOND, &Newcomer { class: AgentClass::Edge, ..good }), bad);
    assert_eq!(registry.state(joined.agent.handle), AgentState::Quarantined);
}

#[test]
fn a_connection_carries_256_agents_and_loses_them_all_at_once() {
    let mut registry = Registry::new(300, 1);
    let newcomer = |number| Newcomer {
        id: id_of(number),
        class: AgentClass::Edge,
        link: link_of(0),
        capabilities: &[],
        impedance: impedance(MS, MS),
    };
    for number in 0..REGISTRATION_MAX as u32 {
        registry.register(SECOND, &newcomer(number)).unwrap();
    }
    assert_eq!(registry.register(SECOND, &newcomer(300)), Err(RegisterFault::LinkFull));
    assert!(registry.register(SECOND, &newcomer(17)).is_ok(), "one that is there may come again");
    let mut gone = Vec::new();
    registry.unlink(SECOND, link_of(0), &mut gone);
    assert_eq!((gone.len(), registry.count(AgentState::Offline)), (256, 256));
}

#[test]
fn meshmsg_17_x_18_an_open_circuit_stops_all_but_the_global_one_lets_priority_3_pass() {
    let mut registry = filled(70);
    let cluster = Place::Cluster { sector: 0, cluster: 1 };
    assert!(registry.set_circuit(cluster, CircuitAction::Open));
    assert_eq!(chosen(&mut registry, By::All, 3), (40, vec![SkipReason::CircuitOpen; 30]));
    assert!(registry.set_circuit(cluster, CircuitAction::HalfOpen));
    let probes = usize::from(PROBES);
    assert_eq!(chosen(&mut registry, By::All, 0).0, 40 + probes);
    assert_eq!(registry.gate(cluster).unwrap().circuit, Circuit::HalfOpen(0));
    assert_eq!(chosen(&mut registry, By::All, 0).0, 40);
    assert!(registry.set_circuit(cluster, CircuitAction::Close));
    assert_eq!(chosen(&mut registry, By::All, 0).0, 70);
    for place in [Place::Sector(0), Place::Global] {
        assert!(registry.set_circuit(place, CircuitAction::HalfOpen));
        assert_eq!(chosen(&mut registry, By::All, 0).0, probes, "{place:?}");
        assert_eq!(chosen(&mut registry, By::All, 0).0, 0, "{place:?}");
        assert!(registry.set_circuit(place, CircuitAction::Close));
    }
    assert!(registry.set_circuit(Place::Global, CircuitAction::Open));
    assert_eq!(chosen(&mut registry, By::All, 2).0, 0);
    assert_eq!(chosen(&mut registry, By::All, 3).0, 70);
    assert!(registry.set_circuit(Place::Sector(0), CircuitAction::Open));
    assert_eq!(chosen(&mut registry, By::All, 3).0, 0);
    for place in [Place::Sector(1), Place::Cluster { sector: 0, cluster: 10 }] {
        assert!(
            !registry.set_circuit(place, CircuitAction::Open) && registry.gate(place).is_none()
        );
    }
}

#[test]
fn imped_03_imped_04_imped_08_imped_15_answers_move_averages_and_failures_count() {
    let mut registry = filled(1);
    registry.outcome(SECOND, 0, true, 10 * MS, 11 * MS);
    assert_eq!((registry.latency(0), registry.processing(0)), (3 * MS, 4 * MS));
    assert_eq!(registry.score(0), 5.5);
    registry.outcome(SECOND, 0, false, 900 * MS, 900 * MS);
    assert_eq!((registry.latency(0), registry.reliability(SECOND, 0)), (3 * MS, 0.5));
    // What the agent says of its success counts only while nothing was seen.
    let told = Impedance { reliability: 1.0, ..impedance(MS, MS) };
    registry.heartbeat(SECOND, registry.reference(0).unwrap(), &told).unwrap();
    assert_eq!(registry.reliability(SECOND, 0), 0.5);
    assert_eq!(registry.reliability(3700 * SECOND, 0), 1.0);
}

#[test]
fn fail_03_a_spike_is_twice_the_historical_average() {
    let mut registry = filled(1);
    let agent = registry.reference(0).unwrap();
    for beat in 0..100 {
        let told = impedance(2 * MS, 49 * MS);
        registry.heartbeat(beat * 5 * SECOND, agent, &told).unwrap();
    }
    assert!(!registry.spiked(0));
    registry.heartbeat(500 * SECOND, agent, &impedance(2 * MS, 150 * MS)).unwrap();
    assert!(registry.spiked(0));
}

#[test]
fn hier_10_a_long_change_of_speed_moves_an_agent_and_a_short_one_does_not() {
    let mut registry = filled(5);
    let agent = registry.reference(2).unwrap();
    let home = registry.seat(2);
    let (slow, mut swept) = (impedance(2 * MS, 300 * MS), Swept::default());
    registry.heartbeat(10 * SECOND, agent, &slow).unwrap();
    registry.heartbeat(40 * SECOND, agent, &impedance(2 * MS, 3 * MS)).unwrap();
    for second in [50, 70, 100] {
        registry.heartbeat(second * SECOND, agent, &slow).unwrap();
    }
    registry.sweep(50 * SECOND + MOVE_AFTER - 1, &mut swept);
    assert!(swept.moved.is_empty(), "the short visit does not count");
    registry.sweep(50 * SECOND + MOVE_AFTER, &mut swept);
    // Capacity for five agents is one cluster: there is nowhere to go, so it stays.
    assert!(swept.moved.is_empty() && registry.seat(2) == home);

    let mut registry = Registry::new(60, 1);
    for number in 0..5 {
        join(&mut registry, SECOND, number, 3 * MS);
    }
    for second in [10, 15, 20, 60] {
        registry.heartbeat(second * SECOND, agent, &slow).unwrap();
    }
    registry.sweep(10 * SECOND + MOVE_AFTER, &mut swept);
    assert_eq!((swept.moved.as_slice(), registry.seat(2).cluster), (&[2][..], 1));
    assert_eq!(registry.by_name("S00-C01-A00"), Some(agent));
    // A lead that moves is replaced where it was, and leads where it is alone.
    let (lead, other) = (registry.reference(0).unwrap(), registry.reference(1).unwrap());
    for second in [70, 100, 130] {
        registry.heartbeat(second * SECOND, lead, &slow).unwrap();
        registry.heartbeat(second * SECOND, other, &impedance(2 * MS, 3 * MS)).unwrap();
    }
    registry.sweep(130 * SECOND, &mut swept);
    assert_eq!((swept.moved.as_slice(), registry.clusters().lead(0)), (&[0][..], Some(1)));
    assert_eq!(registry.clusters().lead(1), Some(0));
}

#[test]
fn hier_05_agents_of_one_cluster_are_alike_while_there_are_clusters() {
    let mut registry = Registry::new(3000, 1);
    for number in 0..1000 {
        let newcomer = Newcomer {
            id: id_of(number),
            class: AgentClass::ALL[number as usize % 5],
            link: link_of(number),
            capabilities: &[],
            impedance: impedance(2 * MS, u64::from(number * 37 % 211) * MS),
        };
        registry.register(SECOND, &newcomer).unwrap();
    }
    for cluster in 0..registry.clusters().count() {
        let kind =
            |handle| (registry.class(handle), mesh::cluster::band_of(registry.score(handle)));
        let mut kinds: Vec<_> = registry.clusters().members(cluster).map(kind).collect();
        kinds.dedup();
        assert!(kinds.len() <= 1, "{kinds:?}");
    }
}

#[test]
fn hier_01_hier_02_30000_agents_fill_100_sectors_of_10_clusters_of_30() {
    let mut registry = filled(mesh::limits::FLEET_AGENTS);
    assert_eq!(registry.clusters().sectors(), 100);
    for sector in 0..100 {
        assert_eq!(chosen(&mut registry, By::Sector(sector), 0).0, SECTOR_AGENTS);
        assert_eq!(registry.clusters().of_sector(sector).len(), 10);
    }
    assert!((0..1000).all(|cluster| registry.clusters().taken(cluster) == 30));
    // A full fleet has a seat for every kind, though not among its own.
    let other = registry.reference(4321).unwrap();
    registry.remove(SECOND, other).unwrap();
    let seat = registry.seat(4321);
    let late = join(&mut registry, SECOND, 40_000, 900 * MS);
    assert_eq!((registry.len(), registry.seat(late.handle)), (30_000, seat));
}

#[test]
fn hier_05_a_cluster_that_everybody_left_is_there_for_another_kind() {
    let mut registry = filled(30 * 200);
    for handle in (5 * 30..6 * 30).chain(4000..4001) {
        registry.remove(SECOND, registry.reference(handle).unwrap()).unwrap();
    }
    let late = join(&mut registry, SECOND, 9000, 900 * MS);
    assert_eq!(registry.seat(late.handle).cluster, 5);
}

#[test]
fn hier_04_hier_09_the_most_reliable_then_fastest_leads_and_is_replaced() {
    let mut registry = Registry::new(30, 1);
    for (number, processing) in [(0, 4), (1, 2), (2, 3)] {
        join(&mut registry, SECOND, number, processing * MS);
    }
    assert_eq!(registry.clusters().lead(0), Some(0), "the first leads, and stays");
    registry.outcome(SECOND, 1, false, 0, 0);
    registry.unlink(SECOND, link_of(0), &mut Vec::new());
    assert_eq!(registry.clusters().lead(0), Some(2), "1 is faster but fails");
    registry.quarantine(SECOND, 2, true);
    assert_eq!(registry.clusters().lead(0), Some(1));
    registry.degrade(SECOND, 1);
    assert_eq!(registry.clusters().lead(0), None);
    registry.heartbeat(SECOND, registry.reference(1).unwrap(), &impedance(MS, MS)).unwrap();
    assert_eq!(registry.clusters().lead(0), Some(1));
}

#[test]
fn bar_01_an_agent_stands_in_exactly_one_way_and_the_sum_is_all() {
    let mut registry = filled(8);
    let beat = |registry: &mut Registry, handle: u32, told: Impedance| {
        let agent = registry.reference(handle).unwrap();
        registry.heartbeat(2 * SECOND, agent, &told).unwrap();
    };
    let told = impedance(2 * MS, 3 * MS);
    beat(&mut registry, 1, Impedance { queue: 1, ..told });
    beat(&mut registry, 2, Impedance { processing: 900 * MS, ..told });
    beat(&mut registry, 3, Impedance { drift: 0.6, ..told });
    beat(&mut registry, 4, Impedance { state: AgentState::Offline, ..told });
    registry.quarantine(2 * SECOND, 5, true);
    // 19 of 19 are too few to trust; 99 of 100 are enough, 98 of 100 are not.
    let answers = |registry: &mut Registry, handle, good, bad| {
        for at in 0..good + bad {
            registry.outcome(2 * SECOND, handle, at < good, 2 * MS, 3 * MS);
        }
    };
    answers(&mut registry, 0, 19, 0);
    answers(&mut registry, 6, 99, 1);
    answers(&mut registry, 7, 98, 2);
    let stand = |registry: &Registry, now| {
        (0..8).map(|handle| registry.standing(now, handle)).collect::<Vec<_>>()
    };
    use Standing::{Busy, Offline, Ready, Trusted, Unknown};
    let expected = [Ready, Busy, Busy, Unknown, Offline, Unknown, Trusted, Ready];
    assert_eq!(stand(&registry, 2 * SECOND), expected);
    assert_eq!(registry.standings(2 * SECOND), [2, 1, 2, 2, 1]);
    // What has not been heard of for 10 s is not certain.
    let later = stand(&registry, 12 * SECOND);
    assert_eq!(later, [Unknown, Unknown, Unknown, Unknown, Offline, Unknown, Unknown, Unknown]);
    beat(&mut registry, 0, told);
    assert_eq!(registry.standings(2 * SECOND).iter().sum::<u32>(), registry.len());
    // Proof is of the last hour.
    let agent = registry.reference(6).unwrap();
    registry.heartbeat(3 * 3600 * SECOND, agent, &told).unwrap();
    assert_eq!(registry.standing(3 * 3600 * SECOND, 6), Ready);
}
