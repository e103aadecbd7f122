//! Refusals: ERROR_REPORT frames, written without allocating.

use crate::{
    ErrorCode, frame,
    payload::{ErrorReport, Text},
};

/// Room that any refusal's frame fits into.
pub const FRAME_MAX: usize = 320;

/// What is refused and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: ErrorCode,
    /// The message type of what is refused, as it was carried; 0 where it is not known.
    pub offending_kind: u16,
    /// Milliseconds to wait before trying again; 0 for no advice.
    pub retry_after_ms: u32,
    /// The bound that was passed, in the unit of the error; 0 where there is none.
    pub limit: u64,
    /// The value that passed it.
    pub actual: u64,
}

impl Refusal {
    /// A refusal without a bound or advice on when to try again.
    #[must_use]
    pub const fn new(code: ErrorCode, offending_kind: u16) -> Self {
        Self { code, offending_kind, retry_after_ms: 0, limit: 0, actual: 0 }
    }

    /// The same, naming the bound and what passed it.
    #[must_use]
    pub const fn over(mut self, limit: u64, actual: u64) -> Self {
        self.limit = limit;
        self.actual = actual;
        self
    }

    /// The same, saying when to try again.
    #[must_use]
    pub const fn retry_after(mut self, milliseconds: u32) -> Self {
        self.retry_after_ms = milliseconds;
        self
    }
}

/// Writes the whole frame of a refusal at the start of `out` and returns its length, or 0 where
/// `out` is too short ([`FRAME_MAX`] bytes always suffice). Nothing is allocated once the thread
/// has encoded a first payload.
#[must_use]
pub fn write_frame(out: &mut [u8], message_id: u64, timestamp_ns: u64, refusal: &Refusal) -> usize {
    let report = ErrorReport {
        limit: refusal.limit,
        actual: refusal.actual,
        message: Text::literal(sentence(refusal.code)),
        retry_after_ms: refusal.retry_after_ms,
        code: refusal.code.code(),
        offending_kind: refusal.offending_kind,
        ..ErrorReport::default()
    };
    frame::write(out, &report, message_id, timestamp_ns).unwrap_or(0)
}

/// What is wrong and what to do, one line for people.
#[must_use]
pub const fn sentence(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadMagic => "frames start with BUTT; is this a butterfly client?",
        ErrorCode::UnsupportedVersion => {
            "this node speaks protocol version 1; use a client of that version"
        }
        ErrorCode::UnknownType => "no such message type; the payload was skipped",
        ErrorCode::UnservedType => {
            "this node does not serve that message type; the payload was skipped"
        }
        ErrorCode::UnknownCompression => {
            "compression is 0 (none), 1 (zstd) or 2 (lz4); the payload was skipped"
        }
        ErrorCode::BadChecksum => {
            "the payload's CRC-16 differs from the header's; send the request again"
        }
        ErrorCode::BadCheck => "the payload's inner CRC-32C does not match; send the request again",
        ErrorCode::PayloadTooLong => {
            "the payload is longer than this node accepts; send fewer rows per request"
        }
        ErrorCode::BadArchive => {
            "the payload is no valid archive of its message type; see the format's rules"
        }
        ErrorCode::BadCompression => {
            "the payload cannot be restored, or not within this node's limit"
        }
        ErrorCode::BadRequest => {
            "the fields do not fit together, or name what is not there; compare shapes with data"
        }
        ErrorCode::BadK => "k must be between 1 and 1024",
        ErrorCode::BadShape => "rows must be between 1 and 65536, cols between 1 and 262144",
        ErrorCode::ReplyTooLong => {
            "the reply would not fit into a slot; send fewer rows per request or a smaller k"
        }
        ErrorCode::NoCapableWorker => "no worker of this node serves that operation",
        ErrorCode::DeadlineExceeded => "timeout_ms passed before the answer was ready",
        ErrorCode::Overloaded => "too many requests are under way; try again after the hint",
        ErrorCode::WorkerFailed => "the workers that took this request died; try again",
        ErrorCode::Draining => "this node is shutting down; try another one",
        ErrorCode::TooManyConnections => {
            "this node has no room for another connection; try again later"
        }
        ErrorCode::PeerTooSlow => "nothing moved on this connection for too long; it is closed",
        ErrorCode::UnknownBasis => {
            "this node has no such basis; fetch the one it has, or name none"
        }
        ErrorCode::NameTaken => "another connection holds this agent's id; end it first",
        ErrorCode::MeshFull => "the registry has no room for another agent; raise its limit",
        ErrorCode::StaleAgent => "that handle is no agent of this connection; register again",
        ErrorCode::TooManyTargets => {
            "more targets or a longer message than this mesh takes; split the operation"
        }
        ErrorCode::Forbidden => {
            "this connection may not do that: its roles do not allow it, or the node asks for a \
             signature by a key that it knows, made within 30 s; ask the operator for either"
        }
        ErrorCode::RateLimited => {
            "this peer is over a limit that the node has set for it; try again after the hint"
        }
        ErrorCode::Cancelled => "the asker took this request back",
        ErrorCode::Duplicate => {
            "a request of the same sender and query_id is under way or was answered, or the \
             order's signature was used before; ask anew"
        }
        ErrorCode::Unconfirmed => {
            "this order needs the signatures of two operators; it waits five minutes for the second"
        }
    }
}
