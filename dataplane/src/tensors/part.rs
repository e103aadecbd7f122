//! A file under construction: it has its final name only when it is whole.

use super::TensorError;
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// A file that is written under another name beside its own, and removed unless it is finished.
#[derive(Debug)]
pub(crate) struct PartFile {
    path: PathBuf,
    part: PathBuf,
    file: File,
    finished: bool,
}

impl PartFile {
    /// Creates it.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    pub(crate) fn create(path: &Path) -> Result<Self, TensorError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&part);
        let file =
            file.map_err(|source| TensorError::Io { doing: "create", path: part.clone(), source })?;
        Ok(Self { path: path.to_owned(), part, file, finished: false })
    }

    /// Writes a whole file in one go.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TensorError> {
        let mut file = Self::create(path)?;
        file.write_at(bytes, 0)?;
        file.finish()
    }

    /// Makes room for so many bytes.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    pub(super) fn set_len(&mut self, len: u64) -> Result<(), TensorError> {
        self.file.set_len(len).map_err(|source| self.failed("make room in", source))
    }

    /// Writes bytes at a place.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    pub(crate) fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<(), TensorError> {
        self.file.write_all_at(bytes, at).map_err(|source| self.failed("write", source))
    }

    fn failed(&self, doing: &'static str, source: std::io::Error) -> TensorError {
        TensorError::Io { doing, path: self.part.clone(), source }
    }

    /// Gives the file its name, in one step: readers see all of it or nothing.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    pub(crate) fn finish(mut self) -> Result<(), TensorError> {
        let end = self.file.sync_all().and_then(|()| fs::rename(&self.part, &self.path));
        end.map_err(|source| TensorError::Io { doing: "finish", path: self.path.clone(), source })?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.finished {
            // A half-written answer must not be mistaken for one; if even this fails, its name
            // still says `.part`.
            let _ = fs::remove_file(&self.part);
        }
    }
}
