//! Traces for OpenTelemetry: what a collector gets, over a real socket, and what it may do.

use crate::rig::{Node, PATIENCE, request};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{self, Receiver},
    thread,
};
use wire::{Dtype, ErrorCode, Kind, payload::TensorWork};

/// One post: its request line and headers, and the JSON.
struct Post {
    head: Vec<String>,
    json: Value,
}

fn post(stream: &TcpStream) -> Post {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let length = head
        .iter()
        .find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok())
        .expect("a length");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    Post { head, json: serde_json::from_slice(&body).expect("json") }
}

/// A collector that gives these answers in turn, the last one for ever.
fn collector(listener: TcpListener, answers: &'static [&'static str]) -> Receiver<Post> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.expect("a connection");
            let post = post(&stream);
            let answer = answers[number.min(answers.len() - 1)];
            (&stream).write_all(answer.as_bytes()).expect("answers");
            if tell.send(post).is_err() {
                return;
            }
        }
    });
    told
}

const TAKEN: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

/// A good request and one that is refused.
fn two_requests(node: &Node) {
    let mut raw = node.raw();
    let work = TensorWork::topk(Dtype::F32, 1, 16, 4, Dtype::F32);
    raw.send(&request(1, work, &[1; 64]));
    assert_eq!(raw.frame().expect("an answer").header.kind(), Ok(Kind::QueryResponse));
    raw.send(&request(2, TensorWork { k: 0, ..work }, &[1; 64]));
    raw.refusal(ErrorCode::BadK);
}

/// All spans of posts until there are so many.
fn spans(posts: &Receiver<Post>, count: usize) -> Vec<Value> {
    let mut spans = Vec::new();
    while spans.len() < count {
        let post = posts.recv_timeout(PATIENCE).expect("a post");
        assert_eq!(post.head[0], "POST /v1/traces HTTP/1.1");
        assert!(post.head.iter().any(|line| line == "Content-Type: application/json"));
        for resource in post.json["resourceSpans"].as_array().expect("resources") {
            let attributes = resource["resource"]["attributes"].as_array().expect("attributes");
            let service = attributes.iter().find(|it| it["key"] == "service.name");
            let service = service.map(|it| &it["value"]["stringValue"]);
            assert_eq!(service, Some(&"butterfly".into()));
            for scope in resource["scopeSpans"].as_array().expect("scopes") {
                spans.extend(scope["spans"].as_array().expect("spans").iter().cloned());
            }
        }
    }
    spans
}

/// So many lower-case hexadecimal digits, not all of them zero.
fn is_id(value: &Value, digits: usize) -> bool {
    value.as_str().is_some_and(|id| {
        id.len() == digits
            && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && id.bytes().any(|b| b != b'0')
    })
}

fn nanos(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).expect("64-bit numbers are text")
}

/// By hand against the JSON of OTLP: names, kinds, ids, and that numbers of 64 bits are text.
#[test]
fn a_collector_gets_requests_as_spans_of_the_specified_form() {
    let (listener, url) = listen();
    let node = Node::start(&["--otlp", &url, "--otlp-sample", "1"]);
    let posts = collector(listener, &[TAKEN]);
    two_requests(&node);
    let spans = spans(&posts, 6);
    for span in &spans {
        assert!(is_id(&span["traceId"], 32) && is_id(&span["spanId"], 16), "{span:#}");
        assert!(nanos(&span["startTimeUnixNano"]) <= nanos(&span["endTimeUnixNano"]));
        assert!(nanos(&span["startTimeUnixNano"]) > 1_600_000_000_000_000_000, "since 1970");
        for attribute in span["attributes"].as_array().into_iter().flatten() {
            let value = attribute["value"].as_object().expect("a value");
            assert!(attribute["key"].is_string() && value.len() == 1);
            let said = value.get("stringValue").or_else(|| value.get("intValue"));
            assert!(said.is_some_and(Value::is_string));
        }
    }
    let (roots, parts): (Vec<_>, Vec<_>) =
        spans.iter().partition(|span| span.get("parentSpanId").is_none());
    assert_eq!(roots.iter().map(|root| &root["name"]).collect::<Vec<_>>(), ["topk", "request"]);
    assert!(roots.iter().all(|root| root["kind"] == 2), "SPAN_KIND_SERVER");
    assert_ne!(roots[0]["traceId"], roots[1]["traceId"]);
    assert!(roots[0].get("status").is_none());
    assert_eq!(roots[1]["status"], serde_json::json!({ "code": 2, "message": "bad_k" }));
    for part in parts {
        let root = roots.iter().find(|root| root["spanId"] == part["parentSpanId"]);
        let root = root.expect("each part has its whole");
        assert_eq!((&part["traceId"], &part["kind"]), (&root["traceId"], &1.into()));
        assert!(nanos(&root["startTimeUnixNano"]) <= nanos(&part["startTimeUnixNano"]));
        assert!(nanos(&part["endTimeUnixNano"]) <= nanos(&root["endTimeUnixNano"]));
    }
    node.await_total("butterfly_otlp_exported_total", 2);
    assert_eq!(node.metrics().total("butterfly_otlp_lost_total"), Some(0));
}

#[test]
fn a_collector_that_is_away_or_busy_costs_a_note_and_no_request() {
    let (listener, url) = listen();
    drop(listener);
    let node = Node::start(&["--otlp", &url, "--otlp-sample", "1"]);
    two_requests(&node);
    node.await_note("does not take traces");
    // It comes up, asks for patience once, then takes what has waited.
    let address = url.strip_prefix("http://").expect("an address");
    let listener = TcpListener::bind(address).expect("binds again");
    let posts = collector(listener, &["HTTP/1.1 503 busy\r\nRetry-After: 1\r\n\r\n", TAKEN]);
    let first = posts.recv_timeout(PATIENCE).expect("a post");
    assert_eq!(first.json, posts.recv_timeout(PATIENCE).expect("the same again").json);
    node.await_note("takes traces again");
    node.await_total("butterfly_otlp_exported_total", 2);
    assert!(node.metrics().total("butterfly_otlp_failures_total") >= Some(2));
}

#[test]
fn what_a_collector_rejects_is_counted_and_the_node_goes_on() {
    let (listener, url) = listen();
    let node = Node::start(&["--otlp", &url, "--otlp-sample", "1"]);
    let _posts = collector(listener, &["HTTP/1.1 400 no\r\n\r\n", "nonsense\r\n"]);
    two_requests(&node);
    node.await_note("rejects traces: status 400");
    node.await_count("butterfly_otlp_lost_total", "reason", "rejected", 1);
    two_requests(&node);
    node.raw().lives();
}
