//! What became of a request: each end has its story, told by the real binary, and who may hear it.

use crate::rig::{Folder, Node, PATIENCE, Raw, request, run, sample, strike, words};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use wire::{
    Dtype, ErrorCode, HEADER_LEN, Header, Kind, error, frame,
    payload::{QueryRequest, RoutingHint, TensorWork, Text, TraceQuery},
    request::RequestFrame,
    trace::{Select, TRACE_QUERY_MAX},
};

/// What `butterfly why` says with these arguments.
fn ask(node: &Node, args: &[&str]) -> Vec<Value> {
    let addr = node.addr_text();
    let output = run(&[&["why", "--addr", &addr, "--json"], args].concat());
    assert!(output.status.success(), "{args:?}: {}", words(&output));
    let said: Value = serde_json::from_slice(&output.stdout).expect("json");
    said["requests"].as_array().expect("requests").clone()
}

/// The life of the last request of this id, once its answer is seen to have left: that the peer
/// has it may be known here before it is known there.
fn life(node: &Node, id: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let life = ask(node, &[id]).swap_remove(0);
        if !life["us"]["sent"].is_null() {
            return life;
        }
        assert!(Instant::now() < deadline, "it never left: {life:#}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The steps that are there come one after the other.
fn in_order(life: &Value, steps: &[&str]) {
    let moments: Vec<f64> = steps
        .iter()
        .map(|step| life["us"][step].as_f64().unwrap_or_else(|| panic!("no {step} in {life:#}")))
        .collect();
    assert!(moments.is_sorted(), "{steps:?} at {moments:?}");
}

fn topk(id: u64, cols: u32) -> Vec<u8> {
    let rows = vec![1; cols as usize * 4];
    request(id, TensorWork::topk(Dtype::F32, 1, cols, 4, Dtype::F32), &rows)
}

/// The same with a deadline.
fn hurried(id: u64, timeout_ms: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut request = QueryRequest {
        work: TensorWork::topk(Dtype::F32, 1, 16, 4, Dtype::F32),
        routing_hint: RoutingHint { timeout_ms, ..RoutingHint::default() },
        query_id: *b"0123456789abcdef",
        ..QueryRequest::default()
    };
    RequestFrame::begin_with(&mut frame, &[1; 64]).finish(&mut request, id, 0).expect("fits");
    frame
}

fn answered(raw: &mut Raw, id: u64) {
    let frame = raw.frame().expect("an answer");
    assert_eq!((frame.header.kind(), frame.header.message_id()), (Ok(Kind::QueryResponse), id));
}

/// Worker processes that are stopped, so that they hold what they get.
fn stop_workers(node: &Node) {
    node.workers().into_iter().for_each(|worker| strike(worker, Signal::STOP));
}

const STEPS: [&str; 8] =
    ["slot", "whole", "closed", "lent", "lent_last", "started", "ended", "sent"];

#[test]
fn an_answer_tells_its_lane_batch_worker_backend_copies_and_times() {
    let node = Node::start(&[]);
    let mut raw = node.raw();
    raw.send(&topk(17, 16));
    answered(&mut raw, 17);
    let small = life(&node, "17");
    in_order(&small, &STEPS);
    assert_eq!((&small["end"], &small["operation"]), (&"answered".into(), &"topk".into()));
    assert_eq!((&small["lane"], &small["sender"]), (&"small".into(), &"local".into()));
    assert_eq!(small["batch"]["requests"], 1);
    assert_eq!(small["batch"]["closed_by"], "worker_idle");
    assert_eq!((&small["worker"], &small["backend"]), (&"worker-0".into(), &"cpu".into()));
    assert!(!small["backend_reason"].as_str().expect("a reason").is_empty());
    assert_eq!(small["copied_bytes"]["small_lane"], small["bytes"]["carried"]);
    assert_eq!(small["copied_bytes"]["reply_inline"], small["bytes"]["reply"]);
    assert!(small["us"]["compute"].as_f64() > Some(0.0));

    // The second row of its size comes by the bulk lane whole.
    raw.send(&topk(18, 100_000));
    answered(&mut raw, 18);
    raw.send(&topk(0x13, 100_000));
    answered(&mut raw, 0x13);
    let bulk = life(&node, "0x13");
    in_order(&bulk, &STEPS);
    assert_eq!((&bulk["lane"], &bulk["message_id"]), (&"bulk".into(), &19.into()));
    assert_eq!(bulk["copied_bytes"]["small_lane"], 0);
    assert_eq!(bulk["bytes"]["payload"], bulk["bytes"]["carried"]);

    // For people: the same in words, with a bar.
    let name = bulk["request"].as_str().expect("a name");
    let shown = run(&["why", name, "--addr", &node.addr_text()]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    for part in [&format!("request {name} of local: answered"), "it was computed on cpu", "|"] {
        assert!(text.contains(part), "`{part}` in\n{text}");
    }
    let listed = run(&["why", "--last", "2", "--addr", &node.addr_text()]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains(name) && text.contains("18@") && !text.contains("17@"), "{text}");
    let slowest = ask(&node, &["--slowest", "64"]);
    assert_eq!(slowest.len(), 3);
    let ended = |life: &Value| life["us"]["ended"].as_f64();
    assert!(slowest.is_sorted_by(|a, b| ended(a) >= ended(b)));
}

#[test]
fn a_refusal_tells_why_and_how_far_the_request_had_come() {
    let node = Node::start(&[]);
    let mut raw = node.raw();
    let bad = TensorWork { k: 0, ..TensorWork::topk(Dtype::F32, 1, 16, 4, Dtype::F32) };
    raw.send(&request(5, bad, &[1; 64]));
    assert_eq!(raw.refusal(ErrorCode::BadK), 5);
    let bad_k = life(&node, "5");
    assert_eq!((&bad_k["end"], &bad_k["refusal"]), (&"refused".into(), &"bad_k".into()));
    in_order(&bad_k, &["slot", "whole", "ended", "sent"]);
    assert!(bad_k["us"]["lent"].is_null() && bad_k["worker"].is_null());

    // From its header alone.
    let mut unknown = topk(6, 16);
    unknown[6..8].copy_from_slice(&0x7777_u16.to_be_bytes());
    raw.send(&unknown);
    assert_eq!(raw.refusal(ErrorCode::UnknownType), 6);
    let unknown = life(&node, "6");
    assert_eq!(
        (&unknown["refusal"], &unknown["operation"]),
        (&"unknown_type".into(), &Value::Null)
    );
    assert!(unknown["us"]["slot"].is_null());

    let refused = ask(&node, &["--refused", "10"]);
    let ids: Vec<_> = refused.iter().map(|it| it["message_id"].as_u64()).collect();
    assert_eq!(ids, [Some(6), Some(5)], "newest first");
    let none = run(&["why", "99", "--addr", &node.addr_text()]);
    assert_eq!(none.status.code(), Some(1));
    assert!(words(&none).contains("--trace-records"), "{}", words(&none));
}

#[test]
fn a_deadline_that_passes_and_a_request_taken_back_say_where_it_was() {
    let node = Node::start(&[]);
    let mut raw = node.raw();
    raw.lives();
    stop_workers(&node);
    raw.send(&hurried(7, 30));
    assert_eq!(raw.refusal(ErrorCode::DeadlineExceeded), 7);
    let late = life(&node, "7");
    assert_eq!((&late["refusal"], &late["cause"]), (&"deadline_exceeded".into(), &"worker".into()));
    in_order(&late, &["whole", "lent", "deadline", "ended"]);
    assert!(late["us"]["started"].is_null(), "no worker took it up");
    // By its query id as well.
    let by_query = ask(&node, &["30313233-3435-3637-3839-616263646566"]);
    assert_eq!(by_query[0]["request"], late["request"]);

    raw.send(&topk(8, 16));
    let mut cancel = [0; error::FRAME_MAX];
    let taken_back = error::Refusal::new(ErrorCode::Cancelled, Kind::QueryRequest.code());
    let len = error::write_frame(&mut cancel, 8, 0, &taken_back);
    raw.send(&cancel[..len]);
    assert_eq!(raw.refusal(ErrorCode::Cancelled), 8);
    let cancelled = life(&node, "8");
    assert_eq!(
        (&cancelled["end"], &cancelled["refusal"]),
        (&"refused".into(), &"cancelled".into())
    );
    node.workers().into_iter().for_each(|worker| strike(worker, Signal::CONT));
}

#[test]
fn a_request_whose_worker_was_killed_tells_of_both() {
    let node = Node::start(&["--queue-target", "60s"]);
    let mut raw = node.raw();
    raw.lives();
    stop_workers(&node);
    raw.send(&topk(9, 16));
    // It is lent in the turn that admits it: the only worker has nothing else to do.
    node.await_count("butterfly_requests_total", "operation", "topk", 1);
    node.workers().into_iter().for_each(|worker| strike(worker, Signal::KILL));
    answered(&mut raw, 9);
    let again = life(&node, "9");
    assert_eq!((&again["lendings"], &again["batch"]["closed_by"]), (&2.into(), &"retry".into()));
    in_order(&again, &["lent", "lent_last", "started", "ended", "sent"]);
    assert_ne!(again["us"]["lent"], again["us"]["lent_last"]);
    let spans = again["spans"].as_array().expect("spans");
    assert!(spans.iter().any(|span| span["name"] == "lost"), "{again:#}");
}

#[test]
fn a_request_that_is_too_much_tells_by_what_sign() {
    let node = Node::start(&["--queue-target", "1ms", "--bulk-slots", "8"]);
    let mut raws: Vec<_> = (0..8).map(|_| node.raw()).collect();
    raws.iter_mut().for_each(Raw::lives);
    // A worker that stands still every other moment is slow on every machine.
    let (workers, done) = (node.workers(), AtomicBool::new(false));
    let refused = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                for (signal, ms) in [(Signal::STOP, 10), (Signal::CONT, 1)] {
                    workers.iter().for_each(|worker| strike(*worker, signal));
                    thread::sleep(Duration::from_millis(ms));
                }
            }
        });
        let deadline = Instant::now() + PATIENCE;
        let refused = (0_u64..).take_while(|_| Instant::now() < deadline).find_map(|round| {
            let ids = |n: u64| (0..64).map(move |i| (n << 32) + round * 64 + i + 1);
            for (n, raw) in (0..).zip(&mut raws) {
                raw.send(&ids(n).flat_map(|id| topk(id, 900)).collect::<Vec<u8>>());
            }
            let mut headers = Vec::new();
            for raw in &mut raws {
                headers.extend(ids(0).map(|_| raw.frame().expect("an answer").header));
            }
            headers.into_iter().find(|header| header.kind() == Ok(Kind::ErrorReport))
        });
        done.store(true, Relaxed);
        refused
    });
    let id = refused.expect("one is refused").message_id().to_string();
    let shed = life(&node, &id);
    assert_eq!(shed["refusal"], "overloaded");
    let sign = shed["cause"].as_str().expect("a sign");
    assert!(node.counted("butterfly_shed_total", "reason", sign) > 0, "{shed:#}");
}

#[test]
fn a_connection_that_goes_leaves_a_story_too() {
    let node = Node::start(&[]);
    let mut raw = node.raw();
    raw.lives();
    stop_workers(&node);
    raw.send(&topk(11, 16));
    node.await_count("butterfly_requests_total", "operation", "topk", 1);
    // Who goes without reading what was said breaks the connection off.
    raw.send(zerocopy::IntoBytes::as_bytes(&frame::ping(1, 0)));
    node.await_total("butterfly_pings_total", 2);
    drop(raw);
    node.await_count("butterfly_connections_closed_total", "cause", "io", 1);
    node.workers().into_iter().for_each(|worker| strike(worker, Signal::CONT));
    node.await_total("butterfly_orphaned_replies_total", 1);
    let gone = ask(&node, &["11"]).swap_remove(0);
    assert_eq!((&gone["end"], &gone["refusal"]), (&"gone".into(), &Value::Null));
    in_order(&gone, &["lent", "started", "ended"]);
    assert!(gone["us"]["sent"].is_null());
}

/// A TRACE_QUERY.
fn question(id: u64, query: &TraceQuery) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append(&mut bytes, query, id, 0).expect("fits");
    bytes
}

#[test]
fn nonsense_in_place_of_a_question_is_refused_and_the_connection_goes_on() {
    let node = Node::start(&[]);
    let mut raw = node.raw();
    let good = question(1, &TraceQuery { select: Select::Last.code(), ..TraceQuery::default() });
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let payload = bytes.split_off(HEADER_LEN);
        let header = Header::for_payload(Kind::TraceQuery, 1, 0, &payload);
        [zerocopy::IntoBytes::as_bytes(&header), &payload].concat()
    };
    let root = good.len() - 64;
    for (bytes, code) in [
        (with(&|bytes| bytes[root + 40] = 99), ErrorCode::BadRequest),
        (with(&|bytes| bytes[root] = 1), ErrorCode::BadArchive),
        (with(&|bytes| bytes.truncate(HEADER_LEN + 16)), ErrorCode::BadArchive),
        (with(&|bytes| bytes.truncate(HEADER_LEN)), ErrorCode::BadArchive),
        (with(&|bytes| bytes.resize(HEADER_LEN + TRACE_QUERY_MAX + 16, 0)), ErrorCode::BadRequest),
    ] {
        raw.send(&bytes);
        assert_eq!(raw.refusal(code), 1);
    }
    let mut spoilt = good.clone();
    spoilt[HEADER_LEN] ^= 1;
    raw.send(&spoilt);
    raw.refusal(ErrorCode::BadChecksum);
    // A byte at a time it is the same question, and a name that nobody has is nobody's.
    let nobody = TraceQuery { sender: Text::literal("eve"), select: 2, ..TraceQuery::default() };
    for bytes in [good, question(1, &nobody)] {
        bytes.iter().for_each(|byte| raw.send(&[*byte]));
        assert_eq!(raw.frame().expect("an answer").header.kind(), Ok(Kind::TraceReport));
    }
    raw.lives();
}

#[test]
fn a_node_that_does_not_remember_says_so() {
    let node = Node::start(&["--trace-records", "0"]);
    let output = run(&["why", "--last", "1", "--addr", &node.addr_text()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("unserved_type"), "{}", words(&output));
    assert!(!node.preface.iter().any(|line| line.starts_with("memory traces")));
    let usage = run(&["why", "--addr", "127.0.0.1:1"]);
    assert_eq!(usage.status.code(), Some(2), "which request is not said");
}

#[test]
fn an_operator_hears_of_all_and_a_client_of_its_own() {
    let folder = Folder::new();
    let pki = folder.file("pki");
    let dir = pki.to_str().expect("text");
    let ca = |args: &[&str]| {
        let output = run(&[&["ca"], args].concat());
        assert!(output.status.success(), "{args:?}: {}", words(&output));
    };
    ca(&["init", "--dir", dir]);
    for (name, role) in
        [("node-1", "node"), ("ann", "client"), ("bob", "client"), ("olga", "operator")]
    {
        let host = ["--host", "127.0.0.1"];
        let host = if role == "node" { &host[..] } else { &[] };
        ca(&[&["issue", "--dir", dir, "--name", name, "--role", role], host].concat());
    }
    let file = |name: &str| format!("{dir}/{name}");
    let (authority, cert, key) = (file("ca.pem"), file("node-1.pem"), file("node-1.key"));
    let node = Node::start(&["--tls-ca", &authority, "--tls-cert", &cert, "--tls-key", &key]);
    let addr = format!("tls://{}", node.places[0].split_once(' ').expect("kind and place").1);
    let told = |who: &str, args: &[&str]| {
        let (cert, key) = (file(&format!("{who}.pem")), file(&format!("{who}.key")));
        let all = ["--addr", &addr, "--ca", &authority, "--cert", &cert, "--key", &key];
        run(&[args, &all].concat())
    };
    let logits = sample("logits.safetensors");
    let out = folder.file("out.safetensors");
    let compress = ["compress", "--in", logits.to_str().expect("text"), "--tensor", "head.f32"];
    let where_to = ["--topk", "5", "--out", out.to_str().expect("text")];
    let output = told("ann", &[&compress[..], &where_to].concat());
    assert!(output.status.success(), "{}", words(&output));
    let senders = |who: &str, args: &[&str]| {
        let output = told(who, &[&["why", "--last", "5", "--json"], args].concat());
        assert!(output.status.success(), "{who}: {}", words(&output));
        let said: Value = serde_json::from_slice(&output.stdout).expect("json");
        let requests = said["requests"].as_array().expect("requests").clone();
        let name = |it: Value| it["sender"].as_str().expect("a name").to_owned();
        let mut names: Vec<String> = requests.into_iter().map(name).collect();
        names.dedup();
        names
    };
    assert_eq!(senders("ann", &[]), ["ann"]);
    assert_eq!(senders("olga", &[]), ["ann"]);
    assert_eq!(senders("olga", &["--sender", "ann"]), ["ann"]);
    assert!(senders("bob", &[]).is_empty(), "others are not his to hear of");
    assert!(senders("bob", &["--sender", "ann"]).is_empty(), "nor by name");
    assert!(senders("olga", &["--sender", "bob"]).is_empty());
}
