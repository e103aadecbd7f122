//! What was measured: every run, and medians over rounds.

use crate::{
    load::Pace,
    logits::{Arrived, Form},
    systems::{Run, System},
};
use serde::Serialize;

/// How load is put on a system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) connections: usize,
    pub(crate) depth: usize,
    pub(crate) pace: Pace,
}

/// One after the other: latency.
pub(crate) const ALONE: Shape =
    Shape { name: "closed-1x1", connections: 1, depth: 1, pace: Pace::Closed };
/// As much as goes: throughput.
pub(crate) const CROWDED: Shape =
    Shape { name: "closed-4x8", connections: 4, depth: 8, pace: Pace::Closed };

/// Bytes of a message, and how many a second are planned where load is open.
pub(crate) const PAYLOADS: [(usize, f64); 4] =
    [(96, 4_000.0), (4 << 10, 4_000.0), (64 << 10, 1_000.0), (512 << 10, 150.0)];

/// The three shapes for a payload; the open one has the payload's rate.
pub(crate) fn shapes(rate: f64) -> [Shape; 3] {
    let open = Shape { name: "open-4x16", connections: 4, depth: 16, pace: Pace::Open(rate) };
    [ALONE, CROWDED, open]
}

/// One run in figures.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Messages, or rows of logits, a second.
    pub(crate) rate: f64,
    /// Processor seconds of both sides for a million of them.
    pub(crate) cpu_s_per_million: f64,
    /// Answered of planned.
    pub(crate) answered: u64,
    pub(crate) planned: u64,
}

impl Figures {
    /// Of a run in which every answer carried so many units.
    pub(crate) fn of(run: &Run, units: u64) -> Self {
        let tally = &run.tally;
        let at = |share| tally.times.value_at_quantile(share) as f64 / 1e3;
        let count = (tally.answered * units) as f64;
        Self {
            p50_us: at(0.5),
            p99_us: at(0.99),
            rate: count / tally.took.as_secs_f64(),
            cpu_s_per_million: run.cpu_s * 1e6 / count.max(1.0),
            answered: tally.answered,
            planned: tally.planned,
        }
    }
}

/// A system under a load, once for every round. A round that failed is an error.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) system: System,
    pub(crate) shape: Shape,
    pub(crate) payload: usize,
    pub(crate) rounds: Vec<Result<Figures, String>>,
}

/// Logits in a form, once for every round.
#[derive(Debug)]
pub(crate) struct LogitsCell {
    pub(crate) form: Form,
    pub(crate) tensor: &'static str,
    pub(crate) cols: usize,
    /// Rows of a request.
    pub(crate) rows: usize,
    pub(crate) arrived: Result<Arrived, String>,
    pub(crate) rounds: Vec<Result<Figures, String>>,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) cells: Vec<Cell>,
    pub(crate) logits: Vec<LogitsCell>,
}

/// The median of what a round gave; `None` if a round failed or there was none.
pub(crate) fn median(
    rounds: &[Result<Figures, String>],
    of: impl Fn(&Figures) -> f64,
) -> Option<f64> {
    let found: Option<Vec<f64>> = rounds.iter().map(|it| it.as_ref().ok().map(&of)).collect();
    middle(found?)
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Results {
    /// The cell of a system under a load.
    pub(crate) fn cell(&self, system: System, shape: &str, payload: usize) -> Option<&Cell> {
        self.cells.iter().find(|cell| {
            cell.system == system && cell.shape.name == shape && cell.payload == payload
        })
    }

    /// The median, over rounds, of a figure over the floor's in the same round.
    pub(crate) fn over_floor(&self, cell: &Cell, of: impl Fn(&Figures) -> f64) -> Option<f64> {
        let floor = self.cell(System::Floor, cell.shape.name, cell.payload)?;
        let ratios: Option<Vec<f64>> = cell
            .rounds
            .iter()
            .zip(&floor.rounds)
            .map(|(own, floor)| Some(of(own.as_ref().ok()?) / of(floor.as_ref().ok()?)))
            .collect();
        middle(ratios?)
    }

    /// Why rounds failed, each once.
    pub(crate) fn failures(&self) -> Vec<String> {
        let of_cells = self.cells.iter().flat_map(|cell| {
            let name = format!("{}, {}, {}", cell.system.name(), cell.shape.name, cell.payload);
            cell.rounds
                .iter()
                .filter_map(move |it| it.as_ref().err().map(|why| format!("{name} bytes: {why}")))
        });
        let of_logits = self.logits.iter().flat_map(|cell| {
            let name = format!("{}, {} rows of {}", cell.form.name(), cell.rows, cell.tensor);
            let judged = cell.arrived.as_ref().err();
            let rounds = cell.rounds.iter().filter_map(|it| it.as_ref().err());
            judged.into_iter().chain(rounds).map(move |why| format!("{name}: {why}"))
        });
        let mut all: Vec<String> = of_cells.chain(of_logits).collect();
        all.sort();
        all.dedup();
        all
    }

    /// For machines: a line of figures for every round.
    pub(crate) fn json(&self) -> serde_json::Value {
        let round = |it: &Result<Figures, String>| match it {
            Ok(figures) => serde_json::json!(figures),
            Err(why) => serde_json::json!({ "failed": why }),
        };
        let cells = self.cells.iter().map(|cell| {
            let rate = match cell.shape.pace {
                Pace::Open(rate) => Some(rate),
                Pace::Closed => None,
            };
            serde_json::json!({
                "system": cell.system.name(),
                "shape": cell.shape.name,
                "planned_per_second": rate,
                "payload_bytes": cell.payload,
                "rounds": cell.rounds.iter().map(round).collect::<Vec<_>>(),
            })
        });
        let logits = self.logits.iter().map(|cell| {
            let arrived = cell.arrived.as_ref().ok();
            serde_json::json!({
                "form": cell.form.name(),
                "tensor": cell.tensor,
                "cols": cell.cols,
                "rows_per_request": cell.rows,
                "bytes_per_row": arrived.map(|it| it.bytes_per_row),
                "kl_nats": arrived.map(|it| it.kl),
                "rounds": cell.rounds.iter().map(round).collect::<Vec<_>>(),
            })
        });
        serde_json::json!({
            "echo": cells.collect::<Vec<_>>(),
            "logits": logits.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn figures(p50_us: f64, rate: f64) -> Figures {
        let (p99_us, cpu_s_per_million) = (2.0 * p50_us, 10.0);
        Figures { p50_us, p99_us, rate, cpu_s_per_million, answered: 100, planned: 100 }
    }

    /// Rounds in which a system took these times.
    pub(crate) fn cell(system: System, payload: usize, times: &[f64]) -> Cell {
        let rounds = times.iter().map(|us| Ok(figures(*us, 1e6 / us))).collect();
        Cell { system, shape: ALONE, payload, rounds }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second round, for both.
        let cells = vec![
            cell(System::Floor, 96, &[10.0, 20.0, 10.0]),
            cell(System::Echo, 96, &[15.0, 30.0, 16.0]),
        ];
        let results = Results { cells, logits: Vec::new() };
        let echo = results.cell(System::Echo, "closed-1x1", 96).expect("a cell");
        assert_eq!(results.over_floor(echo, |it| it.p50_us), Some(1.5));
        assert_eq!(median(&echo.rounds, |it| it.p50_us), Some(16.0));
    }

    #[test]
    fn a_failed_round_leaves_no_figure_and_is_named_once() {
        let mut bad = cell(System::Nats, 96, &[1.0]);
        bad.rounds.extend([Err("no reply".into()), Err("no reply".into())]);
        assert_eq!(median(&bad.rounds, |it| it.p50_us), None);
        let results = Results { cells: vec![bad], logits: Vec::new() };
        assert_eq!(results.failures(), ["NATS, closed-1x1, 96 bytes: no reply"]);
    }
}
