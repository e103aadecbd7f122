//! QUERY_REQUEST (QUERY-02..10): text for a model, or a tensor and what to compute on it.

use super::{Part, Seal, Text, payload};
use crate::{Coding, Dtype, Kind, Operation, Priority, Source};
use rkyv::{Archive, Serialize};

/// A request. Tensor rows lie at the start of the payload; see [`crate::request`] for writers and
/// for the hot path.
#[derive(Archive, Serialize, Clone, Debug, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct QueryRequest {
    /// The rows, `rows * cols` elements of `work.dtype`, row after row without gaps. Set by the
    /// frame writers.
    pub data: Part<u8>,
    /// UUID (version 4) of the query, in the byte order of its text form.
    pub query_id: [u8; 16],
    /// Text for a model; empty for tensor operations.
    pub input_text: Text,
    /// Token ids for a model.
    pub input_tokens: Vec<u32>,
    /// What was said before, and how the asker wants to be answered.
    pub context: Context,
    /// Who should answer, who should not, and until when.
    pub routing_hint: RoutingHint,
    /// The numeric work.
    pub work: TensorWork,
    /// The answer may come in chunks of rows.
    pub streaming: bool,
    /// Code of a [`Priority`].
    pub priority: u8,
    /// 0 the first time, then one more with each retry of the same `query_id`.
    pub attempt: u8,
    /// Zero.
    pub reserved: u8,
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

impl Default for QueryRequest {
    /// An empty request of normal priority, asked for the first time.
    fn default() -> Self {
        Self {
            data: Part::default(),
            query_id: [0; 16],
            input_text: Text::default(),
            input_tokens: Vec::new(),
            context: Context::default(),
            routing_hint: RoutingHint::default(),
            work: TensorWork::default(),
            streaming: false,
            priority: Priority::Normal.code(),
            attempt: 0,
            reserved: 0,
            seal: Seal::default(),
        }
    }
}

/// Context of a text query.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Context {
    /// Earlier turns, oldest first.
    pub conversation_history: Vec<Text>,
    /// Tone and depth.
    pub user_preferences: UserPreferences,
}

/// How the asker wants to be answered; empty means no preference.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct UserPreferences {
    /// `academic`, for example.
    pub formality: Text,
    /// `high`, for example.
    pub detail_level: Text,
}

/// Hints and the deadline.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct RoutingHint {
    /// Capabilities that the answering worker should have.
    pub preferred_capabilities: Vec<Text>,
    /// Workers, by id, that must not answer.
    pub exclude_workers: Vec<Text>,
    /// Milliseconds from the arrival of the request after which its answer is useless; 0 for none.
    pub timeout_ms: u32,
}

/// The numeric work as carried; [`crate::Work`] is the checked form. All zero for text queries.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct TensorWork {
    /// Entries per row of a top-k, 0 otherwise.
    pub k: u32,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Code of an [`Operation`].
    pub operation: u8,
    /// Code of a [`Dtype`]: the rows' elements.
    pub dtype: u8,
    /// Code of a [`Dtype`]: the elements of returned values.
    pub values: u8,
    /// Code of a [`Coding`]: how the rows of the answer are coded.
    pub coding: u8,
    /// The dial of the coding, see [`crate::Work::quality`].
    pub quality: f32,
    /// Code of a [`Source`]: where the rows lie.
    pub source: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// First eight bytes of the id of the basis to code with; zero for the one that is there.
    pub basis: [u8; 8],
}

impl TensorWork {
    /// Rows that come back as they are.
    #[must_use]
    pub const fn echo(dtype: Dtype, rows: u32, cols: u32) -> Self {
        Self::new(Operation::Echo, dtype, Dtype::F32, 0, rows, cols)
    }

    /// The `k` largest entries of every row, values returned as `values`.
    #[must_use]
    pub const fn topk(dtype: Dtype, rows: u32, cols: u32, k: u32, values: Dtype) -> Self {
        Self::new(Operation::TopK, dtype, values, k, rows, cols)
    }

    /// Symmetric int8, one scale per row.
    #[must_use]
    pub const fn int8(dtype: Dtype, rows: u32, cols: u32) -> Self {
        Self::new(Operation::Int8, dtype, Dtype::F32, 0, rows, cols)
    }

    /// The `k` largest outputs of the worker's projection for every hidden row.
    #[must_use]
    pub const fn lm_head(dtype: Dtype, rows: u32, cols: u32, k: u32, values: Dtype) -> Self {
        Self::new(Operation::LmHead, dtype, values, k, rows, cols)
    }

    const fn new(
        operation: Operation,
        dtype: Dtype,
        values: Dtype,
        k: u32,
        rows: u32,
        cols: u32,
    ) -> Self {
        let (operation, dtype, values) = (operation.code(), dtype.code(), values.code());
        let (coding, source) = (Coding::Plain.code(), Source::Inline.code());
        let (quality, reserved, basis) = (0.0, [0; 3], [0; 8]);
        Self { k, rows, cols, operation, dtype, values, coding, quality, source, reserved, basis }
    }

    /// The same work, its answer coded; `quality` is the dial of the coding.
    #[must_use]
    pub const fn coded(self, coding: Coding, quality: f32) -> Self {
        Self { coding: coding.code(), quality, ..self }
    }

    /// The same work on rows that lie elsewhere: the request's data is a
    /// [`Lease`](crate::lease::Lease).
    #[must_use]
    pub const fn leased(self) -> Self {
        Self { source: Source::CudaIpc.code(), ..self }
    }

    /// The same work, coded with the basis whose id begins so.
    #[must_use]
    pub const fn with_basis(self, basis: [u8; 8]) -> Self {
        Self { basis, ..self }
    }

    /// Hidden rows in a coding for them.
    #[must_use]
    pub const fn hidden(dtype: Dtype, rows: u32, cols: u32, coding: Coding, quality: f32) -> Self {
        Self::new(Operation::Hidden, dtype, Dtype::F32, 0, rows, cols).coded(coding, quality)
    }

    /// Piece `piece` of the worker's basis.
    #[must_use]
    pub const fn fetch(piece: u32) -> Self {
        Self::new(Operation::Fetch, Dtype::U8, Dtype::F32, piece, 0, 0)
    }
}

payload!(QueryRequest, ArchivedQueryRequest, Kind::QueryRequest, 3);
