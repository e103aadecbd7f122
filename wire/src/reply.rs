//! Replies built where they lie: a worker fills the parts of a payload, then the root and the
//! header are written.
//!
//! A layout says where each part goes. The parts come first, in the order of the root's fields,
//! each at a multiple of [`PART_ALIGN`]; a few short texts and the root follow.

mod layout;

pub use layout::{
    CodedParts, CodedReply, EchoParts, EchoReply, Int8Parts, Int8Reply, Span, TopKParts, TopKReply,
};

use crate::{
    Coding, Dtype, ErrorCode, HEADER_LEN, Kind, Operation, PAYLOAD_ALIGN, Work, frame,
    payload::{self, Answer, Payload, QueryResponse, Sink, StreamingChunk, Text},
    work::FETCH_PIECE,
};

/// Parts of a reply start at multiples of this: enough for every element type, and one-row replies
/// stay small.
pub const PART_ALIGN: usize = PAYLOAD_ALIGN;

/// Rows per frame of a streamed answer.
pub const CHUNK_ROWS: u32 = 32;

/// Longest worker id and backend name, bytes.
pub const NAME_MAX: usize = 64;
/// Longest reason for a backend, bytes.
pub const REASON_MAX: usize = 128;

/// Most bytes that a reply adds to its parts: header, texts, padding, root.
const AROUND_MAX: usize = HEADER_LEN
    + 2 * NAME_MAX
    + REASON_MAX
    + CAPABILITY_MAX
    + PAYLOAD_ALIGN
    + QueryResponse::ROOT_LEN;

/// Longest name of an [`Operation`].
const CAPABILITY_MAX: usize = 16;

/// One frame's worth of an answer's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// From 0.
    pub index: u32,
    /// The request's row that is row 0 here.
    pub first_row: u32,
    /// Rows.
    pub rows: u32,
    /// No chunk follows.
    pub is_final: bool,
}

/// The frames that answer `work`, in order: one, or one per [`CHUNK_ROWS`] rows where it asks for
/// streaming.
pub fn chunks(work: &Work) -> impl ExactSizeIterator<Item = Chunk> + use<> {
    let rows = work.rows;
    let step = if work.streaming { CHUNK_ROWS } else { rows.max(1) };
    let count = rows.div_ceil(step).max(1);
    (0..count).map(move |index| {
        let first_row = index * step;
        let is_final = index + 1 == count;
        Chunk { index, first_row, rows: step.min(rows - first_row), is_final }
    })
}

/// Room that all frames of the answer to `work` fit into, headers included. Never less than is
/// used.
#[must_use]
pub fn reply_len(work: &Work) -> u64 {
    let frames = chunks(work).len() as u64;
    let rows = if work.streaming { work.rows.min(CHUNK_ROWS) } else { work.rows };
    let parts = match work.operation {
        _ if work.coding != Coding::Plain => CodedReply::layout(rows, work).end(),
        Operation::TopK | Operation::LmHead => {
            TopKReply::layout(rows, work.k, work.cols, work.values).end()
        }
        Operation::Int8 => Int8Reply::layout(rows, work.cols).end(),
        Operation::Echo => EchoReply::layout(rows, work.cols, work.dtype).end(),
        Operation::Fetch => EchoReply::layout(1, FETCH_PIECE, Dtype::U8).end(),
        Operation::Generate | Operation::Hidden => 0,
    };
    frames.saturating_mul(parts.saturating_add(AROUND_MAX) as u64)
}

/// Who answers: kept by a worker for its life, so that replies allocate nothing.
#[derive(Clone, Debug)]
pub struct Author {
    response: QueryResponse,
}

impl Author {
    /// A worker with this id, its backend and why that backend was chosen. Texts over [`NAME_MAX`]
    /// and [`REASON_MAX`] bytes are cut.
    #[must_use]
    pub fn new(worker_id: &str, backend: &str, backend_reason: &str) -> Self {
        let mut response =
            QueryResponse { worker_id: cut(worker_id, NAME_MAX), ..Default::default() };
        response.metadata.backend = cut(backend, NAME_MAX);
        response.metadata.backend_reason = cut(backend_reason, REASON_MAX);
        response.metadata.confidence_score = 1.0;
        Self { response }
    }
}

/// What differs between two replies of the same shape.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The request's message id.
    pub message_id: u64,
    /// Nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// The request's query id.
    pub query_id: [u8; 16],
    /// What was computed.
    pub operation: Operation,
    /// Nanoseconds of computation, of the whole batch.
    pub compute_ns: u64,
    /// Which part of the answer this is.
    pub chunk: Chunk,
}

/// Where a reply's parts lie, by operation.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// Of top-k and lm-head.
    TopK(TopKReply),
    /// Of int8.
    Int8(Int8Reply),
    /// Of echo, and of fetch.
    Echo(EchoReply),
    /// Of rows in a coding.
    Coded(CodedReply),
}

impl Layout {
    /// The layout of one chunk of the answer to `work`, or `None` for operations without one.
    #[must_use]
    pub fn of(work: &Work, chunk: &Chunk) -> Option<Self> {
        match work.operation {
            _ if work.coding != Coding::Plain => {
                Some(Self::Coded(CodedReply::layout(chunk.rows, work)))
            }
            Operation::TopK | Operation::LmHead => {
                Some(Self::TopK(TopKReply::layout(chunk.rows, work.k, work.cols, work.values)))
            }
            Operation::Int8 => Some(Self::Int8(Int8Reply::layout(chunk.rows, work.cols))),
            Operation::Echo => {
                Some(Self::Echo(EchoReply::layout(chunk.rows, work.cols, work.dtype)))
            }
            Operation::Generate | Operation::Hidden | Operation::Fetch => None,
        }
    }

    /// Bytes of all parts and the gaps behind them.
    #[must_use]
    pub const fn end(&self) -> usize {
        match self {
            Self::TopK(layout) => layout.end(),
            Self::Int8(layout) => layout.end(),
            Self::Echo(layout) => layout.end(),
            Self::Coded(layout) => layout.end(),
        }
    }
}

/// Ends a reply whose parts are filled: clears what no kernel writes (gaps, entries beyond a row's
/// count), writes texts, root, seal and header. `frame` is the header's room and everything behind
/// it. Returns the frame's length.
///
/// # Errors
/// `ReplyTooLong` where `frame` has no room.
pub fn finish(
    frame: &mut [u8],
    layout: &Layout,
    author: &mut Author,
    stamp: &Stamp,
) -> Result<usize, ErrorCode> {
    let too_long = ErrorCode::ReplyTooLong;
    let payload = frame.get_mut(HEADER_LEN..).ok_or(too_long)?;
    let response = &mut author.response;
    response.response = Answer::default();
    match layout {
        Layout::TopK(set) => {
            set.clear_rest(payload).map_err(|_| too_long)?;
            set.describe(&mut response.response).map_err(|_| too_long)?;
        }
        Layout::Int8(block) => {
            block.clear_rest(payload).map_err(|_| too_long)?;
            block.describe(&mut response.response).map_err(|_| too_long)?;
        }
        Layout::Echo(tensor) => {
            tensor.clear_rest(payload).map_err(|_| too_long)?;
            tensor.describe(&mut response.response).map_err(|_| too_long)?;
        }
        Layout::Coded(rows) => {
            rows.clear_rest(payload).map_err(|_| too_long)?;
            rows.describe(&mut response.response).map_err(|_| too_long)?;
        }
    }
    response.query_id = stamp.query_id;
    response.streaming_chunk = StreamingChunk {
        chunk_index: stamp.chunk.index,
        first_row: stamp.chunk.first_row,
        is_final: stamp.chunk.is_final,
        reserved: [0; 3],
    };
    let metadata = &mut response.metadata;
    metadata.compute_ns = stamp.compute_ns;
    metadata.inference_time_ms = stamp.compute_ns as f32 / 1e6;
    metadata.capability_used = Text::literal(stamp.operation.name());
    let payload_len =
        payload::encode(&*response, Sink::slice(payload, layout.end())).map_err(|_| too_long)?;
    let frame = frame.get_mut(..HEADER_LEN + payload_len).ok_or(too_long)?;
    frame::head(frame, Kind::QueryResponse, stamp.message_id, stamp.timestamp_ns)
        .map_err(|_| too_long)
}

/// The first `max` bytes of `text`, whole characters only.
fn cut(text: &str, max: usize) -> Text {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Text::from(text.get(..end).unwrap_or_default())
}

/// Bytes of `count` elements.
const fn bytes(count: usize, dtype: Dtype) -> usize {
    count.saturating_mul(dtype.size())
}
