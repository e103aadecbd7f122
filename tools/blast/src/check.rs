//! Judges replies: kind, CRC-16, archive, and content as far as it can be known.
//!
//! The first answer to each distinct request is compared with a reference, or where there is none
//! (lm-head: the weights are the node's) with what any right answer looks like. Later answers to
//! the same request must then be the same, byte for byte in every part that holds data.

use crate::{reference, tally::Fault};
use client::Buffer;
use std::sync::Arc;
use wire::{
    Compression, Dtype, ErrorCode, Header, Kind, Operation, flags,
    payload::{self, ErrorReport, Heartbeat, TensorWork},
    response::{self, Int8View, TopKView},
};

/// Widest gap between a log-sum-exp in f32 and one in f64, as a share of its size.
const LOG_SUM_TOLERANCE: f64 = 1e-5;

/// The right answer to one distinct request.
#[derive(Clone, Debug)]
pub enum Expect {
    /// An empty heartbeat.
    Ping,
    /// A heartbeat that repeats this timestamp.
    Heartbeat {
        /// As it was sent.
        sent_ns: u64,
    },
    /// These rows.
    Echo {
        /// Rows, columns.
        shape: (u32, u32),
        /// Their element type.
        dtype: Dtype,
        /// Their bytes.
        data: Arc<[u8]>,
    },
    /// These entries.
    TopK {
        /// Rows, entries per row.
        shape: (u32, u32),
        /// Element type of the values.
        values: Dtype,
        /// By row; `None` where the rows' logits are not known.
        rows: Option<Arc<[reference::TopK]>>,
    },
    /// These codes; `None` for a row that has no defined ones.
    Int8 {
        /// Columns.
        cols: u32,
        /// By row.
        rows: Arc<[Option<reference::Int8>]>,
    },
}

impl Expect {
    /// The right answer to this work on these rows, computed the plain way.
    #[must_use]
    pub fn of(
        work: &TensorWork,
        operation: Operation,
        dtype: Dtype,
        values: Dtype,
        data: &[u8],
    ) -> Self {
        let widened;
        let mut rows = {
            widened = reference::widen(data, dtype);
            widened.chunks_exact((work.cols as usize).max(1))
        };
        match operation {
            Operation::TopK => Self::TopK {
                shape: (work.rows, work.k),
                values,
                rows: Some(rows.map(|row| reference::top_k(row, work.k as usize)).collect()),
            },
            Operation::LmHead => Self::TopK { shape: (work.rows, work.k), values, rows: None },
            Operation::Int8 => {
                Self::Int8 { cols: work.cols, rows: rows.by_ref().map(reference::int8).collect() }
            }
            Operation::Echo | Operation::Generate | Operation::Hidden | Operation::Fetch => {
                Self::Echo { shape: (work.rows, work.cols), dtype, data: data.into() }
            }
        }
    }
}

/// What a reply is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The right answer, as far as can be told.
    Good,
    /// A refusal.
    Refused(ErrorCode),
    /// Neither.
    Bad(Fault),
}

/// Judges one thread's replies.
#[derive(Debug)]
pub struct Checker {
    expects: Arc<[Expect]>,
    /// The data of the first good answer to each request, all parts back to back.
    known: Vec<Option<Box<[u8]>>>,
    /// Aligned memory for payloads that lie badly in the stream.
    scratch: Buffer,
    payload_max: u32,
}

impl Checker {
    /// A checker that has seen no answer. Replies with more than `payload_max` bytes of payload are
    /// not followed.
    #[must_use]
    pub fn new(expects: Arc<[Expect]>, payload_max: u32) -> Self {
        let known = expects.iter().map(|_| None).collect();
        Self { expects, known, scratch: Buffer::new(), payload_max }
    }

    /// Longest payload that is followed, bytes.
    #[must_use]
    #[inline]
    pub const fn payload_max(&self) -> u32 {
        self.payload_max
    }

    /// The code of a reply that is a refusal.
    pub fn refusal(&mut self, header: &Header, payload: &[u8]) -> Option<ErrorCode> {
        match self.judge_refusal(header, payload) {
            Verdict::Refused(code) => Some(code),
            Verdict::Good | Verdict::Bad(_) => None,
        }
    }

    /// Judges the reply to a request made from template `index`.
    #[inline]
    pub fn check(&mut self, index: usize, header: &Header, payload: &[u8]) -> Verdict {
        if wire::check::crc16(payload) != header.checksum() {
            return Verdict::Bad(Fault::Checksum);
        }
        match (&self.expects[index], header.kind()) {
            (Expect::Ping, Ok(Kind::Heartbeat)) => match payload.len() {
                0 => Verdict::Good,
                _ => Verdict::Bad(Fault::Content),
            },
            (_, Ok(Kind::ErrorReport)) => self.judge_refusal(header, payload),
            (Expect::Heartbeat { sent_ns }, Ok(Kind::Heartbeat)) => {
                let sent_ns = *sent_ns;
                match payload::open::<Heartbeat>(aligned(&mut self.scratch, payload)) {
                    Ok(beat) if beat.sent_ns == sent_ns => Verdict::Good,
                    Ok(_) => Verdict::Bad(Fault::Content),
                    Err(_) => Verdict::Bad(Fault::Archive),
                }
            }
            (Expect::Ping | Expect::Heartbeat { .. }, _) => Verdict::Bad(Fault::Kind),
            (_, Ok(Kind::QueryResponse)) if header.compression() == Ok(Compression::None) => {
                self.judge_response(index, payload)
            }
            _ => Verdict::Bad(Fault::Kind),
        }
    }

    #[cold]
    fn judge_refusal(&mut self, header: &Header, payload: &[u8]) -> Verdict {
        if header.kind() != Ok(Kind::ErrorReport) {
            return Verdict::Bad(Fault::Kind);
        }
        if wire::check::crc16(payload) != header.checksum() {
            return Verdict::Bad(Fault::Checksum);
        }
        let Ok(report) = payload::open::<ErrorReport>(aligned(&mut self.scratch, payload)) else {
            return Verdict::Bad(Fault::Archive);
        };
        ErrorCode::from_code(report.code.to_native())
            .map_or(Verdict::Bad(Fault::Content), Verdict::Refused)
    }

    fn judge_response(&mut self, index: usize, payload: &[u8]) -> Verdict {
        let Ok(answer) = response::read(aligned(&mut self.scratch, payload)) else {
            return Verdict::Bad(Fault::Archive);
        };
        if !answer.root.streaming_chunk.is_final {
            return Verdict::Bad(Fault::Content);
        }
        let known = self.known[index].as_deref();
        let first = known.is_none();
        let good = match (&self.expects[index], answer.echo, answer.logits, answer.hidden_states) {
            (Expect::Echo { shape, dtype, data }, Some(echo), ..) => {
                (echo.rows, echo.cols) == *shape && echo.dtype == *dtype && *echo.data == **data
            }
            (Expect::TopK { shape, values, rows }, _, Some(set), _) => {
                (set.rows, set.k) == *shape
                    && set.dtype == *values
                    && known.map_or_else(
                        || top_k_is_right(&set, rows.as_deref()),
                        |known| same(known, &top_k_parts(&set)),
                    )
            }
            (Expect::Int8 { cols, rows }, _, _, Some(block)) => {
                (block.rows as usize, block.cols) == (rows.len(), *cols)
                    && known.map_or_else(
                        || int8_is_right(&block, rows),
                        |known| same(known, &int8_parts(&block)),
                    )
            }
            _ => false,
        };
        if !good {
            return Verdict::Bad(Fault::Content);
        }
        if first {
            let parts = match (answer.logits, answer.hidden_states) {
                (Some(set), _) => top_k_parts(&set).concat(),
                (_, Some(block)) => int8_parts(&block).concat(),
                // An echo is compared with the request itself each time.
                _ => return Verdict::Good,
            };
            self.known[index] = Some(parts.into());
        }
        Verdict::Good
    }
}

/// The payload itself where it is aligned, else a copy that is.
fn aligned<'a>(scratch: &'a mut Buffer, payload: &'a [u8]) -> &'a [u8] {
    if payload.as_ptr().addr().is_multiple_of(wire::PAYLOAD_ALIGN) {
        return payload;
    }
    scratch.resize(payload.len());
    scratch.as_mut_slice().copy_from_slice(payload);
    scratch.as_slice()
}

/// Whether the parts, back to back, are these bytes.
fn same(mut known: &[u8], parts: &[&[u8]]) -> bool {
    for part in parts {
        match known.strip_prefix(*part) {
            Some(rest) => known = rest,
            None => return false,
        }
    }
    known.is_empty()
}

fn top_k_parts<'a>(set: &TopKView<'a>) -> [&'a [u8]; 6] {
    [
        bytemuck::cast_slice(set.indices),
        set.values,
        bytemuck::cast_slice(set.counts),
        bytemuck::cast_slice(set.max),
        bytemuck::cast_slice(set.log_sum),
        set.flags,
    ]
}

fn int8_parts<'a>(block: &Int8View<'a>) -> [&'a [u8]; 3] {
    [bytemuck::cast_slice(block.codes), bytemuck::cast_slice(block.scales), block.flags]
}

fn top_k_is_right(set: &TopKView<'_>, rows: Option<&[reference::TopK]>) -> bool {
    (0..set.rows as usize).all(|row| match rows {
        Some(rows) => rows.get(row).is_some_and(|right| row_agrees(set, row, right)),
        None => row_is_plausible(set, row),
    })
}

fn row_agrees(set: &TopKView<'_>, row: usize, right: &reference::TopK) -> bool {
    let indices = set.row_indices(row);
    let short = set.flags[row] & flags::SHORT != 0;
    if indices != right.indices || short != (indices.len() < set.k as usize) {
        return false;
    }
    let rounded = right.values.iter().map(|value| reference::rounded(*value, set.dtype));
    if !set.row_values_f32(row).eq(rounded) {
        return false;
    }
    if !right.max.is_finite() {
        return true;
    }
    let gap = (f64::from(set.log_sum[row]) - right.log_sum).abs();
    set.max[row] == right.max && gap <= LOG_SUM_TOLERANCE * right.log_sum.abs().max(1.0)
}

/// What holds for every top-k: values do not rise, no index comes twice, the normaliser covers what
/// is listed.
fn row_is_plausible(set: &TopKView<'_>, row: usize) -> bool {
    let mut seen = set.row_indices(row).to_vec();
    seen.sort_unstable();
    let distinct = seen.windows(2).all(|pair| pair[0] != pair[1]);
    let falling = set.row_values_f32(row).is_sorted_by(|a, b| a >= b);
    let first = set.row_values_f32(row).next();
    let max = reference::rounded(set.max[row], set.dtype);
    distinct && falling && first.is_none_or(|first| first == max) && !set.log_sum[row].is_nan()
}

fn int8_is_right(block: &Int8View<'_>, rows: &[Option<reference::Int8>]) -> bool {
    let cols = block.cols as usize;
    rows.iter().enumerate().all(|(row, right)| {
        let Some(right) = right else { return true };
        block.scales[row].to_bits() == right.scale.to_bits()
            && block.codes[row * cols..(row + 1) * cols] == right.codes
    })
}
