//! TRACE_QUERY (W91 to W94): somebody asks what became of requests. One search at a time for each
//! shard, a part in each turn, through the rings of all shards.

use crate::{
    driver::ConnId,
    limits::SEARCHED_PER_TURN,
    memory::Memory,
    shard::{Cx, Shard},
    trace::{Question, Scan, row},
};
use wire::{
    ErrorCode, Header, Kind, Role,
    payload::{self, ArchivedTraceQuery, PayloadFault, TraceQuery, TraceReport},
    trace::{EVERY_CONNECTION, EVERY_SHARD, Select, TRACE_QUERY_MAX, TRACES_MAX},
};

/// A search, and who waits for it.
#[derive(Debug)]
pub(crate) struct Search {
    conn: ConnId,
    life: u32,
    message_id: u64,
    scan: Scan,
}

/// A question's archive where it can be read in place.
#[repr(align(16))]
struct Aligned([u8; TRACE_QUERY_MAX]);

impl Shard {
    /// A TRACE_QUERY is complete: begins to search, or refuses.
    pub(crate) fn asked_why<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        payload: &[u8],
    ) {
        let begun =
            read(header, payload, |query| self.question(id, query)).and_then(|question| match self
                .search
            {
                Some(_) => Err(ErrorCode::Overloaded),
                None => Ok(question),
            });
        let question = match begun {
            Ok(question) => question,
            Err(code) => {
                self.refuse_why(cx, id, header.message_id(), code);
                return;
            }
        };
        let Some(conn) = self.conns.open_mut(id) else { return };
        // It is not answered before the search is over.
        conn.inflight += 1;
        let (life, message_id) = (conn.life, header.message_id());
        let search = Search { conn: id, life, message_id, scan: Scan::new(question) };
        self.search = Some(Box::new(search));
    }

    /// What is asked, and what of that this peer may hear.
    fn question(&mut self, id: ConnId, query: &ArchivedTraceQuery) -> Result<Question, ErrorCode> {
        let select = Select::from_code(query.select).ok_or(ErrorCode::BadRequest)?;
        let who = self.conns.open_mut(id).ok_or(ErrorCode::BadRequest)?.who;
        // A name that nobody has is that of nobody's requests.
        let named = match &*query.sender {
            "" => None,
            name => Some(self.identities.find(name).unwrap_or(u32::MAX)),
        };
        let own = (!who.roles.has(Role::Operator)).then_some(who.identity);
        let identity = match (named, own) {
            (Some(named), Some(own)) if named != own => Some(u32::MAX),
            (named, own) => named.or(own),
        };
        let limit = match query.limit.to_native() {
            0 => TRACES_MAX,
            limit => limit.min(TRACES_MAX),
        };
        let connection = query.connection.to_native();
        let shard = query.shard.to_native();
        Ok(Question {
            select,
            message_id: query.message_id.to_native(),
            query_id: query.query_id,
            identity,
            connection: (connection != EVERY_CONNECTION).then_some(connection),
            shard: (shard != EVERY_SHARD).then_some(shard.into()),
            limit: limit.into(),
        })
    }

    /// A part of the search that is under way; its answer, when it is over. Building that
    /// allocates: it is not on the data path.
    pub(crate) fn search<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        let (Some(search), Some(tracer)) = (&mut self.search, &self.tracer) else { return };
        if !search.scan.step(&tracer.rings, SEARCHED_PER_TURN) {
            return;
        }
        let Some(search) = self.search.take() else { return };
        let Search { conn: id, life, message_id, scan } = *search;
        let Some(conn) = self.conns.open_mut(id).filter(|conn| conn.life == life) else { return };
        let (found, searched) = scan.into_found();
        let traces = found.iter().map(|found| row(&tracer.rings, &self.identities, found));
        let report = TraceReport { traces: traces.collect(), searched, ..TraceReport::default() };
        let mut frame = Vec::new();
        let made = wire::frame::append(&mut frame, &report, message_id, cx.epoch_ns);
        let sent = made.is_ok() && self.egress.append_long(cx.mem, &mut conn.outbox, &frame);
        if sent {
            self.mark_dirty(cx.now, id);
        } else {
            self.refuse_why(cx, id, message_id, ErrorCode::Overloaded);
        }
        self.credit_back(id, life);
    }

    fn refuse_why<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        message_id: u64,
        code: ErrorCode,
    ) {
        if !self.report(cx, id, message_id, Kind::TraceQuery, code, 0) {
            self.defer(id, message_id, code, 0);
        }
    }
}

/// A question, once its frame holds.
fn read<T>(
    header: &Header,
    payload: &[u8],
    then: impl FnOnce(&ArchivedTraceQuery) -> Result<T, ErrorCode>,
) -> Result<T, ErrorCode> {
    if header.checksum() != wire::check::crc16(payload) {
        return Err(ErrorCode::BadChecksum);
    }
    let mut aligned = Aligned([0; TRACE_QUERY_MAX]);
    let place = aligned.0.get_mut(..payload.len()).ok_or(ErrorCode::BadRequest)?;
    place.copy_from_slice(payload);
    payload::open::<TraceQuery>(place).map_err(PayloadFault::code).and_then(then)
}
