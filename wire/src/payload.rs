//! Payloads: rkyv archives that are checked once and then read where they lie.
//!
//! Every payload type is a root at the end of the payload, 16-byte aligned, whose last eight bytes
//! are its [`Seal`]. What the root points at lies before it, in the order of the fields, tensor
//! data first. `FORMAT.md` lists each root byte by byte.

mod error_report;
mod heartbeat;
pub mod mesh;
mod metrics_update;
mod part;
mod query_request;
mod query_response;
mod sink;
mod text;
mod trace;
mod worker_registration;

pub use error_report::{ArchivedErrorReport, ErrorReport};
pub use heartbeat::{ArchivedHeartbeat, Heartbeat, LANE_AS_MEASURED, LANE_BULK};
pub use metrics_update::{
    ArchivedCounter, ArchivedMetricsUpdate, ArchivedUtilization, Counter, MetricsUpdate, Number,
    Utilization,
};
pub use part::Part;
pub use query_request::{
    ArchivedContext, ArchivedQueryRequest, ArchivedRoutingHint, ArchivedTensorWork,
    ArchivedUserPreferences, Context, QueryRequest, RoutingHint, TensorWork, UserPreferences,
};
pub use query_response::{
    Answer, ArchivedAnswer, ArchivedAttention, ArchivedCodedRows, ArchivedInt8Block,
    ArchivedMetadata, ArchivedQueryResponse, ArchivedStreamingChunk, ArchivedTensor,
    ArchivedTopKSet, Attention, CodedRows, Int8Block, Metadata, QueryResponse, SCHEME_ROW_ABSMAX,
    StreamingChunk, Tensor, TopKSet,
};
pub use sink::{Encoder, Sink};
pub use text::Text;
pub use trace::{
    ArchivedCopied, ArchivedTrace, ArchivedTraceQuery, ArchivedTraceReport, Copied, Trace,
    TraceQuery, TraceReport,
};
pub use worker_registration::{
    ArchivedCapability, ArchivedHardware, ArchivedLoad, ArchivedNetwork, ArchivedScore,
    ArchivedWorkerRegistration, Capability, Hardware, Load, Network, Score, WorkerRegistration,
};

use crate::{CHECKED_PAYLOAD_MIN, ErrorCode, Kind, PAYLOAD_ALIGN, check};
use rkyv::{
    Archive, Archived, Portable, Serialize,
    api::{access_pos_with_context, serialize_using},
    bytecheck::CheckBytes,
    rancor::{Failure, Strategy},
    ser::Serializer,
    util::with_arena,
    validation::archive::ArchiveValidator,
};

/// Bytes of a [`Seal`], the end of every root.
pub const SEAL_LEN: usize = 8;

/// What validates an archive in place.
pub type Checker<'a> = Strategy<ArchiveValidator<'a>, Failure>;

/// The end of every root. Encoding fills it in; values that are being built leave it at its
/// default.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct Seal {
    /// CRC-32C of every byte before the root in payloads of [`CHECKED_PAYLOAD_MIN`] bytes and more,
    /// otherwise 0.
    pub check: u32,
    /// Zero.
    pub reserved: u16,
    /// Version of the payload type's layout: [`Payload::SCHEMA`].
    pub schema: u16,
}

/// Why bytes are not a payload of the expected type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadFault {
    /// The bytes do not start at a multiple of 16 in memory; a copy that does may be fine.
    Misaligned,
    /// The length is not a multiple of 16, or shorter than the root.
    Length,
    /// A pointer leaves the payload or overlaps, a text is not UTF-8, or a field has an impossible
    /// value.
    Archive,
    /// Another schema version.
    Schema,
    /// The inner CRC-32C does not match, or is set where it must be 0.
    Check,
    /// The fields are valid one by one but contradict each other.
    Content,
}

impl PayloadFault {
    /// What the peer is told.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Misaligned | Self::Length | Self::Archive | Self::Schema => ErrorCode::BadArchive,
            Self::Check => ErrorCode::BadCheck,
            Self::Content => ErrorCode::BadRequest,
        }
    }
}

impl core::fmt::Display for PayloadFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Misaligned => "the payload is not 16-byte aligned in memory",
            Self::Length => {
                "the payload's length is not a multiple of 16 or too short for its root"
            }
            Self::Archive => "the archive points outside itself or holds an invalid value",
            Self::Schema => "the payload has another schema version",
            Self::Check => "the payload's inner CRC-32C does not match",
            Self::Content => "the payload's fields contradict each other",
        })
    }
}

impl core::error::Error for PayloadFault {}

/// A payload type: its message kind, its schema version, and where its seal is.
pub trait Payload:
    Archive<Archived: Portable + for<'a> CheckBytes<Checker<'a>>>
    + for<'a, 'b> Serialize<Encoder<'a, 'b>>
{
    /// The message type that carries it.
    const KIND: Kind;
    /// The version of its layout.
    const SCHEMA: u16;
    /// Bytes of its root.
    const ROOT_LEN: usize = size_of::<Archived<Self>>();

    /// The end of the root.
    fn seal(archived: &Archived<Self>) -> &ArchivedSeal;
}

/// Checks `bytes` as a payload of type `T` and gives its root, in place. Nothing is copied or
/// allocated.
///
/// The inner CRC-32C is left alone: [`open`] checks it too, and for requests the worker does.
///
/// # Errors
/// Every [`PayloadFault`] but `Check` and `Content`.
#[inline]
pub fn access<T: Payload>(bytes: &[u8]) -> Result<&Archived<T>, PayloadFault> {
    if !bytes.len().is_multiple_of(PAYLOAD_ALIGN) || bytes.len() < T::ROOT_LEN {
        return Err(PayloadFault::Length);
    }
    // Said apart from other faults, because the remedy differs: copy to aligned memory and try
    // again.
    if !bytes.as_ptr().addr().is_multiple_of(PAYLOAD_ALIGN) {
        return Err(PayloadFault::Misaligned);
    }
    // No payload type contains itself, so the types bound the depth and the checker need not count
    // it.
    let mut checker = ArchiveValidator::new(bytes);
    let root: &Archived<T> =
        access_pos_with_context::<_, _, Failure>(bytes, bytes.len() - T::ROOT_LEN, &mut checker)
            .map_err(|_| PayloadFault::Archive)?;
    if T::seal(root).schema != T::SCHEMA {
        return Err(PayloadFault::Schema);
    }
    Ok(root)
}

/// [`access`], and the inner CRC-32C of long payloads.
///
/// # Errors
/// Every [`PayloadFault`] but `Content`.
pub fn open<T: Payload>(bytes: &[u8]) -> Result<&Archived<T>, PayloadFault> {
    let root = access::<T>(bytes)?;
    let stated = T::seal(root).check.to_native();
    if stated != inner_check(bytes, T::ROOT_LEN) {
        return Err(PayloadFault::Check);
    }
    Ok(root)
}

/// True for payload lengths that carry an inner CRC-32C.
#[must_use]
#[inline]
pub const fn is_checked(payload_len: usize) -> bool {
    payload_len >= CHECKED_PAYLOAD_MIN
}

/// What the seal of this payload must state.
pub(crate) fn inner_check(payload: &[u8], root_len: usize) -> u32 {
    if !is_checked(payload.len()) {
        return 0;
    }
    match payload.get(..payload.len().saturating_sub(root_len)) {
        Some(body) => check::crc32c(body),
        None => 0,
    }
}

/// There is no room for what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the output has no room for this payload")
    }
}

impl core::error::Error for Full {}

/// Writes everything but the data already placed, then the root and its seal. Returns the payload's
/// length.
pub(crate) fn encode<T: Payload>(value: &T, sink: Sink<'_>) -> Result<usize, Full> {
    let sink = with_arena(|arena| {
        let mut serializer = Serializer::new(sink, arena.acquire(), ());
        serialize_using::<_, Failure>(value, &mut serializer)
            .map(|_| serializer.into_writer())
            .map_err(|_| Full)
    })?;
    let payload = sink.into_payload();
    let len = payload.len();
    let check = inner_check(payload, T::ROOT_LEN);
    let seal = len.checked_sub(SEAL_LEN).and_then(|at| payload.get_mut(at..)).ok_or(Full)?;
    let (stated, rest) = seal.split_at_mut(4);
    stated.copy_from_slice(&check.to_le_bytes());
    let (reserved, schema) = rest.split_at_mut(2);
    reserved.fill(0);
    schema.copy_from_slice(&T::SCHEMA.to_le_bytes());
    Ok(len)
}

/// Says of a payload type where its seal is, and that its layout keeps the rules that every root
/// keeps.
macro_rules! payload {
    ($type:ty, $archived:ty, $kind:expr, $schema:expr) => {
        impl $crate::payload::Payload for $type {
            const KIND: $crate::Kind = $kind;
            const SCHEMA: u16 = $schema;

            #[inline]
            fn seal(archived: &$archived) -> &$crate::payload::ArchivedSeal {
                &archived.seal
            }
        }

        const _: () = {
            let len = size_of::<$archived>();
            assert!(len.is_multiple_of($crate::PAYLOAD_ALIGN));
            assert!(align_of::<$archived>() == $crate::PAYLOAD_ALIGN);
            let seal = core::mem::offset_of!($archived, seal);
            assert!(seal + $crate::payload::SEAL_LEN == len);
        };
    };
}
pub(crate) use payload;
