//! Keeps the mesh's state: a thread of its own that writes, because a disk may take its time or
//! refuse.
//!
//! A disk that is full or can only be read costs the state, not the node: it is said once, shown in
//! the figures, and tried again until it works. Of what could not be written the last snapshot is
//! kept for that moment; other records are lost and counted.

use super::store::{self, Proof, Store, Write};
use crate::say;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use dataplane_core::stats::Visit;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Writes that may wait for the disk; more are dropped and counted, the next one makes up for them.
const QUEUE: usize = 64;
/// Between two attempts at a disk that refuses.
const RETRY: Duration = Duration::from_secs(2);

/// What the thread is asked to do.
#[derive(Debug)]
enum Order {
    Write(Write),
    /// Write this, close the file, and say so.
    Release(Write, Sender<()>),
    /// Open the file again.
    Resume,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct KeeperStats {
    written: AtomicU64,
    lost: AtomicU64,
    failures: AtomicU64,
    set_aside: AtomicU64,
    /// 1 while writes reach the disk.
    works: AtomicU64,
}

impl KeeperStats {
    /// Shows all of them.
    pub(crate) fn visit(&self, visit: Visit<'_>) {
        for (name, cell) in [
            ("butterfly_mesh_state_writes_total", &self.written),
            ("butterfly_mesh_lost_writes_total", &self.lost),
            ("butterfly_mesh_state_failures_total", &self.failures),
            ("butterfly_mesh_state_set_aside_total", &self.set_aside),
            ("butterfly_mesh_state_works", &self.works),
        ] {
            visit(name, "", "", cell.load(Relaxed));
        }
    }
}

/// The mesh's end.
#[derive(Debug)]
pub(crate) struct Keeper {
    queue: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// What is counted.
    pub(crate) stats: Arc<KeeperStats>,
}

impl Keeper {
    /// Opens the file of a directory and gives the last snapshot, where there is one. A damaged
    /// file is set aside; a disk that refuses is tried again later.
    ///
    /// # Errors
    /// What only a person can put right: the directory is no directory, or another node's.
    pub(crate) fn open(
        dir: &Path,
        prove: fn(&Path) -> Proof,
    ) -> Result<(Self, Option<Vec<u8>>), String> {
        let stats = Arc::new(KeeperStats::default());
        let mut shelf = Shelf::new(dir, Arc::clone(&stats));
        if dir.exists() && !dir.is_dir() {
            return Err(shelf.said("it is no directory"));
        }
        let snapshot = match shelf.first(prove) {
            Ok(snapshot) => snapshot,
            Err(Proof::InUse) => return Err(shelf.said("another node uses it")),
            Err(why) => {
                shelf.fail(&why);
                store::snapshot_of(&shelf.file)
            }
        };
        let (queue, orders) = bounded(QUEUE);
        let thread = thread::Builder::new()
            .name("mesh-store".to_owned())
            .spawn(move || shelf.run(&orders))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok((Self { queue: Some(queue), thread: Some(thread), stats }, snapshot))
    }

    fn send(&self, order: Order) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(order) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.stats.lost.fetch_add(1, Relaxed);
            }
        }
    }

    /// Queues a write. Never waits.
    pub(crate) fn write(&self, write: Write) {
        self.send(Order::Write(write));
    }

    /// Lets go of the file after this last write; `done` is told then. Writes until
    /// [`Self::resume`] are kept as on a disk that refuses.
    pub(crate) fn release(&self, last: Write, done: Sender<()>) {
        if let Some(queue) = &self.queue {
            // The thread takes all that waits before it; it never waits for this one.
            let _ = queue.send(Order::Release(last, done));
        }
    }

    /// Takes the file again.
    pub(crate) fn resume(&self) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(Order::Resume);
        }
    }

    /// Writes one last time, however long the disk takes, and closes the file.
    pub(crate) fn close(mut self, last: Write) {
        if let Some(queue) = self.queue.take() {
            let _ = queue.send(Order::Write(last));
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's state.
#[derive(Debug)]
struct Shelf {
    dir: PathBuf,
    file: PathBuf,
    /// `None` while the disk refuses, or another process has the file.
    store: Option<Store>,
    released: bool,
    /// The last snapshot that is not on the disk.
    unwritten: Option<Vec<u8>>,
    /// When to try again.
    retry_at: Instant,
    stats: Arc<KeeperStats>,
}

impl Shelf {
    fn new(dir: &Path, stats: Arc<KeeperStats>) -> Self {
        Self {
            dir: dir.to_owned(),
            file: store::file(dir),
            store: None,
            released: false,
            unwritten: None,
            retry_at: Instant::now(),
            stats,
        }
    }

    fn said(&self, why: impl std::fmt::Display) -> String {
        format!("cannot keep the mesh's state in {}: {why}", self.dir.display())
    }

    /// The first opening, with the proof that it can be believed.
    fn first(&mut self, prove: fn(&Path) -> Proof) -> Result<Option<Vec<u8>>, Proof> {
        fs::create_dir_all(&self.dir).map_err(|error| Proof::Unusable(error.to_string()))?;
        if self.file.exists() {
            match prove(&self.file) {
                Proof::Sound => {}
                Proof::Damaged(why) => self.set_aside(&why)?,
                other => return Err(other),
            }
        }
        let store = Store::open(&self.file)?;
        let snapshot = store.snapshot();
        self.store = Some(store);
        self.stats.works.store(1, Relaxed);
        Ok(snapshot)
    }

    fn set_aside(&self, why: &str) -> Result<(), Proof> {
        let aside = store::set_aside(&self.file)
            .map_err(|error| Proof::Unusable(format!("it is damaged ({why}), and {error}")))?;
        self.stats.set_aside.fetch_add(1, Relaxed);
        say::note(format!(
            "the mesh's state was damaged ({why}); it is kept as {}, and the registry starts empty",
            aside.display()
        ));
        Ok(())
    }

    /// The disk refuses: said once, until it works again.
    fn fail(&mut self, why: &dyn std::fmt::Display) {
        self.store = None;
        self.stats.failures.fetch_add(1, Relaxed);
        self.retry_at = Instant::now() + RETRY;
        if self.stats.works.swap(0, Relaxed) == 1 || self.stats.failures.load(Relaxed) == 1 {
            let said = self.said(why);
            say::note(format!("{said}; the node goes on, and tries again every {RETRY:?}"));
        }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let order = if self.store.is_some() || self.released {
                orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                orders.recv_deadline(self.retry_at)
            };
            match order {
                Ok(Order::Write(write)) => self.write(write),
                Ok(Order::Release(last, done)) => {
                    self.write(last);
                    self.store = None;
                    self.released = true;
                    // Whoever asked may have gone.
                    let _ = done.try_send(());
                }
                Ok(Order::Resume) => {
                    self.released = false;
                    self.try_again();
                }
                Err(RecvTimeoutError::Timeout) => self.try_again(),
                Err(RecvTimeoutError::Disconnected) => {
                    if self.unwritten.is_some() && !self.released {
                        self.try_again();
                    }
                    return;
                }
            }
        }
    }

    fn write(&mut self, write: Write) {
        let done = match &self.store {
            None => false,
            Some(store) => match store.write(&write) {
                Ok(()) => true,
                Err(error) => {
                    self.fail(&error);
                    false
                }
            },
        };
        match (done, write) {
            (true, _) => {
                self.stats.written.fetch_add(1, Relaxed);
            }
            (false, Write::Snapshot(bytes)) => self.unwritten = Some(bytes),
            (false, _) => {
                self.stats.lost.fetch_add(1, Relaxed);
            }
        }
    }

    fn try_again(&mut self) {
        if self.store.is_none() {
            let made = fs::create_dir_all(&self.dir).map_err(|e| Proof::Unusable(e.to_string()));
            match made.and_then(|()| Store::open(&self.file)) {
                Ok(store) => self.store = Some(store),
                Err(why) => return self.fail(&why),
            }
        }
        if let Some(bytes) = self.unwritten.take() {
            self.write(Write::Snapshot(bytes));
        }
        if self.store.is_some() && self.stats.works.swap(1, Relaxed) == 0 {
            say::note(format!("the mesh's state is kept again in {}", self.dir.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    fn sound(_: &Path) -> Proof {
        Proof::Sound
    }

    #[test]
    fn imped_13_snapshot_and_history_outlive_the_process() {
        let folder = Folder::new("mesh-store");
        let (keeper, before) = Keeper::open(&folder.0, sound).expect("opens");
        assert_eq!(before, None);
        keeper.write(Write::History { at: 5, point: vec![1, 2] });
        keeper.close(Write::Snapshot(vec![7; 1000]));
        let (keeper, after) = Keeper::open(&folder.0, sound).expect("opens again");
        assert_eq!(after, Some(vec![7; 1000]));
        keeper.close(Write::Snapshot(vec![8]));
        let store = Store::open(&store::file(&folder.0)).expect("opens");
        assert_eq!(store.snapshot(), Some(vec![8]));
    }

    #[test]
    fn a_directory_that_is_none_or_anothers_is_refused_with_its_name() {
        let folder = Folder::new("mesh-refused");
        let file = folder.0.join("file");
        fs::write(&file, b"x").expect("writes");
        let error = Keeper::open(&file, sound).expect_err("no directory");
        assert!(error.contains(&file.display().to_string()), "{error}");
        fs::write(store::file(&folder.0), b"another's").expect("writes");
        let error = Keeper::open(&folder.0, |_| Proof::InUse).expect_err("taken");
        assert!(error.contains("another node"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_registry_starts_empty() {
        let folder = Folder::new("mesh-damaged");
        fs::write(store::file(&folder.0), b"precious").expect("writes");
        let damaged = |_: &Path| Proof::Damaged("torn".to_owned());
        let (keeper, snapshot) = Keeper::open(&folder.0, damaged).expect("goes on");
        assert_eq!(snapshot, None);
        keeper.close(Write::Snapshot(vec![1]));
        let aside: Vec<_> = fs::read_dir(&folder.0)
            .expect("lists")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.display().to_string().contains(".damaged-"))
            .collect();
        assert_eq!(fs::read(&aside[0]).expect("kept"), b"precious");
        assert_eq!(Keeper::open(&folder.0, sound).expect("opens").1, Some(vec![1]));
    }

    #[test]
    fn a_released_file_can_be_had_by_another_and_taken_again() {
        let folder = Folder::new("mesh-released");
        let (keeper, _) = Keeper::open(&folder.0, sound).expect("opens");
        let (done, told) = bounded(1);
        keeper.release(Write::Snapshot(vec![1]), done);
        told.recv().expect("released");
        let other = Store::open(&store::file(&folder.0)).expect("free");
        assert_eq!(other.snapshot(), Some(vec![1]));
        keeper.write(Write::Snapshot(vec![2]));
        drop(other);
        keeper.resume();
        keeper.write(Write::History { at: 1, point: vec![3] });
        keeper.close(Write::Gather { id: [4; 16], report: vec![5] });
        let store = Store::open(&store::file(&folder.0)).expect("closed");
        assert_eq!(store.snapshot(), Some(vec![2]), "kept until the file was there again");
    }
}
