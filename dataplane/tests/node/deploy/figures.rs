//! Alerts and the dashboard, against the figures that a node has.

use super::{is_here, place, text};
use crate::rig::{Node, words};
use dataplane_core::stats::names::find;
use serde_json::Value;
use std::{collections::BTreeSet, process::Command};

/// Labels that Prometheus itself gives, or that histograms have.
const OF_PROMETHEUS: [&str; 4] = ["instance", "job", "le", "alertstate"];

/// Every expression of the dashboard.
fn of_the_dashboard() -> Vec<String> {
    fn walk(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    match field {
                        Value::String(text) if key == "expr" || key == "query" => {
                            into.push(text.clone());
                        }
                        _ => walk(field, into),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, into)),
            _ => {}
        }
    }
    let dashboard: Value = serde_json::from_str(&text("grafana/butterfly.json")).expect("JSON");
    let mut all = Vec::new();
    walk(&dashboard, &mut all);
    all
}

/// Names of series in an expression, each with the labels in its braces.
fn series(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("butterfly_") {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let braces = rest[end..].strip_prefix('{').and_then(|inner| inner.split('}').next());
        let labels = braces.unwrap_or_default().split(',');
        let labels =
            labels.filter_map(|pair| Some(pair.split(['=', '!']).next()?.trim().to_owned()));
        found.push((rest[..end].to_owned(), labels.filter(|name| !name.is_empty()).collect()));
    }
    found
}

/// Labels that an expression groups by.
fn grouped(expression: &str) -> Vec<String> {
    let lists = expression.split(" by (").skip(1).filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split(',').map(|name| name.trim().to_owned())).collect()
}

/// What is wrong with the names and labels of an expression.
fn strangers(expression: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut known: BTreeSet<&str> = OF_PROMETHEUS.into();
    for (name, labels) in series(expression) {
        let Some(entry) = find(&name) else {
            wrong.push(format!("no node shows {name}"));
            continue;
        };
        known.extend(entry.labels);
        for label in labels {
            if !entry.labels.contains(&label.as_str()) && !OF_PROMETHEUS.contains(&label.as_str()) {
                wrong.push(format!("{name} has no label {label}"));
            }
        }
    }
    let by = grouped(expression).into_iter().filter(|label| !known.contains(label.as_str()));
    wrong.extend(by.map(|label| format!("nothing in `{expression}` has the label {label}")));
    wrong
}

#[test]
fn ops_alerts_and_dashboard_ask_only_for_what_a_node_shows() {
    assert!(!strangers("sum by (mood) (butterfly_requests_total{operation=\"x\"})").is_empty());
    assert!(!strangers("butterfly_requests_totals").is_empty());
    assert!(!strangers("rate(butterfly_requests_total{verb=\"x\"}[5m])").is_empty());
    let dashboard = of_the_dashboard();
    assert!(dashboard.len() > 40, "{}", dashboard.len());
    let rules = text("prometheus/alerts.yml");
    let tests = text("prometheus/tests.yml");
    let lines = rules.lines().chain(tests.lines()).map(str::to_owned);
    let wrong: Vec<String> =
        dashboard.into_iter().chain(lines).flat_map(|it| strangers(&it)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ops_what_alerts_ask_for_at_once_a_node_shows_from_its_start() {
    let metrics = Node::start(&[]).metrics();
    for name in ["butterfly_workers_ready", "butterfly_insecure", "butterfly_refusals_total"] {
        assert!(metrics.total(name).is_some(), "{name}");
    }
}

#[test]
fn ops_every_alert_has_a_test_and_a_part_of_the_book() {
    let rules = text("prometheus/alerts.yml");
    let tests = text("prometheus/tests.yml");
    let book = text("README.md");
    let anchors: BTreeSet<String> = book
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| title.to_lowercase().replace(',', "").replace(' ', "-"))
        .collect();
    let mut alerts = 0;
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alerts += 1;
            assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
        }
        if let Some(anchor) = line.strip_prefix("runbook: README.md#") {
            assert!(anchors.contains(anchor), "no part of README.md is called {anchor}");
        }
    }
    assert!(alerts >= 20, "{alerts}");
    assert_eq!(rules.matches("runbook:").count(), alerts);
    if !is_here("promtool") {
        return;
    }
    let folder = place("prometheus");
    for line in ["check rules alerts.yml", "check config prometheus.yml", "test rules tests.yml"] {
        let judged = Command::new("promtool").args(line.split(' ')).current_dir(&folder).output();
        let judged = judged.expect("runs");
        let said = String::from_utf8_lossy(&judged.stdout).into_owned();
        assert!(judged.status.success(), "promtool {line}: {said}{}", words(&judged));
    }
}
