//! The weights of lm-head, read in place from a safetensors image.

use core::fmt;
use kernels::{Element, Row, lmhead::Weights};
use safetensors::{Dtype as Stored, SafeTensors, tensor::TensorView};
use wire::{Dtype, work::COLS_MAX};

/// What is wrong with the weights. Says what was found and what is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsError(String);

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the weights cannot serve lm-head: {}", self.0)
    }
}

impl core::error::Error for WeightsError {}

/// An output projection: `[vocabulary, width]` weights in place, and their bias as f32.
#[derive(Debug)]
pub struct Projection<'w> {
    matrix: Row<'w>,
    bytes: &'w [u8],
    dtype: Dtype,
    vocabulary: usize,
    width: usize,
    bias: Option<Vec<f32>>,
}

impl<'w> Projection<'w> {
    /// Finds `weight` (f32, f16 or bf16, `[vocabulary, width]`) and, if it is there, `bias`
    /// (`[vocabulary]`) in the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`WeightsError`] for bytes that are no such file, and for tensors that are missing or of
    /// another kind or shape.
    pub fn read(image: &'w [u8]) -> Result<Self, WeightsError> {
        let file = SafeTensors::deserialize(image)
            .map_err(|error| WeightsError(format!("not a whole safetensors file ({error:?})")))?;
        let weight = file.tensor("weight").map_err(|_| {
            let names = file.names().join(", ");
            WeightsError(format!("no tensor `weight`; the file holds: {names}"))
        })?;
        let &[vocabulary, width] = weight.shape() else {
            return Err(WeightsError(format!(
                "`weight` has shape {:?}; [vocabulary, width] is needed",
                weight.shape()
            )));
        };
        for (axis, length) in [("vocabulary", vocabulary), ("width", width)] {
            if length == 0 || length > COLS_MAX as usize {
                return Err(WeightsError(format!(
                    "a {axis} of {length}; 1 to {COLS_MAX} is needed"
                )));
            }
        }
        let matrix = row("weight", &weight)?;
        let dtype = match matrix.element() {
            Element::F32 => Dtype::F32,
            Element::F16 => Dtype::F16,
            Element::Bf16 => Dtype::Bf16,
        };
        let bias = match file.tensor("bias") {
            Err(_) => None,
            Ok(bias) => Some(read_bias(&bias, vocabulary)?),
        };
        Ok(Self { matrix, bytes: weight.data(), dtype, vocabulary, width, bias })
    }

    /// Entries of a hidden row.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Logits per row.
    #[must_use]
    pub const fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The weights as they lie in the file, and their type.
    pub(crate) fn bytes(&self) -> (Dtype, &'w [u8]) {
        (self.dtype, self.bytes)
    }

    /// The bias, `[vocabulary]`.
    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// As the kernel takes them.
    pub(crate) fn weights(&self) -> Option<Weights<'_>> {
        Weights::new(self.matrix, self.width, self.bias.as_deref())
    }
}

fn read_bias(bias: &TensorView<'_>, vocabulary: usize) -> Result<Vec<f32>, WeightsError> {
    if bias.shape() != [vocabulary] {
        return Err(WeightsError(format!(
            "`bias` has shape {:?}; [{vocabulary}] is needed",
            bias.shape()
        )));
    }
    let mut wide = vec![0.0; vocabulary];
    row("bias", bias)?.widen(&mut wide);
    Ok(wide)
}

/// A tensor's elements in place, whatever their alignment.
fn row<'w>(name: &str, tensor: &TensorView<'w>) -> Result<Row<'w>, WeightsError> {
    let element = match tensor.dtype() {
        Stored::F32 => Element::F32,
        Stored::F16 => Element::F16,
        Stored::BF16 => Element::Bf16,
        other => {
            return Err(WeightsError(format!("`{name}` is {other:?}; F32, F16 or BF16 is needed")));
        }
    };
    Row::from_bytes(element, tensor.data())
        .ok_or_else(|| WeightsError(format!("`{name}` is cut off inside an element")))
}
