//! What a world is made of besides its cores: connections, and what is on its way over them.

use super::{
    engine::Time,
    node::{BETWEEN_NODES, TO_OPERATOR},
};
use ::mesh::agent::{Ack, Order};
use wire::payload::mesh::AgentHeartbeat;

/// What happens. Agents, connections, nodes and things on their way are named by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// An agent's timer.
    Agent(u32),
    /// An agent's service is over; which service that was.
    Served(u32, u32),
    /// A node's timer.
    Node(u8),
    /// A copy or more is due on a node's shard.
    Fire(u8, u8),
    /// Something reaches a node; the handle of the agent that it says it is of, where it does.
    Up(u32, u32),
    /// Something reaches the other end of a connection.
    Down(u32),
    /// A node notices that a connection ended; its life.
    Gone(u32, u32),
    /// A connection is made again; its life until now.
    Connect(u32, u32),
    /// A fault strikes.
    Strike(u16),
    /// A fault's other half.
    Heal(u16),
    /// The operator asks.
    Ask,
    /// A node comes back.
    NodeUp(u8),
    /// The judge looks at everything.
    Sweep,
}

/// On its way to a node.
#[derive(Clone, Debug)]
pub(super) enum Up {
    /// A heartbeat.
    Beat(AgentHeartbeat),
    /// An answer.
    Ack(Ack),
    /// A frame.
    Frame(Vec<u8>),
}

/// On its way from a node.
#[derive(Clone, Debug)]
pub(super) enum Down {
    /// The shard's answer to a heartbeat.
    Beat(AgentHeartbeat),
    /// A COORDINATE for an agent.
    Order(u32, Order),
    /// A frame.
    Frame(Vec<u8>),
}

impl Up {
    /// The handle of the agent that says it; none (the largest number) for frames.
    pub(super) const fn handle(&self) -> u32 {
        match self {
            Self::Beat(beat) => beat.handle,
            Self::Ack(ack) => ack.handle,
            Self::Frame(_) => u32::MAX,
        }
    }
}

/// Something on its way over one life of a connection.
#[derive(Clone, Debug)]
pub(super) struct Flight<T> {
    pub(super) conn: u32,
    pub(super) life: u32,
    pub(super) what: T,
}

/// A connection between a node and a host of agents, an operator, or the node below.
#[derive(Clone, Debug)]
pub(super) struct Conn {
    /// The node that accepts it.
    pub(super) node: u8,
    /// The node that made it, for a child's connection to its parent.
    pub(super) child: Option<u8>,
    /// Whether it is there.
    pub(super) up: bool,
    /// Since when.
    pub(super) since: Time,
    /// Which one it is in this place.
    pub(super) life: u32,
    /// When the last thing arrives each way: streams keep their order.
    pub(super) last_up: Time,
    pub(super) last_down: Time,
    /// Nothing passes until then.
    pub(super) parted_until: Time,
    /// The node was told that this life of it, and all before, are gone.
    pub(super) gone: u32,
}

impl Conn {
    pub(super) const fn new(node: u8, child: Option<u8>) -> Self {
        Self {
            node,
            child,
            up: false,
            since: 0,
            life: 0,
            last_up: 0,
            last_down: 0,
            parted_until: 0,
            gone: 0,
        }
    }

    /// Delay each way, for those that no agent has.
    pub(super) const fn delay(&self) -> Time {
        if self.child.is_some() { BETWEEN_NODES } else { TO_OPERATOR }
    }
}

impl Due {
    /// A word that tells what happens apart.
    pub(super) const fn mark(self) -> u64 {
        let (kind, a, b) = match self {
            Self::Agent(a) => (1, a, 0),
            Self::Served(a, b) => (2, a, b),
            Self::Node(a) => (3, a as u32, 0),
            Self::Fire(a, b) => (4, a as u32, b as u32),
            Self::Up(a, _) => (5, a, 0),
            Self::Down(a) => (6, a, 0),
            Self::Gone(a, b) => (7, a, b),
            Self::Connect(a, b) => (8, a, b),
            Self::Strike(a) => (9, a as u32, 0),
            Self::Heal(a) => (10, a as u32, 0),
            Self::Ask => (11, 0, 0),
            Self::NodeUp(a) => (12, a as u32, 0),
            Self::Sweep => (13, 0, 0),
        };
        kind << 56 ^ (a as u64) << 24 ^ b as u64
    }
}
