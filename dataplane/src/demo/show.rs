//! The result of a demonstration: a column per operation for people, an object per operation for
//! programs.

use super::{
    Scene, bytes,
    coded::{self, Coded},
};
use crate::{say, table};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _};

type Facts = BTreeMap<String, String>;

/// Everything, for programs.
pub(crate) fn as_json(scenes: &[Scene], shown: &[Coded], facts: &Facts) -> Value {
    let operations: Vec<Value> = scenes
        .iter()
        .map(|scene| {
            let mut value = json!({
                "title": scene.act.title,
                "op": scene.report.load.op,
                "load": scene.report,
            });
            if let Some(kept) = &scene.kept {
                value["row_bytes"] = json!(kept.row_bytes);
                value["answer_bytes"] = json!(kept.answer_bytes);
                value["ratio"] = json!(kept.ratio());
                value["fidelity"] = json!(kept.figures);
                value["backend"] = json!(kept.backend);
            }
            value
        })
        .collect();
    let clean = scenes.iter().all(|scene| scene.report.is_clean() && scene.report.ok > 0);
    let coded = coded::as_json(shown);
    json!({ "clean": clean, "node": facts, "operations": operations, "coded": coded })
}

fn microseconds(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(us) if us >= 1000.0 => format!("{:.2} ms", us / 1000.0),
        Some(us) => format!("{us:.0} us"),
    }
}

fn rate(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 1e3 => format!("{:.1} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// A figure of what was kept, or a dash where it does not apply.
fn kept(scene: &Scene, key: &str, digits: usize) -> String {
    scene
        .kept
        .as_ref()
        .and_then(|kept| kept.figures.get(key)?.as_f64())
        .map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The name of a line and what it says of each scene.
type Line = (&'static str, fn(&Scene) -> String);

const LINES: [Line; 15] = [
    ("load", |s| {
        let load = &s.report.load;
        format!("{} x {}", load.connections, load.depth)
    }),
    ("requests/s", |s| rate(s.report.rps)),
    ("latency p50", |s| microseconds(s.report.latency_us.p50)),
    ("latency p99", |s| microseconds(s.report.latency_us.p99)),
    ("to the node", |s| per_second(s.report.bytes_out, s)),
    ("from the node", |s| per_second(s.report.bytes_in, s)),
    ("ratio, rows to answer", |s| {
        s.kept.as_ref().map_or_else(|| "-".to_owned(), |kept| format!("{:.1}", kept.ratio()))
    }),
    ("retained mass", |s| kept(s, "retained_mass", 3)),
    ("KL to the full rows, nats", |s| kept(s, "kl_nats", 3)),
    ("relative error", |s| kept(s, "relative_error", 4)),
    ("largest error", |s| kept(s, "largest_error", 4)),
    ("copies per request", |s| {
        s.report.server.copies_per_request.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"))
    }),
    ("of these, most", |s| {
        let most = s.report.server.copies.iter().max_by(|a, b| a.1.total_cmp(b.1));
        most.map_or_else(|| "-".to_owned(), |(stage, _)| stage.replace('_', " "))
    }),
    ("requests per batch", |s| {
        s.report.server.batch_mean.map_or_else(|| "-".to_owned(), |n| format!("{n:.1}"))
    }),
    ("batches closed by", |s| {
        let total: u64 = s.report.server.batches.values().sum();
        let mut reasons: Vec<_> = s.report.server.batches.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let share = |count: u64| 100.0 * count as f64 / total.max(1) as f64;
        let words: Vec<String> = reasons
            .into_iter()
            .take(2)
            .map(|(reason, count)| format!("{} {:.0}%", reason.replace('_', " "), share(*count)))
            .collect();
        if words.is_empty() { "-".to_owned() } else { words.join(", ") }
    }),
];

fn per_second(count: u64, scene: &Scene) -> String {
    format!("{}/s", bytes(count as f64 / scene.report.duration_s.max(1e-9)))
}

/// The table, for people.
pub(crate) fn as_text(scenes: &[Scene], shown: &[Coded], facts: &Facts) -> String {
    let mut rows: Vec<[String; super::ACTS.len() + 1]> = Vec::new();
    let cells = |head: &str, cell: &dyn Fn(&Scene) -> String| {
        let mut row: [String; super::ACTS.len() + 1] = Default::default();
        row[0] = head.to_owned();
        for (place, scene) in row[1..].iter_mut().zip(scenes) {
            *place = cell(scene);
        }
        row
    };
    rows.push(cells("", &|scene| scene.act.title.to_owned()));
    for (name, cell) in LINES {
        rows.push(cells(name, &cell));
    }
    let mut text = table::plain(&rows);
    let fact = |key: &str| facts.get(key).map_or("unknown", String::as_str);
    let _ = write!(
        text,
        "\n\n{}\n\nbackend: {} ({})\nnode: {}, {}, poll {}",
        coded::as_text(shown),
        fact("backend"),
        fact("backend_reason"),
        say::count(fact("shards").parse().unwrap_or(0_u64), "shard"),
        say::count(fact("workers").parse().unwrap_or(0_u64), "worker"),
        fact("poll"),
    );
    for scene in scenes {
        if let Some(reason) = &scene.report.client_bound_reason {
            let _ =
                write!(text, "\n{}: limited by the load, not the node: {reason}", scene.act.title);
        }
        if !scene.report.is_clean() {
            let _ = write!(
                text,
                "\n{}: {} errors, {} lost",
                scene.act.title, scene.report.errors, scene.report.lost
            );
        }
    }
    text
}
