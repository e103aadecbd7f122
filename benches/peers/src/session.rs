//! A session: all systems in turn, in every round, so that a machine that drifts drifts for all.

use crate::{
    load::{Pace, Plan},
    logits::{Form, Logs},
    results::{Cell, Figures, LogitsCell, PAYLOADS, Results, shapes},
    samples::Logits,
    systems::{Run, Servers, System},
};
use bytes::Bytes;
use std::{io::IsTerminal, time::Duration};

/// Messages of a cell in a smoke run.
pub(crate) const SMOKE: u64 = 40;

/// A cell that is not through after this and four times its own length is given up: a system that
/// stands still must not hold up the others.
const STALLED: Duration = Duration::from_secs(5);

/// How much is sent in a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) time: Duration,
    pub(crate) rounds: usize,
    /// Messages, whichever comes first.
    pub(crate) most: u64,
}

/// Every payload in every shape through every system.
pub(crate) async fn echoes(
    servers: &Servers,
    only: &[System],
    amount: Amount,
    results: &mut Results,
) {
    for (payload, rate) in PAYLOADS {
        for shape in shapes(rate) {
            for system in System::ALL {
                if only.contains(&system) && servers.has(system) && system.carries(payload) {
                    results.cells.push(Cell { system, shape, payload, rounds: Vec::new() });
                }
            }
        }
    }
    let total = results.cells.len() * amount.rounds;
    for round in 0..amount.rounds {
        for at in 0..results.cells.len() {
            let cell = &mut results.cells[at];
            let name = cell.system.name();
            say(round * results.cells.len() + at, total, name);
            let cell = &mut results.cells[at];
            cell.rounds.push(one(servers, cell, amount).await);
        }
    }
    say(total, total, "echoes measured\n");
}

async fn one(servers: &Servers, cell: &Cell, amount: Amount) -> Result<Figures, String> {
    let Amount { time, most, .. } = amount;
    let plan = Plan { pace: cell.shape.pace, depth: cell.shape.depth, time, most };
    let body = body(cell.payload);
    let run = servers.run(cell.system, cell.shape.connections, plan, &body);
    let run = tokio::time::timeout(4 * time.min(STALLED) + STALLED, run).await;
    let run = run.map_err(|_| "stalled: answers stopped coming".to_owned())??;
    all_answered(&run, plan)?;
    Ok(Figures::of(&run, 1))
}

/// A run that was bounded by messages must have had them all.
fn all_answered(run: &Run, plan: Plan) -> Result<(), String> {
    let (answered, planned) = (run.tally.answered, run.tally.planned);
    if answered == 0 {
        return Err("nothing was answered".into());
    }
    if plan.most != u64::MAX && (answered != plan.most || planned != plan.most) {
        return Err(format!("{answered} of {} messages were answered", plan.most));
    }
    Ok(())
}

/// Bytes that do not repeat within a message, so that a shifted echo is not taken for a right one.
fn body(len: usize) -> Bytes {
    let mut state = len as u64 | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0xDEAD_BEEF);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Every form of every tensor, a row at a time and all rows together.
pub(crate) async fn logits(
    logs: &Logs<'_>,
    amount: Amount,
    results: &mut Results,
) -> Result<(), String> {
    let tensors = Logits::all()?;
    let mut asked = Vec::new();
    for tensor in &tensors {
        for rows in [1, tensor.rows] {
            for form in Form::ALL {
                asked.push((tensor.first(rows), form));
            }
        }
    }
    for (logits, form) in &asked {
        let arrived = logs.judge(*form, logits).await;
        let (tensor, cols, rows) = (logits.name, logits.cols, logits.rows);
        let cell = LogitsCell { form: *form, tensor, cols, rows, arrived, rounds: Vec::new() };
        results.logits.push(cell);
    }
    let total = asked.len() * amount.rounds;
    for round in 0..amount.rounds {
        for (at, (logits, form)) in asked.iter().enumerate() {
            say(round * asked.len() + at, total, form.name());
            let plan = Plan { pace: Pace::Closed, depth: 1, time: amount.time, most: amount.most };
            let run = logs.run(*form, logits, amount.time, amount.most).await;
            let run = run.and_then(|run| all_answered(&run, plan).map(|()| run));
            let figures = run.map(|run| Figures::of(&run, logits.rows as u64));
            results.logits[at].rounds.push(figures);
        }
    }
    say(total, total, "logits measured\n");
    Ok(())
}

/// Messages that were answered, over all cells.
pub(crate) fn answered(results: &Results) -> u64 {
    let echoes = results.cells.iter().flat_map(|cell| &cell.rounds);
    let logits = results.logits.iter().flat_map(|cell| &cell.rounds);
    echoes.chain(logits).flatten().map(|it| it.answered).sum()
}

/// On a terminal a line that changes; elsewhere only what is done.
fn say(done: usize, of: usize, what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{done}/{of} {what}");
    } else if done == of {
        eprint!("{of} {what}");
    }
}
