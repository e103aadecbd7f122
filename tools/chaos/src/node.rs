//! A real node under the rig's hand: started from the built program, awaited by its own words,
//! struck, and started again where it dies.

use client::{Addr, Client, Metrics, Options};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

/// Longest wait for a node to become ready.
const START_MAX: Duration = Duration::from_secs(60);
/// Last words that are kept.
const WORDS_MAX: usize = 200;

/// What a node is started with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The program `butterfly`.
    pub(crate) program: PathBuf,
    /// Flags of `serve` beside the addresses.
    pub(crate) flags: Vec<String>,
    /// The Unix socket, the same for every life.
    pub(crate) uds: PathBuf,
    /// Variables for the node and its workers.
    pub(crate) variables: Vec<(String, PathBuf)>,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    /// Where it listens.
    pub(crate) tcp: SocketAddr,
    uds: PathBuf,
    words: Arc<Mutex<Vec<String>>>,
}

/// Reads a pipe on a thread, so that it never fills up.
fn lines(from: impl Read + Send + 'static, mut each: impl FnMut(String) + Send + 'static) {
    thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).for_each(&mut each);
    });
}

impl Node {
    /// Starts a node and waits until it is ready.
    ///
    /// # Errors
    /// Why it does not become ready, with its last words.
    pub(crate) fn start(setup: &Setup, handover: Option<&Path>) -> Result<Self, String> {
        let mut command = Command::new(&setup.program);
        command.arg("serve").args(["--listen", "127.0.0.1:0"]).arg("--uds").arg(&setup.uds);
        if let Some(path) = handover {
            command.arg("--handover").arg(path);
        }
        command.envs(setup.variables.iter().map(|(name, value)| (name, value)));
        command.args(&setup.flags).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", setup.program.display()))?;
        let words = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&words);
        let (out, errors) = (child.stdout.take(), child.stderr.take());
        let keep = move |line| {
            let mut words = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if words.len() == WORDS_MAX {
                words.remove(0);
            }
            words.push(line);
        };
        errors.into_iter().for_each(|pipe| lines(pipe, keep.clone()));
        let (tell, told) = mpsc::channel();
        out.into_iter().for_each(|pipe| {
            let tell = tell.clone();
            // After the node is ready nobody listens any more, and the pipe is read on.
            lines(pipe, move |line| drop(tell.send(line)));
        });
        let tcp = match until_ready(&told) {
            Ok(tcp) => tcp,
            Err(why) => {
                let _ = child.kill();
                let _ = child.wait();
                let words = words.lock().unwrap_or_else(PoisonError::into_inner);
                return Err(format!("{why}; its last words: {words:?}"));
            }
        };
        Ok(Self { child, tcp, uds: setup.uds.clone(), words })
    }

    /// The process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its workers' processes, as they are now.
    pub(crate) fn workers(&self) -> Vec<Pid> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Sends a signal; a process that is gone meanwhile does not mind.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid(), signal);
    }

    /// Its counters; `None` where it does not answer.
    pub(crate) fn metrics(&self) -> Option<Metrics> {
        let options = Options { io_timeout: Some(Duration::from_secs(10)), ..Options::default() };
        Client::connect(&Addr::Unix(self.uds.clone()), options).ok()?.metrics().ok()
    }

    /// Its last words on standard error.
    pub(crate) fn words(&self) -> Vec<String> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Open descriptors of the process.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// Lets it open so many descriptors from now on; `None` for as many as it may.
    pub(crate) fn limit_descriptors(&self, limit: Option<u64>) {
        let now = rustix::process::getrlimit(Resource::Nofile);
        let current = limit.or(now.maximum);
        // A process that is gone needs no limit.
        let _ =
            prlimit(Some(self.pid()), Resource::Nofile, Rlimit { current, maximum: now.maximum });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until_ready(out: &Receiver<String>) -> Result<SocketAddr, String> {
    let deadline = Instant::now() + START_MAX;
    let mut tcp = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line =
            out.recv_timeout(left).map_err(|_| "the node did not become ready".to_owned())?;
        if let Some(place) = line.strip_prefix("listening tcp ") {
            tcp = place.parse().ok();
        }
        if line.starts_with("ready") {
            return tcp.ok_or_else(|| "the node is ready and does not say where".to_owned());
        }
    }
}

/// Kills a worker, stops it, or lets it go on; one that is gone meanwhile does not mind.
pub(crate) fn strike(worker: Pid, signal: Signal) {
    let _ = kill_process(worker, signal);
}
