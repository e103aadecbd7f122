//! A request as spans, in the JSON of OTLP 1.x: ids in hexadecimal, 64-bit numbers as text.

use dataplane_core::{
    Identities,
    trace::{Record, Rings, Step, name},
};
use serde_json::{Value, json};
use wire::{ErrorCode, Operation, trace::End};

/// `SPAN_KIND_INTERNAL`, `SPAN_KIND_SERVER`, `STATUS_CODE_ERROR`.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const ERROR: u8 = 2;

/// What names requests in words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    pub(super) rings: &'a Rings,
    pub(super) identities: &'a Identities,
    /// Name of the node.
    pub(super) node: &'a str,
}

/// SplitMix64.
const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number of the request alone: of who asked it where and when, under which id.
fn seed(shard: usize, record: &Record) -> u64 {
    let parts = [
        u64::from(record.identity) << 32 | u64::from(record.conn),
        (shard as u64) << 16 | u64::from(record.life),
        record.message_id,
        record.at_ns,
    ];
    parts.into_iter().fold(0, |sum, part| mix(sum ^ part))
}

/// The query id, which all tries share; where there is none, a number of the request alone.
fn trace_id(shard: usize, record: &Record) -> String {
    if record.query_id != [0; 16] {
        return format!("{:032x}", u128::from_be_bytes(record.query_id));
    }
    let seed = seed(shard, record);
    format!("{:016x}{:016x}", seed, mix(seed) | 1)
}

/// Every span of a trace has one of its own, and none is zero.
fn span_id(shard: usize, record: &Record, number: u64) -> String {
    format!("{:016x}", mix(seed(shard, record) ^ (number + 1) << 56) | 1)
}

fn text(key: &str, value: impl Into<String>) -> Value {
    json!({ "key": key, "value": { "stringValue": value.into() } })
}

fn number(key: &str, value: impl Into<u64>) -> Value {
    // 64-bit integers are text in the JSON of protobuf.
    json!({ "key": key, "value": { "intValue": value.into().to_string() } })
}

/// What is said of a request as a whole.
fn attributes(words: Words<'_>, shard: usize, record: &Record) -> Vec<Value> {
    let (backend, reason) = words.rings.signer(record.signer).unwrap_or_default();
    let mut all = vec![
        text("butterfly.request", name(shard, record)),
        text("butterfly.sender", words.identities.name(record.identity)),
        text("butterfly.end", record.end.name()),
        text("butterfly.priority", record.priority.name()),
        number("butterfly.rows", record.rows),
        number("butterfly.request.bytes", record.carried),
        number("butterfly.reply.bytes", record.reply),
        number("butterfly.attempt", record.attempt),
        number("butterfly.lendings", record.tries),
    ];
    if let Some(operation) = record.operation {
        all.push(text("butterfly.operation", operation.name()));
    }
    if let Some(worker) = record.worker {
        all.push(text("butterfly.worker", format!("worker-{worker}")));
    }
    if let Some(reason) = record.closed_by {
        all.push(text("butterfly.batch.closed_by", reason.name()));
        all.push(number("butterfly.batch.requests", record.batch));
    }
    if !backend.is_empty() {
        all.push(text("butterfly.backend", backend));
        all.push(text("butterfly.backend.reason", reason));
    }
    if let Some(code) = record.refusal {
        all.push(text("error.type", code.name()));
    }
    all
}

/// The parts of a request that have a beginning and an end.
fn parts(record: &Record) -> [(&'static str, Option<(u64, u64)>); 4] {
    let step = |step| record.step(step);
    let started = step(Step::Started);
    let computed = started.zip(record.compute_ns).map(|(from, took)| (from, from + took));
    [
        ("receive", step(Step::Whole).map(|whole| (0, whole))),
        ("wait", step(Step::Whole).zip(step(Step::LentLast))),
        ("compute", computed),
        ("send", step(Step::Ended).zip(step(Step::Sent))),
    ]
}

/// The spans of one request: the whole, and its parts below it.
fn spans(words: Words<'_>, shard: usize, record: &Record, to: &mut Vec<Value>) {
    let trace_id = trace_id(shard, record);
    let whole = span_id(shard, record, 0);
    let at = |ns: u64| (record.at_ns + ns).to_string();
    let title = record.operation.map_or("request", Operation::name);
    let mut root = json!({
        "traceId": trace_id,
        "spanId": whole,
        "name": title,
        "kind": SERVER,
        "startTimeUnixNano": at(0),
        "endTimeUnixNano": at(record.total()),
        "attributes": attributes(words, shard, record),
    });
    if record.end == End::Refused {
        let why = record.refusal.map_or("", ErrorCode::name);
        root["status"] = json!({ "code": ERROR, "message": why });
    }
    to.push(root);
    for (number, (name, part)) in (1..).zip(parts(record)) {
        let Some((from, until)) = part else { continue };
        to.push(json!({
            "traceId": trace_id,
            "spanId": span_id(shard, record, number),
            "parentSpanId": whole,
            "name": name,
            "kind": INTERNAL,
            "startTimeUnixNano": at(from),
            "endTimeUnixNano": at(until.max(from)),
        }));
    }
}

/// An `ExportTraceServiceRequest` of these requests.
pub(super) fn export<'a>(
    words: Words<'_>,
    requests: impl Iterator<Item = &'a (usize, Record)>,
) -> Value {
    let mut all = Vec::new();
    for (shard, record) in requests {
        spans(words, *shard, record, &mut all);
    }
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "resourceSpans": [{
            "resource": {
                "attributes": [
                    text("service.name", "butterfly"),
                    text("service.instance.id", words.node),
                    text("service.version", version),
                ],
            },
            "scopeSpans": [{
                "scope": { "name": "butterfly", "version": version },
                "spans": all,
            }],
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_core::trace::Bounds;
    use std::collections::HashSet;

    fn record() -> Record {
        let mut record = Record {
            message_id: 17,
            at_ns: 1_700_000_000_000_000_000,
            operation: Some(Operation::TopK),
            compute_ns: Some(40),
            ..Record::default()
        };
        for (step, at) in Step::ALL.into_iter().zip([0, 8, 16, 16, 16, 24, 80, 96]) {
            record.steps[step as usize] = Some(at);
        }
        record
    }

    fn exported(requests: &[(usize, Record)]) -> Vec<Value> {
        let rings = Rings::new(1, Bounds { records: 8, sample: 0.0 });
        let words = Words { rings: &rings, identities: &Identities::default(), node: "here" };
        let mut all = export(words, requests.iter());
        match all["resourceSpans"][0]["scopeSpans"][0]["spans"].take() {
            Value::Array(spans) => spans,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_request_is_a_span_with_its_parts_below() {
        let spans = exported(&[(0, record())]);
        let names: Vec<_> = spans.iter().map(|span| span["name"].as_str()).collect();
        assert_eq!(names, ["topk", "receive", "wait", "compute", "send"].map(Some));
        assert!(spans.iter().skip(1).all(|span| span["parentSpanId"] == spans[0]["spanId"]));
        assert_eq!(spans[0]["startTimeUnixNano"], "1700000000000000000");
        assert_eq!(spans[0]["endTimeUnixNano"], "1700000000000000096");
        assert_eq!(spans[3]["endTimeUnixNano"], "1700000000000000064");
        let ids: HashSet<String> = spans.iter().map(|span| span["spanId"].to_string()).collect();
        assert_eq!(ids.len(), spans.len());
    }

    #[test]
    fn ids_are_of_the_request_alone_and_tries_share_their_query_id() {
        let id = |record: &Record| exported(&[(0, record.clone())])[0]["traceId"].to_string();
        assert_eq!(id(&record()), id(&record()));
        assert_ne!(id(&record()), id(&Record { conn: 1, ..record() }));
        assert_ne!(id(&record()), id(&Record { message_id: 18, ..record() }));
        let query_id = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xAA\xBB\xCC\xDD\xEE\xFF";
        let tried = |attempt| Record { query_id, attempt, ..record() };
        assert_eq!(id(&tried(0)), "\"00112233445566778899aabbccddeeff\"");
        assert_eq!(id(&tried(0)), id(&tried(1)));
    }

    #[test]
    fn a_refusal_is_an_error_without_what_it_never_came_to() {
        let mut refused =
            Record { end: End::Refused, refusal: Some(ErrorCode::BadK), ..Record::default() };
        refused.steps[Step::Ended as usize] = Some(9);
        let spans = exported(&[(0, refused)]);
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0]["name"], "request");
        assert_eq!(spans[0]["status"], json!({ "code": 2, "message": "bad_k" }));
    }
}
