//! Workers' health with real nodes: all well, one that does not move, one that computes wrongly.

use crate::rig::{Folder, Node, Raw, butterfly, request, strike};
use dataplane_core::{
    canary::Canary,
    stats::names::{self, Kind},
};
use link::{
    Lent, Segment, WorkerSide,
    door::Door,
    hello::{Answer, receive_offer, send_answer},
};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
    process::{Signal, getpid},
};
use std::{
    collections::BTreeSet, fs, io, os::fd::AsFd, os::unix::fs::PermissionsExt, path::PathBuf,
    sync::Arc, thread, time::Duration,
};
use wire::{
    Dtype, HEADER_LEN, Kind as Type, Outcome,
    payload::{Number, TensorWork},
    reply::{self, Author, Layout, Stamp},
};

/// Rounds as often as a node allows.
const OFTEN: [&str; 2] = ["--health-every", "250ms"];
/// Wanted of the figures of health.
const CHECKS: [&str; 8] =
    ["reachable", "canary_echo", "canary_topk", "canary_int8", "latency", "cpu", "memory", "gpu"];

fn node(more: &[&str]) -> Node {
    Node::start(&[&OFTEN[..], more].concat())
}

fn healthy(node: &Node, worker: usize) -> bool {
    node.counted("butterfly_worker_healthy", "worker", &format!("worker-{worker}")) == 1
}

/// Sends so many requests one after the other; all must be answered.
fn ask(raw: &mut Raw, count: u64) {
    let rows = [1; 4 << 10];
    for id in 1..=count {
        raw.send(&request(id, TensorWork::topk(Dtype::F32, 1, 1 << 10, 8, Dtype::F32), &rows));
        let frame = raw.frame().expect("an answer");
        assert_eq!((frame.header.message_id(), frame.header.kind()), (id, Ok(Type::QueryResponse)));
    }
}

#[test]
fn health_05_all_is_well_and_each_check_is_shown() {
    let node = node(&["--workers", "2"]);
    node.await_that("both are healthy", || healthy(&node, 0) && healthy(&node, 1));
    node.await_count("butterfly_health_canaries_total", "result", "right", 20);
    // A share of CPU needs two looks.
    let shown = || {
        let metrics = node.metrics();
        let checks = metrics.metrics.iter().filter(|it| it.name == "butterfly_worker_check");
        checks
            .filter(|it| it.value == Number::Count(1))
            .map(|it| (it.labels["worker"].clone(), it.labels["check"].clone()))
            .collect::<BTreeSet<_>>()
    };
    let all = ["worker-0", "worker-1"]
        .iter()
        .flat_map(|worker| CHECKS.iter().map(|check| ((*worker).to_owned(), (*check).to_owned())));
    let all: BTreeSet<_> = all.collect();
    node.await_that("every check is there and holds", || shown() == all);
    let metrics = node.metrics();
    // Canaries are no requests.
    for name in ["butterfly_requests_total", "butterfly_replies_total", "butterfly_batches_total"] {
        assert_eq!(metrics.total(name), Some(0), "{name}");
    }
    assert_eq!(metrics.total("butterfly_link_faults_total"), Some(0));
    let took = metrics.metrics.iter().filter(|it| it.name == "butterfly_worker_canary_seconds");
    assert_eq!(took.count(), 2 * Canary::ALL.len());
    for worker in ["worker-0", "worker-1"] {
        let resident = node.counted("butterfly_worker_resident_bytes", "worker", worker);
        assert!(resident > 1 << 20, "{resident}");
    }
    ask(&mut node.raw(), 10);
    assert_eq!(node.metrics().total("butterfly_replies_total"), Some(10));
}

#[test]
fn health_01_a_stopped_worker_is_unreachable_and_gets_nothing_until_it_is_back() {
    let node = node(&["--workers", "2", "--worker-timeout", "600s"]);
    node.await_that("both are healthy", || healthy(&node, 0) && healthy(&node, 1));
    let stopped = node.workers()[0];
    strike(stopped, Signal::STOP);
    let note = node.await_note("is unhealthy: no sign of life");
    node.await_that("one is healthy", || healthy(&node, 0) != healthy(&node, 1));
    // A batch for the stopped one would not come back.
    ask(&mut node.raw(), 50);
    let metrics = node.metrics();
    assert_eq!(metrics.total("butterfly_worker_starts_total"), Some(2), "it was not replaced");
    assert_eq!(metrics.total("butterfly_reclaimed_total"), Some(0));
    strike(stopped, Signal::CONT);
    let worker = note.split("worker ").nth(1).and_then(|rest| rest.split(' ').next());
    let worker = worker.expect("its number");
    node.await_note(&format!("worker {worker} is healthy again"));
    node.await_that("both are healthy", || healthy(&node, 0) && healthy(&node, 1));
}

#[test]
fn health_05_where_all_ail_they_go_on() {
    let node = node(&["--workers", "1", "--worker-timeout", "600s", "--queue-target", "60s"]);
    node.await_that("it is healthy", || healthy(&node, 0));
    let worker = node.workers()[0];
    strike(worker, Signal::STOP);
    node.await_note("is unhealthy: no sign of life");
    let mut raw = node.raw();
    let work = TensorWork::topk(Dtype::F32, 1, 1 << 10, 8, Dtype::F32);
    raw.send(&request(1, work, &[1; 4 << 10]));
    node.await_total("butterfly_batches_total", 1);
    strike(worker, Signal::CONT);
    let frame = raw.frame().expect("the answer of an ailing worker");
    assert_eq!(frame.header.kind(), Ok(Type::QueryResponse));
}

/// Set where this program is to be a worker that lies.
const LIAR: &str = "BUTTERFLY_TEST_LIAR";

/// A program that is this file's liar while `lie` exists, and an honest worker otherwise.
fn program(folder: &Folder) -> (PathBuf, PathBuf) {
    let (program, lie) = (folder.file("worker.sh"), folder.file("lie"));
    let own = std::env::current_exe().expect("this test");
    let honest = butterfly().get_program().to_owned();
    let text = format!(
        "#!/bin/sh\nif [ -e '{}' ]; then {LIAR}=1 exec '{}' --exact --nocapture \
         health::liar_process; fi\nexec '{}' \"$@\"\n",
        lie.display(),
        own.display(),
        honest.display(),
    );
    fs::write(&program, text).expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("that runs");
    fs::write(&lie, "").expect("a word");
    (program, lie)
}

#[test]
fn health_02_a_worker_that_computes_wrongly_is_found_by_its_canary_and_replaced() {
    let folder = Folder::new();
    let (program, lie) = program(&folder);
    let program = program.display().to_string();
    let node = node(&["--workers", "1", "--worker-program", &program]);
    node.await_note("answered canary");
    node.await_count("butterfly_worker_ends_total", "cause", "lied", 1);
    node.await_count("butterfly_health_canaries_total", "result", "wrong", 1);
    assert_eq!(node.metrics().total("butterfly_requests_total"), Some(0), "no client had asked");
    fs::remove_file(&lie).expect("it is there");
    node.await_that("an honest one is healthy", || healthy(&node, 0));
    ask(&mut node.raw(), 5);
}

/// No test of its own: the process of a worker whose frames are sound and whose numbers are all
/// zero, when it is started as one.
#[test]
fn liar_process() {
    if std::env::var_os(LIAR).is_none() {
        return;
    }
    let control = io::stdin();
    let control = control.as_fd();
    let offer = receive_offer(control).expect("an offer");
    let segment = Arc::new(Segment::attach(offer.files).expect("a segment"));
    let doors = offer.shards.into_iter().map(Door::from_fd).collect();
    let side = WorkerSide::new(&segment, offer.worker, Door::from_fd(offer.door), doors);
    let ready = Answer::Ready {
        pid: getpid().as_raw_nonzero().get().cast_unsigned(),
        operations: u32::MAX,
        sandbox: 0,
        backend: "cpu".to_owned(),
        text: "computes zeros".to_owned(),
    };
    send_answer(control, &ready).expect("the node listens");
    let is_there = || {
        let heard = recv(control, &mut [0_u8; 8], RecvFlags::DONTWAIT);
        matches!(heard, Err(Errno::AGAIN | Errno::INTR))
    };
    let mut batch = Vec::new();
    let mut author = Author::new("worker-0", "cpu", "computes zeros");
    while is_there() {
        side.beat();
        side.next_batch(256, &mut batch).expect("the node keeps its word");
        for lent in batch.drain(..) {
            zeros(lent, &mut author);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Answers an order in due form.
fn zeros(mut lent: Lent<'_>, author: &mut Author) {
    let (work, message_id) = (lent.order().work().expect("sound work"), lent.order().message_id);
    let chunk = reply::chunks(&work).next().expect("a chunk");
    let layout = Layout::of(&work, &chunk).expect("a layout");
    let (payload, reply) = lent.parts().expect("both areas");
    reply[HEADER_LEN..HEADER_LEN + layout.end()].fill(0);
    let stamp = Stamp {
        message_id,
        timestamp_ns: 1,
        query_id: wire::request::query_id(payload),
        operation: work.operation,
        compute_ns: 1,
        chunk,
    };
    let len = reply::finish(reply, &layout, author, &stamp).expect("room");
    let outcome = Outcome { frames: 1, reply_len: len as u32, ..Outcome::default() };
    lent.complete(outcome).expect("the node keeps its word");
}

#[test]
fn metr_08_every_series_of_a_node_has_an_entry_with_its_kind_and_labels() {
    let folder = Folder::new();
    let state = folder.file("state").display().to_string();
    let node = node(&["--state", &state]);
    node.await_that("it is healthy", || healthy(&node, 0));
    let metrics = node.metrics();
    assert!(metrics.metrics.len() > 200);
    for metric in metrics.metrics.iter().filter(|it| it.name != "butterfly_info") {
        let known = names::find(&metric.name);
        let known = known.unwrap_or_else(|| panic!("{} has no entry", metric.name));
        let mut keys: BTreeSet<&str> = metric.labels.keys().map(String::as_str).collect();
        assert_eq!(keys.remove("le"), metric.name.ends_with("_bucket"), "{}", metric.name);
        assert_eq!(keys, known.labels.iter().copied().collect(), "{}", metric.name);
        if known.kind == Kind::Histogram {
            assert_ne!(known.name, metric.name, "a histogram travels in its parts");
        }
    }
}
