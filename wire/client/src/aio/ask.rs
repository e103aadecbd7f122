//! What a call asks for, and its frame for each try.

use crate::{ClientError, sender::epoch_ns};
use bytes::Bytes;
use std::time::Duration;
use wire::{ErrorCode, Header, Kind, payload::QueryRequest, request};
use zerocopy::IntoBytes;

/// Pieces of a frame, in order.
pub(crate) type Parts = [Bytes; 3];

/// What a call asks for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A message whose payload is the same in every try.
    Plain(Kind, Bytes),
    /// Work on rows; deadline and number of the try change.
    Query(Box<QueryRequest>, Bytes),
}

impl Ask {
    /// A request with an id, which is kept over all tries: by it the node knows them as one.
    pub(crate) fn query(request: &QueryRequest, rows: Bytes) -> Self {
        let mut request = Box::new(request.clone());
        if request.query_id == [0; 16] {
            request.query_id = uuid::Uuid::new_v4().into_bytes();
        }
        Self::Query(request, rows)
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Plain(kind, _) => *kind,
            Self::Query(..) => Kind::QueryRequest,
        }
    }

    /// The time of the whole call: the caller's, or less where the request states less.
    pub(crate) fn time(&self, most: Duration) -> Duration {
        match self {
            Self::Query(request, _) if request.routing_hint.timeout_ms > 0 => {
                most.min(Duration::from_millis(request.routing_hint.timeout_ms.into()))
            }
            _ => most,
        }
    }

    /// True where it does no harm if the node takes it twice: questions, and requests, which the
    /// node knows by sender and `query_id`.
    pub(crate) const fn is_safe(&self) -> bool {
        matches!(
            self.kind(),
            Kind::QueryRequest
                | Kind::Heartbeat
                | Kind::MetricsUpdate
                | Kind::TraceQuery
                | Kind::MeshQuery
        )
    }

    /// True where anybody may play it to the node again: what 0-RTT may carry.
    pub(crate) const fn is_replayable(&self) -> bool {
        matches!(self.kind(), Kind::Heartbeat | Kind::MetricsUpdate)
    }

    /// The frame of try number `attempt`, with `left` of the call's time.
    pub(crate) fn frame(
        &mut self,
        id: u64,
        attempt: u8,
        left: Duration,
    ) -> Result<Parts, ClientError> {
        match self {
            Self::Plain(kind, payload) => {
                let header = Header::for_payload(*kind, id, epoch_ns(), payload);
                let head = Bytes::copy_from_slice(header.as_bytes());
                Ok([head, payload.clone(), Bytes::new()])
            }
            Self::Query(request, rows) => {
                let left = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
                request.routing_hint.timeout_ms = left.max(1);
                request.attempt = attempt;
                let mut tail = Vec::new();
                let header = request::around(rows, request, id, epoch_ns(), &mut tail)
                    .map_err(|_| ClientError::Request(ErrorCode::PayloadTooLong))?;
                let head = Bytes::copy_from_slice(header.as_bytes());
                Ok([head, rows.clone(), tail.into()])
            }
        }
    }
}

/// Takes a request back.
pub(crate) fn cancel(id: u64) -> Parts {
    let mut out = vec![0; wire::error::FRAME_MAX];
    let refusal = wire::error::Refusal::new(ErrorCode::Cancelled, Kind::QueryRequest.code());
    let len = wire::error::write_frame(&mut out, id, epoch_ns(), &refusal);
    out.truncate(len);
    [out.into(), Bytes::new(), Bytes::new()]
}
