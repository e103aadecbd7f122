//! Coded rows out of a file, block by block. The file may come from anywhere.

use super::Label;
use crate::tensors::{TensorError, TensorFile};
use safetensors::Dtype;
use std::path::{Path, PathBuf};

/// Bytes that a block may have.
const BLOCK: u64 = 4 << 20;
/// Most rows of a block.
const BLOCK_ROWS: u64 = 1024;

/// A file of coded rows whose header made sense.
#[derive(Debug)]
pub(crate) struct CodedFile {
    path: PathBuf,
    file: TensorFile,
    /// What it holds.
    pub(crate) label: Label,
    /// Bytes of all rows.
    data_len: u64,
}

/// Some rows of a file.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// The first of them.
    pub(crate) first: u64,
    /// Where each ends in `data`.
    ends: Vec<usize>,
    /// What is to be said of each.
    pub(crate) flags: Vec<u8>,
    data: Vec<u8>,
    raw: Vec<u8>,
}

impl Block {
    /// The bytes of each row, in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let row = self.data.get(start..*end).unwrap_or_default();
            start = *end;
            row
        })
    }
}

impl CodedFile {
    /// Opens a file.
    ///
    /// # Errors
    /// [`TensorError::Malformed`] where it is none, and what [`TensorFile::open`] gives.
    pub(crate) fn open(path: &Path) -> Result<Self, TensorError> {
        let file = TensorFile::open(path)?;
        let malformed = |what: String| TensorError::NoCodedRows { path: path.to_owned(), what };
        let label = Label::from_texts(|key| file.text(key)).map_err(malformed)?;
        let rows = label.rows();
        let lens = [
            ("ends", file.span("ends", Dtype::U64)?.len, rows.saturating_mul(8)),
            ("flags", file.span("flags", Dtype::U8)?.len, rows),
        ];
        for (name, len, expected) in lens {
            if len != expected {
                let what = format!("`{name}` has {len} bytes, {expected} are needed");
                return Err(malformed(what));
            }
        }
        let data_len = file.span("data", Dtype::U8)?.len;
        Ok(Self { path: path.to_owned(), file, label, data_len })
    }

    /// Bytes of the coded rows, their ends and flags.
    pub(crate) fn coded_bytes(&self) -> u64 {
        self.data_len + self.label.rows() * 9
    }

    /// Reads the block of rows from row `first` on; false behind the last row.
    ///
    /// # Errors
    /// [`TensorError::Io`]; [`TensorError::NoCodedRows`] where the ends contradict each other or
    /// a row is longer than its coding allows.
    pub(crate) fn read(&self, first: u64, block: &mut Block) -> Result<bool, TensorError> {
        let Label { coding, k, .. } = self.label;
        let row_max = coding.row_max(k as usize, self.label.cols() as usize).max(1) as u64;
        let left = self.label.rows().saturating_sub(first);
        let count = (BLOCK / row_max).clamp(1, BLOCK_ROWS).min(left) as usize;
        if count == 0 {
            return Ok(false);
        }
        let ends = self.file.span("ends", Dtype::U64)?;
        // The end before the first row is where that row begins.
        let before = u64::from(first > 0);
        block.raw.resize((count + before as usize) * 8, 0);
        ends.read((first - before) * 8, &mut block.raw)?;
        let mut all = block.raw.as_chunks::<8>().0.iter().map(|end| u64::from_le_bytes(*end));
        let start = if first > 0 { all.next().unwrap_or(0) } else { 0 };
        block.first = first;
        block.ends.clear();
        let mut last = start;
        for (row, end) in (first..).zip(all) {
            let len = end.checked_sub(last);
            if len.is_none_or(|len| len > row_max) || end > self.data_len {
                return Err(self.bad_end(row));
            }
            last = end;
            block.ends.push((end - start) as usize);
        }
        if first + count as u64 == self.label.rows() && last != self.data_len {
            return Err(self.bad_end(self.label.rows() - 1));
        }
        block.data.resize((last - start) as usize, 0);
        self.file.span("data", Dtype::U8)?.read(start, &mut block.data)?;
        block.flags.resize(count, 0);
        self.file.span("flags", Dtype::U8)?.read(first, &mut block.flags)?;
        Ok(true)
    }

    fn bad_end(&self, row: u64) -> TensorError {
        let what = format!("row {row} ends where it cannot");
        TensorError::NoCodedRows { path: self.path.clone(), what }
    }
}
