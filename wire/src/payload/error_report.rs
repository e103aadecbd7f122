//! ERROR_REPORT: why a message was refused or failed, and what to do about it.

use super::{Seal, Text, payload};
use crate::Kind;
use rkyv::{Archive, Serialize};

/// A refusal. Its frame repeats the message_id of what it refuses, where that is known.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct ErrorReport {
    /// The bound that was passed, in the unit of the error; 0 where there is none.
    pub limit: u64,
    /// The value that passed it.
    pub actual: u64,
    /// What is wrong and what to do, for people.
    pub message: Text,
    /// Milliseconds to wait before trying again; 0 for no advice.
    pub retry_after_ms: u32,
    /// Code of an [`crate::ErrorCode`].
    pub code: u16,
    /// The message type of what is refused, as it was carried.
    pub offending_kind: u16,
    /// Zero.
    pub reserved: [u8; 8],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

payload!(ErrorReport, ArchivedErrorReport, Kind::ErrorReport, 1);
