//! The network between clients and the node, and the node's OS: pieces, delays, windows, partial
//! sends.

use crate::{
    driver::{Act, Queued},
    port::{Phase, Reading},
    world::{Due, World},
};
use dataplane_core::{
    driver::{Caller, ConnId, Segment, Time},
    memory::SlotId,
};
use std::collections::VecDeque;

/// Bytes that the driver takes from the OS ahead of the shard.
const RECEIVE_ROOM: usize = 64 << 10;

/// Most pieces that one write is cut into.
const PIECES_MAX: u64 = 64;

/// One TCP connection, from both ends.
#[derive(Debug)]
pub struct Socket {
    /// Whose.
    pub client: usize,
    /// The node's end, until it is closed.
    pub conn: Option<ConnId>,
    /// Toward the node, with times of arrival.
    up: VecDeque<(Time, Vec<u8>)>,
    up_last: Time,
    /// Arrived at the node's OS.
    inbound: VecDeque<Vec<u8>>,
    inbound_len: usize,
    /// The client's end comes after `up`.
    fin: bool,
    /// Toward the client, with times of arrival.
    down: VecDeque<(Time, Vec<u8>)>,
    down_last: Time,
    /// Sent by the node and not yet read.
    down_len: usize,
    /// The node's end comes after `down`; `true` for an orderly one.
    node_end: Option<bool>,
    /// The client has seen the end, or broken the connection.
    over: bool,
}

/// The first piece, if it has arrived.
fn arrived(pieces: &mut VecDeque<(Time, Vec<u8>)>, now: Time) -> Option<Vec<u8>> {
    if pieces.front()?.0 > now {
        return None;
    }
    pieces.pop_front().map(|(_, piece)| piece)
}

impl Socket {
    const fn new(client: usize, conn: ConnId) -> Self {
        Self {
            client,
            conn: Some(conn),
            up: VecDeque::new(),
            up_last: 0,
            inbound: VecDeque::new(),
            inbound_len: 0,
            fin: false,
            down: VecDeque::new(),
            down_last: 0,
            down_len: 0,
            node_end: None,
            over: false,
        }
    }
}

impl World {
    /// A client connects. False when the node's table has no place, for its connection or its name.
    pub(crate) fn connect(&mut self, client: usize) -> bool {
        let who = match self.plan.name(client) {
            Some((name, roles)) => self.identities.identify(name, *roles),
            None => Some(Caller::LOCAL),
        };
        let Some(who) = who else { return false };
        let Some(conn) = self.driver.free.pop() else { return false };
        let socket = self.sockets.len();
        self.sockets.push(Socket::new(client, conn));
        self.driver.port(conn).socket = Some(socket);
        self.driver.accept(conn, who);
        self.clients[client].connected(socket);
        true
    }

    /// A client writes; `pieces` says how it arrives, otherwise the network decides.
    pub(crate) fn write(&mut self, socket: usize, bytes: &[u8], pieces: Option<(&[usize], Time)>) {
        let net = self.plan.network.clone();
        let exact = pieces.is_some();
        let (cuts, gap) = pieces.unwrap_or_default();
        let mut cuts = cuts.iter().filter(|len| **len > 0);
        let least = (bytes.len() as u64 / PIECES_MAX).max(1);
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = match cuts.next() {
                Some(len) => *len as u64,
                None => self.rng.range(1, net.piece_max.max(1)).max(least),
            };
            let len = if !exact && net.piece_max == u64::MAX { u64::MAX } else { len };
            let (piece, more) = rest.split_at(len.min(rest.len() as u64) as usize);
            rest = more;
            let delay = self.rng.below(net.delay_max + 1);
            let to = &mut self.sockets[socket];
            // Each exact piece gets a turn of its own.
            let at = if exact {
                to.up_last.max(self.now) + gap
            } else {
                to.up_last.max(self.now + delay)
            };
            to.up_last = at;
            to.up.push_back((at, piece.to_vec()));
            self.at(at, Due::Arrive(socket));
        }
    }

    /// A client says that nothing more will come.
    pub(crate) fn finish_up(&mut self, socket: usize) {
        self.sockets[socket].fin = true;
        let at = self.sockets[socket].up_last.max(self.now);
        self.at(at, Due::Arrive(socket));
    }

    /// A client breaks the connection.
    pub(crate) fn reset(&mut self, socket: usize) {
        let lost = self.rng.chance(50);
        let broken = &mut self.sockets[socket];
        broken.over = true;
        if lost {
            broken.up.clear();
            broken.inbound.clear();
            broken.inbound_len = 0;
        }
        let Some(conn) = broken.conn else { return };
        let port = self.driver.port(conn);
        if port.phase == Phase::Open && !port.failed {
            port.failed = true;
            port.rx.clear();
            self.driver.events.push_back(Queued::Failed(conn));
        }
    }

    /// Bytes reach the node's OS, as far as its window goes.
    pub(crate) fn arrive(&mut self, socket: usize) {
        let window = self.plan.network.window_up;
        let to = &mut self.sockets[socket];
        while to.inbound_len < window
            && let Some(piece) = arrived(&mut to.up, self.now)
        {
            to.inbound_len += piece.len();
            to.inbound.push_back(piece);
        }
        if let Some(conn) = to.conn {
            self.receive(conn);
        }
    }

    /// The OS hands on what has arrived, to whatever the driver was ordered to read.
    pub(crate) fn receive(&mut self, conn: ConnId) {
        let port = &mut self.driver.ports[conn.0 as usize];
        let Some(socket) = port.socket.filter(|_| port.wants()) else { return };
        let room = RECEIVE_ROOM.saturating_sub(port.rx.iter().map(Vec::len).sum());
        let streams = matches!(port.reading, Reading::Stream | Reading::Stopping);
        let from = &mut self.sockets[socket];
        if streams && room == 0 {
            return;
        }
        if let Some(mut piece) = from.inbound.pop_front() {
            let exact = self.plan.network.piece_max == u64::MAX;
            while !exact && piece.len() < 16_384 && !from.inbound.is_empty() && self.rng.chance(50)
            {
                piece.extend(from.inbound.pop_front().unwrap_or_default());
            }
            from.inbound_len -= piece.len();
            let rest = self.take_in(conn, piece);
            let from = &mut self.sockets[socket];
            if !rest.is_empty() {
                from.inbound_len += rest.len();
                from.inbound.push_front(rest);
            }
            let pause = self.rng.below(self.plan.network.effect_max / 8 + 1);
            self.after(pause, Due::Arrive(socket));
        } else if from.fin && from.up.is_empty() {
            let port = self.driver.port(conn);
            port.fin = true;
            if !streams {
                port.reading = Reading::Idle;
            }
        }
        self.driver.settle(conn);
    }

    /// Puts received bytes where they were ordered to; returns those that go elsewhere.
    fn take_in(&mut self, conn: ConnId, mut piece: Vec<u8>) -> Vec<u8> {
        let port = self.driver.port(conn);
        match &mut port.reading {
            Reading::Idle => piece,
            Reading::Stream | Reading::Stopping => {
                port.rx.push_back(piece);
                Vec::new()
            }
            Reading::Header { len, got } => {
                let rest = piece.split_off(piece.len().min(*len - got.len()));
                got.extend_from_slice(&piece);
                if got.len() == *len {
                    let header = std::mem::take(got);
                    port.reading = Reading::Idle;
                    self.driver.events.push_back(Queued::Header(conn, header));
                }
                rest
            }
            Reading::Slot { slot, at, end } => {
                let rest = piece.split_off(piece.len().min((*end - *at) as usize));
                self.mem.receive(*slot, *at, &piece);
                *at += piece.len() as u32;
                let slot = *slot;
                if at == end {
                    port.reading = Reading::Idle;
                    self.driver.events.push_back(Queued::Filled(conn, slot));
                }
                rest
            }
        }
    }

    /// The orders of a turn take effect, some at once, some later.
    pub(crate) fn carry_out(&mut self) {
        for act in std::mem::take(&mut self.driver.acts) {
            let delay = self.rng.below(self.plan.network.effect_max + 1);
            match act {
                Act::Receive(conn) => {
                    if let Some(socket) = self.driver.port(conn).socket {
                        self.after(delay / 8, Due::Arrive(socket));
                    }
                }
                Act::Stop(conn) => self.for_socket(conn, delay, Due::Stopped),
                Act::Transmit(conn) => {
                    let bytes = self.gather(conn);
                    self.driver.port(conn).snapshot = bytes;
                    self.for_socket(conn, delay, Due::Take);
                }
                Act::Finish(conn) => {
                    if let Some(socket) = self.driver.port(conn).socket {
                        self.sockets[socket].node_end = Some(true);
                        let at = self.sockets[socket].down_last.max(self.now);
                        self.at(at, Due::Deliver(socket));
                    }
                }
                Act::Close(conn) => self.for_socket(conn, delay, Due::Closed),
            }
        }
    }

    fn for_socket(&mut self, conn: ConnId, delay: Time, due: impl Fn(usize) -> Due) {
        if let Some(socket) = self.driver.port(conn).socket {
            self.after(delay, due(socket));
        }
    }

    /// A stop takes effect: what the OS has by now still comes.
    pub(crate) fn stopped(&mut self, socket: usize) {
        let Some(conn) = self.sockets[socket].conn else { return };
        let port = self.driver.port(conn);
        if port.phase == Phase::Open && port.reading == Reading::Stopping && !port.failed {
            port.stop_done = true;
            self.driver.settle(conn);
        }
    }

    /// The bytes of the transmit under way, as they are in memory now.
    fn gather(&self, conn: ConnId) -> Vec<u8> {
        let mut bytes = Vec::new();
        let segments = self.driver.ports[conn.0 as usize].sending.iter().flatten();
        for segment in segments {
            let (area, from) = match segment {
                Segment::Chunk { chunk, from, .. } => (self.mem.outgoing_chunk(*chunk), *from),
                Segment::Reply { slot, from, .. } => (self.mem.outgoing(*slot), *from),
            };
            bytes.extend_from_slice(&area[from as usize..(from + segment.len()) as usize]);
        }
        bytes
    }

    /// The OS takes bytes of a transmit, as many as the client's window lets it.
    pub(crate) fn take(&mut self, socket: usize) {
        let Some(conn) = self.sockets[socket].conn else { return };
        let port = &self.driver.ports[conn.0 as usize];
        if port.phase != Phase::Open || port.failed || port.sending.is_none() {
            return;
        }
        let now = self.gather(conn);
        let port = &mut self.driver.ports[conn.0 as usize];
        if now != port.snapshot {
            self.custody.breach(format!("bytes changed while {conn:?} sent them"));
        }
        let to = &mut self.sockets[socket];
        let free = self.plan.network.window_down.saturating_sub(to.down_len);
        if free == 0 {
            // The client's reading sets it going again.
            return;
        }
        let mut taken = now.len().min(free) as u64;
        if self.rng.chance(self.plan.network.partial_sends) {
            taken = self.rng.range(1, taken);
        }
        let segments = port.sending.take().unwrap_or_default();
        let mut bytes = now;
        bytes.truncate(taken as usize);
        to.down_len += bytes.len();
        let delay = self.rng.below(self.plan.network.delay_max + 1);
        let at = to.down_last.max(self.now + delay);
        to.down_last = at;
        to.down.push_back((at, bytes));
        self.at(at, Due::Deliver(socket));
        self.driver.events.push_back(Queued::Sent(conn, taken as u32));
        self.release_sent(conn, &segments, taken);
    }

    /// Slots whose reply is wholly sent are nobody's any more: poisoned.
    fn release_sent(&mut self, conn: ConnId, segments: &[Segment], mut taken: u64) {
        let mine = crate::custody::Holder::Sending(conn);
        self.custody.release(|h| h == mine);
        for segment in segments {
            let whole = taken >= u64::from(segment.len());
            taken = taken.saturating_sub(u64::from(segment.len()));
            if let Segment::Reply { slot, from, len } = segment
                && whole
                && from + len == self.mem.stated(*slot).reply_len
            {
                self.wipe(*slot);
            }
        }
    }

    fn wipe(&mut self, slot: SlotId) {
        self.mem.poison_reply(slot);
        self.mem.poison_request(slot);
    }

    /// A transmit ends with its connection: until now the OS could read its bytes. What it had
    /// taken by then it may still say.
    fn cancel_send(&mut self, conn: ConnId) {
        if self.driver.port(conn).sending.is_none() {
            return;
        }
        let now = self.gather(conn);
        if now != self.driver.port(conn).snapshot {
            self.custody.breach(format!("bytes changed while {conn:?} was being closed"));
        }
        if self.rng.chance(50) {
            let taken = self.rng.below(now.len() as u64) as u32;
            self.driver.events.push_back(Queued::Sent(conn, taken));
        }
    }

    /// The node's end of a connection is gone.
    pub(crate) fn closed(&mut self, socket: usize) {
        let Some(conn) = self.sockets[socket].conn.take() else { return };
        self.cancel_send(conn);
        let ended = &mut self.sockets[socket];
        let unread = ended.inbound_len > 0 || !ended.up.is_empty();
        if ended.node_end.is_none() {
            ended.node_end = Some(!unread);
            if unread && self.rng.chance(50) {
                ended.down.clear();
            }
        }
        ended.inbound.clear();
        ended.up.clear();
        let at = ended.down_last.max(self.now);
        self.at(at, Due::Deliver(socket));
        self.driver.events.push_back(Queued::Closed(conn));
    }

    /// Bytes, or the end, reach the client.
    pub(crate) fn deliver(&mut self, socket: usize) {
        let from = &mut self.sockets[socket];
        let client = from.client;
        if from.over || self.clients[client].socket != Some(socket) {
            return;
        }
        let stalled = self.clients[client].stalled_until;
        if stalled > self.now {
            self.at(stalled, Due::Deliver(socket));
            return;
        }
        let mut bytes = Vec::new();
        while let Some(piece) = arrived(&mut from.down, self.now) {
            bytes.extend(piece);
        }
        from.down_len -= bytes.len();
        let end = from.node_end.filter(|_| from.down.is_empty());
        if !bytes.is_empty() {
            let allowed = self.allowed(client);
            let read = self.clients[client].read(self.now, &bytes, allowed);
            self.judge(client, read);
            let seats = self.accounts.seats(&self.plan, &self.clients, &self.sockets);
            self.judge(client, seats);
            self.after(0, Due::Take(socket));
        }
        if let Some(orderly) = end {
            self.sockets[socket].over = true;
            let ended = self.clients[client].ended(orderly);
            self.judge(client, ended);
            self.leave(client);
        }
        self.wake(client);
    }
}
