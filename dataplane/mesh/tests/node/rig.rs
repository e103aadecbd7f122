//! Nodes, agents and connections in virtual time, scripted: what each agent does with a message is
//! set by the test.

mod report;

pub(crate) use report::Report;

use mesh::{
    MS, SECOND, Time,
    node::{AckView, Config, Effect, Effects, Mesh, Now, Peer, Record, VolleyOrder, VolleyReport},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};
use wire::{
    ErrorCode, HEADER_LEN, Header, Kind,
    mesh::{AgentClass, BEAT_LEN, PerAgent, Trinary, write_beat_reply},
    payload::{
        ErrorReport, access,
        mesh::{
            AgentHeartbeat, AgentRecord, AgentRegistered, AgentRegistration, Coordinate, Gather,
            Place,
        },
    },
};

/// Wall time of node time 0.
pub(crate) const EPOCH: u64 = 1_700_000_000 * SECOND;
/// One way between any two ends.
pub(crate) const DELAY: Time = 2 * MS;

/// What an agent does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// READY after so long.
    Ready(Time),
    /// CONFLICT at once.
    Conflict,
    /// TRANSIT at once, nothing more.
    Transit,
    /// TRANSIT at once, READY after so long.
    TransitThenReady(Time),
    /// READY after so long, said three times.
    Thrice(Time),
    /// CONFLICT, then READY.
    Fickle(Time),
    /// Nothing.
    Silent,
    /// Its connection ends when the message comes.
    Dies,
}

/// An agent of the rig.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agent {
    pub node: usize,
    pub peer: Peer,
    pub place: Place,
    pub act: Act,
    /// Its clock minus the node's.
    pub offset: i64,
    pub got: u32,
}

enum Event {
    Frame {
        node: usize,
        from: Peer,
        frame: Vec<u8>,
    },
    Volley {
        node: usize,
        order: VolleyOrder,
    },
    Copy {
        node: usize,
        handle: u32,
        generation: u32,
        left: Time,
        order: VolleyOrder,
    },
    Ack {
        agent: usize,
        state: Trinary,
        message_id: [u8; 16],
        left: Time,
        received: Time,
        target: Time,
    },
    Gone {
        node: usize,
        peer: Peer,
    },
}

/// A connection between two nodes: the child's end and the parent's.
struct Wire {
    child: (usize, Peer),
    parent: (usize, Peer),
    is_up: bool,
}

pub(crate) struct Rig {
    pub now: Time,
    pub nodes: Vec<Mesh>,
    pub agents: Vec<Agent>,
    /// Frames for operators: node, connection, frame.
    pub inbox: Vec<(usize, Peer, Vec<u8>)>,
    pub records: Vec<Record>,
    pub closed: Vec<Peer>,
    /// Copies that shards drop instead of sending, of every volley: the first so many.
    pub refuse: usize,
    /// Shard and send time of every copy.
    pub left: Vec<(u16, Time)>,
    /// GATHERs between nodes: over which connection, and their ids.
    asked: Vec<(Peer, u64)>,
    /// A node that no frame reaches any more.
    pub deaf: Option<usize>,
    events: BinaryHeap<Reverse<(Time, u64)>>,
    bodies: BTreeMap<u64, Event>,
    wires: Vec<Wire>,
    seq: u64,
    conns: u32,
}

pub(crate) fn aligned<R>(frame: &[u8], read: impl FnOnce(&[u8]) -> R) -> R {
    let bytes = &frame[HEADER_LEN..];
    let mut copy = vec![0; bytes.len() + 16];
    let at = copy.as_ptr().align_offset(16);
    copy[at..at + bytes.len()].copy_from_slice(bytes);
    read(&copy[at..at + bytes.len()])
}

pub(crate) fn kind(frame: &[u8]) -> Kind {
    Header::peek(frame).expect("a header").kind().expect("known")
}

impl Rig {
    /// Nodes without agents and without connections between them.
    pub(crate) fn new(nodes: usize, agents: u32) -> Self {
        Self::with(nodes, agents, 0)
    }

    /// Nodes whose shards keep their sends this far apart.
    pub(crate) fn with(nodes: usize, agents: u32, send_gap: Time) -> Self {
        let node = |at: usize| {
            let config = Config {
                node_id: [at as u8 + 1; 16],
                name: format!("node-{at}"),
                agents,
                gathers: 4,
                send_gap,
                ..Config::default()
            };
            Mesh::new(&config, at as u64)
        };
        Self {
            now: SECOND,
            nodes: (0..nodes).map(node).collect(),
            agents: Vec::new(),
            inbox: Vec::new(),
            records: Vec::new(),
            closed: Vec::new(),
            refuse: 0,
            left: Vec::new(),
            asked: Vec::new(),
            deaf: None,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            wires: Vec::new(),
            seq: 0,
            conns: 0,
        }
    }

    pub(crate) fn clocks(&self) -> Now {
        Now { node: self.now, epoch_ns: EPOCH + self.now }
    }

    pub(crate) fn peer(&mut self) -> Peer {
        self.conns += 1;
        Peer { shard: (self.conns % 2) as u16, conn: self.conns, life: 1 }
    }

    fn push(&mut self, at: Time, event: Event) {
        self.seq += 1;
        self.events.push(Reverse((at.max(self.now), self.seq)));
        self.bodies.insert(self.seq, event);
    }

    /// Calls a node and takes up what it wants done.
    pub(crate) fn call(&mut self, node: usize, call: impl FnOnce(&mut Mesh, Now, &mut Effects)) {
        let mut out = Effects::new();
        let now = self.clocks();
        call(&mut self.nodes[node], now, &mut out);
        for effect in out {
            match effect {
                Effect::Send { to, frame } => self.sent(node, to, frame),
                Effect::Volley(order) => {
                    let last = order.sends.last().expect("not empty").at;
                    assert!(order.sends.is_sorted_by_key(|send| send.at), "by send time");
                    for (at, send) in order.sends.iter().enumerate().skip(self.refuse) {
                        assert!(send.at >= self.now && send.at < order.expires, "in its time");
                        self.left.push((order.shard, send.at));
                        let copy = Event::Copy {
                            node,
                            handle: send.handle,
                            generation: send.generation,
                            left: send.at,
                            order: VolleyOrder { sends: vec![order.sends[at]], ..order.clone() },
                        };
                        self.push(send.at + DELAY, copy);
                    }
                    self.push(last + MS, Event::Volley { node, order });
                }
                Effect::Persist(record) => self.records.push(record),
                Effect::Close { peer } => self.closed.push(peer),
            }
        }
    }

    /// A frame that a node sent: to another node, or to whoever sits at the other end.
    fn sent(&mut self, node: usize, to: Peer, frame: Vec<u8>) {
        let route = self.wires.iter().filter(|wire| wire.is_up).find_map(|wire| {
            if wire.child == (node, to) {
                Some((wire.parent, Some(wire.child)))
            } else if wire.parent == (node, to) {
                Some((wire.child, None))
            } else {
                None
            }
        });
        let Some(((other, from), child)) = route else {
            self.inbox.push((node, to, frame));
            return;
        };
        if kind(&frame) == Kind::Gather {
            self.asked.push((to, Header::peek(&frame).expect("a header").message_id()));
        }
        let there = self.now + DELAY;
        // The shard above answers beats by itself.
        if let (Some((child, end)), Kind::AgentHeartbeat) = (child, kind(&frame)) {
            let mut answer = vec![0; BEAT_LEN];
            let len = aligned(&frame, |bytes| {
                let asked = access::<AgentHeartbeat>(bytes).expect("sound");
                write_beat_reply(&mut answer, asked, 1, EPOCH, there, there)
            });
            assert_eq!(len, BEAT_LEN);
            self.push(there + DELAY, Event::Frame { node: child, from: end, frame: answer });
        }
        self.push(there, Event::Frame { node: other, from, frame });
    }

    /// Connects a node to the one above it.
    pub(crate) fn join(&mut self, child: usize, parent: usize) -> (Peer, Peer) {
        let (below, above) = (self.peer(), self.peer());
        let wire = Wire { child: (child, below), parent: (parent, above), is_up: true };
        self.wires.push(wire);
        self.call(child, |mesh, now, out| mesh.parent_up(now, below, out));
        (below, above)
    }

    /// The id of the last GATHER that went down to a node, and its end of the connection above.
    pub(crate) fn asked_of(&self, child: usize) -> Option<(u64, Peer)> {
        let wire = self.wires.iter().find(|wire| wire.child.0 == child && wire.is_up)?;
        let asked = self.asked.iter().rev().find(|(peer, _)| *peer == wire.parent.1)?;
        Some((asked.1, wire.parent.1))
    }

    /// Ends the connection between two nodes.
    pub(crate) fn part(&mut self, child: usize) {
        let wire = self.wires.iter_mut().find(|wire| wire.child.0 == child && wire.is_up);
        let wire = wire.expect("connected");
        wire.is_up = false;
        let ((below, down), (above, up)) = (wire.child, wire.parent);
        self.call(below, |mesh, now, out| mesh.gone(now, down, out));
        self.call(above, |mesh, now, out| mesh.gone(now, up, out));
    }

    pub(crate) fn is_joined(&self, child: usize) -> bool {
        self.wires.iter().any(|wire| wire.child.0 == child && wire.is_up)
    }

    /// Ends the connection of a node to the one above it, if there is one.
    pub(crate) fn try_part(&mut self, child: usize) {
        if self.is_joined(child) {
            self.part(child);
        }
    }

    pub(crate) fn record(number: u32, class: AgentClass) -> AgentRecord {
        let mut agent_id = [0; 16];
        agent_id[..4].copy_from_slice(&(number + 1).to_le_bytes());
        AgentRecord {
            agent_id,
            class: class.code(),
            capabilities: vec!["act".into()],
            ..AgentRecord::default()
        }
    }

    /// Registers these over one connection and returns the places.
    pub(crate) fn register(
        &mut self,
        node: usize,
        peer: Peer,
        records: Vec<AgentRecord>,
    ) -> Vec<Place> {
        let registration = AgentRegistration { agents: records, ..AgentRegistration::default() };
        let before = self.inbox.len();
        self.call(node, |mesh, now, out| mesh.register(now, peer, 5, &registration, out));
        let (_, to, frame) = self.inbox[before..].first().expect("an answer").clone();
        assert_eq!(to, peer);
        if kind(&frame) != Kind::AgentRegistered {
            return Vec::new();
        }
        let place = |it: &wire::payload::mesh::ArchivedPlace| Place {
            agent_id: it.agent_id,
            handle: it.handle.into(),
            generation: it.generation.into(),
            sector: it.sector.into(),
            cluster: it.cluster.into(),
            position: it.position.into(),
            fault: it.fault.into(),
        };
        aligned(&frame, |bytes| {
            let it = access::<AgentRegistered>(bytes).expect("sound");
            it.places.iter().map(place).collect()
        })
    }

    /// Adds agents of a class with one connection each; numbers make ids. Returns their indices.
    pub(crate) fn add(
        &mut self,
        node: usize,
        numbers: std::ops::Range<u32>,
        class: AgentClass,
        act: Act,
    ) -> Vec<usize> {
        let mut added = Vec::new();
        for number in numbers {
            let peer = self.peer();
            let places = self.register(node, peer, vec![Self::record(number, class)]);
            assert_eq!(places[0].fault, 0);
            let offset = i64::from(number) * 1_000_003 - 5_000_000;
            added.push(self.agents.len());
            self.agents.push(Agent { node, peer, place: places[0], act, offset, got: 0 });
        }
        added
    }

    /// What an agent's clock shows.
    pub(crate) fn own(agent: &Agent, time: Time) -> u64 {
        // A day ahead, so that no clock is below zero.
        (time + 86_400 * SECOND).checked_add_signed(agent.offset).expect("in range")
    }

    /// Asks a node for a gather, and returns the asker's connection.
    pub(crate) fn ask(&mut self, node: usize, ask: &Gather) -> Peer {
        let peer = self.peer();
        self.call(node, |mesh, now, out| mesh.gather(now, peer, 77, ask, out));
        peer
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, until: Time) {
        let (mut last, mut turns) = (0, 0);
        loop {
            turns = if last == self.now { turns + 1 } else { 0 };
            last = self.now;
            assert!(turns < 100_000, "time stands still");
            let timer = self.nodes.iter().filter_map(Mesh::next_wakeup).min();
            let event = self.events.peek().map(|Reverse((at, _))| *at);
            let next = timer.into_iter().chain(event).min().unwrap_or(Time::MAX);
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if event.is_some_and(|at| at <= self.now) {
                let Reverse((_, seq)) = self.events.pop().expect("peeked");
                let event = self.bodies.remove(&seq).expect("has a body");
                self.happen(event);
            } else {
                for node in 0..self.nodes.len() {
                    if self.nodes[node].next_wakeup().is_some_and(|at| at <= self.now) {
                        self.call(node, |mesh, now, out| mesh.advance(now, out));
                    }
                }
            }
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Frame { node, from, frame } => {
                let header = Header::peek(&frame).expect("a header");
                let (kind, id) = (header.kind().expect("known"), header.message_id());
                let open = |wire: &Wire| wire.child == (node, from) || wire.parent == (node, from);
                let up = self.wires.iter().any(|wire| wire.is_up && open(wire));
                if !up || self.deaf == Some(node) {
                    return;
                }
                let at = self.now;
                self.call(node, |mesh, now, out| {
                    mesh.frame(now, from, at, kind, id, &frame[HEADER_LEN..], out);
                });
            }
            Event::Volley { node, order } => {
                let refused = self.refuse.min(order.sends.len());
                let report = VolleyReport {
                    number: order.number,
                    shard: order.shard,
                    sent: (order.sends.len() - refused) as u32,
                    refused: refused as u32,
                    fire_error: vec![(20_000, (order.sends.len() - refused) as u64)],
                    ..VolleyReport::default()
                };
                self.call(node, |mesh, now, out| mesh.volley_done(now, &report, out));
            }
            Event::Copy { node, handle, generation, left, order } => {
                self.deliver(node, handle, generation, left, &order);
            }
            Event::Ack { agent, state, message_id, left, received, target } => {
                let ack = self.ack(agent, state, message_id, left, received, target);
                let Agent { node, peer, .. } = self.agents[agent];
                let at = self.now;
                self.call(node, |mesh, now, out| mesh.ack(now, peer, at, &ack, out));
            }
            Event::Gone { node, peer } => {
                self.call(node, |mesh, now, out| mesh.gone(now, peer, out));
            }
        }
    }

    /// An honest answer that comes now, having left one way ago.
    pub(crate) fn ack(
        &self,
        agent: usize,
        state: Trinary,
        message_id: [u8; 16],
        left: Time,
        received: Time,
        target: Time,
    ) -> AckView<'static> {
        let it = &self.agents[agent];
        let sent = self.now - DELAY;
        let done = state == Trinary::Ready;
        AckView {
            conflict_detail: if state == Trinary::Conflict { "knows better" } else { "" },
            message_id,
            handle: it.place.handle,
            generation: it.place.generation,
            origin_ns: left,
            received_ns: Self::own(it, received),
            ready_ns: if done { Self::own(it, sent) } else { 0 },
            acted_ns: if done { Self::own(it, sent) } else { 0 },
            sent_ns: Self::own(it, sent),
            target_own_ns: Self::own(it, target),
            processing_ns: sent - received,
            state: state.code(),
            ..AckView::default()
        }
    }

    fn deliver(
        &mut self,
        node: usize,
        handle: u32,
        generation: u32,
        left: Time,
        order: &VolleyOrder,
    ) {
        let mut frame = vec![0; order.template.frame_len()];
        let patch = PerAgent { handle, generation, ..PerAgent::default() };
        assert_eq!(order.template.write(&mut frame, 1, left, &patch), frame.len());
        let (message_id, target) = aligned(&frame, |bytes| {
            let it = access::<Coordinate>(bytes).expect("sound");
            (it.message_id, it.target_ns.to_native())
        });
        let send = order.sends[0];
        let to = Peer { shard: order.shard, conn: send.conn, life: send.life };
        let found = self
            .agents
            .iter()
            .position(|it| it.node == node && it.peer == to && it.place.handle == handle);
        let Some(at) = found else { return };
        self.agents[at].got += 1;
        let (now, peer) = (self.now, self.agents[at].peer);
        let ack = |after: Time, state| {
            let event = Event::Ack { agent: at, state, message_id, left, received: now, target };
            (now + after + DELAY, event)
        };
        let (ready, conflict, transit) = (Trinary::Ready, Trinary::Conflict, Trinary::Transit);
        let acks = match self.agents[at].act {
            Act::Ready(after) => vec![ack(after, ready)],
            Act::Conflict => vec![ack(0, conflict)],
            Act::Transit => vec![ack(0, transit)],
            Act::TransitThenReady(after) => vec![ack(0, transit), ack(after, ready)],
            Act::Thrice(after) => {
                vec![ack(after, ready), ack(after, ready), ack(after + MS, ready)]
            }
            Act::Fickle(after) => vec![ack(0, conflict), ack(after, ready)],
            Act::Silent => Vec::new(),
            Act::Dies => vec![(now + MS, Event::Gone { node, peer })],
        };
        for (at, event) in acks {
            self.push(at, event);
        }
    }

    /// All reports that operators got, checked.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let frames = self.inbox.iter().filter(|(_, _, frame)| kind(frame) == Kind::GatherReport);
        let reports: Vec<Report> =
            frames.map(|(node, to, frame)| report::read(*node, *to, frame)).collect();
        reports.iter().for_each(report::check);
        reports
    }

    /// The one result that came.
    pub(crate) fn result(&self) -> Report {
        let results: Vec<Report> =
            self.reports().into_iter().filter(|report| report.is_final).collect();
        assert_eq!(results.len(), 1, "one result");
        results[0].clone()
    }

    /// Refusals that came: to whom, and why.
    pub(crate) fn refusals(&self) -> Vec<(Peer, ErrorCode)> {
        let frames = self.inbox.iter().filter(|(_, _, frame)| kind(frame) == Kind::ErrorReport);
        let code = |frame: &[u8]| {
            aligned(frame, |bytes| {
                let it = access::<ErrorReport>(bytes).expect("sound");
                ErrorCode::from_code(it.code.into()).expect("known")
            })
        };
        frames.map(|(_, to, frame)| (*to, code(frame))).collect()
    }
}

/// A plain question to everybody.
pub(crate) fn everybody() -> Gather {
    Gather { payload: b"go".to_vec(), hold: true, verb: 3, ..Gather::default() }
}
