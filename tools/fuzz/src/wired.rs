//! `wire`: headers, payloads, requests, answers, packed bytes, tokens, texts, orders.

use crate::bytes::{Input, aligned};
use core::fmt::Debug;
use wire::{
    Compression, HEADER_LEN, Header, Operation, Order, Outcome, Payload, Work, pack,
    payload::{self, mesh},
    reply, request, response, tokens,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// What is restored at most.
const RESTORED_MAX: usize = 64 << 10;

/// 32 bytes of a header, and its payload.
pub(crate) fn header(bytes: &[u8]) {
    let Some(header) = Header::peek(bytes) else {
        assert!(bytes.len() < HEADER_LEN);
        return;
    };
    let limit = 1 << 20;
    let sound = header.check(limit).is_ok();
    assert_eq!(sound, bytes[..6] == *b"BUTT\0\x01" && header.payload_len() <= limit);
    if let (Ok(kind), Ok(compression)) = (header.kind(), header.compression()) {
        assert_eq!(kind.code(), header.raw_kind());
        let payload = &bytes[HEADER_LEN..];
        let (id, at) = (header.message_id(), header.timestamp_ns());
        let again = Header::for_payload(kind, id, at, payload).with_compression(compression);
        assert_eq!(again.kind(), Ok(kind));
        assert_eq!((again.message_id(), again.timestamp_ns()), (id, at));
        assert_eq!(again.payload_len() as usize, payload.len());
    }
}

/// Shows every byte that an accepted archive leads to.
fn shown<T: Payload>(bytes: &[u8])
where
    rkyv::Archived<T>: Debug,
{
    if let Ok(root) = payload::access::<T>(bytes) {
        assert!(!format!("{root:?}").is_empty());
        // What is read with its check is what was read without.
        if let Ok(opened) = payload::open::<T>(bytes) {
            assert!(core::ptr::eq(root, opened));
        }
    }
}

/// A payload, read as each of the types.
pub(crate) fn payloads(bytes: &[u8]) {
    let bytes = aligned(bytes);
    shown::<payload::QueryRequest>(&bytes);
    shown::<payload::QueryResponse>(&bytes);
    shown::<payload::WorkerRegistration>(&bytes);
    shown::<payload::Heartbeat>(&bytes);
    shown::<payload::ErrorReport>(&bytes);
    shown::<payload::MetricsUpdate>(&bytes);
    shown::<payload::TraceQuery>(&bytes);
    shown::<payload::TraceReport>(&bytes);
    shown::<mesh::AgentRegistration>(&bytes);
    shown::<mesh::AgentRegistered>(&bytes);
    shown::<mesh::AgentHeartbeat>(&bytes);
    shown::<mesh::Coordinate>(&bytes);
    shown::<mesh::Ack>(&bytes);
    shown::<mesh::Circuit>(&bytes);
    shown::<mesh::Freeze>(&bytes);
    shown::<mesh::Gather>(&bytes);
    shown::<mesh::GatherReport>(&bytes);
    shown::<mesh::MeshQuery>(&bytes);
    shown::<mesh::MeshView>(&bytes);
    shown::<mesh::NodeJoin>(&bytes);
    shown::<mesh::MeshSummary>(&bytes);
}

/// Work that was accepted can be carried out and answered.
fn judge(work: &Work, payload_len: usize) {
    assert_eq!(work.check(), Ok(*work), "accepted work stays acceptable");
    let order = Order::new(work, 1, payload_len as u32, 2, 3, 4);
    assert_eq!(order.work(), Ok(*work), "an order carries the work as it is");
    if work.operation != Operation::Fetch {
        assert!(reply::reply_len(work) > 0);
    }
}

/// The payload of a request.
pub(crate) fn requests(bytes: &[u8]) {
    let bytes = aligned(bytes);
    let _ = (request::query_id(&bytes), request::basis(&bytes));
    let Ok((_, work)) = request::work(&bytes) else { return };
    let rows = request::rows(&bytes, &work).expect("accepted rows lie in the payload");
    assert_eq!(rows.len(), work.data_len as usize);
    let _ = request::verify(&bytes, &work);
    judge(&work, bytes.len());
}

/// The payload of an answer.
pub(crate) fn responses(bytes: &[u8]) {
    let bytes = aligned(bytes);
    let Ok(read) = response::read(&bytes) else { return };
    if let Some(set) = read.logits {
        assert_eq!(set.indices.len(), set.rows as usize * set.k as usize);
        // One behind the last as well.
        for row in 0..=set.rows.min(1_000) as usize {
            let indices = set.row_indices(row);
            assert!(indices.iter().all(|index| *index < set.cols));
            assert_eq!(set.row_values_f32(row).count(), indices.len());
            let _ = set.logsumexp(row);
        }
    }
    if let Some(block) = read.hidden_states {
        assert_eq!(block.codes.len(), block.rows as usize * block.cols as usize);
        assert_eq!(block.scales.len(), block.flags.len());
    }
    if let Some(tensor) = read.echo {
        let expected = tensor.rows as usize * tensor.cols as usize * tensor.dtype.size();
        assert_eq!(tensor.data.len(), expected);
    }
}

/// Packed bytes into restored ones, and any bytes into packed ones and back.
pub(crate) fn packed(bytes: &[u8]) {
    let mut input = Input(bytes);
    let code = u16::from(input.byte());
    let Some(compression) = Compression::from_code(code) else { return };
    let mut out = vec![0xEE; RESTORED_MAX + 1];
    if let Ok(len) = pack::restore_into(compression, input.0, &mut out[..RESTORED_MAX]) {
        assert!(len <= RESTORED_MAX);
    }
    assert_eq!(out[RESTORED_MAX], 0xEE, "nothing behind the room was touched");
    let mut small = Vec::new();
    if pack::compress(compression, input.0, &mut small).is_ok() {
        let len = pack::restore_into(compression, &small, &mut out[..RESTORED_MAX]);
        assert_eq!(len.map(|len| &out[..len]), Ok(input.0));
    }
}

/// Packed tokens into ids, and any ids into packed tokens and back.
pub(crate) fn tokens(bytes: &[u8]) {
    let mut ids = Vec::new();
    let limit = RESTORED_MAX;
    if let Ok(count) = tokens::decode(bytes, limit, &mut ids) {
        assert!(count == ids.len() && count <= limit);
    } else {
        assert!(ids.is_empty(), "a refusal leaves nothing behind");
    }
    let made: Vec<u32> = bytes
        .chunks_exact(4)
        .map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
        .collect();
    for ids in [ids, made] {
        let (mut small, mut back) = (Vec::new(), Vec::new());
        assert_eq!(tokens::encode(&ids, &mut small), small.len());
        assert_eq!(tokens::decode(&small, ids.len(), &mut back), Ok(ids.len()));
        assert_eq!(back, ids);
    }
}

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    [&[][..], &[1, 2, 3], &[7; 300], &[u32::MAX, 0, 1 << 20]]
        .map(|ids| {
            let mut out = Vec::new();
            tokens::encode(ids, &mut out);
            out
        })
        .to_vec()
}

/// Lists of agents, and ids, as people write them.
pub(crate) fn texts(bytes: &[u8]) {
    let Ok(words) = core::str::from_utf8(bytes) else { return };
    let _ = wire::mesh::parse_lines(words);
    if let Some(id) = wire::mesh::parse_id(words) {
        assert_eq!(wire::mesh::parse_id(&wire::mesh::id_text(&id)), Some(id));
    }
}

pub(crate) fn text_seeds() -> Vec<Vec<u8>> {
    ["# all\nS07-C04-A12\n", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "class=D\n\n3"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

/// What lies in shared memory beside a slot.
pub(crate) fn orders(bytes: &[u8]) {
    if let Ok((order, _)) = Order::read_from_prefix(bytes)
        && let Ok(work) = order.work()
    {
        judge(&work, order.payload_len as usize);
    }
    if let Ok((outcome, _)) = Outcome::read_from_prefix(bytes) {
        assert_eq!(outcome.as_bytes().len(), size_of::<Outcome>());
    }
}

pub(crate) fn order_seeds() -> Vec<Vec<u8>> {
    let payloads = crate::frames::payloads();
    let works =
        payloads.iter().filter_map(|payload| request::work(&aligned(payload)).ok().map(|it| it.1));
    works.map(|work| Order::new(&work, 1, 4_096, 2, 3, 4).as_bytes().to_vec()).collect()
}
