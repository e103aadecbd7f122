//! What keeps a report honest: everything about a run that makes its numbers say less, or something
//! else, than they seem to.

use crate::{
    origin::Origin,
    report::{Asked, Report},
    server::Server,
};
use plot::text::{count, micros, short};

/// Shorter runs see few of the node's moods.
const SHORT_S: f64 = 5.0;
/// Fewest answers beyond a percentile for it to be more than an anecdote.
const BEYOND_MIN: f64 = 10.0;

/// Of a single run.
pub(super) fn of_run(origin: &Origin, report: &Report) -> Vec<String> {
    let mut notes = of_load(origin, &report.load);
    if report.load.rate.is_none() {
        notes.push(
            "Closed loop: a request leaves when an answer has come, so while the node stalls \
             nothing is sent and nothing is counted. The latencies are not those of clients that \
             send when they want to (coordinated omission): for these, give --rate."
                .to_owned(),
        );
    }
    notes.extend(
        report
            .client_bound_reason
            .iter()
            .map(|reason| format!("The numbers say more of blast than of the node: {reason}.")),
    );
    if report.sent < report.planned {
        notes.push(format!(
            "{} planned requests never left, as all windows were full until the end: the node is \
             slower than the rate, and latency is at least what is shown.",
            count(report.planned - report.sent)
        ));
    }
    if report.errors > 0 || report.lost > 0 {
        notes.push(format!(
            "{} answers or connections were wrong and {} requests had no answer at all.",
            count(report.errors),
            count(report.lost)
        ));
    }
    if report.reconnects > 0 {
        notes.push(format!("{} connections died and were replaced.", count(report.reconnects)));
    }
    if report.load.duration_s < SHORT_S {
        let seconds = micros(report.load.duration_s * 1e6);
        notes.push(format!("A run of {seconds} is short: the next one may well differ."));
    }
    notes.extend(thin_tail(report.ok));
    notes.extend(of_node(&report.server));
    notes
}

/// The highest percentile that enough answers are beyond of.
fn thin_tail(ok: u64) -> Option<String> {
    let tails = [(0.01, "p99"), (0.001, "p99.9")];
    let (_, name) = tails.into_iter().find(|(beyond, _)| (ok as f64 * beyond) < BEYOND_MIN)?;
    (ok > 0).then(|| {
        format!("Of {} answers fewer than ten are beyond {name}: it is an anecdote.", count(ok))
    })
}

/// Of any load.
pub(super) fn of_load(origin: &Origin, load: &Asked) -> Vec<String> {
    let mut notes = Vec::new();
    if load.same_host {
        notes.push(format!(
            "Load and node ran on one machine and shared its {} cores: each took time from the \
             other, and no network was crossed.",
            origin.host.cores
        ));
    }
    if origin.blast.contains("debug") {
        notes.push("blast was built for debugging (cargo build without --release).".to_owned());
    }
    notes
}

/// Of a node that runs on something less than it could have.
pub(super) fn of_node(server: &Server) -> Vec<String> {
    let mut notes = Vec::new();
    let fact = |name: &str| server.facts.get(name).map(String::as_str);
    if server.backend.is_none() {
        notes.push("The node gave no metrics: what computed is not known.".to_owned());
    }
    if fact("huge_page_bytes") == Some("0") {
        notes.push("The node ran on small pages: it got no huge ones.".to_owned());
    }
    if matches!(fact("worker_sandbox"), Some("off" | "none")) {
        notes.push("The node's workers ran without their sandbox.".to_owned());
    }
    if fact("security").is_some_and(|how| how.contains("insecure")) {
        notes.push("The node spoke plaintext beyond its own machine.".to_owned());
    }
    if let (Some("cuda"), Some(backend)) = (fact("backend_asked"), server.backend.as_deref())
        && !backend.contains("cuda")
    {
        notes.push(format!("A GPU was asked for, and {backend} computed."));
    }
    notes.extend(
        server
            .facts
            .iter()
            .filter(|(name, what)| name.starts_with("fallback") && !what.is_empty())
            .map(|(_, what)| format!("Fallback of the node: {what}.")),
    );
    if let Some(again) = server.reclaimed.filter(|again| *again > 0) {
        notes.push(format!("{} requests ran again, as their worker died.", count(again)));
    }
    notes
}

/// Of rates that blast could not keep up with.
pub(super) fn of_rates<'a>(
    rates: impl IntoIterator<Item = (f64, &'a Option<String>)>,
) -> Option<String> {
    rates.into_iter().find_map(|(rate, reason)| {
        let reason = reason.as_ref()?;
        Some(format!("From {}/s the numbers say more of blast: {reason}.", short(rate)))
    })
}
