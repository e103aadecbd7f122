//! Real logits, from the samples of the wire format.

use bytes::Bytes;
use kernels::{Element, Row};
use safetensors::{Dtype, SafeTensors};

/// A matrix of logits.
#[derive(Clone, Debug)]
pub(crate) struct Logits {
    /// As it is called in the file.
    pub(crate) name: &'static str,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) element: Element,
    pub(crate) bytes: Bytes,
}

/// Tensors that are measured: a trained head, and a vocabulary as large models have it.
const NAMES: [&str; 2] = ["head.f32", "wide.bf16"];

impl Logits {
    /// All that are measured.
    pub(crate) fn all() -> Result<Vec<Self>, String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wire/samples/logits.safetensors");
        let file = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        let file = SafeTensors::deserialize(&file).map_err(|error| format!("{path}: {error}"))?;
        let read = |name| {
            let view = file.tensor(name).map_err(|error| format!("{path}: {error}"))?;
            let element = match view.dtype() {
                Dtype::F32 => Element::F32,
                Dtype::F16 => Element::F16,
                Dtype::BF16 => Element::Bf16,
                other => return Err(format!("{path}: {name} is of {other}")),
            };
            let &[rows, cols] = view.shape() else { return Err(format!("{name} is no matrix")) };
            Ok(Self { name, rows, cols, element, bytes: Bytes::copy_from_slice(view.data()) })
        };
        NAMES.into_iter().map(read).collect()
    }

    /// The first rows.
    pub(crate) fn first(&self, rows: usize) -> Self {
        let len = rows * self.cols * self.element.size();
        Self { rows, bytes: self.bytes.slice(..len), ..self.clone() }
    }

    /// One row, in place.
    pub(crate) fn row(&self, row: usize) -> Option<Row<'_>> {
        let len = self.cols * self.element.size();
        Row::from_bytes(self.element, self.bytes.get(row * len..(row + 1) * len)?)
    }
}

/// The name of an element type in a path.
pub(crate) const fn label(element: Element) -> &'static str {
    match element {
        Element::F32 => "f32",
        Element::F16 => "f16",
        Element::Bf16 => "bf16",
    }
}

/// The element type of a name.
pub(crate) fn element(label: &str) -> Option<Element> {
    [Element::F32, Element::F16, Element::Bf16].into_iter().find(|it| self::label(*it) == label)
}
