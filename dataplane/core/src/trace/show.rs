//! A record as TRACE_REPORT says it.

use super::{Cause, Found, Record, Rings, Step, Ways};
use crate::{driver::Time, identity::Identities, stats::CloseReason};
use wire::{
    ErrorCode, Operation,
    payload::{Copied, Text, Trace},
    trace::NEVER,
};

/// Its operation where it was not read, and its worker where it had none.
const UNREAD: u8 = u8::MAX;
const NOBODY: u16 = u16::MAX;

impl Cause {
    /// As in the metrics; empty where the error code says it all.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Shed(shed) => shed.name(),
            Self::Expired(place) => place.name(),
        }
    }
}

impl Record {
    /// Bytes copied in user space, by stage.
    #[must_use]
    pub const fn copied(&self) -> Copied {
        const fn where_(way: bool, bytes: u32) -> u32 {
            if way { bytes } else { 0 }
        }
        let bulk = self.ways.has(Ways::BULK);
        Copied {
            small_lane: where_(!bulk, self.copied_in),
            lane_switch: where_(bulk, self.copied_in),
            restore: where_(self.ways.has(Ways::RESTORED), self.payload),
            promote: where_(self.ways.has(Ways::PROMOTED), self.payload),
            reply_inline: where_(self.ways.has(Ways::INLINE), self.reply),
            worker: self.copied_by_worker,
        }
    }
}

/// A request that was found.
pub(crate) fn row(rings: &Rings, identities: &Identities, (shard, record): &Found) -> Trace {
    let step = |step| record.step(step).unwrap_or(NEVER);
    let span = |span: Option<Time>| span.unwrap_or(NEVER);
    let (backend, backend_reason) = rings.signer(record.signer).unwrap_or_default();
    let waits: Vec<&str> = record.waits.names().collect();
    Trace {
        sender: identities.name(record.identity).into(),
        backend: backend.into(),
        backend_reason: backend_reason.into(),
        closed_by: Text::literal(record.closed_by.map_or("", CloseReason::name)),
        waited_for: waits.join(",").into(),
        cause: Text::literal(record.cause.name()),
        query_id: record.query_id,
        message_id: record.message_id,
        at_ns: record.at_ns,
        slot_ns: step(Step::Slot),
        whole_ns: step(Step::Whole),
        closed_ns: step(Step::Closed),
        lent_ns: step(Step::Lent),
        lent_last_ns: step(Step::LentLast),
        started_ns: step(Step::Started),
        ended_ns: step(Step::Ended),
        sent_ns: step(Step::Sent),
        compute_ns: span(record.compute_ns),
        deadline_ns: span(record.deadline),
        connection: record.conn,
        rows: record.rows,
        carried: record.carried,
        payload: record.payload,
        reply: record.reply,
        copied: record.copied(),
        shard: *shard as u16,
        worker: record.worker.unwrap_or(NOBODY),
        batch: record.batch,
        refusal: record.refusal.map_or(0, ErrorCode::code),
        end: record.end.code(),
        operation: record.operation.map_or(UNREAD, Operation::code),
        priority: record.priority.code(),
        bulk: record.ways.has(Ways::BULK),
        tries: record.tries,
        attempt: record.attempt,
        taken_over: record.ways.has(Ways::TAKEN_OVER),
        reserved: [0; 5],
    }
}
