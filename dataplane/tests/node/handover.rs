//! One node after the other at the same address, under load: nobody is turned away, nothing is
//! lost.

use crate::rig::{Folder, Node, PATIENCE, Raw, request};
use client::{Addr, Client, Options};
use rustix::process::Signal;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use wire::{
    Dtype, ErrorCode, Kind,
    payload::{QueryRequest, TensorWork},
};

const COLS: u32 = 64;

/// Clients that keep a connection each, leave it when they are asked to, and accept no failure.
pub(crate) struct Pool {
    stop: Arc<AtomicBool>,
    /// Answers so far.
    pub(crate) answers: Arc<AtomicU64>,
    /// Connections that were left because the node asked.
    pub(crate) left: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

fn ask(client: &mut Client, n: u32) {
    let rows: Vec<u8> = (0..COLS).flat_map(|col| (n ^ col).to_le_bytes()).collect();
    let work = TensorWork::echo(Dtype::F32, 1, COLS);
    let mut asked = QueryRequest { work, ..QueryRequest::default() };
    let answer = client.request(&mut asked, &rows).expect("no request fails");
    assert_eq!(answer.echo.expect("rows").data, rows, "its own rows");
}

impl Pool {
    pub(crate) fn start(addr: &Addr) -> Self {
        let (stop, answers, left) = (Arc::default(), Arc::default(), Arc::default());
        let mut pool = Self { stop, answers, left, threads: Vec::new() };
        for number in 0..4 {
            let (addr, stop) = (addr.clone(), Arc::clone(&pool.stop));
            let (answers, left) = (Arc::clone(&pool.answers), Arc::clone(&pool.left));
            pool.threads.push(thread::spawn(move || {
                let connect = || Client::connect(&addr, Options::default()).expect("never refused");
                let mut client = connect();
                let mut n = number << 24;
                while !stop.load(Relaxed) {
                    ask(&mut client, n);
                    n += 1;
                    answers.fetch_add(1, Relaxed);
                    if client.is_leaving() {
                        client = connect();
                        left.fetch_add(1, Relaxed);
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            }));
        }
        pool
    }

    pub(crate) fn until(&self, count: &AtomicU64, least: u64) {
        let deadline = Instant::now() + PATIENCE;
        while count.load(Relaxed) < least {
            assert!(Instant::now() < deadline, "{least} are not reached");
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a client failed");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn finish(self) {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("nothing failed"));
    }
}

#[test]
fn five_nodes_after_each_other_fail_no_request() {
    let folder = Folder::new();
    let (door, state, uds) = (folder.file("door"), folder.file("state"), folder.file("node.sock"));
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let (door, state, uds) = (text(&door), text(&state), text(&uds));
    let start = |shards: &str| {
        let addresses = ["--listen", "127.0.0.1:0", "--uds", &uds, "--shards", shards];
        let kept = ["--handover", door.as_str(), "--state", &state];
        Node::start(&[&addresses[..], &kept[..]].concat())
    };
    let mut node = start("1");
    let places = node.places.clone();
    let tcp = Pool::start(&node.addr_of(0));
    let unix = Pool::start(&node.addr_of(1));
    for round in 1..=5_u64 {
        let before = tcp.answers.load(Relaxed) + unix.answers.load(Relaxed);
        // Other numbers of shards: sockets are shared, or a shard has several.
        let next = start(if round % 2 == 1 { "2" } else { "1" });
        assert_eq!(next.places, places, "the same addresses, port 0 or not");
        tcp.until(&tcp.left, round * 4);
        unix.until(&unix.left, round * 4);
        node.await_line("drained");
        assert_eq!(node.wait().code(), Some(0), "left by everybody, and so ended");
        tcp.until(&tcp.answers, before + 50);
        node = next;
    }
    tcp.finish();
    unix.finish();
    // The last one is an ordinary node: it takes its socket file and its door with it.
    node.signal(Signal::TERM);
    node.await_line("drained");
    assert_eq!(node.wait().code(), Some(0));
    assert!(!std::path::Path::new(&uds).exists() && !std::path::Path::new(&door).exists());
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let folder = Folder::new();
    let door = folder.file("door");
    let door = door.to_str().expect("text");
    let state = folder.file("state");
    let state = state.to_str().expect("text");
    let node = Node::start(&["--handover", door, "--state", state]);
    let addr = node.addr_text();
    let failed = crate::rig::run(&[
        "serve",
        "--listen",
        &addr,
        "--handover",
        door,
        "--state",
        state,
        "--workers",
        "1",
        "--worker-program",
        "/bin/false",
    ]);
    assert_eq!(failed.status.code(), Some(2));
    node.await_note("serving on");
    node.await_total("butterfly_mesh_state_works", 1);
    ask(&mut node.client(), 1);
    let successor = Node::start(&["--listen", &addr, "--handover", door, "--state", state]);
    node.await_line("drained");
    assert_eq!(node.wait().code(), Some(0));
    ask(&mut successor.client(), 2);
}

#[test]
fn who_stays_is_answered_until_the_drain_is_over_and_refused_then() {
    let folder = Folder::new();
    let door = folder.file("door");
    let door = door.to_str().expect("text");
    let node = Node::start(&["--handover", door, "--drain-timeout", "700ms"]);
    let mut raw: Raw = node.raw();
    raw.lives();
    let addr = node.addr_text();
    let _next = Node::start(&["--listen", &addr, "--handover", door]);
    assert_eq!(raw.refusal(ErrorCode::Draining), 0, "asked to leave");
    let echo = |id| request(id, TensorWork::echo(Dtype::F32, 1, 4), &[0; 16]);
    let mut id = 1;
    let mut answered = 0;
    // It stays, and asks on: first it is answered, then refused, then the old node is gone.
    while raw.try_send(&echo(id)) {
        let Some(frame) = raw.frame() else { break };
        assert_eq!(frame.header.message_id(), id);
        answered += u32::from(frame.header.kind() == Ok(Kind::QueryResponse));
        id += 1;
        thread::sleep(Duration::from_millis(2));
    }
    assert!(answered > 0);
    assert_eq!(node.wait().code(), Some(0));
}
