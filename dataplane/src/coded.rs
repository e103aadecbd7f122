//! Coded rows in a file: `data` U8 holds the rows one behind the other, `ends` U64 where each row
//! ends in it, `flags` U8 what is to be said of each, and texts of the header how to read them.

mod reader;
mod writer;

pub(crate) use reader::{Block, CodedFile};
pub(crate) use writer::CodedWriter;

use codec::{
    Coding, Fault,
    basis::Basis,
    hidden,
    set::{self, SetBuf},
};
use wire::{
    Dtype,
    work::{COLS_MAX, K_MAX},
};

/// What `format` of a file's texts says.
const FORMAT: &str = "butterfly-coded";
/// Version of the layout of the file. The rows' layouts are versioned by the coding's name.
const VERSION: &str = "1";

/// What is coded, and how: the texts of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Label {
    /// How.
    pub(crate) coding: Coding,
    /// The dial.
    pub(crate) quality: f32,
    /// Most entries of a set; 0 for hidden rows.
    pub(crate) k: u32,
    /// The basis that decodes the rows, or zero.
    pub(crate) basis: [u8; 32],
    /// Name of the tensor that was coded.
    pub(crate) tensor: String,
    /// Its element type; of the products, for lm-head.
    pub(crate) dtype: Dtype,
    /// Its shape; the last axis is the row.
    pub(crate) shape: Vec<usize>,
    /// True for sets of products with the node's weights: the rows are in no file.
    pub(crate) lm_head: bool,
}

impl Label {
    /// Elements of a row.
    pub(crate) fn cols(&self) -> u32 {
        self.shape.last().and_then(|cols| u32::try_from(*cols).ok()).unwrap_or(0)
    }

    /// Rows.
    pub(crate) fn rows(&self) -> u64 {
        let leading = self.shape.split_last().map_or(&[][..], |(_, leading)| leading);
        leading.iter().map(|axis| *axis as u64).product()
    }

    /// Bytes of the rows as they were before.
    pub(crate) fn plain_bytes(&self) -> u64 {
        self.rows().saturating_mul(u64::from(self.cols())).saturating_mul(self.dtype.size() as u64)
    }

    fn texts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("coding", self.coding.to_string()),
            ("quality", self.quality.to_string()),
            ("k", self.k.to_string()),
            ("cols", self.cols().to_string()),
            ("basis", hex(&self.basis)),
            ("tensor", self.tensor.clone()),
            ("dtype", self.dtype.to_string()),
            ("shape", serde_json::json!(self.shape).to_string()),
            ("operation", if self.lm_head { "lm-head" } else { "as-stored" }.to_owned()),
        ]
    }

    /// Reads the texts; an error is a sentence.
    fn from_texts<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Result<Self, String> {
        match (text("format"), text("version")) {
            (Some(FORMAT), Some(VERSION)) => {}
            (Some(FORMAT), version) => {
                let version = version.unwrap_or("none");
                return Err(format!("version {version} of the layout is not known here"));
            }
            _ => {
                return Err(
                    "it holds no coded rows; `butterfly compress --codec` writes such".into()
                );
            }
        }
        let get = |key: &str| text(key).ok_or_else(|| format!("its header has no `{key}`"));
        let wrong = |key: &str| format!("its header's `{key}` makes no sense");
        let known = |name: &str| Coding::ALL.iter().copied().find(|coding| coding.name() == name);
        let coding = get("coding")?;
        let coding = known(coding).filter(|coding| *coding != Coding::Plain);
        let dtype = get("dtype")?;
        let dtype = Dtype::ALL.iter().copied().find(|known| known.name() == dtype);
        let label = Self {
            coding: coding.ok_or_else(|| wrong("coding"))?,
            quality: get("quality")?.parse().map_err(|_| wrong("quality"))?,
            k: get("k")?.parse().map_err(|_| wrong("k"))?,
            basis: from_hex(get("basis")?).ok_or_else(|| wrong("basis"))?,
            tensor: get("tensor")?.to_owned(),
            dtype: dtype.filter(|d| *d != Dtype::U8).ok_or_else(|| wrong("dtype"))?,
            shape: serde_json::from_str(get("shape")?).map_err(|_| wrong("shape"))?,
            lm_head: get("operation")? == "lm-head",
        };
        let stated = get("cols")?.parse() == Ok(label.cols());
        let rows = label.shape.iter().try_fold(1_usize, |n, axis| n.checked_mul(*axis));
        let sized = (1..=COLS_MAX).contains(&label.cols()) && rows.is_some_and(|n| n > 0);
        if !stated || !sized {
            return Err(wrong("shape"));
        }
        // The one name that no tensor of a file can have.
        if label.tensor == "__metadata__" {
            return Err(wrong("tensor"));
        }
        let entries = if label.coding.is_set() { 1..=K_MAX } else { 0..=0 };
        if entries.contains(&label.k) { Ok(label) } else { Err(wrong("k")) }
    }
}

/// Bytes as lower-case digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly 32 bytes.
pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// A coded row, read.
#[derive(Debug)]
pub(crate) enum Decoded<'a> {
    /// A top-k set.
    Set(&'a SetBuf),
    /// A hidden row.
    Hidden(&'a [f32]),
}

/// Reads coded rows.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    coding: Coding,
    k: u32,
    cols: u32,
    basis: Option<&'a Basis>,
    set: SetBuf,
    row: Vec<f32>,
    scratch: hidden::Scratch,
}

impl<'a> Decoder<'a> {
    /// For rows of a coding: sets of up to `k` of `cols` columns, or hidden rows of `cols`.
    pub(crate) fn new(coding: Coding, k: u32, cols: u32, basis: Option<&'a Basis>) -> Self {
        let wide = if coding.is_hidden() { cols as usize } else { 0 };
        Self {
            coding,
            k,
            cols,
            basis,
            set: SetBuf::new(k as usize),
            row: vec![0.0; wide],
            scratch: hidden::Scratch::new(wide),
        }
    }

    /// Reads one.
    pub(crate) fn row(&mut self, bytes: &[u8]) -> Result<Decoded<'_>, Fault> {
        if self.coding.is_set() {
            set::decode(self.coding, bytes, self.cols, self.k as usize, &mut self.set)?;
            return Ok(Decoded::Set(&self.set));
        }
        let Self { coding, basis, row, scratch, .. } = self;
        hidden::decode(*coding, bytes, *basis, row, scratch)?;
        Ok(Decoded::Hidden(row))
    }
}

#[cfg(test)]
#[path = "coded/tests.rs"]
mod tests;
