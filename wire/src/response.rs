//! Answers, read in place: checked views of the tensors in a QUERY_RESPONSE.

use crate::{
    Coding, Dtype,
    payload::{
        self, ArchivedCodedRows, ArchivedInt8Block, ArchivedQueryResponse, ArchivedTensor,
        ArchivedTopKSet, PayloadFault, QueryResponse, SCHEME_ROW_ABSMAX,
    },
};
use bytemuck::{Pod, try_cast_slice};
use half::{bf16, f16};
use rkyv::vec::ArchivedVec;

/// An answer: the root, and a view of each tensor that is there.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Everything, as archived.
    pub root: &'a ArchivedQueryResponse,
    /// Top-k sets.
    pub logits: Option<TopKView<'a>>,
    /// Quantised rows.
    pub hidden_states: Option<Int8View<'a>>,
    /// Rows of an echo, or a fetched piece.
    pub echo: Option<TensorView<'a>>,
    /// Rows in a coding.
    pub coded: Option<CodedView<'a>>,
}

/// Top-k sets. Rows are `k` entries apart; only the first `counts[row]` entries of a row are valid.
#[derive(Clone, Copy, Debug)]
pub struct TopKView<'a> {
    /// Rows.
    pub rows: u32,
    /// Entries per row.
    pub k: u32,
    /// Columns of the rows the entries were chosen from.
    pub cols: u32,
    /// Element type of `values`.
    pub dtype: Dtype,
    /// `[rows, k]`, each under `cols`.
    pub indices: &'a [u32],
    /// `[rows, k]` elements of `dtype`.
    pub values: &'a [u8],
    /// `[rows]`, at most `k`.
    pub counts: &'a [u32],
    /// `[rows]`, the row's largest value.
    pub max: &'a [f32],
    /// `[rows]`, ln of the sum of exp(x - max).
    pub log_sum: &'a [f32],
    /// `[rows]`, see [`crate::flags`].
    pub flags: &'a [u8],
}

impl<'a> TopKView<'a> {
    /// The valid indices of a row, best first; empty for rows that are not there.
    #[must_use]
    pub fn row_indices(&self, row: usize) -> &'a [u32] {
        self.valid(row, 1, self.indices)
    }

    /// The valid values of a row as bytes of `dtype`.
    #[must_use]
    pub fn row_values(&self, row: usize) -> &'a [u8] {
        self.valid(row, self.dtype.size(), self.values)
    }

    /// The valid values of a row, widened to f32 (exactly).
    pub fn row_values_f32(&self, row: usize) -> impl Iterator<Item = f32> + use<'a> {
        let dtype = self.dtype;
        self.row_values(row).chunks_exact(dtype.size()).map(move |bytes| widen(dtype, bytes))
    }

    /// ln of the sum of exp over the whole row, in f64.
    #[must_use]
    pub fn logsumexp(&self, row: usize) -> Option<f64> {
        Some(f64::from(*self.max.get(row)?) + f64::from(*self.log_sum.get(row)?))
    }

    fn valid<T>(&self, row: usize, unit: usize, all: &'a [T]) -> &'a [T] {
        let count = self.counts.get(row).map_or(0, |count| *count as usize);
        let start = row.saturating_mul(self.k as usize).saturating_mul(unit);
        let end = start.saturating_add(count.saturating_mul(unit));
        all.get(start..end).unwrap_or_default()
    }
}

/// Quantised rows: x is about `codes * scales[row]`.
#[derive(Clone, Copy, Debug)]
pub struct Int8View<'a> {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// How codes were made: [`SCHEME_ROW_ABSMAX`].
    pub scheme: u8,
    /// `[rows, cols]`.
    pub codes: &'a [i8],
    /// `[rows]`.
    pub scales: &'a [f32],
    /// `[rows]`, see [`crate::flags`].
    pub flags: &'a [u8],
}

/// Plain rows.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Element type.
    pub dtype: Dtype,
    /// `[rows, cols]` elements of `dtype`.
    pub data: &'a [u8],
}

/// Rows in a coding, one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct CodedView<'a> {
    /// Rows.
    pub rows: u32,
    /// Columns of the rows that were coded, or that sets were chosen from.
    pub cols: u32,
    /// Most entries of a set; 0 for hidden rows.
    pub k: u32,
    /// How.
    pub coding: Coding,
    /// The dial, as asked for.
    pub quality: f32,
    /// Id of the basis that is needed to decode, or zero.
    pub basis: &'a [u8; 32],
    /// `[rows]`: where each row ends in `data`, in ascending order.
    pub ends: &'a [u32],
    /// `[rows]`, see [`crate::flags`].
    pub flags: &'a [u8],
    /// The rows' bytes.
    pub data: &'a [u8],
}

impl<'a> CodedView<'a> {
    /// The bytes of a row; empty for rows that are not there.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [u8] {
        let end_of = |row: usize| self.ends.get(row).map_or(0, |end| *end as usize);
        let start = row.checked_sub(1).map_or(0, end_of);
        self.data.get(start..end_of(row)).unwrap_or_default()
    }
}

/// Checks a payload as an answer: archive, schema, inner CRC-32C, and that lengths, counts and
/// indices agree.
///
/// # Errors
/// Any [`PayloadFault`].
pub fn read(payload: &[u8]) -> Result<Response<'_>, PayloadFault> {
    let root = payload::open::<QueryResponse>(payload)?;
    let answer = &root.response;
    Ok(Response {
        root,
        logits: topk(payload, &answer.logits)?,
        hidden_states: int8(payload, &answer.hidden_states)?,
        echo: tensor(payload, &answer.echo)?,
        coded: coded(payload, &answer.coded)?,
    })
}

fn topk<'a>(
    payload: &'a [u8],
    set: &'a ArchivedTopKSet,
) -> Result<Option<TopKView<'a>>, PayloadFault> {
    let (rows, k, cols) = (set.rows.to_native(), set.k.to_native(), set.cols.to_native());
    if rows == 0 {
        return absent(&[set.indices.len(), set.values.len(), set.counts.len(), set.flags.len()]);
    }
    let dtype = Dtype::from_code(set.dtype).ok_or(PayloadFault::Content)?;
    let entries = product(rows, k)?;
    let view = TopKView {
        rows,
        k,
        cols,
        dtype,
        indices: typed(payload, &set.indices, entries)?,
        values: typed(payload, &set.values, elements(entries, dtype)?)?,
        counts: typed(payload, &set.counts, rows as usize)?,
        max: typed(payload, &set.max, rows as usize)?,
        log_sum: typed(payload, &set.log_sum, rows as usize)?,
        flags: typed(payload, &set.flags, rows as usize)?,
    };
    let honest = view.counts.iter().all(|count| *count <= k)
        && view.indices.iter().all(|index| *index < cols);
    if dtype == Dtype::U8 || !honest { Err(PayloadFault::Content) } else { Ok(Some(view)) }
}

fn int8<'a>(
    payload: &'a [u8],
    block: &'a ArchivedInt8Block,
) -> Result<Option<Int8View<'a>>, PayloadFault> {
    let (rows, cols) = (block.rows.to_native(), block.cols.to_native());
    if rows == 0 {
        return absent(&[block.codes.len(), block.scales.len(), block.flags.len()]);
    }
    if block.scheme != SCHEME_ROW_ABSMAX {
        return Err(PayloadFault::Content);
    }
    Ok(Some(Int8View {
        rows,
        cols,
        scheme: block.scheme,
        codes: typed(payload, &block.codes, product(rows, cols)?)?,
        scales: typed(payload, &block.scales, rows as usize)?,
        flags: typed(payload, &block.flags, rows as usize)?,
    }))
}

fn tensor<'a>(
    payload: &'a [u8],
    tensor: &'a ArchivedTensor,
) -> Result<Option<TensorView<'a>>, PayloadFault> {
    let (rows, cols) = (tensor.rows.to_native(), tensor.cols.to_native());
    if rows == 0 {
        return absent(&[tensor.data.len()]);
    }
    let dtype = Dtype::from_code(tensor.dtype).ok_or(PayloadFault::Content)?;
    let len = elements(product(rows, cols)?, dtype)?;
    Ok(Some(TensorView { rows, cols, dtype, data: typed(payload, &tensor.data, len)? }))
}

fn coded<'a>(
    payload: &'a [u8],
    block: &'a ArchivedCodedRows,
) -> Result<Option<CodedView<'a>>, PayloadFault> {
    let (rows, cols, k) = (block.rows.to_native(), block.cols.to_native(), block.k.to_native());
    if rows == 0 {
        return absent(&[block.ends.len(), block.flags.len(), block.data.len()]);
    }
    let coding = Coding::from_code(block.coding).ok_or(PayloadFault::Content)?;
    let view = CodedView {
        rows,
        cols,
        k,
        coding,
        quality: block.quality.to_native(),
        basis: &block.basis,
        ends: typed(payload, &block.ends, rows as usize)?,
        flags: typed(payload, &block.flags, rows as usize)?,
        data: typed(payload, &block.data, block.data.len())?,
    };
    let longest = coding.row_max(k as usize, cols as usize) as u64;
    let mut start = 0;
    let in_order = view.ends.iter().all(|end| {
        let len = end.checked_sub(core::mem::replace(&mut start, *end));
        len.is_some_and(|len| u64::from(len) <= longest)
    });
    let honest = coding != Coding::Plain && in_order && start as usize == view.data.len();
    if honest { Ok(Some(view)) } else { Err(PayloadFault::Content) }
}

/// A tensor without rows has no parts either.
fn absent<T>(lens: &[usize]) -> Result<Option<T>, PayloadFault> {
    if lens.iter().all(|len| *len == 0) { Ok(None) } else { Err(PayloadFault::Content) }
}

fn product(rows: u32, cols: u32) -> Result<usize, PayloadFault> {
    usize::try_from(u64::from(rows) * u64::from(cols)).map_err(|_| PayloadFault::Content)
}

fn elements(count: usize, dtype: Dtype) -> Result<usize, PayloadFault> {
    count.checked_mul(dtype.size()).ok_or(PayloadFault::Content)
}

/// The array's bytes as elements of a native type of the same size.
fn typed<'a, A, T: Pod>(
    payload: &'a [u8],
    array: &ArchivedVec<A>,
    expected: usize,
) -> Result<&'a [T], PayloadFault> {
    const { assert!(size_of::<A>() == size_of::<T>()) }
    if array.len() != expected {
        return Err(PayloadFault::Content);
    }
    // Where the array lies was checked by the archive; asking the payload for it again keeps this
    // crate safe code.
    let start = array.as_ptr().addr().wrapping_sub(payload.as_ptr().addr());
    let bytes =
        start.checked_add(array.len() * size_of::<A>()).and_then(|end| payload.get(start..end));
    bytes.and_then(|bytes| try_cast_slice(bytes).ok()).ok_or(PayloadFault::Content)
}

/// One element as f32. bf16 and f16 are widened exactly; u8 is taken as a number.
fn widen(dtype: Dtype, bytes: &[u8]) -> f32 {
    match (dtype, bytes) {
        (Dtype::F32, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]),
        (Dtype::F16, [a, b]) => f16::from_le_bytes([*a, *b]).to_f32(),
        (Dtype::Bf16, [a, b]) => bf16::from_le_bytes([*a, *b]).to_f32(),
        (_, rest) => rest.first().map_or(0.0, |byte| f32::from(*byte)),
    }
}
