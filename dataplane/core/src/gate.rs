//! The gate: what the node makes of who a peer is. Asked once for each frame, behind the checks of
//! its header and before a byte of its payload is taken.

use crate::{
    conn::{Intake, Lane},
    driver::{Caller, ConnId},
    fair::{Fair, Need},
    identity::{Identities, Over},
    intake::Begin,
    limits::{BUSY_PERCENT, MS, REFUSALS_IN_A_ROW},
    memory::Memory,
    policy,
    shard::{Cx, Order, Shard},
    slot::{Receiving, SlotTable},
    stats::CloseCause,
};
use std::sync::Arc;
use wire::{ErrorCode, Header, Kind, Roles, Work, error::Refusal};

impl Shard {
    /// Knows its callers from this table, which all shards of a node share. Without one, everybody
    /// is local.
    #[must_use]
    pub fn with_identities(mut self, identities: Arc<Identities>) -> Self {
        let connections = self.conns.len();
        self.slots = SlotTable::new(self.geometry, Arc::clone(&identities), connections);
        self.identities = identities;
        self
    }

    /// Bytes that one shard takes for so many identities.
    #[must_use]
    pub const fn bytes_of_identities(places: u32) -> u64 {
        Fair::bytes(places)
    }

    /// Gives a new connection its seat. False: its caller has as many as it may have.
    pub(crate) fn seat<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId, who: Caller) -> bool {
        let Err(over) = self.identities.connect(who) else {
            if let Some(conn) = self.conns.open_mut(id) {
                (conn.who, conn.seated) = (who, true);
            }
            return true;
        };
        if let Some(conn) = self.conns.open_mut(id) {
            // Nobody in particular: nothing of this connection is on anybody's account.
            conn.who = Caller { identity: 0, roles: Roles::NONE };
        }
        self.stats.turned_down(who.roles);
        let code = ErrorCode::TooManyConnections;
        let refusal = self.refusal(code, Kind::ErrorReport.code(), over);
        if !self.send_report(cx, id, 0, &refusal) {
            self.defer(id, 0, code, over.actual);
        }
        self.hang_up(id, CloseCause::Full);
        false
    }

    /// Gives the seat of a connection back.
    pub(crate) fn unseat(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id)
            && core::mem::take(&mut conn.seated)
        {
            self.identities.disconnect(conn.who);
        }
    }

    /// Whether a frame may go on. `Some`: it is refused, and this is how its payload is passed
    /// over.
    pub(crate) fn gate<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        kind: Kind,
    ) -> Option<Begin> {
        let conn = self.conns.open_mut(id)?;
        // A frame that has waited was let through before.
        if conn.passed {
            return None;
        }
        let who = conn.who;
        if !policy::senders(kind).meets(who.roles) {
            return Some(self.turn_down(cx, id, header, ErrorCode::Forbidden, Over::default()));
        }
        let paced = match self.identities.pace(cx.now, who) {
            Ok(()) if policy::is_low(kind) => {
                let busy = who.place() != 0 && self.is_busy();
                self.identities.surge(cx.now, who, busy)
            }
            paced => paced,
        };
        if let Err(over) = paced {
            return Some(self.turn_down(cx, id, header, ErrorCode::RateLimited, over));
        }
        let conn = self.conns.open_mut(id)?;
        conn.passed = true;
        if kind == Kind::QueryRequest {
            conn.trace.begun = cx.now;
        } else {
            conn.refused = 0;
        }
        None
    }

    /// Most of the slots are taken, or somebody waits for one.
    fn is_busy(&self) -> bool {
        let ledger = self.slots.ledger();
        (ledger.total() - ledger.free) * 100 >= ledger.total() * BUSY_PERCENT
            || !self.slots.fair.nobody_waits()
    }

    /// Takes slots for a request and puts it on its caller's account, or refuses it.
    pub(crate) fn begin_query<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        compressed: bool,
    ) -> Begin {
        let len = header.payload_len();
        let Some(conn) = self.conns.open_mut(id) else { return Begin::Used(0) };
        let who = conn.who;
        match self.identities.take(who, len) {
            Err(over) => self.turn_down(cx, id, header, ErrorCode::RateLimited, over),
            Ok(on_account) => {
                let bulk = len > self.geometry.small_request;
                let begun = self.begin_body(id, header, bulk, compressed);
                let slot = self.conns.open_mut(id).and_then(|conn| match &conn.intake {
                    Intake::Body { slot, .. } => Some(slot),
                    _ => None,
                });
                let noted = slot.map(Receiving::id);
                match slot {
                    Some(slot) if on_account => self.slots.charge(slot, len),
                    None if on_account => self.identities.give(who.place(), len),
                    _ => {}
                }
                if let Some(slot) = noted {
                    self.story_begins(cx.now, id, slot, len, bulk);
                }
                begun
            }
        }
    }

    /// Whether the caller may ask for this work.
    pub(crate) fn may_run(&mut self, id: ConnId, work: &Work) -> Result<(), ErrorCode> {
        let Some(conn) = self.conns.open_mut(id) else { return Ok(()) };
        if self.identities.operations(conn.who) & (1 << work.operation.code()) != 0 {
            conn.refused = 0;
            return Ok(());
        }
        conn.refused += 1;
        self.stats.turned_down(conn.who.roles);
        Err(ErrorCode::Forbidden)
    }

    /// Ends a connection that has had too many refusals in a row, once they are sent. True if so.
    pub(crate) fn give_up(&mut self, id: ConnId) -> bool {
        let enough = self.conns.open_mut(id).is_some_and(|c| c.refused >= REFUSALS_IN_A_ROW);
        if enough {
            self.hang_up(id, CloseCause::Refused);
        }
        enough
    }

    /// Refuses a frame for who sent it, and passes over its payload.
    fn turn_down<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        code: ErrorCode,
        over: Over,
    ) -> Begin {
        let refusal = self.refusal(code, header.raw_kind(), over);
        // There is room: `begin` has looked.
        self.send_report(cx, id, header.message_id(), &refusal);
        self.story_turned_away(cx, id, (header.message_id(), header.payload_len()), code.into());
        let Some(conn) = self.conns.open_mut(id) else { return Begin::Used(0) };
        conn.refused += 1;
        self.stats.turned_down(conn.who.roles);
        if self.give_up(id) { Begin::Used(0) } else { self.skip_payload(id, header) }
    }

    fn refusal(&self, code: ErrorCode, kind: u16, over: Over) -> Refusal {
        let hint = match over.retry_after {
            _ if !code.retryable() => 0,
            0 => self.limits.retry_after_ms,
            ns => u32::try_from(ns.div_ceil(MS)).unwrap_or(u32::MAX),
        };
        Refusal::new(code, kind).over(over.limit, over.actual).retry_after(hint)
    }

    /// Lets a connection end: what was admitted is still answered, what still comes is ignored.
    pub(crate) fn hang_up(&mut self, id: ConnId, cause: CloseCause) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        conn.intake = Intake::Discard;
        conn.finishing = true;
        conn.cause = cause;
        if conn.lane == Lane::Direct {
            conn.lane = Lane::Stream;
            self.orders.push_back((id, Order::StartStream));
        }
    }

    /// A free slot of the class for this connection, if it is its turn to have one.
    pub(crate) fn slot_for(&mut self, id: ConnId, bulk: bool) -> Option<Receiving> {
        let place = self.conns.open_mut(id)?.who.place();
        let served = self.serving == Some(Need::slot(bulk));
        self.slots.receive(bulk, place, served)
    }
}
