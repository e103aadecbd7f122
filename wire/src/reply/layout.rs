//! Where the parts of each kind of reply lie.

use super::{PART_ALIGN, bytes};
use crate::{
    Coding, Dtype, Work,
    payload::{Answer, CodedRows, Full, Int8Block, Part, SCHEME_ROW_ABSMAX, Tensor, TopKSet},
};
use bytemuck::{Pod, try_cast_slice_mut};
use core::ops::Range;

/// A stretch of a payload, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub pos: usize,
    /// Bytes.
    pub len: usize,
}

impl Span {
    /// A stretch behind this one.
    const fn then(self, len: usize) -> Self {
        Self { pos: self.end().next_multiple_of(PART_ALIGN), len }
    }

    /// The first byte behind it.
    #[must_use]
    pub const fn end(self) -> usize {
        self.pos.saturating_add(self.len)
    }

    /// As a range of the payload.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.pos..self.end()
    }

    /// As an array of `T` in the root.
    fn part<T>(self) -> Result<Part<T>, Full> {
        let pos = u32::try_from(self.pos).map_err(|_| Full)?;
        let len = u32::try_from(self.len / size_of::<T>()).map_err(|_| Full)?;
        Ok(Part::new(pos, len))
    }

    /// An empty array behind every other part, which is where readers expect absent ones.
    fn absent<T>(end: usize) -> Result<Part<T>, Full> {
        Self { pos: end, len: 0 }.part()
    }
}

/// Cuts disjoint stretches, in order, out of a payload.
struct Cutter<'a> {
    rest: &'a mut [u8],
    at: usize,
}

impl<'a> Cutter<'a> {
    const fn new(payload: &'a mut [u8]) -> Self {
        Self { rest: payload, at: 0 }
    }

    /// The bytes of `span`, and those between it and the one before.
    fn cut(&mut self, span: Span) -> Result<(&'a mut [u8], &'a mut [u8]), Full> {
        let rest = core::mem::take(&mut self.rest);
        let gap = span.pos.checked_sub(self.at).ok_or(Full)?;
        let (gap, rest) = rest.split_at_mut_checked(gap).ok_or(Full)?;
        let (part, rest) = rest.split_at_mut_checked(span.len).ok_or(Full)?;
        self.at = span.end();
        self.rest = rest;
        Ok((gap, part))
    }

    /// The elements of `span`. `Full` also says that the payload is not aligned for them in memory.
    fn typed<T: Pod>(&mut self, span: Span) -> Result<&'a mut [T], Full> {
        let (_, part) = self.cut(span)?;
        try_cast_slice_mut(part).map_err(|_| Full)
    }
}

/// Zeroes what lies between the parts and up to `end`, so that no byte of an earlier reply leaves
/// with this one.
fn clear_gaps(payload: &mut [u8], spans: &[Span], end: usize) -> Result<(), Full> {
    let mut cutter = Cutter::new(payload);
    for span in spans {
        cutter.cut(*span)?.0.fill(0);
    }
    cutter.cut(Span { pos: end, len: 0 })?.0.fill(0);
    Ok(())
}

/// Top-k of `rows` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopKReply {
    /// Rows.
    pub rows: u32,
    /// Entries per row.
    pub k: u32,
    /// Columns of the rows the entries are chosen from.
    pub cols: u32,
    /// Element type of the values.
    pub values_dtype: Dtype,
    /// u32 `[rows, k]`.
    pub indices: Span,
    /// `values_dtype` `[rows, k]`.
    pub values: Span,
    /// u32 `[rows]`.
    pub counts: Span,
    /// f32 `[rows]`.
    pub max: Span,
    /// f32 `[rows]`.
    pub log_sum: Span,
    /// u8 `[rows]`.
    pub flags: Span,
}

/// The parts of a top-k reply, to be filled. Rows are `k` entries apart.
#[derive(Debug)]
pub struct TopKParts<'a> {
    /// `[rows, k]`, columns; entries from the row's count on need not be written.
    pub indices: &'a mut [u32],
    /// `[rows, k]` of the layout's `values_dtype`, as bytes aligned for it.
    pub values: &'a mut [u8],
    /// `[rows]`, valid entries.
    pub counts: &'a mut [u32],
    /// `[rows]`, largest value.
    pub max: &'a mut [f32],
    /// `[rows]`, ln of the sum of exp(x - max).
    pub log_sum: &'a mut [f32],
    /// `[rows]`, see [`crate::flags`].
    pub flags: &'a mut [u8],
}

impl TopKReply {
    /// Places the parts for top-k sets of `rows` rows. For lm-head, `cols` is the number of
    /// outputs.
    #[must_use]
    pub const fn layout(rows: u32, k: u32, cols: u32, values_dtype: Dtype) -> Self {
        let per_row = rows as usize;
        let entries = per_row.saturating_mul(k as usize);
        let indices = Span { pos: 0, len: entries.saturating_mul(4) };
        let values = indices.then(bytes(entries, values_dtype));
        let counts = values.then(per_row * 4);
        let max = counts.then(per_row * 4);
        let log_sum = max.then(per_row * 4);
        let flags = log_sum.then(per_row);
        Self { rows, k, cols, values_dtype, indices, values, counts, max, log_sum, flags }
    }

    /// Bytes of all parts and the gaps behind them.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.flags.end().next_multiple_of(PART_ALIGN)
    }

    const fn spans(&self) -> [Span; 6] {
        [self.indices, self.values, self.counts, self.max, self.log_sum, self.flags]
    }

    /// The parts within `payload`.
    ///
    /// # Errors
    /// [`Full`] where the payload is too short, or not aligned to 4 bytes in memory.
    pub fn parts<'a>(&self, payload: &'a mut [u8]) -> Result<TopKParts<'a>, Full> {
        let mut cutter = Cutter::new(payload);
        Ok(TopKParts {
            indices: cutter.typed(self.indices)?,
            values: cutter.cut(self.values)?.1,
            counts: cutter.typed(self.counts)?,
            max: cutter.typed(self.max)?,
            log_sum: cutter.typed(self.log_sum)?,
            flags: cutter.cut(self.flags)?.1,
        })
    }

    /// Zeroes gaps and the entries beyond each row's count; a count over k is cut to k.
    pub(super) fn clear_rest(&self, payload: &mut [u8]) -> Result<(), Full> {
        clear_gaps(payload, &self.spans(), self.end())?;
        let parts = self.parts(payload)?;
        let k = self.k.max(1) as usize;
        let indices = parts.indices.chunks_exact_mut(k);
        let values = parts.values.chunks_exact_mut(bytes(k, self.values_dtype));
        for ((count, indices), values) in parts.counts.iter_mut().zip(indices).zip(values) {
            *count = (*count).min(self.k);
            let valid = *count as usize;
            indices.iter_mut().skip(valid).for_each(|index| *index = 0);
            let used = bytes(valid, self.values_dtype);
            values.get_mut(used..).unwrap_or_default().fill(0);
        }
        Ok(())
    }

    pub(super) fn describe(&self, answer: &mut Answer) -> Result<(), Full> {
        answer.logits = TopKSet {
            indices: self.indices.part()?,
            values: self.values.part()?,
            counts: self.counts.part()?,
            max: self.max.part()?,
            log_sum: self.log_sum.part()?,
            flags: self.flags.part()?,
            rows: self.rows,
            k: self.k,
            cols: self.cols,
            dtype: self.values_dtype.code(),
            reserved: [0; 3],
        };
        let end = self.end();
        answer.hidden_states.codes = Span::absent(end)?;
        answer.hidden_states.scales = Span::absent(end)?;
        answer.hidden_states.flags = Span::absent(end)?;
        answer.echo.data = Span::absent(end)?;
        no_coded_rows(answer, end)
    }
}

/// Symmetric int8 of `rows` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int8Reply {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// i8 `[rows, cols]`.
    pub codes: Span,
    /// f32 `[rows]`.
    pub scales: Span,
    /// u8 `[rows]`.
    pub flags: Span,
}

/// The parts of an int8 reply, to be filled.
#[derive(Debug)]
pub struct Int8Parts<'a> {
    /// `[rows, cols]`.
    pub codes: &'a mut [i8],
    /// `[rows]`.
    pub scales: &'a mut [f32],
    /// `[rows]`, see [`crate::flags`].
    pub flags: &'a mut [u8],
}

impl Int8Reply {
    /// Places the parts for `rows` rows of `cols` codes.
    #[must_use]
    pub const fn layout(rows: u32, cols: u32) -> Self {
        let per_row = rows as usize;
        let codes = Span { pos: 0, len: per_row.saturating_mul(cols as usize) };
        let scales = codes.then(per_row * 4);
        let flags = scales.then(per_row);
        Self { rows, cols, codes, scales, flags }
    }

    /// Bytes of all parts and the gaps behind them.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.flags.end().next_multiple_of(PART_ALIGN)
    }

    /// The parts within `payload`.
    ///
    /// # Errors
    /// [`Full`] where the payload is too short, or not aligned to 4 bytes in memory.
    pub fn parts<'a>(&self, payload: &'a mut [u8]) -> Result<Int8Parts<'a>, Full> {
        let mut cutter = Cutter::new(payload);
        Ok(Int8Parts {
            codes: cutter.typed(self.codes)?,
            scales: cutter.typed(self.scales)?,
            flags: cutter.cut(self.flags)?.1,
        })
    }

    pub(super) fn clear_rest(&self, payload: &mut [u8]) -> Result<(), Full> {
        clear_gaps(payload, &[self.codes, self.scales, self.flags], self.end())
    }

    pub(super) fn describe(&self, answer: &mut Answer) -> Result<(), Full> {
        answer.hidden_states = Int8Block {
            codes: self.codes.part()?,
            scales: self.scales.part()?,
            flags: self.flags.part()?,
            rows: self.rows,
            cols: self.cols,
            scheme: SCHEME_ROW_ABSMAX,
            reserved: [0; 3],
        };
        answer.echo.data = Span::absent(self.end())?;
        no_coded_rows(answer, self.end())
    }
}

/// The tensor of an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Element type.
    pub dtype: Dtype,
    /// `dtype` `[rows, cols]`.
    pub data: Span,
}

/// The part of an echo reply, to be filled.
#[derive(Debug)]
pub struct EchoParts<'a> {
    /// The rows as they came.
    pub data: &'a mut [u8],
}

impl EchoReply {
    /// Places `rows` rows of `cols` elements.
    #[must_use]
    pub const fn layout(rows: u32, cols: u32, dtype: Dtype) -> Self {
        let len = bytes((rows as usize).saturating_mul(cols as usize), dtype);
        Self { rows, cols, dtype, data: Span { pos: 0, len } }
    }

    /// Bytes of the part and the gap behind it.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.data.end().next_multiple_of(PART_ALIGN)
    }

    /// The part within `payload`.
    ///
    /// # Errors
    /// [`Full`] where the payload is too short.
    pub fn parts<'a>(&self, payload: &'a mut [u8]) -> Result<EchoParts<'a>, Full> {
        Ok(EchoParts { data: Cutter::new(payload).cut(self.data)?.1 })
    }

    pub(super) fn clear_rest(&self, payload: &mut [u8]) -> Result<(), Full> {
        clear_gaps(payload, &[self.data], self.end())
    }

    pub(super) fn describe(&self, answer: &mut Answer) -> Result<(), Full> {
        answer.echo = Tensor {
            data: self.data.part()?,
            rows: self.rows,
            cols: self.cols,
            dtype: self.dtype.code(),
            reserved: [0; 3],
        };
        no_coded_rows(answer, self.end())
    }
}

fn no_coded_rows(answer: &mut Answer, end: usize) -> Result<(), Full> {
    answer.coded.ends = Span::absent(end)?;
    answer.coded.flags = Span::absent(end)?;
    answer.coded.data = Span::absent(end)?;
    Ok(())
}

/// `rows` rows in a coding. Their bytes come last, since their length is known last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodedReply {
    /// Rows.
    pub rows: u32,
    /// Columns of the rows that are coded, or that sets are chosen from.
    pub cols: u32,
    /// Most entries of a set; 0 for hidden rows.
    pub k: u32,
    /// How.
    pub coding: Coding,
    /// The dial, as asked for.
    pub quality: f32,
    /// Id of the basis that the rows are coded with; zero for none.
    pub basis: [u8; 32],
    /// u32 `[rows]`.
    pub ends: Span,
    /// u8 `[rows]`.
    pub flags: Span,
    /// Room for the longest rows; [`CodedReply::filled`] cuts it to what was written.
    pub data: Span,
}

/// The parts of a coded reply, to be filled.
#[derive(Debug)]
pub struct CodedParts<'a> {
    /// `[rows]`: where each row ends in `data`.
    pub ends: &'a mut [u32],
    /// `[rows]`, see [`crate::flags`].
    pub flags: &'a mut [u8],
    /// The rows' bytes, back to back from the first on.
    pub data: &'a mut [u8],
}

impl CodedReply {
    /// Places the parts for `rows` rows of the answer to `work`. For lm-head, the work's `cols` is
    /// the number of outputs.
    #[must_use]
    pub const fn layout(rows: u32, work: &Work) -> Self {
        let Work { k, cols, coding, quality, .. } = *work;
        let count = rows as usize;
        let ends = Span { pos: 0, len: count * 4 };
        let flags = ends.then(count);
        let data = flags.then(count.saturating_mul(coding.row_max(k as usize, cols as usize)));
        let k = if coding.is_set() { k } else { 0 };
        Self { rows, cols, k, coding, quality, basis: [0; 32], ends, flags, data }
    }

    /// The same reply once its rows are written: `len` bytes of data, coded with `basis`.
    #[must_use]
    pub fn filled(self, len: usize, basis: [u8; 32]) -> Self {
        let data = Span { len: len.min(self.data.len), ..self.data };
        Self { data, basis, ..self }
    }

    /// Bytes of all parts and the gaps behind them.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.data.end().next_multiple_of(PART_ALIGN)
    }

    /// The parts within `payload`.
    ///
    /// # Errors
    /// [`Full`] where the payload is too short, or not aligned to 4 bytes in memory.
    pub fn parts<'a>(&self, payload: &'a mut [u8]) -> Result<CodedParts<'a>, Full> {
        let mut cutter = Cutter::new(payload);
        Ok(CodedParts {
            ends: cutter.typed(self.ends)?,
            flags: cutter.cut(self.flags)?.1,
            data: cutter.cut(self.data)?.1,
        })
    }

    pub(super) fn clear_rest(&self, payload: &mut [u8]) -> Result<(), Full> {
        clear_gaps(payload, &[self.ends, self.flags, self.data], self.end())
    }

    pub(super) fn describe(&self, answer: &mut Answer) -> Result<(), Full> {
        answer.coded = CodedRows {
            ends: self.ends.part()?,
            flags: self.flags.part()?,
            data: self.data.part()?,
            rows: self.rows,
            cols: self.cols,
            k: self.k,
            quality: self.quality,
            basis: self.basis,
            coding: self.coding.code(),
            reserved: [0; 7],
        };
        Ok(())
    }
}
