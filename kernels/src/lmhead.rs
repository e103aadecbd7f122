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

/// Vocabulary entries in a panel: a multiple of every tile's, and few enough for the L2 cache.
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
        let vocabulary = self.weights.vocabulary;
        let mut column = 0;
        while column < vocabulary {
            if vocabulary < PANEL {
                self.columns::<S, T, 1, 1>(s, matrix, Corner { row: 0, column }, 1);
                column += 1;
            } else {
                // The last panel overlaps the one before it: the same logits once more.
                self.panel::<S, T>(s, matrix, column.min(vocabulary - PANEL));
                column += PANEL;
            }
        }
    }

    /// All rows times the `PANEL` columns from `column` on.
    #[inline(always)]
    fn panel<S: Simd, T: Format>(&mut self, s: S, matrix: &[T::Bytes], column: usize) {
        let count = self.rows.len() / self.weights.width;
        let at = |row| Corner { row, column };
        let mut row = 0;
        if S::REGISTERS >= 32 {
            row = self.columns::<S, T, 4, 6>(s, matrix, at(row), PANEL);
            row = self.columns::<S, T, 2, 6>(s, matrix, at(row), PANEL);
        } else {
            row = self.columns::<S, T, 2, 2>(s, matrix, at(row), PANEL);
        }
        row = self.columns::<S, T, 1, 4>(s, matrix, at(row), PANEL);
        debug_assert_eq!(row, count);
    }

    /// `count` columns times as many rows as make whole tiles; gives the first row left over.
    #[inline(always)]
    fn columns<S: Simd, T: Format, const R: usize, const C: usize>(
        &mut self,
        s: S,
        matrix: &[T::Bytes],
        from: Corner,
        count: usize,
    ) -> usize {
        let mut row = from.row;
        while self.rows.len() / self.weights.width - row >= R {
            for column in (from.column..from.column + count).step_by(C) {
                self.tile::<S, T, R, C>(s, matrix, Corner { row, column });
            }
            row += R;
        }
        row
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
        let mut rows = [(&[][..], &[][..]); R];
        for (row, number) in rows.iter_mut().zip(at.row..) {
            let (vectors, tail) = self.rows[number * width..][..width].as_chunks::<WIDTH>();
            *row = (&vectors[..whole], tail);
        }
        let mut columns = [(&[][..], &[][..]); C];
        for (column, number) in columns.iter_mut().zip(at.column..) {
            let (vectors, tail) = matrix[number * width..][..width].as_chunks::<WIDTH>();
            *column = (&vectors[..whole], tail);
        }
        // One row is bound by memory: ask for the next tile's weights while this one computes.
        let next = (at.column + C) * width..(at.column + 2 * C) * width;
        let next = matrix.get(next).unwrap_or_default();
        let mut sums = [[s.splat(0.0); C]; R];
        for place in 0..whole {
            let (mut hidden, mut weights) = ([s.splat(0.0); R], [s.splat(0.0); C]);
            for (weights, (vectors, _)) in weights.iter_mut().zip(&columns) {
                *weights = T::load(s, &vectors[place]);
            }
            if R == 1 {
                for column in 0..C {
                    if let Some(ahead) = next.get(column * width + place * WIDTH) {
                        s.prefetch(ahead);
                    }
                }
            }
            for (hidden, (vectors, _)) in hidden.iter_mut().zip(&rows) {
                *hidden = s.load(&vectors[place]);
            }
            multiply(s, &hidden, &weights, &mut sums);
        }
        if whole * WIDTH < width {
            let (mut hidden, mut weights) = ([s.splat(0.0); R], [s.splat(0.0); C]);
            for (weights, (_, tail)) in weights.iter_mut().zip(&columns) {
                *weights = T::load(s, &T::pad(tail, T::ZERO));
            }
            for (hidden, (_, tail)) in hidden.iter_mut().zip(&rows) {
                let mut padded = [0.0; WIDTH];
                padded[..tail.len()].copy_from_slice(tail);
                *hidden = s.load(&padded);
            }
            multiply(s, &hidden, &weights, &mut sums);
        }
        self.finish(s, &sums, at);
    }

    /// Folds the lanes, adds the bias and writes the logits.
    #[inline(always)]
    fn finish<S: Simd, const R: usize, const C: usize>(
        &mut self,
        s: S,
        sums: &[[S::F; C]; R],
        at: Corner,
    ) {
        let mut folded = [[0.0; C]; R];
        let (fours, rest) = sums.as_flattened().as_chunks();
        let (folded_fours, folded_rest) = folded.as_flattened_mut().as_chunks_mut();
        for (sums, folded) in fours.iter().zip(folded_fours) {
            *folded = s.sum_four(*sums);
        }
        for (sum, folded) in rest.iter().zip(folded_rest) {
            *folded = s.sum(*sum);
        }
        for (folded, row) in folded.iter_mut().zip(at.row..) {
            if let Some(bias) = self.weights.bias {
                for (logit, bias) in folded.iter_mut().zip(&bias[at.column..]) {
                    *logit += bias;
                }
            }
            let out = row * self.weights.vocabulary + at.column;
            self.out[out..out + C].copy_from_slice(folded);
        }
    }
}

#[inline(always)]
fn multiply<S: Simd, const R: usize, const C: usize>(
    s: S,
    hidden: &[S::F; R],
    weights: &[S::F; C],
    sums: &mut [[S::F; C]; R],
) {
    for (sums, hidden) in sums.iter_mut().zip(hidden) {
        for (sum, weights) in sums.iter_mut().zip(weights) {
            *sum = s.fma(*hidden, *weights, *sum);
        }
    }
}
