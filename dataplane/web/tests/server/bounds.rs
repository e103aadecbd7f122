//! What is refused, and where it ends.

use crate::rig::{Rig, await_that};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};
use web::Limits;

#[test]
fn other_methods_and_other_paths_are_refused_with_what_there_is() {
    let rig = Rig::new();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let answer = rig.ask(&format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    // A body that never comes is not waited for.
    let body = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    assert_eq!(rig.ask(body).status, 405);
    for path in ["/nothing", "/metrics/", "//", "/../metrics", "/%2e%2e/", "/API/overview"] {
        let answer = rig.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("/api/overview"), "{}", answer.body);
    }
    assert_eq!(rig.get("/readyz?x=1").status, 200, "a query changes nothing");
    assert_eq!(rig.counted("butterfly_web_refusals_total", "method"), 8);
    assert_eq!(rig.counted("butterfly_web_refusals_total", "path"), 6);
}

#[test]
fn a_strangers_name_is_shown_nothing() {
    let rig = Rig::new();
    let ask = |head: &str| rig.ask(&format!("{head}\r\n\r\n")).status;
    for host in ["evil.example", "evil.example:7180", "localhost.evil.example", "", "a b"] {
        assert_eq!(ask(&format!("GET / HTTP/1.1\r\nHost: {host}")), 403, "{host}");
    }
    for host in ["127.0.0.1", "[::1]:7180", "localhost:1", "NODE.example"] {
        assert_eq!(ask(&format!("GET / HTTP/1.1\r\nHost: {host}")), 200, "{host}");
    }
    assert_eq!(ask("GET / HTTP/1.1"), 400);
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example"), 400);
    assert_eq!(ask("GET http://evil.example/ HTTP/1.1\r\nHost: localhost"), 403);
    assert_eq!(ask("GET http://localhost/ HTTP/1.1\r\nHost: localhost"), 200);
    assert_eq!(rig.counted("butterfly_web_refusals_total", "host"), 8);
}

#[test]
fn a_page_from_elsewhere_is_shown_no_figures() {
    let rig = Rig::new();
    let ask = |path: &str, site: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: {site}");
        rig.ask(&format!("{head}\r\n\r\n")).status
    };
    assert_eq!(ask("/events", "cross-site"), 403);
    assert_eq!(ask("/api/overview", "cross-site"), 403);
    assert_eq!(ask("/api/overview", "same-origin"), 200);
    assert_eq!(ask("/", "cross-site"), 200, "a link may lead here");
}

#[test]
fn what_is_no_http_is_told_so_and_closed() {
    let rig = Rig::new();
    for bytes in
        ["nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n"]
    {
        let mut peer = rig.connect();
        peer.send(bytes);
        assert_eq!(peer.answer().expect("an answer").status, 400, "{bytes}");
        assert!(peer.is_over());
    }
    let mut frame = rig.connect();
    frame.send("BUTT\0\u{1}\0\u{4}");
    // A frame of the node's own protocol ends like anything else.
    frame.send("\r\n\r\n");
    assert!(frame.answer().is_none_or(|answer| answer.status == 400));
    rig.await_count("butterfly_web_refusals_total", "malformed", 4);
    assert_eq!(rig.get("/readyz").status, 200);
}

#[test]
fn a_head_has_a_bound_in_bytes_and_in_lines() {
    let rig = Rig::new();
    let long = "a".repeat(9_000);
    let lines: String = (0..100).map(|n| format!("X-{n}: a\r\n")).collect();
    for head in [format!("X: {long}\r\n"), lines] {
        let mut peer = rig.connect();
        peer.send(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n"));
        assert_eq!(peer.answer().expect("an answer").status, 431);
        assert!(peer.is_over());
    }
    let mut peer = rig.connect();
    peer.send(&format!("GET /{long} HTTP/1.1\r\n"));
    assert!(peer.answer().is_none_or(|answer| (400..500).contains(&answer.status)));
    rig.await_count("butterfly_web_refusals_total", "malformed", 3);
}

#[test]
fn a_head_that_does_not_end_and_a_connection_that_asks_nothing_are_closed() {
    let rig = Rig::with(Limits { head_time: Duration::from_millis(500), ..Limits::default() });
    let mut half = rig.connect();
    half.send("GET / HTTP/1.1\r\nHost: local");
    let mut silent = rig.connect();
    let mut idle = rig.connect();
    idle.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(idle.answer().expect("an answer").status, 200);
    assert!(half.is_over() && silent.is_over() && idle.is_over());
    rig.await_count("butterfly_web_connections_open", "", 0);
    assert!(rig.counted("butterfly_web_refusals_total", "slow") >= 1);
}

#[test]
fn one_connection_too_many_is_told_so() {
    let rig = Rig::with(Limits { connections: 2, ..Limits::default() });
    let (mut first, mut second) = (rig.connect(), rig.connect());
    for peer in [&mut first, &mut second] {
        peer.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(peer.answer().expect("an answer").status, 200);
    }
    let mut third = rig.connect();
    let answer = third.answer().expect("an answer");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert!(third.is_over());
    assert_eq!(rig.counted("butterfly_web_refusals_total", "connections"), 1);
    drop(first);
    rig.await_count("butterfly_web_connections_open", "", 1);
    assert_eq!(rig.get("/readyz").status, 200);
}

#[test]
fn a_storm_of_scrapes_is_one_rendering() {
    let rig = Rig::with(Limits { metrics_age: Duration::from_secs(3600), ..Limits::default() });
    let mut peers: Vec<_> = (0..50).map(|_| rig.connect()).collect();
    for peer in &mut peers {
        peer.send(&"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(4));
    }
    let mut bodies = Vec::new();
    for peer in &mut peers {
        bodies.extend((0..4).map(|_| peer.answer().expect("an answer").body));
    }
    assert_eq!(bodies.len(), 200);
    assert!(bodies.iter().all(|body| *body == bodies[0] && body.contains("} 1\n")));
    assert_eq!(rig.counted("butterfly_web_renderings_total", "metrics"), 1);
    assert_eq!(rig.counted("butterfly_web_requests_total", "/metrics"), 200);
}

#[test]
fn a_storm_that_asks_for_the_past_is_one_rendering() {
    let (beat, metrics_age) = (Duration::from_millis(5), Duration::from_secs(3600));
    let rig = Rig::with(Limits { beat, metrics_age, ..Limits::default() });
    let first = rig.get("/api/history").body;
    let points = rig.node.points.load(Relaxed);
    await_that("more points", || rig.node.points.load(Relaxed) > points + 2);
    assert_eq!(rig.get("/api/history").body, first, "shown again until it is too old");
}
