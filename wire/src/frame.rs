//! Whole frames: header and payload, written at once.

use crate::{
    HEADER_LEN, Header, Kind,
    check::crc16,
    payload::{Full, Payload, Sink, encode},
};
use zerocopy::IntoBytes;

/// Appends a frame with this payload. Returns the frame's length.
///
/// # Errors
/// [`Full`] for payloads that the format cannot carry (2 GiB); `out` is then as it was.
pub fn append<T: Payload>(
    out: &mut Vec<u8>,
    value: &T,
    message_id: u64,
    timestamp_ns: u64,
) -> Result<usize, Full> {
    let start = out.len();
    out.resize(start + HEADER_LEN, 0);
    let sealed = encode(value, Sink::vec(out, start + HEADER_LEN))
        .and_then(|_| head(out.get_mut(start..).ok_or(Full)?, T::KIND, message_id, timestamp_ns));
    if sealed.is_err() {
        out.truncate(start);
    }
    sealed
}

/// Writes a frame with this payload at the start of `out`. Returns its length.
///
/// # Errors
/// [`Full`] where `out` is too short; what it then holds is unspecified.
pub fn write<T: Payload>(
    out: &mut [u8],
    value: &T,
    message_id: u64,
    timestamp_ns: u64,
) -> Result<usize, Full> {
    let payload = out.get_mut(HEADER_LEN..).ok_or(Full)?;
    let len = HEADER_LEN + encode(value, Sink::slice(payload, 0))?;
    head(out.get_mut(..len).ok_or(Full)?, T::KIND, message_id, timestamp_ns)
}

/// Writes the header of a frame whose payload is already in its place. Returns the frame's length.
pub(crate) fn head(
    frame: &mut [u8],
    kind: Kind,
    message_id: u64,
    timestamp_ns: u64,
) -> Result<usize, Full> {
    let len = frame.len();
    let (head, payload) = frame.split_at_mut_checked(HEADER_LEN).ok_or(Full)?;
    let payload_len = u32::try_from(payload.len()).map_err(|_| Full)?;
    let header = Header::new(kind, message_id, timestamp_ns, payload_len, crc16(payload));
    head.copy_from_slice(header.as_bytes());
    Ok(len)
}

/// A ping, and its answer: a HEARTBEAT with an empty payload.
#[must_use]
pub fn ping(message_id: u64, timestamp_ns: u64) -> Header {
    Header::for_payload(Kind::Heartbeat, message_id, timestamp_ns, &[])
}
