//! The agents' side: each agent's core, its clock, its connection, and what is wrong with it.

use super::{
    engine::Time,
    frames::{beat_of, frame_of},
    lies::{Lie, Lies},
    parts::{Down, Due, Up},
    plan::Bug,
    world::World,
};
use ::mesh::agent::{Agent, Order, Output, Verdict};
use fleet::{MS, Outcome, Rng, SECOND};
use wire::{
    Kind,
    payload::{
        access,
        mesh::{
            AgentHeartbeat, AgentRecord, AgentRegistered, AgentRegistration, Coordinate, Place,
        },
        open,
    },
};

/// What an agent says when it knows better.
const KNOWS_BETTER: &str = "knows better";

/// Between two attempts to register.
const AGAIN_AFTER: Time = 2 * SECOND;

/// One agent with what the world knows of it.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) agent: Agent,
    pub(super) rng: Rng,
    pub(super) lies: Lies,
    /// Its clock is that of the model plus this.
    pub(super) skew: Time,
    /// When its registration left, own clock.
    asked: Time,
    /// When its timer comes next in the queue, true time, and which timer that is, own clock.
    armed: Time,
    timer: Time,
    /// One more of its timers that is in the queue, after that one: it may be used again.
    later: Time,
    /// Its service ends then, and its timer is looked at.
    busy_until: Time,
    /// Services begun, to know the present one.
    pub(super) services: u32,
    outcome: Outcome,
    /// How well it knew the node's clock when the messages that it has came, at the worst.
    pub(super) bound: Time,
    /// When its clock jumped; 0 for never.
    pub(super) stepped: Time,
    pub(super) silent_since: Time,
    /// It takes and says nothing.
    pub(super) silent: bool,
    /// It never comes back.
    pub(super) lost: bool,
    /// The node gave it a place on its present connection.
    pub(super) placed: bool,
    /// Its connection was made more than once.
    again: bool,
}

impl Actor {
    pub(super) fn new(seed: u64, number: u32, phase: u64, light: bool) -> Self {
        Self {
            agent: if light { Agent::light(phase) } else { Agent::new(phase) },
            rng: Rng::of(seed ^ 0xAC_7012, u64::from(number)),
            lies: Lies::default(),
            skew: 0,
            asked: 0,
            armed: Time::MAX,
            timer: Time::MAX,
            later: Time::MAX,
            busy_until: 0,
            services: 0,
            outcome: Outcome::Ready,
            bound: 0,
            stepped: 0,
            silent_since: 0,
            silent: false,
            lost: false,
            placed: false,
            again: false,
        }
    }

    /// A registration leaves. Answers do not say which one they are for: while one is not
    /// answered, the first counts, so that no round trip is taken for shorter than it was.
    pub(super) const fn asks_at(&mut self, own: Time) {
        if self.placed || self.asked == 0 {
            self.asked = own;
        }
    }

    /// It has a new connection, and no place on it.
    pub(super) const fn starts_anew(&mut self) {
        self.placed = false;
        self.asked = 0;
    }

    /// What is in the queue for it is void.
    pub(super) const fn disarm(&mut self) {
        (self.armed, self.later, self.busy_until) = (Time::MAX, Time::MAX, 0);
    }

    /// Reads all of it, one word of each cache line or so: see `warm.rs`.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        let ends = self.timer ^ self.bound ^ u64::from(self.services) ^ self.skew;
        self.agent.touch() ^ ends ^ self.rng.touch()
    }

    /// A word that follows from its state.
    pub(super) fn digest(&self) -> u64 {
        let (handle, generation) = self.agent.place();
        let place = u64::from(handle) << 32 | u64::from(generation);
        place ^ self.agent.next_timer().rotate_left(17) ^ u64::from(self.services)
    }
}

impl World {
    /// An agent's clock now.
    #[inline]
    pub(super) fn own(&self, agent: u32) -> Time {
        self.own_at(agent, self.now)
    }

    /// An agent's clock at a true time.
    #[inline]
    pub(super) fn own_at(&self, agent: u32, at: Time) -> Time {
        self.fleet.clock(agent, at) + self.actors[agent as usize].skew
    }

    /// The connection that carries an agent.
    #[inline]
    pub(super) const fn conn_of(&self, agent: u32) -> u32 {
        agent / self.plan.per_connection
    }

    /// The agents that a connection carries.
    pub(super) fn agents_of(&self, conn: u32) -> std::ops::Range<u32> {
        let from = (conn * self.plan.per_connection).min(self.plan.agents);
        from..(from + self.plan.per_connection).min(self.plan.agents)
    }

    /// Puts the agent's next timer into the queue, unless it is there.
    #[inline]
    pub(super) fn arm(&mut self, agent: u32) {
        let actor = &self.actors[agent as usize];
        let timer = actor.agent.next_timer();
        if timer == Time::MAX || (timer == actor.timer && actor.armed != Time::MAX) {
            return;
        }
        // Turning a clock round loses a nanosecond or two; a timer must not come early.
        let due = self.fleet.true_time(agent, timer.saturating_sub(actor.skew)) + 2;
        // A little less, so that drift does not make it come before its time.
        let due = due.saturating_sub(self.early(agent).saturating_sub(MS)).max(self.now);
        let now = self.now;
        let actor = &mut self.actors[agent as usize];
        // Nothing is put into the queue that will not be needed: the end of a service comes here
        // again, and what lies in the queue already serves as well.
        if due >= actor.armed || now < actor.busy_until && actor.busy_until < due {
            return;
        }
        actor.timer = timer;
        if actor.later <= due {
            actor.armed = std::mem::replace(&mut actor.later, Time::MAX);
            return;
        }
        if actor.armed != Time::MAX {
            actor.later = actor.armed;
        }
        actor.armed = due;
        self.at_agent(due, agent, Due::Agent(agent));
    }

    pub(super) fn agent_timer(&mut self, agent: u32) {
        let now = self.now;
        let actor = &mut self.actors[agent as usize];
        if actor.later == now {
            actor.later = Time::MAX;
        }
        if actor.armed != now {
            return;
        }
        let early = self.early(agent);
        let (own, backlog) = (self.own(agent) + early, self.fleet.queue(agent, self.now));
        let actor = &mut self.actors[agent as usize];
        actor.armed = Time::MAX;
        if actor.silent {
            return;
        }
        let mut out = std::mem::take(&mut self.outputs);
        actor.agent.timer(own, backlog, &mut out);
        self.put_out(agent, out);
    }

    /// How much too early this agent releases: nothing, unless an error is put in on purpose.
    fn early(&self, agent: u32) -> Time {
        let broken = self.plan.bug == Some(Bug::ReleasesEarly);
        if broken && self.actors[agent as usize].again { 30 * MS } else { 0 }
    }

    pub(super) fn served(&mut self, agent: u32, service: u32) {
        let (own, backlog) = (self.own(agent), self.fleet.queue(agent, self.now));
        let actor = &mut self.actors[agent as usize];
        if actor.silent || actor.services != service {
            return;
        }
        let verdict = match actor.outcome {
            Outcome::Ready => Verdict::Ready,
            Outcome::Conflict => Verdict::Conflict(KNOWS_BETTER),
            Outcome::Crash => return self.crash(agent),
        };
        let mut out = std::mem::take(&mut self.outputs);
        self.actors[agent as usize].agent.finished(own, verdict, backlog, &mut out);
        self.put_out(agent, out);
    }

    /// The agent's process ends and starts again: it remembers nothing, and its host makes a new
    /// connection.
    fn crash(&mut self, agent: u32) {
        let phase = self.rng.next();
        let actor = &mut self.actors[agent as usize];
        actor.agent = Agent::new(phase);
        actor.disarm();
        actor.services += 1;
        let conn = self.conn_of(agent);
        let pause = SECOND + self.rng.below(5 * SECOND);
        self.cut(conn, pause);
    }

    /// Does what an agent asked for.
    pub(super) fn put_out(&mut self, agent: u32, mut out: Vec<Output>) {
        for output in out.drain(..) {
            match output {
                Output::Beat(beat) => self.say(agent, Up::Beat(beat)),
                Output::Ack(ack) => {
                    self.judge_answer(agent, &ack);
                    self.say(agent, Up::Ack(ack));
                }
                Output::Begin { weight, queue } => {
                    let actor = &mut self.actors[agent as usize];
                    actor.services += 1;
                    let service = actor.services;
                    actor.outcome = self.fleet.sample_outcome(agent, &mut actor.rng);
                    let fleet = &self.fleet;
                    let takes =
                        fleet.sample_service(agent, self.now, weight, queue, &mut actor.rng);
                    let ends = self.now + takes;
                    actor.busy_until = ends;
                    self.at_agent(ends, agent, Due::Served(agent, service));
                }
                Output::Dropped(..) => self.totals.dropped += 1,
            }
        }
        self.outputs = out;
        self.arm(agent);
    }

    /// An agent says something: as it is, or as its lies have it.
    fn say(&mut self, agent: u32, what: Up) {
        let conn = self.conn_of(agent);
        let actor = &mut self.actors[agent as usize];
        if actor.lies.none() {
            self.send_up(conn, agent, what);
            return;
        }
        let mut said = Vec::new();
        let others = self.actors.len() as u32;
        let actor = &mut self.actors[agent as usize];
        actor.lies.tell(what, others, &mut actor.rng, &mut said);
        if self.actors[agent as usize].lies.has(Lie::Twice) {
            said.extend_from_within(..);
        }
        for what in said {
            self.send_up(conn, agent, what);
        }
    }

    /// Something leaves the far end of a connection. `agent` has the link.
    pub(super) fn send_up(&mut self, conn: u32, agent: u32, what: Up) {
        let what = if self.plan.bytes { self.encode_up(what) } else { what };
        let now = self.now;
        let link = &mut self.conns[conn as usize];
        if !link.up {
            return;
        }
        let first = conn * self.plan.per_connection;
        let actor = &mut self.actors[agent as usize];
        let delay = self.fleet.sample_up(first, now, &mut actor.rng);
        let at = now.max(link.parted_until) + delay;
        link.last_up = link.last_up.max(at);
        let handle = what.handle();
        let flight = super::parts::Flight { conn, life: link.life, what };
        let (at, node) = (link.last_up, u32::from(link.node));
        let place = self.ups.put(flight);
        self.at(at, node, Due::Up(place, handle));
    }

    fn encode_up(&self, what: Up) -> Up {
        match what {
            Up::Beat(beat) => Up::Frame(frame_of(&beat, 0, 0)),
            Up::Ack(ack) => Up::Frame(frame_of(&ack.payload(), 0, 0)),
            frame @ Up::Frame(_) => frame,
        }
    }

    /// A host registers all agents that it has on this connection.
    pub(super) fn register(&mut self, conn: u32) {
        let mut agents = Vec::new();
        for agent in self.agents_of(conn) {
            let own = self.own(agent);
            let again = self.conns[conn as usize].life > 1;
            let actor = &mut self.actors[agent as usize];
            if actor.lost || actor.silent || actor.placed {
                continue;
            }
            actor.asks_at(own);
            actor.again |= again;
            agents.push(self.record(agent));
        }
        if let Some(agent) = self.agents_of(conn).next().filter(|_| !agents.is_empty()) {
            let registration = AgentRegistration { agents, ..AgentRegistration::default() };
            self.send_up(conn, agent, Up::Frame(frame_of(&registration, u64::from(conn), 0)));
        }
    }

    /// What an agent says of itself when it comes.
    pub(super) fn record(&self, agent: u32) -> AgentRecord {
        let capability = if agent.is_multiple_of(3) { "vision" } else { "text" };
        AgentRecord {
            capabilities: vec![capability.into()],
            agent_id: self.fleet.id(agent),
            class: self.fleet.class(agent).code(),
            ..AgentRecord::default()
        }
    }

    /// Something reaches a host.
    pub(super) fn host_gets(&mut self, conn: u32, what: Down) {
        match what {
            Down::Beat(answer) => self.beat_answered(conn, &answer),
            Down::Order(agent, order) => self.order(agent, &order),
            Down::Frame(frame) => self.host_reads(conn, &frame),
        }
    }

    fn host_reads(&mut self, conn: u32, frame: &[u8]) {
        let mut desk = std::mem::take(&mut self.desk);
        if let Some(read) = desk.open(frame) {
            match read.kind {
                Kind::AgentRegistered => self.registered(conn, read.payload),
                Kind::AgentHeartbeat => {
                    if let Ok(answer) = access::<AgentHeartbeat>(read.payload) {
                        self.beat_answered(conn, &beat_of(answer));
                    }
                }
                Kind::Coordinate => {
                    if let Ok(message) = open::<Coordinate>(read.payload) {
                        let order = Order::of(message, read.timestamp_ns);
                        // One that nobody here holds is read by the first, which drops it.
                        let agent = self.who(conn, order.handle, order.generation);
                        if let Some(agent) = agent.or_else(|| self.agents_of(conn).next()) {
                            self.order(agent, &order);
                        }
                    }
                }
                Kind::ErrorReport => self.totals.refused += 1,
                _ => {}
            }
        }
        self.desk = desk;
    }

    /// The agent of a connection with this place.
    pub(super) fn who(&self, conn: u32, handle: u32, generation: u32) -> Option<u32> {
        let place = (handle, generation);
        self.agents_of(conn).find(|agent| self.actors[*agent as usize].agent.place() == place)
    }

    fn registered(&mut self, conn: u32, payload: &[u8]) {
        let Ok(answer) = open::<AgentRegistered>(payload) else { return };
        let sent = answer.sent_ns.to_native();
        let every = (answer.heartbeat_s.to_native() * 1e9) as Time;
        let mut refused = false;
        for place in answer.places.iter() {
            let mine = self.agents_of(conn).find(|a| self.fleet.id(*a) == place.agent_id);
            let Some(agent) = mine else { continue };
            if place.fault != 0 {
                refused = true;
                self.actors[agent as usize].asked = 0;
                continue;
            }
            let place = Place {
                agent_id: place.agent_id,
                handle: place.handle.to_native(),
                generation: place.generation.to_native(),
                ..Place::default()
            };
            let own = self.own(agent);
            let actor = &mut self.actors[agent as usize];
            if actor.silent {
                continue;
            }
            actor.placed = true;
            actor.agent.registered(actor.asked, own, &place, sent, every);
            self.arm(agent);
        }
        if refused {
            self.totals.refused += 1;
            let life = self.conns[conn as usize].life;
            let wait = AGAIN_AFTER + self.rng.below(SECOND);
            self.after(wait, Due::Connect(conn, life));
        }
    }

    fn beat_answered(&mut self, conn: u32, answer: &AgentHeartbeat) {
        let Some(agent) = self.who(conn, answer.handle, answer.generation) else { return };
        let own = self.own(agent);
        let actor = &mut self.actors[agent as usize];
        if !actor.silent {
            actor.agent.answered(own, answer);
            self.arm(agent);
        }
    }

    fn order(&mut self, agent: u32, order: &Order) {
        let (own, backlog) = (self.own(agent), self.fleet.queue(agent, self.now));
        if self.actors[agent as usize].silent {
            return;
        }
        let mut out = std::mem::take(&mut self.outputs);
        let actor = &mut self.actors[agent as usize];
        let known = if actor.agent.in_hand() == 0 { 0 } else { actor.bound };
        // As of the moment that the message is about.
        let clock = actor.agent.clock();
        let moment = clock.to_own(order.target_ns, own).unwrap_or(own).max(own);
        actor.bound = known.max(clock.error_bound_at(moment));
        self.actors[agent as usize].agent.order(own, order, backlog, &mut out);
        self.put_out(agent, out);
    }
}
