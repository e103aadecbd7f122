//! The nodes' side: each node's core, and its shards, which answer heartbeats and send copies at
//! their moments as the data path's shards do.

use super::{
    engine::Time,
    forger::trust,
    frames::{beat_of, frame_of, read_template},
    judge::Promise,
    parts::{Down, Due, Flight, Up},
    plan::{Bug, Plan},
    world::World,
};
use ::mesh::{
    agent::Order,
    limits::BEAT_EVERY,
    node::{
        AckView, Beat, Config, Effect, Effects, Mesh, Now, Peer, Record, ScheduledSend,
        VolleyOrder, VolleyReport,
    },
    plan::SEND_GAP,
};
use dataplane_core::schedule::wheel::Wheel;
use fleet::{MS, SECOND};
use wire::{
    Kind,
    mesh::{PerAgent, Role, Template},
    payload::{
        access,
        mesh::{AgentHeartbeat, AgentRegistered},
        open,
    },
};

/// Shards of a node.
pub(super) const SHARDS: u32 = 2;

/// Calls in a row that may ask for one more at the same moment.
const SPINS_MAX: u32 = 100;

/// The wall clock at true time 0: some moment.
const WALL: u64 = 1_800_000_000 * SECOND;

/// Delay between two nodes, and between the operator and its node.
pub(super) const BETWEEN_NODES: Time = 5 * MS;
pub(super) const TO_OPERATOR: Time = MS;

/// A copy that waits for its moment.
#[derive(Clone, Copy, Debug)]
struct Shot {
    volley: u32,
    send: ScheduledSend,
}

/// A volley of which copies wait.
#[derive(Debug)]
struct Volley {
    template: Template,
    /// What every agent gets, but for its own fields.
    base: Order,
    /// When the message was made, node time.
    made: Time,
    ttl: Time,
    expires: Time,
    left: u32,
    report: VolleyReport,
    /// The copies in the order in which they leave, and how many have.
    sends: Vec<ScheduledSend>,
    gone: usize,
}

/// Who has a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) agent: u32,
    pub(super) conn: u32,
    pub(super) life: u32,
    pub(super) generation: u32,
    pub(super) sector: u16,
    pub(super) cluster: u16,
    pub(super) position: u16,
}

#[derive(Debug)]
struct Shard {
    wheel: Wheel<Shot>,
    /// When it looks next, true time.
    armed: Time,
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) mesh: Mesh,
    pub(super) config: Config,
    pub(super) up: bool,
    /// Its monotonic clock at true time 0.
    pub(super) base: Time,
    /// Its wall clock is off by this.
    pub(super) wall_off: i64,
    /// Handles, as far as it told.
    pub(super) given: Vec<Option<Given>>,
    /// The last snapshot of its registry.
    pub(super) kept: Option<Vec<u8>>,
    pub(super) starts: u64,
    shards: Vec<Shard>,
    volleys: super::slab::Slab<Volley>,
    armed: Time,
    spins: u32,
    effects: Effects,
}

impl Node {
    /// One that knows nothing of what was before `since_ms`, on its wall clock.
    pub(super) fn new(number: u8, plan: &Plan, since_ms: u64) -> Self {
        let config = Config {
            node_id: [number + 1; 16],
            name: format!("node-{number}"),
            role: if number == 0 { Role::Orchestrator } else { Role::Sector },
            agents: plan.agents.max(64),
            targets: plan.agents.max(64),
            send_gap: SEND_GAP,
            snapshot_every: 10 * SECOND,
            trust: trust(number, plan, since_ms),
            ..Config::default()
        };
        let shard = |_| Shard { wheel: Wheel::new(4 * plan.agents.max(64)), armed: Time::MAX };
        Self {
            mesh: Mesh::new(&config, plan.seed ^ u64::from(number)),
            config,
            up: true,
            base: 1_000 * SECOND * (1 + Time::from(number)),
            wall_off: 0,
            given: Vec::new(),
            kept: None,
            starts: 1,
            shards: (0..SHARDS).map(shard).collect(),
            volleys: super::slab::Slab::new(),
            armed: Time::MAX,
            spins: 0,
            effects: Vec::new(),
        }
    }

    /// Its clocks at a true time.
    pub(super) const fn clocks(&self, at: Time) -> Now {
        let epoch_ns = (WALL + at).saturating_add_signed(self.wall_off);
        Now { node: self.base + at, epoch_ns }
    }

    /// Forgets everything, as a process that ends does.
    pub(super) fn forget(&mut self, plan: &Plan, at: Time) {
        let since_ms = self.clocks(at).epoch_ns / MS;
        let number = self.config.node_id[0] - 1;
        let (kept, starts) = (self.kept.take(), self.starts + 1);
        let (base, wall_off) = (self.base + 3_600 * SECOND, self.wall_off);
        *self =
            Self { kept, starts, base, wall_off, up: false, ..Self::new(number, plan, since_ms) };
    }

    /// Copies that wait.
    pub(super) fn waiting(&self) -> usize {
        self.shards.iter().map(|shard| shard.wheel.len()).sum()
    }
}

impl World {
    /// One call of a node's core, and what comes of it.
    pub(super) fn call(&mut self, node: u8, with: impl FnOnce(&mut Mesh, Now, &mut Effects)) {
        let it = &mut self.nodes[usize::from(node)];
        if !it.up {
            return;
        }
        let now = it.clocks(self.now);
        let mut effects = std::mem::take(&mut it.effects);
        with(&mut it.mesh, now, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(node, effect);
        }
        let it = &mut self.nodes[usize::from(node)];
        it.effects = effects;
        if let Some(wakeup) = it.mesh.next_wakeup() {
            let at = wakeup.saturating_sub(it.base).max(self.now);
            if at < it.armed {
                it.armed = at;
                self.at(at, u32::from(node), Due::Node(node));
            }
        }
    }

    pub(super) fn node_timer(&mut self, node: u8) {
        let it = &mut self.nodes[usize::from(node)];
        if it.armed == self.now {
            it.armed = Time::MAX;
            self.call(node, Mesh::advance);
            let it = &mut self.nodes[usize::from(node)];
            let again = it.armed == self.now;
            it.spins = if again { it.spins + 1 } else { 0 };
            let spins = it.spins;
            self.judge.look(Promise::NeverSpins, self.now, spins < SPINS_MAX, || {
                format!("node {node} asks {spins} times to be woken at once")
            });
        }
    }

    fn carry_out(&mut self, node: u8, effect: Effect) {
        match effect {
            Effect::Send { to, frame } => self.send_frame(node, to, frame),
            Effect::Volley(order) => self.take_volley(node, order),
            Effect::Persist(Record::Registry(bytes)) => {
                self.nodes[usize::from(node)].kept = Some(bytes);
            }
            Effect::Persist(Record::Gather { .. }) => {}
            Effect::Close { peer } => self.closed_by_node(peer),
        }
    }

    fn send_frame(&mut self, node: u8, to: Peer, frame: Vec<u8>) {
        let Some(conn) = self.meant(to.conn, to.life) else { return };
        if self.conns[conn as usize].child == Some(node) {
            return self.send_to_parent(conn, to.life, frame);
        }
        if conn < self.plan.connections() {
            self.note_places(node, conn, to.life, &frame);
        }
        self.send_down(conn, to.life, Down::Frame(frame));
    }

    /// Something leaves a node.
    pub(super) fn send_down(&mut self, conn: u32, life: u32, what: Down) {
        let now = self.now;
        let hosts = self.plan.connections();
        let link = &mut self.conns[conn as usize];
        if !link.up || link.life != life {
            return;
        }
        let delay = if conn < hosts {
            let first = conn * self.plan.per_connection;
            let actor = &mut self.actors[first as usize];
            self.fleet.sample_down(first, now, &mut actor.rng)
        } else {
            link.delay()
        };
        let at = now.max(link.parted_until) + delay;
        link.last_down = link.last_down.max(at);
        let at = link.last_down;
        let place = self.downs.put(Flight { conn, life, what });
        // The order of what happens is that of the one to whom it happens.
        match self.agents_of(conn).next().filter(|_| conn < hosts) {
            Some(agent) => self.at_agent(at, agent, Due::Down(place)),
            None => self.after(at - now, Due::Down(place)),
        }
    }

    fn send_to_parent(&mut self, conn: u32, life: u32, frame: Vec<u8>) {
        let now = self.now;
        let link = &mut self.conns[conn as usize];
        if !link.up || link.life != life {
            return;
        }
        let node = u32::from(link.node);
        link.last_up = link.last_up.max(now.max(link.parted_until) + link.delay());
        let at = link.last_up;
        let place = self.ups.put(Flight { conn, life, what: Up::Frame(frame) });
        self.at(at, node, Due::Up(place, u32::MAX));
    }

    pub(super) fn arrive_down(&mut self, flight: u32) {
        let Some(Flight { conn, life, what }) = self.downs.take(flight) else { return };
        let link = &self.conns[conn as usize];
        if !link.up || link.life != life {
            return;
        }
        if conn < self.plan.connections() {
            return self.host_gets(conn, what);
        }
        let Down::Frame(frame) = what else { return };
        let link = link.clone();
        match link.child {
            Some(child) => self.node_reads(child, conn, life, &frame),
            None => self.operator_reads(link.node, &frame),
        }
    }

    pub(super) fn arrive_up(&mut self, flight: u32) {
        let Some(Flight { conn, life, what }) = self.ups.take(flight) else { return };
        let link = &self.conns[conn as usize];
        let node = link.node;
        if life <= link.gone || !self.nodes[usize::from(node)].up {
            return;
        }
        match what {
            Up::Beat(beat) => self.beat_comes(node, conn, life, &beat),
            Up::Ack(ack) => self.ack_comes(node, conn, life, &ack),
            Up::Frame(frame) => self.node_reads(node, conn, life, &frame),
        }
    }

    fn beat_comes(&mut self, node: u8, conn: u32, life: u32, beat: &Beat) {
        self.totals.beats += 1;
        let from = self.peer(conn, life);
        let arrived = self.nodes[usize::from(node)].clocks(self.now).node;
        let answer = AgentHeartbeat {
            handle: beat.handle,
            generation: beat.generation,
            hlc: beat.hlc,
            origin_ns: beat.sent_ns,
            received_ns: arrived,
            sent_ns: arrived,
            ..AgentHeartbeat::default()
        };
        let answer = if conn < self.plan.connections() {
            Down::Beat(answer)
        } else {
            Down::Frame(frame_of(&answer, 0, 0))
        };
        self.send_down(conn, life, answer);
        self.call(node, |mesh, now, out| mesh.heartbeat(now, from, arrived, beat, out));
    }

    fn ack_comes(&mut self, node: u8, conn: u32, life: u32, ack: &AckView<'_>) {
        self.totals.answers += 1;
        let from = self.peer(conn, life);
        let arrived = self.nodes[usize::from(node)].clocks(self.now).node;
        self.note_answer(node, conn, life, ack);
        self.call(node, |mesh, now, out| mesh.ack(now, from, arrived, ack, out));
    }

    /// A node reads a frame as its shard would.
    fn node_reads(&mut self, node: u8, conn: u32, life: u32, frame: &[u8]) {
        let mut desk = std::mem::take(&mut self.desk);
        let from = self.peer(conn, life);
        let arrived = self.nodes[usize::from(node)].clocks(self.now).node;
        match desk.open(frame) {
            None => self.totals.refused += 1,
            Some(read) => {
                // A shard answers the heartbeats of those who connected to it.
                let accepted = self.conns[conn as usize].node == node;
                match read.kind {
                    Kind::AgentHeartbeat if accepted => {
                        match access::<AgentHeartbeat>(read.payload) {
                            Ok(beat) => self.beat_comes(node, conn, life, &beat_of(beat)),
                            Err(_) => self.totals.refused += 1,
                        }
                    }
                    // Nothing else is copied up, and no error is answered with an error.
                    kind if !kind.is_mesh() => self.totals.refused += 1,
                    kind => {
                        if kind == Kind::Ack {
                            self.totals.answers += 1;
                            if let Ok(ack) = open::<wire::payload::mesh::Ack>(read.payload) {
                                self.note_answer(node, conn, life, &AckView::from(ack));
                            }
                        }
                        let (id, payload) = (read.message_id, read.payload);
                        let before = self.before_order(node, kind).filter(|_| accepted);
                        self.call(node, |mesh, now, out| {
                            mesh.frame(now, from, arrived, kind, id, payload, out);
                        });
                        if let Some(before) = before {
                            self.judge_order(node, before, &read);
                        }
                    }
                }
            }
        }
        self.desk = desk;
    }

    /// Which places a node gives to whom.
    fn note_places(&mut self, node: u8, conn: u32, life: u32, frame: &[u8]) {
        let mut desk = super::frames::Desk::default();
        let Some(read) = desk.open(frame).filter(|read| read.kind == Kind::AgentRegistered) else {
            return;
        };
        let Ok(answer) = open::<AgentRegistered>(read.payload) else { return };
        for place in answer.places.iter().filter(|place| place.fault == 0) {
            let agent = self.operator.names.get(&place.agent_id).copied();
            let given = Given {
                agent: agent.unwrap_or(u32::MAX),
                conn: self.peer(conn, life).conn,
                life,
                generation: place.generation.to_native(),
                sector: place.sector.to_native(),
                cluster: place.cluster.to_native(),
                position: place.position.to_native(),
            };
            self.give(node, place.handle.to_native(), given);
        }
    }

    fn give(&mut self, node: u8, handle: u32, given: Given) {
        let it = &mut self.nodes[usize::from(node)];
        let room = it.config.agents as usize;
        self.judge.look(Promise::Bounded, self.now, (handle as usize) < room, || {
            format!("node {node} gave handle {handle}, with room for {room}")
        });
        if it.given.len() <= handle as usize {
            it.given.resize(handle as usize + 1, None);
        }
        let place = it.given[handle as usize].replace(given);
        if let Some(old) = place.filter(|old| old.agent == given.agent || old.life > 0) {
            let held = old.life > self.conns[old.conn as usize / 2].gone;
            let same = (old.conn, old.life) == (given.conn, given.life);
            // Its owner may come back on a new connection.
            let own = self.plan.per_connection * (given.conn / 2);
            let owner = (own..own + self.plan.per_connection).contains(&given.agent);
            let kept = same || owner || !held || self.has_let_go(&old);
            self.judge.look(Promise::NameKept, self.now, kept, || {
                format!("node {node} gave handle {handle} of {old:?} to {given:?}")
            });
        }
    }

    /// Whether an agent has lost its name: it is silent, or says what amounts to that, or is parted
    /// from its node and its next heartbeat has not come through.
    fn has_let_go(&self, old: &Given) -> bool {
        let parted = self.conns[old.conn as usize / 2].parted_until;
        let actor = self.actors.get(old.agent as usize);
        parted > 0 && self.now < parted.saturating_add(2 * BEAT_EVERY)
            || actor.is_none_or(|actor| actor.silent || actor.lies.lets_go())
    }

    /// A core orders copies.
    fn take_volley(&mut self, node: u8, order: VolleyOrder) {
        let it = &self.nodes[usize::from(node)];
        let Some((base, made, ttl, correlation)) =
            read_template(&order.template, it.clocks(self.now).node)
        else {
            return;
        };
        let truth = super::watch::Truth {
            message_id: base.message_id,
            correlation_id: correlation,
            node,
            target: base.target_ns.saturating_sub(it.base),
            expires: if ttl == 0 { Time::MAX } else { self.now + ttl },
            hold: base.hold,
            priority: order.priority,
            weight: base.weight,
        };
        self.watch.begins(&truth, self.now);
        let report =
            VolleyReport { number: order.number, shard: order.shard, ..Default::default() };
        let volley = Volley {
            template: order.template,
            base,
            made,
            ttl,
            expires: order.expires,
            left: order.sends.len() as u32,
            report,
            sends: Vec::new(),
            gone: 0,
        };
        let empty = volley.left == 0;
        let place = self.nodes[usize::from(node)].volleys.put(volley);
        let it = &mut self.nodes[usize::from(node)];
        let shard = &mut it.shards[usize::from(order.shard) % SHARDS as usize];
        let mut refused = 0;
        for send in &order.sends {
            let shot = Shot { volley: place, send: *send };
            refused += u32::from(shard.wheel.insert(send.at, order.priority, shot).is_err());
        }
        if let Some(volley) = it.volleys.get_mut(place) {
            volley.report.refused = refused;
            volley.sends = order.sends;
            volley.left -= refused;
            if empty || volley.left == 0 {
                self.volley_over(node, place);
            }
        }
        self.arm_shard(node, (u32::from(order.shard) % SHARDS) as u8);
    }

    fn arm_shard(&mut self, node: u8, shard: u8) {
        let it = &mut self.nodes[usize::from(node)];
        let base = it.base;
        let its = &mut it.shards[usize::from(shard)];
        let Some(due) = its.wheel.next_due() else { return };
        let at = due.saturating_sub(base).max(self.now);
        if at < its.armed {
            its.armed = at;
            self.at(at, u32::from(node), Due::Fire(node, shard));
        }
    }

    /// Copies are due.
    pub(super) fn fire(&mut self, node: u8, shard: u8) {
        let it = &mut self.nodes[usize::from(node)];
        let now = it.clocks(self.now);
        let its = &mut it.shards[usize::from(shard)];
        if its.armed != self.now {
            return;
        }
        its.armed = Time::MAX;
        while let Some((_, shot)) =
            self.nodes[usize::from(node)].shards[usize::from(shard)].wheel.pop(now.node)
        {
            self.shoot(node, now, &shot);
        }
        self.arm_shard(node, shard);
    }

    fn shoot(&mut self, node: u8, now: Now, shot: &Shot) {
        let send = &shot.send;
        let there = self.meant(send.conn, send.life).is_some();
        let it = &mut self.nodes[usize::from(node)];
        let Some(volley) = it.volleys.get_mut(shot.volley) else { return };
        let there = there || self.plan.bug == Some(Bug::ForgetsToDrop);
        volley.left -= 1;
        volley.gone += 1;
        let ahead = volley.sends.get(volley.gone + super::warm::COPIES_AHEAD).copied();
        let over = volley.left == 0;
        if now.node >= volley.expires {
            volley.report.expired += 1;
        } else if !there {
            volley.report.gone += 1;
        } else {
            volley.report.sent += 1;
            volley.report.fire_error.clear();
            let given = it.given.get(send.handle as usize).copied().flatten();
            let age = now.node.saturating_sub(volley.made);
            let order = Order {
                sent_ns: now.node,
                handle: send.handle,
                generation: send.generation,
                lead_us: send.lead_us,
                expected_us: send.expected_us,
                expires_ns: match volley.ttl {
                    0 => Time::MAX,
                    ttl => now.node + ttl.saturating_sub(age),
                },
                ..volley.base
            };
            let frame = self.plan.bytes.then(|| {
                let per = PerAgent {
                    handle: send.handle,
                    generation: send.generation,
                    lead_us: send.lead_us,
                    expected_us: send.expected_us,
                    confidence: send.confidence,
                };
                let mut out = vec![0; volley.template.frame_len()];
                let _ = volley.template.write(&mut out, 0, now.node, &per);
                out
            });
            self.copy_leaves(node, send, given, order, frame);
        }
        if let Some(ahead) = ahead {
            self.warm_copy(node, &ahead);
        }
        if over {
            self.volley_over(node, shot.volley);
        }
    }

    fn copy_leaves(
        &mut self,
        node: u8,
        send: &ScheduledSend,
        given: Option<Given>,
        order: Order,
        frame: Option<Vec<u8>>,
    ) {
        self.totals.sent += 1;
        // Whose agent registered anew elsewhere: its copy goes to the old place while that is held.
        let held = self.meant(send.conn, send.life).is_some();
        let right = given.is_some_and(|given| {
            let same = (given.conn, given.life) == (send.conn, send.life);
            let anew = held && given.generation > send.generation;
            same && given.generation >= send.generation || anew
        });
        self.judge.look(Promise::RightRecipient, self.now, right, || {
            format!("node {node} sends {send:?}, but the place is {given:?}")
        });
        let Some(given) = given else { return };
        self.note_copy(node, &given, &order);
        // A name that garbage happened to make: whoever is first there reads it.
        let known = given.agent < self.plan.agents;
        let agent = if known { given.agent } else { send.conn / 2 * self.plan.per_connection };
        let what = frame.map_or(Down::Order(agent, order), Down::Frame);
        self.send_down(send.conn / 2, send.life, what);
    }

    fn volley_over(&mut self, node: u8, volley: u32) {
        if let Some(volley) = self.nodes[usize::from(node)].volleys.take(volley) {
            self.call(node, |mesh, now, out| mesh.volley_done(now, &volley.report, out));
        }
    }
}
