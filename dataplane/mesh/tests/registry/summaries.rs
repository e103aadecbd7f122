//! Summaries, the map and the choice of the best, against plain computations over all agents.

use mesh::limits::{BEST_SCORE, SUMMARY_EVERY};
use mesh::registry::{Impedance, Newcomer, Registry};
use mesh::summary::{HistoryPoint, Summaries};
use mesh::{MS, SECOND, Time};
use proptest::prelude::*;
use wire::mesh::{AgentClass, AgentState};

use super::{filled, id_of, impedance, join, link_of};

const NOW: Time = 50 * SECOND;

/// Agents by processing time in ms, class and state.
fn fleet(agents: &[(u64, usize, u8)]) -> Registry {
    let mut registry = Registry::new(1500, 1);
    for (number, (processing, class, state)) in agents.iter().enumerate() {
        let state = AgentState::from_code(*state).unwrap();
        let newcomer = Newcomer {
            id: id_of(number as u32),
            class: AgentClass::ALL[*class],
            link: link_of(number as u32),
            capabilities: [&["llm"][..], &["gpu", "llm"], &[]][number % 3],
            impedance: Impedance { state, ..impedance(0, processing * MS) },
        };
        registry.register(NOW, &newcomer).unwrap();
    }
    registry
}

fn near(found: Option<f32>, expected: Option<f64>, part: f64) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => {
            (f64::from(found) - expected).abs() <= expected * part + 1e-3
        }
        (found, expected) => found.is_none() && expected.is_none(),
    }
}

fn mean(scores: &[f64]) -> Option<f64> {
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}

fn p95(scores: &[f64]) -> Option<f64> {
    let mut scores = scores.to_vec();
    scores.sort_by(f64::total_cmp);
    scores.get((scores.len() * 95).div_ceil(100).saturating_sub(1)).copied()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn clust_03_gmap_02_x_17_summaries_are_what_all_agents_give(
        agents in prop::collection::vec((1..1100_u64, 0..6_usize, 0..4_u8), 0..700),
    ) {
        let registry = fleet(&agents);
        let mut summaries = Summaries::new();
        prop_assert!(summaries.refresh(NOW, &registry));
        let scores_of = |keep: &dyn Fn(u32) -> bool| -> Vec<f64> {
            let serves = |handle: &u32| {
                let state = registry.state(*handle);
                matches!(state, AgentState::Active | AgentState::Degraded)
                    && registry.class(*handle) != AgentClass::Human
            };
            let kept = registry.iter().filter(|it| keep(*it)).filter(serves);
            kept.map(|it| f64::from(registry.score(it))).collect()
        };
        let active = |keep: &dyn Fn(u32) -> bool| {
            let active = |it: &u32| registry.state(*it) == AgentState::Active && keep(*it);
            registry.iter().filter(active).count() as u32
        };
        for it in summaries.clusters() {
            let of = |handle: u32| registry.seat(handle).cluster == it.cluster;
            let scores = scores_of(&of);
            prop_assert_eq!(it.weight as usize, scores.len());
            prop_assert_eq!(it.active, active(&of));
            prop_assert_eq!(it.agents as usize, registry.clusters().taken(it.cluster));
            prop_assert!(near(it.mean, mean(&scores), 1e-4) && near(it.p95, p95(&scores), 1e-6));
            let slowest = it.slowest.map(|it| f64::from(registry.score(it)));
            prop_assert_eq!(slowest, scores.iter().copied().reduce(f64::max));
            let fastest = it.fastest.map(|it| f64::from(registry.score(it)));
            prop_assert_eq!(fastest, scores.iter().copied().reduce(f64::min));
        }
        for sector in summaries.sectors() {
            let it = &sector.summary;
            let of = |handle: u32| registry.seat(handle).sector() == it.sector;
            let scores = scores_of(&of);
            prop_assert_eq!(it.active, active(&of));
            prop_assert!(near(it.mean, mean(&scores), 1e-4));
            prop_assert!(near(it.p95, p95(&scores), 0.011));
            let means = summaries.clusters().iter().filter(|c| c.sector == it.sector);
            let best = means.filter_map(|c| c.mean.map(|mean| (mean, c.cluster)));
            let best = best.min_by(|a, b| a.partial_cmp(b).unwrap());
            prop_assert_eq!(it.healthiest, best.map(|it| it.1));
        }
    }

    #[test]
    fn gmap_04_clust_04_the_best_are_the_active_and_capable_with_the_lowest_scores(
        agents in prop::collection::vec((1..900_u64, 0..6_usize, 0..4_u8), 0..300),
        count in 0..40_usize,
        limit in prop::sample::select(vec![0.0, 100.0, BEST_SCORE, 1000.0]),
    ) {
        let registry = fleet(&agents);
        let fits = |handle: &u32, most: f32| {
            registry.state(*handle) == AgentState::Active
                && registry.score(*handle) <= most
                && registry.row(NOW, *handle).unwrap().capabilities.contains(&"gpu".to_owned())
        };
        let mut expected: Vec<u32> = registry.iter().filter(|it| fits(it, limit)).collect();
        expected.sort_by(|a, b| registry.score(*a).total_cmp(&registry.score(*b)));
        expected.truncate(2 * count);
        let mut best = vec![99];
        let found = registry.find_best("gpu", count, limit, &mut best);
        prop_assert_eq!(found, expected.len().min(count));
        prop_assert_eq!(&best, &expected);
        prop_assert_eq!(registry.find_best("no such thing", count, limit, &mut best), 0);
        for cluster in 0..registry.clusters().count() {
            let members: Vec<u32> = registry.clusters().members(cluster).collect();
            let fitting = members.iter().filter(|it| fits(it, f32::MAX));
            let scores = fitting.map(|it| registry.score(*it));
            let route = registry.route_within_cluster(cluster, "gpu");
            prop_assert_eq!(route.ok().map(|it| registry.score(it)), scores.reduce(f32::min));
            prop_assert!(route.is_err() || members.contains(&route.unwrap()));
        }
    }
}

#[test]
fn y_11_summaries_every_5_s() {
    let registry = filled(40);
    let mut summaries = Summaries::new();
    assert!(summaries.refresh(NOW, &registry));
    assert_eq!(summaries.due(), NOW + SUMMARY_EVERY);
    assert!(!summaries.refresh(NOW + SUMMARY_EVERY - 1, &registry));
    assert!(summaries.refresh(NOW + SUMMARY_EVERY, &registry));
}

#[test]
fn x_17_no_agents_and_one_agent_have_defined_summaries() {
    let mut registry = Registry::new(30, 1);
    let mut summaries = Summaries::new();
    assert!(summaries.refresh(0, &registry));
    assert!(summaries.clusters().is_empty() && summaries.sectors().is_empty());
    join(&mut registry, SECOND, 1, 3 * MS);
    assert!(summaries.refresh(NOW, &registry));
    let cluster = summaries.clusters()[0];
    assert_eq!((cluster.mean, cluster.p95), (Some(4.0), Some(4.0)));
    assert_eq!((cluster.slowest, cluster.fastest, cluster.lead), (Some(0), Some(0), Some(0)));
    let sector = summaries.sectors()[0].summary;
    assert_eq!((sector.clusters, sector.agents, sector.mean), (1, 1, Some(4.0)));
}

#[test]
fn imped_13_history_rows_come_back_from_their_bytes() {
    let mut summaries = Summaries::new();
    summaries.refresh(NOW, &filled(400));
    let mut rows = Vec::new();
    summaries.history(&mut rows);
    assert_eq!(rows.iter().map(|it| it.counts[0]).collect::<Vec<_>>(), [300, 100]);
    rows.push(HistoryPoint { mean: None, p95: None, ..rows[0] });
    for row in rows {
        assert_eq!(HistoryPoint::from_bytes(&row.to_bytes()), Some(row));
    }
    let mut bytes = [0; HistoryPoint::BYTES];
    bytes[11] = 1;
    assert_eq!(HistoryPoint::from_bytes(&bytes), None);
}
