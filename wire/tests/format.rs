//! `FORMAT.md` against the code: byte offsets of every root, the registries, the limits, and the
//! golden bytes, in both directions.

/// Size of an archived type, and its fields with offset and size.
macro_rules! fields {
    ($archived:ident: $($($field:ident).+),+ $(,)?) => {
        (size_of::<$archived>(), vec![$((
            [$(stringify!($field)),+].join("."),
            core::mem::offset_of!($archived, $($field).+),
            size_of_field(|root: &$archived| &root.$($field).+),
        )),+])
    };
}

#[path = "format/mesh.rs"]
mod mesh;
#[path = "format/mesh_golden.rs"]
mod mesh_golden;
#[path = "format/trace.rs"]
mod trace;

use rkyv::util::AlignedVec;
use std::collections::BTreeMap;
use wire::{
    Coding, Compression, Dtype, ErrorCode, HEADER_LEN, Header, Kind, Operation, Priority, Source,
    error, flags, frame, pack, payload::*, reply, request, response, tokens,
};

const FORMAT: &str = include_str!("../FORMAT.md");

/// The rows of the table below `heading`, as trimmed cells; the header row and the rule are left
/// out.
fn table(heading: &str) -> Vec<Vec<String>> {
    let start = FORMAT.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading:?}"));
    let lines = FORMAT[start + heading.len() + 2..].lines();
    let rows =
        lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// Size of the field that a projection names.
const fn size_of_field<A, F>(_: impl Fn(&A) -> &F + Copy) -> usize {
    size_of::<F>()
}

/// The table says what the compiler laid out, field by field, and no byte is left over.
fn same_layout(heading: &str, (size, fields): (usize, Vec<(String, usize, usize)>)) {
    let expected: Vec<Vec<String>> = fields
        .iter()
        .map(|(name, offset, size)| vec![offset.to_string(), size.to_string(), format!("`{name}`")])
        .collect();
    let stated: Vec<Vec<String>> =
        table(heading).into_iter().map(|row| row.into_iter().take(3).collect()).collect();
    assert_eq!(stated, expected, "{heading}");
    let mut at = 0;
    for (name, offset, size) in fields {
        assert_eq!(at, offset, "a hole before {name}");
        at += size;
    }
    assert_eq!(at, size, "{heading} ends with its last field");
}

#[test]
fn the_roots_of_the_query_path_are_laid_out_as_documented() {
    same_layout(
        "#### Root of QUERY_REQUEST, 128 bytes",
        fields!(ArchivedQueryRequest:
        data, query_id, input_text, input_tokens, context.conversation_history,
        context.user_preferences.formality, context.user_preferences.detail_level,
        routing_hint.preferred_capabilities, routing_hint.exclude_workers, routing_hint.timeout_ms,
        work.k, work.rows, work.cols, work.operation, work.dtype, work.values, work.coding,
        work.quality, work.source, work.reserved, work.basis,
        streaming, priority, attempt, reserved, seal.check, seal.reserved, seal.schema),
    );
    same_layout(
        "#### Root of QUERY_RESPONSE, 336 bytes",
        fields!(ArchivedQueryResponse:
        response.logits.indices, response.logits.values, response.logits.counts,
        response.logits.max, response.logits.log_sum, response.logits.flags, response.logits.rows,
        response.logits.k, response.logits.cols, response.logits.dtype, response.logits.reserved,
        response.hidden_states.codes, response.hidden_states.scales, response.hidden_states.flags,
        response.hidden_states.rows, response.hidden_states.cols, response.hidden_states.scheme,
        response.hidden_states.reserved, response.echo.data, response.echo.rows,
        response.echo.cols, response.echo.dtype, response.echo.reserved,
        response.coded.ends, response.coded.flags, response.coded.data, response.coded.rows,
        response.coded.cols, response.coded.k, response.coded.quality, response.coded.basis,
        response.coded.coding, response.coded.reserved,
        response.attention_weights.weights, response.attention_weights.heads,
        response.attention_weights.rows, response.attention_weights.cols, response.text,
        response.tokens, query_id, worker_id, streaming_chunk.chunk_index,
        streaming_chunk.first_row, streaming_chunk.is_final, streaming_chunk.reserved,
        metadata.compute_ns, metadata.capability_used, metadata.backend, metadata.backend_reason,
        metadata.inference_time_ms, metadata.tokens_generated, metadata.confidence_score,
        metadata.reserved, reserved, seal.check, seal.reserved, seal.schema),
    );
}

#[test]
fn every_other_root_is_laid_out_as_documented() {
    same_layout(
        "#### Root of WORKER_REGISTRATION, 112 bytes",
        fields!(ArchivedWorkerRegistration:
        worker_id, worker_name, capabilities, hardware.device_type, hardware.gpu_model,
        hardware.compute_capability, hardware.memory_gb, network.address, network.protocol,
        network.certificate_fingerprint, network.tls_enabled, network.reserved,
        load.current_queries, load.max_concurrent, load.avg_latency_ms, reserved, seal.check,
        seal.reserved, seal.schema),
    );
    same_layout(
        "#### Element of capabilities, 20 bytes",
        fields!(ArchivedCapability:
        name, benchmark_scores, confidence),
    );
    same_layout("#### Element of benchmark_scores, 12 bytes", fields!(ArchivedScore: name, score));
    same_layout(
        "#### Root of HEARTBEAT, 64 bytes",
        fields!(ArchivedHeartbeat:
        sender_id, sent_ns, received_ns, replied_ns, current_queries, max_concurrent,
        avg_latency_ms, lane_hint, reserved, seal.check, seal.reserved, seal.schema),
    );
    same_layout(
        "#### Root of ERROR_REPORT, 48 bytes",
        fields!(ArchivedErrorReport:
        limit, actual, message, retry_after_ms, code, offending_kind, reserved, seal.check,
        seal.reserved, seal.schema),
    );
    same_layout(
        "#### Root of METRICS_UPDATE, 144 bytes",
        fields!(ArchivedMetricsUpdate:
        taken_ns, query_latency_p50, query_latency_p95, query_latency_p99, queries_per_second,
        tokens_per_second, bytes_sent_per_second, bytes_received_per_second, packet_loss_rate,
        error_rate, timeout_rate, consensus_rounds_avg, debate_duration_avg, byzantine_detections,
        active_workers, reserved, worker_utilization, counters, seal.check, seal.reserved,
        seal.schema),
    );
    same_layout(
        "#### Element of worker_utilization, 16 bytes",
        fields!(ArchivedUtilization:
        share, worker_id),
    );
    same_layout(
        "#### Element of counters, 32 bytes",
        fields!(ArchivedCounter:
        bits, name, labels, form, reserved),
    );
}

#[test]
fn types_01_to_12_the_registries_are_the_documented_ones() {
    let hex = |code: u16| format!("`{code:#06X}`").replace("0X", "0x");
    let kinds: Vec<_> =
        Kind::ALL.iter().map(|kind| vec![hex(kind.code()), kind.name().to_uppercase()]).collect();
    assert_eq!(firsts(table("### Message types"), 2), kinds);
    let codes: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let effect = if code.closes() { "closes" } else { "goes on" };
            let again = if code.retryable() { "yes" } else { "no" };
            [&code.code().to_string(), code.name(), effect, again].map(str::to_owned).to_vec()
        })
        .collect();
    assert_eq!(firsts(table("### Error codes"), 4), codes);
    let operations: Vec<_> = Operation::ALL
        .iter()
        .map(|operation| vec![operation.code().to_string(), operation.name().to_owned()])
        .collect();
    assert_eq!(firsts(table("### Operations"), 2), operations);
    let dtypes: Vec<_> = Dtype::ALL
        .iter()
        .map(|dtype| {
            vec![dtype.code().to_string(), dtype.name().to_owned(), dtype.size().to_string()]
        })
        .collect();
    assert_eq!(firsts(table("### Element types"), 3), dtypes);
    let codings: Vec<_> = Coding::ALL
        .iter()
        .map(|coding| {
            let rows = match coding {
                coding if coding.is_set() => "sets",
                coding if coding.is_hidden() => "hidden",
                _ => "",
            };
            let basis = if coding.needs_basis() { "yes" } else { "no" };
            [&coding.code().to_string(), coding.name(), rows, basis].map(str::to_owned).to_vec()
        })
        .collect();
    assert_eq!(firsts(table("### Codings"), 4), codings);
    let sources: Vec<_> = Source::ALL
        .iter()
        .map(|source| vec![source.code().to_string(), source.name().to_owned()])
        .collect();
    assert_eq!(firsts(table("### Sources"), 2), sources);
    let priorities: Vec<_> = Priority::ALL
        .iter()
        .map(|priority| vec![priority.code().to_string(), priority.name().to_owned()])
        .collect();
    assert_eq!(firsts(table("### Priorities"), 2), priorities);
    let bits: Vec<_> = [
        (flags::NAN, "NAN"),
        (flags::SHORT, "SHORT"),
        (flags::NON_FINITE, "NON_FINITE"),
        (flags::ZERO, "ZERO"),
        (flags::SUBNORMAL, "SUBNORMAL"),
    ]
    .iter()
    .map(|(bit, name)| vec![bit.trailing_zeros().to_string(), (*name).to_owned()])
    .collect();
    assert_eq!(firsts(table("### Row flags"), 2), bits);
    assert_eq!(flags::ALL.count_ones() as usize, bits.len());
}

#[test]
fn the_limits_are_the_documented_ones() {
    let stated: BTreeMap<String, String> =
        table("### Limits").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let limits = [
        ("K_MAX", wire::work::K_MAX as usize),
        ("COLS_MAX", wire::work::COLS_MAX as usize),
        ("ROWS_MAX", wire::work::ROWS_MAX as usize),
        ("CHUNK_ROWS", reply::CHUNK_ROWS as usize),
        ("CHECKED_PAYLOAD_MIN", wire::CHECKED_PAYLOAD_MIN),
        ("DATA_ALIGN", wire::DATA_ALIGN),
        ("PAYLOAD_ALIGN", wire::PAYLOAD_ALIGN),
        ("FETCH_PIECE", wire::work::FETCH_PIECE as usize),
        ("LEASE_LEN", wire::lease::LEASE_LEN),
        ("TRACES_MAX", wire::trace::TRACES_MAX.into()),
        ("TRACE_QUERY_MAX", wire::trace::TRACE_QUERY_MAX),
    ];
    for (name, value) in limits {
        assert_eq!(stated.get(&format!("`{name}`")), Some(&value.to_string()), "{name}");
    }
    assert_eq!(stated.len(), limits.len());
}

#[test]
fn every_rule_has_one_number_and_none_is_missing() {
    let numbers: Vec<usize> = FORMAT
        .lines()
        .filter_map(|line| line.strip_prefix("**W")?.split_once(".**")?.0.parse().ok())
        .collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
    assert!(numbers.len() >= 40);
}

fn firsts(rows: Vec<Vec<String>>, columns: usize) -> Vec<Vec<String>> {
    rows.into_iter().map(|row| row.into_iter().take(columns).collect()).collect()
}

/// The golden bytes of `FORMAT.md`: blocks that open with three backticks, `hex` and a name. `#`
/// starts a comment.
fn golden(name: &str) -> Vec<u8> {
    let open = format!("\n```hex {name}\n");
    let start = FORMAT.find(&open).unwrap_or_else(|| panic!("no block {name:?}")) + open.len();
    let end = start + FORMAT[start..].find("```").expect("the block ends");
    FORMAT[start..end]
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{name}: {byte:?}")))
        .collect()
}

fn same_bytes(name: &str, made: &[u8]) {
    let hex: Vec<String> = made.iter().map(|byte| format!("{byte:02X}")).collect();
    let lines: Vec<String> = hex.chunks(16).map(|line| line.join(" ")).collect();
    assert!(golden(name) == made, "{name} should be\n{}", lines.join("\n"));
}

/// The payload of a golden frame, aligned, after header and checksum have been checked.
fn payload_of(frame: &[u8], kind: Kind) -> AlignedVec<16> {
    let header = Header::peek(frame).expect("a header");
    header.check(1 << 20).expect("a good header");
    assert_eq!(header.kind(), Ok(kind));
    assert_eq!(header.compression(), Ok(Compression::None));
    assert_eq!(header.payload_len() as usize, frame.len() - HEADER_LEN);
    assert_eq!(header.checksum(), wire::check::crc16(&frame[HEADER_LEN..]));
    let mut aligned = AlignedVec::new();
    aligned.extend_from_slice(&frame[HEADER_LEN..]);
    aligned
}

const QUERY_ID: [u8; 16] = *b"\x00\x11\x22\x33\x44\x55\x46\x77\x88\x99\xAA\xBB\xCC\xDD\xEE\xFF";
const ROW: [f32; 4] = [0.5, 2.0, -1.0, 2.0];

fn row_bytes() -> Vec<u8> {
    ROW.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn golden_ping() {
    let header = frame::ping(0x0102_0304_0506_0708, 0x1112_1314_1516_1718);
    same_bytes("ping", zerocopy::IntoBytes::as_bytes(&header));
    let bytes = golden("ping");
    let read = Header::peek(&bytes).expect("32 bytes");
    assert_eq!(*read, header);
    assert_eq!((read.payload_len(), read.checksum()), (0, 0xFFFF));
}

fn golden_request_value() -> QueryRequest {
    QueryRequest {
        query_id: QUERY_ID,
        routing_hint: RoutingHint { timeout_ms: 250, ..Default::default() },
        work: TensorWork::topk(Dtype::F32, 1, 4, 2, Dtype::F16),
        priority: Priority::High.code(),
        attempt: 1,
        ..Default::default()
    }
}

#[test]
fn golden_query_request() {
    let mut out = Vec::new();
    let draft = request::RequestFrame::begin_with(&mut out, &row_bytes());
    draft.finish(&mut golden_request_value(), 7, 1).expect("fits");
    same_bytes("query_request", &out);
    let payload = payload_of(&golden("query_request"), Kind::QueryRequest);
    let (root, work) = request::work(&payload).expect("valid");
    assert_eq!(root.query_id, QUERY_ID);
    assert_eq!(root.routing_hint.timeout_ms, 250);
    assert_eq!((root.priority, root.attempt), (2, 1));
    assert_eq!(request::priority(&payload), Priority::High);
    assert_eq!((work.rows, work.cols, work.k), (1, 4, 2));
    assert_eq!(request::rows(&payload, &work), Some(&row_bytes()[..]));
}

#[test]
fn golden_query_response() {
    let layout = reply::TopKReply::layout(1, 2, 4, Dtype::F16);
    let mut out = vec![0xEE; 600];
    let parts = layout.parts(&mut out[HEADER_LEN..]);
    // A vector of bytes is aligned to whatever it likes; all allocators in use give 16.
    let parts = parts.expect("aligned");
    parts.indices.copy_from_slice(&[1, 3]);
    parts.values.copy_from_slice(&[0x00, 0x40, 0x00, 0x40]);
    parts.counts.fill(2);
    parts.max.fill(2.0);
    parts.log_sum.fill(0.821_064_1_f32);
    parts.flags.fill(0);
    let chunk = reply::Chunk { index: 0, first_row: 0, rows: 1, is_final: true };
    let operation = Operation::TopK;
    let stamp = reply::Stamp {
        message_id: 7,
        timestamp_ns: 2,
        query_id: QUERY_ID,
        operation,
        compute_ns: 1500,
        chunk,
    };
    let mut author = reply::Author::new("worker-0", "cpu", "no GPU");
    let len = reply::finish(&mut out, &reply::Layout::TopK(layout), &mut author, &stamp);
    same_bytes("query_response", &out[..len.expect("fits")]);

    let payload = payload_of(&golden("query_response"), Kind::QueryResponse);
    let read = response::read(&payload).expect("valid");
    let set = read.logits.expect("a set");
    assert_eq!(set.row_indices(0), [1, 3]);
    assert_eq!(set.row_values_f32(0).collect::<Vec<_>>(), [2.0, 2.0]);
    let exact = ROW.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
    assert!((set.logsumexp(0).expect("a row") - exact).abs() < 1e-6);
    assert!(read.root.streaming_chunk.is_final);
}

#[test]
fn golden_error_report() {
    let refusal = error::Refusal::new(ErrorCode::BadK, 1).over(1024, 4096);
    let mut out = [0; error::FRAME_MAX];
    let len = error::write_frame(&mut out, 7, 3, &refusal);
    same_bytes("error_report", &out[..len]);
    let payload = payload_of(&golden("error_report"), Kind::ErrorReport);
    let root = open::<ErrorReport>(&payload).expect("valid");
    assert_eq!(root.code, ErrorCode::BadK.code());
    assert_eq!((root.limit.to_native(), root.actual.to_native()), (1024, 4096));
    assert_eq!(&*root.message, "k must be between 1 and 1024");
}

#[test]
fn golden_heartbeat() {
    let value = Heartbeat {
        sender_id: QUERY_ID,
        sent_ns: 0x0102_0304_0506_0708,
        current_queries: 3,
        max_concurrent: 16,
        avg_latency_ms: 25.0,
        lane_hint: LANE_BULK,
        ..Default::default()
    };
    let mut out = Vec::new();
    frame::append(&mut out, &value, 9, 4).expect("fits");
    same_bytes("heartbeat", &out);
    let payload = payload_of(&golden("heartbeat"), Kind::Heartbeat);
    let root = open::<Heartbeat>(&payload).expect("valid");
    assert_eq!(root.sent_ns, 0x0102_0304_0506_0708);
    assert_eq!(root.avg_latency_ms, 25.0);
}

#[test]
fn golden_compressed_frames() {
    for (name, compression) in [("lz4", Compression::Lz4), ("zstd", Compression::Zstd)] {
        let mut plain = Vec::new();
        let draft = request::RequestFrame::begin_with(&mut plain, &[0x5A; 256]);
        let mut value =
            QueryRequest { work: TensorWork::echo(Dtype::U8, 1, 256), ..Default::default() };
        draft.finish(&mut value, 8, 5).expect("fits");
        let mut packed = Vec::new();
        pack::compress(compression, &plain[HEADER_LEN..], &mut packed).expect("compresses");
        let header =
            Header::for_payload(Kind::QueryRequest, 8, 5, &packed).with_compression(compression);
        let made = [zerocopy::IntoBytes::as_bytes(&header), &packed].concat();
        same_bytes(name, &made);

        let golden = golden(name);
        let header = Header::peek(&golden).expect("a header");
        assert_eq!(header.compression(), Ok(compression));
        assert_eq!(header.checksum(), wire::check::crc16(&golden[HEADER_LEN..]));
        let mut restored = [0; 512];
        let len = pack::restore_into(compression, &golden[HEADER_LEN..], &mut restored);
        assert_eq!(restored[..len.expect("restores")], plain[HEADER_LEN..]);
    }
}

#[test]
fn golden_tokens() {
    let runs = [&[101, 2054, 300][..], &[0; 40]].concat();
    let bits: Vec<u32> = vec![200, 150, 255, 129, 254];
    for (name, ids) in [("tokens_leb128", &runs), ("tokens_bits", &bits)] {
        let mut packed = Vec::new();
        tokens::encode(ids, &mut packed);
        same_bytes(name, &packed);
        let mut out = Vec::new();
        assert_eq!(tokens::decode(&golden(name), ids.len(), &mut out), Ok(ids.len()));
        assert_eq!(&out, ids);
    }
    // Long enough for the table's hash to pay.
    let ids = [[101, 2054, 102].repeat(9), vec![70_000]].concat();
    let ranks = tokens::Ranks::new(vec![0, 101, 102, 2054]).expect("a table");
    let mut packed = Vec::new();
    tokens::encode_with(&ids, Some(&ranks), &mut packed);
    same_bytes("tokens_ranks", &packed);
    let mut out = Vec::new();
    let count = tokens::decode_with(&golden("tokens_ranks"), 28, Some(&ranks), &mut out);
    assert_eq!((count, out), (Ok(28), ids));
}
