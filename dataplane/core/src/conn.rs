//! Connections as the shard sees them: which lane they are in, what they are in the middle of, what
//! waits to leave.

use crate::{
    driver::{Caller, ConnId, Time},
    egress::Outbox,
    limits::MS,
    slot::Receiving,
    stats::CloseCause,
    trace::OfConn,
};
use wire::{HEADER_LEN, Priority, Work, payload::ArchivedQueryRequest};

/// Places in the table beyond the limit, so that a connection too many can still be told so.
pub(crate) const SPARE_CONNECTIONS: u32 = 64;

/// How a connection's bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Small lane: a stream of bytes in shared receive buffers.
    Stream,
    /// On the way into the bulk lane: the stream is being stopped.
    Stopping,
    /// Bulk lane: header first, then the payload straight into its slot.
    Direct,
}

/// How a request wants to be served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Milliseconds it may take, 0 for as long as it likes.
    timeout_ms: u32,
    /// What goes first.
    pub priority: Priority,
    /// Retries before this one.
    pub attempt: u8,
    /// What it is known by; zero for nothing.
    pub query_id: [u8; 16],
}

impl Terms {
    /// Those of a checked request.
    pub(crate) fn of(request: &ArchivedQueryRequest) -> Self {
        Self {
            timeout_ms: request.routing_hint.timeout_ms.to_native(),
            priority: Priority::from_code(request.priority).unwrap_or(Priority::Normal),
            attempt: request.attempt,
            query_id: request.query_id,
        }
    }

    /// When a request that is complete now becomes useless; 0 for never.
    pub(crate) fn deadline(&self, now: Time) -> Time {
        match self.timeout_ms {
            0 => 0,
            ms => now + Time::from(ms) * MS,
        }
    }
}

/// What a connection's next byte belongs to.
#[derive(Debug)]
pub(crate) enum Intake {
    /// A header (`head_len` bytes of it are there).
    Header,
    /// A payload nobody wants.
    Skip {
        /// Bytes still to come.
        left: u32,
    },
    /// A payload on its way into a slot.
    Body {
        /// The slot.
        slot: Receiving,
        /// A second slot for a compressed payload's restored form.
        spare: Option<Receiving>,
        /// Bytes that are there.
        at: u32,
    },
    /// The header is complete; a slot, a chunk or credit is missing.
    Waiting,
    /// Complete and checked, but its reply needs a bulk slot and none is free.
    Promote {
        /// The small slot it is in.
        slot: Receiving,
        /// What it asks for.
        work: Work,
        /// And how.
        terms: Terms,
    },
    /// Whatever still comes is ignored.
    Discard,
}

/// Life of a table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Free,
    Open,
    /// Close was ordered; the driver still works on it.
    Closing,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub phase: Phase,
    /// Counts the uses of this table entry.
    pub life: u32,
    pub who: Caller,
    /// Counted among its caller's connections.
    pub seated: bool,
    /// The header that is there was let through the gate.
    pub passed: bool,
    /// Frames in a row that were refused for who sent them.
    pub refused: u32,
    /// When bytes last moved, either way.
    pub active_at: Time,
    /// Why it ends, once it does.
    pub cause: CloseCause,
    /// Was told that it is too slow, and is closed when that is sent.
    pub parting: bool,
    pub lane: Lane,
    pub intake: Intake,
    pub head: [u8; HEADER_LEN],
    pub head_len: u8,
    /// Small frames since the last bulk frame, in the bulk lane.
    pub small_run: u8,
    /// The peer will send nothing more.
    pub eof: bool,
    /// Half-close once everything is answered and sent, then linger.
    pub finishing: bool,
    /// When the half close was ordered; 0 for not yet.
    pub finished_at: Time,
    /// The stream stands still, because the driver keeps bytes or was told to stop: only
    /// `start_stream` sets it going again.
    pub paused: bool,
    /// Waits: in its identity's line, or for its own credit.
    pub waiting: bool,
    /// Waits for its own credit, and so is in no line.
    pub waits_own: bool,
    /// Is in the list of those with something to send.
    pub dirty: bool,
    /// A transmit is under way.
    pub sending: bool,
    /// Requests admitted and not answered.
    pub inflight: u32,
    /// Was told that another process takes new connections.
    pub asked_to_leave: bool,
    /// Has sent frames of the mesh, which is to be told of the end.
    pub mesh: bool,
    pub outbox: Outbox,
    /// Since when a frame is incomplete; 0 for none.
    pub frame_since: Time,
    /// Since when the peer took no byte of a non-empty outbox; 0 for none.
    pub write_since: Time,
    /// For the records of its requests.
    pub trace: OfConn,
}

impl Conn {
    fn new(life: u32) -> Self {
        Self {
            phase: Phase::Free,
            life,
            who: Caller::LOCAL,
            seated: false,
            passed: false,
            refused: 0,
            active_at: 0,
            cause: CloseCause::Fault,
            parting: false,
            lane: Lane::Stream,
            intake: Intake::Header,
            head: [0; HEADER_LEN],
            head_len: 0,
            small_run: 0,
            eof: false,
            finishing: false,
            finished_at: 0,
            paused: false,
            waiting: false,
            waits_own: false,
            dirty: false,
            sending: false,
            inflight: 0,
            asked_to_leave: false,
            mesh: false,
            outbox: Outbox::default(),
            frame_since: 0,
            write_since: 0,
            trace: OfConn::default(),
        }
    }

    /// Between two frames, with nothing begun.
    pub(crate) const fn at_boundary(&self) -> bool {
        matches!(self.intake, Intake::Header) && self.head_len == 0
    }

    /// Cannot go on before something is freed.
    pub(crate) fn is_blocked(&self) -> bool {
        match &self.intake {
            Intake::Waiting | Intake::Promote { .. } => true,
            Intake::Body { at, .. } => *at == crate::shard::header_payload_len(&self.head),
            Intake::Header | Intake::Skip { .. } | Intake::Discard => false,
        }
    }

    /// Answered and sent all there was.
    pub(crate) const fn settled(&self) -> bool {
        self.inflight == 0 && self.outbox.is_empty() && !self.sending
    }
}

/// All connections of a shard.
#[derive(Debug)]
pub(crate) struct ConnTable {
    conns: Vec<Conn>,
    open: u32,
}

impl ConnTable {
    pub(crate) fn new(connections: u32) -> Self {
        let len = connections + SPARE_CONNECTIONS;
        Self { conns: (0..len).map(|_| Conn::new(0)).collect(), open: 0 }
    }

    /// Connections that are open or closing.
    pub(crate) const fn open(&self) -> u32 {
        self.open
    }

    pub(crate) fn len(&self) -> u32 {
        self.conns.len() as u32
    }

    /// An entry by index, whatever its phase.
    pub(crate) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.0 as usize)
    }

    /// An entry that is open.
    pub(crate) fn open_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.get(id).filter(|c| c.phase == Phase::Open)
    }

    /// Begins a life. `None` when the index is outside the table or in use.
    pub(crate) fn begin(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(id.0 as usize).filter(|c| c.phase == Phase::Free)?;
        *conn = Conn::new(conn.life.wrapping_add(1));
        conn.phase = Phase::Open;
        self.open += 1;
        Some(conn)
    }

    /// Ends a life; the entry may be used again.
    pub(crate) fn end(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.0 as usize) {
            if conn.phase != Phase::Free {
                self.open -= 1;
            }
            *conn = Conn::new(conn.life);
        }
    }
}
