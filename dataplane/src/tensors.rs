//! safetensors files read and written by ranges: a tensor of any size passes through a few
//! requests' worth of memory.

use safetensors::{
    Dtype, SafeTensorError,
    tensor::{Metadata, TensorInfo},
};
use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Bytes of the length field that a file begins with.
const PREFIX: u64 = 8;
/// The format's own bound on its JSON header.
const HEADER_MAX: u64 = 100_000_000;
/// Data starts at a multiple of this, so that files can be mapped and used in place.
const DATA_ALIGN: usize = 64;

/// What is wrong with a tensor file, as a sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TensorError {
    /// The OS says no.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// Verb.
        doing: &'static str,
        /// File.
        path: PathBuf,
        /// The OS's words.
        source: io::Error,
    },
    /// Not a safetensors file.
    #[error("{} is not a valid safetensors file: {what}", path.display())]
    Malformed {
        /// File.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// No tensor of that name.
    #[error("{} has no tensor `{name}`; it has {}", path.display(), list(present))]
    NoSuchTensor {
        /// File.
        path: PathBuf,
        /// Asked for.
        name: String,
        /// `name DTYPE [shape]` of each tensor.
        present: Vec<String>,
    },
    /// The tensor cannot serve for what it was asked for.
    #[error("tensor `{name}` of {}: {what}", path.display())]
    Unfit {
        /// File.
        path: PathBuf,
        /// Which.
        name: String,
        /// Why.
        what: String,
    },
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}

/// An open file whose header has been checked against its length.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    data_start: u64,
}

/// One tensor of a file, seen as rows: the last axis is the row, the axes before it are counted
/// together.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    file: &'a TensorFile,
    /// Element type.
    pub(crate) dtype: wire::Dtype,
    /// Rows.
    pub(crate) rows: u64,
    /// Elements of a row.
    pub(crate) cols: u32,
    /// Axes of the tensor.
    pub(crate) axes: usize,
    start: u64,
}

impl TensorFile {
    /// Opens a file and checks its header: every tensor lies inside the file, none overlap, nothing
    /// is left over.
    ///
    /// # Errors
    /// [`TensorError::Io`], [`TensorError::Malformed`].
    pub(crate) fn open(path: &Path) -> Result<Self, TensorError> {
        let io = |doing| {
            let path = path.to_owned();
            move |source| TensorError::Io { doing, path, source }
        };
        let malformed = |what: String| TensorError::Malformed { path: path.to_owned(), what };
        let mut file = File::open(path).map_err(io("open"))?;
        let length = file.metadata().map_err(io("measure"))?.len();
        if length < PREFIX {
            return Err(malformed(format!("{length} bytes are too few for a header")));
        }
        let mut prefix = [0; PREFIX as usize];
        file.read_exact(&mut prefix).map_err(io("read"))?;
        let header = u64::from_le_bytes(prefix);
        if header > HEADER_MAX || header > length - PREFIX {
            return Err(malformed(format!(
                "its header would be {header} bytes long, but the file has {length}"
            )));
        }
        let mut json = vec![0; header as usize];
        file.read_exact(&mut json).map_err(io("read"))?;
        let metadata: Metadata =
            serde_json::from_slice(&json).map_err(|error| malformed(format!("header: {error}")))?;
        let data_start = PREFIX + header;
        let stated = metadata.data_len() as u64;
        if data_start.checked_add(stated) != Some(length) {
            return Err(malformed(format!(
                "its header describes {stated} bytes of tensors, but {} follow",
                length - data_start
            )));
        }
        Ok(Self { path: path.to_owned(), file, metadata, data_start })
    }

    /// `name DTYPE [shape]` of every tensor, by name.
    pub(crate) fn names(&self) -> Vec<String> {
        let tensors = self.metadata.tensors();
        let mut names: Vec<_> = tensors
            .iter()
            .map(|(name, info)| format!("{name} {} {:?}", info.dtype, info.shape))
            .collect();
        names.sort_unstable();
        names
    }

    /// True where there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    fn unfit(&self, name: &str, what: impl Into<String>) -> TensorError {
        TensorError::Unfit { path: self.path.clone(), name: name.to_owned(), what: what.into() }
    }

    /// A tensor as rows.
    ///
    /// # Errors
    /// [`TensorError::NoSuchTensor`] with the names that exist; [`TensorError::Unfit`] for other
    /// element types, scalars and tensors without elements.
    pub(crate) fn rows(&self, name: &str) -> Result<Rows<'_>, TensorError> {
        let info = self.metadata.info(name).ok_or_else(|| TensorError::NoSuchTensor {
            path: self.path.clone(),
            name: name.to_owned(),
            present: self.names(),
        })?;
        let dtype = match info.dtype {
            Dtype::F32 => wire::Dtype::F32,
            Dtype::F16 => wire::Dtype::F16,
            Dtype::BF16 => wire::Dtype::Bf16,
            other => {
                return Err(self.unfit(name, format!("it is {other}; F32, F16 or BF16 is needed")));
            }
        };
        let Some((&cols, leading)) = info.shape.split_last() else {
            return Err(self.unfit(name, "it is a scalar; at least one axis is needed"));
        };
        let rows: usize = leading.iter().product();
        if rows == 0 || cols == 0 {
            return Err(self.unfit(name, format!("its shape {:?} has no elements", info.shape)));
        }
        let cols = u32::try_from(cols)
            .map_err(|_| self.unfit(name, format!("rows of {cols} elements are too long")))?;
        let start = self.data_start + info.data_offsets.0 as u64;
        Ok(Rows { file: self, dtype, rows: rows as u64, cols, axes: info.shape.len(), start })
    }
}

impl Rows<'_> {
    /// Bytes of one row.
    pub(crate) fn row_bytes(&self) -> u64 {
        u64::from(self.cols) * self.dtype.size() as u64
    }

    /// Reads `count` rows from row `first` into `into`, which is resized to fit.
    ///
    /// # Errors
    /// [`TensorError::Io`], also where the file became shorter since it was opened.
    ///
    /// # Panics
    /// If the range passes the last row.
    pub(crate) fn read(
        &self,
        first: u64,
        count: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), TensorError> {
        into.resize((count * self.row_bytes()) as usize, 0);
        self.read_into(first, count, into)
    }

    /// As [`Rows::read`], into memory of exactly the right length.
    ///
    /// # Errors
    /// As [`Rows::read`].
    ///
    /// # Panics
    /// As [`Rows::read`], and for another length.
    pub(crate) fn read_into(
        &self,
        first: u64,
        count: u64,
        into: &mut [u8],
    ) -> Result<(), TensorError> {
        assert!(first + count <= self.rows, "rows {first}+{count} of {}", self.rows);
        let bytes = self.row_bytes();
        assert_eq!(into.len() as u64, count * bytes, "room for {count} rows");
        self.file.file.read_exact_at(into, self.start + first * bytes).map_err(|source| {
            TensorError::Io { doing: "read", path: self.file.path.clone(), source }
        })
    }
}

/// A tensor to be written: name, element type, shape.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Name.
    pub(crate) name: &'static str,
    /// Element type.
    pub(crate) dtype: Dtype,
    /// Shape; the first axis is the row.
    pub(crate) shape: Vec<usize>,
}

/// A file under construction, filled row by row in any order. It has its final name only after
/// [`Writer::finish`].
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    part: PathBuf,
    file: File,
    /// Start in the file and bytes per row, by column.
    places: Vec<(u64, u64)>,
    finished: bool,
}

impl Writer {
    /// Lays the file out: header first, room for every column behind it.
    ///
    /// # Errors
    /// [`TensorError::Io`], or [`TensorError::Malformed`] for columns that do not fit a file.
    pub(crate) fn create(path: &Path, columns: &[Column]) -> Result<Self, TensorError> {
        let malformed = |what: SafeTensorError| TensorError::Malformed {
            path: path.to_owned(),
            what: what.to_string(),
        };
        let mut offset = 0usize;
        let mut spans = Vec::new();
        let mut infos = Vec::new();
        for column in columns {
            let elements = column.shape.iter().try_fold(1usize, |n, axis| n.checked_mul(*axis));
            let bytes = elements
                .and_then(|n| n.checked_mul(column.dtype.bitsize() / 8))
                .ok_or_else(|| malformed(SafeTensorError::ValidationOverflow))?;
            let end = offset
                .checked_add(bytes)
                .ok_or_else(|| malformed(SafeTensorError::ValidationOverflow))?;
            let rows = column.shape.first().copied().unwrap_or(1).max(1);
            spans.push((offset as u64, (bytes / rows) as u64));
            let info = TensorInfo {
                dtype: column.dtype,
                shape: column.shape.clone(),
                data_offsets: (offset, end),
            };
            infos.push((column.name.to_owned(), info));
            offset = end;
        }
        let origin = HashMap::from([(
            "made_by".to_owned(),
            concat!("butterfly ", env!("CARGO_PKG_VERSION")).to_owned(),
        )]);
        let metadata = Metadata::new(Some(origin), infos).map_err(malformed)?;
        let mut json = serde_json::to_vec(&metadata).map_err(|error| TensorError::Malformed {
            path: path.to_owned(),
            what: error.to_string(),
        })?;
        let padded = (json.len() + PREFIX as usize).next_multiple_of(DATA_ALIGN) - PREFIX as usize;
        json.resize(padded, b' ');
        let data_start = PREFIX + json.len() as u64;

        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let lay_out = || -> io::Result<File> {
            let file = OpenOptions::new().write(true).create_new(true).open(&part)?;
            file.write_all_at(&(json.len() as u64).to_le_bytes(), 0)?;
            file.write_all_at(&json, PREFIX)?;
            file.set_len(data_start + offset as u64)?;
            Ok(file)
        };
        let file = lay_out().map_err(|source| TensorError::Io {
            doing: "create",
            path: part.clone(),
            source,
        })?;
        let places = spans.iter().map(|(start, row)| (data_start + start, *row)).collect();
        Ok(Self { path: path.to_owned(), part, file, places, finished: false })
    }

    /// Writes rows of one column from row `first` on.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    ///
    /// # Panics
    /// If there is no such column.
    pub(crate) fn write(
        &mut self,
        column: usize,
        first: u64,
        bytes: &[u8],
    ) -> Result<(), TensorError> {
        let (start, row) = self.places[column];
        self.file.write_all_at(bytes, start + first * row).map_err(|source| TensorError::Io {
            doing: "write",
            path: self.part.clone(),
            source,
        })
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

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // A half-written answer must not be mistaken for one; if even this fails, its name
            // still says `.part`.
            let _ = fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
#[path = "tensors/tests.rs"]
mod tests;
