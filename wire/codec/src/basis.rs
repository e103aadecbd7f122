//! What is learned about a tensor's channels, once, and used for every row: a basis.
//!
//! A basis is a safetensors file and is named by the SHA-256 of its bytes, so both sides of a
//! connection can be sure to mean the same one (C26).

mod file;

use sha2::{Digest, Sha256};

/// The widest rows that a basis can be for.
pub const WIDTH_MAX: usize = 16_384;

/// The name of a basis: the SHA-256 of its file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BasisId(pub [u8; 32]);

impl BasisId {
    /// The name of a file with these bytes.
    #[must_use]
    pub fn of(file: &[u8]) -> Self {
        Self(Sha256::digest(file).into())
    }

    /// The first 16 hexadecimal digits: enough to tell bases apart in a report.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(16);
        text
    }
}

impl core::fmt::Display for BasisId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl core::fmt::Debug for BasisId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "BasisId({self})")
    }
}

/// Why bytes are not a basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BasisFault {
    /// Not a safetensors file.
    File,
    /// A tensor is missing, or has another type or shape than it must.
    Shape,
    /// A number is not finite or outside its range.
    Number,
}

impl core::fmt::Display for BasisFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::File => "the basis is not a safetensors file",
            Self::Shape => "a tensor of the basis is missing or has another shape",
            Self::Number => "the basis holds a number outside its range",
        })
    }
}

impl core::error::Error for BasisFault {}

/// Parts of a basis, unchecked: see [`Basis::new`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// `[width]`, the mean of each channel.
    pub mean: Vec<f32>,
    /// `[width]`, the int8 scale of each channel; 0 for a channel that never moves.
    pub scale: Vec<f32>,
    /// Channels that are kept in f16 by `int8-centred`, ascending.
    pub outliers: Vec<u32>,
    /// `[width, width]`, row j is component j; or empty.
    pub rotation: Vec<f32>,
    /// `[width]`, the deviation of each component over the row's root mean square; empty if and
    /// only if `rotation` is.
    pub spread: Vec<f32>,
    /// Components that `pca` keeps, 1 to width; 0: none named, `pca` is not served.
    pub rank: u32,
    /// Rows that it was learned from.
    pub rows: u64,
    /// The name of the tensor that it was learned from.
    pub tensor: String,
}

/// A checked basis, ready for use.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    parts: Parts,
    /// `[width, width]`, row c holds what each component gives to channel c; or empty.
    transposed: Vec<f32>,
    file: Vec<u8>,
    id: BasisId,
}

impl Basis {
    /// Checks the parts and names them.
    ///
    /// # Errors
    /// A [`BasisFault`], not `File`.
    pub fn new(parts: Parts) -> Result<Self, BasisFault> {
        check(&parts)?;
        let file = file::write(&parts);
        Ok(Self::with_file(parts, file))
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// A [`BasisFault`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BasisFault> {
        let parts = file::read(bytes)?;
        check(&parts)?;
        Ok(Self::with_file(parts, bytes.to_vec()))
    }

    fn with_file(parts: Parts, file: Vec<u8>) -> Self {
        let width = parts.mean.len();
        let mut transposed = vec![0.0; parts.rotation.len()];
        for (component, row) in parts.rotation.chunks_exact(width).enumerate() {
            for (to, from) in transposed.iter_mut().skip(component).step_by(width).zip(row) {
                *to = *from;
            }
        }
        let id = BasisId::of(&file);
        Self { parts, transposed, file, id }
    }

    /// The file, whose SHA-256 is [`Basis::id`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.file
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> BasisId {
        self.id
    }

    /// Everything in it.
    #[must_use]
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Entries of the rows it is for.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.parts.mean.len()
    }

    /// True where rows can be rotated.
    #[must_use]
    pub const fn has_rotation(&self) -> bool {
        !self.parts.rotation.is_empty()
    }

    /// `[width, width]`, row c holds what each component gives to channel c; or empty.
    #[must_use]
    pub fn transposed(&self) -> &[f32] {
        &self.transposed
    }
}

fn check(parts: &Parts) -> Result<(), BasisFault> {
    let width = parts.mean.len();
    let rotated = parts.rotation.len() == width * width && parts.spread.len() == width;
    let plain = parts.rotation.is_empty() && parts.spread.is_empty();
    let ranked = parts.rank == 0 || (rotated && parts.rank as usize <= width);
    let shaped = (1..=WIDTH_MAX).contains(&width) && parts.scale.len() == width;
    if !shaped || !(rotated || plain) || !ranked {
        return Err(BasisFault::Shape);
    }
    let positive = |x: &f32| x.is_finite() && *x >= 0.0;
    // Entries of a rotation are cosines.
    let cosine = |x: &f32| x.abs() <= 1.001;
    let outliers = parts.outliers.is_sorted_by(|a, b| a < b)
        && parts.outliers.last().is_none_or(|last| (*last as usize) < width);
    let numbers = parts.mean.iter().all(|x| x.is_finite())
        && parts.scale.iter().all(positive)
        && parts.spread.iter().all(positive)
        && parts.rotation.iter().all(cosine);
    if outliers && numbers { Ok(()) } else { Err(BasisFault::Number) }
}
