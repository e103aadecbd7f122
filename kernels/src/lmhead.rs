//! Logits of hidden rows: `hidden * weights^T + bias`, in f32.
//!
//! # Order
//! A logit is summed in 16 lanes: lane l takes the products of columns l, l + 16, l + 32, ... in
//! that order, each by one fused multiply-add from +0; the lanes are folded 8, 4, 2, 1 (lane j +=
//! lane j + 8 first); the bias is added last. The order depends neither on the level nor on how
//! many rows are computed together, so a row has the same logits alone and in a batch.
//!
//! # Speed
//! For one row this is a pass over the weights: memory-bound. For several, tiles of rows times
//! vocabulary entries live in registers, and a panel of weights is used for all rows while it
//! is in the cache: the weights are read from memory once per call.

use std::ops::Range;

use crate::cpu::Level;
use crate::row::{AsBf16, AsF16, AsF32, Entries, Format, Row};
use crate::simd::{self, Op, Simd, WIDTH};

/// Vocabulary entries in a panel: a multiple of every tile, small enough for the L2 cache.
const PANEL: usize = 12;

/// An output projection: one row of weights per vocabulary entry.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    matrix: Row<'a>,
    vocabulary: usize,
    width: usize,
    bias: Option<&'a [f32]>,
}

impl<'a> Weights<'a> {
    /// `matrix` holds `[vocabulary, width]` entries, row-major; `bias`, if any, `[vocabulary]`.
    ///
    /// `None` if `width` is 0, does not divide the matrix, or the bias has another length.
    #[must_use]
    pub fn new(matrix: Row<'a>, width: usize, bias: Option<&'a [f32]>) -> Option<Self> {
        let vocabulary = matrix.len().checked_div(width)?;
        let fits =
            vocabulary * width == matrix.len() && bias.is_none_or(|bias| bias.len() == vocabulary);
        fits.then_some(Self { matrix, vocabulary, width, bias })
    }

    /// Number of logits per row.
    #[must_use]
    pub const fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Entries of a hidden row.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// The projection to a part of the vocabulary, so that threads can share the work.
    ///
    /// `None` if the range reaches beyond the vocabulary or is reversed.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.vocabulary {
            return None;
        }
        let entries = range.start * self.width..range.end * self.width;
        let matrix = self.matrix.part(entries)?;
        let bias = self.bias.map(|bias| &bias[range.clone()]);
        Some(Self { matrix, vocabulary: range.len(), width: self.width, bias })
    }
}

/// The slices given to [`logits`] do not have the lengths that the weights ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeError;

impl std::fmt::Display for ShapeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("rows must be a multiple of the width, and out must hold their logits")
    }
}

impl std::error::Error for ShapeError {}

/// Writes the logits of `rows` (`[n, width]` f32, row-major) into `out` (`[n, vocabulary]`).
///
/// # Errors
/// [`ShapeError`] if `rows` is not a whole number of rows or `out` is not as long as their logits;
/// `out` is then untouched.
pub fn logits(rows: &[f32], weights: &Weights<'_>, out: &mut [f32]) -> Result<(), ShapeError> {
    logits_at(Level::detect(), rows, weights, out)
}

/// [`logits`] at a given level.
///
/// # Errors
/// As [`logits`].
pub fn logits_at(
    level: Level,
    rows: &[f32],
    weights: &Weights<'_>,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    let count = rows.len() / weights.width;
    if count * weights.width != rows.len()
        || count.checked_mul(weights.vocabulary) != Some(out.len())
    {
        return Err(ShapeError);
    }
    simd::dispatch(level, Project { rows, weights, out });
    Ok(())
}

struct Project<'a, 'b> {
    rows: &'a [f32],
    weights: &'a Weights<'a>,
    out: &'b mut [f32],
}

impl Op for Project<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.weights.matrix.entries() {
            Entries::F32(matrix) => self.panels::<S, AsF32>(s, matrix),
            Entries::F16(matrix) => self.panels::<S, AsF16>(s, matrix),
            Entries::Bf16(matrix) => self.panels::<S, AsBf16>(s, matrix),
        }
    }
}

/// Where a tile begins.
#[derive(Clone, Copy)]
struct Corner {
    row: usize,
    column: usize,
}

impl Project<'_, '_> {
    #[inline(always)]
    fn panels<S: Simd, T: Format>(mut self, s: S, matrix: &[T::Bytes]) {
        let count = self.rows.len() / self.weights.width;
        for start in (0..self.weights.vocabulary).step_by(PANEL) {
            let panel = start..(start + PANEL).min(self.weights.vocabulary);
            let mut row = 0;
            while S::REGISTERS >= 32 && count - row >= 8 {
                self.panel::<S, T, 8, 3>(s, matrix, row, panel.clone());
                row += 8;
            }
            while S::REGISTERS >= 32 && count - row >= 4 {
                self.panel::<S, T, 4, 4>(s, matrix, row, panel.clone());
                row += 4;
            }
            while count - row >= 2 {
                self.panel::<S, T, 2, 2>(s, matrix, row, panel.clone());
                row += 2;
            }
            if count > row {
                self.panel::<S, T, 1, 4>(s, matrix, row, panel);
            }
        }
    }

    /// `R` rows times the columns of a panel, `C` at a time.
    #[inline(always)]
    fn panel<S: Simd, T: Format, const R: usize, const C: usize>(
        &mut self,
        s: S,
        matrix: &[T::Bytes],
        row: usize,
        panel: Range<usize>,
    ) {
        let mut column = panel.start;
        while panel.end - column >= C {
            self.tile::<S, T, R, C>(s, matrix, Corner { row, column });
            column += C;
        }
        while column < panel.end {
            self.tile::<S, T, R, 1>(s, matrix, Corner { row, column });
            column += 1;
        }
    }

    /// `R` rows times `C` columns, all sums in registers.
    #[inline(always)]
    fn tile<S: Simd, T: Format, const R: usize, const C: usize>(
        &mut self,
        s: S,
        matrix: &[T::Bytes],
        at: Corner,
    ) {
        let width = self.weights.width;
        let whole = width / WIDTH;
        let rows: [_; R] = std::array::from_fn(|r| {
            let (vectors, tail) = self.rows[(at.row + r) * width..][..width].as_chunks::<WIDTH>();
            (&vectors[..whole], tail)
        });
        let columns: [_; C] = std::array::from_fn(|c| {
            let (vectors, tail) = matrix[(at.column + c) * width..][..width].as_chunks::<WIDTH>();
            (&vectors[..whole], tail)
        });
        let mut sums = [[s.splat(0.0); C]; R];
        for place in 0..whole {
            let weights: [_; C] = std::array::from_fn(|c| T::load(s, &columns[c].0[place]));
            for r in 0..R {
                let hidden = s.load(&rows[r].0[place]);
                for c in 0..C {
                    sums[r][c] = s.fma(hidden, weights[c], sums[r][c]);
                }
            }
        }
        if whole * WIDTH < width {
            let weights: [_; C] =
                std::array::from_fn(|c| T::load(s, &T::pad(columns[c].1, T::ZERO)));
            for r in 0..R {
                let mut padded = [0.0; WIDTH];
                padded[..rows[r].1.len()].copy_from_slice(rows[r].1);
                let hidden = s.load(&padded);
                for c in 0..C {
                    sums[r][c] = s.fma(hidden, weights[c], sums[r][c]);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let out = (at.row + r) * self.weights.vocabulary + at.column;
            let out = &mut self.out[out..out + C];
            for (c, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
                let sum = s.sum(sum);
                *out = self.weights.bias.map_or(sum, |bias| sum + bias[at.column + c]);
            }
        }
    }
}
