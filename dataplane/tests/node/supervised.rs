//! A node under a supervisor that speaks systemd's protocol, which the tests play.

use crate::{
    handover::Pool,
    rig::{Folder, Node, PATIENCE, butterfly, words},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

/// The supervisor's end: a socket in a folder.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(folder: &Folder) -> Self {
        let path = folder.file("notify");
        let socket = UnixDatagram::bind(&path).expect("binds");
        socket.set_read_timeout(Some(PATIENCE)).expect("a switch");
        Self { socket, path }
    }

    fn name(&self) -> &str {
        self.path.to_str().expect("text")
    }

    /// The next message with this line in it.
    fn await_line(&self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut bytes = [0; 1024];
            let got = self.socket.recv(&mut bytes).expect("a message comes");
            let text = String::from_utf8_lossy(&bytes[..got]).into_owned();
            if text.lines().any(|one| one.starts_with(line)) {
                return text;
            }
            assert!(Instant::now() < deadline, "no {line}");
        }
    }

    /// Everything that has come by now.
    fn so_far(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("a switch");
        let mut bytes = [0; 1024];
        let mut all = Vec::new();
        while let Ok(got) = self.socket.recv(&mut bytes) {
            all.push(String::from_utf8_lossy(&bytes[..got]).into_owned());
        }
        self.socket.set_nonblocking(false).expect("a switch");
        all
    }
}

/// What a message says of one name.
fn value<'a>(message: &'a str, name: &str) -> &'a str {
    let line = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name} in {message}"))
}

/// A process that nobody here is the parent of, ended with the test.
struct Orphan(Pid);

impl Orphan {
    fn is_gone(&self) -> bool {
        // Of a process that ended, init may not have taken the status yet.
        fs::read_to_string(format!("/proc/{}/stat", self.0))
            .map_or(true, |stat| stat.contains(") Z"))
    }

    fn end(&self) {
        kill_process(self.0, Signal::TERM).expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        while !self.is_gone() {
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[test]
fn ops_a_supervisor_hears_that_the_node_serves_lives_and_ends() {
    let folder = Folder::new();
    let manager = Manager::new(&folder);
    let watched = [("NOTIFY_SOCKET", manager.name()), ("WATCHDOG_USEC", "400000")];
    let node = Node::start_in(&[], &watched);
    let ready = manager.await_line("READY=1");
    assert!(value(&ready, "STATUS").starts_with("serving: 1 shard, 1 worker"), "{ready}");
    assert!(!ready.contains("MAINPID"), "it is the service's process already: {ready}");
    for _ in 0..3 {
        manager.await_line("WATCHDOG=1");
    }
    // Workers are not the service's voice.
    for worker in node.workers() {
        let environment = fs::read(format!("/proc/{worker}/environ")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"));
    }
    node.signal(Signal::TERM);
    assert_eq!(value(&manager.await_line("STOPPING=1"), "STATUS"), "draining");
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn ops_a_supervisor_that_is_not_there_is_no_reason_not_to_serve() {
    let node = Node::start_in(&[], &[("NOTIFY_SOCKET", "/nowhere/at/all")]);
    node.await_note("not supervised");
    node.client().ping().expect("serves");
}

/// Flags of a node that can be taken over.
fn flags(folder: &Folder) -> Vec<String> {
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (door, state) = (text(&folder.file("door")), text(&folder.file("state")));
    ["--listen", "127.0.0.1:0", "--shards", "1", "--handover", &door, "--state", &state]
        .map(str::to_owned)
        .to_vec()
}

#[test]
fn ops_05_a_reload_takes_up_other_settings_under_load_and_the_service_follows() {
    let folder = Folder::new();
    let manager = Manager::new(&folder);
    let flags = flags(&folder);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let variables = [("NOTIFY_SOCKET", manager.name())];
    let node = Node::start_in(&flags, &variables);
    manager.await_line("READY=1");
    let load = Pool::start(&node.addr());
    load.until(&load.answers, 20);
    // What a unit's ExecReload does.
    let small = ["--workers", "1", "--poll", "frugal", "--small-slots", "64"];
    let reload = butterfly()
        .arg("handover")
        .args([&flags[..], &small[..]].concat())
        .envs(variables)
        .stdout(std::process::Stdio::null())
        .status()
        .expect("the binary runs");
    assert_eq!(reload.code(), Some(0), "it returns once the new node serves");
    let ready = manager.await_line("MAINPID=");
    assert!(ready.contains("READY=1"), "{ready}");
    let main = value(&ready, "MAINPID").parse().ok().and_then(Pid::from_raw);
    let successor = Orphan(main.expect("a process"));
    assert_ne!(successor.0.as_raw_nonzero().get(), node.id(), "another process");
    load.until(&load.left, 4);
    node.await_line("drained");
    assert_eq!(node.wait().code(), Some(0));
    let said = manager.so_far();
    assert!(said.iter().all(|one| !one.contains("STOPPING")), "the service goes on: {said:?}");
    load.until(&load.answers, load.answers.load(Relaxed) + 20);
    load.finish();
    successor.end();
    manager.await_line("STOPPING=1");
}

#[test]
fn ops_a_reload_that_cannot_be_done_says_why_and_changes_nothing() {
    let folder = Folder::new();
    let flags = flags(&folder);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let handover = |more: &[&str]| {
        let asked = butterfly().arg("handover").args(&flags).args(more).output();
        asked.expect("the binary runs")
    };
    let nobody = handover(&[]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(words(&nobody).contains("no node runs at"), "{}", words(&nobody));
    let node = Node::start(&flags);
    let broken = handover(&["--worker-program", "/bin/false", "--workers", "1"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(words(&broken).contains("serves on"), "{}", words(&broken));
    let wrong = handover(&["--batch-size", "0"]);
    assert_eq!(wrong.status.code(), Some(2), "refused before anything is started");
    node.await_note("serving on");
    node.client().ping().expect("serves on");
    let unnamed = butterfly().arg("handover").output().expect("the binary runs");
    assert!(words(&unnamed).contains("--handover PATH"), "{}", words(&unnamed));
}
