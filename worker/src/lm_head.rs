//! The logits of a batch of lm-head orders, a tile of rows at a time.
//!
//! A tile is filled from as many orders of the batch as it takes, so that one pass over the weights
//! serves all of them. The rows of a tile carry the tag of the order they belong to; an order that
//! is refused when its turn comes leaves its rows behind, and the next one passes over them.

use crate::weights::Projection;
use core::ops::Range;
use kernels::{Row, lmhead};

/// Most logits of a tile: 32 MiB of f32.
const LOGITS_MAX: usize = 8 << 20;
/// Most multiplications of a tile: bounds the time between two beats to about a second.
const PRODUCTS_MAX: usize = 1 << 34;
/// Most rows of a tile. Beyond it the weights are not what costs.
const ROWS_MAX: usize = 64;

/// Which order of a batch: the number of orders behind it.
pub(crate) type Tag = usize;

/// The projection, and the logits that are computed and not yet used.
#[derive(Debug)]
pub(crate) struct LmHead<'w> {
    projection: Projection<'w>,
    rows_max: usize,
    hidden: Vec<f32>,
    logits: Vec<f32>,
    tags: Vec<Tag>,
    /// The rows of the tile that nobody has taken yet.
    left: Range<usize>,
}

impl<'w> LmHead<'w> {
    /// Room for the largest tile, taken here once.
    pub(crate) fn new(projection: Projection<'w>) -> Self {
        let (vocabulary, width) = (projection.vocabulary(), projection.width());
        let products = vocabulary.saturating_mul(width).max(1);
        let rows_max =
            (LOGITS_MAX / vocabulary.max(1)).min(PRODUCTS_MAX / products).clamp(1, ROWS_MAX);
        Self {
            rows_max,
            hidden: vec![0.0; rows_max * width],
            logits: vec![0.0; rows_max * vocabulary],
            tags: Vec::with_capacity(rows_max),
            left: 0..0,
            projection,
        }
    }

    pub(crate) const fn projection(&self) -> &Projection<'w> {
        &self.projection
    }

    /// Begins the order `tag`: what is left of others before it is dropped.
    pub(crate) fn begin(&mut self, tag: Tag) {
        while !self.left.is_empty() && self.tags[self.left.start] != tag {
            self.left.start += 1;
        }
    }

    /// The logits of the next row of the order `tag`. Where the tile is used up, a new one is
    /// computed from `rows`: that row, the rest of its order, then the rows of orders behind it.
    /// `None` where `rows` does not begin with a row of `tag` of the right width.
    pub(crate) fn next<'r>(
        &mut self,
        tag: Tag,
        rows: impl Iterator<Item = (Tag, Row<'r>)>,
    ) -> Option<Row<'_>> {
        if self.left.is_empty() {
            self.fill(rows)?;
        }
        let at = self.left.start;
        if self.tags[at] != tag {
            return None;
        }
        self.left.start += 1;
        let vocabulary = self.projection.vocabulary();
        Some(Row::F32(&self.logits[at * vocabulary..][..vocabulary]))
    }

    fn fill<'r>(&mut self, rows: impl Iterator<Item = (Tag, Row<'r>)>) -> Option<()> {
        let width = self.projection.width();
        self.tags.clear();
        let places = self.hidden.chunks_exact_mut(width).take(self.rows_max);
        for (place, (tag, row)) in places.zip(rows) {
            if row.len() != width {
                break;
            }
            row.widen(place);
            self.tags.push(tag);
        }
        let count = self.tags.len();
        if count == 0 {
            return None;
        }
        let hidden = &self.hidden[..count * width];
        let logits = &mut self.logits[..count * self.projection.vocabulary()];
        lmhead::logits(hidden, &self.projection.weights()?, logits).ok()?;
        self.left = 0..count;
        Some(())
    }
}
