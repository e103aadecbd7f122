//! safetensors files read and written by ranges: a tensor of any size passes through a few
//! requests' worth of memory.

mod part;
mod writer;

pub(crate) use part::PartFile;
pub(crate) use writer::{Column, Writer, header};

use safetensors::{Dtype, tensor::Metadata};
use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Bytes of the length field that a file begins with.
const PREFIX: u64 = 8;
/// The format's own bound on its JSON header.
const HEADER_MAX: u64 = 100_000_000;

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
    /// Not a file of coded rows.
    #[error("{} cannot be decompressed: {what}", path.display())]
    NoCodedRows {
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
    /// The tensor's own shape.
    pub(crate) shape: &'a [usize],
    start: u64,
}

/// One tensor of a file, seen as bytes.
#[derive(Debug)]
pub(crate) struct Span<'a> {
    file: &'a TensorFile,
    /// Bytes of it.
    pub(crate) len: u64,
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

    /// A text that the file carries beside its tensors.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// A tensor of one axis, of exactly this element type, as bytes.
    ///
    /// # Errors
    /// [`TensorError::NoSuchTensor`]; [`TensorError::Unfit`] for another type or shape.
    pub(crate) fn span(&self, name: &str, dtype: Dtype) -> Result<Span<'_>, TensorError> {
        let info = self.metadata.info(name).ok_or_else(|| self.missing(name))?;
        if info.dtype != dtype || info.shape.len() != 1 {
            let (dtype_found, shape) = (info.dtype, &info.shape);
            let what = format!("it is {dtype_found} {shape:?}; {dtype} with one axis is needed");
            return Err(self.unfit(name, what));
        }
        let (from, to) = info.data_offsets;
        Ok(Span { file: self, len: (to - from) as u64, start: self.data_start + from as u64 })
    }

    fn missing(&self, name: &str) -> TensorError {
        TensorError::NoSuchTensor {
            path: self.path.clone(),
            name: name.to_owned(),
            present: self.names(),
        }
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> Result<(), TensorError> {
        self.file.read_exact_at(into, at).map_err(|source| TensorError::Io {
            doing: "read",
            path: self.path.clone(),
            source,
        })
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
        let info = self.metadata.info(name).ok_or_else(|| self.missing(name))?;
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
        Ok(Rows { file: self, dtype, rows: rows as u64, cols, shape: &info.shape, start })
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
        self.file.read_at(into, self.start + first * bytes)
    }
}

impl Span<'_> {
    /// Fills `into` from byte `at` on.
    ///
    /// # Errors
    /// [`TensorError::Io`]; also [`TensorError::Malformed`] for bytes that the tensor does not
    /// have.
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) -> Result<(), TensorError> {
        if at.checked_add(into.len() as u64).is_none_or(|end| end > self.len) {
            let (wanted, len) = (into.len(), self.len);
            let what = format!("{wanted} bytes from {at} on are wanted of a tensor of {len}");
            return Err(TensorError::Malformed { path: self.file.path.clone(), what });
        }
        self.file.read_at(into, self.start + at)
    }
}

#[cfg(test)]
#[path = "tensors/tests.rs"]
mod tests;
