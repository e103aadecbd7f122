//! Every payload type out and back, in place; and what a reader must refuse.

use rkyv::util::AlignedVec;
use wire::{
    Dtype, ErrorCode, HEADER_LEN, Header, Kind, Operation, Payload, PayloadFault, flags, frame,
    heartbeat, payload,
    payload::{
        Capability, Context, Counter, ErrorReport, Hardware, Heartbeat, Load, MetricsUpdate,
        Network, Number, QueryRequest, QueryResponse, RoutingHint, Score, TensorWork, Text,
        UserPreferences, Utilization, WorkerRegistration,
    },
    reply, request, response,
};

/// The payload of a frame, 16-byte aligned, after its header has been checked.
fn payload_of(frame: &[u8], kind: Kind) -> AlignedVec<16> {
    let header = Header::peek(frame).expect("a header");
    header.check(u32::MAX).expect("a good header");
    assert_eq!(header.kind(), Ok(kind));
    let payload = &frame[HEADER_LEN..];
    assert_eq!(header.payload_len() as usize, payload.len());
    assert_eq!(payload.len() % 16, 0);
    assert_eq!(header.checksum(), wire::check::crc16(payload));
    let mut aligned = AlignedVec::new();
    aligned.extend_from_slice(payload);
    aligned
}

fn encoded<T: Payload>(value: &T) -> AlignedVec<16> {
    let mut out = Vec::new();
    let len = frame::append(&mut out, value, 7, 8).expect("fits");
    assert_eq!(len, out.len());
    let mut slice = vec![0xAA; len + 5];
    assert_eq!(frame::write(&mut slice, value, 7, 8), Ok(len));
    assert_eq!(&slice[..len], &out[..], "both writers agree");
    assert!(frame::write(&mut slice[..len - 1], value, 7, 8).is_err(), "one byte too few");
    payload_of(&out, T::KIND)
}

fn texts(list: &[&str]) -> Vec<Text> {
    list.iter().map(|text| Text::from(*text)).collect()
}

fn question() -> QueryRequest {
    QueryRequest {
        query_id: *b"0123456789abcdef",
        input_text: Text::from("What is the proof that sqrt(2) is irrational?"),
        input_tokens: vec![101, 2054, 102],
        context: Context {
            conversation_history: texts(&["hello", "", "good day"]),
            user_preferences: UserPreferences {
                formality: Text::literal("academic"),
                detail_level: Text::literal("high"),
            },
        },
        routing_hint: RoutingHint {
            preferred_capabilities: texts(&["logical_reasoning", "formal_verification"]),
            exclude_workers: texts(&["worker-logic-001"]),
            timeout_ms: 5000,
        },
        streaming: true,
        ..QueryRequest::default()
    }
}

#[test]
fn query_02_to_10_a_text_request_arrives_whole() {
    let bytes = encoded(&question());
    let root = payload::open::<QueryRequest>(&bytes).expect("valid");
    assert_eq!(&root.query_id, b"0123456789abcdef");
    assert_eq!(&*root.input_text, "What is the proof that sqrt(2) is irrational?");
    assert_eq!(root.input_tokens.as_slice(), [101, 2054, 102]);
    let history: Vec<&str> = root.context.conversation_history.iter().map(|text| &**text).collect();
    assert_eq!(history, ["hello", "", "good day"]);
    assert_eq!(&*root.context.user_preferences.formality, "academic");
    assert_eq!(&*root.context.user_preferences.detail_level, "high");
    assert_eq!(&*root.routing_hint.preferred_capabilities[1], "formal_verification");
    assert_eq!(&*root.routing_hint.exclude_workers[0], "worker-logic-001");
    assert_eq!(root.routing_hint.timeout_ms, 5000);
    assert!(root.streaming);
    let (_, work) = request::work(&bytes).expect("text is work too");
    assert_eq!((work.operation, work.rows, work.data_len), (Operation::Generate, 0, 0));
    assert_eq!(request::query_id(&bytes), *b"0123456789abcdef");
}

#[test]
fn wreg_01_to_05_a_registration_arrives_whole() {
    let scores = vec![
        Score { name: Text::literal("arc_challenge"), score: 0.87 },
        Score { name: Text::literal("math_qa"), score: 0.91 },
    ];
    let name = Text::literal("logical_reasoning");
    let bytes = encoded(&WorkerRegistration {
        worker_id: [9; 16],
        worker_name: Text::literal("worker-logic-001"),
        capabilities: vec![
            Capability { name, confidence: 0.95, benchmark_scores: scores },
            Capability::default(),
        ],
        hardware: Hardware {
            device_type: Text::literal("cuda"),
            gpu_model: Text::literal("A100"),
            compute_capability: Text::literal("8.0"),
            memory_gb: 80.0,
        },
        network: Network {
            address: Text::literal("10.0.1.23:8000"),
            protocol: Text::literal("grpc"),
            certificate_fingerprint: Text::literal("sha256:00"),
            tls_enabled: true,
            reserved: [0; 3],
        },
        load: Load { current_queries: 3, max_concurrent: 16, avg_latency_ms: 25.0 },
        ..WorkerRegistration::default()
    });
    let root = payload::open::<WorkerRegistration>(&bytes).expect("valid");
    assert_eq!(root.worker_id, [9; 16]);
    assert_eq!(&*root.worker_name, "worker-logic-001");
    assert_eq!(root.capabilities.len(), 2);
    assert_eq!(root.capabilities[0].confidence, 0.95);
    assert_eq!(&*root.capabilities[0].benchmark_scores[1].name, "math_qa");
    assert_eq!(root.capabilities[0].benchmark_scores[1].score, 0.91);
    assert_eq!(&*root.hardware.gpu_model, "A100");
    assert_eq!(&*root.hardware.compute_capability, "8.0");
    assert_eq!(root.hardware.memory_gb, 80.0);
    assert_eq!(&*root.network.address, "10.0.1.23:8000");
    assert_eq!(&*root.network.certificate_fingerprint, "sha256:00");
    assert!(root.network.tls_enabled);
    assert_eq!(root.load.max_concurrent, 16);
}

#[test]
fn metr_01_to_08_metrics_arrive_whole_and_long_ones_are_checked() {
    let count = |n: u64| Counter::count(Text::literal("refused"), Text::from("reason=\"x\""), n);
    let mut metrics = MetricsUpdate {
        query_latency_p99: 1.5,
        packet_loss_rate: 0.25,
        active_workers: 2,
        byzantine_detections: 4,
        debate_duration_avg: 5.5,
        worker_utilization: vec![Utilization { share: 0.5, worker_id: Text::literal("w-0") }],
        counters: (0..200).map(count).collect(),
        ..MetricsUpdate::default()
    };
    metrics.counters.push(Counter::real(Text::literal("load"), Text::default(), 0.75));
    let bytes = encoded(&metrics);
    assert!(bytes.len() > wire::CHECKED_PAYLOAD_MIN);
    let root = payload::open::<MetricsUpdate>(&bytes).expect("valid");
    assert_eq!(root.query_latency_p99, 1.5);
    assert_eq!(root.active_workers, 2);
    assert_eq!(root.worker_utilization[0].share, 0.5);
    assert_eq!(&*root.counters[199].labels, "reason=\"x\"");
    assert_eq!(root.counters[199].value(), Some(Number::Count(199)));
    assert_eq!(root.counters[200].value(), Some(Number::Real(0.75)));
    assert_ne!(root.seal.check, 0);

    let mut broken = bytes.clone();
    broken[17] ^= 1;
    let fault = payload::open::<MetricsUpdate>(&broken).map(|_| ()).unwrap_err();
    assert!(matches!(fault, PayloadFault::Check | PayloadFault::Archive));
}

#[test]
fn error_reports_fit_their_room_and_say_what_to_do() {
    for code in ErrorCode::ALL {
        let refusal = wire::error::Refusal::new(*code, 1).over(100, 200).retry_after(30);
        let mut out = [0xEE; wire::error::FRAME_MAX];
        let len = wire::error::write_frame(&mut out, 99, 1_000, &refusal);
        assert!(len > 0, "{code}");
        assert_eq!(wire::error::write_frame(&mut out[..len - 1].to_vec(), 99, 1_000, &refusal), 0);
        let bytes = payload_of(&out[..len], Kind::ErrorReport);
        let root = payload::open::<ErrorReport>(&bytes).expect("valid");
        assert_eq!(ErrorCode::from_code(root.code.to_native()), Some(*code));
        assert_eq!(root.offending_kind, 1);
        assert_eq!((root.limit.to_native(), root.actual.to_native()), (100, 200));
        assert_eq!(root.retry_after_ms, 30);
        assert_eq!(&*root.message, wire::error::sentence(*code));
        assert!(root.message.len() > 20);
    }
}

#[test]
fn a_heartbeat_is_96_bytes_and_its_answer_repeats_the_sent_time() {
    let asked = Heartbeat { sent_ns: 11, lane_hint: payload::LANE_BULK, ..Heartbeat::default() };
    let bytes = encoded(&asked);
    assert_eq!(bytes.len(), 64);
    let root = payload::open::<Heartbeat>(&bytes).expect("valid");
    let pulse = heartbeat::Pulse {
        sender_id: [5; 16],
        received_ns: 22,
        replied_ns: 33,
        current_queries: 4,
        max_concurrent: 5,
        avg_latency_ms: 6.5,
    };
    let mut out = [0; heartbeat::FRAME_LEN];
    assert_eq!(heartbeat::write_reply(&mut out, root, 77, &pulse), 96);
    let answer = payload_of(&out, Kind::Heartbeat);
    let answer = payload::open::<Heartbeat>(&answer).expect("valid");
    assert_eq!(Header::peek(&out).unwrap().message_id(), 77);
    assert_eq!((answer.sent_ns.to_native(), answer.received_ns.to_native()), (11, 22));
    assert_eq!((answer.replied_ns.to_native(), answer.avg_latency_ms.to_native()), (33, 6.5));
    assert_eq!(heartbeat::write_reply(&mut out[..95], root, 77, &pulse), 0);
}

/// A tensor request of `rows` rows, its frame and its payload.
fn tensor_request(work: TensorWork, data: &[u8]) -> (Vec<u8>, AlignedVec<16>) {
    let mut request = QueryRequest { query_id: [3; 16], work, ..QueryRequest::default() };
    let mut out = vec![1, 2, 3];
    let mut draft = request::RequestFrame::begin(&mut out, data.len());
    draft.data_mut().copy_from_slice(data);
    let len = draft.finish(&mut request, 5, 6).expect("fits");
    assert_eq!(out.len(), 3 + len);

    let mut copied = Vec::new();
    let draft = request::RequestFrame::begin_with(&mut copied, data);
    assert_eq!(draft.finish(&mut request, 5, 6), Ok(len));
    assert_eq!(copied, out[3..]);

    let mut tail = vec![9; 100];
    let header = request::around(data, &mut request, 5, 6, &mut tail).expect("fits");
    let mut pieces = zerocopy::IntoBytes::as_bytes(&header).to_vec();
    pieces.extend_from_slice(data);
    pieces.extend_from_slice(&tail);
    assert_eq!(pieces, out[3..], "rows left in place make the same frame");

    let payload = payload_of(&out[3..], Kind::QueryRequest);
    (out, payload)
}

#[test]
fn a_tensor_request_is_read_in_place_and_its_rows_come_first() {
    for (rows, cols) in [(1_u32, 1_u32), (2, 7), (3, 341), (5, 1000)] {
        let data: Vec<u8> = (0..rows * cols * 4).map(|i| (i * 7) as u8).collect();
        let work = TensorWork::topk(Dtype::F32, rows, cols, 5, Dtype::F16);
        let (_, payload) = tensor_request(work, &data);
        let (root, work) = request::work(&payload).expect("valid");
        assert_eq!(root.query_id, [3; 16]);
        assert_eq!((work.rows, work.cols, work.k), (rows, cols, 5));
        assert_eq!((work.dtype, work.values), (Dtype::F32, Dtype::F16));
        assert_eq!((work.data_offset, work.data_len as usize), (0, data.len()));
        assert_eq!(request::rows(&payload, &work), Some(&data[..]));
        assert_eq!(work.check.is_some(), payload.len() >= wire::CHECKED_PAYLOAD_MIN);
        assert!(request::verify(&payload, &work));
        assert_eq!(request::query_id(&payload), [3; 16]);
        if work.check.is_some() {
            let mut flipped = payload.clone();
            flipped[100] ^= 4;
            assert!(!request::verify(&flipped, &work), "the inner check sees a flipped bit");
        }
    }
}

#[test]
fn misaligned_short_and_foreign_payloads_are_told_apart() {
    let bytes = encoded(&question());
    let mut shifted: AlignedVec<16> = AlignedVec::new();
    shifted.extend_from_slice(&[0; 4]);
    shifted.extend_from_slice(&bytes);
    let fault = payload::access::<QueryRequest>(&shifted[4..]).map(|_| ()).unwrap_err();
    assert_eq!(fault, PayloadFault::Misaligned);
    for cut in [0, 16, 96] {
        let fault = payload::access::<QueryRequest>(&bytes[..cut]).map(|_| ()).unwrap_err();
        assert_eq!(fault, PayloadFault::Length);
    }
    let fault = payload::access::<QueryRequest>(&bytes[..bytes.len() - 1]).map(|_| ()).unwrap_err();
    assert_eq!(fault, PayloadFault::Length);
    let mut later = bytes.clone();
    let end = later.len();
    later[end - 2] = 9;
    let fault = payload::access::<QueryRequest>(&later).map(|_| ()).unwrap_err();
    assert_eq!(fault, PayloadFault::Schema);
}

fn author() -> reply::Author {
    reply::Author::new("worker-0", "cpu-avx512", "measured fastest at start")
}

fn stamp(operation: Operation, chunk: reply::Chunk) -> reply::Stamp {
    let query_id = [3; 16];
    reply::Stamp {
        message_id: 5,
        timestamp_ns: 6,
        query_id,
        operation,
        compute_ns: 2_000_000,
        chunk,
    }
}

/// Builds the reply to `work` chunk by chunk as a worker does, and hands each frame's payload to
/// `check`.
fn answer(
    work: TensorWork,
    streaming: bool,
    data: &[u8],
    mut fill: impl FnMut(&reply::Layout, &mut [u8]),
    mut check: impl FnMut(reply::Chunk, response::Response<'_>),
) {
    let mut request = QueryRequest { work, streaming, ..QueryRequest::default() };
    let mut out = Vec::new();
    let draft = request::RequestFrame::begin_with(&mut out, data);
    draft.finish(&mut request, 5, 6).expect("fits");
    let payload = payload_of(&out, Kind::QueryRequest);
    let (_, work) = request::work(&payload).expect("valid");
    let mut area: AlignedVec<64> = AlignedVec::new();
    area.resize(reply::reply_len(&work) as usize, 0xEE);
    let mut at = 0;
    let mut author = author();
    for chunk in reply::chunks(&work) {
        let layout = reply::Layout::of(&work, &chunk).expect("an operation with a reply");
        fill(&layout, &mut area[at + HEADER_LEN..]);
        let len =
            reply::finish(&mut area[at..], &layout, &mut author, &stamp(work.operation, chunk))
                .expect("reply_len is an upper bound");
        let payload = payload_of(&area[at..at + len], Kind::QueryResponse);
        let view = response::read(&payload).expect("valid");
        assert_eq!(&*view.root.worker_id, "worker-0");
        assert_eq!(&*view.root.metadata.backend, "cpu-avx512");
        assert_eq!(&*view.root.metadata.backend_reason, "measured fastest at start");
        assert_eq!(&*view.root.metadata.capability_used, work.operation.name());
        assert_eq!(view.root.metadata.inference_time_ms, 2.0);
        assert_eq!(view.root.query_id, [3; 16]);
        assert_eq!(view.root.streaming_chunk.chunk_index, chunk.index);
        assert_eq!(view.root.streaming_chunk.first_row, chunk.first_row);
        assert_eq!(view.root.streaming_chunk.is_final, chunk.is_final);
        check(chunk, view);
        at += len;
    }
}

#[test]
fn query_14_and_21_topk_replies_are_built_in_place_and_streamed_in_chunks() {
    let (rows, cols, k) = (70_u32, 9_u32, 4_u32);
    let data = vec![0; (rows * cols * 2) as usize];
    for (streaming, frames) in [(false, 1), (true, 3)] {
        let mut seen = Vec::new();
        answer(
            TensorWork::topk(Dtype::F16, rows, cols, k, Dtype::Bf16),
            streaming,
            &data,
            |layout, payload| {
                let reply::Layout::TopK(set) = layout else { panic!("top-k") };
                let parts = set.parts(payload).expect("room");
                for row in 0..set.rows as usize {
                    parts.counts[row] = 3;
                    parts.max[row] = 1.5;
                    parts.log_sum[row] = 0.25;
                    parts.flags[row] = flags::SHORT;
                    for slot in 0..3 {
                        parts.indices[row * 4 + slot] = slot as u32;
                        parts.values[(row * 4 + slot) * 2..][..2].copy_from_slice(&[0x80, 0x3F]);
                    }
                }
            },
            |chunk, view| {
                seen.push(chunk.rows);
                let set = view.logits.expect("a set");
                assert!(view.hidden_states.is_none() && view.echo.is_none());
                assert_eq!(
                    (set.rows, set.k, set.cols, set.dtype),
                    (chunk.rows, k, cols, Dtype::Bf16)
                );
                for row in 0..set.rows as usize {
                    assert_eq!(set.row_indices(row), [0, 1, 2]);
                    assert_eq!(set.row_values_f32(row).collect::<Vec<_>>(), [1.0; 3]);
                    assert_eq!(set.logsumexp(row), Some(1.75));
                    assert_eq!(set.indices[row * 4 + 3], 0, "stale bytes do not leave");
                    assert_eq!(set.values[row * 8 + 6..row * 8 + 8], [0, 0]);
                    assert_eq!(set.flags[row], flags::SHORT);
                }
                assert!(set.row_indices(set.rows as usize).is_empty());
            },
        );
        assert_eq!(seen.len(), frames);
        assert_eq!(seen.iter().sum::<u32>(), rows);
    }
}

#[test]
fn query_15_int8_and_echo_replies_are_built_in_place() {
    let data: Vec<u8> = (0..3 * 50 * 4).map(|i| i as u8).collect();
    answer(
        TensorWork::int8(Dtype::F32, 3, 50),
        false,
        &data,
        |layout, payload| {
            let reply::Layout::Int8(block) = layout else { panic!("int8") };
            let parts = block.parts(payload).expect("room");
            parts.codes.fill(-127);
            parts.scales.fill(0.5);
            parts.flags.fill(flags::ZERO);
        },
        |_, view| {
            let block = view.hidden_states.expect("a block");
            assert_eq!((block.rows, block.cols, block.scheme), (3, 50, 1));
            assert_eq!(block.codes, [-127; 150]);
            assert_eq!(block.scales, [0.5; 3]);
            assert_eq!(block.flags, [flags::ZERO; 3]);
            assert!(view.logits.is_none() && view.echo.is_none());
        },
    );
    answer(
        TensorWork::echo(Dtype::U8, 1, 600),
        false,
        &data,
        |layout, payload| {
            let reply::Layout::Echo(tensor) = layout else { panic!("echo") };
            tensor.parts(payload).expect("room").data.copy_from_slice(&data);
        },
        |_, view| {
            let tensor = view.echo.expect("a tensor");
            assert_eq!((tensor.rows, tensor.cols, tensor.dtype), (1, 600, Dtype::U8));
            assert_eq!(tensor.data, data);
        },
    );
}

#[test]
fn query_12_13_16_a_text_answer_arrives_whole() {
    let mut value = QueryResponse::default();
    value.response.text = Text::literal("The proof proceeds by contradiction...");
    value.response.tokens = vec![1, 2, 3];
    value.response.attention_weights.weights = vec![0.5, 0.5];
    value.response.attention_weights.heads = 1;
    value.metadata.tokens_generated = 157;
    value.metadata.confidence_score = 0.94;
    let bytes = encoded(&value);
    let view = response::read(&bytes).expect("valid");
    assert_eq!(&*view.root.response.text, "The proof proceeds by contradiction...");
    assert_eq!(view.root.response.tokens.as_slice(), [1, 2, 3]);
    assert_eq!(view.root.response.attention_weights.weights.as_slice(), [0.5, 0.5]);
    assert_eq!(view.root.metadata.tokens_generated, 157);
    assert_eq!(view.root.metadata.confidence_score, 0.94);
}
