//! What passed the wire, message by message and agent by agent: what reports are compared with.

use super::{
    engine::Time,
    fault::{Fault, Kind},
    judge::Promise,
    lies::Lie,
    node::Given,
    world::World,
};
use ::mesh::{agent::Ack, agent::Order, node::AckView};
use fleet::{MS, SECOND};
use std::collections::VecDeque;
use wire::{
    mesh::{PRIORITY_MAX, Scope, Trinary},
    payload::mesh::ArchivedGatherReport,
};

/// Messages that are remembered at most.
const KEPT: usize = 48;

/// How much later than its time limit a gather's report may come.
const GRACE: Time = SECOND;

/// What clocks may be off besides: drift since the last estimate, and roundings.
const SLACK: Time = MS;

/// How long an agent may be misled after its clock jumped.
const STEP_FORGOTTEN: Time = 90 * SECOND;

/// What became of a copy, each a bit.
const SENT: u8 = 1;
const ACTED: u8 = 2;
const READY: u8 = 4;
const CONFLICT: u8 = 8;
const TRANSIT: u8 = 16;

/// What is true of a message. True times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Truth {
    pub(super) message_id: [u8; 16],
    pub(super) correlation_id: [u8; 16],
    pub(super) node: u8,
    pub(super) target: Time,
    pub(super) expires: Time,
    pub(super) hold: bool,
    pub(super) priority: u8,
    pub(super) weight: f32,
}

#[derive(Debug)]
struct Message {
    truth: Truth,
    began: Time,
    dial: usize,
    weight: f32,
    copies: Vec<u8>,
    /// Copies and first answers that were seen.
    seen: u32,
    ready: u32,
    conflicts: u32,
    transit: u32,
}

#[derive(Clone, Debug)]
struct Asked {
    number: u64,
    correlation_id: [u8; 16],
    at: Time,
    until: Time,
    dial: usize,
    finals: u32,
    sound: bool,
    /// Nobody waits for the report any more, or nobody is there to make it.
    void: bool,
}

/// A part that is frozen or cut off.
#[derive(Clone, Copy, Debug)]
struct Part {
    what: (Scope, u16, u16),
    from: Time,
    /// A breaker, not a freeze.
    breaker: bool,
}

impl Part {
    /// Whether an agent of the first node is in it. Sectors and clusters are as the node last said.
    fn holds(&self, place: (u16, u16), moved: bool) -> bool {
        let (scope, sector, cluster) = self.what;
        match scope {
            Scope::Global => true,
            Scope::Sector => !moved && place.0 == sector,
            Scope::Cluster => !moved && place == (sector, cluster),
        }
    }

    /// Whether this copy may leave all the same: what was scheduled before is not recalled, and
    /// what is critical passes an open global breaker.
    fn lets_pass(&self, message: &Message) -> bool {
        let critical = message.truth.priority >= PRIORITY_MAX;
        message.began < self.from || self.breaker && self.what.0 == Scope::Global && critical
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Watch {
    agents: u32,
    messages: VecDeque<Message>,
    asked: VecDeque<Asked>,
    parts: Vec<Part>,
    /// Agents changed their cluster: what was told at registration is old.
    pub(super) moved: bool,
    pub(super) foreign: u64,
    /// Decisions of final reports, by code.
    pub(super) decisions: [u64; 8],
    pub(super) last: Option<super::measure::Report>,
}

impl Watch {
    pub(super) fn new(agents: u32) -> Self {
        Self {
            agents,
            messages: VecDeque::new(),
            asked: VecDeque::new(),
            parts: Vec::new(),
            moved: false,
            foreign: 0,
            decisions: [0; 8],
            last: None,
        }
    }

    /// The copies of one message with one target moment: phases of a cascade have their own.
    fn message(&mut self, node: u8, id: &[u8; 16], target: Time) -> Option<&mut Message> {
        let same = |m: &&mut Message| {
            m.truth.node == node && m.truth.message_id == *id && m.truth.target == target
        };
        self.messages.iter_mut().rev().find(same)
    }

    /// Those of which this agent got one.
    fn message_to(&mut self, id: &[u8; 16], agent: u32) -> Option<&mut Message> {
        let mut messages = self.messages.iter_mut().rev();
        let sent = |m: &Message| m.copies.get(agent as usize).is_some_and(|c| c & SENT != 0);
        messages.find(|m| m.truth.message_id == *id && sent(m))
    }

    /// The operator asked.
    pub(super) fn asked(
        &mut self,
        number: u64,
        correlation_id: [u8; 16],
        at: Time,
        timeout: Time,
        dial: usize,
        sound: bool,
    ) {
        let until = at.saturating_add(timeout).saturating_add(GRACE);
        let (finals, void) = (0, false);
        let asked = Asked { number, correlation_id, at, until, dial, finals, sound, void };
        self.asked.push_back(asked);
    }

    /// A node refused a question: that is an end too.
    pub(super) fn refused(&mut self, number: u64) {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.number == number) {
            asked.finals += 1;
        }
    }

    pub(super) fn operator_left(&mut self, at: Time) {
        self.void(at);
    }

    pub(super) fn node_died(&mut self, node: u8, at: Time) {
        if node == 0 {
            self.void(at);
            // It comes back with the gates of its last snapshot, whichever those were.
            self.parts.clear();
        }
        self.messages.retain(|message| message.truth.node != node);
    }

    fn void(&mut self, at: Time) {
        for asked in self.asked.iter_mut().filter(|asked| asked.at <= at) {
            asked.void = true;
        }
    }

    /// A part was frozen or cut off, or is free again.
    pub(super) fn part(&mut self, fault: &Fault, what: (Scope, u16, u16), begin: bool, now: Time) {
        let breaker = fault.kind == Kind::Circuit;
        // Numbers that the scope has no use for are not part of the place.
        let what = match what {
            (Scope::Global, ..) => (Scope::Global, 0, 0),
            (Scope::Sector, sector, _) => (Scope::Sector, sector, 0),
            cluster => cluster,
        };
        if begin {
            self.parts.push(Part { what, from: now + 10 * MS, breaker });
        } else {
            // Another order of the same kind to the same place ends with it.
            self.parts.retain(|part| (part.what, part.breaker) != (what, breaker));
        }
    }

    /// A node ordered copies.
    pub(super) fn begins(&mut self, truth: &Truth, now: Time) {
        if self.message(truth.node, &truth.message_id, truth.target).is_some() {
            return;
        }
        let asked = self.asked.iter().find(|asked| asked.correlation_id == truth.correlation_id);
        let dial = asked.map_or(0, |asked| asked.dial);
        if self.messages.len() == KEPT {
            self.messages.pop_front();
        }
        self.messages.push_back(Message {
            truth: *truth,
            began: now,
            dial,
            weight: truth.weight,
            copies: vec![0; self.agents as usize],
            seen: 0,
            ready: 0,
            conflicts: 0,
            transit: 0,
        });
    }

    /// Whoever holds the connection of an odd name may answer in it: not more than this counts.
    fn note_odd_answer(&mut self, node: u8, ack: &AckView<'_>) {
        let same = |m: &&mut Message| m.truth.message_id == ack.message_id && m.truth.node == node;
        let Some(message) = self.messages.iter_mut().rev().find(same) else { return };
        match Trinary::from_code(ack.state) {
            Some(Trinary::Ready) => message.ready += 1,
            Some(Trinary::Conflict) => message.conflicts += 1,
            _ => {}
        }
    }

    /// Every gather that should have ended has.
    pub(super) fn ended(&mut self, now: Time, judge: &mut super::judge::Judge) {
        while let Some(asked) = self.asked.front() {
            if now < asked.until {
                return;
            }
            let ends = asked.finals == 1 || asked.void || !asked.sound && asked.finals <= 1;
            judge.look(Promise::GathersEnd, now, ends, || {
                format!(
                    "gather {} of {} ns has {} final reports",
                    asked.number, asked.at, asked.finals
                )
            });
            self.asked.pop_front();
        }
    }
}

/// An agent's answer beside what is true of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acted<'a> {
    pub(super) agent: u32,
    /// True time, and the agent's clock.
    pub(super) now: Time,
    pub(super) own: Time,
    /// When it was READY, true time.
    pub(super) ready: Time,
    /// The agent's clock at the target moment.
    pub(super) target_own: Time,
    /// How well the agent can know that.
    pub(super) bound: Time,
    /// Its clock jumped lately: it cannot know.
    pub(super) stepped: bool,
    pub(super) ack: &'a Ack,
    pub(super) sent: Time,
    pub(super) class: wire::mesh::AgentClass,
    /// It says what is so.
    pub(super) honest: bool,
}

impl World {
    /// An agent's core answers: whether what it did is what it should.
    pub(super) fn judge_answer(&mut self, agent: u32, ack: &Ack) {
        if ack.state != Trinary::Ready.code() || ack.acted_ns == 0 {
            return;
        }
        let Some(message) = self.watch.message_to(&ack.message_id, agent) else { return };
        let (truth, dial, weight) = (message.truth, message.dial, message.weight);
        let actor = &self.actors[agent as usize];
        let ready = self.fleet.true_time(agent, ack.ready_ns.saturating_sub(actor.skew));
        let seen = Acted {
            agent,
            now: self.now,
            own: self.own(agent),
            ready,
            target_own: self.own_at(agent, truth.target),
            bound: actor.bound.saturating_add(SLACK),
            stepped: self.misled(agent),
            ack,
            sent: ack.origin_ns.saturating_sub(self.nodes[usize::from(truth.node)].base),
            class: self.fleet.class(agent),
            honest: actor.lies.honest(),
        };
        self.judge_moment(&truth, &seen);
        let Some(message) = self.watch.message_to(&ack.message_id, agent) else { return };
        let copy = &mut message.copies[agent as usize];
        let first = *copy & ACTED == 0;
        *copy |= ACTED;
        self.judge.look(Promise::ActsOnce, seen.now, first, || {
            format!("agent {agent} acts once more on {:02x?}", ack.message_id)
        });
        if truth.hold || self.plan.steady {
            let tau = f64::from(self.plan.dials[dial]);
            self.measure.landed(dial, tau, &truth, &seen, &self.fleet, weight);
        }
    }

    /// Whether what the agent knows of the node's clock may be wrong: its own clock jumped lately,
    /// or jumped ever while it says wrong times, of which it learns nothing.
    fn misled(&self, agent: u32) -> bool {
        let actor = &self.actors[agent as usize];
        let lately = self.now < actor.stepped + STEP_FORGOTTEN;
        actor.stepped > 0 && (lately || actor.lies.has(Lie::Time))
    }

    fn judge_moment(&mut self, truth: &Truth, seen: &Acted<'_>) {
        let Acted { agent, now, own, target_own, bound, stepped, ack, .. } = *seen;
        let own_moment = !truth.hold || own >= ack.target_own_ns;
        self.judge.look(Promise::NeverEarly, now, own_moment, || {
            format!("agent {agent} acts {} ns before its own moment", ack.target_own_ns - own)
        });
        if truth.hold && !stepped {
            let holds = own.saturating_add(bound) >= target_own;
            self.judge.look(Promise::NeverEarly, now, holds, || {
                let early = target_own.saturating_sub(own);
                format!("agent {agent} acts {early} ns early; it knows the moment to {bound} ns")
            });
            let off = ack.target_own_ns.abs_diff(target_own);
            self.judge.look(Promise::TargetKnown, now, off <= bound, || {
                format!("agent {agent} takes the moment for {off} ns off, and claims {bound} ns")
            });
        }
        let alive = stepped || now <= truth.expires.saturating_add(bound);
        self.judge.look(Promise::NeverExpired, now, alive, || {
            format!("agent {agent} acts {} ns after the message's end", now - truth.expires)
        });
    }

    /// One of the names that garbage happened to make, or a name that another node of the tree gave
    /// to a thief: a node does not know those of the others.
    fn is_odd(&self, given: &Given) -> bool {
        given.agent >= self.plan.agents || given.conn / 2 != self.conn_of(given.agent)
    }

    /// A copy leaves a node.
    pub(super) fn note_copy(&mut self, node: u8, given: &Given, order: &Order) {
        let now = self.now;
        let agent = given.agent;
        let twice = self.watch.message_to(&order.message_id, agent).is_some();
        let target = order.target_ns.saturating_sub(self.nodes[usize::from(node)].base);
        let odd = self.is_odd(given);
        let place = (given.sector, given.cluster);
        let moved = self.watch.moved;
        let shut = self.watch.parts.iter().filter(|part| node == 0 && part.holds(place, moved));
        let shut: Vec<Part> = shut.copied().collect();
        let Some(message) = self.watch.message(node, &order.message_id, target) else { return };
        let quiet = !shut.iter().any(|part| !part.lets_pass(message));
        self.judge.look(Promise::FrozenIsQuiet, now, quiet, || {
            format!("agent {agent} in {:?} gets a message", (given.sector, given.cluster))
        });
        // The agent gets no such copy.
        if odd {
            message.seen += 1;
            return;
        }
        let expires = message.truth.expires;
        self.judge.look(Promise::NeverExpired, now, now < expires, || {
            format!("a copy for agent {agent} leaves {} ns after its end", now - expires)
        });
        self.judge
            .look(Promise::SentOnce, now, !twice, || format!("agent {agent} gets a second copy"));
        let Some(message) = self.watch.message(node, &order.message_id, target) else { return };
        let Some(copy) = message.copies.get_mut(agent as usize) else { return };
        *copy |= SENT;
        message.seen += 1;
        if message.truth.hold || self.plan.steady {
            let model = self.fleet.agent(agent);
            let stepped = model.step_at_ms != u32::MAX;
            let honest = self.actors[agent as usize].lies.honest();
            let of = super::measure::Of { class: model.class, stepped, honest };
            self.measure.sent(message.dial, message.truth.target, of);
        }
    }

    /// An answer reaches a node: whether it counts.
    pub(super) fn note_answer(&mut self, node: u8, conn: u32, life: u32, ack: &AckView<'_>) {
        let place = 2 * conn + life % 2;
        let given = self.nodes[usize::from(node)].given.get(ack.handle as usize).copied().flatten();
        let given =
            given.filter(|g| (g.conn, g.life, g.generation) == (place, life, ack.generation));
        if given.is_some_and(|given| self.is_odd(&given)) {
            self.watch.note_odd_answer(node, ack);
            return;
        }
        let watch = &mut self.watch;
        let message = watch.messages.iter_mut().rev().find(|m| {
            let sent = given
                .is_some_and(|g| m.copies.get(g.agent as usize).is_some_and(|c| c & SENT != 0));
            m.truth.message_id == ack.message_id && m.truth.node == node && sent
        });
        let copy = message.zip(given).and_then(|(message, given)| {
            let copy = message.copies.get(given.agent as usize).copied()?;
            (copy & SENT != 0).then_some((message, given.agent, copy))
        });
        let Some((message, agent, copy)) = copy else {
            watch.foreign += 1;
            return;
        };
        let bit = match Trinary::from_code(ack.state) {
            Some(Trinary::Ready) => READY,
            Some(Trinary::Conflict) => CONFLICT,
            Some(Trinary::Transit) => TRANSIT,
            None => return,
        };
        let first = copy & (READY | CONFLICT) == 0;
        if first && copy & bit == 0 {
            message.copies[agent as usize] |= bit;
            match bit {
                READY => message.ready += 1,
                CONFLICT => message.conflicts += 1,
                _ => message.transit += 1,
            }
        }
    }

    /// A report reaches the operator.
    pub(super) fn reported(&mut self, number: u64, report: &ArchivedGatherReport) {
        if !report.is_final {
            return;
        }
        let now = self.now;
        let read = super::measure::Report::read(report);
        let c = read.counts;
        let finals = match self.watch.asked.iter_mut().find(|asked| asked.number == number) {
            Some(asked) => {
                asked.finals += 1;
                asked.finals
            }
            None => 2,
        };
        self.judge.look(Promise::GathersEnd, now, finals == 1, || {
            format!("gather {number} has a second final report, or one after its end")
        });
        let adds = c.targets == c.scheduled + c.skipped
            && c.sent == c.ready + c.conflicts + c.transit + c.stragglers
            && c.ready == c.in_time + c.late
            && c.sent <= c.scheduled;
        self.judge.look(Promise::CountsAddUp, now, adds, || format!("{c:?}"));
        let skips: u32 = report.skips.iter().map(|row| row.count.to_native()).sum();
        self.judge.look(Promise::SkipsExplained, now, skips == c.skipped, || {
            format!("{skips} skips have reasons, of {}", c.skipped)
        });
        let mut seen = (0, 0, 0);
        let correlation = report.correlation_id;
        for message in self.watch.messages.iter().filter(|m| m.truth.correlation_id == correlation)
        {
            seen = (seen.0 + message.seen, seen.1 + message.ready, seen.2 + message.conflicts);
        }
        let whole = self.plan.faults.iter().all(|f| f.kind != Kind::ParentDies);
        // A node below that did not report in time counts with what it had planned, as silent.
        let assumed = if self.plan.children > 0 { c.stragglers } else { 0 };
        let holds = c.sent <= seen.0 + assumed && c.ready <= seen.1 && c.conflicts <= seen.2;
        self.judge.look(Promise::CountsTrue, now, holds || !whole, || {
            format!("the report says {c:?}; {seen:?} copies, READY, CONFLICT passed the wire")
        });
        self.judge.look(Promise::ForeignIgnored, now, c.ready <= c.sent, || format!("{c:?}"));
        let code = usize::from(report.decision).min(7);
        self.watch.decisions[code] += 1;
        let dial = self.watch.asked.iter().find(|a| a.number == number).map_or(0, |a| a.dial);
        self.measure.reported(dial, &read, now);
        self.watch.last = Some(read);
    }
}
