//! What of the mesh outlives the process: the registry's snapshot and the history of the map, in
//! one file, written by a thread of its own.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread::{self, JoinHandle},
};

const SNAPSHOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshot");
/// Points of the map by nanoseconds since the Unix epoch.
const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");
/// Results of gathers by their time-ordered ids.
const GATHERS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("gathers");
const LATEST: &str = "latest";

/// Points that are kept: a day of one every ten seconds.
const HISTORY_MAX: u64 = 8_640;
/// Results of gathers that are kept.
const GATHERS_MAX: u64 = 10_000;
/// Writes that may wait for the disk; more are dropped and counted, the next one makes up for them.
const QUEUE: usize = 64;

/// What to write.
#[derive(Debug)]
pub(crate) enum Write {
    /// The whole registry, in place of the last one.
    Snapshot(Vec<u8>),
    /// One more point of the map.
    History {
        /// Nanoseconds since the Unix epoch.
        at: u64,
        /// The point.
        point: Vec<u8>,
    },
    /// The result of a gather: a GATHER_REPORT's payload.
    Gather {
        /// Its id.
        id: [u8; 16],
        /// The payload.
        report: Vec<u8>,
    },
}

/// The file.
#[derive(Debug)]
struct Store {
    db: Database,
}

impl Store {
    /// Opens or creates `mesh.redb` in a directory.
    fn open(dir: &Path) -> Result<Self, String> {
        let say = |error: &dyn std::fmt::Display| {
            format!("cannot keep the mesh's state in {}: {error}", dir.display())
        };
        std::fs::create_dir_all(dir).map_err(|error| say(&error))?;
        let db = Database::create(dir.join("mesh.redb")).map_err(|error| {
            say(&format!("{error}; another node may use this directory, or the file is damaged"))
        })?;
        Ok(Self { db })
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        let read = self.db.begin_read().ok()?;
        let table = read.open_table(SNAPSHOT).ok()?;
        table.get(LATEST).ok()?.map(|bytes| bytes.value().to_vec())
    }

    fn write(&self, write: &Write) -> Result<(), redb::Error> {
        let transaction = self.db.begin_write()?;
        match write {
            Write::Snapshot(bytes) => {
                transaction.open_table(SNAPSHOT)?.insert(LATEST, bytes.as_slice())?;
            }
            Write::History { at, point } => {
                let mut table = transaction.open_table(HISTORY)?;
                table.insert(at, point.as_slice())?;
                for _ in HISTORY_MAX..table.len()? {
                    table.pop_first()?;
                }
            }
            Write::Gather { id, report } => {
                let mut table = transaction.open_table(GATHERS)?;
                table.insert(id, report.as_slice())?;
                for _ in GATHERS_MAX..table.len()? {
                    table.pop_first()?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The points since a moment, oldest first.
    #[cfg(test)]
    fn history(&self, since: u64) -> Vec<(u64, Vec<u8>)> {
        let Ok(read) = self.db.begin_read() else { return Vec::new() };
        let Ok(table) = read.open_table(HISTORY) else { return Vec::new() };
        let Ok(rows) = table.range(since..) else { return Vec::new() };
        rows.flatten().map(|(at, point)| (at.value(), point.value().to_vec())).collect()
    }
}

/// The mesh's end of the store.
#[derive(Debug)]
pub(crate) struct Keeper {
    queue: Option<Sender<Write>>,
    thread: Option<JoinHandle<()>>,
    /// Writes that found the queue full or failed.
    pub(crate) lost: AtomicU64,
}

impl Keeper {
    /// Opens the file and gives the last snapshot, where there is one.
    ///
    /// # Errors
    /// Why the directory cannot be used.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Option<Vec<u8>>), String> {
        let store = Store::open(dir)?;
        let snapshot = store.snapshot();
        let (queue, writes) = bounded(QUEUE);
        let thread = thread::Builder::new()
            .name("mesh-store".to_owned())
            .spawn(move || keep(&store, &writes))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        let keeper = Self { queue: Some(queue), thread: Some(thread), lost: AtomicU64::new(0) };
        Ok((keeper, snapshot))
    }

    /// Queues a write. Never waits.
    pub(crate) fn write(&self, write: Write) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(write) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Relaxed);
            }
        }
    }

    /// Writes one last time, however long the disk takes, and closes the file.
    pub(crate) fn close(mut self, last: Write) {
        if let Some(queue) = self.queue.take() {
            let _ = queue.send(last);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread: until the other end is dropped.
fn keep(store: &Store, writes: &Receiver<Write>) {
    for write in writes {
        if let Err(error) = store.write(&write) {
            crate::say::note(format!("the mesh's state could not be written: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn imped_13_snapshot_and_history_outlive_the_process() {
        let folder = Folder::new("mesh-store");
        let (keeper, before) = Keeper::open(folder.0.as_path()).expect("opens");
        assert_eq!(before, None);
        keeper.write(Write::History { at: 5, point: vec![1, 2] });
        keeper.close(Write::Snapshot(vec![7; 1000]));
        let (keeper, after) = Keeper::open(folder.0.as_path()).expect("opens again");
        assert_eq!(after, Some(vec![7; 1000]));
        keeper.close(Write::Snapshot(vec![8]));
        let store = Store::open(folder.0.as_path()).expect("opens");
        assert_eq!(store.history(0), [(5, vec![1, 2])]);
        assert_eq!(store.history(6), []);
        assert_eq!(store.snapshot(), Some(vec![8]));
    }

    #[test]
    fn history_is_bounded() {
        let folder = Folder::new("mesh-history");
        let store = Store::open(folder.0.as_path()).expect("opens");
        {
            let write = store.db.begin_write().expect("begins");
            {
                let mut table = write.open_table(HISTORY).expect("opens");
                for at in 0..HISTORY_MAX {
                    table.insert(at, &[0_u8][..]).expect("inserts");
                }
            }
            write.commit().expect("commits");
        }
        store.write(&Write::History { at: HISTORY_MAX, point: vec![9] }).expect("writes");
        let all = store.history(0);
        assert_eq!(all.len() as u64, HISTORY_MAX);
        assert_eq!((all[0].0, all[all.len() - 1].1.clone()), (1, vec![9]));
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let folder = Folder::new("mesh-damaged");
        std::fs::write(folder.0.as_path().join("mesh.redb"), vec![3; 4096]).expect("writes");
        let error = Keeper::open(folder.0.as_path()).expect_err("not a store");
        assert!(error.contains(&folder.0.as_path().display().to_string()), "{error}");
        let file = folder.0.as_path().join("file");
        std::fs::write(&file, b"x").expect("writes");
        assert!(Keeper::open(&file).is_err());
    }
}
