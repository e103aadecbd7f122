//! A client: what it still has to do, what it waits for, and its judgement of every answer.

use crate::{
    memory::aligned,
    plan::Plan,
    request::{Expect, Message, checked},
    script::Step,
    worker,
};
use dataplane_core::{
    driver::Time,
    limits::{MS, REFUSALS_IN_A_ROW},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire::{
    ErrorCode, HEADER_LEN, Header, Kind, Operation, Role, Roles,
    payload::{self, ErrorReport, Heartbeat, MetricsUpdate, TensorWork},
    reply::Chunk,
    response::{self, Response},
};

/// A message that was sent and not yet answered.
#[derive(Clone, Debug)]
pub struct Pending {
    expect: Expect,
    asked: Time,
    timeout_ms: u32,
    is_query: bool,
    is_retry: bool,
    cancelled: bool,
}

/// Why a connection's end is no surprise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// The client breaks it, or ends it inside a frame: answers may be lost.
    Broken,
    /// The client sent something fatal: what came before is still answered, then it ends.
    Fatal,
    /// The node had no room for it.
    Crowded,
}

/// Refusals that this run's faults make possible.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// Workers crash or state impossible outcomes.
    pub worker_failed: bool,
    /// The node is told to drain.
    pub draining: bool,
    /// Another process takes over from the node.
    pub leaving: bool,
    /// The node takes fewer connections than there are clients, or than it has.
    pub crowded: bool,
    /// The node refuses what would wait for too long.
    pub overloaded: bool,
    /// Its rate, its requests or its bytes are bounded.
    pub limited: bool,
    /// All its chunks together do not hold the node's figures.
    pub cramped: bool,
}

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which message it answers.
    pub id: u64,
    /// Its type.
    pub kind: Kind,
    /// The reason of a refusal.
    pub code: Option<ErrorCode>,
    /// When it was read.
    pub at: Time,
    /// When the message was sent; 0 where it answers none that waits.
    pub asked: Time,
}

/// What a refusal said besides its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// When to try again; 0: no advice.
    pub retry_after_ms: u32,
    /// The bound that was passed, or 0.
    pub limit: u64,
    /// What passed it, or 0.
    pub actual: u64,
}

/// A simulated client.
#[derive(Debug, Default)]
pub struct Client {
    /// What it still has to do.
    pub script: VecDeque<Step>,
    /// Its connection.
    pub socket: Option<usize>,
    /// Why its connection may end.
    pub doom: Option<Doom>,
    /// It said that nothing more will come.
    pub fin_sent: bool,
    /// Reads nothing before this moment.
    pub stalled_until: Time,
    /// A step is in the world's list of things due.
    pub scheduled: bool,
    /// Everything that was answered, over all its connections.
    pub answers: Vec<Answer>,
    /// What the refusals among them said.
    pub reports: Vec<Report>,
    /// The node has answered it on this connection, and not to say that there is no room.
    pub seated: bool,
    /// What it may be.
    pub roles: Roles,
    /// What it may ask for.
    operations: u32,
    /// Answers in a row that refuse it for who it is.
    refused: u32,
    /// Messages sent and not answered, of this connection.
    pub pending: BTreeMap<u64, Pending>,
    asked: BTreeSet<u64>,
    /// Of which requests it asked for the end.
    cancels: BTreeSet<u64>,
    /// Of a frame that ends inside: it may be refused on sight of its header.
    cut: Option<u64>,
    buffer: Vec<u8>,
}

impl Client {
    /// Client number `number` of this plan, with this script.
    #[must_use]
    pub fn of(script: Vec<Step>, plan: &Plan, number: usize) -> Self {
        let roles = plan.name(number).map_or(Roles::ALL, |(_, roles)| *roles);
        let operations = plan.allowance(number).operations;
        Self { script: script.into(), roles, operations, ..Self::default() }
    }

    /// Nothing left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.script.is_empty() && self.socket.is_none()
    }

    /// A new connection.
    pub fn connected(&mut self, socket: usize) {
        self.socket = Some(socket);
        self.doom = None;
        self.fin_sent = false;
        self.seated = false;
        self.refused = 0;
        self.pending.clear();
        self.asked.clear();
        self.cancels.clear();
        self.cut = None;
        self.buffer.clear();
    }

    /// A message leaves.
    pub fn sent(&mut self, now: Time, message: &Message) {
        if matches!(self.doom, Some(Doom::Fatal | Doom::Crowded)) {
            return;
        }
        if matches!(message.expect, Expect::Fatal(_)) {
            self.doom = Some(Doom::Fatal);
        }
        let is_query = message.frame[6..8] == Kind::QueryRequest.code().to_be_bytes();
        let expect = self.rightful(message);
        let timeout_ms = message.timeout_ms;
        self.asked.insert(message.id);
        let is_retry = is_query && message.attempt() > 0;
        let asked = now;
        let pending = Pending { expect, asked, timeout_ms, is_query, is_retry, cancelled: false };
        self.pending.insert(message.id, pending);
    }

    /// A request is taken back.
    pub fn cancelled(&mut self, id: u64) {
        self.cancels.insert(id);
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.cancelled = true;
        }
    }

    /// Too many refusals in a row for who it is, and the node gives up on it.
    fn count_refusals(&mut self, code: Option<ErrorCode>) {
        match code {
            Some(ErrorCode::Forbidden | ErrorCode::RateLimited) => self.refused += 1,
            _ => self.refused = 0,
        }
        if self.refused >= REFUSALS_IN_A_ROW {
            self.doom = Some(Doom::Broken);
        }
    }

    /// What this client must be answered with: what anybody is, where it may ask at all.
    fn rightful(&self, message: &Message) -> Expect {
        let code = u16::from_be_bytes([message.frame[6], message.frame[7]]);
        let forbidden = Expect::Refusal(ErrorCode::Forbidden);
        match (&message.expect, Kind::from_code(code)) {
            // Said of the header, before anybody is asked for.
            (Expect::Fatal(_) | Expect::Refusal(ErrorCode::UnknownCompression), _) | (_, None) => {
                message.expect.clone()
            }
            (_, Some(kind)) if !may_send(kind, self.roles) => forbidden,
            // Where the request itself is sound.
            (Expect::Reply { work, .. }, _) if self.operations & (1 << work.operation) == 0 => {
                forbidden
            }
            // Only a worker finds the damage.
            (Expect::Refusal(ErrorCode::BadCheck), _)
                if self.operations & (1 << Operation::Echo as u32) == 0 =>
            {
                forbidden
            }
            (expect, _) => expect.clone(),
        }
    }

    /// Bytes leave that make no whole frame.
    pub fn sent_raw(&mut self, bytes: &[u8]) {
        if self.doom.is_none() {
            self.doom = Some(Doom::Broken);
            self.cut = Header::peek(bytes).map(Header::message_id);
        }
    }

    /// The connection ended: by the node's half close or close, or by a reset.
    ///
    /// # Errors
    /// What was wrong with that.
    pub fn ended(&mut self, orderly: bool) -> Result<(), String> {
        let waits = self.pending.keys().next().copied();
        match self.doom {
            Some(Doom::Broken | Doom::Crowded) => Ok(()),
            Some(Doom::Fatal) if !orderly => Ok(()),
            None if !orderly => Err("a healthy connection was reset".into()),
            None if !self.fin_sent => Err("a healthy connection was closed".into()),
            _ if !self.buffer.is_empty() => Err("the connection ended inside a frame".into()),
            _ => match waits {
                Some(id) => Err(format!("the connection ended, and {id:x} was never answered")),
                None => Ok(()),
            },
        }
    }

    /// Reads bytes that came, and judges each whole frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&mut self, now: Time, bytes: &[u8], allowed: Allowed) -> Result<(), String> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(header) = Header::peek(&self.buffer[at..]).copied() {
            header.check(1 << 24).map_err(|f| format!("a frame of ours is bad: {f:?}"))?;
            let from = at + HEADER_LEN;
            let Some(payload) = self.buffer.get(from..from + header.payload_len() as usize) else {
                break;
            };
            at = from + payload.len();
            if wire::check::crc16(payload) != header.checksum() {
                return Err(format!("the answer to {:x} has a bad CRC-16", header.message_id()));
            }
            let payload = aligned(payload);
            self.judge(now, &header, payload.bytes(), allowed)
                .map_err(|what| format!("answer to {:x}: {what}", header.message_id()))?;
        }
        self.buffer.drain(..at);
        Ok(())
    }

    fn judge(
        &mut self,
        now: Time,
        header: &Header,
        payload: &[u8],
        allowed: Allowed,
    ) -> Result<(), String> {
        let id = header.message_id();
        let kind = header.kind().map_err(|_| format!("type {:x}", header.raw_kind()))?;
        let asked = self.pending.get(&id).map_or(0, |pending| pending.asked);
        let mut answer = Answer { id, kind, code: None, at: now, asked };
        if kind == Kind::ErrorReport {
            let report = payload::open::<ErrorReport>(payload).map_err(|f| f.to_string())?;
            let code = ErrorCode::from_code(report.code.to_native()).ok_or("an unknown code")?;
            answer.code = Some(code);
            self.reports.push(Report {
                retry_after_ms: report.retry_after_ms.to_native(),
                limit: report.limit.to_native(),
                actual: report.actual.to_native(),
            });
            if code == ErrorCode::Overloaded && report.retry_after_ms == 0 {
                return Err("refused without a hint on when to try again".into());
            }
            // A frame that was to take a request back is refused like any other.
            let of_cancel = report.offending_kind == Kind::ErrorReport.code()
                && matches!(code, ErrorCode::Forbidden | ErrorCode::RateLimited);
            if of_cancel && self.cancels.contains(&id) {
                return Ok(());
            }
        }
        self.answers.push(answer.clone());
        if answer.code == Some(ErrorCode::TooManyConnections) && allowed.crowded && id == 0 {
            self.doom = Some(Doom::Crowded);
            self.pending.clear();
            return Ok(());
        }
        if answer.code == Some(ErrorCode::Draining) && allowed.leaving && id == 0 {
            return Ok(());
        }
        if answer.code == Some(ErrorCode::PeerTooSlow) {
            // It is about the connection: a part of a frame, or nothing, is all that it had sent.
            self.doom = Some(Doom::Broken);
            return if self.pending.is_empty() { Ok(()) } else { Err("something waits".into()) };
        }
        self.seated = true;
        self.count_refusals(answer.code);
        if self.cut == Some(id) && answer.code.is_some() {
            self.cut = None;
            return Ok(());
        }
        let Some(pending) = self.pending.get_mut(&id) else {
            let what = if self.asked.contains(&id) { "answered twice" } else { "never asked" };
            return Err(format!("{what}: {answer:?}"));
        };
        let done = match answer.code {
            Some(code) => refusal(now, pending, code, allowed).map(|()| true)?,
            None => content(pending, id, kind, payload)?,
        };
        if done {
            self.pending.remove(&id);
        }
        Ok(())
    }
}

/// Whether somebody in these roles may send such a message to a node (W79), as far as clients of
/// this simulator do.
const fn may_send(kind: Kind, roles: Roles) -> bool {
    match kind {
        Kind::QueryRequest => roles.has(Role::Client),
        Kind::MetricsUpdate | Kind::TraceQuery => {
            roles.has(Role::Client) || roles.has(Role::Operator)
        }
        _ => !roles.is_empty(),
    }
}

/// Whether this refusal may come now.
fn refusal(now: Time, pending: &Pending, code: ErrorCode, allowed: Allowed) -> Result<(), String> {
    let deadline = pending.asked + Time::from(pending.timeout_ms) * MS;
    let fine = match (&pending.expect, code) {
        (Expect::Refusal(expected) | Expect::Fatal(expected), code) if *expected == code => true,
        // Who may not ask at all is not paced, nor is what is wrong with the header.
        (Expect::Refusal(ErrorCode::Forbidden), ErrorCode::RateLimited) => {
            allowed.limited && pending.is_query
        }
        (
            Expect::Fatal(_)
            | Expect::Refusal(ErrorCode::UnknownType | ErrorCode::UnknownCompression),
            ErrorCode::RateLimited,
        ) => false,
        (_, ErrorCode::RateLimited) => allowed.limited,
        (_, ErrorCode::Draining) => allowed.draining && pending.is_query,
        (_, ErrorCode::Overloaded) => allowed.overloaded && pending.is_query,
        (_, ErrorCode::Cancelled) => pending.cancelled && pending.is_query,
        (_, ErrorCode::Duplicate) => pending.is_retry,
        (Expect::Metrics, ErrorCode::ReplyTooLong) => allowed.cramped,
        (Expect::Reply { .. } | Expect::Refusal(ErrorCode::BadCheck), code) => match code {
            ErrorCode::DeadlineExceeded if pending.timeout_ms == 0 => false,
            ErrorCode::DeadlineExceeded if now < deadline => {
                return Err(format!("its deadline is {deadline}, and it is {now}"));
            }
            ErrorCode::DeadlineExceeded => true,
            ErrorCode::WorkerFailed => allowed.worker_failed,
            _ => false,
        },
        _ => false,
    };
    if fine { Ok(()) } else { Err(format!("refused with {code:?}, expected {:?}", pending.expect)) }
}

/// Compares an answer with what was asked. True when it was the last frame of the answer.
fn content(pending: &mut Pending, id: u64, kind: Kind, payload: &[u8]) -> Result<bool, String> {
    match (&mut pending.expect, kind) {
        (Expect::Pong, Kind::Heartbeat) if payload.is_empty() => Ok(true),
        (Expect::Heartbeat(sent), Kind::Heartbeat) => {
            let beat = payload::open::<Heartbeat>(payload).map_err(|f| f.to_string())?;
            if beat.sent_ns.to_native() != *sent || beat.replied_ns.to_native() == 0 {
                return Err("a heartbeat with wrong timestamps".into());
            }
            Ok(true)
        }
        (Expect::Metrics, Kind::MetricsUpdate) => {
            let update = payload::open::<MetricsUpdate>(payload).map_err(|f| f.to_string())?;
            if update.counters.is_empty() { Err("no counters".into()) } else { Ok(true) }
        }
        (Expect::Reply { work, rows, query_id, streaming, next }, Kind::QueryResponse) => {
            let response = response::read(payload).map_err(|f| f.to_string())?;
            if response.root.query_id != *query_id {
                return Err("the query id of another request".into());
            }
            let known = checked(work, *streaming).ok_or("work that should have been refused")?;
            let chunk = wire::reply::chunks(&known)
                .nth(*next as usize)
                .ok_or_else(|| format!("chunk {next}, which is one too many"))?;
            result(id, work, rows, &chunk, &response)?;
            *next += 1;
            Ok(chunk.is_final)
        }
        (expect, kind) => Err(format!("answered by {kind:?}, expected {expect:?}")),
    }
}

/// Compares one chunk's rows with what the workers of this simulator compute.
fn result(
    id: u64,
    work: &TensorWork,
    rows: &[u8],
    chunk: &Chunk,
    response: &Response<'_>,
) -> Result<(), String> {
    let place = &response.root.streaming_chunk;
    if place.chunk_index.to_native() != chunk.index || place.is_final != chunk.is_final {
        return Err(format!("chunk {}, expected {chunk:?}", place.chunk_index.to_native()));
    }
    let row_len = rows.len() / work.rows.max(1) as usize;
    let first = chunk.first_row as usize * row_len;
    let mine = &rows[first..first + chunk.rows as usize * row_len];
    let fine = if let Some(echo) = response.echo {
        echo.data == mine && (echo.rows, echo.cols) == (chunk.rows, work.cols)
    } else if let Some(top) = response.logits {
        let shape = (top.rows, top.k, top.cols) == (chunk.rows, work.k, work.cols);
        shape
            && (0..chunk.rows)
                .all(|row| worker::top_row(id, row, work) == top.row_indices(row as usize))
    } else if let Some(int8) = response.hidden_states {
        let codes = int8.codes.iter().zip(mine.chunks_exact(row_len / work.cols as usize));
        let mut same = codes.map(|(code, element)| *code == worker::code(id, element));
        (int8.rows, int8.cols) == (chunk.rows, work.cols) && same.all(|same| same)
    } else {
        false
    };
    if fine { Ok(()) } else { Err(format!("the content is not that of {work:?}")) }
}
