//! The report as Markdown: what was compared, the tables, and every place where ours is behind.

use crate::{
    logits::{CONNECTIONS, K},
    machine::Facts,
    node,
    results::{ALONE, CROWDED, Cell, Figures, LogitsCell, PAYLOADS, Results, median, shapes},
    systems::System,
};
use std::fmt::Write;

/// What the report says besides the figures.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) command: String,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) machine: Facts,
    pub(crate) versions: Facts,
    /// Systems that are not here, and why.
    pub(crate) absent: Vec<(System, String)>,
    /// Where the drawing lies, beside the report.
    pub(crate) plot: Option<String>,
}

/// All of it.
pub(crate) fn markdown(results: &Results, about: &About) -> String {
    let mut out = String::from(
        "# Beside what people use\n\nWritten by `benches/peers`, whose [README](peers/README.md) \
         says how it measures. Medians over rounds; *ratio* is the median of the ratios to the \
         floor within a round. Every answer was compared with what was sent.\n\n",
    );
    setting(&mut out, about);
    if let Some(plot) = &about.plot {
        let _ = writeln!(out, "\n![p50 and messages a second]({plot})");
    }
    latency(&mut out, results);
    throughput(&mut out, results);
    open(&mut out, results);
    logits(&mut out, results);
    losses(&mut out, results);
    failures(&mut out, results, about);
    out
}

fn setting(out: &mut String, about: &About) {
    let rounds = format!("{} rounds of {} s a cell", about.rounds, about.seconds);
    let _ = writeln!(out, "```sh\n{}     # {rounds}\n```\n", about.command);
    let facts = |facts: &Facts| {
        let words: Vec<_> = facts.iter().map(|(name, what)| format!("{name} {what}")).collect();
        words.join("; ")
    };
    let _ = writeln!(out, "Machine: {}.\n", facts(&about.machine));
    let _ = writeln!(out, "Versions: {}.\n", facts(&about.versions));
    let _ = writeln!(out, "The node is `butterfly {}`.\n", node::ARGUMENTS.join(" "));
    let _ = writeln!(out, "| system | what a message does |\n| --- | --- |");
    for system in System::ALL {
        let _ = writeln!(out, "| {} | {} |", system.name(), system.way());
    }
}

/// One table: a row for each system, a group of columns for each payload.
fn table(
    out: &mut String,
    results: &Results,
    shape: &str,
    heads: &[&str],
    row: impl Fn(&Cell) -> Option<Vec<String>>,
) {
    let mut head = String::from("| system |");
    for (payload, _) in PAYLOADS {
        for name in heads {
            let _ = write!(head, " {}, {name} |", bytes(payload));
        }
    }
    let columns = PAYLOADS.len() * heads.len();
    let _ = writeln!(out, "{head}\n| --- |{}", " --- |".repeat(columns));
    for system in System::ALL {
        let mut line = format!("| {} |", system.name());
        for (payload, _) in PAYLOADS {
            let found = results.cell(system, shape, payload).and_then(&row);
            let found = found.unwrap_or_else(|| vec![String::new(); heads.len()]);
            let _ = write!(line, " {} |", found.join(" | "));
        }
        let _ = writeln!(out, "{line}");
    }
}

fn latency(out: &mut String, results: &Results) {
    out.push_str("\n## One at a time\n\nOne connection, one message under way; microseconds.\n\n");
    table(out, results, ALONE.name, &["p50", "p99", "ratio"], |cell| {
        Some(vec![
            number(median(&cell.rounds, |it| it.p50_us)?),
            number(median(&cell.rounds, |it| it.p99_us)?),
            format!("{:.2}", results.over_floor(cell, |it| it.p50_us)?),
        ])
    });
}

fn throughput(out: &mut String, results: &Results) {
    let (connections, depth) = (CROWDED.connections, CROWDED.depth);
    let _ = writeln!(
        out,
        "\n## As many as go\n\n{connections} connections, {depth} messages under way on each: \
         messages a second; processor seconds per million messages, of the client and all \
         servers together.\n"
    );
    table(out, results, CROWDED.name, &["1/s", "ratio", "CPU s/M"], |cell| {
        Some(vec![
            number(median(&cell.rounds, |it| it.rate)?),
            format!("{:.2}", results.over_floor(cell, |it| it.rate)?),
            number(median(&cell.rounds, |it| it.cpu_s_per_million)?),
        ])
    });
}

fn open(out: &mut String, results: &Results) {
    let rates: Vec<_> = PAYLOADS
        .iter()
        .map(|(payload, rate)| format!("{rate} a second of {}", bytes(*payload)))
        .collect();
    let _ = writeln!(
        out,
        "\n## At a fixed rate\n\n{}, for all the same, on 4 connections with room for 16 each. \
         Time counts from the planned moment, microseconds; *kept* is the share of planned \
         messages that were answered before the run was cut off.\n",
        rates.join(", ")
    );
    table(out, results, shapes(1.0)[2].name, &["p50", "p99", "kept"], |cell| {
        let kept = |it: &Figures| it.answered as f64 / it.planned.max(1) as f64;
        Some(vec![
            number(median(&cell.rounds, |it| it.p50_us)?),
            number(median(&cell.rounds, |it| it.p99_us)?),
            format!("{:.2}", median(&cell.rounds, kept)?),
        ])
    });
}

fn logits(out: &mut String, results: &Results) {
    let _ = writeln!(
        out,
        "\n## Top-{K} of logits, as text and as frames\n\nThe same rows of the samples go to an \
         axum server and to the node, {CONNECTIONS} connections, one request under way on each; \
         both find the entries with the same kernels, and the client reads the answer into \
         indices and values. Bytes are those of the answer, headers of HTTP or of the frame \
         included. KL is of the full distribution from what arrived, the rest spread evenly; it \
         is infinite where rounding gave the entries more than all of the probability.\n\n\
         | logits | rows a request | form | bytes a row | rows/s | CPU s per million rows | KL, \
         nats |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    for cell in &results.logits {
        let figure =
            |of: fn(&Figures) -> f64| median(&cell.rounds, of).map_or_else(String::new, number);
        let (bytes, kl) = match &cell.arrived {
            Ok(it) => (number(it.bytes_per_row), format!("{:.5}", it.kl)),
            Err(_) => (String::new(), String::new()),
        };
        let _ = writeln!(
            out,
            "| {}, {} wide | {} | {} | {bytes} | {} | {} | {kl} |",
            cell.tensor,
            cell.cols,
            cell.rows,
            cell.form.name(),
            figure(|it| it.rate),
            figure(|it| it.cpu_s_per_million),
        );
    }
}

/// Every cell in which another system is better than ours; the floor is not one to beat.
fn losses(out: &mut String, results: &Results) {
    out.push_str(
        "\n## Where ours is behind\n\nEvery cell above in which another system did better than \
         Butterfly's echo, or, at 96 bytes, than its heartbeat. Of the others only NATS also \
         passes through a second process.\n\n",
    );
    let all: Vec<String> = System::ALL
        .into_iter()
        .filter(|system| system.is_ours())
        .flat_map(|ours| lost_by(results, ours))
        .chain(lost_logits(results))
        .collect();
    if all.is_empty() {
        out.push_str("Nowhere in this run.\n");
    }
    for line in all {
        let _ = writeln!(out, "- {line}");
    }
}

/// A figure that is compared.
struct Question {
    shape: &'static str,
    what: &'static str,
    of: fn(&Figures) -> f64,
    is_better: fn(f64, f64) -> bool,
}

const QUESTIONS: [Question; 6] = {
    const fn ask(shape: &'static str, what: &'static str, of: fn(&Figures) -> f64) -> Question {
        Question { shape, what, of, is_better: |other, ours| other < ours }
    }
    [
        ask("closed-1x1", "p50 one at a time, us", |it| it.p50_us),
        ask("closed-1x1", "p99 one at a time, us", |it| it.p99_us),
        Question {
            shape: "closed-4x8",
            what: "messages a second",
            of: |it| it.rate,
            is_better: |other, ours| other > ours,
        },
        ask("closed-4x8", "CPU seconds per million", |it| it.cpu_s_per_million),
        ask("open-4x16", "p50 at a fixed rate, us", |it| it.p50_us),
        ask("open-4x16", "p99 at a fixed rate, us", |it| it.p99_us),
    ]
};

fn lost_by(results: &Results, ours: System) -> Vec<String> {
    let mut lines = Vec::new();
    for (payload, _) in PAYLOADS {
        for question in &QUESTIONS {
            let value = |system| {
                let cell = results.cell(system, question.shape, payload)?;
                median(&cell.rounds, question.of)
            };
            let Some(own) = value(ours) else { continue };
            let ahead: Vec<_> = System::ALL
                .into_iter()
                .filter(|other| !other.is_ours() && *other != System::Floor)
                .filter_map(|other| Some((other, value(other)?)))
                .filter(|(_, value)| (question.is_better)(*value, own))
                .map(|(other, value)| {
                    let hop = if other.has_hop() { " (two hops as well)" } else { "" };
                    format!("{} {}{hop}", other.name(), number(value))
                })
                .collect();
            if !ahead.is_empty() {
                let (name, what) = (ours.name(), question.what);
                let (len, own, ahead) = (bytes(payload), number(own), ahead.join(", "));
                lines.push(format!("{name}, {len}, {what}: {own}; {ahead}"));
            }
        }
    }
    lines
}

/// Differences of KL that are none: a hundredth of what a set itself leaves out.
const SAME_KL: f64 = 1e-4;

fn lost_logits(results: &Results) -> Vec<String> {
    type Of = fn(&LogitsCell) -> Option<f64>;
    let questions: [(&str, Of, f64); 3] = [
        ("rows a second", |cell| Some(-median(&cell.rounds, |it| it.rate)?), 0.0),
        ("bytes a row", |cell| Some(cell.arrived.as_ref().ok()?.bytes_per_row), 0.0),
        ("KL", |cell| Some(cell.arrived.as_ref().ok()?.kl), SAME_KL),
    ];
    let mut lines = Vec::new();
    for ours in results.logits.iter().filter(|cell| !cell.form.is_json()) {
        for (what, of, same) in questions {
            // Lower is better in all of them; a rate is turned round for that.
            let Some(own) = of(ours) else { continue };
            let ahead: Vec<_> = results
                .logits
                .iter()
                .filter(|cell| cell.form.is_json())
                .filter(|cell| cell.tensor == ours.tensor && cell.rows == ours.rows)
                .filter_map(|cell| Some((cell.form.name(), of(cell)?)))
                .filter(|(_, other)| other + same < own)
                .map(|(name, other)| format!("{name} {}", number(other.abs())))
                .collect();
            if !ahead.is_empty() {
                let (form, rows, tensor) = (ours.form.name(), ours.rows, ours.tensor);
                let (own, ahead) = (number(own.abs()), ahead.join(", "));
                lines.push(format!("{form}, {rows} at a time of {tensor}, {what}: {own}; {ahead}"));
            }
        }
    }
    lines
}

fn failures(out: &mut String, results: &Results, about: &About) {
    let failed = results.failures();
    if about.absent.is_empty() && failed.is_empty() {
        return;
    }
    out.push_str("\n## What was not measured\n\n");
    for (system, why) in &about.absent {
        let _ = writeln!(out, "- {}: {why}", system.name());
    }
    for why in failed {
        let _ = writeln!(out, "- {why}");
    }
}

fn bytes(len: usize) -> String {
    if len < 1_024 { format!("{len} B") } else { format!("{} KiB", len >> 10) }
}

/// Three digits or so, thousands set apart.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::cell;

    fn about() -> About {
        About {
            command: "peers".into(),
            rounds: 1,
            seconds: 1.0,
            machine: Vec::new(),
            versions: Vec::new(),
            absent: vec![(System::Nats, "no nats-server on this machine".into())],
            plot: None,
        }
    }

    #[test]
    fn who_is_behind_is_said_and_who_is_not_there_too() {
        let cells = vec![
            cell(System::Floor, 96, &[5.0]),
            cell(System::Zmq, 96, &[20.0]),
            cell(System::GrpcUnary, 96, &[60.0]),
            cell(System::Echo, 96, &[40.0]),
        ];
        let text = markdown(&Results { cells, logits: Vec::new() }, &about());
        let behind = text.split("## Where ours is behind").nth(1).expect("a section");
        let line = "- Butterfly, echo, 96 B, p50 one at a time, us: 40.0; ZeroMQ 20.0";
        assert!(behind.contains(line), "{behind}");
        assert!(!behind.contains("gRPC") && !behind.contains("tokio"), "{behind}");
        assert!(behind.contains("- NATS: no nats-server on this machine"));
        assert!(text.contains("| Butterfly, echo | 40.0 | 80.0 | 8.00 |"), "{text}");
    }

    #[test]
    fn numbers_are_short() {
        let shown: Vec<_> = [1.234, 12.34, 123.4, 1_234.5, 1_234_567.0].map(number).into();
        assert_eq!(shown, ["1.23", "12.3", "123", "1,234", "1,234,567"]);
    }
}
