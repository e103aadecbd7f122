//! The lives of requests, taken out of a TRACE_REPORT.

use crate::{ClientError, mesh::unknown};
use wire::{
    ErrorCode, Operation, Priority,
    payload::{ArchivedCopied, ArchivedTrace, ArchivedTraceReport, Copied},
    trace::{End, NEVER},
};

/// What a node remembers of the requests that were asked about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traces {
    /// The requests, in the order of the question.
    pub traces: Vec<Trace>,
    /// Requests that the node remembered and looked through.
    pub searched: u64,
}

/// The life of one request. Moments are nanoseconds since [`Self::at_ns`], and `None` where it did
/// not come to that.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Who asked.
    pub sender: String,
    /// Its id on its connection.
    pub message_id: u64,
    /// Its id over all tries; zero for none.
    pub query_id: [u8; 16],
    /// Its shard.
    pub shard: u16,
    /// Its connection in that shard.
    pub connection: u32,
    /// When its header was let in, nanoseconds since the Unix epoch.
    pub at_ns: u64,
    /// It got its slot.
    pub slot_ns: Option<u64>,
    /// It was there whole.
    pub whole_ns: Option<u64>,
    /// Its batch closed.
    pub closed_ns: Option<u64>,
    /// A worker got it first.
    pub lent_ns: Option<u64>,
    /// The worker got it that had it last.
    pub lent_last_ns: Option<u64>,
    /// That worker took it up.
    pub started_ns: Option<u64>,
    /// It was answered, refused, or found to be nobody's.
    pub ended_ns: Option<u64>,
    /// The OS took the last byte of that.
    pub sent_ns: Option<u64>,
    /// How long its batch was computed until it was done.
    pub compute_ns: Option<u64>,
    /// Its deadline.
    pub deadline_ns: Option<u64>,
    /// How it ended.
    pub end: End,
    /// Why it was refused.
    pub refusal: Option<ErrorCode>,
    /// More on that, or empty.
    pub cause: String,
    /// What was asked for, once that was read.
    pub operation: Option<Operation>,
    /// How urgent it was.
    pub priority: Priority,
    /// Rows.
    pub rows: u32,
    /// Payload bytes as carried.
    pub carried: u32,
    /// Payload bytes once restored.
    pub payload: u32,
    /// Bytes of the answer's frames.
    pub reply: u32,
    /// Bytes copied, by stage.
    pub copied: Copied,
    /// It came into a bulk slot.
    pub bulk: bool,
    /// What it waited for before it was read, comma-separated.
    pub waited_for: String,
    /// Requests of its batch.
    pub batch: u16,
    /// Why that closed.
    pub closed_by: String,
    /// The worker that had it last.
    pub worker: Option<u16>,
    /// What computed.
    pub backend: String,
    /// Why there.
    pub backend_reason: String,
    /// Times that it was lent to a worker.
    pub tries: u8,
    /// Which of the asker's tries it was, from 0.
    pub attempt: u8,
    /// It got the answer to the request that it repeats.
    pub taken_over: bool,
}

impl Trace {
    /// As `butterfly why` takes it: id, shard and connection.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@{}.{}", self.message_id, self.shard, self.connection)
    }

    fn read(row: &ArchivedTrace) -> Result<Self, ClientError> {
        let span = |ns: u64| (ns != NEVER).then_some(ns);
        let code = row.refusal.to_native();
        let refusal = ErrorCode::from_code(code);
        if code != 0 && refusal.is_none() {
            return Err(ClientError::protocol(format!("error code {code} is unknown")));
        }
        Ok(Self {
            sender: row.sender.to_string(),
            message_id: row.message_id.to_native(),
            query_id: row.query_id,
            shard: row.shard.to_native(),
            connection: row.connection.to_native(),
            at_ns: row.at_ns.to_native(),
            slot_ns: span(row.slot_ns.to_native()),
            whole_ns: span(row.whole_ns.to_native()),
            closed_ns: span(row.closed_ns.to_native()),
            lent_ns: span(row.lent_ns.to_native()),
            lent_last_ns: span(row.lent_last_ns.to_native()),
            started_ns: span(row.started_ns.to_native()),
            ended_ns: span(row.ended_ns.to_native()),
            sent_ns: span(row.sent_ns.to_native()),
            compute_ns: span(row.compute_ns.to_native()),
            deadline_ns: span(row.deadline_ns.to_native()),
            end: End::from_code(row.end).ok_or_else(|| unknown("end", row.end))?,
            refusal,
            cause: row.cause.to_string(),
            operation: Operation::from_code(row.operation),
            priority: Priority::from_code(row.priority)
                .ok_or_else(|| unknown("priority", row.priority))?,
            rows: row.rows.to_native(),
            carried: row.carried.to_native(),
            payload: row.payload.to_native(),
            reply: row.reply.to_native(),
            copied: copied(&row.copied),
            bulk: row.bulk,
            waited_for: row.waited_for.to_string(),
            batch: row.batch.to_native(),
            closed_by: row.closed_by.to_string(),
            worker: Some(row.worker.to_native()).filter(|worker| *worker != u16::MAX),
            backend: row.backend.to_string(),
            backend_reason: row.backend_reason.to_string(),
            tries: row.tries,
            attempt: row.attempt,
            taken_over: row.taken_over,
        })
    }
}

impl Traces {
    pub(crate) fn read(report: &ArchivedTraceReport) -> Result<Self, ClientError> {
        Ok(Self {
            traces: report.traces.iter().map(Trace::read).collect::<Result<_, _>>()?,
            searched: report.searched.to_native(),
        })
    }
}

fn copied(from: &ArchivedCopied) -> Copied {
    Copied {
        small_lane: from.small_lane.to_native(),
        lane_switch: from.lane_switch.to_native(),
        restore: from.restore.to_native(),
        promote: from.promote.to_native(),
        reply_inline: from.reply_inline.to_native(),
        worker: from.worker.to_native(),
    }
}
