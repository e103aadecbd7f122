//! The distinct requests of a run, made once: on the way out only a message id and a timestamp are
//! written.

use crate::{
    check::Expect,
    config::{BlastError, Config, Op},
    rows::Rows,
};
use dataplane_core::{
    driver::Segment,
    memory::{ChunkId, Geometry, Memory},
};
use wire::{
    HEADER_LEN, Header, Kind, Operation, frame,
    payload::{Heartbeat, QueryRequest, RoutingHint, TensorWork},
    request::RequestFrame,
};

/// Frames up to this many bytes are gathered with their neighbours; longer payloads are sent from
/// where they lie.
const INLINE_MAX: usize = 4_096;
/// Bytes of a chunk where all frames are short.
const CHUNK_SMALL: u32 = 16 << 10;
/// Bytes of a chunk where payloads are long.
const CHUNK_LARGE: u32 = 64 << 10;
/// Bytes of one thread's chunks for gathering.
const GATHER_MAX: u64 = 64 << 20;

/// One distinct request: its frame with message id 0, and what a right answer looks like.
#[derive(Clone, Debug)]
pub struct Request {
    /// Header and payload.
    pub frame: Vec<u8>,
    /// The right answer.
    pub expect: Expect,
}

/// Makes the requests of a run.
///
/// # Errors
/// [`BlastError::Usage`] where rows cannot be read or do not fit a frame.
pub fn requests(config: &Config) -> Result<Vec<Request>, BlastError> {
    let whole = |_| BlastError::usage("a request would be 2 GiB or longer: use fewer --rows");
    match config.op {
        Op::Ping => {
            let frame = zerocopy::IntoBytes::as_bytes(&frame::ping(0, 0)).to_vec();
            Ok(vec![Request { frame, expect: Expect::Ping }])
        }
        Op::Heartbeat => {
            let beat = Heartbeat { sent_ns: 0x0102_0304_0506_0708, ..Heartbeat::default() };
            let mut frame = Vec::new();
            frame::append(&mut frame, &beat, 0, 0).map_err(whole)?;
            Ok(vec![Request { frame, expect: Expect::Heartbeat { sent_ns: beat.sent_ns } }])
        }
        Op::Work(operation) => {
            let rows = Rows::of(config, operation)?;
            let work = work(config, operation, &rows);
            let request_len = rows.row_len() * config.rows as usize;
            rows.data
                .chunks_exact(request_len)
                .map(|data| {
                    let mut request = QueryRequest {
                        work,
                        routing_hint: RoutingHint {
                            timeout_ms: config.timeout_ms,
                            ..RoutingHint::default()
                        },
                        priority: config.priority.code(),
                        ..QueryRequest::default()
                    };
                    let mut frame = Vec::new();
                    RequestFrame::begin_with(&mut frame, data)
                        .finish(&mut request, 0, 0)
                        .map_err(whole)?;
                    let expect = Expect::of(&work, operation, rows.dtype, config.values, data);
                    Ok(Request { frame, expect })
                })
                .collect()
        }
    }
}

fn work(config: &Config, operation: Operation, rows: &Rows) -> TensorWork {
    let (dtype, count, cols) = (rows.dtype, config.rows, rows.cols);
    match operation {
        Operation::TopK => TensorWork::topk(dtype, count, cols, config.k, config.values),
        Operation::LmHead => TensorWork::lm_head(dtype, count, cols, config.k, config.values),
        Operation::Int8 => TensorWork::int8(dtype, count, cols),
        Operation::Echo | Operation::Generate | Operation::Hidden | Operation::Fetch => {
            TensorWork::echo(dtype, count, cols)
        }
    }
}

/// One distinct request as it is sent.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Header and, where short, payload: gathered in a chunk, with a new header each time.
    pub inline: Box<[u8]>,
    /// The payload, where long: lies in chunks of its own that never change.
    pub payload: Box<[Segment]>,
    /// Bytes of the whole frame.
    pub len: u32,
    kind: Kind,
    payload_len: u32,
    checksum: u16,
}

impl Frame {
    /// The header of the next such request.
    #[must_use]
    #[inline]
    pub const fn header(&self, id: u64, timestamp_ns: u64) -> Header {
        Header::new(self.kind, id, timestamp_ns, self.payload_len, self.checksum)
    }
}

/// All distinct requests, laid out in one thread's memory.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// In the order in which they are sent, round and round.
    pub frames: Vec<Frame>,
    /// First chunk for gathering.
    pub first_free: u32,
    /// Chunks for gathering.
    pub free: u32,
    /// Bytes of a chunk.
    pub chunk_len: u32,
    /// Add this to the driver's time to get nanoseconds since the Unix epoch.
    pub epoch: u64,
}

impl Prepared {
    /// The memory that one thread needs for these requests.
    #[must_use]
    pub fn geometry(requests: &[Request], connections: u32, depth: u32) -> Geometry {
        let long = requests.iter().filter(|request| request.frame.len() > INLINE_MAX);
        let chunk_len = if long.clone().next().is_some() { CHUNK_LARGE } else { CHUNK_SMALL };
        let payloads: usize = long
            .map(|request| (request.frame.len() - HEADER_LEN).div_ceil(chunk_len as usize))
            .sum();
        let longest = requests.iter().map(|request| inline_len(&request.frame)).max();
        let window = u64::from(depth) * longest.unwrap_or(HEADER_LEN) as u64;
        // One more than a window fills, since a frame does not span chunks.
        let per_connection = window / u64::from(chunk_len) + 2;
        let wanted = per_connection * u64::from(connections);
        let free = wanted.min(GATHER_MAX / u64::from(chunk_len)) as u32;
        Geometry {
            small_slots: 0,
            small_request: 0,
            small_reply: 0,
            bulk_slots: 0,
            bulk_request: 0,
            bulk_reply: 0,
            chunks: payloads as u32 + free,
            chunk_len,
        }
    }

    /// Writes long payloads into the first chunks of a memory of [`Self::geometry`]; the rest are
    /// for gathering.
    pub fn lay_out<M: Memory>(requests: &[Request], memory: &mut M, epoch: u64) -> Self {
        let Geometry { chunks, chunk_len, .. } = memory.geometry();
        let mut next = 0;
        let mut frames = Vec::with_capacity(requests.len());
        for Request { frame, .. } in requests {
            let Some(header) = Header::peek(frame) else { continue };
            let (inline, rest) = frame.split_at(inline_len(frame));
            let mut payload = Vec::new();
            for piece in rest.chunks(chunk_len as usize) {
                memory.chunk_mut(ChunkId(next))[..piece.len()].copy_from_slice(piece);
                let len = piece.len() as u32;
                payload.push(Segment::Chunk { chunk: ChunkId(next), from: 0, len });
                next += 1;
            }
            frames.push(Frame {
                inline: inline.into(),
                payload: payload.into(),
                len: frame.len() as u32,
                kind: header.kind().unwrap_or(Kind::QueryRequest),
                payload_len: header.payload_len(),
                checksum: header.checksum(),
            });
        }
        Self { frames, first_free: next, free: chunks - next, chunk_len, epoch }
    }
}

/// How much of a frame is gathered.
const fn inline_len(frame: &[u8]) -> usize {
    if frame.len() > INLINE_MAX { HEADER_LEN } else { frame.len() }
}
