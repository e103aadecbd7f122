//! Bytes from outside, made worse: golden frames are mutated by a seeded generator and go through
//! every reader. Nothing may panic or read outside, and what is accepted must hold what it
//! promises.

#[path = "hostile/mesh.rs"]
mod mesh;

use rkyv::util::AlignedVec;
use wire::{
    Compression, Dtype, ErrorCode, HEADER_LEN, Header, Order, Outcome, error, flags, frame,
    heartbeat, pack,
    payload::{
        self, Capability, Counter, ErrorReport, Heartbeat, MetricsUpdate, QueryRequest,
        QueryResponse, Score, TensorWork, Text, Trace, TraceQuery, TraceReport, Utilization,
        WorkerRegistration,
    },
    reply, request, response, tokens,
};
use zerocopy::{FromBytes, IntoBytes};

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// One to four changes of one kind or another, biased to the root at the end.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let len = bytes.len();
            let at = if self.below(2) == 0 {
                self.below(len)
            } else {
                len - 1 - self.below(len.min(256))
            };
            match self.below(8) {
                0 | 1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][self.below(5)],
                3 | 4 => {
                    let word = [0, 1, 4, 16, -1, -4, -16, i32::MAX, i32::MIN, self.next() as i32];
                    let word = word[self.below(word.len())].to_le_bytes();
                    let at = at & !3;
                    let end = len.min(at + 4);
                    bytes[at..end].copy_from_slice(&word[..end - at]);
                }
                5 => bytes.truncate(at & !15),
                6 => bytes.drain(..at & !15).for_each(drop),
                _ => {
                    let (from, n) = (self.below(len), self.below(64));
                    let piece = bytes[from..len.min(from + n)].to_vec();
                    let end = len.min(at + piece.len());
                    bytes[at..end].copy_from_slice(&piece[..end - at]);
                }
            }
        }
    }
}

fn aligned(bytes: &[u8]) -> AlignedVec<64> {
    let mut vec = AlignedVec::new();
    vec.extend_from_slice(bytes);
    vec
}

fn registration() -> WorkerRegistration {
    let score = Score { name: Text::literal("math_qa"), score: 0.5 };
    let capability = |name: &str| Capability {
        name: Text::from(name),
        benchmark_scores: vec![score.clone(), score.clone()],
        confidence: 0.9,
    };
    WorkerRegistration {
        worker_name: Text::literal("worker-logic-001"),
        capabilities: vec![capability("logical_reasoning"), capability("")],
        ..Default::default()
    }
}

fn metrics() -> MetricsUpdate {
    let count =
        |n| Counter::count(Text::literal("requests_total"), Text::literal("lane=\"bulk\""), n);
    MetricsUpdate {
        worker_utilization: vec![Utilization { share: 0.5, worker_id: Text::literal("w") }; 2],
        counters: (0..5).map(count).collect(),
        ..Default::default()
    }
}

fn question() -> QueryRequest {
    let mut question = QueryRequest {
        input_text: Text::literal("What is the proof that sqrt(2) is irrational?"),
        input_tokens: vec![1, 2, 3],
        ..Default::default()
    };
    question.context.conversation_history = vec![Text::literal("a"), Text::literal("bc")];
    question.routing_hint.exclude_workers = vec![Text::literal("worker-2")];
    question
}

/// Payloads of every type, as they should be.
fn goldens() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = vec![Vec::new(); 8];
    frame::append(&mut frames[0], &registration(), 1, 2).expect("fits");
    frame::append(&mut frames[1], &metrics(), 1, 2).expect("fits");
    frame::append(&mut frames[2], &question(), 1, 2).expect("fits");
    frame::append(&mut frames[3], &Heartbeat::default(), 1, 2).expect("fits");
    let mut refusal = [0; error::FRAME_MAX];
    let len =
        error::write_frame(&mut refusal, 1, 2, &error::Refusal::new(ErrorCode::Overloaded, 1));
    frames[4].extend_from_slice(&refusal[..len]);
    let mut text = QueryResponse::default();
    text.response.text = Text::literal("by contradiction");
    text.response.attention_weights.weights = vec![0.5; 6];
    frame::append(&mut frames[5], &text, 1, 2).expect("fits");
    let sender = Text::literal("ann");
    let ask = TraceQuery { sender: sender.clone(), ..Default::default() };
    frame::append(&mut frames[6], &ask, 1, 2).expect("fits");
    let traces = vec![Trace { sender, ..Default::default() }; 2];
    let told = TraceReport { traces, ..Default::default() };
    frame::append(&mut frames[7], &told, 1, 2).expect("fits");
    for work in [
        TensorWork::topk(Dtype::F32, 3, 40, 5, Dtype::F16),
        TensorWork::int8(Dtype::F16, 2, 30),
        TensorWork::echo(Dtype::U8, 1, 100),
        TensorWork::lm_head(Dtype::Bf16, 9, 300, 2, Dtype::Bf16),
    ] {
        let size = Dtype::from_code(work.dtype).expect("a dtype").size();
        let data = vec![0x3C; (work.rows * work.cols) as usize * size];
        let mut asked = Vec::new();
        let draft = request::RequestFrame::begin_with(&mut asked, &data);
        draft.finish(&mut QueryRequest { work, ..Default::default() }, 1, 2).expect("fits");
        frames.push(answer(&asked[HEADER_LEN..]));
        frames.push(asked);
    }
    frames.into_iter().map(|frame| frame[HEADER_LEN..].to_vec()).collect()
}

/// A worker's answer to a request, its parts filled with something legal.
fn answer(asked: &[u8]) -> Vec<u8> {
    let asked = aligned(asked);
    let (_, work) = request::work(&asked).expect("valid");
    let chunk = reply::chunks(&work).next().expect("one chunk");
    let layout = reply::Layout::of(&work, &chunk).expect("an operation with a reply");
    let mut out = aligned(&vec![0; reply::reply_len(&work) as usize]);
    if let reply::Layout::TopK(set) = &layout {
        set.parts(&mut out[HEADER_LEN..]).expect("room").counts.fill(work.k);
    }
    let mut author = reply::Author::new("worker-0", "cpu", "only one");
    let stamp = reply::Stamp {
        message_id: 1,
        timestamp_ns: 2,
        query_id: [0; 16],
        operation: work.operation,
        compute_ns: 3,
        chunk,
    };
    let len = reply::finish(&mut out, &layout, &mut author, &stamp).expect("fits");
    out[..len].to_vec()
}

/// Reads every byte that an accepted archive leads to.
fn touch(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().map(u64::from).sum()
}

fn read_as_every_type(bytes: &[u8]) -> usize {
    let mut accepted = 0;
    if let Ok(root) = payload::access::<QueryRequest>(bytes) {
        touch(root.data.iter().copied());
        touch(root.input_text.bytes());
        touch(root.context.conversation_history.iter().flat_map(|text| text.bytes()));
        touch(root.context.user_preferences.detail_level.bytes());
        touch(root.routing_hint.exclude_workers.iter().flat_map(|text| text.bytes()));
        let _: u64 = root.input_tokens.iter().map(|id| u64::from(id.to_native())).sum();
        accepted += 1;
    }
    if let Ok(root) = payload::access::<QueryResponse>(bytes) {
        touch(root.response.text.bytes());
        touch(root.worker_id.bytes());
        touch(root.metadata.backend_reason.bytes());
        touch(root.response.logits.values.iter().copied());
        let _: f32 = root.response.attention_weights.weights.iter().map(|w| w.to_native()).sum();
        accepted += 1;
    }
    if let Ok(root) = payload::access::<WorkerRegistration>(bytes) {
        for capability in root.capabilities.iter() {
            touch(capability.name.bytes());
            touch(capability.benchmark_scores.iter().flat_map(|score| score.name.bytes()));
        }
        touch(root.network.certificate_fingerprint.bytes());
        accepted += 1;
    }
    if let Ok(root) = payload::access::<Heartbeat>(bytes) {
        let pulse = heartbeat::Pulse {
            sender_id: [0; 16],
            received_ns: 1,
            replied_ns: 2,
            current_queries: 0,
            max_concurrent: 0,
            avg_latency_ms: f32::NAN,
        };
        assert_eq!(heartbeat::write_reply(&mut [0; 96], root, 1, &pulse), 96);
        accepted += 1;
    }
    if let Ok(root) = payload::access::<ErrorReport>(bytes) {
        touch(root.message.bytes());
        let _ = ErrorCode::from_code(root.code.to_native());
        accepted += 1;
    }
    if let Ok(root) = payload::open::<MetricsUpdate>(bytes) {
        for counter in root.counters.iter() {
            touch(counter.name.bytes().chain(counter.labels.bytes()));
            let _ = counter.value();
        }
        touch(root.worker_utilization.iter().flat_map(|worker| worker.worker_id.bytes()));
        accepted += 1;
    }
    if let Ok(root) = payload::open::<TraceQuery>(bytes) {
        touch(root.sender.bytes());
        accepted += 1;
    }
    if let Ok(root) = payload::open::<TraceReport>(bytes) {
        touch(root.traces.iter().flat_map(|it| it.backend_reason.bytes().chain(it.cause.bytes())));
        accepted += 1;
    }
    accepted
}

fn read_request(bytes: &[u8]) -> usize {
    let Ok((_, work)) = request::work(bytes) else { return 0 };
    let rows = request::rows(bytes, &work).expect("accepted rows lie in the payload");
    let expected = u64::from(work.rows) * u64::from(work.cols) * work.dtype.size() as u64;
    assert_eq!(rows.len() as u64, expected);
    assert_eq!(work.check(), Ok(work), "accepted work stays acceptable");
    let _ = request::verify(bytes, &work);
    let order = Order::new(&work, 1, bytes.len() as u32, 2, 3, 4);
    assert_eq!(order.work(), Ok(work), "an order carries the work as it is");
    assert!(reply::reply_len(&work) > 0);
    1
}

fn read_response(bytes: &[u8]) -> usize {
    let Ok(read) = response::read(bytes) else { return 0 };
    if let Some(set) = read.logits {
        assert_eq!(set.indices.len(), set.rows as usize * set.k as usize);
        for row in 0..=set.rows as usize {
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
    1
}

#[test]
fn wire_11_mutated_payloads_never_panic_and_never_lie() {
    let goldens = goldens();
    for golden in &goldens {
        assert!(read_as_every_type(&aligned(golden)) >= 1, "goldens are good");
    }
    let mut random = Random(0xB077E4F1);
    let (mut accepted, mut cases) = (0, 0);
    for _ in 0..12_000 {
        for golden in &goldens {
            let mut bytes = golden.clone();
            random.mutate(&mut bytes);
            let bytes = aligned(&bytes);
            accepted += read_as_every_type(&bytes) + read_request(&bytes) + read_response(&bytes);
            cases += 1;
        }
    }
    assert!(cases >= 160_000);
    // Many mutations hit data or reserved bytes: readers that accept nothing would test nothing.
    assert!(accepted > cases / 4, "{accepted} of {cases}");
}

#[test]
fn noise_is_never_a_payload_and_never_a_panic() {
    let mut random = Random(7);
    let mut buffer = aligned(&[0; 512]);
    for _ in 0..40_000 {
        let len = random.below(33) * 16;
        for chunk in buffer[..len].chunks_exact_mut(8) {
            let word = if random.below(3) == 0 { 0 } else { random.next() };
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        if random.below(2) == 0 && len > 0 {
            // The schema is right: the reader must look further.
            buffer[len - 2..len].copy_from_slice(&[1, 0]);
        }
        read_as_every_type(&buffer[..len]);
        read_request(&buffer[..len]);
        read_response(&buffer[..len]);
        for shift in [1, 4, 8] {
            let shifted = buffer.get(shift..len).unwrap_or_default();
            assert!(payload::access::<QueryRequest>(shifted).is_err());
        }
    }
}

#[test]
fn wire_02_to_08_mutated_headers_never_panic() {
    let mut random = Random(9);
    let golden = frame::ping(1, 2);
    for _ in 0..20_000 {
        let mut bytes = golden.as_bytes().to_vec();
        random.mutate(&mut bytes);
        let Some(header) = Header::peek(&bytes) else {
            assert!(bytes.len() < HEADER_LEN);
            continue;
        };
        let sound = header.check(1 << 20).is_ok();
        assert_eq!(sound, bytes[..6] == *b"BUTT\0\x01" && header.payload_len() <= 1 << 20);
        let _ = (header.kind(), header.compression(), header.message_id(), header.checksum());
    }
}

#[test]
fn mutated_orders_and_outcomes_are_checked_again() {
    let mut random = Random(11);
    let work = {
        let golden = goldens()
            .into_iter()
            .rev()
            .find(|payload| request::work(&aligned(payload)).is_ok_and(|(_, work)| work.rows > 0));
        let golden = aligned(&golden.expect("a tensor request"));
        request::work(&golden).expect("valid").1
    };
    let golden = Order::new(&work, 1, 4096, 2, 3, 4);
    for _ in 0..20_000 {
        let mut bytes = golden.as_bytes().to_vec();
        random.mutate(&mut bytes);
        bytes.resize(size_of::<Order>(), 0);
        let order = Order::read_from_bytes(&bytes).expect("any 64 bytes are an order");
        if let Ok(work) = order.work() {
            let payload = [0; 256];
            if let Some(rows) = request::rows(&payload, &work) {
                assert_eq!(rows.len(), work.data_len as usize);
            }
            let _ = request::verify(&payload, &work);
            for chunk in reply::chunks(&work).take(4) {
                assert!(
                    reply::Layout::of(&work, &chunk)
                        .is_none_or(|layout| { layout.end() as u64 <= reply::reply_len(&work) })
                );
            }
        }
        assert!(Outcome::read_from_bytes(&bytes[..size_of::<Outcome>()]).is_ok());
    }
}

#[test]
fn mutated_compressed_payloads_stay_within_their_room() {
    let mut random = Random(13);
    let mut plain: Vec<u8> = (0..4000_u32).map(|i| (i * i / 7) as u8).collect();
    plain.extend_from_slice(&[7; 3000]);
    for compression in [Compression::Lz4, Compression::Zstd] {
        let mut packed = Vec::new();
        pack::compress(compression, &plain, &mut packed).expect("compresses");
        let mut restored = 0;
        for _ in 0..15_000 {
            let mut bytes = packed.clone();
            random.mutate(&mut bytes);
            let room = random.below(8000);
            let mut out = vec![0xEE; room + 64];
            let (inside, outside) = out.split_at_mut(room);
            if let Ok(len) = pack::restore_into(compression, &bytes, inside) {
                assert!(len <= room);
                restored += 1;
            }
            assert!(outside.iter().all(|byte| *byte == 0xEE));
        }
        assert!(restored < 5_000, "checksums see most damage: {restored}");
    }
}

#[test]
fn mutated_tokens_stay_within_their_limit() {
    let mut random = Random(17);
    let ids: Vec<u32> = (0..300).map(|i| if i % 5 == 0 { 0 } else { i * i }).collect();
    let bits: Vec<u32> = (0..100).map(|i| 128 + i % 128).collect();
    for ids in [ids, bits, vec![5; 1000]] {
        let mut packed = Vec::new();
        tokens::encode(&ids, &mut packed);
        for _ in 0..20_000 {
            let mut bytes = packed.clone();
            random.mutate(&mut bytes);
            let mut out = Vec::new();
            if let Ok(count) = tokens::decode(&bytes, 2_000, &mut out) {
                assert_eq!(count, out.len());
                assert!(count <= 2_000);
            }
        }
    }
}

#[test]
fn a_reply_does_not_fit_where_there_is_no_room() {
    let layout = reply::Layout::TopK(reply::TopKReply::layout(2, 3, 9, Dtype::F32));
    let chunk = reply::Chunk { index: 0, first_row: 0, rows: 2, is_final: true };
    let stamp = reply::Stamp {
        message_id: 1,
        timestamp_ns: 2,
        query_id: [0; 16],
        operation: wire::Operation::TopK,
        compute_ns: 3,
        chunk,
    };
    let mut author = reply::Author::new("w", "cpu", "");
    let mut out = aligned(&[0; 1024]);
    let len = reply::finish(&mut out, &layout, &mut author, &stamp).expect("fits");
    for room in 0..len {
        let cut = reply::finish(&mut out[..room], &layout, &mut author, &stamp);
        assert_eq!(cut, Err(ErrorCode::ReplyTooLong), "{room} of {len}");
    }
    assert_eq!(flags::ALL, 0b1_1111);
}
