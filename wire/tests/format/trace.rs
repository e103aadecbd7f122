//! The chapter on why: layouts, registries, golden bytes.

use super::{QUERY_ID, firsts, golden, payload_of, same_bytes, same_layout, size_of_field, table};
use wire::{
    ErrorCode, Kind, Operation, Priority, frame,
    payload::*,
    trace::{End, NEVER, Select},
};

#[test]
fn the_roots_of_why_are_laid_out_as_documented() {
    same_layout(
        "#### Root of TRACE_QUERY, 64 bytes",
        fields!(ArchivedTraceQuery:
        sender, query_id, message_id, connection, shard, limit, select, reserved, seal.check,
        seal.reserved, seal.schema),
    );
    same_layout(
        "#### Root of TRACE_REPORT, 32 bytes",
        fields!(ArchivedTraceReport:
        traces, searched, reserved, seal.check, seal.reserved, seal.schema),
    );
    same_layout(
        "#### Element of TRACE_REPORT, traces, 224 bytes",
        fields!(ArchivedTrace:
        sender, backend, backend_reason, closed_by, waited_for, cause, query_id, message_id, at_ns,
        slot_ns, whole_ns, closed_ns, lent_ns, lent_last_ns, started_ns, ended_ns, sent_ns,
        compute_ns, deadline_ns, connection, rows, carried, payload, reply, copied.small_lane,
        copied.lane_switch, copied.restore, copied.promote, copied.reply_inline, copied.worker,
        shard, worker, batch, refusal, end, operation, priority, bulk, tries, attempt, taken_over,
        reserved),
    );
}

#[test]
fn the_registries_of_why_are_the_documented_ones() {
    let ends: Vec<_> =
        End::ALL.iter().map(|end| vec![end.code().to_string(), end.name().to_owned()]).collect();
    assert_eq!(firsts(table("### Ends"), 2), ends);
    let selects: Vec<_> = Select::ALL
        .iter()
        .map(|select| vec![select.code().to_string(), select.name().to_owned()])
        .collect();
    assert_eq!(firsts(table("### Selected requests"), 2), selects);
}

fn query() -> TraceQuery {
    TraceQuery {
        sender: Text::literal("ann"),
        message_id: 17,
        connection: 3,
        shard: 0,
        limit: 8,
        select: Select::Message.code(),
        ..TraceQuery::default()
    }
}

fn report() -> TraceReport {
    let trace = Trace {
        sender: Text::literal("ann"),
        closed_by: Text::literal("worker_idle"),
        cause: Text::literal("worker"),
        query_id: QUERY_ID,
        message_id: 17,
        at_ns: 1_700_000_000_000_000_000,
        whole_ns: 1_000,
        closed_ns: 2_000,
        lent_ns: 2_000,
        lent_last_ns: 2_000,
        started_ns: NEVER,
        ended_ns: 250_001_000,
        sent_ns: 250_002_000,
        compute_ns: NEVER,
        deadline_ns: 250_001_000,
        connection: 3,
        rows: 1,
        carried: 144,
        payload: 144,
        copied: Copied { small_lane: 144, ..Copied::default() },
        batch: 1,
        refusal: ErrorCode::DeadlineExceeded.code(),
        end: End::Refused.code(),
        operation: Operation::TopK.code(),
        priority: Priority::High.code(),
        tries: 1,
        attempt: 1,
        ..Trace::default()
    };
    TraceReport { traces: vec![trace], searched: 20_480, ..TraceReport::default() }
}

#[test]
fn golden_trace_query() {
    let mut out = Vec::new();
    frame::append(&mut out, &query(), 9, 1).expect("fits");
    same_bytes("trace_query", &out);
    let payload = payload_of(&golden("trace_query"), Kind::TraceQuery);
    let root = open::<TraceQuery>(&payload).expect("valid");
    assert_eq!((&*root.sender, root.message_id.to_native()), ("ann", 17));
    assert_eq!(Select::from_code(root.select), Some(Select::Message));
}

#[test]
fn golden_trace_report() {
    let mut out = Vec::new();
    frame::append(&mut out, &report(), 9, 1).expect("fits");
    same_bytes("trace_report", &out);
    let payload = payload_of(&golden("trace_report"), Kind::TraceReport);
    let root = open::<TraceReport>(&payload).expect("valid");
    let [trace] = root.traces.as_slice() else { panic!("one") };
    assert_eq!((&*trace.cause, trace.ended_ns.to_native()), ("worker", 250_001_000));
    assert_eq!(trace.started_ns, NEVER);
}
