//! Real nodes for tests: the built binary, started on free ports, awaited by its own words, killed
//! on drop.

mod raw;

pub(crate) use raw::{Raw, request};

use client::{Addr, Client, Metrics, Options};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

/// No test waits longer than this for something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Small enough for several nodes at a time on a small machine.
const SMALL: [&str; 12] = [
    "--shards",
    "1",
    "--workers",
    "1",
    "--poll",
    "frugal",
    "--small-slots",
    "64",
    "--bulk-slots",
    "8",
    "--recv-buffers",
    "64",
];

/// The program under test.
pub(crate) fn butterfly() -> Command {
    Command::new(env!("CARGO_BIN_EXE_butterfly"))
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    butterfly().args(args).output().expect("the binary runs")
}

/// Standard error as text.
pub(crate) fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file of the samples.
pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/samples").join(name)
}

/// A folder of its own, removed on drop.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "butterfly-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("temporary folder");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    out: Receiver<String>,
    errors: Receiver<String>,
    /// `tcp ADDR` and `unix PATH`, in the order of the flags.
    pub(crate) places: Vec<String>,
    /// Where its page is, as `127.0.0.1:7180`.
    pub(crate) page: Option<SocketAddr>,
    /// Everything it printed before it was ready.
    pub(crate) preface: Vec<String>,
}

/// Lines of a pipe, read on a thread so that a pipe never fills up.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

impl Node {
    /// A small node with these flags; it listens on a free port of 127.0.0.1 unless they say
    /// otherwise.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(args, &[])
    }

    /// The same, with these variables set for the node and its workers.
    pub(crate) fn start_in(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = butterfly();
        command.envs(variables.iter().copied());
        command.arg("serve");
        for pair in SMALL.chunks(2) {
            if !args.contains(&pair[0]) {
                command.args(pair);
            }
        }
        if !args.contains(&"--listen") && !args.contains(&"--uds") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = command
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let out = lines(child.stdout.take().expect("piped"));
        let errors = lines(child.stderr.take().expect("piped"));
        let (places, preface) = (Vec::new(), Vec::new());
        let mut node = Self { child, out, errors, places, page: None, preface };
        loop {
            let Ok(line) = node.out.recv_timeout(PATIENCE) else {
                let said: Vec<String> = node.errors.try_iter().collect();
                panic!("the node did not become ready: {said:?}, before: {:?}", node.preface);
            };
            if let Some(page) = line.strip_prefix("listening http http://") {
                node.page = page.strip_suffix('/').and_then(|page| page.parse().ok());
            } else if let Some(place) = line.strip_prefix("listening ") {
                node.places.push(place.to_owned());
            }
            let ready = line.starts_with("ready");
            node.preface.push(line);
            if ready {
                return node;
            }
        }
    }

    /// Where the first place is, for a client.
    pub(crate) fn addr(&self) -> Addr {
        self.addr_of(0)
    }

    /// Where a place is, for a client.
    pub(crate) fn addr_of(&self, index: usize) -> Addr {
        let (_, place) = self.places[index].split_once(' ').expect("kind and place");
        place.parse().expect("an address")
    }

    /// The first place as it is given to `--addr`.
    pub(crate) fn addr_text(&self) -> String {
        self.addr().to_string()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.addr(), Options::default()).expect("connects")
    }

    pub(crate) fn raw(&self) -> Raw {
        Raw::connect(&self.addr())
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.client().metrics().expect("figures")
    }

    /// How often a reason was counted.
    pub(crate) fn refusals(&self, reason: &str) -> u64 {
        self.counted("butterfly_refusals_total", "reason", reason)
    }

    pub(crate) fn counted(&self, name: &str, label: &str, value: &str) -> u64 {
        self.metrics().by_label(name, label).get(value).copied().unwrap_or(0)
    }

    /// Waits until a counter has at least this value.
    pub(crate) fn await_count(&self, name: &str, label: &str, value: &str, least: u64) {
        let what = format!("{name} {value} stays under {least}");
        self.await_that(&what, || self.counted(name, label, value) >= least);
    }

    /// Waits until all counters of this name together have at least this value.
    pub(crate) fn await_total(&self, name: &str, least: u64) {
        let what = format!("{name} stays under {least}");
        self.await_that(&what, || self.metrics().total(name) >= Some(least));
    }

    /// Counters can only be asked for again and again.
    pub(crate) fn await_that(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !holds() {
            assert!(std::time::Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The next line of standard output with this in it.
    pub(crate) fn await_line(&self, part: &str) -> String {
        loop {
            match self.out.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(error) => panic!("no line with `{part}`: {error}"),
            }
        }
    }

    /// The next line of standard error with this in it.
    pub(crate) fn await_note(&self, part: &str) -> String {
        loop {
            match self.errors.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(error) => panic!("no note with `{part}`: {error}"),
            }
        }
    }

    /// The process ids of the workers that run now.
    pub(crate) fn workers(&self) -> Vec<Pid> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    /// The process number.
    pub(crate) fn id(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the node runs");
    }

    /// Waits until the node has ended by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "the node does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a worker, or stops it.
pub(crate) fn strike(worker: Pid, signal: Signal) {
    // It may have gone by itself meanwhile.
    let _ = kill_process(worker, signal);
}
