//! Each place as a table: what stands in it, what a row opens, how it is sorted and filtered.

use super::{app::Place, feed::Seen};
use crate::{
    glance::{ago, milliseconds, percent, span},
    say::grouped,
    screen::clean,
};
use client::{Agent, Cluster};
use overview::{Gather, Sector, Worker};
use std::cmp::Ordering;
use wire::mesh::id_text;

/// Cells of a bar.
const BAR: u64 = 30;

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub(super) heads: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Tells it from others while rows come and go.
    pub(super) id: String,
    pub(super) cells: Vec<Cell>,
    /// Where Enter leads.
    pub(super) opens: Option<Place>,
}

/// A text, and the number that it is sorted by where it is one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    number: Option<f64>,
}

fn text(text: impl AsRef<str>) -> Cell {
    Cell { text: clean(text.as_ref()), number: None }
}

fn number(number: f64, text: String) -> Cell {
    Cell { text, number: Some(number) }
}

fn count(n: impl Into<u64>) -> Cell {
    let n = n.into();
    number(n as f64, grouped(n))
}

fn ms(ms: impl Into<f64>) -> Cell {
    let ms = ms.into();
    number(ms, milliseconds(ms))
}

fn share(share: impl Into<f64>) -> Cell {
    let share = share.into();
    number(share, percent(share))
}

impl Table {
    fn of(heads: &[&'static str], rows: Vec<Row>) -> Self {
        Self { heads: heads.to_vec(), rows }
    }

    /// What is known of one thing, a line each.
    fn facts(lines: Vec<(&str, String)>) -> Self {
        let row = |(at, (what, value)): (usize, (&str, String))| Row {
            id: at.to_string(),
            cells: vec![text(what), text(value)],
            opens: None,
        };
        Self::of(&["what", "value"], lines.into_iter().enumerate().map(row).collect())
    }

    /// Keeps the rows in which a text occurs, in whatever case.
    pub(super) fn keep(&mut self, filter: &str) {
        let filter = filter.to_lowercase();
        let has = |cell: &Cell| cell.text.to_lowercase().contains(&filter);
        self.rows.retain(|row| filter.is_empty() || row.cells.iter().any(has));
    }

    /// By a column: numbers with the largest first, texts as in a dictionary.
    pub(super) fn sort(&mut self, column: usize) {
        self.rows.sort_by(|a, b| match (a.cells.get(column), b.cells.get(column)) {
            (Some(a), Some(b)) => match (a.number, b.number) {
                (Some(a), Some(b)) => b.total_cmp(&a),
                _ => a.text.cmp(&b.text),
            },
            _ => Ordering::Equal,
        });
    }
}

/// What there is at a place.
pub(super) fn table(seen: &Seen, place: &Place) -> Table {
    let all = &seen.overview;
    match place {
        Place::Sectors => Table::of(
            &["sector", "node", "clusters", "agents", "active", "mean", "p95"],
            all.sectors.iter().map(sector).collect(),
        ),
        Place::Workers => Table::of(
            &["worker", "busy", "health", "backend"],
            all.workers.iter().map(worker).collect(),
        ),
        Place::Gathers => Table::of(
            &["ended", "decision", "targets", "in time", "late", "conflicts", "took"],
            all.gathers.iter().map(|row| gather(row, all.at_ms)).collect(),
        ),
        Place::Batches => {
            let row = |(reason, n): (&String, &u64)| Row {
                id: reason.clone(),
                cells: vec![text(reason.replace('_', " ")), count(*n)],
                opens: None,
            };
            Table::of(&["closed by", "batches"], all.batches.by_reason.iter().map(row).collect())
        }
        Place::Clusters(sector) => {
            let of = seen.clusters.iter().filter(|row| row.sector == *sector);
            Table::of(
                &["cluster", "agents", "active", "degraded", "mean", "p95", "slowest"],
                of.map(cluster).collect(),
            )
        }
        Place::Agents(sector, of) => Table::of(
            &["agent", "class", "state", "impedance", "reliable", "queue", "silent"],
            agents(seen, *sector, *of).map(|row| agent(row, *sector, *of)).collect(),
        ),
        Place::Agent(sector, of, name) => {
            let found = agents(seen, *sector, *of).find(|agent| agent.name == *name);
            Table::facts(found.map(about_agent).unwrap_or_default())
        }
        Place::Gather(id) => {
            let found = all.gathers.iter().find(|gather| gather.id == *id);
            Table::facts(found.map(|row| about_gather(row, all.at_ms)).unwrap_or_default())
        }
        Place::Worker(id) => {
            let found = all.workers.iter().find(|worker| worker.id == *id);
            Table::facts(found.map(about_worker).unwrap_or_default())
        }
    }
}

fn sector(row: &Sector) -> Row {
    let node = if row.node.is_empty() { "this" } else { &row.node };
    Row {
        id: row.sector.to_string(),
        cells: vec![
            number(-f64::from(row.sector), format!("S{:02}", row.sector)),
            text(node),
            count(row.clusters),
            count(row.agents),
            count(row.active),
            ms(row.mean_ms),
            ms(row.p95_ms),
        ],
        opens: Some(Place::Clusters(row.sector)),
    }
}

fn cluster(row: &Cluster) -> Row {
    Row {
        id: row.cluster.to_string(),
        cells: vec![
            number(-f64::from(row.cluster), format!("C{:02}", row.cluster)),
            count(row.count),
            count(row.active),
            count(row.degraded),
            ms(row.mean),
            ms(row.p95),
            text(&row.slowest),
        ],
        opens: Some(Place::Agents(row.sector, row.cluster)),
    }
}

/// The agents of a cluster: their names say where they are (W75).
fn agents(seen: &Seen, sector: u16, cluster: u16) -> impl Iterator<Item = &Agent> {
    let place = format!("S{sector:02}-C{cluster:02}-");
    let known = seen.agents.iter().filter(move |(of, _)| *of == sector);
    known.flat_map(|(_, agents)| agents).filter(move |agent| agent.name.starts_with(&place))
}

fn agent(row: &Agent, sector: u16, cluster: u16) -> Row {
    Row {
        id: row.name.clone(),
        cells: vec![
            text(&row.name),
            text(row.class.name()),
            text(row.state.name()),
            ms(row.impedance),
            share(row.reliability),
            count(row.queue_depth),
            number(row.silent_ns as f64, span(row.silent_ns / 1_000_000)),
        ],
        opens: Some(Place::Agent(sector, cluster, row.name.clone())),
    }
}

fn about_agent(row: &Agent) -> Vec<(&'static str, String)> {
    vec![
        ("agent", row.name.clone()),
        ("id", id_text(&row.agent_id)),
        ("class", row.class.name().to_owned()),
        ("state", row.state.name().to_owned()),
        ("impedance", milliseconds(row.impedance.into())),
        ("one way", milliseconds(row.latency_ms.into())),
        ("processing", milliseconds(row.processing_ms.into())),
        ("queue", grouped(row.queue_depth.into())),
        ("reliability", percent(row.reliability.into())),
        ("drift", format!("{:.2}", row.drift)),
        ("context", format!("{:016x}", row.context_hash)),
        ("silent for", span(row.silent_ns / 1_000_000)),
        ("can do", row.capabilities.join(", ")),
    ]
}

fn health(worker: &Worker) -> &'static str {
    match (worker.up, worker.healthy, worker.checks.is_empty()) {
        (false, ..) => "does not answer",
        (true, false, _) => "a check fails",
        (true, true, true) => "not checked",
        (true, true, false) => "checks hold",
    }
}

fn worker(row: &Worker) -> Row {
    Row {
        id: row.id.clone(),
        cells: vec![text(&row.id), share(row.busy), text(health(row)), text(&row.backend)],
        opens: Some(Place::Worker(row.id.clone())),
    }
}

fn about_worker(row: &Worker) -> Vec<(&str, String)> {
    let mut lines = vec![
        ("worker", row.id.clone()),
        ("health", health(row).to_owned()),
        ("busy", percent(row.busy)),
        ("backend", row.backend.clone()),
    ];
    for check in &row.checks {
        let holds = if check.holds { "holds" } else { "FAILS" };
        lines.push((&check.name, format!("{holds} {}", check.detail)));
    }
    if let Some(gpu) = &row.gpu {
        lines.push(("gpu", format!("{}, {} busy, {} C", gpu.name, percent(gpu.busy), gpu.celsius)));
        let memory =
            [gpu.memory_used, gpu.memory_total].map(|n| crate::units::Bytes(n).to_string());
        lines.push(("gpu memory", memory.join(" of ")));
    }
    lines
}

fn gather(row: &Gather, now_ms: u64) -> Row {
    Row {
        id: row.id.clone(),
        cells: vec![
            number(row.at_ms as f64, ago(now_ms, row.at_ms)),
            text(row.decision.replace('_', " ")),
            count(row.targets),
            count(row.in_time),
            count(row.late),
            count(row.conflicts),
            ms(row.took_ms),
        ],
        opens: Some(Place::Gather(row.id.clone())),
    }
}

fn about_gather(row: &Gather, now_ms: u64) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("id", row.id.clone()),
        ("ended", ago(now_ms, row.at_ms)),
        ("decision", row.decision.replace('_', " ")),
        ("reason", row.reason.clone()),
        ("took", milliseconds(row.took_ms)),
    ];
    for (what, n) in [
        ("targets", row.targets),
        ("sent", row.sent),
        ("in time", row.in_time),
        ("late", row.late),
        ("conflicts", row.conflicts),
        ("silent", row.silent),
        ("under way", row.transit),
        ("skipped", row.skipped),
    ] {
        lines.push((what, grouped(n.into())));
    }
    let most = row.arrivals.iter().map(|(_, n)| *n).max().unwrap_or(1).max(1);
    for (edge, n) in &row.arrivals {
        // In 128 bits, because a node may say anything.
        let cells = (u128::from(*n) * u128::from(BAR)).div_ceil(u128::from(most)) as usize;
        let what = if *edge > 0.0 { "ready after" } else { "ready before" };
        lines.push((what, format!("{edge:>9.2} ms  {} {}", "#".repeat(cells), grouped(*n))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_number_or_text_and_filtered_in_any_case() {
        let row = |name: &str, n: f64| Row {
            id: name.to_owned(),
            cells: vec![text(name), number(n, n.to_string())],
            opens: None,
        };
        let mut table =
            Table::of(&["name", "n"], vec![row("b", 2.0), row("A", 10.0), row("c", f64::NAN)]);
        table.sort(1);
        let ids = |table: &Table| table.rows.iter().map(|row| row.id.clone()).collect::<String>();
        assert_eq!(ids(&table), "cAb", "what is no number comes first");
        table.sort(0);
        assert_eq!(ids(&table), "Abc");
        table.sort(9);
        assert_eq!(ids(&table), "Abc");
        table.keep("B");
        assert_eq!(ids(&table), "b");
        table.keep("");
        assert_eq!(ids(&table), "b");
    }

    #[test]
    fn a_gather_of_any_numbers_has_bars_of_bounded_length() {
        let row =
            Gather { arrivals: vec![(-2.0, u64::MAX), (0.0, 1), (3.0, 0)], ..Gather::default() };
        let lines = about_gather(&row, 5);
        let bars: Vec<usize> =
            lines[lines.len() - 3..].iter().map(|(_, line)| line.matches('#').count()).collect();
        assert_eq!(bars, [30, 1, 0]);
        assert_eq!(
            (lines[lines.len() - 3].0, lines[lines.len() - 1].0),
            ("ready before", "ready after")
        );
    }
}
