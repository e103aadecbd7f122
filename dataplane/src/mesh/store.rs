//! The file that keeps what of the mesh outlives the process: the registry's snapshot, the history
//! of the map, and the results of gathers. Every record carries a checksum of its own.
//!
//! A file that was torn by a crash is repaired by the database: what was committed is there. One
//! whose bytes are damaged is another matter, and no library reads every such file without a panic;
//! so the file is proved in a process of its own ([`prove`]) before this one opens it.

use crate::failure::Failure;
use redb::{
    Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageError, TableDefinition, TableError,
};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
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

/// The file's name in its directory.
const NAME: &str = "mesh.redb";
/// Bytes of a record's checksum, in front of it.
const SEAL: usize = 4;

/// Exit codes of a proof, beside success.
const DAMAGED: u8 = 1;
const IN_USE: u8 = 3;
const UNUSABLE: u8 = 4;

/// What a proof says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It can be opened, and every record is what was written.
    Sound,
    /// It is not what was written.
    Damaged(String),
    /// Another process has it.
    InUse,
    /// The disk does not let it be written.
    Unusable(String),
}

/// The file, open.
#[derive(Debug)]
pub(crate) struct Store {
    db: Database,
}

/// A record with its checksum in front.
fn sealed(record: &[u8]) -> Vec<u8> {
    [&wire::check::crc32c(record).to_le_bytes(), record].concat()
}

/// The record, if it is what was sealed.
fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (seal, record) = bytes.split_at_checked(SEAL)?;
    (wire::check::crc32c(record).to_le_bytes() == seal).then_some(record)
}

/// Where a directory has the file.
pub(crate) fn file(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// The disk is at fault, and may be better later.
fn is_of_the_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{
        FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let kinds = [FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
    kinds.contains(&error.kind())
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// What an error at opening means.
fn meaning(error: &DatabaseError) -> Proof {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Proof::InUse,
        DatabaseError::Storage(StorageError::Io(fault)) if is_of_the_disk(fault) => {
            Proof::Unusable(fault.to_string())
        }
        other => Proof::Damaged(other.to_string()),
    }
}

/// Opens and reads all of a file: what the proving process does (`butterfly worker`'s kind of
/// command: never by hand). The process ends with the code of what it found.
///
/// # Errors
/// What [`prove`] turns into its verdict.
pub(crate) fn prove_here(file: &Path) -> Result<(), (u8, Failure)> {
    let code = |proof: Proof| match proof {
        Proof::InUse => (IN_USE, Failure::run("another process has it")),
        Proof::Unusable(why) => (UNUSABLE, Failure::run(why)),
        Proof::Damaged(why) => (DAMAGED, Failure::run(why)),
        Proof::Sound => (DAMAGED, Failure::run("nothing")),
    };
    let mut db = Database::open(file).map_err(|error| code(meaning(&error)))?;
    match db.check_integrity() {
        // Not clean, and repaired to the last state that is.
        Ok(true | false) => {}
        Err(error) => return Err(code(meaning(&error))),
    }
    let spoilt = || (DAMAGED, Failure::run("a record is not what was written"));
    let store = Store { db };
    if store.is_whole() { Ok(()) } else { Err(spoilt()) }
}

/// Proves a file in a process of its own, which may die of it.
pub(crate) fn prove(file: &Path) -> Proof {
    let run = || -> io::Result<Proof> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("prove-state").arg(file).stdin(Stdio::null()).stdout(Stdio::null());
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().last().unwrap_or_default().to_owned();
        Ok(match output.status.code().map(u8::try_from) {
            Some(Ok(0)) => Proof::Sound,
            Some(Ok(IN_USE)) => Proof::InUse,
            Some(Ok(UNUSABLE)) => Proof::Unusable(last),
            _ => Proof::Damaged(last),
        })
    };
    run().unwrap_or_else(|error| Proof::Unusable(format!("it cannot be proved: {error}")))
}

/// Moves a damaged file out of the way, and keeps it for whoever wants to look.
///
/// # Errors
/// The OS's.
pub(crate) fn set_aside(file: &Path) -> io::Result<PathBuf> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".damaged-{}", since.as_secs()));
    std::fs::rename(file, &name)?;
    Ok(name.into())
}

/// The last snapshot of a file that cannot be written, where it can be read.
pub(crate) fn snapshot_of(file: &Path) -> Option<Vec<u8>> {
    snapshot_in(&ReadOnlyDatabase::open(file).ok()?)
}

fn snapshot_in(db: &impl ReadableDatabase) -> Option<Vec<u8>> {
    let table = db.begin_read().ok()?.open_table(SNAPSHOT).ok()?;
    let sealed = table.get(LATEST).ok()??;
    unsealed(sealed.value()).map(<[u8]>::to_vec)
}

impl Store {
    /// Opens or creates the file. To be proved before, where there is one.
    ///
    /// # Errors
    /// What is the matter with it.
    pub(crate) fn open(file: &Path) -> Result<Self, Proof> {
        Database::create(file).map(|db| Self { db }).map_err(|error| meaning(&error))
    }

    /// The last snapshot.
    pub(crate) fn snapshot(&self) -> Option<Vec<u8>> {
        snapshot_in(&self.db)
    }

    /// Writes, and returns once it lasts.
    ///
    /// # Errors
    /// The disk's. The store is of no use then: open it again.
    pub(crate) fn write(&self, write: &Write) -> Result<(), redb::Error> {
        let transaction = self.db.begin_write()?;
        match write {
            Write::Snapshot(bytes) => {
                transaction.open_table(SNAPSHOT)?.insert(LATEST, sealed(bytes).as_slice())?;
            }
            Write::History { at, point } => {
                let mut table = transaction.open_table(HISTORY)?;
                table.insert(at, sealed(point).as_slice())?;
                for _ in HISTORY_MAX..table.len()? {
                    table.pop_first()?;
                }
            }
            Write::Gather { id, report } => {
                let mut table = transaction.open_table(GATHERS)?;
                table.insert(id, sealed(report).as_slice())?;
                for _ in GATHERS_MAX..table.len()? {
                    table.pop_first()?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Every record of every table can be read and is what was written.
    fn is_whole(&self) -> bool {
        let Ok(read) = self.db.begin_read() else { return false };
        holds(read.open_table(SNAPSHOT))
            && holds(read.open_table(HISTORY))
            && holds(read.open_table(GATHERS))
    }

    /// The points since a moment, oldest first.
    #[cfg(test)]
    fn history(&self, since: u64) -> Vec<(u64, Vec<u8>)> {
        let Ok(read) = self.db.begin_read() else { return Vec::new() };
        let Ok(table) = read.open_table(HISTORY) else { return Vec::new() };
        let Ok(rows) = table.range(since..) else { return Vec::new() };
        let point = |bytes: &[u8]| unsealed(bytes).expect("whole").to_vec();
        rows.flatten().map(|(at, bytes)| (at.value(), point(bytes.value()))).collect()
    }
}

/// A table that nobody has written to yet holds as well.
fn holds<K: redb::Key + 'static>(
    table: Result<redb::ReadOnlyTable<K, &'static [u8]>, TableError>,
) -> bool {
    match table {
        Err(TableError::TableDoesNotExist(_)) => true,
        Err(_) => false,
        Ok(table) => table.iter().is_ok_and(|mut rows| {
            rows.all(|row| row.is_ok_and(|(_, bytes)| unsealed(bytes.value()).is_some()))
        }),
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound => f.write_str("sound"),
            Self::InUse => f.write_str("another node uses it"),
            Self::Damaged(why) | Self::Unusable(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn history_is_bounded() {
        let folder = Folder::new("mesh-history");
        let store = Store::open(&file(&folder.0)).expect("opens");
        {
            let write = store.db.begin_write().expect("begins");
            {
                let mut table = write.open_table(HISTORY).expect("opens");
                for at in 0..HISTORY_MAX {
                    table.insert(at, sealed(&[0]).as_slice()).expect("inserts");
                }
            }
            write.commit().expect("commits");
        }
        store.write(&Write::History { at: HISTORY_MAX, point: vec![9] }).expect("writes");
        let all = store.history(0);
        assert_eq!(all.len() as u64, HISTORY_MAX);
        assert_eq!((all[0].0, all[all.len() - 1].1.clone()), (1, vec![9]));
        assert_eq!(store.history(HISTORY_MAX + 1), []);
        assert!(store.is_whole());
    }

    #[test]
    fn a_record_that_is_not_what_was_written_is_found() {
        assert_eq!(unsealed(&sealed(b"kept")), Some(&b"kept"[..]));
        let mut spoilt = sealed(b"kept");
        spoilt[5] ^= 1;
        assert_eq!((unsealed(&spoilt), unsealed(b"x"), unsealed(b"")), (None, None, None));
        let folder = Folder::new("mesh-spoilt");
        let store = Store::open(&file(&folder.0)).expect("opens");
        store.write(&Write::Gather { id: [1; 16], report: vec![2] }).expect("writes");
        assert!(store.is_whole());
        let write = store.db.begin_write().expect("begins");
        write.open_table(GATHERS).expect("opens").insert([3; 16], &spoilt[..]).expect("inserts");
        write.commit().expect("commits");
        assert!(!store.is_whole());
    }
}
