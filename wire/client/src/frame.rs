//! What both faces check of a frame before they show it.

use crate::ClientError;
use wire::{Compression, HEADER_LEN, Header, Kind};

/// The header of a frame from a node, checked before a byte of its payload is taken.
pub(crate) fn head(
    bytes: &[u8; HEADER_LEN],
    payload_max: u32,
) -> Result<(Header, Kind), ClientError> {
    let header = *Header::peek(bytes).ok_or_else(|| ClientError::protocol("no header"))?;
    header.check(payload_max).map_err(|fault| {
        let (code, len) = (fault.code, header.payload_len());
        ClientError::protocol(format!("{code} in the header of a reply (length {len})"))
    })?;
    let kind = header.kind().map_err(|_| {
        ClientError::protocol(format!("unknown message type {:#06x}", header.raw_kind()))
    })?;
    if header.compression() != Ok(Compression::None) {
        return Err(ClientError::protocol("a reply is compressed, which was not asked for"));
    }
    Ok((header, kind))
}

/// The payload against its CRC-16.
pub(crate) fn body(header: &Header, payload: &[u8]) -> Result<(), ClientError> {
    if wire::check::crc16(payload) == header.checksum() {
        return Ok(());
    }
    let (id, len) = (header.message_id(), payload.len());
    let what = format!("the CRC-16 of reply {id} does not match its {len} bytes of payload");
    Err(ClientError::protocol(what))
}
