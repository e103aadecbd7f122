//! The node of a demonstration: the same program, started as `serve`, awaited by its own words.

use crate::failure::Failure;
use client::Addr;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStderr, Command, Stdio},
    thread::{self, JoinHandle},
};

/// Enough for the acts, small enough to be there at once.
const FLAGS: [&str; 10] = [
    "--listen",
    "127.0.0.1:0",
    "--http",
    "off",
    "--shards",
    "1",
    "--bulk-slots",
    "32",
    "--small-slots",
    "1024",
];

/// A running node. Dropped without [`Node::end`], it is killed.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    addr: Addr,
    /// What it says on standard error, for the case that it fails.
    words: Option<JoinHandle<String>>,
}

fn listen_to(stderr: Option<ChildStderr>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut stderr) = stderr {
            // What cannot be read cannot be shown; the exit status tells the rest.
            let _ = stderr.read_to_string(&mut text);
        }
        text
    })
}

impl Node {
    /// Starts it and waits until it serves.
    pub(crate) fn start() -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::setup)?;
        let mut child = Command::new(program)
            .arg("serve")
            .args(FLAGS)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::setup(format!("cannot start the node: {error}")))?;
        let words = Some(listen_to(child.stderr.take()));
        let mut out = BufReader::new(child.stdout.take().ok_or_else(|| Failure::setup("no pipe"))?);
        let mut addr = None;
        let mut line = String::new();
        loop {
            line.clear();
            if !matches!(out.read_line(&mut line), Ok(1..)) {
                let status = child.wait().map_err(Failure::setup)?;
                let words = words.and_then(|words| words.join().ok()).unwrap_or_default();
                let words = words.trim().to_owned();
                return Err(Failure::Setup(format!("the node did not start ({status}): {words}")));
            }
            if let Some(place) = line.trim().strip_prefix("listening tcp ") {
                addr = place.parse().ok();
            }
            if line.starts_with("ready") {
                break;
            }
        }
        // Its last words must find a reader, or they would end it.
        thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let addr = addr.ok_or_else(|| Failure::setup("the node named no address"))?;
        Ok(Self { child, addr, words })
    }

    /// Where it listens.
    pub(crate) const fn addr(&self) -> &Addr {
        &self.addr
    }

    /// Lets it drain and end.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).map_err(Failure::run)?;
        let status = self.child.wait().map_err(Failure::run)?;
        if status.success() {
            return Ok(());
        }
        let words = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        Err(Failure::run(format!("the node ended with {status}: {}", words.trim())))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // After `end` both find nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
