//! The bytes of the comparisons: bursts of frames to send, and what must come back.

use wire::{
    Dtype, HEADER_LEN, Header, Kind, Operation,
    check::crc16,
    frame, heartbeat,
    payload::{Heartbeat, QueryRequest, TensorWork},
    request::RequestFrame,
};

/// Bytes of a heartbeat's frame: 32 of header, 64 of archive.
pub const HEARTBEAT_FRAME: usize = heartbeat::FRAME_LEN;

/// `depth` heartbeats back to back, with message ids from 0.
///
/// # Panics
/// If the format refuses them, which would be a mistake here.
#[must_use]
pub fn heartbeats(depth: usize) -> Vec<u8> {
    let mut burst = Vec::new();
    for id in 0..depth as u64 {
        let beat = Heartbeat { sent_ns: 1_000 + id, max_concurrent: 32, ..Heartbeat::default() };
        frame::append(&mut burst, &beat, id, 1_000 + id).expect("a heartbeat always fits");
    }
    assert_eq!(burst.len(), depth * HEARTBEAT_FRAME);
    burst
}

/// `depth` top-1 requests back to back, each over one row of `row_bytes` of f32, with message ids
/// from 0.
///
/// # Panics
/// If the format refuses them, which would be a mistake here.
#[must_use]
pub fn rows(depth: usize, row_bytes: usize) -> Vec<u8> {
    let mut burst = Vec::new();
    for id in 0..depth as u64 {
        append_row(&mut burst, id, row_bytes);
    }
    burst
}

fn append_row(out: &mut Vec<u8>, message_id: u64, row_bytes: usize) {
    let mut frame = RequestFrame::begin(out, row_bytes);
    for (at, value) in frame.data_mut().chunks_exact_mut(4).enumerate() {
        let logit = ((at * 2_654_435_761) % 1_000_003) as f32 / 1_000_003.0;
        value.copy_from_slice(&logit.to_le_bytes());
    }
    let work = TensorWork {
        operation: Operation::TopK.code(),
        dtype: Dtype::F32.code(),
        values: Dtype::F32.code(),
        rows: 1,
        cols: (row_bytes / 4) as u32,
        k: 1,
        ..TensorWork::default()
    };
    let mut request = QueryRequest { work, ..QueryRequest::default() };
    frame.finish(&mut request, message_id, 1).expect("a row fits a frame");
}

/// Checks that `bytes` are whole valid frames of `kind` with the message ids `0..count` in some
/// order.
///
/// # Errors
/// What is wrong with the first bad frame.
pub fn check(bytes: &[u8], kind: Kind, count: usize) -> Result<(), String> {
    let mut ids = Vec::with_capacity(count);
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let header = Header::peek(rest).ok_or_else(|| format!("half a header at {at}"))?;
        header.check(1 << 30).map_err(|fault| format!("{} at {at}", fault.code))?;
        let len = header.payload_len() as usize;
        let payload =
            rest.get(HEADER_LEN..HEADER_LEN + len).ok_or_else(|| format!("cut off at {at}"))?;
        if header.kind() != Ok(kind) {
            return Err(format!("kind {:#06x} at {at}", header.raw_kind()));
        }
        if header.checksum() != crc16(payload) {
            return Err(format!("bad checksum at {at}"));
        }
        ids.push(header.message_id());
        rest = &rest[HEADER_LEN + len..];
    }
    ids.sort_unstable();
    if ids.iter().copied().eq(0..count as u64) {
        Ok(())
    } else {
        Err(format!("{} answers for {count} requests, or wrong ids", ids.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_whole_frames() {
        let burst = heartbeats(5);
        assert_eq!(check(&burst, Kind::Heartbeat, 5), Ok(()));
        assert!(check(&burst, Kind::Heartbeat, 6).is_err());
        assert!(check(&burst, Kind::QueryResponse, 5).is_err());
        assert!(check(&burst[1..], Kind::Heartbeat, 5).is_err());
        assert!(check(&burst[..burst.len() - 1], Kind::Heartbeat, 5).is_err());
        let mut bent = burst;
        bent[40] ^= 1;
        assert!(check(&bent, Kind::Heartbeat, 5).is_err());
    }

    #[test]
    fn rows_are_valid_requests() {
        assert_eq!(check(&rows(3, 64), Kind::QueryRequest, 3), Ok(()));
        assert_eq!(check(&rows(1, 4_096), Kind::QueryRequest, 1), Ok(()));
    }
}
