//! A request's life for people, and for programs.

use super::bar::{bar, spans};
use crate::{say, table, units::Bytes};
use client::{Trace, Traces};
use serde_json::{Map, Value, json};
use wire::{ErrorCode, trace::End};

/// Microseconds with a tenth.
fn us(ns: u64) -> String {
    let tenths = ns / 100;
    format!("{}.{}", say::grouped(tenths / 10), tenths % 10)
}

/// How it ended, in a few words.
fn outcome(trace: &Trace) -> String {
    let mut text = match (trace.end, trace.refusal) {
        (End::Refused, Some(code)) => format!("refused: {code}"),
        (End::Gone, _) => "its connection was gone".to_owned(),
        (End::Repeated, _) => "got the answer of an earlier try".to_owned(),
        (end, _) => end.to_string(),
    };
    if !trace.cause.is_empty() {
        text.push_str(&format!(" ({})", cause(trace)));
    }
    text
}

/// What lies behind a refusal.
fn cause(trace: &Trace) -> &str {
    match (trace.refusal, trace.cause.as_str()) {
        (Some(ErrorCode::DeadlineExceeded), "batch") => "its deadline passed in an open batch",
        (Some(ErrorCode::DeadlineExceeded), "queue") => "its deadline passed before its turn",
        (Some(ErrorCode::DeadlineExceeded), "worker") => "its deadline passed with a worker",
        (Some(ErrorCode::Overloaded), "deadline") => {
            "its deadline would have passed before its turn"
        }
        (Some(ErrorCode::Overloaded), "queue") => "it would have waited for too long",
        (Some(ErrorCode::Overloaded), "slots") => {
            "no slot was free, and requests were late already"
        }
        (Some(ErrorCode::Overloaded), "hopeless") => "it could not meet its deadline any more",
        (Some(ErrorCode::Overloaded), "displaced") => {
            "its slot went to a request of higher priority"
        }
        (Some(ErrorCode::Overloaded), "starved") => "higher priorities overtook it for too long",
        (_, cause) => cause,
    }
}

fn operation(trace: &Trace) -> String {
    trace.operation.map_or_else(|| "not read".to_owned(), |operation| operation.to_string())
}

/// From the beginning to the last thing that is known.
fn total(trace: &Trace) -> u64 {
    trace.sent_ns.or(trace.ended_ns).unwrap_or(0)
}

/// Everything, with times relative to the beginning.
pub(super) fn life(trace: &Trace) -> String {
    let mut text = format!(
        "request {} of {}: {} after {} us\n{}\n",
        trace.name(),
        if trace.sender.is_empty() { "somebody forgotten" } else { &trace.sender },
        outcome(trace),
        us(total(trace)),
        what(trace),
    );
    text.push_str(&table::plain(&steps(trace)));
    let spans = spans(trace);
    if !spans.is_empty() {
        let legend: Vec<String> =
            spans.iter().map(|span| format!("{} {}", span.mark, span.name)).collect();
        text.push_str(&format!("\n\n|{}|\n {}", bar(&spans), legend.join(", ")));
    }
    text
}

/// What was asked for.
fn what(trace: &Trace) -> String {
    let mut parts = vec![operation(trace)];
    if trace.rows > 0 {
        parts.push(say::count(trace.rows, "row"));
    }
    parts.push(format!("priority {}", trace.priority));
    parts.push(if trace.bulk { "bulk lane" } else { "small lane" }.to_owned());
    parts.push(format!("{} in", Bytes(trace.carried.into())));
    parts.push(format!("{} out", Bytes(trace.reply.into())));
    if let Some(deadline) = trace.deadline_ns {
        parts.push(format!("deadline at {} us", us(deadline)));
    }
    if trace.attempt > 0 {
        parts.push(format!("try {} of its asker", u16::from(trace.attempt) + 1));
    }
    if trace.query_id != [0; 16] {
        parts.push(format!("query id {:032x}", u128::from_be_bytes(trace.query_id)));
    }
    let copies: Vec<String> = copies(trace)
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(stage, bytes)| format!("{stage} {}", Bytes(bytes.into())))
        .collect();
    let copies = if copies.is_empty() { "none".to_owned() } else { copies.join(", ") };
    format!("{}\ncopies: {copies}", parts.join(", "))
}

fn copies(trace: &Trace) -> [(&'static str, u32); 6] {
    let copied = &trace.copied;
    [
        ("small_lane", copied.small_lane),
        ("lane_switch", copied.lane_switch),
        ("restore", copied.restore),
        ("promote", copied.promote),
        ("reply_inline", copied.reply_inline),
        ("worker", copied.worker),
    ]
}

/// A row for each step that there was.
fn steps(trace: &Trace) -> Vec<[String; 3]> {
    let mut rows = vec![["at us", "took us", "what"].map(str::to_owned)];
    let mut before = 0;
    let mut step = |at: Option<u64>, what: String| {
        let Some(at) = at else { return };
        rows.push([us(at), us(at.saturating_sub(before)), what]);
        before = at;
    };
    let worker = trace.worker.map_or_else(String::new, |worker| format!("worker-{worker}"));
    step(Some(0), "its header was let in".to_owned());
    let waited = match trace.waited_for.as_str() {
        "" => "it had a slot".to_owned(),
        waited => format!("it had a slot, after waiting for {}", waited.replace(',', ", ")),
    };
    step(trace.slot_ns, waited);
    step(trace.whole_ns, "it was there whole".to_owned());
    let again = trace.tries > 1;
    if !again {
        let batch = say::count(trace.batch, "request");
        step(trace.closed_ns, format!("its batch of {batch} closed: {}", trace.closed_by));
    }
    match again {
        false => step(trace.lent_ns, format!("{worker} got it")),
        true => {
            step(trace.lent_ns, "a worker got it, and lost it".to_owned());
            let tries = trace.tries;
            step(trace.lent_last_ns, format!("{worker} got it, lending {tries}"));
        }
    }
    step(trace.started_ns, format!("{worker} took it up"));
    let computed = trace.started_ns.zip(trace.compute_ns).map(|(from, took)| from + took);
    let by = match (trace.backend.as_str(), trace.backend_reason.as_str()) {
        ("", _) => "it was computed".to_owned(),
        (backend, reason) => format!("it was computed on {backend}: {reason}"),
    };
    step(computed, by);
    step(trace.ended_ns, outcome(trace));
    step(trace.sent_ns, "the OS had taken the last byte".to_owned());
    rows
}

/// Requests by name, a line each.
pub(super) fn list(traces: &Traces) -> String {
    let heads = ["request", "sender", "operation", "us", "in", "out", "outcome"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(traces.traces.iter().map(|trace| {
        [
            trace.name(),
            trace.sender.clone(),
            operation(trace),
            us(total(trace)),
            Bytes(trace.carried.into()).to_string(),
            Bytes(trace.reply.into()).to_string(),
            outcome(trace),
        ]
    }));
    if traces.traces.is_empty() {
        return format!("none among the {} that are remembered", say::grouped(traces.searched));
    }
    table::plain(&rows)
}

/// Everything, for programs; moments in microseconds since the beginning.
pub(super) fn as_json(trace: &Trace) -> Value {
    let us = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1_000.0);
    let spans: Vec<Value> = spans(trace)
        .iter()
        .map(|span| {
            let (from, to) = (us(Some(span.from)), us(Some(span.to)));
            json!({ "name": span.name, "from_us": from, "to_us": to })
        })
        .collect();
    let copies: Map<String, Value> =
        copies(trace).into_iter().map(|(stage, bytes)| (stage.to_owned(), json!(bytes))).collect();
    let query_id = (trace.query_id != [0; 16])
        .then(|| format!("{:032x}", u128::from_be_bytes(trace.query_id)));
    json!({
        "request": trace.name(),
        "message_id": trace.message_id,
        "query_id": query_id,
        "shard": trace.shard,
        "connection": trace.connection,
        "sender": trace.sender,
        "at_ns": trace.at_ns,
        "operation": trace.operation.map(|operation| operation.name()),
        "priority": trace.priority.name(),
        "rows": trace.rows,
        "lane": if trace.bulk { "bulk" } else { "small" },
        "end": trace.end.name(),
        "refusal": trace.refusal.map(ErrorCode::name),
        "cause": (!trace.cause.is_empty()).then_some(&trace.cause),
        "waited_for": trace.waited_for.split(',').filter(|it| !it.is_empty()).collect::<Vec<_>>(),
        "batch": { "requests": trace.batch, "closed_by": trace.closed_by },
        "worker": trace.worker.map(|worker| format!("worker-{worker}")),
        "backend": trace.backend,
        "backend_reason": trace.backend_reason,
        "lendings": trace.tries,
        "attempt": trace.attempt,
        "taken_over": trace.taken_over,
        "bytes": { "carried": trace.carried, "payload": trace.payload, "reply": trace.reply },
        "copied_bytes": copies,
        "us": {
            "slot": us(trace.slot_ns),
            "whole": us(trace.whole_ns),
            "closed": us(trace.closed_ns),
            "lent": us(trace.lent_ns),
            "lent_last": us(trace.lent_last_ns),
            "started": us(trace.started_ns),
            "ended": us(trace.ended_ns),
            "sent": us(trace.sent_ns),
            "compute": us(trace.compute_ns),
            "deadline": us(trace.deadline_ns),
        },
        "spans": spans,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::bar::sample, *};

    #[test]
    fn a_life_tells_every_step_and_why() {
        let text = life(&sample());
        for part in [
            "request 17@0.3 of local: answered after 120.0 us",
            "topk, 1 row, priority normal, small lane, 4.0 KiB in, 464 B out",
            "copies: small_lane 4.0 KiB, reply_inline 464 B",
            "its batch of 3 requests closed: worker_idle",
            "it was computed on cpu: no GPU",
            "|rrrrr",
        ] {
            assert!(text.contains(part), "`{part}` in\n{text}");
        }
    }

    #[test]
    fn a_request_that_died_with_a_worker_says_so() {
        let again = Trace { tries: 2, lent_last_ns: Some(50_000), ..sample() };
        let text = life(&again);
        assert!(text.contains("and lost it") && text.contains("lending 2"), "{text}");
        assert!(!text.contains("closed:"), "the batch was another one: {text}");
    }

    #[test]
    fn a_refusal_says_what_lies_behind_it() {
        let refused = Trace {
            end: End::Refused,
            refusal: Some(ErrorCode::Overloaded),
            cause: "queue".to_owned(),
            operation: None,
            ..sample()
        };
        assert!(life(&refused).contains("refused: overloaded (it would have waited for too long)"));
        let json = as_json(&refused);
        assert_eq!((&json["end"], &json["refusal"]), (&json!("refused"), &json!("overloaded")));
        assert_eq!((&json["cause"], &json["operation"]), (&json!("queue"), &Value::Null));
        assert_eq!(json["us"]["whole"], json!(10.0));
    }

    #[test]
    fn a_list_names_requests_so_that_one_can_be_asked_for() {
        let traces = Traces { traces: vec![sample()], searched: 12_345 };
        assert!(list(&traces).contains("17@0.3"));
        let none = Traces { traces: Vec::new(), searched: 12_345 };
        assert!(list(&none).contains("12,345"));
    }
}
