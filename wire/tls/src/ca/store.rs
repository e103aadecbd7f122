//! Files that hold keys: only their owner reads them, and nobody sees one half written.

use crate::Error;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Whether what is there may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replace {
    Yes,
    No,
}

impl Replace {
    pub(super) const fn of(force: bool) -> Self {
        if force { Self::Yes } else { Self::No }
    }
}

/// Makes the folder for its owner alone, or checks that it is so.
pub(super) fn open_folder(folder: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Error::file(folder))?;
    let mode = fs::metadata(folder).map_err(Error::file(folder))?.permissions().mode();
    if mode & 0o077 != 0 {
        let what = format!(
            "keys do not go into a folder that others can open; chmod 700 {}",
            folder.display()
        );
        return Err(Error::content(folder, what));
    }
    Ok(())
}

/// Refuses before anything is made where one of the files is there.
pub(super) fn check(paths: &[&Path], replace: Replace) -> Result<(), Error> {
    match paths.iter().find(|path| replace == Replace::No && path.exists()) {
        Some(path) => Err(Error::Exists(path.to_path_buf())),
        None => Ok(()),
    }
}

/// Writes a file for its owner alone, whole or not at all.
pub(super) fn write(path: &Path, text: &str, replace: Replace) -> Result<(), Error> {
    let new = beside(path);
    let _ = fs::remove_file(&new);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    let flags = match replace {
        Replace::Yes => RenameFlags::empty(),
        Replace::No => RenameFlags::NOREPLACE,
    };
    let moved =
        written.and_then(|()| renameat_with(CWD, &new, CWD, path, flags).map_err(io::Error::from));
    moved.map_err(|error| {
        let _ = fs::remove_file(&new);
        match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(path.to_owned()),
            _ => Error::file(path)(error),
        }
    })
}

/// A name beside this one.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
