//! What is at which path.

use crate::{
    promtool,
    rig::{Rig, await_that},
};
use overview::{Overview, Point};
use serde_json::Value;
use std::sync::atomic::Ordering::Relaxed;

const PATHS: [(&str, &str); 7] = [
    ("/", "text/html; charset=utf-8"),
    ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
    ("/healthz", "application/json"),
    ("/readyz", "application/json"),
    ("/api/overview", "application/json"),
    ("/api/history", "application/json"),
    ("/events", "text/event-stream"),
];

#[test]
fn each_path_has_its_type_and_its_guards() {
    let rig = Rig::new();
    for (path, media) in PATHS {
        let mut peer = rig.connect();
        peer.send(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", rig.addr));
        let answer = peer.head().expect("an answer");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(media)), "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path} {name}");
        }
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert!(policy.contains("connect-src 'self'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[test]
fn head_gives_the_head_alone_and_takes_no_place_of_a_reader() {
    let rig = Rig::new();
    for (path, media) in PATHS {
        let mut peer = rig.connect();
        peer.send(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let answer = peer.head().expect("an answer");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(media)), "{path}");
        // The next answer follows at once: there was no body.
        peer.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(peer.answer().expect("an answer").status, 200, "{path}");
        assert!(peer.is_over());
    }
    assert_eq!(rig.counted("butterfly_web_event_readers", ""), 0);
}

#[test]
fn the_page_is_kept_until_it_is_another() {
    let rig = Rig::new();
    let first = rig.get("/");
    assert_eq!(first.body, web::page::html());
    let tag = first.header("etag").expect("a tag");
    let again = format!("GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {tag}\r\n\r\n");
    assert_eq!(rig.ask(&again).status, 304);
    let other = "GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: \"0\"\r\n\r\n";
    assert_eq!(rig.ask(other).status, 200);
}

#[test]
fn health_05_life_and_readiness_say_which_check_fails() {
    let rig = Rig::new();
    rig.node.is_busy.store(true, Relaxed);
    for (path, status, name) in [("/healthz", 200, "shard-0"), ("/readyz", 503, "workers")] {
        let answer = rig.get(path);
        assert_eq!(answer.status, status, "{path}");
        let json: Value = serde_json::from_str(&answer.body).expect("json");
        assert_eq!(json["ok"], status == 200);
        assert_eq!(json["checks"][0]["name"], name);
        assert_eq!(json["checks"][0]["holds"], status == 200);
        assert_eq!(json["checks"][0]["detail"], format!("{name} was looked at"));
    }
    rig.node.is_busy.store(false, Relaxed);
    assert_eq!(rig.get("/readyz").status, 200);
    rig.node.is_sick.store(true, Relaxed);
    await_that("the end of what was shown before", || rig.get("/healthz").status == 503);
}

#[test]
fn overview_and_history_are_the_nodes_own_words() {
    let rig = Rig::new();
    *rig.node.name.lock().expect("no panic") = "<b>\n\"".to_owned();
    let overview: Overview = serde_json::from_str(&rig.get("/api/overview").body).expect("json");
    assert_eq!((overview.at_ms, overview.node.name.as_str()), (1, "<b>\n\""));
    await_that("a point", || rig.node.points.load(Relaxed) > 0);
    let points: Vec<Point> = serde_json::from_str(&rig.get("/api/history").body).expect("json");
    assert_eq!((points[0].at_ms, points[0].rates.queries_per_s), (1, 0.5));
}

#[test]
fn metr_08_promtool_takes_the_metrics() {
    let rig = Rig::new();
    let text = rig.get("/metrics").body;
    assert!(
        text.contains("butterfly_bytes_total{direction=\"a \\\"player\\\"\\n\"} 1\n"),
        "{text}"
    );
    promtool::check(&text);
}
