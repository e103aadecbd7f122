//! What a node shows over HTTP: at real sockets, through its whole life.

use crate::{
    promtool,
    rig::{Folder, Node, PATIENCE, butterfly, request, run, strike, words},
};
use overview::{Overview, Point};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use wire::{Dtype, payload::TensorWork};

/// A connection to a node's page on which nobody waits for ever.
fn connect(page: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(page).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    BufReader::new(stream)
}

/// Asks on a connection of its own: status and body.
fn ask(page: SocketAddr, head: &str) -> (u16, String) {
    let mut peer = connect(page);
    let request = format!("{head}\r\nConnection: close\r\n\r\n");
    peer.get_mut().write_all(request.as_bytes()).expect("sends");
    let mut text = String::new();
    peer.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, body.to_owned())
}

fn get(page: SocketAddr, path: &str) -> (u16, String) {
    ask(page, &format!("GET {path} HTTP/1.1\r\nHost: {page}"))
}

fn page(node: &Node) -> SocketAddr {
    node.page.expect("a page")
}

fn await_that(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A reader of events, past the head.
fn events(page: SocketAddr) -> impl Iterator<Item = Overview> {
    let mut peer = connect(page);
    let head = format!("GET /events HTTP/1.1\r\nHost: {page}\r\n\r\n");
    peer.get_mut().write_all(head.as_bytes()).expect("sends");
    let lines = peer.lines().map_while(Result::ok);
    lines.filter_map(|line| {
        let json = line.strip_prefix("data: ")?;
        Some(serde_json::from_str(json).expect("an overview"))
    })
}

#[test]
fn metr_08_a_node_shows_itself_and_promtool_takes_its_metrics() {
    let node = Node::start(&["--http", "127.0.0.1:0", "--name", "\"shown\" <b>"]);
    let page = page(&node);
    let (status, html) = get(page, "/");
    assert_eq!(status, 200);
    assert!(html.contains("<html") && html.contains("/events"));
    for (path, checks) in
        [("/healthz", &["control", "shard-0"][..]), ("/readyz", &["serving", "workers"])]
    {
        let (status, body) = get(page, path);
        assert_eq!(status, 200, "{path}: {body}");
        let verdict: Value = serde_json::from_str(&body).expect("json");
        assert_eq!(verdict["ok"], true);
        let names: Vec<_> = verdict["checks"].as_array().expect("a list").iter().collect();
        for check in checks {
            assert!(names.iter().any(|it| it["name"] == *check), "{check} is missing in {body}");
        }
    }
    let mut raw = node.raw();
    raw.send(&request(1, TensorWork::echo(Dtype::F32, 1, 4), &[0; 16]));
    raw.frame().expect("an answer");
    await_that("the reply among the metrics", || {
        get(page, "/metrics").1.contains("\nbutterfly_replies_total 1\n")
    });
    let (_, text) = get(page, "/metrics");
    for part in [
        "# TYPE butterfly_request_seconds histogram\n",
        "butterfly_request_seconds_count{operation=\"echo\"} 1\n",
        "butterfly_web_requests_total{path=\"/readyz\"} 1\n",
        "# HELP butterfly_replies_total ",
        "\nbutterfly_info{",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains(" untyped"), "a name without an entry: {text}");
    let (_, body) = get(page, "/api/overview");
    let overview: Overview = serde_json::from_str(&body).expect("an overview");
    assert_eq!((overview.node.name.as_str(), overview.node.ready), ("\"shown\" <b>", true));
    assert!(!overview.node.insecure && overview.node.not_ready_because.is_empty());
    assert_eq!(overview.mesh.mode, "normal", "told by the mesh itself");
    assert_eq!((overview.workers.len(), overview.workers[0].up), (1, true));
    let (_, body) = get(page, "/api/history");
    let points: Vec<Point> = serde_json::from_str(&body).expect("points");
    assert!(points.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms));
    promtool::check(&text);
}

#[test]
fn metr_01_to_03_a_reader_sees_rates_and_latency_of_what_happens_now() {
    let node = Node::start(&["--http", "127.0.0.1:0"]);
    let page = page(&node);
    let stop = Arc::new(AtomicBool::new(false));
    let load = thread::spawn({
        let (mut raw, stop) = (node.raw(), Arc::clone(&stop));
        move || {
            for id in 0.. {
                if stop.load(Relaxed) {
                    return;
                }
                raw.send(&request(id, TensorWork::echo(Dtype::F32, 1, 4), &[0; 16]));
                raw.frame().expect("an answer");
            }
        }
    });
    let busy = |it: &Overview| {
        let now = it.now;
        now.queries_per_s > 0.0
            && now.tokens_per_s > 0.0
            && now.bytes_in_per_s > 0.0
            && now.bytes_out_per_s > 0.0
            && now.p50_ms > 0.0
            && now.p50_ms <= now.p99_ms
    };
    let mut events = events(page);
    events.find(busy).expect("a busy second");
    stop.store(true, Relaxed);
    load.join().expect("no panic");
    let idle = |it: &Overview| it.now.queries_per_s == 0.0 && it.now.p99_ms == 0.0;
    events.find(idle).expect("an idle second");
    let (_, body) = get(page, "/api/history");
    let points: Vec<Point> = serde_json::from_str(&body).expect("points");
    assert!(points.iter().any(|point| point.rates.queries_per_s > 0.0));
}

#[test]
fn strangers_and_other_methods_are_refused() {
    let node = Node::start(&["--http", "127.0.0.1:0", "--http-host", "node.example"]);
    let page = page(&node);
    for (head, status) in [
        ("GET /metrics HTTP/1.1\r\nHost: evil.example", 403),
        ("GET /metrics HTTP/1.1\r\nHost: node.example:80", 200),
        ("GET /metrics HTTP/1.1", 400),
        ("POST /metrics HTTP/1.1\r\nHost: localhost", 405),
        ("GET /other HTTP/1.1\r\nHost: localhost", 404),
        ("nonsense", 400),
    ] {
        assert_eq!(ask(page, head).0, status, "{head}");
    }
    node.raw().lives();
}

#[test]
fn a_page_gives_way_where_nobody_placed_it_and_says_so_where_somebody_did() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound");
    let first = Node::start(&["--http", &taken.to_string()]);
    assert_eq!(page(&first), taken);
    let second = run(&["serve", "--listen", "127.0.0.1:0", "--http", &taken.to_string()]);
    assert_eq!(second.status.code(), Some(2));
    let text = words(&second);
    assert!(text.contains(&taken.to_string()) && text.contains("--http"), "{text}");
    // One of these has the usual place, unless somebody else does; the other a free one.
    let both = [Node::start(&[]), Node::start(&[])];
    let [one, other] = both.each_ref().map(page);
    assert_ne!(one, other);
    for node in &both {
        assert_eq!(get(page(node), "/readyz").0, 200);
        if page(node).port() != 7180 {
            node.await_note("127.0.0.1:7180 is taken: the status page is at");
        }
    }
}

#[test]
fn what_is_open_is_asked_for_and_shown_and_off_is_off() {
    for (args, says) in [
        (&["--http", "0.0.0.0:0"][..], "--http-open"),
        (&["--http", "off", "--http-open"], "http_open = true"),
        (&["--http-open"], "nothing is open on loopback"),
        (&["--http-host", "a b"], "http_host = a b"),
    ] {
        let output = run(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(words(&output).contains(says), "{args:?}: {}", words(&output));
    }
    let open = Node::start(&["--http", "0.0.0.0:0", "--http-open"]);
    open.await_note("insecure: the status page is open");
    let page = SocketAddr::from(([127, 0, 0, 1], page(&open).port()));
    let overview: Overview = serde_json::from_str(&get(page, "/api/overview").1).expect("json");
    assert!(overview.node.insecure);
    assert!(overview.node.facts["http"].starts_with("open"), "{:?}", overview.node.facts);
    let off = Node::start(&["--http", "off"]);
    assert_eq!(off.page, None);
    assert!(!off.preface.iter().any(|line| line.contains("http")), "{:?}", off.preface);
}

#[test]
fn a_drain_is_seen_to_its_end() {
    let node = Node::start(&["--http", "127.0.0.1:0", "--worker-timeout", "60s"]);
    let page = page(&node);
    let worker = node.workers()[0];
    strike(worker, Signal::STOP);
    let mut raw = node.raw();
    raw.send(&request(1, TensorWork::echo(Dtype::F32, 1, 4), &[0; 16]));
    raw.lives();
    assert_eq!(get(page, "/readyz").0, 200, "it is taken, though it waits");
    node.signal(Signal::TERM);
    node.await_line("draining");
    let (status, body) = get(page, "/readyz");
    assert_eq!(status, 503);
    assert!(body.contains("draining: nothing new is taken"), "{body}");
    assert_eq!(get(page, "/healthz").0, 200, "it turns");
    let overview: Overview = serde_json::from_str(&get(page, "/api/overview").1).expect("json");
    assert!(!overview.node.ready && overview.node.not_ready_because.contains("draining"));
    strike(worker, Signal::CONT);
    raw.frame().expect("the answer");
    node.await_line("drained");
    assert_eq!(node.wait().code(), Some(0));
    assert!(TcpStream::connect(page).is_err());
}

#[test]
fn nobody_is_ready_before_the_workers_answer() {
    let folder = Folder::new();
    let gate = folder.file("gate");
    let status = std::process::Command::new("mkfifo").arg(&gate).status().expect("runs");
    assert!(status.success());
    // A worker that starts once somebody opens the gate.
    let program = folder.file("worker.sh");
    let script = format!(
        "#!/bin/sh\nread line < {}\nexec {} \"$@\"\n",
        gate.display(),
        env!("CARGO_BIN_EXE_butterfly")
    );
    std::fs::write(&program, script).expect("writes");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("may run");
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound");
    let starting = thread::spawn({
        let program = program.to_str().expect("text").to_owned();
        move || Node::start(&["--http", &taken.to_string(), "--worker-program", &program])
    });
    await_that("the page", || TcpStream::connect(taken).is_ok());
    let (status, body) = get(taken, "/readyz");
    assert_eq!(status, 503);
    assert!(body.contains("starting") && body.contains("no worker answers"), "{body}");
    assert_eq!(get(taken, "/healthz").0, 200);
    std::fs::write(&gate, "go\n").expect("opens the gate");
    let node = starting.join().expect("starts");
    assert_eq!(get(page(&node), "/readyz").0, 200);
}

#[test]
fn a_successor_takes_the_page_and_no_probe_fails() {
    let folder = Folder::new();
    let door = folder.file("door");
    let door = door.to_str().expect("text");
    let start = || Node::start(&["--http", "127.0.0.1:0", "--handover", door]);
    let mut node = start();
    let page = page(&node);
    let (stop, probes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let prober = thread::spawn({
        let (stop, probes) = (Arc::clone(&stop), Arc::clone(&probes));
        move || {
            while !stop.load(Relaxed) {
                assert_eq!(get(page, "/readyz").0, 200, "a probe fails");
                probes.fetch_add(1, Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    for _ in 0..3 {
        let mut reader = events(page);
        reader.next().expect("an event");
        let next = start();
        assert_eq!(next.page, Some(page));
        node.await_line("succeeded");
        // The stream ends with the process that it came from, and is there again.
        reader.for_each(drop);
        node.await_line("drained");
        assert_eq!(node.wait().code(), Some(0));
        let before = probes.load(Relaxed);
        await_that("more probes", || probes.load(Relaxed) > before + 10 || prober.is_finished());
        node = next;
    }
    stop.store(true, Relaxed);
    prober.join().expect("no probe failed");
    events(page).next().expect("an event");
}

#[test]
fn help_says_where_the_page_is() {
    let output = butterfly().args(["serve", "--help"]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["--http ", "--http-open", "--http-host", "127.0.0.1:7180", "/metrics"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}
