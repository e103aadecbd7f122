//! The shard, its memory, its mesh, and an OS that takes everything unless told otherwise.

use dataplane_core::{
    Geometry, Limits, NodeStats, Shard, Stats,
    driver::{Caller, ConnId, Event, SEGMENTS_MAX, Segment, Time},
    memory::{ChunkId, Memory, SlotId},
    mesh_port::{Down, MeshEnd, Up, port},
    schedule::{ScheduledSend, Volley, VolleyReport},
    shard::{Cx, Order},
};
use std::{collections::HashMap, sync::Arc};
use wire::{
    Compression, HEADER_LEN, Header, Kind, Outcome,
    mesh::{PerAgent, Template},
    payload::{
        Payload,
        mesh::{Ack, AgentHeartbeat, Coordinate},
    },
};

pub(crate) const EPOCH: u64 = 1_700_000_000_000_000_000;

pub(crate) const GEOMETRY: Geometry = Geometry {
    small_slots: 8,
    small_request: 512,
    small_reply: 512,
    bulk_slots: 4,
    bulk_request: 32 << 10,
    bulk_reply: 512,
    chunks: 8,
    chunk_len: 4 << 10,
};

/// Sizes of a desk; the defaults are roomy.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) up: usize,
    pub(crate) scheduled: u32,
    pub(crate) chunks: u32,
    pub(crate) unsent: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { up: 1_024, scheduled: 20_000, chunks: GEOMETRY.chunks, unsent: 1 << 20 }
    }
}

pub(crate) struct Bytes {
    geometry: Geometry,
    slots: Vec<Vec<u8>>,
    chunks: Vec<Vec<u8>>,
}

impl Memory for Bytes {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn request(&self, slot: SlotId) -> &[u8] {
        &self.slots[slot.0 as usize]
    }
    fn request_mut(&mut self, slot: SlotId) -> &mut [u8] {
        &mut self.slots[slot.0 as usize]
    }
    fn request_pair(&mut self, from: SlotId, to: SlotId) -> (&[u8], &mut [u8]) {
        let [from, to] =
            self.slots.get_disjoint_mut([from.0 as usize, to.0 as usize]).expect("two slots");
        (from, to)
    }
    fn reply(&self, _: SlotId) -> &[u8] {
        &[]
    }
    fn set_order(&mut self, _: SlotId, _: &wire::Order) {}
    fn outcome(&self, _: SlotId) -> Outcome {
        Outcome::default()
    }
    fn chunk(&self, chunk: ChunkId) -> &[u8] {
        &self.chunks[chunk.0 as usize]
    }
    fn chunk_mut(&mut self, chunk: ChunkId) -> &mut [u8] {
        &mut self.chunks[chunk.0 as usize]
    }
    fn copy_reply(&mut self, _: SlotId, _: u32, _: ChunkId, _: u32, _: u32) {}
}

/// What a connection has in front of it.
#[derive(Default)]
struct Port {
    /// Bytes that came and were not used.
    rest: Vec<u8>,
    paused: bool,
    /// A stretch of a slot to fill: slot, from, bytes.
    fill: Option<(SlotId, usize, usize)>,
    /// A header to read, so many bytes of it.
    head: Option<usize>,
    direct: bool,
}

pub(crate) struct Desk {
    pub(crate) shard: Shard,
    pub(crate) mem: Bytes,
    pub(crate) end: MeshEnd,
    pub(crate) stats: Arc<Stats>,
    pub(crate) now: Time,
    /// The OS takes nothing of what is sent.
    pub(crate) stuck: bool,
    /// Every transmit: to whom, and what.
    pub(crate) sent: Vec<(ConnId, Vec<u8>)>,
    under_way: Vec<(ConnId, u32)>,
    ports: HashMap<ConnId, Port>,
}

impl Desk {
    pub(crate) fn new(sizes: Sizes) -> Self {
        let geometry = Geometry { chunks: sizes.chunks, ..GEOMETRY };
        let stats = Stats::new();
        let node = NodeStats::new(vec![Arc::clone(&stats)], 1);
        let limits =
            Limits { connections: 64, unsent_per_connection: sizes.unsent, ..Limits::default() };
        let (port, end) = port(sizes.up, 64);
        let shard = Shard::new(limits, geometry, 1, Arc::clone(&stats), node)
            .with_mesh(port, sizes.scheduled);
        let len = |slot| geometry.request_cap(SlotId(slot)) as usize;
        let mem = Bytes {
            geometry,
            slots: (0..geometry.slots()).map(|slot| vec![0; len(slot)]).collect(),
            chunks: vec![vec![0; geometry.chunk_len as usize]; geometry.chunks as usize],
        };
        Self {
            shard,
            mem,
            end,
            stats,
            now: 1_000_000,
            stuck: false,
            sent: Vec::new(),
            under_way: Vec::new(),
            ports: HashMap::new(),
        }
    }

    fn with_shard<R>(&mut self, act: impl FnOnce(&mut Shard, &mut Cx<'_, Bytes>) -> R) -> R {
        let (now, epoch_ns) = (self.now, EPOCH + self.now);
        act(&mut self.shard, &mut Cx { now, epoch_ns, mem: &mut self.mem })
    }

    pub(crate) fn event(&mut self, event: Event<'_>) {
        self.with_shard(|shard, cx| shard.handle(cx, event));
    }

    /// A connection; its first life is 1.
    pub(crate) fn connect(&mut self, index: u32) -> ConnId {
        let conn = ConnId(index);
        self.ports.insert(conn, Port::default());
        self.event(Event::Accepted { conn, who: Caller::LOCAL });
        self.turn();
        conn
    }

    /// The peer is gone.
    pub(crate) fn hang_up(&mut self, conn: ConnId) {
        self.event(Event::Failed { conn });
        self.turn();
    }

    /// Bytes come, then a turn.
    pub(crate) fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.ports.entry(conn).or_default().rest.extend_from_slice(bytes);
        self.deliver(conn);
        self.turn();
    }

    fn deliver(&mut self, conn: ConnId) {
        let Some(port) = self.ports.get_mut(&conn) else { return };
        if let Some((slot, from, len)) = port.fill.filter(|fill| port.rest.len() >= fill.2) {
            port.fill = None;
            let bytes: Vec<u8> = port.rest.drain(..len).collect();
            self.mem.slots[slot.0 as usize][from..from + len].copy_from_slice(&bytes);
            self.event(Event::Filled { conn });
        } else if let Some(len) = port.head.filter(|len| port.rest.len() >= *len) {
            port.head = None;
            let bytes: Vec<u8> = port.rest.drain(..len).collect();
            let used = self.with_shard(|shard, cx| shard.handle_bytes(cx, conn, &bytes));
            assert_eq!(used, len, "a header is used whole");
        } else if !port.direct && !port.paused && !port.rest.is_empty() {
            let bytes = std::mem::take(&mut port.rest);
            let used = self.with_shard(|shard, cx| shard.handle_bytes(cx, conn, &bytes));
            let Some(port) = self.ports.get_mut(&conn) else { return };
            port.paused = used < bytes.len();
            port.rest = bytes[used..].to_vec();
        }
    }

    /// One turn: time, orders, transmits.
    pub(crate) fn turn(&mut self) {
        self.with_shard(|shard, cx| shard.advance(cx));
        while let Some((conn, order)) = self.shard.poll_order() {
            self.carry_out(conn, order);
        }
        let mut segments = [Segment::Chunk { chunk: ChunkId(0), from: 0, len: 0 }; SEGMENTS_MAX];
        while let Some((conn, count)) = self.shard.poll_transmit(&mut segments) {
            let mut bytes = Vec::new();
            for segment in &segments[..count] {
                let Segment::Chunk { chunk, from, len } = *segment else {
                    panic!("a reply by reference")
                };
                bytes.extend_from_slice(
                    &self.mem.chunk(chunk)[from as usize..(from + len) as usize],
                );
            }
            self.under_way.push((conn, bytes.len() as u32));
            self.sent.push((conn, bytes));
        }
        self.take_sent();
    }

    /// The OS takes what is under way, unless it is stuck.
    pub(crate) fn take_sent(&mut self) {
        if !self.stuck {
            for (conn, bytes) in std::mem::take(&mut self.under_way) {
                self.event(Event::Sent { conn, bytes });
            }
        }
    }

    fn carry_out(&mut self, conn: ConnId, order: Order) {
        let port = self.ports.entry(conn).or_default();
        match order {
            Order::StartStream => (port.paused, port.direct) = (false, false),
            Order::StopStream => {
                port.direct = true;
                self.event(Event::StreamStopped { conn });
            }
            Order::FillHeader { len } => port.head = Some(len as usize),
            Order::FillSlot { slot, from, len } => {
                port.fill = Some((slot, from as usize, len as usize));
            }
            Order::Finish => {}
            Order::Close => {
                self.ports.remove(&conn);
                self.under_way.retain(|(other, _)| *other != conn);
                self.event(Event::Closed { conn });
            }
        }
        self.deliver(conn);
    }

    /// Turns as long as the shard asks for one at once.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000 {
            self.turn();
            if self.shard.next_wakeup().is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!("the shard spins: {:?} at {}", self.shard.next_wakeup(), self.now);
    }

    /// Everything that went up, the mesh's thread waking the shard as it would.
    pub(crate) fn ups(&mut self) -> Vec<Up> {
        std::iter::from_fn(|| self.end.pop()).collect()
    }

    /// The reports among what went up; nothing else may be there.
    pub(crate) fn reports(&mut self) -> Vec<VolleyReport> {
        let report = |up| match up {
            Up::VolleyDone(report) => *report,
            other => panic!("{other:?}"),
        };
        self.ups().into_iter().map(report).collect()
    }

    pub(crate) fn push(&mut self, down: Down) {
        self.end.push(down).expect("room in the ring down");
    }

    pub(crate) fn volley(&mut self, number: u32, volley: Volleyed<'_>) {
        let Volleyed { template, expires, priority, sends } = volley;
        let volley = Volley::new(number, 3, template.clone(), expires, priority, sends);
        self.push(Down::Volley(Box::new(volley)));
    }

    /// The frames sent so far, one by one; forgets them.
    pub(crate) fn frames(&mut self) -> Vec<(ConnId, Header, Vec<u8>)> {
        let mut frames = Vec::new();
        for (conn, bytes) in self.sent.drain(..) {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let header = *Header::peek(rest).expect("whole frames");
                let len = HEADER_LEN + header.payload_len() as usize;
                let payload = rest[HEADER_LEN..len].to_vec();
                assert_eq!(header.checksum(), wire::check::crc16(&payload));
                frames.push((conn, header, payload));
                rest = &rest[len..];
            }
        }
        frames
    }
}

/// A volley without its number.
pub(crate) struct Volleyed<'a> {
    pub(crate) template: &'a Template,
    pub(crate) expires: Time,
    pub(crate) priority: u8,
    pub(crate) sends: Vec<ScheduledSend>,
}

impl<'a> Volleyed<'a> {
    pub(crate) fn new(template: &'a Template, sends: Vec<ScheduledSend>) -> Self {
        Self { template, expires: Time::MAX, priority: 1, sends }
    }
}

pub(crate) fn template(len: usize) -> Template {
    Template::new(&Coordinate { payload: vec![7; len], ..Coordinate::default() }, 0).unwrap()
}

pub(crate) fn send(at: Time, conn: u32, handle: u32) -> ScheduledSend {
    let agent = PerAgent { handle, generation: 1, lead_us: 50, expected_us: 9, confidence: 0.5 };
    ScheduledSend { at, conn: ConnId(conn), life: 1, agent }
}

/// A payload where it can be read.
#[repr(align(16))]
pub(crate) struct Aligned([u8; 4_096], usize);

impl Aligned {
    pub(crate) fn new(payload: &[u8]) -> Self {
        let mut bytes = [0; 4_096];
        bytes[..payload.len()].copy_from_slice(payload);
        Self(bytes, payload.len())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

pub(crate) fn frame<T: Payload>(value: &T, message_id: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::frame::append(&mut frame, value, message_id, 1).unwrap();
    frame
}

/// The same frame with its payload compressed.
pub(crate) fn compressed(frame: &[u8], compression: Compression) -> Vec<u8> {
    let header = Header::peek(frame).unwrap();
    let mut payload = Vec::new();
    wire::pack::compress(compression, &frame[HEADER_LEN..], &mut payload).unwrap();
    let kind = header.kind().unwrap();
    let header =
        Header::for_payload(kind, header.message_id(), 1, &payload).with_compression(compression);
    [zerocopy::IntoBytes::as_bytes(&header), &payload].concat()
}

pub(crate) fn beat(handle: u32, sent_ns: u64) -> Vec<u8> {
    let beat = AgentHeartbeat { handle, generation: 1, sent_ns, ..AgentHeartbeat::default() };
    frame(&beat, u64::from(handle))
}

pub(crate) fn ack(handle: u32) -> Vec<u8> {
    frame(&Ack { handle, ..Ack::default() }, u64::from(handle))
}

/// Kind, message id and payload of a frame that went up.
pub(crate) fn seen(up: &Up) -> (ConnId, Kind, u64, Vec<u8>) {
    match up {
        Up::Frame { conn, kind, message_id, len, bytes, .. } => {
            (*conn, *kind, *message_id, bytes.0[..usize::from(*len)].to_vec())
        }
        Up::Long { conn, kind, message_id, payload, .. } => {
            (*conn, *kind, *message_id, payload.to_vec())
        }
        other => panic!("{other:?}"),
    }
}
