//! `butterfly why`: the life of one request, or the requests that one may want to ask about.

mod bar;
mod show;

use crate::{
    cli::{RequestId, WhyArgs},
    failure::Failure,
    reach::Reach,
    say,
};
use client::Traces;
use serde_json::json;
use wire::{
    payload::{Text, TraceQuery},
    trace::{EVERY_CONNECTION, EVERY_SHARD, Select},
};

/// Requests of one id that are shown by name.
const NAMESAKES: u16 = 16;

/// Runs the command.
pub(crate) fn run(args: &WhyArgs) -> Result<(), Failure> {
    let query = query(args);
    let reach = Reach::new(&args.addr, &args.security)?;
    let traces = reach.ask(|pool| pool.why(&query))?;
    if let (Some(id), true) = (args.id, traces.traces.is_empty()) {
        return Err(Failure::run(nothing(id, &traces)));
    }
    if args.json {
        let requests: Vec<_> = traces.traces.iter().map(show::as_json).collect();
        say::out(format!("{:#}", json!({ "searched": traces.searched, "requests": requests })));
    } else if args.id.is_some() {
        say::out(lives(&traces));
    } else {
        say::out(show::list(&traces));
    }
    Ok(())
}

/// The question on the wire.
fn query(args: &WhyArgs) -> TraceQuery {
    let mut query = TraceQuery {
        sender: args.sender.clone().map(Text::from).unwrap_or_default(),
        connection: EVERY_CONNECTION,
        shard: EVERY_SHARD,
        ..TraceQuery::default()
    };
    let (select, limit) = match (args.id, args.last, args.slowest, args.refused) {
        (Some(RequestId::Query(id)), ..) => {
            query.query_id = id;
            (Select::Query, NAMESAKES)
        }
        (Some(RequestId::Message { id, at }), ..) => {
            query.message_id = id;
            if let Some((shard, connection)) = at {
                (query.shard, query.connection) = (shard, connection);
            }
            (Select::Message, NAMESAKES)
        }
        (None, Some(last), ..) => (Select::Last, last),
        (None, None, Some(slowest), _) => (Select::Slowest, slowest),
        (None, None, None, refused) => (Select::Refused, refused.unwrap_or(NAMESAKES)),
    };
    (query.select, query.limit) = (select.code(), limit);
    query
}

/// The tries of one query id one by one; of a message id, the last, and who else has it.
fn lives(traces: &Traces) -> String {
    let Some((last, others)) = traces.traces.split_first() else { return String::new() };
    let mut text = show::life(last);
    let (same, namesakes): (Vec<_>, Vec<_>) = others
        .iter()
        .partition(|other| other.query_id == last.query_id && other.query_id != [0; 16]);
    for other in same {
        text.push_str("\n\n");
        text.push_str(&show::life(other));
    }
    if !namesakes.is_empty() {
        let names: Vec<String> = namesakes.iter().map(|other| other.name()).collect();
        text.push_str(&format!("\n\nolder ones of this id: {}", names.join(", ")));
    }
    text
}

fn nothing(id: RequestId, traces: &Traces) -> String {
    format!(
        "no request {id} among the {} that the node remembers; `butterfly why --last 10` shows \
         some, and `serve --trace-records` makes it remember more",
        say::grouped(traces.searched),
    )
}
