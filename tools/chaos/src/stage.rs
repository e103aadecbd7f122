//! What a run plays on: a node that is started again when it dies, a bad network in front of it, a
//! disk that can be full, and workers that can be made to lie.

use crate::{
    liar::{self, Lie},
    node::{Node, Setup},
    proxy::Proxy,
};
use client::Addr;
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Bytes of the disk that the state directory lies on.
const DISK: &str = "size=16m";
/// Workers of the node.
pub(crate) const WORKERS: usize = 2;
/// How often the supervisor looks at the node.
const LOOK: Duration = Duration::from_millis(5);

/// A folder of its own, removed on drop, with a disk of its own in it where that can be had.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) folder: PathBuf,
    /// The state directory is a disk of its own.
    pub(crate) has_disk: bool,
}

fn command(line: &[&str]) -> bool {
    Command::new(line[0]).args(&line[1..]).output().is_ok_and(|output| output.status.success())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

impl Ground {
    /// Makes the folder.
    ///
    /// # Errors
    /// The OS's.
    pub(crate) fn new() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("chaos-{}", std::process::id()));
        let state = folder.join("state");
        fs::create_dir_all(&state)?;
        // Only root may; without it those kinds are left out.
        let has_disk = command(&["mount", "-t", "tmpfs", "-o", DISK, "chaos", text(&state)]);
        Ok(Self { folder, has_disk })
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Leaves no byte free on the disk.
    pub(crate) fn fill_disk(&self) {
        let Ok(mut file) = fs::File::create(self.state().join("filler")) else { return };
        let block = vec![0; 1 << 16];
        while io::Write::write_all(&mut file, &block).is_ok() {}
        while io::Write::write_all(&mut file, &block[..64]).is_ok() {}
    }

    pub(crate) fn free_disk(&self) {
        let _ = fs::remove_file(self.state().join("filler"));
    }

    /// Lets the disk be read only, or written again. False where something holds it open.
    pub(crate) fn write_protect(&self, protect: bool) -> bool {
        let how = if protect { "remount,ro" } else { "remount,rw" };
        command(&["mount", "-o", how, text(&self.state())])
    }

    /// Which lie new workers tell; `None` for the truth.
    pub(crate) fn set_lie(&self, lie: Option<Lie>) -> io::Result<()> {
        let file = self.folder.join("lie");
        match lie {
            Some(lie) => fs::write(file, lie.name()),
            None => fs::remove_file(file),
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.has_disk {
            // Lazily: what was killed a moment ago may still have a file open.
            command(&["umount", "-l", text(&self.state())]);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The program `butterfly` beside this one.
///
/// # Errors
/// Where it is missing, and how it is built.
pub(crate) fn butterfly() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let path = own.with_file_name("butterfly");
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is not there: cargo build --package dataplane first", path.display()))
}

/// How the node of a run is started.
///
/// # Errors
/// As [`butterfly`].
pub(crate) fn setup(ground: &Ground, flags: &[&str]) -> Result<Setup, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let workers = WORKERS.to_string();
    let state = ground.state();
    let own_text = text(&own).to_owned();
    let mut all: Vec<String> = [
        "--shards",
        "1",
        "--workers",
        &workers,
        "--backend",
        "cpu",
        "--poll",
        "frugal",
        "--worker-timeout",
        "1s",
        "--worker-patience",
        "3s",
        "--worker-program",
        &own_text,
        "--state",
        text(&state),
    ]
    .map(str::to_owned)
    .to_vec();
    all.extend(flags.iter().map(|flag| (*flag).to_owned()));
    Ok(Setup {
        program: butterfly()?,
        flags: all,
        uds: ground.folder.join("node.sock"),
        variables: vec![(liar::FILE.to_owned(), ground.folder.join("lie"))],
    })
}

/// The stage.
#[derive(Debug)]
pub(crate) struct Stage {
    // Ends before the ground goes from under it.
    node: Mutex<Node>,
    pub(crate) proxy: Proxy,
    pub(crate) ground: Ground,
    setup: Setup,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    /// The next end of the node is meant.
    doomed: AtomicBool,
    /// Times the node was started again.
    pub(crate) restarts: AtomicU64,
    /// What the node did that it must not.
    troubles: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Stage {
    /// Starts the node and what is around it.
    ///
    /// # Errors
    /// Why the node does not come up.
    pub(crate) fn new(ground: Ground, setup: Setup, seed: u64) -> Result<Arc<Self>, String> {
        let node = Node::start(&setup, None)?;
        let proxy = Proxy::start(node.tcp, seed).map_err(|error| error.to_string())?;
        let stage = Arc::new(Self {
            node: Mutex::new(node),
            proxy,
            ground,
            setup,
            supervisor: Mutex::default(),
            doomed: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
            troubles: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let watched = Arc::clone(&stage);
        let supervisor = thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || watched.supervise())
            .map_err(|error| error.to_string())?;
        *stage.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(supervisor);
        Ok(stage)
    }

    /// The node as it is now. Whoever holds it keeps the supervisor from looking.
    pub(crate) fn node(&self) -> MutexGuard<'_, Node> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where clients connect through the bad network.
    pub(crate) fn through_proxy(&self) -> Addr {
        let SocketAddr::V4(place) = self.proxy.place() else { unreachable!("127.0.0.1") };
        Addr::Tcp { host: place.ip().to_string(), port: place.port() }
    }

    /// Where clients connect directly.
    pub(crate) fn direct(&self) -> Addr {
        Addr::Unix(self.setup.uds.clone())
    }

    /// Kills the node, and waits until the supervisor has started another.
    pub(crate) fn kill_node(&self) {
        let lives = self.restarts.load(Relaxed);
        {
            let node = self.node();
            self.doomed.store(true, Relaxed);
            node.signal(rustix::process::Signal::KILL);
        }
        while self.restarts.load(Relaxed) == lives && !self.over.load(Relaxed) {
            thread::sleep(LOOK);
        }
    }

    /// Kills the node, and starts another in a world that `between` has changed.
    pub(crate) fn restart_node(&self, between: impl FnOnce()) {
        let mut node = self.node();
        node.signal(rustix::process::Signal::KILL);
        node.wait(Duration::from_secs(10));
        between();
        self.start_again(&mut node);
    }

    fn supervise(&self) {
        while !self.over.load(Relaxed) {
            let mut node = self.node();
            if let Some(status) = node.ended() {
                if !self.doomed.swap(false, Relaxed) {
                    let words = node.words();
                    let last = &words[words.len().saturating_sub(5)..];
                    self.trouble(format!("the node ended by itself: {status}; {last:?}"));
                }
                self.start_again(&mut node);
            }
            drop(node);
            thread::sleep(LOOK);
        }
    }

    fn start_again(&self, node: &mut Node) {
        match Node::start(&self.setup, None) {
            Ok(fresh) => {
                self.proxy.lead_to(fresh.tcp);
                *node = fresh;
                self.restarts.fetch_add(1, Relaxed);
            }
            Err(why) => {
                self.trouble(format!("the node did not start again: {why}"));
                self.over.store(true, Relaxed);
            }
        }
    }

    /// Notes what must not happen.
    pub(crate) fn trouble(&self, what: String) {
        eprintln!("TROUBLE: {what}");
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// All that was noted.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing is started again from now on, and nobody but the caller has the stage.
    pub(crate) fn end(&self) {
        self.over.store(true, Relaxed);
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            let _ = supervisor.join();
        }
    }
}
