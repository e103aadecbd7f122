//! The universe of one run: nodes, connections, agents, an operator, the clock, and the judge.

use super::{
    actor::Actor,
    engine::{Queue, Time},
    forger::Ledger,
    frames::Desk,
    judge::{Breach, Judge},
    measure::Measure,
    node::Node,
    operator::Operator,
    parts::{Conn, Down, Due, Flight, Up},
    plan::Plan,
    slab::Slab,
    watch::Watch,
};
use crate::rng::Rng;
use ::mesh::agent::Output;
use fleet::{Fleet, MS, SECOND, Step};

/// Nodes of the queue: the tree's own, then what has no place, then agents.
const NOWHERE: u32 = 255;
pub(super) const AGENTS: u32 = 256;

/// Everything that happened is folded into the hash; the state of the world every so many events.
const HASH_EVERY: u64 = 4_096;

/// The judge looks at everything this often.
const SWEEP_EVERY: Time = SECOND;

/// How much one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Things that happened.
    pub events: u64,
    /// Heartbeats that reached a node.
    pub beats: u64,
    /// Copies that left.
    pub sent: u64,
    /// Answers that reached a node.
    pub answers: u64,
    /// Gathers that were asked for.
    pub gathers: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Frames that a node did not pass on or answered with an error.
    pub refused: u64,
    /// Messages that agents dropped.
    pub dropped: u64,
}

/// One run.
#[derive(Debug)]
pub struct World {
    /// What it consists of.
    pub plan: Plan,
    /// True time.
    pub now: Time,
    /// The model of all agents.
    pub fleet: Fleet,
    /// What was found wrong.
    pub judge: Judge,
    /// How well the messages landed.
    pub measure: Measure,
    /// What happened so far, in numbers.
    pub totals: Totals,
    /// What happened so far, in one number.
    pub hash: u64,
    pub(super) queue: Queue<Due>,
    pub(super) nodes: Vec<Node>,
    pub(super) conns: Vec<Conn>,
    pub(super) actors: Vec<Actor>,
    pub(super) operator: Operator,
    pub(super) watch: Watch,
    pub(super) ledger: Ledger,
    pub(super) ups: Slab<Flight<Up>>,
    pub(super) downs: Slab<Flight<Down>>,
    pub(super) rng: Rng,
    pub(super) desk: Desk,
    pub(super) outputs: Vec<Output>,
    pub(super) ahead: Vec<(u32, Due)>,
    /// The last look at all agents was asked for, and who was there.
    pub(super) last_view: bool,
    pub(super) present: Vec<bool>,
}

impl World {
    /// The world of this plan.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut fleet = Fleet::new(plan.seed, plan.network, plan.mix, plan.agents);
        if !plan.steady {
            fleet = fleet.with_rates(0.02, 0.001);
        }
        for fault in &plan.faults {
            if let Some(step) = step_of(fault, plan.duration) {
                fleet = fleet.with_step(step);
            }
        }
        let mut rng = Rng::new(plan.seed ^ 0x3E54);
        let nodes = (0..=plan.children as u8).map(|number| Node::new(number, &plan, 0)).collect();
        let leaf = |conn: u32| {
            if plan.children == 0 { 0 } else { 1 + (conn % plan.children) as u8 }
        };
        let mut conns: Vec<Conn> =
            (0..plan.connections()).map(|conn| Conn::new(leaf(conn), None)).collect();
        conns.extend((0..=plan.children).map(|node| Conn::new(node as u8, None)));
        conns.extend((0..plan.children).map(|child| Conn::new(0, Some(child as u8 + 1))));
        let light = plan.agents > 10_000;
        let actors =
            (0..plan.agents).map(|i| Actor::new(plan.seed, i, rng.next(), light)).collect();
        let mut operator = Operator::new(plan.seed);
        operator.names = (0..plan.agents).map(|agent| (fleet.id(agent), agent)).collect();
        let mut world = Self {
            now: 0,
            judge: Judge::default(),
            measure: Measure::new(&plan),
            totals: Totals::default(),
            hash: 0xCBF2_9CE4_8422_2325 ^ plan.seed,
            queue: Queue::new(),
            watch: Watch::new(plan.agents),
            ledger: Ledger::default(),
            ups: Slab::new(),
            downs: Slab::new(),
            desk: Desk::default(),
            outputs: Vec::new(),
            ahead: Vec::new(),
            last_view: false,
            present: vec![false; plan.agents as usize],
            fleet,
            nodes,
            conns,
            actors,
            operator,
            rng,
            plan,
        };
        world.begin();
        world
    }

    /// What happens first.
    fn begin(&mut self) {
        let hosts = self.plan.connections();
        for conn in 0..self.conns.len() as u32 {
            // Children and the operator first; agents within the first two seconds.
            let at = if conn < hosts { 20 * MS + self.rng.below(2 * SECOND) } else { MS };
            self.at(at, NOWHERE, Due::Connect(conn, 0));
        }
        for (number, fault) in self.plan.faults.clone().iter().enumerate() {
            self.at(fault.at(self.plan.duration), NOWHERE, Due::Strike(number as u16));
        }
        self.at(4 * SECOND, NOWHERE, Due::Ask);
        if !self.plan.steady {
            self.at(SWEEP_EVERY, NOWHERE, Due::Sweep);
        }
    }

    #[inline]
    pub(super) fn at(&mut self, at: Time, node: u32, due: Due) {
        self.queue.push(at.max(self.now), node, due);
    }

    /// Something happens to an agent.
    #[inline]
    pub(super) fn at_agent(&mut self, at: Time, agent: u32, due: Due) {
        self.at(at, AGENTS + agent, due);
    }

    /// Something happens that is not a node's or an agent's.
    pub(super) fn after(&mut self, delay: Time, due: Due) {
        self.at(self.now + delay, NOWHERE, due);
    }

    /// One thing happens. False at the end of the run.
    pub fn step(&mut self) -> bool {
        self.look_ahead();
        let Some((at, node, due)) = self.queue.pop() else { return false };
        if at > self.plan.duration {
            return false;
        }
        self.now = at;
        self.totals.events += 1;
        self.fold(at ^ u64::from(node) << 44 ^ due.mark());
        if self.totals.events.is_multiple_of(HASH_EVERY) {
            self.fold_state();
        }
        self.happen(due);
        true
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Agent(agent) => self.agent_timer(agent),
            Due::Served(agent, service) => self.served(agent, service),
            Due::Node(node) => self.node_timer(node),
            Due::Fire(node, shard) => self.fire(node, shard),
            Due::Up(flight, _) => self.arrive_up(flight),
            Due::Down(flight) => self.arrive_down(flight),
            Due::Gone(conn, life) => self.gone(conn, life),
            Due::Connect(conn, life) => self.connect(conn, life),
            Due::Strike(fault) => self.strike(fault),
            Due::Heal(fault) => self.heal(fault),
            Due::Ask => self.ask(),
            Due::NodeUp(node) => self.node_up(node),
            Due::Sweep => {
                self.sweep();
                self.after(SWEEP_EVERY, Due::Sweep);
            }
        }
    }

    /// Runs to the end, or to the first promise that is broken.
    ///
    /// # Errors
    /// That promise.
    pub fn run(&mut self) -> Result<(), Breach> {
        while self.step() {
            if let Some(breach) = self.judge.breach() {
                return Err(breach.clone());
            }
        }
        self.now = self.plan.duration;
        self.finish();
        self.fold_state();
        self.judge.breach().cloned().map_or(Ok(()), Err)
    }

    #[inline]
    fn fold(&mut self, word: u64) {
        let mixed = (self.hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.hash = mixed ^ mixed >> 29;
    }

    /// The state that the next events follow from, as far as it is seen from here.
    fn fold_state(&mut self) {
        let totals = self.totals;
        for word in [totals.beats, totals.sent, totals.answers, totals.gathers, totals.dropped] {
            self.fold(word);
        }
        self.fold(self.queue.len() as u64);
        self.fold((self.ups.len() as u64) << 32 | self.downs.len() as u64);
        let some = (self.hash % u64::from(self.plan.agents.max(1))) as usize;
        if let Some(actor) = self.actors.get(some) {
            let word = actor.digest();
            self.fold(word);
        }
    }
}

/// The step of the fleet that a fault is.
fn step_of(fault: &super::fault::Fault, duration: Time) -> Option<Step> {
    let at = fault.at(duration);
    match fault.kind {
        super::fault::Kind::LinkStep => Some(Step { at, share: 0.33, service: 1.0, path: 3.0 }),
        super::fault::Kind::ServiceStep => Some(Step { at, share: 0.33, service: 2.0, path: 1.0 }),
        _ => None,
    }
}
