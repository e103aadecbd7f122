//! QUERY_RESPONSE (QUERY-11..21): the answer, or one chunk of it.

use super::{Part, Seal, Text, payload};
use crate::Kind;
use rkyv::{Archive, Serialize};

/// An answer. Tensor parts lie at the start of the payload; [`crate::reply`] writes them in place
/// and [`crate::response::read`] gives checked views of them.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct QueryResponse {
    /// What was asked for.
    pub response: Answer,
    /// The request's query id.
    pub query_id: [u8; 16],
    /// Which worker answered.
    pub worker_id: Text,
    /// Place of this frame among the frames of the answer.
    pub streaming_chunk: StreamingChunk,
    /// How the answer came about.
    pub metadata: Metadata,
    /// Zero.
    pub reserved: [u8; 8],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// Everything an answer can hold; what was not asked for is empty.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Answer {
    /// Top-k of logits rows; `rows` 0 where absent.
    pub logits: TopKSet,
    /// Quantised hidden rows; `rows` 0 where absent.
    pub hidden_states: Int8Block,
    /// The tensor of an echo, or a fetched piece; `rows` 0 where absent.
    pub echo: Tensor,
    /// Rows in a coding; `rows` 0 where absent.
    pub coded: CodedRows,
    /// Attention weights; `heads` 0 where absent.
    pub attention_weights: Attention,
    /// Generated text.
    pub text: Text,
    /// Generated token ids.
    pub tokens: Vec<u32>,
}

/// The `k` largest entries of each row: value descending, then index ascending.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct TopKSet {
    /// `[rows, k]`: columns. Zero from the row's count on.
    pub indices: Part<u32>,
    /// `[rows, k]` elements of `dtype`. Zero from the row's count on.
    pub values: Part<u8>,
    /// `[rows]`: valid entries, at most k.
    pub counts: Part<u32>,
    /// `[rows]`: the row's largest value.
    pub max: Part<f32>,
    /// `[rows]`: ln of the sum of exp(x - max) over the whole row; max + log_sum is the
    /// log-sum-exp.
    pub log_sum: Part<f32>,
    /// `[rows]`: see [`crate::flags`].
    pub flags: Part<u8>,
    /// Rows in this frame.
    pub rows: u32,
    /// Entries per row.
    pub k: u32,
    /// Columns of the rows the entries were chosen from.
    pub cols: u32,
    /// Code of the [`crate::Dtype`] of `values`.
    pub dtype: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Scheme 1: scale = absmax / 127 per row, code = clamp(round half to even(x / scale), -127, 127).
pub const SCHEME_ROW_ABSMAX: u8 = 1;

/// Symmetric int8 rows: x is about `code * scale`.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Int8Block {
    /// `[rows, cols]`.
    pub codes: Part<i8>,
    /// `[rows]`.
    pub scales: Part<f32>,
    /// `[rows]`: see [`crate::flags`].
    pub flags: Part<u8>,
    /// Rows in this frame.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// [`SCHEME_ROW_ABSMAX`].
    pub scheme: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Plain rows.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Tensor {
    /// `[rows, cols]` elements of `dtype`.
    pub data: Part<u8>,
    /// Rows in this frame.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Code of a [`crate::Dtype`].
    pub dtype: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Rows in a [`crate::Coding`]: sets or hidden rows, one behind the other.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct CodedRows {
    /// `[rows]`: where each row's bytes end in `data`; each begins where the one before ends.
    pub ends: Part<u32>,
    /// `[rows]`: see [`crate::flags`].
    pub flags: Part<u8>,
    /// The rows' bytes.
    pub data: Part<u8>,
    /// Rows in this frame.
    pub rows: u32,
    /// Columns of the rows that were coded, or that sets were chosen from.
    pub cols: u32,
    /// Most entries of a set; 0 for hidden rows.
    pub k: u32,
    /// The dial, as asked for.
    pub quality: f32,
    /// Id of the basis that is needed to decode, or zero.
    pub basis: [u8; 32],
    /// Code of a [`crate::Coding`].
    pub coding: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// Attention weights, for interpretability.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Attention {
    /// `[heads, rows, cols]`.
    pub weights: Vec<f32>,
    /// Heads.
    pub heads: u32,
    /// Query positions.
    pub rows: u32,
    /// Key positions.
    pub cols: u32,
}

/// Place of a frame in a streamed answer. Chunks come in order.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct StreamingChunk {
    /// From 0.
    pub chunk_index: u32,
    /// The request's row that is row 0 of this frame.
    pub first_row: u32,
    /// No frame follows. Also true for an answer in one frame.
    pub is_final: bool,
    /// Zero.
    pub reserved: [u8; 3],
}

/// How an answer came about.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Metadata {
    /// Nanoseconds of computation, of the whole batch.
    pub compute_ns: u64,
    /// What the worker did: the operation's name, or a model's capability.
    pub capability_used: Text,
    /// What computed it, `cpu-avx512` for example.
    pub backend: Text,
    /// Why that backend was chosen.
    pub backend_reason: Text,
    /// `compute_ns` in milliseconds.
    pub inference_time_ms: f32,
    /// Tokens generated; 0 for tensor operations.
    pub tokens_generated: u32,
    /// 0 to 1; 1 for tensor operations, which are exact.
    pub confidence_score: f32,
    /// Zero.
    pub reserved: u32,
}

payload!(QueryResponse, ArchivedQueryResponse, Kind::QueryResponse, 2);
