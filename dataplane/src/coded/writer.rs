//! Coded rows into a file, in whatever order their blocks come.

use super::Label;
use crate::tensors::{Column, PartFile, TensorError, header};
use safetensors::Dtype;
use std::{collections::BTreeMap, path::Path};
use wire::response::CodedView;

/// A block that came before its turn.
#[derive(Debug)]
struct Held {
    ends: Vec<u32>,
    flags: Vec<u8>,
    data: Vec<u8>,
}

/// A file of coded rows under construction. How long it gets is known only at its end, so its
/// header is written last, into room that was kept.
#[derive(Debug)]
pub(crate) struct CodedWriter {
    file: PartFile,
    label: Label,
    rows: u64,
    header_len: usize,
    next_row: u64,
    data_len: u64,
    held: BTreeMap<u64, Held>,
    /// Reused memory.
    ends: Vec<u8>,
}

fn columns(rows: u64, data: usize) -> [Column; 3] {
    let column =
        |name: &'static str, dtype, len| Column { name: name.into(), dtype, shape: vec![len] };
    [
        column("ends", Dtype::U64, rows as usize),
        column("flags", Dtype::U8, rows as usize),
        column("data", Dtype::U8, data),
    ]
}

impl CodedWriter {
    /// Begins a file of `rows` rows. The last axis of the label's shape and its basis are taken
    /// from the first block.
    ///
    /// # Errors
    /// [`TensorError::Io`], [`TensorError::Malformed`] for rows that cannot be counted.
    pub(crate) fn create(path: &Path, label: Label, rows: u64) -> Result<Self, TensorError> {
        let too_large = || TensorError::Malformed {
            path: path.to_owned(),
            what: "its rows would be too many to be counted".to_owned(),
        };
        // The longest that any number of the header can get.
        let mut widest = label.clone();
        if let Some(cols) = widest.shape.last_mut() {
            *cols = u32::MAX as usize;
        }
        let fixed = rows.checked_mul(9).and_then(|fixed| usize::try_from(fixed).ok());
        let data = usize::MAX.checked_sub(fixed.ok_or_else(too_large)?).ok_or_else(too_large)?;
        let header = header(&columns(rows, data), &widest.texts(), 0).ok_or_else(too_large)?;
        Ok(Self {
            file: PartFile::create(path)?,
            label,
            rows,
            header_len: header.len(),
            next_row: 0,
            data_len: 0,
            held: BTreeMap::new(),
            ends: Vec::new(),
        })
    }

    /// Blocks that wait for others before them.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes in the rows from row `first` on.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    pub(crate) fn put(&mut self, first: u64, view: &CodedView<'_>) -> Result<(), TensorError> {
        if first == 0 {
            self.label.basis = *view.basis;
            if let Some(cols) = self.label.shape.last_mut() {
                *cols = view.cols as usize;
            }
        }
        if first != self.next_row {
            let (ends, flags, data) = (view.ends.into(), view.flags.into(), view.data.into());
            self.held.insert(first, Held { ends, flags, data });
            return Ok(());
        }
        self.append(view.ends, view.flags, view.data)?;
        while let Some(held) = self.held.remove(&self.next_row) {
            self.append(&held.ends, &held.flags, &held.data)?;
        }
        Ok(())
    }

    fn append(&mut self, ends: &[u32], flags: &[u8], data: &[u8]) -> Result<(), TensorError> {
        let base = self.data_len;
        self.ends.clear();
        self.ends.extend(ends.iter().flat_map(|end| (base + u64::from(*end)).to_le_bytes()));
        let (header, rows) = (self.header_len as u64, self.rows);
        self.file.write_at(&self.ends, header + self.next_row * 8)?;
        self.file.write_at(flags, header + rows * 8 + self.next_row)?;
        self.file.write_at(data, header + rows * 9 + base)?;
        self.next_row += ends.len() as u64;
        self.data_len += data.len() as u64;
        Ok(())
    }

    /// Bytes that the file will have.
    pub(crate) fn len(&self) -> u64 {
        self.header_len as u64 + self.rows * 9 + self.data_len
    }

    /// Writes the header and gives the file its name.
    ///
    /// # Errors
    /// [`TensorError::Io`]; [`TensorError::Malformed`] where rows are missing.
    pub(crate) fn finish(mut self, path: &Path) -> Result<(), TensorError> {
        let columns = columns(self.rows, self.data_len as usize);
        let header = header(&columns, &self.label.texts(), self.header_len)
            .filter(|header| header.len() == self.header_len && self.next_row == self.rows);
        let Some(header) = header else {
            return Err(TensorError::Malformed {
                path: path.to_owned(),
                what: format!("only {} of its {} rows came", self.next_row, self.rows),
            });
        };
        self.file.write_at(&header, 0)?;
        self.file.finish()
    }
}
