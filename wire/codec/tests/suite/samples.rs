//! The committed samples: see `wire/samples/README.md`.

use kernels::{Element, Row};
use safetensors::{Dtype, SafeTensors};

/// A file of tensors, read whole.
pub(crate) struct Samples(Vec<u8>);

/// A matrix of such a file.
pub(crate) struct Tensor<'a> {
    /// Rows.
    pub(crate) rows: usize,
    /// Columns.
    pub(crate) cols: usize,
    /// How its entries are stored.
    pub(crate) element: Element,
    bytes: &'a [u8],
}

impl Samples {
    /// One of `wire/samples`.
    pub(crate) fn open(name: &str) -> Self {
        let path = format!("{}/../samples/{name}", env!("CARGO_MANIFEST_DIR"));
        Self(std::fs::read(path).expect("sample file"))
    }

    /// A tensor of f32, f16 or bf16.
    pub(crate) fn tensor(&self, name: &str) -> Tensor<'_> {
        let all = SafeTensors::deserialize(&self.0).expect("safetensors");
        let view = all.tensor(name).expect("the tensor");
        let element = match view.dtype() {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            other => panic!("{other} is not a row format"),
        };
        let shape = view.shape();
        Tensor { rows: shape[0], cols: shape[1], element, bytes: view.data() }
    }
}

impl<'a> Tensor<'a> {
    /// One row, in place.
    pub(crate) fn row(&self, row: usize) -> Row<'a> {
        let bytes = self.cols * self.element.size();
        Row::from_bytes(self.element, &self.bytes[row * bytes..][..bytes]).expect("a row")
    }

    /// One row as f32.
    pub(crate) fn widened(&self, row: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.cols];
        self.row(row).widen(&mut out);
        out
    }
}
