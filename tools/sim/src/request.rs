//! Frames that clients send, and what each must be answered with.

use crate::rng::Rng;
use wire::{
    Coding, Compression, Dtype, ErrorCode, HEADER_LEN, Header, Kind, Operation, Priority, Source,
    payload::{
        ArchivedQueryRequest, ErrorReport, Heartbeat, QueryRequest, RoutingHint, TensorWork,
    },
    request::{ROOT_LEN, RequestFrame},
};
use zerocopy::IntoBytes;

/// What the answer to a message must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    /// An empty heartbeat.
    Pong,
    /// A heartbeat that repeats this `sent_ns`.
    Heartbeat(u64),
    /// A metrics update.
    Metrics,
    /// The result of this work on these rows.
    Reply {
        /// The work.
        work: TensorWork,
        /// The rows.
        rows: Vec<u8>,
        /// Repeated in the answer.
        query_id: [u8; 16],
        /// In chunks; `next` is the one expected.
        streaming: bool,
        /// The chunk that comes next.
        next: u32,
    },
    /// This refusal; the connection lives.
    Refusal(ErrorCode),
    /// This refusal, and then the end of the connection.
    Fatal(ErrorCode),
}

/// One message on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its id.
    pub id: u64,
    /// The whole frame.
    pub frame: Vec<u8>,
    /// What must come back.
    pub expect: Expect,
    /// Milliseconds it may take; 0 for any time.
    pub timeout_ms: u32,
}

impl Message {
    fn new(id: u64, frame: Vec<u8>, expect: Expect) -> Self {
        Self { id, frame, expect, timeout_ms: 0 }
    }

    /// A ping.
    #[must_use]
    pub fn ping(id: u64) -> Self {
        Self::new(id, wire::frame::ping(id, 1).as_bytes().to_vec(), Expect::Pong)
    }

    /// A heartbeat, with a hint that large frames follow or without one.
    ///
    /// # Panics
    /// Never: a heartbeat always fits.
    #[must_use]
    pub fn heartbeat(id: u64, sent_ns: u64, bulk: bool) -> Self {
        let beat = Heartbeat { sent_ns, lane_hint: u8::from(bulk), ..Heartbeat::default() };
        let mut frame = Vec::new();
        wire::frame::append(&mut frame, &beat, id, sent_ns).expect("a heartbeat fits");
        Self::new(id, frame, Expect::Heartbeat(sent_ns))
    }

    /// A request for metrics.
    #[must_use]
    pub fn metrics(id: u64) -> Self {
        let header = Header::for_payload(Kind::MetricsUpdate, id, 1, &[]);
        Self::new(id, header.as_bytes().to_vec(), Expect::Metrics)
    }

    /// A piece of numeric work on rows drawn from `rng`.
    ///
    /// # Panics
    /// If the rows are over 2 GiB.
    #[must_use]
    pub fn work(
        rng: &mut Rng,
        id: u64,
        work: TensorWork,
        streaming: bool,
        timeout_ms: u32,
    ) -> Self {
        let element = Dtype::from_code(work.dtype).map_or(1, Dtype::size);
        let mut rows = vec![0; work.rows as usize * work.cols as usize * element];
        if rng.chance(50) {
            rng.fill(&mut rows);
        } else {
            // Compressible.
            let byte = rng.next() as u8;
            rows.iter_mut().enumerate().for_each(|(at, b)| *b = byte ^ (at / 64) as u8);
        }
        let mut query_id = [0; 16];
        query_id[..8].copy_from_slice(&id.to_le_bytes());
        rng.fill(&mut query_id[8..]);
        let mut request = QueryRequest {
            query_id,
            work,
            streaming,
            routing_hint: RoutingHint { timeout_ms, ..RoutingHint::default() },
            ..QueryRequest::default()
        };
        let mut frame = Vec::new();
        RequestFrame::begin_with(&mut frame, &rows)
            .finish(&mut request, id, 1)
            .expect("the rows are short");
        let expect = Expect::Reply { work, rows, query_id, streaming, next: 0 };
        Self { id, frame, expect, timeout_ms }
    }

    /// The same request, of this priority.
    #[must_use]
    pub fn urgent(self, priority: Priority) -> Self {
        self.restated(core::mem::offset_of!(ArchivedQueryRequest, priority), priority.code())
    }

    /// The same request asked for again under another message id, for the `attempt`-th time.
    #[must_use]
    pub fn again(mut self, id: u64, attempt: u8) -> Self {
        self.id = id;
        self.frame[8..16].copy_from_slice(&id.to_be_bytes());
        self.restated(core::mem::offset_of!(ArchivedQueryRequest, attempt), attempt)
    }

    /// A byte of the root, which the inner CRC-32C does not cover, is another.
    fn restated(mut self, at: usize, byte: u8) -> Self {
        let root = self.frame.len() - ROOT_LEN;
        self.frame[root + at] = byte;
        let checksum = wire::check::crc16(&self.frame[HEADER_LEN..]);
        self.frame[30..32].copy_from_slice(&checksum.to_be_bytes());
        self
    }

    /// Which attempt an uncompressed request states.
    #[must_use]
    pub fn attempt(&self) -> u8 {
        let at = ROOT_LEN - core::mem::offset_of!(ArchivedQueryRequest, attempt);
        let plain = self.frame[28..30] == [0, 0];
        let byte = self.payload().len().checked_sub(at).map(|at| self.payload()[at]);
        byte.filter(|_| plain).unwrap_or(0)
    }

    /// The frame that takes the request of this id back.
    ///
    /// # Panics
    /// Never: a report always fits.
    #[must_use]
    pub fn cancel(id: u64) -> Vec<u8> {
        let report = ErrorReport { code: ErrorCode::Cancelled.code(), ..ErrorReport::default() };
        let mut frame = Vec::new();
        wire::frame::append(&mut frame, &report, id, 1).expect("a report fits");
        frame
    }

    /// An echo of `len` bytes.
    #[must_use]
    pub fn echo(rng: &mut Rng, id: u64, len: u32) -> Self {
        Self::work(rng, id, TensorWork::echo(Dtype::U8, 1, len), false, 0)
    }

    /// The same message with another answer.
    #[must_use]
    pub fn expecting(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.frame[HEADER_LEN..]
    }

    /// The same message, carried compressed.
    ///
    /// # Panics
    /// If the compressor fails.
    #[must_use]
    pub fn compressed(mut self, compression: Compression) -> Self {
        let mut packed = Vec::new();
        wire::pack::compress(compression, self.payload(), &mut packed).expect("it compresses");
        let header = Header::for_payload(Kind::QueryRequest, self.id, 1, &packed);
        let header = header.with_compression(compression);
        self.frame.truncate(0);
        self.frame.extend_from_slice(header.as_bytes());
        self.frame.extend_from_slice(&packed);
        self
    }

    /// A frame of any type around any payload.
    #[must_use]
    pub fn raw(id: u64, kind: u16, compression: u16, payload: &[u8], expect: Expect) -> Self {
        let header = Header::for_payload(Kind::QueryRequest, id, 1, payload);
        let mut frame = header.as_bytes().to_vec();
        frame[6..8].copy_from_slice(&kind.to_be_bytes());
        frame[28..30].copy_from_slice(&compression.to_be_bytes());
        frame.extend_from_slice(payload);
        Self::new(id, frame, expect)
    }

    /// The same message with one bit of its payload turned over, on the way or (with a right
    /// CRC-16) before it was sent.
    #[must_use]
    pub fn damaged(mut self, rng: &mut Rng, before_sending: bool) -> Self {
        let rows = match &self.expect {
            Expect::Reply { rows, .. } => rows.len().max(1),
            _ => self.payload().len(),
        };
        let within = if before_sending { rows } else { self.payload().len() };
        let at = HEADER_LEN + rng.below(within as u64) as usize;
        self.frame[at] ^= 1 << rng.below(8);
        self.expect = if before_sending {
            let checksum = wire::check::crc16(&self.frame[HEADER_LEN..]);
            self.frame[30..32].copy_from_slice(&checksum.to_be_bytes());
            Expect::Refusal(ErrorCode::BadCheck)
        } else {
            Expect::Refusal(ErrorCode::BadChecksum)
        };
        self
    }

    /// Something after which the stream cannot be followed. `longest` is the node's payload limit.
    #[must_use]
    pub fn fatal(rng: &mut Rng, id: u64, longest: u32) -> Self {
        let mut frame = wire::frame::ping(id, 1).as_bytes().to_vec();
        let code = match rng.below(3) {
            0 => {
                frame[rng.below(4) as usize] ^= 0x20;
                ErrorCode::BadMagic
            }
            1 => {
                frame[4..6].copy_from_slice(&(2 + rng.below(1_000) as u16).to_be_bytes());
                ErrorCode::UnsupportedVersion
            }
            _ => {
                let over = u64::from(longest) + 1 + rng.below(1 << 30);
                let over = u32::try_from(over).unwrap_or(u32::MAX);
                frame[24..28].copy_from_slice(&over.to_be_bytes());
                ErrorCode::PayloadTooLong
            }
        };
        Self::new(id, frame, Expect::Fatal(code))
    }
}

/// The work as the shard will see it.
#[must_use]
pub fn checked(work: &TensorWork, streaming: bool) -> Option<wire::Work> {
    let dtype = Dtype::from_code(work.dtype)?;
    wire::Work {
        operation: Operation::from_code(work.operation)?,
        dtype,
        values: Dtype::from_code(work.values)?,
        coding: Coding::from_code(work.coding)?,
        source: Source::from_code(work.source)?,
        quality: work.quality,
        streaming,
        k: work.k,
        rows: work.rows,
        cols: work.cols,
        data_offset: 0,
        data_len: work.rows * work.cols * dtype.size() as u32,
        check: None,
    }
    .check()
    .ok()
}
