//! Reports that were made up, shown.

use super::*;
use client::{Conflict, Phase};
use wire::{
    mesh::{AgentClass, SkipReason, bin_of},
    payload::mesh::Counts,
};

fn bins(values: &[u64]) -> Vec<(u16, u64)> {
    let mut bins: Vec<(u16, u64)> = values.iter().map(|ns| (bin_of(*ns), 1)).collect();
    bins.sort_unstable();
    bins
}

fn report() -> Report {
    Report {
        earliness: bins(&(1..=98).map(|ms| ms * 1_000_000).collect::<Vec<_>>()),
        lateness: bins(&[3_000_000, 4_000_000]),
        spread: bins(&[10_000, 20_000, 90_000]),
        prediction_error: bins(&[1_000_000, 2_000_000, 30_000_000]),
        fire_error: bins(&[5_000, 45_000]),
        skips: vec![Skip {
            reason: SkipReason::OverRange,
            count: 2,
            would_need_us: 61_000_000,
            available_us: 500_000,
        }],
        classes: vec![ClassPart {
            class: AgentClass::Gpu,
            targets: 104,
            sent: 102,
            ready: 100,
            in_time: 98,
            earliness_us: [49_000, 97_000],
            lead_p50_us: 250_000,
        }],
        phases: vec![Phase {
            name: "sectors".to_owned(),
            reached: 10,
            of: 10,
            needed: 0.95,
            took_ns: 2_000_000,
        }],
        stragglers: vec!["S07-C04-A12".to_owned()],
        conflicts: vec![Conflict {
            name: "S01-C00-A02".to_owned(),
            detail: "older state".to_owned(),
            context_hash: 0xAB,
        }],
        reason: "100 of 102 ready".to_owned(),
        recommendation: "go on".to_owned(),
        correlation_id: [1; 16],
        target_epoch_ns: 1_700_000_000_000_000_000,
        window_ns: 500_000_000,
        plan_ns: 2_100_000,
        total_ns: 812_000_000,
        lead_max_ns: 400_000_000,
        counts: Counts {
            targets: 1_104,
            scheduled: 1_102,
            skipped: 2,
            sent: 102,
            ready: 100,
            in_time: 98,
            late: 2,
            conflicts: 1,
            transit: 0,
            stragglers: 5,
            duplicates: 3,
            foreign: 1,
        },
        coverage: 0.998,
        response_rate: 0.98,
        on_time: 0.961,
        confidence: 0.9,
        sectors_reached: 10,
        clusters_reached: 40,
        decision: Decision::Proceed,
        is_final: true,
    }
}

#[test]
fn the_object_has_every_key_that_programs_were_promised() {
    let value = as_json(&report());
    let keys = "targets scheduled skipped sent ready conflicts stragglers late coverage \
                response_rate on_time plan_us total_ms decision reason";
    for key in keys.split_whitespace() {
        assert!(!value[key].is_null(), "{key}");
    }
    for (key, parts) in [
        ("earliness_ms", &["p50", "p99"][..]),
        ("spread_us", &["p50", "p99", "max"]),
        ("prediction_error_ms", &["p50", "p90", "p99"]),
        ("fire_error_us", &["p50", "p99", "max"]),
    ] {
        let object = value[key].as_object().expect(key);
        let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
        let mut parts = parts.to_vec();
        found.sort_unstable();
        parts.sort_unstable();
        assert_eq!(found, parts, "{key}");
        assert!(object.values().all(Value::is_number), "{key}");
    }
    assert_eq!((&value["decision"], &value["coverage"]), (&json!("proceed"), &json!(0.998)));
    assert_eq!((&value["plan_us"], &value["total_ms"]), (&json!(2_100.0), &json!(812.0)));
    let p99 = value["earliness_ms"]["p99"].as_f64().expect("a number");
    assert!((p99 - 98.0).abs() < 1.0, "{p99}");
    let max = value["fire_error_us"]["max"].as_f64().expect("a number");
    assert!((max - 45.0).abs() < 0.5, "{max}");
    assert_eq!(value["skips"][0]["reason"], "over_range");
    assert_eq!(value["classes"][0]["class"], "D");
    assert_eq!(value["phases"][0]["reached"], 10);
    assert_eq!(value["straggler_names"][0], "S07-C04-A12");
    assert_eq!(value["conflict_rows"][0]["context_hash"], "00000000000000ab");
}

#[test]
fn coverage_earliness_and_skips_stand_on_one_line() {
    let text = as_text(&report(), false);
    let line = text.lines().find(|line| line.contains("on time") && line.contains("coverage"));
    let line = line.expect(&text);
    for part in ["96.10%", "99.80%", "2 skipped", "ms"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    for part in [
        "PROCEED",
        "1,104 = 1,102 scheduled + 2 skipped",
        "over range",
        "61 s",
        "S07-C04-A12 and 4 more",
        "older state",
        "sectors",
        "3 answers more than once",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('#'), "bars are for terminals");
}

#[test]
fn a_terminal_gets_the_histogram_around_the_moment() {
    let text = as_text(&report(), true);
    let bars = text.lines().filter(|line| line.contains('#')).count();
    assert!((5..=18).contains(&bars), "{text}");
    assert!(text.lines().any(|line| line.trim_start().starts_with("T  ---")), "{text}");
}

#[test]
fn an_empty_report_is_shown_too() {
    let empty = Report {
        earliness: Vec::new(),
        lateness: Vec::new(),
        spread: Vec::new(),
        prediction_error: Vec::new(),
        fire_error: Vec::new(),
        skips: Vec::new(),
        classes: Vec::new(),
        phases: Vec::new(),
        stragglers: Vec::new(),
        conflicts: Vec::new(),
        counts: Counts::default(),
        decision: Decision::NoTargets,
        on_time: f32::NAN,
        ..report()
    };
    let value = as_json(&empty);
    assert!(value["spread_us"]["p99"].is_null() && value["on_time"].is_null());
    assert_eq!(value["decision"], "no_targets");
    assert!(as_text(&empty, true).contains("NO TARGETS"));
}
