//! Workers that die, hang or do not fit: every request gets exactly one answer, whatever happens to
//! them.

use crate::rig::{Folder, Node, PATIENCE, Raw, butterfly, request, strike};
use link::{
    Files,
    hello::{Answer, Offer, receive_answer, send_offer},
};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    process::Signal,
};
use std::{
    collections::HashMap,
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use wire::{Dtype, Kind, payload::TensorWork};

/// Sends `count` requests, at most `depth` under way, and counts the answers of each. Returns
/// refusals.
fn load(raw: &mut Raw, count: u64, depth: u64) -> u64 {
    let rows = vec![1; 64 << 10];
    let mut answers: HashMap<u64, u32> = HashMap::new();
    let mut refused = 0;
    let mut sent = 0;
    while answers.len() < count as usize {
        while sent < count && sent - (answers.len() as u64) < depth {
            raw.send(&request(
                sent,
                TensorWork::topk(Dtype::F32, 1, 16 << 10, 8, Dtype::F32),
                &rows,
            ));
            sent += 1;
        }
        let frame = raw.frame().expect("the connection survives its workers");
        *answers.entry(frame.header.message_id()).or_default() += 1;
        refused += u64::from(frame.header.kind() == Ok(Kind::ErrorReport));
    }
    assert!(answers.values().all(|count| *count == 1), "exactly one answer each");
    assert!((0..count).all(|id| answers.contains_key(&id)));
    raw.lives();
    refused
}

/// Requests may wait for as long as it takes to replace a worker; by default the node would rather
/// refuse them.
const PATIENT: &str = "--queue-target=60s";

#[test]
fn workers_killed_under_load_lose_no_request() {
    let node = Node::start(&["--workers", "2", PATIENT]);
    let stop = Arc::new(AtomicBool::new(false));
    let (mut raw, stopped) = (node.raw(), Arc::clone(&stop));
    let loader = thread::spawn(move || {
        let mut refused = 0;
        let mut rounds = 0;
        while !stopped.load(Ordering::Relaxed) || rounds == 0 {
            refused += load(&mut raw, 200, 8);
            rounds += 1;
        }
        refused
    });
    // Each kill waits for its victim to be replaced, so that there is always one to kill.
    for round in 1..=6 {
        let victim = loop {
            match node.workers().first() {
                Some(worker) => break *worker,
                None => thread::yield_now(),
            }
        };
        strike(victim, Signal::KILL);
        // A victim that was still starting counts by another cause.
        node.await_total("butterfly_worker_ends_total", round);
    }
    stop.store(true, Ordering::Relaxed);
    let refused = loader.join().expect("no request lost");
    // A request that meets three dying workers may be refused; these were killed one at a time.
    assert_eq!(refused, 0);
    let metrics = node.metrics();
    assert_eq!(metrics.total("butterfly_link_faults_total"), Some(0));
    assert!(metrics.total("butterfly_worker_starts_total") >= Some(8));
}

#[test]
fn a_worker_that_hangs_is_replaced_and_its_requests_are_run_again() {
    let node = Node::start(&["--workers", "1", "--worker-timeout", "500ms", PATIENT]);
    let worker = node.workers()[0];
    let mut raw = node.raw();
    load(&mut raw, 4, 4);
    strike(worker, Signal::STOP);
    assert_eq!(load(&mut raw, 16, 16), 0);
    assert_eq!(node.counted("butterfly_worker_ends_total", "cause", "hung"), 1);
    assert!(node.metrics().total("butterfly_reclaimed_total") >= Some(1));
    assert_ne!(node.workers(), [worker]);
}

#[test]
fn without_load_a_hung_worker_is_found_too() {
    let node = Node::start(&["--workers", "1", "--worker-timeout", "200ms"]);
    strike(node.workers()[0], Signal::STOP);
    node.await_count("butterfly_worker_ends_total", "cause", "hung", 1);
    load(&mut node.raw(), 4, 2);
}

#[test]
fn an_idle_worker_is_left_alone() {
    let node = Node::start(&["--workers", "1", "--worker-timeout", "200ms"]);
    let worker = node.workers();
    let until = Instant::now() + Duration::from_secs(4);
    let mut raw = node.raw();
    while Instant::now() < until {
        raw.lives();
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(node.workers(), worker);
}

#[test]
fn a_node_that_is_killed_takes_its_workers_with_it() {
    let node = Node::start(&["--workers", "2"]);
    let workers = node.workers();
    assert_eq!(workers.len(), 2);
    node.signal(Signal::KILL);
    node.wait();
    let deadline = Instant::now() + PATIENCE;
    for worker in workers {
        while rustix::process::test_kill_process(worker).is_ok() {
            let stat = std::fs::read_to_string(format!("/proc/{worker}/stat"));
            // A zombie that nobody has reaped yet is as dead as can be.
            if stat.is_ok_and(|stat| stat.contains(") Z ")) {
                break;
            }
            assert!(Instant::now() < deadline, "worker {worker} lives on");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A sealed memfd with these bytes in front.
fn segment_like(head: &[u8]) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("not-a-segment", flags).expect("memfd"));
    file.set_len(1 << 20).expect("sized");
    file.seek(SeekFrom::Start(0)).expect("seeks");
    file.write_all(head).expect("writes");
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).expect("seals");
    file.into()
}

#[test]
fn a_segment_of_another_version_is_refused_by_the_worker_with_both_versions() {
    let layout = link::Layout {
        shards: 1,
        workers: 1,
        small_slots: 1,
        small_request: 64,
        small_reply: 64,
        bulk_slots: 1,
        bulk_request: 64,
        bulk_reply: 64,
    };
    let real = link::Segment::create(&layout).expect("a segment");
    let mut head = [0; 16];
    rustix::io::pread(real.files().segment, &mut head, 0).expect("reads");
    head[8..12].copy_from_slice(&999_u32.to_ne_bytes());
    for (bytes, expected) in [(&head[..], "999"), (b"nonsense", "not a butterfly segment")] {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut worker = butterfly()
            .arg("worker")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .expect("starts");
        let segment = segment_like(bytes);
        let door = link::door::Door::new().expect("a door");
        let offer = Offer {
            worker: 0,
            layout_hash: layout.hash(),
            files: Files { segment: segment.as_fd(), requests: segment.as_fd() },
            door: door.fd(),
            shards: vec![door.fd()],
            weights: None,
            basis: None,
        };
        send_offer(&ours, &offer).expect("sent");
        match receive_answer(&ours).expect("an answer") {
            Answer::Refused { reason } => assert!(reason.contains(expected), "{reason}"),
            Answer::Changed { .. } => panic!("not in a handshake"),
            ready @ Answer::Ready { .. } => panic!("{ready:?}"),
        }
        assert_eq!(worker.wait().expect("ends").code(), Some(3));
    }
}

#[test]
fn a_worker_started_by_hand_says_what_it_is() {
    let folder = Folder::new();
    let empty = folder.file("empty");
    std::fs::write(&empty, b"").expect("writes");
    let stdin = File::open(&empty).expect("opens");
    let output = butterfly().arg("worker").stdin(stdin).output().expect("runs");
    assert_eq!(output.status.code(), Some(4));
    assert!(crate::rig::words(&output).contains("butterfly serve"));
}

#[test]
fn cuda_without_a_device_is_refused_before_listening_and_auto_is_not() {
    let auto = Node::start(&["--backend", "auto"]);
    let backend = auto.metrics().fact("backend").map(str::to_owned);
    if backend.as_deref() == Some("cuda") {
        return;
    }
    let output = crate::rig::run(&["serve", "--listen", "127.0.0.1:0", "--backend", "cuda"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(crate::rig::words(&output).contains("--backend cpu"), "{}", crate::rig::words(&output));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("listening"));
}
