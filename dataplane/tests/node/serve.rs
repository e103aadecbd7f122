//! A node's life as an operator sees it: addresses, configuration, conflicts, drain.

use crate::rig::{Folder, Node, Raw, butterfly, request, run, sample, strike, words};
use rustix::process::Signal;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};
use wire::{Dtype, Kind, payload::TensorWork};

/// A ping and its answer, byte by byte, from the rules alone (`wire/FORMAT.md`).
#[rustfmt::skip]
const PING: [u8; 32] = [
    b'B', b'U', b'T', b'T', 0, 1, 0, 4,        // magic, version 1, HEARTBEAT
    0xDE, 0xAD, 0xBE, 0xEF, 1, 2, 3, 4,        // message id
    0, 0, 0, 0, 0, 0, 0, 0,                    // timestamp
    0, 0, 0, 0, 0, 0, 0xFF, 0xFF,              // no payload, no compression, CRC-16 of nothing
];

#[test]
fn a_ping_is_answered_on_every_kind_of_address() {
    let folder = Folder::new();
    let socket = folder.file("node.sock");
    let node = Node::start(&[
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:0",
        "--uds",
        socket.to_str().expect("text"),
        "--shards",
        "2",
    ]);
    assert_eq!(node.places.len(), 3);
    assert!(node.places[1].starts_with("tcp [::1]:") && node.places[2].starts_with("unix /"));
    for place in 0..3 {
        let mut raw = Raw::connect(&node.addr_of(place));
        raw.send(&PING);
        let answer = raw.frame().expect("an answer");
        assert_eq!(answer.header.kind(), Ok(Kind::Heartbeat));
        assert_eq!(answer.header.message_id(), 0xDEAD_BEEF_0102_0304);
        assert_eq!((answer.header.payload_len(), answer.header.checksum()), (0, 0xFFFF));
    }
    // Split at every place, the same ping is still one ping.
    let address = node.places[0].strip_prefix("tcp ").expect("tcp").to_owned();
    let mut slow = TcpStream::connect(address).expect("connects");
    slow.set_nodelay(true).expect("no delay");
    for byte in PING {
        slow.write_all(&[byte]).expect("sends");
    }
    let mut answer = [0; 32];
    slow.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[..16], PING[..16]);
}

#[test]
fn memory_and_addresses_are_printed_before_listening() {
    let node = Node::start(&[]);
    let at = |part: &str| {
        node.preface.iter().position(|line| line.starts_with(part)).unwrap_or_else(|| {
            panic!("no line `{part}` in {:?}", node.preface);
        })
    };
    assert!(at("memory request areas") < at("memory total"));
    assert!(at("memory total") < at("address tcp 127.0.0.1:"));
    assert!(at("address tcp 127.0.0.1:") < at("listening tcp 127.0.0.1:"));
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let node = Node::start(&[]);
    let address = node.addr_text();
    let second = run(&["serve", "--listen", &address]);
    assert_eq!(second.status.code(), Some(2));
    let text = words(&second);
    assert!(text.contains(&address) && text.contains("--listen"), "{text}");
    node.raw().lives();
}

#[test]
fn configuration_is_checked_before_anything_is_opened() {
    let folder = Folder::new();
    let path = folder.file("node.toml");
    let path_text = path.to_str().expect("text");
    for (file, expected) in [
        ("sharts = 1", "did you mean `shards`?"),
        ("http = \"off\"\nhttp_open = true", "http_open = true: nothing is shown"),
        ("shards = \"two\"", "shards"),
        ("shards = 0", "shards = 0"),
        ("batch_wait = 10", "10ms"),
        ("listen = [\"0.0.0.0:0\"]", "--insecure"),
        ("[broken", "malformed"),
    ] {
        fs::write(&path, file).expect("writes");
        let output = run(&["serve", "--config", path_text]);
        assert_eq!(output.status.code(), Some(2), "{file}");
        assert!(words(&output).contains(expected), "{file}: {}", words(&output));
    }
    let missing = run(&["serve", "--config", "/nonexistent.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(words(&missing).contains("/nonexistent.toml"));
}

#[test]
fn a_flag_wins_over_the_file() {
    let folder = Folder::new();
    let path = folder.file("node.toml");
    fs::write(&path, "poll = \"latency\"\nmax_payload = \"64KiB\"\n").expect("writes");
    // The rig's own flags say frugal.
    let node = Node::start(&["--config", path.to_str().expect("text")]);
    let metrics = node.metrics();
    assert_eq!(metrics.fact("poll"), Some("frugal"));
    assert_eq!(metrics.fact("max_payload"), Some("65536"));
}

#[test]
fn lm_head_weights_are_checked_before_listening() {
    let folder = Folder::new();
    let cut = folder.file("cut.safetensors");
    let whole = fs::read(sample("lm_head.safetensors")).expect("sample");
    fs::write(&cut, &whole[..whole.len() / 2]).expect("writes");
    let hidden = sample("hidden.safetensors");
    for (file, expected) in [
        ("/nonexistent.safetensors", "/nonexistent.safetensors"),
        (cut.to_str().expect("text"), "not a valid safetensors file"),
        (hidden.to_str().expect("text"), "`weight`"),
    ] {
        let output = run(&["serve", "--listen", "127.0.0.1:0", "--lm-head", file]);
        assert_eq!(output.status.code(), Some(2), "{file}");
        assert!(words(&output).contains(expected), "{}", words(&output));
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!out.contains("listening"), "{out}");
    }
}

#[test]
fn sigterm_answers_what_is_under_way_refuses_the_rest_and_ends_with_0() {
    let node = Node::start(&["--worker-timeout", "60s"]);
    let worker = node.workers()[0];
    let mut raw = node.raw();
    let rows = vec![0; 1024];
    // The worker is stopped, so that these are under way for as long as this test wants.
    strike(worker, Signal::STOP);
    for id in 0..8 {
        raw.send(&request(id, TensorWork::echo(Dtype::F32, 4, 64), &rows));
    }
    raw.lives();
    node.signal(Signal::TERM);
    node.await_line("draining");
    // The word of the drain reaches the shard on its own way: until then requests are taken.
    let mut next = 8;
    let first_refused = loop {
        raw.send(&request(next, TensorWork::echo(Dtype::F32, 4, 64), &rows));
        raw.send(zerocopy::IntoBytes::as_bytes(&wire::frame::ping(u64::MAX, 0)));
        let frame = raw.frame().expect("a refusal, or the ping's answer");
        if frame.header.kind() == Ok(Kind::ErrorReport) {
            break frame.header.message_id();
        }
        next += 1;
        // There are 64 small slots, and a request that waits for one would wait for the worker.
        assert!(next < 60, "the drain does not reach the shard");
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    assert_eq!(first_refused, next);
    strike(worker, Signal::CONT);
    let mut answered = 0;
    while answered < next {
        let frame = raw.frame().expect("each request that was taken gets its answer");
        answered += u64::from(frame.header.kind() == Ok(Kind::QueryResponse));
    }
    node.await_line("drained");
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn a_drain_that_takes_too_long_is_cut_off_and_says_so() {
    let node = Node::start(&["--worker-timeout", "60s", "--drain-timeout", "100ms"]);
    strike(node.workers()[0], Signal::STOP);
    let mut raw = node.raw();
    raw.send(&request(1, TensorWork::echo(Dtype::F32, 1, 4), &[0; 16]));
    raw.lives();
    node.signal(Signal::TERM);
    raw.closed();
    assert_eq!(node.wait().code(), Some(1));
}

#[test]
fn check_tells_what_serves_and_json_agrees() {
    let text = run(&["check"]);
    let json = run(&["check", "--json"]);
    assert_eq!(text.status.code(), json.status.code());
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("json");
    assert_eq!(report["works"], text.status.success());
    for finding in report["findings"].as_array().expect("list") {
        let remedy = finding["remedy"].as_str().expect("text");
        assert_eq!(finding["grade"] == "good", remedy.is_empty(), "{finding}");
    }
    let shown = String::from_utf8_lossy(&text.stdout).into_owned();
    for what in ["cores", "memory", "huge pages", "open files", "kernel", "TLS in the kernel"] {
        assert!(shown.contains(what), "{what} is missing in {shown}");
    }
}

#[test]
fn a_reader_that_is_gone_is_no_reason_to_fail() {
    // Standard output and standard error lead to pipes without a reader.
    for command in [&["check"][..], &["serve", "--shards", "0"]] {
        let pipe = || std::io::pipe().expect("a pipe").1;
        let status =
            butterfly().args(command).stdout(pipe()).stderr(pipe()).status().expect("runs");
        assert!(status.code().is_some_and(|code| code <= 2), "{command:?}: {status}");
    }
}
