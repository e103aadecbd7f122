//! safetensors files written row by row, in any order.

use super::{PREFIX, PartFile, TensorError};
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, path::Path};

/// Data starts at a multiple of this, so that files can be mapped and used in place.
pub(super) const DATA_ALIGN: usize = 64;

/// A tensor to be written: name, element type, shape.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Name.
    pub(crate) name: Cow<'static, str>,
    /// Element type.
    pub(crate) dtype: Dtype,
    /// Shape; the first axis is the row.
    pub(crate) shape: Vec<usize>,
}

impl Column {
    /// Bytes of the tensor, if they can be counted.
    fn bytes(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1usize, |n, axis| n.checked_mul(*axis))?;
        elements.checked_mul(self.dtype.bitsize() / 8)
    }
}

/// The start of a file with these tensors in this order and these texts: length, JSON, spaces up to
/// `room` and to the alignment of the data. The same bytes every time.
///
/// `None` where the tensors' lengths do not fit a file.
pub(crate) fn header(columns: &[Column], texts: &[(&str, String)], room: usize) -> Option<Vec<u8>> {
    let mut all = Map::new();
    let made_by = concat!("butterfly ", env!("CARGO_PKG_VERSION"));
    let mut metadata: Map<String, Value> =
        texts.iter().map(|(key, text)| ((*key).to_owned(), json!(text))).collect();
    metadata.insert("made_by".to_owned(), json!(made_by));
    all.insert("__metadata__".to_owned(), Value::Object(metadata));
    let mut start = 0_usize;
    for column in columns {
        let end = start.checked_add(column.bytes()?)?;
        let dtype = column.dtype.to_string();
        let info = json!({ "dtype": dtype, "shape": column.shape, "data_offsets": [start, end] });
        all.insert(column.name.clone().into_owned(), info);
        start = end;
    }
    let json = Value::Object(all).to_string();
    let prefix = PREFIX as usize;
    let len = (json.len() + prefix).max(room).next_multiple_of(DATA_ALIGN) - prefix;
    let mut bytes = Vec::with_capacity(prefix + len);
    bytes.extend_from_slice(&(len as u64).to_le_bytes());
    bytes.extend_from_slice(json.as_bytes());
    bytes.resize(prefix + len, b' ');
    Some(bytes)
}

/// A file under construction, filled row by row in any order. It has its final name only after
/// [`Writer::finish`].
#[derive(Debug)]
pub(crate) struct Writer {
    file: PartFile,
    /// Start in the file and bytes per row, by column.
    places: Vec<(u64, u64)>,
}

impl Writer {
    /// Lays the file out: header first, room for every column behind it.
    ///
    /// # Errors
    /// [`TensorError::Io`], or [`TensorError::Malformed`] for columns that do not fit a file.
    pub(crate) fn create(path: &Path, columns: &[Column]) -> Result<Self, TensorError> {
        let header = header(columns, &[], 0).ok_or_else(|| TensorError::Malformed {
            path: path.to_owned(),
            what: "its tensors would be too large to be counted".to_owned(),
        })?;
        let mut offset = header.len() as u64;
        let mut places = Vec::new();
        for column in columns {
            let bytes = column.bytes().unwrap_or(0) as u64;
            let rows = column.shape.first().copied().unwrap_or(1).max(1) as u64;
            places.push((offset, bytes / rows));
            offset += bytes;
        }
        let mut file = PartFile::create(path)?;
        file.write_at(&header, 0)?;
        file.set_len(offset)?;
        Ok(Self { file, places })
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
        self.file.write_at(bytes, start + first * row)
    }

    /// Writes bytes of one column from byte `at` of it on.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    ///
    /// # Panics
    /// If there is no such column.
    pub(crate) fn write_bytes(
        &mut self,
        column: usize,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), TensorError> {
        self.file.write_at(bytes, self.places[column].0 + at)
    }

    /// Gives the file its name, in one step: readers see all of it or nothing.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    pub(crate) fn finish(self) -> Result<(), TensorError> {
        self.file.finish()
    }
}
