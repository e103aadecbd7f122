//! `top` in a terminal of the test's own, which `script` of util-linux makes.

use super::{Crowd, Node, config, run, words};
use crate::rig::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

/// What puts the screen from before aside, and what brings it back.
const ASIDE: &str = "\u{1b}[?1049h";
const BACK: &str = "\u{1b}[?1049l";
/// Draws all of it again: only what changed is drawn otherwise.
const DRAW: &str = "\u{c}";

/// `top` under a terminal of 100 x 30.
struct Shown {
    script: Child,
    keys: ChildStdin,
    bytes: Receiver<Vec<u8>>,
    all: String,
}

impl Shown {
    /// None: there is no `script` here.
    fn start(node: &Node) -> Option<Self> {
        let top = format!(
            "stty rows 30 cols 100; {} top --addr {}; echo code=$?; stty -a",
            env!("CARGO_BIN_EXE_butterfly"),
            node.addr_text()
        );
        let started = Command::new("script")
            .args(["-q", "-f", "-c", &top, "/dev/null"])
            .envs([("TERM", "xterm-256color"), ("LC_ALL", "C.UTF-8"), ("SHELL", "/bin/sh")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut script = match started {
            Err(why) if why.kind() == ErrorKind::NotFound => {
                eprintln!("not run: script is missing; apt-get install bsdutils");
                return None;
            }
            started => started.expect("script runs"),
        };
        let keys = script.stdin.take().expect("piped");
        let mut out = script.stdout.take().expect("piped");
        let (tell, bytes) = mpsc::channel();
        thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(len) = out.read(&mut some) {
                if len == 0 || tell.send(some[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Some(Self { script, keys, bytes, all: String::new() })
    }

    /// Reads on until this was shown since `from`. Where nothing comes, all of it is drawn again.
    fn await_text(&mut self, from: usize, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.all.get(from..).unwrap_or_default().contains(part) {
            assert!(Instant::now() < deadline, "no {part:?} in {:?}", &self.all);
            match self.bytes.recv_timeout(Duration::from_millis(300)) {
                Ok(some) => self.all.push_str(&String::from_utf8_lossy(&some)),
                Err(_) => {
                    self.press(DRAW);
                }
            }
        }
    }

    /// Where what comes after these keys begins.
    fn press(&mut self, keys: &str) -> usize {
        // One that has ended is noticed by what it does not show.
        let _ = self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush());
        self.all.len()
    }

    /// The program under `script` and its shell.
    fn top(&self) -> Pid {
        let below = |pid: u32| {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().next().and_then(|pid| pid.parse().ok())
        };
        let shell = below(self.script.id()).expect("a shell");
        let top: u32 = below(shell).expect("the program");
        Pid::from_raw(top.cast_signed()).expect("a process")
    }

    /// Waits for its good end: the screen from before is back, and lines are read by lines.
    fn end(mut self) {
        self.await_text(0, BACK);
        self.await_text(0, "code=0");
        self.await_text(0, " icanon");
        self.await_text(0, " echo ");
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn top_without_a_terminal_says_what_to_use() {
    let output = run(&["top"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("butterfly status --json"), "{}", words(&output));
}

#[test]
fn top_leads_from_sectors_to_an_agent_and_gives_the_terminal_back() {
    let node = Node::start(&["--name", "hall-1"]);
    let _crowd = Crowd::at(&node, config(&node, 40));
    let Some(mut shown) = Shown::start(&node) else { return };
    for part in [ASIDE, "hall-1", "S00"] {
        shown.await_text(0, part);
    }
    for part in ["C00", "S00-C00-A0", "reliability"] {
        let from = shown.press("\r");
        shown.await_text(from, part);
    }
    let from = shown.press("?");
    shown.await_text(from, "keys");
    shown.press("xq");
    shown.end();
}

#[test]
fn top_says_that_the_node_is_lost_and_a_signal_gives_the_terminal_back() {
    let node = Node::start(&[]);
    let Some(mut shown) = Shown::start(&node) else { return };
    shown.await_text(0, ASIDE);
    shown.await_text(0, "ready");
    node.signal(Signal::KILL);
    let from = shown.all.len();
    shown.await_text(from, "LOST");
    kill_process(shown.top(), Signal::TERM).expect("it runs");
    shown.end();
}
