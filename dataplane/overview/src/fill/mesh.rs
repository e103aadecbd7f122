//! Agents, sectors and gathers.

use super::{MS, figure, figures, finite};
use crate::{Bar, Gather, Mesh, Sector, Standing};
use client::{Ended, Map, Metrics};
use std::collections::BTreeMap;
use wire::mesh::bin_start;

/// How a node names its indicators, and how they are named here.
const KPI: [(&str, &str); 6] = [
    ("coordination_success", "success"),
    ("window_hit", "window_hit"),
    ("prediction_within_50ms", "accuracy"),
    ("conflict", "conflict"),
    ("availability", "availability"),
    ("recovery", "recovery"),
];

/// The bar of this node's own agents, which its registry sorts into the five standings; none where
/// it has no agents. Agents of nodes below are in the bars of their own nodes.
pub(super) fn bar(metrics: &Metrics) -> Option<Bar> {
    let by_standing = metrics.by_label("butterfly_mesh_standing_agents", "standing");
    let count = |standing: Standing| by_standing.get(standing.name()).copied().unwrap_or(0);
    let bar = Bar::new("agents", std::array::from_fn(|i| count(Standing::ALL[i])));
    (bar.total > 0).then_some(bar)
}

pub(super) fn mesh(metrics: &Metrics, map: Option<&Map>, gathers: &[Ended]) -> Mesh {
    let by_state = metrics.by_label("butterfly_mesh_agents", "state");
    let known = by_state.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
    let active = by_state.get("active").copied().unwrap_or(0);
    let last = gathers.iter().map(|gather| gather.ended_ns).max().unwrap_or(0);
    let p95 = figures(metrics, "butterfly_mesh_cascade_p95_seconds").next();
    let mut mesh = Mesh {
        agents: known,
        active,
        by_state,
        last_gather_ms: last / MS,
        kpi: kpi(metrics),
        cascade_p95_ms: p95.map_or(0.0, |(_, seconds)| seconds * 1e3),
        ..Mesh::default()
    };
    if let Some(global) = map.map(|map| &map.global) {
        mesh.agents = global.count.into();
        mesh.active = global.active.into();
        mesh.sectors = global.sectors.into();
        mesh.sectors_healthy = global.sectors_healthy.into();
        mesh.impedance_mean_ms = finite(global.mean.into());
        mesh.impedance_p95_ms = finite(global.p95.into());
        mesh.conflicts_last_hour = global.conflicts.into();
        mesh.mode = global.mode.name().replace('_', " ");
        mesh.last_gather_ms = global.last_gather_ns.max(last) / MS;
    }
    mesh
}

fn kpi(metrics: &Metrics) -> BTreeMap<String, f64> {
    let share = |name| figure(metrics, "butterfly_mesh_kpi_ratio", "kpi", name);
    KPI.iter().filter_map(|(theirs, ours)| Some(((*ours).to_owned(), share(theirs)?))).collect()
}

pub(super) fn sector(row: &client::Sector) -> Sector {
    Sector {
        sector: row.sector,
        node: row.node.clone(),
        clusters: row.clusters,
        agents: row.count,
        active: row.active,
        mean_ms: finite(row.mean.into()),
        p95_ms: finite(row.p95.into()),
    }
}

pub(super) fn gather(row: &Ended) -> Gather {
    let counts = &row.counts;
    Gather {
        id: format!("{:032x}", u128::from_be_bytes(row.message_id)),
        at_ms: row.ended_ns / MS,
        decision: row.decision.name().to_owned(),
        reason: row.reason.clone(),
        targets: counts.targets,
        sent: counts.sent,
        in_time: counts.in_time,
        late: counts.late,
        conflicts: counts.conflicts,
        silent: counts.stragglers,
        transit: counts.transit,
        skipped: counts.skipped,
        took_ms: row.total_ns as f64 / MS as f64,
        arrivals: arrivals(&row.earliness, &row.lateness),
    }
}

/// Both histograms on one line about the moment, in rising order: whoever was ready by so long
/// before it at the latest, then so long after it at the latest.
fn arrivals(earliness: &[(u16, u64)], lateness: &[(u16, u64)]) -> Vec<(f64, u64)> {
    let ms = |ns: u64| ns as f64 / MS as f64;
    // `0.0 -` and not `-`: none before the moment is 0, not -0.
    let early = earliness.iter().rev().map(|(bin, count)| (0.0 - ms(bin_start(*bin)), *count));
    let late = lateness.iter().map(|(bin, n)| (ms(bin_start(bin.saturating_add(8))), *n));
    early.chain(late).collect()
}
