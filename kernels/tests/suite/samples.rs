//! The committed samples and their oracles: see `wire/samples/README.md`.

use half::{bf16, f16};
use kernels::{Element, Row};
use safetensors::{Dtype, SafeTensors};

/// A file of tensors, read whole.
pub(crate) struct Samples {
    bytes: Vec<u8>,
}

/// A tensor of such a file: a matrix, or a vector as a matrix of one column.
pub(crate) struct Tensor<'a> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    dtype: Dtype,
    bytes: &'a [u8],
}

fn path(name: &str) -> String {
    format!("{}/../wire/samples/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn json(name: &str) -> serde_json::Value {
    let bytes = std::fs::read(path(name)).expect("sample file");
    serde_json::from_slice(&bytes).expect("JSON")
}

impl Samples {
    pub(crate) fn open(name: &str) -> Self {
        Self { bytes: std::fs::read(path(name)).expect("sample file") }
    }

    pub(crate) fn tensor(&self, name: &str) -> Tensor<'_> {
        self.find(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    pub(crate) fn find(&self, name: &str) -> Option<Tensor<'_>> {
        let all = SafeTensors::deserialize(&self.bytes).expect("safetensors");
        let view = all.tensor(name).ok()?;
        let shape = view.shape();
        Some(Tensor {
            rows: shape[0],
            columns: shape.get(1).copied().unwrap_or(1),
            dtype: view.dtype(),
            bytes: view.data(),
        })
    }
}

impl<'a> Tensor<'a> {
    fn element(&self) -> Element {
        match self.dtype {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            other => panic!("{other} is not a row format"),
        }
    }

    /// All entries, in place.
    pub(crate) fn whole(&self) -> Row<'a> {
        Row::from_bytes(self.element(), self.bytes).expect("whole entries")
    }

    /// One row, in place.
    pub(crate) fn row(&self, row: usize) -> Row<'a> {
        self.whole().part(row * self.columns..(row + 1) * self.columns).expect("a row")
    }

    /// One row as f32.
    pub(crate) fn widened(&self, row: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.columns];
        assert_eq!(self.row(row).widen(&mut out), self.columns);
        out
    }

    pub(crate) fn f32s(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.columns];
        self.whole().widen(&mut out);
        out
    }

    pub(crate) fn f64s(&self) -> Vec<f64> {
        assert_eq!(self.dtype, Dtype::F64);
        self.bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }

    pub(crate) fn indices(&self, row: usize) -> Vec<u32> {
        assert_eq!(self.dtype, Dtype::I32);
        let all = self.bytes.as_chunks().0;
        let row = &all[row * self.columns..][..self.columns];
        row.iter().map(|b| u32::from_le_bytes(*b)).collect()
    }

    pub(crate) fn codes(&self, row: usize) -> Vec<i8> {
        assert_eq!(self.dtype, Dtype::I8);
        self.bytes[row * self.columns..][..self.columns].iter().map(|b| b.cast_signed()).collect()
    }
}

/// A row in one of the three formats, owned, rounded to nearest even by the `half` crate.
pub(crate) enum Owned {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Owned {
    pub(crate) fn of(element: Element, values: &[f32]) -> Self {
        match element {
            Element::F32 => Self::F32(values.to_vec()),
            Element::F16 => Self::F16(values.iter().map(|x| f16::from_f32(*x)).collect()),
            Element::Bf16 => Self::Bf16(values.iter().map(|x| bf16::from_f32(*x)).collect()),
        }
    }

    pub(crate) fn row(&self) -> Row<'_> {
        match self {
            Self::F32(entries) => Row::F32(entries),
            Self::F16(entries) => Row::F16(entries),
            Self::Bf16(entries) => Row::Bf16(entries),
        }
    }

    /// The values after rounding.
    pub(crate) fn widened(&self) -> Vec<f32> {
        match self {
            Self::F32(entries) => entries.clone(),
            Self::F16(entries) => entries.iter().map(|x| x.to_f32()).collect(),
            Self::Bf16(entries) => entries.iter().map(|x| x.to_f32()).collect(),
        }
    }

    /// The entries as bytes that start `shift` bytes into a buffer.
    pub(crate) fn shifted(&self, shift: usize) -> Vec<u8> {
        let mut bytes = vec![0xff; shift];
        match self {
            Self::F32(entries) => entries.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
            Self::F16(entries) => entries.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
            Self::Bf16(entries) => entries.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        }
        bytes
    }
}

pub(crate) const ELEMENTS: [(Element, &str); 3] =
    [(Element::F32, "f32"), (Element::F16, "f16"), (Element::Bf16, "bf16")];
