//! Everything that a hostile or broken peer can do: what it sees, what is counted, and that nobody
//! else notices.

use crate::rig::{Node, Raw, request};
use std::time::Duration;
use wire::{
    Compression, Dtype, ErrorCode, HEADER_LEN, Kind, flags,
    payload::{QueryRequest, RoutingHint, TensorWork},
    request::RequestFrame,
    response,
};

/// Places in a header (W-02 of the format).
const VERSION: std::ops::Range<usize> = 4..6;
const KIND: std::ops::Range<usize> = 6..8;
const LENGTH: std::ops::Range<usize> = 24..28;
const COMPRESSION: std::ops::Range<usize> = 28..30;
const CRC: std::ops::Range<usize> = 30..32;

/// A good request of one row of 16 f32, small enough to carry no inner check.
fn good(id: u64) -> Vec<u8> {
    let row: Vec<u8> = (0..16).flat_map(|x| (x as f32).to_le_bytes()).collect();
    request(id, TensorWork::topk(Dtype::F32, 1, 16, 4, Dtype::F32), &row)
}

/// Makes the header's CRC-16 and length true again after the payload was changed.
fn reseal(frame: &mut [u8]) {
    let len = u32::try_from(frame.len() - HEADER_LEN).expect("short");
    let crc = wire::check::crc16(&frame[HEADER_LEN..]);
    frame[LENGTH].copy_from_slice(&len.to_be_bytes());
    frame[CRC].copy_from_slice(&crc.to_be_bytes());
}

/// A frame of any kind around these bytes.
fn frame(kind: u16, id: u64, compression: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = good(id)[..HEADER_LEN].to_vec();
    frame[KIND].copy_from_slice(&kind.to_be_bytes());
    frame[COMPRESSION].copy_from_slice(&compression.to_be_bytes());
    frame.extend_from_slice(payload);
    reseal(&mut frame);
    frame
}

/// The request must be answered properly.
fn answered(raw: &mut Raw, id: u64) {
    let frame = raw.frame().expect("an answer");
    assert_eq!(frame.header.kind(), Ok(Kind::QueryResponse));
    assert_eq!(frame.header.message_id(), id);
    let answer = response::read(frame.payload.as_slice()).expect("readable");
    let view = answer.logits.expect("a top-k set");
    assert_eq!(view.row_indices(0), [15, 14, 13, 12]);
}

/// Sends this, expects this refusal and the end of the connection; another connection does not
/// notice.
fn refused_and_closed(bytes: &[u8], code: ErrorCode) {
    let node = Node::start(&[]);
    let mut witness = node.raw();
    witness.lives();
    let mut raw = node.raw();
    raw.send(bytes);
    raw.refusal(code);
    raw.closed();
    witness.lives();
    assert_eq!(node.refusals(code.name()), 1);
    // The node half-closes and waits a little for the peer to do the same, so that the refusal is
    // read.
    drop(raw);
    node.await_count("butterfly_connections_closed_total", "cause", "fault", 1);
}

/// Sends this, expects this refusal with id 7; the connection lives and serves on.
fn refused_and_open(node: &Node, bytes: &[u8], code: ErrorCode) {
    let before = node.refusals(code.name());
    let mut raw = node.raw();
    raw.send(bytes);
    assert_eq!(raw.refusal(code), 7);
    raw.lives();
    raw.send(&good(8));
    answered(&mut raw, 8);
    assert_eq!(node.refusals(code.name()), before + 1);
}

#[test]
fn wire_01_wrong_magic_is_refused_and_ends_the_connection() {
    let mut bytes = good(7);
    bytes[0] = b'b';
    refused_and_closed(&bytes, ErrorCode::BadMagic);
    refused_and_closed(b"GET / HTTP/1.1\r\nHost: somewhere.example\r\n\r\n", ErrorCode::BadMagic);
}

#[test]
fn wire_02_unknown_version_is_refused_and_ends_the_connection() {
    let mut bytes = good(7);
    bytes[VERSION].copy_from_slice(&[0x7F, 0xFF]);
    refused_and_closed(&bytes, ErrorCode::UnsupportedVersion);
}

#[test]
fn wire_07_a_length_over_the_limit_is_refused_before_a_byte_of_it_is_taken() {
    let mut bytes = good(7)[..HEADER_LEN].to_vec();
    bytes[LENGTH].copy_from_slice(&u32::MAX.to_be_bytes());
    refused_and_closed(&bytes, ErrorCode::PayloadTooLong);
}

#[test]
fn wire_07_a_length_that_lies_ends_in_a_refusal_of_what_follows() {
    // 16 bytes less than there are: they are read as the next header.
    let mut bytes = good(7);
    let len = u32::try_from(bytes.len() - HEADER_LEN - 16).expect("short");
    let crc = wire::check::crc16(&bytes[HEADER_LEN..HEADER_LEN + len as usize]);
    bytes[LENGTH].copy_from_slice(&len.to_be_bytes());
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(&good(8));
    let node = Node::start(&[]);
    let mut raw = node.raw();
    raw.send(&bytes);
    assert_eq!(raw.refusal(ErrorCode::BadArchive), 7);
    raw.refusal(ErrorCode::BadMagic);
    raw.closed();
    node.raw().lives();
}

#[test]
fn unknown_kinds_and_bad_payloads_are_refused_and_the_connection_goes_on() {
    let node = Node::start(&[]);
    // TYPES: outside the registry; in it, but not served here. The payload is skipped, however
    // long.
    refused_and_open(&node, &frame(0x0BAD, 7, 0, &[1; 48]), ErrorCode::UnknownType);
    refused_and_open(&node, &frame(0x0BAD, 7, 0, &vec![1; 300_000]), ErrorCode::UnknownType);
    let served = Kind::DebateProposal.code();
    refused_and_open(&node, &frame(served, 7, 0, &[1; 48]), ErrorCode::UnservedType);
    // A length that is no multiple of 16 puts all that follows out of alignment; it is served all
    // the same.
    refused_and_open(&node, &frame(0x0BAD, 7, 0, &[1; 5]), ErrorCode::UnknownType);
    // WIRE-08.
    let query = Kind::QueryRequest.code();
    let unknown = frame(query, 7, 9, &good(7)[HEADER_LEN..]);
    refused_and_open(&node, &unknown, ErrorCode::UnknownCompression);
    // WIRE-09.
    let mut bad_crc = good(7);
    bad_crc[CRC].copy_from_slice(&[0, 0]);
    refused_and_open(&node, &bad_crc, ErrorCode::BadChecksum);
    let mut flipped = good(7);
    flipped[HEADER_LEN + 3] ^= 0x10;
    refused_and_open(&node, &flipped, ErrorCode::BadChecksum);
    // Archives: none at all, one of an odd length, one that is too short for its root.
    refused_and_open(&node, &frame(query, 7, 0, &[0xFF; 256]), ErrorCode::BadArchive);
    refused_and_open(&node, &frame(query, 7, 0, &good(7)[HEADER_LEN + 1..]), ErrorCode::BadArchive);
    refused_and_open(&node, &frame(query, 7, 0, &[0; 16]), ErrorCode::BadArchive);
}

#[test]
fn an_archive_that_points_outside_itself_is_refused() {
    let node = Node::start(&[]);
    let root = good(7).len() - wire::request::ROOT_LEN;
    // The first field of the root is the rows: (i32 offset, u32 length).
    for (offset, len) in [(i32::MIN, 64), (-100_000, 64), (16, 64), (-64, u32::MAX), (i32::MAX, 1)]
    {
        let mut bytes = good(7);
        bytes[root..root + 4].copy_from_slice(&offset.to_le_bytes());
        bytes[root + 4..root + 8].copy_from_slice(&len.to_le_bytes());
        reseal(&mut bytes);
        refused_and_open(&node, &bytes, ErrorCode::BadArchive);
    }
}

#[test]
fn a_long_payload_with_two_flips_that_crc_16_misses_is_refused_by_the_inner_check() {
    let node = Node::start(&[]);
    let row = vec![0; 4 * 4096];
    let mut bytes = request(7, TensorWork::topk(Dtype::F32, 1, 4096, 4, Dtype::F32), &row);
    let seen = bytes[CRC].to_vec();
    // 32,767 bits apart: the period of the polynomial.
    for bit in [8 * HEADER_LEN + 100, 8 * HEADER_LEN + 100 + 32_767] {
        bytes[bit / 8] ^= 0x80 >> (bit % 8);
    }
    reseal(&mut bytes);
    assert_eq!(bytes[CRC], seen[..], "CRC-16 does not see it");
    refused_and_open(&node, &bytes, ErrorCode::BadCheck);
}

#[test]
fn wire_08_compressed_requests_are_answered_and_bombs_are_not() {
    let node = Node::start(&["--max-payload", "1MiB"]);
    let query = Kind::QueryRequest.code();
    let payload = good(7)[HEADER_LEN..].to_vec();
    let zstd = zstd::bulk::compress(&payload, 1).expect("compresses");
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut lz4, &payload).expect("compresses");
    let lz4 = lz4.finish().expect("compresses");
    for (code, packed) in [(Compression::Zstd, &zstd), (Compression::Lz4, &lz4)] {
        let mut raw = node.raw();
        raw.send(&frame(query, 9, code.code(), packed));
        answered(&mut raw, 9);
    }

    let zeros = vec![0; 64 << 20];
    let bomb = zstd::bulk::compress(&zeros, 1).expect("compresses");
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    refused_and_open(&node, &frame(query, 7, 1, &bomb), ErrorCode::BadCompression);
    let mut bomb = lz4_flex::frame::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut bomb, &zeros[..64 << 20]).expect("compresses");
    let bomb = bomb.finish().expect("compresses");
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    refused_and_open(&node, &frame(query, 7, 2, &bomb), ErrorCode::BadCompression);
    // Not a frame of either kind at all, and one that is cut.
    refused_and_open(&node, &frame(query, 7, 1, &[0x55; 64]), ErrorCode::BadCompression);
    refused_and_open(&node, &frame(query, 7, 2, &lz4[..lz4.len() - 9]), ErrorCode::BadCompression);
}

#[test]
fn impossible_work_is_refused_by_its_own_reason() {
    let node = Node::start(&[]);
    let row = vec![0; 64];
    let ask = |work| request(7, work, &row);
    let topk = |rows, cols, k| TensorWork::topk(Dtype::F32, rows, cols, k, Dtype::F32);
    refused_and_open(&node, &ask(topk(1, 16, 0)), ErrorCode::BadK);
    refused_and_open(&node, &ask(topk(1, 16, 1025)), ErrorCode::BadK);
    refused_and_open(&node, &ask(topk(0, 16, 4)), ErrorCode::BadShape);
    refused_and_open(&node, &ask(topk(1, 0, 4)), ErrorCode::BadShape);
    refused_and_open(&node, &ask(topk(1, 262_145, 4)), ErrorCode::BadShape);
    refused_and_open(&node, &ask(topk(1, 17, 4)), ErrorCode::BadRequest);
    refused_and_open(&node, &ask(topk(u32::MAX, u32::MAX, 4)), ErrorCode::BadShape);
    let mut unknown = topk(1, 16, 4);
    unknown.operation = 77;
    refused_and_open(&node, &ask(unknown), ErrorCode::BadRequest);
    // No worker of this node has weights, or a model.
    let lm_head = TensorWork::lm_head(Dtype::F32, 1, 16, 4, Dtype::F32);
    refused_and_open(&node, &ask(lm_head), ErrorCode::NoCapableWorker);
}

#[test]
fn nan_rows_and_a_vocabulary_of_one_have_answers() {
    let node = Node::start(&[]);
    let mut raw = node.raw();
    let mut ask = |values: &[f32], k| {
        let row: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let cols = u32::try_from(values.len()).expect("short");
        raw.send(&request(1, TensorWork::topk(Dtype::F32, 1, cols, k, Dtype::F32), &row));
        let frame = raw.frame().expect("an answer");
        let answer = response::read(frame.payload.as_slice()).expect("readable");
        let view = answer.logits.expect("a set");
        (view.row_indices(0).to_vec(), view.flags[0], view.logsumexp(0).expect("a row"))
    };
    let (indices, found, _) = ask(&[f32::NAN, 1.0, f32::NAN, 2.0], 3);
    assert_eq!((indices, found), (vec![3, 1], flags::NAN | flags::SHORT));
    let (indices, found, _) = ask(&[f32::NAN; 16], 4);
    assert_eq!((indices, found & flags::NAN), (vec![], flags::NAN));
    let (indices, found, lse) = ask(&[2.5], 1);
    assert_eq!((indices, found), (vec![0], 0));
    assert!((lse - 2.5).abs() < 1e-6, "{lse}");
    let (indices, found, _) = ask(&[2.5], 1024);
    assert_eq!((indices, found), (vec![0], flags::SHORT));
}

#[test]
fn a_frame_that_breaks_off_is_counted_and_disturbs_nobody() {
    let node = Node::start(&[]);
    let whole = good(7);
    let long = request(7, TensorWork::int8(Dtype::F32, 1, 65_536), &vec![0; 262_144]);
    for bytes in [&whole[..10], &whole[..HEADER_LEN], &whole[..whole.len() - 1], &long[..100_000]] {
        let mut raw = node.raw();
        raw.send(bytes);
        raw.finish();
        raw.closed();
    }
    node.await_count("butterfly_connections_closed_total", "cause", "truncated", 4);
    node.raw().lives();
}

#[test]
fn a_slow_sender_is_cut_off() {
    let node = Node::start(&["--peer-timeout", "200ms"]);
    let mut raw = node.raw();
    raw.send(&good(7)[..20]);
    let mut patient = node.raw();
    patient.lives();
    assert_eq!(raw.refusal(ErrorCode::PeerTooSlow), 0, "it is told");
    raw.closed();
    node.await_count("butterfly_connections_closed_total", "cause", "slow_sender", 1);
    // Silence between frames is no offence.
    patient.lives();
}

#[test]
fn a_client_that_never_reads_is_cut_off_and_its_replies_are_dropped() {
    let node = Node::start(&["--peer-timeout", "500ms"]);
    let rows = vec![0; 64 << 10];
    let asked = request(7, TensorWork::echo(Dtype::F32, 1, 16 << 10), &rows);
    let mut raw = node.raw();
    let sent = raw.send_until_stuck(&asked, Duration::from_secs(3));
    assert!(sent > asked.len(), "some requests were taken");
    let mut other = node.raw();
    other.lives();
    node.await_count("butterfly_connections_closed_total", "cause", "slow_reader", 1);
    other.send(&good(8));
    answered(&mut other, 8);
}

#[test]
fn a_client_that_leaves_with_requests_under_way_costs_nobody_anything() {
    let node = Node::start(&[]);
    for _ in 0..8 {
        let mut raw = node.raw();
        let rows = vec![0; 256 << 10];
        for id in 0..4 {
            raw.send(&request(id, TensorWork::echo(Dtype::F32, 1, 64 << 10), &rows));
        }
    }
    // All eight bulk slots were in use; they are free again.
    let mut raw = node.raw();
    let rows = vec![0; 256 << 10];
    for id in 0..16 {
        raw.send(&request(id, TensorWork::echo(Dtype::F32, 1, 64 << 10), &rows));
        let frame = raw.frame().expect("an answer");
        assert_eq!(frame.header.kind(), Ok(Kind::QueryResponse));
    }
}

#[test]
fn one_connection_too_many_is_told_so() {
    let node = Node::start(&["--max-connections", "2"]);
    let (mut one, mut two) = (node.raw(), node.raw());
    one.lives();
    two.lives();
    let mut three = node.raw();
    three.refusal(ErrorCode::TooManyConnections);
    three.closed();
    one.lives();
    two.lives();
    drop(one);
    // The place is free again as soon as the node has seen the end.
    let deadline = std::time::Instant::now() + crate::rig::PATIENCE;
    loop {
        let mut next = node.raw();
        // Where too many are being turned away at a time, the last of them are not even told why.
        let sent = next.try_send(&good(1));
        let frame = next.frame().filter(|_| sent);
        if frame.is_some_and(|frame| frame.header.kind() == Ok(Kind::QueryResponse)) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "no place becomes free");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn query_09_an_expired_request_is_refused_and_not_computed() {
    let node = Node::start(&["--workers", "1", "--worker-timeout", "60s"]);
    let worker = node.workers()[0];
    crate::rig::strike(worker, rustix::process::Signal::STOP);
    let mut frame = Vec::new();
    let mut asked = QueryRequest {
        work: TensorWork::topk(Dtype::F32, 1, 16, 4, Dtype::F32),
        routing_hint: RoutingHint { timeout_ms: 20, ..RoutingHint::default() },
        ..QueryRequest::default()
    };
    RequestFrame::begin_with(&mut frame, &[0; 64]).finish(&mut asked, 7, 0).expect("fits");
    let mut raw = node.raw();
    raw.send(&frame);
    assert_eq!(raw.refusal(ErrorCode::DeadlineExceeded), 7);
    crate::rig::strike(worker, rustix::process::Signal::CONT);
    raw.send(&good(8));
    answered(&mut raw, 8);
    assert_eq!(node.refusals("deadline_exceeded"), 1);
}
