//! Good frames of every type, to start from.

use wire::{
    Compression, Dtype, ErrorCode, HEADER_LEN, Header, Payload, error, frame, pack,
    payload::{
        Capability, Counter, Heartbeat, LANE_BULK, MetricsUpdate, QueryRequest, QueryResponse,
        TensorWork, Text, TraceQuery, WorkerRegistration,
        mesh::{
            Ack, AgentHeartbeat, AgentRecord, AgentRegistered, AgentRegistration, AgentRow, Bin,
            Circuit, ClassRow, ClusterRow, Coordinate, Freeze, Gather, GatherReport, MeshQuery,
            MeshSummary, MeshView, NodeJoin, Place,
        },
    },
    request,
};
use zerocopy::IntoBytes as _;

fn of<T: Payload>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    // Everything here is short.
    let _ = frame::append(&mut out, value, 1, 2);
    out
}

fn asked(work: TensorWork) -> Vec<u8> {
    let size = Dtype::from_code(work.dtype).map_or(1, Dtype::size);
    let data = vec![0x3C; (work.rows * work.cols) as usize * size];
    let mut out = Vec::new();
    let mut request = QueryRequest { work, ..Default::default() };
    let _ = request::RequestFrame::begin_with(&mut out, &data).finish(&mut request, 3, 4);
    out
}

fn data_path() -> Vec<Vec<u8>> {
    let mut refusal = [0; error::FRAME_MAX];
    let why = error::Refusal::new(ErrorCode::Overloaded, 1);
    let len = error::write_frame(&mut refusal, 1, 2, &why);
    let mut answer = QueryResponse::default();
    answer.response.text = Text::literal("by contradiction");
    answer.response.attention_weights.weights = vec![0.5; 6];
    let capability = Capability { name: Text::literal("logic"), ..Default::default() };
    let counter = Counter::count(Text::literal("requests_total"), Text::literal("a=\"b\""), 7);
    vec![
        frame::ping(1, 2).as_bytes().to_vec(),
        of(&Heartbeat::default()),
        of(&Heartbeat { lane_hint: LANE_BULK, ..Default::default() }),
        of(&WorkerRegistration { capabilities: vec![capability; 2], ..Default::default() }),
        of(&MetricsUpdate { counters: vec![counter; 3], ..Default::default() }),
        of(&TraceQuery { sender: Text::literal("ann"), ..Default::default() }),
        of(&QueryRequest { input_text: Text::literal("why?"), ..Default::default() }),
        of(&answer),
        refusal[..len].to_vec(),
        asked(TensorWork::topk(Dtype::F32, 3, 40, 5, Dtype::F16)),
        asked(TensorWork::int8(Dtype::F16, 2, 30)),
        asked(TensorWork::echo(Dtype::U8, 1, 100)),
        asked(TensorWork::echo(Dtype::U8, 1, 1_500)),
        asked(TensorWork::lm_head(Dtype::Bf16, 9, 30, 2, Dtype::Bf16)),
    ]
}

/// One frame of each type of the mesh.
pub(crate) fn mesh() -> Vec<Vec<u8>> {
    let words = || ["gpu", "", "act"].map(Text::literal).to_vec();
    let record = |id| AgentRecord {
        capabilities: vec![Text::literal("gpu"), Text::literal("act")],
        agent_id: [id; 16],
        ..Default::default()
    };
    let agent = AgentRow { name: Text::literal("S07-C04-A12"), ..Default::default() };
    let report = GatherReport {
        earliness: vec![Bin { bin: 1, count: 2 }; 3],
        classes: vec![ClassRow::default(); 2],
        straggler_names: words(),
        ..Default::default()
    };
    vec![
        of(&AgentRegistration { agents: vec![record(7), record(8)], ..Default::default() }),
        of(&AgentRegistered { places: vec![Place::default(); 2], ..Default::default() }),
        of(&AgentHeartbeat { sent_ns: 5, ..Default::default() }),
        of(&Coordinate { payload: vec![1; 40], ..Default::default() }),
        of(&Ack {
            message_id: [1; 16],
            conflict_detail: Text::literal("no"),
            ..Default::default()
        }),
        of(&Circuit { reason: Text::literal("why"), ..Default::default() }),
        of(&Freeze { preserve_state_to: Text::literal("/tmp"), ..Default::default() }),
        of(&Gather { message_id: [1; 16], payload: vec![2; 40], ..Default::default() }),
        of(&Gather {
            ids: vec![[7; 16]; 2],
            capability: Text::literal("gpu"),
            ..Default::default()
        }),
        of(&report),
        of(&MeshQuery { capability: Text::literal("gpu"), ..Default::default() }),
        of(&MeshView { agents: vec![agent; 2], ..Default::default() }),
        of(&NodeJoin { name: Text::literal("hall"), ..Default::default() }),
        of(&MeshSummary { clusters: vec![ClusterRow::default(); 2], ..Default::default() }),
    ]
}

/// Whole frames.
pub(crate) fn all() -> Vec<Vec<u8>> {
    data_path().into_iter().chain(mesh()).collect()
}

/// Their payloads.
pub(crate) fn payloads() -> Vec<Vec<u8>> {
    all().into_iter().map(|frame| frame[HEADER_LEN..].to_vec()).collect()
}

/// Compressed payloads, behind the byte that names the compression.
pub(crate) fn packed() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for payload in payloads().into_iter().step_by(4) {
            let mut out = Vec::new();
            if pack::compress(compression, &payload, &mut out).is_ok() {
                out.insert(0, compression.code() as u8);
                seeds.push(out);
            }
        }
    }
    seeds
}

/// Streams of several frames, as `stream` takes them: each behind how it is cut.
pub(crate) fn streams() -> Vec<Vec<u8>> {
    let piece = |frame: &[u8]| {
        let mut op = vec![0, (frame.len() & 0xFF) as u8, (frame.len() >> 8) as u8];
        op.extend_from_slice(frame);
        op
    };
    let frames = all();
    let mut seeds: Vec<Vec<u8>> = frames.iter().map(|frame| piece(frame)).collect();
    let mut long = Vec::new();
    for frame in data_path() {
        // In two pieces, with a pause and a worker's step between.
        let (head, tail) = frame.split_at(frame.len() / 2);
        long.extend([piece(head), vec![1, 40], piece(tail), vec![2, 0], vec![1, 200]].concat());
        let payload = &frame[HEADER_LEN..];
        let mut small = Vec::new();
        if !payload.is_empty() && pack::compress(Compression::Lz4, payload, &mut small).is_ok() {
            let kind = Header::peek(&frame).and_then(|header| header.kind().ok());
            let header = kind.map(|kind| {
                Header::for_payload(kind, 9, 9, &small).with_compression(Compression::Lz4)
            });
            let packed = [header.map_or_else(Vec::new, |h| h.as_bytes().to_vec()), small].concat();
            seeds.push(piece(&packed));
        }
    }
    seeds.push(long);
    seeds
}
