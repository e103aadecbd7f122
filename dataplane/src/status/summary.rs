//! A node at a glance: the box of its mesh, the status bar, and what it runs on.

use crate::{
    glance::{self, ago, bytes, milliseconds, percent, rate, span},
    say::{count, grouped},
    screen::{Screen, clean, columns, cut, fit, wrap},
};
use overview::{Overview, Standing, Worker};

/// Columns of a label.
const LABEL: usize = 11;
/// Cells of a worker's bar.
const BUSY: usize = 10;

/// All of it, in lines that fit.
pub(super) fn as_text(seen: &Overview, screen: Screen) -> String {
    let mut lines = boxed(seen, screen);
    lines.extend(bar(seen, screen));
    lines.push(String::new());
    for (label, text) in node(seen) {
        lines.extend(labelled(label, &text, screen));
    }
    for worker in &seen.workers {
        lines.extend(labelled("worker", &worker_line(worker, screen), screen));
    }
    for (what, text, holds) in glance::indicators(&seen.mesh) {
        let text = format!("{what}: {text}{}", if holds { "" } else { " (missed)" });
        lines.extend(labelled("hour", &text, screen));
    }
    for (label, text) in warnings(seen) {
        let text = labelled(label, &text, screen);
        lines.extend(text.into_iter().map(|line| screen.paint("33", &line)));
    }
    lines.join("\n")
}

/// The box of CONS-01.
fn boxed(seen: &Overview, screen: Screen) -> Vec<String> {
    let [corner, line, side] = ['+', '-', '|'];
    let [top_left, top_right] = ['╭', '╮'].map(|mark| screen.mark(mark, corner));
    let [low_left, low_right] = ['╰', '╯'].map(|mark| screen.mark(mark, corner));
    let (line, side) = (screen.mark('─', line), screen.mark('│', side));
    let rule = |n: usize| line.to_string().repeat(n);
    let inner = screen.width - 4;
    let title = cut(&format!(" {} ", clean(&seen.node.name)), inner);
    let mut lines = vec![format!(
        "{top_left}{line}{}{}{top_right}",
        screen.paint("1", &title),
        rule(screen.width - 3 - columns(&title)),
    )];
    for (label, text) in mesh(seen) {
        let room = inner.saturating_sub(LABEL).max(1);
        for (at, part) in wrap(&clean(&text), room).iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            let row = fit(&format!("{}{part}", fit(label, LABEL)), inner);
            lines.push(format!("{side} {row} {side}"));
        }
    }
    lines.push(format!("{low_left}{}{low_right}", rule(screen.width - 2)));
    lines
}

fn mesh(seen: &Overview) -> Vec<(&'static str, String)> {
    let mesh = &seen.mesh;
    let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
    let last = match seen.gathers.first() {
        None => ago(seen.at_ms, mesh.last_gather_ms),
        Some(row) => format!("{}: {}", ago(seen.at_ms, row.at_ms), glance::gather(row)),
    };
    let agents = match mesh.agents {
        0 => "none; `blast agents` plays some".to_owned(),
        all => format!(
            "{} of {} active ({})",
            grouped(mesh.active),
            grouped(all),
            percent(share(mesh.active, all))
        ),
    };
    let impedance = format!(
        "mean {}, p95 {}",
        milliseconds(mesh.impedance_mean_ms),
        milliseconds(mesh.impedance_p95_ms)
    );
    let mode = if mesh.mode.is_empty() { "not told" } else { &mesh.mode };
    vec![
        ("agents", agents),
        ("sectors", format!("{} of {} healthy", mesh.sectors_healthy, mesh.sectors)),
        ("impedance", impedance),
        ("conflicts", format!("{} in the last hour", grouped(mesh.conflicts_last_hour))),
        ("mode", mode.to_owned()),
        ("cascade", last),
    ]
}

/// The status bar and its legend (BAR-01, BAR-02).
fn bar(seen: &Overview, screen: Screen) -> Vec<String> {
    let cells = seen.bar.cells(screen.width);
    let section = |standing: Standing| {
        let (unicode, ascii, colour) = glance::mark(standing);
        let mark = screen.mark(unicode, ascii).to_string();
        screen.paint(colour, &mark.repeat(cells[standing as usize]))
    };
    if seen.bar.total == 0 {
        return wrap("nobody is here: no agents, no workers", screen.width);
    }
    let mut lines = vec![Standing::ALL.iter().copied().map(section).collect::<String>()];
    let mut line = format!("{}: ", seen.bar.of);
    let mut painted = line.clone();
    for (standing, text) in glance::legend(&seen.bar) {
        let (unicode, ascii, colour) = glance::mark(standing);
        let mark = screen.mark(unicode, ascii).to_string();
        // Behind two columns of margin, the mark and a space.
        let text = cut(&text, screen.width - 4);
        if columns(&line) + 4 + columns(&text) > screen.width {
            lines.push(std::mem::take(&mut painted).trim_end().to_owned());
            line = "  ".to_owned();
            painted = line.clone();
        }
        line.push_str(&format!("{mark} {text}  "));
        painted.push_str(&format!("{} {text}  ", screen.paint(colour, &mark)));
    }
    lines.push(painted.trim_end().to_owned());
    lines
}

fn node(seen: &Overview) -> Vec<(&'static str, String)> {
    let (node, now, batches) = (&seen.node, &seen.now, &seen.batches);
    let ready = if node.ready {
        "ready".to_owned()
    } else {
        format!("NOT READY: {}", node.not_ready_because)
    };
    let reasons: Vec<String> = batches
        .by_reason
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(reason, n)| format!("{} {}", reason.replace('_', " "), grouped(*n)))
        .collect();
    let mut found = vec![
        (
            "node",
            format!(
                "{} {ready} for {}, {}",
                node.version,
                span(node.uptime_ms),
                count(node.connections, "connection")
            ),
        ),
        ("backend", format!("{}: {}", node.backend, node.backend_reason)),
        ("security", node.security.clone()),
        (
            "now",
            format!(
                "{} queries/s, {} tokens/s, {} in, {} out",
                rate(now.queries_per_s),
                rate(now.tokens_per_s),
                bytes(now.bytes_in_per_s),
                bytes(now.bytes_out_per_s)
            ),
        ),
        (
            "latency",
            format!(
                "p50 {}, p95 {}, p99 {}; {} refused, {} expired",
                milliseconds(now.p50_ms),
                milliseconds(now.p95_ms),
                milliseconds(now.p99_ms),
                percent(now.error_share),
                percent(now.timeout_share)
            ),
        ),
    ];
    if !reasons.is_empty() {
        let text =
            format!("{:.1} requests each; closed by {}", batches.mean_size, reasons.join(", "));
        found.push(("batches", text));
    }
    found
}

fn worker_line(worker: &Worker, screen: Screen) -> String {
    let full = ((worker.busy * BUSY as f64).round() as usize).min(BUSY);
    let (on, off) = (screen.mark('█', '#'), screen.mark('░', '.'));
    let bar = [on.to_string().repeat(full), off.to_string().repeat(BUSY - full)].concat();
    let failed: Vec<&str> = worker
        .checks
        .iter()
        .filter(|check| !check.holds)
        .map(|check| check.name.as_str())
        .collect();
    let health = match (worker.up, failed.is_empty(), worker.checks.len()) {
        (false, ..) => "does not answer".to_owned(),
        (true, true, 0) => "not checked".to_owned(),
        (true, true, 1) => "1 check holds".to_owned(),
        (true, true, n) => format!("{n} checks hold"),
        (true, false, _) => format!("fails {}", failed.join(", ")),
    };
    let mut text = format!("{} {bar} {} busy, {health}", worker.id, percent(worker.busy));
    if let Some(gpu) = &worker.gpu {
        text.push_str(&format!("; {} {} busy, {} C", gpu.name, percent(gpu.busy), gpu.celsius));
    }
    text
}

fn warnings(seen: &Overview) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if seen.node.insecure {
        found.push((
            "insecure",
            "plaintext beyond this host: anyone on the way can read".to_owned(),
        ));
    }
    found.extend(seen.node.fallbacks.iter().map(|text| ("fallback", text.clone())));
    if !seen.refusals.is_empty() {
        let of =
            |(reason, n): (&String, &u64)| format!("{} {}", reason.replace('_', " "), grouped(*n));
        let all: Vec<String> = seen.refusals.iter().map(of).collect();
        found.push(("refused", all.join(", ")));
    }
    found
}

/// A label and a text behind it, wrapped with the label's width left free.
fn labelled(label: &str, text: &str, screen: Screen) -> Vec<String> {
    let lines = wrap(&clean(text), screen.width.saturating_sub(LABEL).max(1));
    let line = |(at, line): (usize, &String)| {
        let label = if at == 0 { label } else { "" };
        format!("{}{line}", fit(label, LABEL)).trim_end().to_owned()
    };
    lines.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests;
