//! What is kept lasts: over kills at any moment, over a disk that refuses, and over a file whose
//! bytes are not what was written. A registry that is wrong and looks right must never come of it.

use crate::{
    mesh::crowd::{Crowd, config, gather},
    rig::{Folder, Node, run},
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

const SNAPSHOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshot");
const GATHERS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("gathers");
/// What a damaged file is told from a sound one by.
const PAGE: usize = 4_096;

/// Results of gathers by their ids.
type Gathers = BTreeMap<[u8; 16], Vec<u8>>;

/// The exit code of the proof of a file; `None` where the proving process died of it.
fn prove(file: &Path) -> Option<i32> {
    run(&["prove-state", file.to_str().expect("text")]).status.code()
}

/// All that a sound file says: the registry's snapshot and the results of gathers.
fn contents(file: &Path) -> (Option<Vec<u8>>, Gathers) {
    let db = Database::open(file).expect("sound");
    let read = db.begin_read().expect("reads");
    let snapshot = read
        .open_table(SNAPSHOT)
        .ok()
        .and_then(|table| table.get("latest").expect("reads").map(|bytes| bytes.value().to_vec()));
    let gathers = read.open_table(GATHERS).map_or_else(
        |_| BTreeMap::new(),
        |table| {
            let rows = table.iter().expect("reads").map(|row| row.expect("reads"));
            rows.map(|(id, report)| (id.value(), report.value().to_vec())).collect()
        },
    );
    (snapshot, gathers)
}

fn dice(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

struct State {
    _folder: Folder,
    dir: String,
    file: PathBuf,
}

impl State {
    fn new() -> Self {
        let folder = Folder::new();
        let dir = folder.file("state");
        let file = dir.join("mesh.redb");
        Self { _folder: folder, dir: dir.to_str().expect("text").to_owned(), file }
    }

    fn node(&self) -> Node {
        Node::start(&["--state", &self.dir])
    }
}

#[test]
fn a_node_killed_at_any_moment_finds_all_that_it_had_written() {
    let state = State::new();
    let mut seed = 0x9E37_79B9_7F4A_7C15;
    let mut known = BTreeMap::new();
    for _ in 0..8 {
        let node = state.node();
        for _ in 0..dice(&mut seed) % 4 {
            gather(&node, &["--window", "10ms"]);
        }
        // Some of the last writes are under way.
        thread::sleep(Duration::from_micros(dice(&mut seed) % 3_000));
        node.signal(Signal::KILL);
        node.wait();
        assert_eq!(prove(&state.file), Some(0));
        let (_, now) = contents(&state.file);
        for (id, report) in &known {
            assert_eq!(now.get(id), Some(report), "what was there once stays as it was");
        }
        known = now;
    }
    assert!(!known.is_empty());
}

/// One way in which bytes go bad. `older` is the same file at an earlier moment.
fn spoil(bytes: &mut Vec<u8>, older: &[u8], seed: &mut u64) {
    let len = bytes.len();
    let page = dice(seed) as usize % (len / PAGE);
    let range = page * PAGE..(page + 1) * PAGE;
    match dice(seed) % 6 {
        0 => bytes.truncate(dice(seed) as usize % len),
        1 => bytes[range].fill(0),
        // Pages that the disk never wrote, though it said so.
        2 => {
            if let Some(old) = older.get(range.clone()) {
                bytes[range].copy_from_slice(old);
            }
        }
        3 => bytes[page * PAGE..].fill(0xFF),
        _ => {
            for _ in 0..1 + dice(seed) % 4 {
                bytes[dice(seed) as usize % len] ^= 1 << (dice(seed) % 8);
            }
        }
    }
}

#[test]
fn a_torn_or_rotten_file_is_opened_right_or_not_at_all() {
    let state = State::new();
    let node = state.node();
    let crowd = Crowd::at(&node, config(&node, 20));
    gather(&node, &[]);
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    drop(crowd);
    let (older, first) = (fs::read(&state.file).expect("reads"), contents(&state.file));
    let node = state.node();
    gather(&node, &["--window", "10ms"]);
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    let (newer, second) = (fs::read(&state.file).expect("reads"), contents(&state.file));
    assert!(first.0.is_some() && second.1.len() > first.1.len());
    let mut seed = 0x0123_4567_89AB_CDEF;
    let (mut sound, mut refused) = (0, 0);
    let victim = state.file.with_file_name("victim");
    for round in 0..60 {
        let mut bytes = newer.clone();
        spoil(&mut bytes, &older, &mut seed);
        fs::write(&victim, &bytes).expect("writes");
        if prove(&victim) == Some(0) {
            sound += 1;
            // Bytes that nothing refers to, or the state of one commit or another: every record as
            // it was written, and the snapshot one that was.
            let (snapshot, gathers) = contents(&victim);
            let known = |it: &Option<Vec<u8>>| it.is_none() || *it == first.0 || *it == second.0;
            assert!(known(&snapshot), "round {round}");
            for (id, report) in &gathers {
                assert_eq!(second.1.get(id), Some(report), "round {round}");
            }
        } else {
            refused += 1;
        }
    }
    assert!(sound > 0 && refused > 10, "{sound} sound, {refused} refused");
}

#[test]
fn a_damaged_file_is_set_aside_with_a_word_and_the_node_serves() {
    let state = State::new();
    fs::create_dir_all(&state.dir).expect("creates");
    fs::write(&state.file, vec![3; 4 * PAGE]).expect("writes");
    let node = state.node();
    let note = node.await_note("damaged");
    let aside = note.split_whitespace().find(|word| word.contains("mesh.redb.damaged-"));
    let aside = aside.expect("named").trim_end_matches([',', ';']);
    assert_eq!(fs::read(aside).expect("kept"), vec![3; 4 * PAGE]);
    let metrics = node.metrics();
    assert_eq!(metrics.total("butterfly_mesh_state_set_aside_total"), Some(1));
    assert_eq!(metrics.total("butterfly_mesh_state_works"), Some(1));
    gather(&node, &["--window", "10ms"]);
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    assert_eq!(prove(&state.file), Some(0));
}

#[test]
fn a_disk_that_takes_no_more_costs_the_state_and_not_the_node() {
    let state = State::new();
    let node = state.node();
    node.await_total("butterfly_mesh_state_works", 1);
    let pid = Pid::from_raw(node.id()).expect("a process");
    let limit = |bytes| {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(pid), Resource::Fsize, limit).expect("its own child");
    };
    // What a full disk is to a file: it cannot grow, nor can its pages be written.
    limit(Some(0));
    gather(&node, &["--window", "10ms"]);
    let note = node.await_note("cannot keep the mesh's state");
    assert!(note.contains(&state.dir) && note.contains("goes on"), "{note}");
    node.await_total("butterfly_mesh_state_failures_total", 1);
    assert_eq!(node.metrics().total("butterfly_mesh_state_works"), Some(0));
    // It serves: the next gather has its report.
    gather(&node, &["--window", "10ms"]);
    limit(None);
    node.await_note("kept again");
    node.await_total("butterfly_mesh_state_works", 1);
    let before = node.metrics().total("butterfly_mesh_state_writes_total");
    gather(&node, &["--window", "10ms"]);
    node.await_total("butterfly_mesh_state_writes_total", before.map_or(1, |n| n + 1));
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    assert_eq!(prove(&state.file), Some(0));
}
