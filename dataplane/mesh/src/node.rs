//! The machine: everything that a node does in the mesh. Frames, connections that end, volleys that
//! were sent and time go in; frames, volleys and records go out as [`Effect`]s.
//!
//! One thread owns a [`Mesh`]. It is never waited for by a shard and never waits for one: what
//! comes late is late, and what does not come is a straggler.

mod agents;
mod answers;
mod below;
mod counters;
mod finish;
mod gathers;
mod intake;
mod kpi;
mod launch;
mod machine;
mod orders;
mod punctual;
mod recovery;
mod surges;
mod suspects;
mod tree;
mod trust;
mod views;

pub use counters::{Measure, MeshCounters, Visit};
pub use kpi::Kpi;
pub use machine::Mesh;
pub(crate) use orders::signatures;
pub use orders::{read_circuit, read_freeze};
pub use punctual::Punctuality;
pub use trust::Trust;
pub use views::Wanted;

use crate::Time;
use wire::{
    mesh::{Role, Template},
    payload::mesh::{AgentHeartbeat, ArchivedAck},
};

/// A connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// The shard that has it.
    pub shard: u16,
    /// Its place in the shard.
    pub conn: u32,
    /// Which life of that place.
    pub life: u32,
}

/// Where a frame came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// By which connection.
    pub peer: Peer,
    /// Whoever sent it is on the node's own machine.
    pub is_local: bool,
}

/// A connection of which nothing else is known: as one from elsewhere.
impl From<Peer> for Source {
    fn from(peer: Peer) -> Self {
        Self { peer, is_local: false }
    }
}

/// The present moment on both clocks. Everything is measured on `node`; the wall clock is shown,
/// stamped into ids, and used to read an operator's `at`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The node's monotonic clock.
    pub node: Time,
    /// Nanoseconds since the Unix epoch.
    pub epoch_ns: u64,
}

/// What the machine wants done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A frame for a connection. One that is gone swallows it.
    Send {
        /// Whereto.
        to: Peer,
        /// Header and payload.
        frame: Vec<u8>,
    },
    /// Copies of a message for the agents of one shard. [`Mesh::volley_done`] is owed for it.
    Volley(VolleyOrder),
    /// Something to keep.
    Persist(Record),
    /// A connection that sent too much of what nobody can use.
    Close {
        /// The connection.
        peer: Peer,
    },
}

/// What came of a call, in order.
pub type Effects = Vec<Effect>;

/// What is worth keeping over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The registry, in place of the last one; [`Mesh::restore`] takes it.
    Registry(Vec<u8>),
    /// The result of a gather: a GATHER_REPORT's payload under the id of its operation.
    Gather {
        /// The message's id: records sort by time.
        id: [u8; 16],
        /// The payload.
        report: Vec<u8>,
    },
}

/// The sends of one message on one shard.
#[derive(Clone, Debug)]
pub struct VolleyOrder {
    /// Unique within the node's life, but for 2^32 volleys. All shards' parts of a volley share it.
    pub number: u32,
    /// The shard.
    pub shard: u16,
    /// The message.
    pub template: Template,
    /// From this moment on nothing of it is sent any more (MESHMSG-06, Z-08).
    pub expires: Time,
    /// 0 background to 3 critical.
    pub priority: u8,
    /// By send time.
    pub sends: Vec<ScheduledSend>,
}

/// One copy (SCHED-06).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduledSend {
    /// When it leaves.
    pub at: Time,
    /// The connection's place.
    pub conn: u32,
    /// Which life of that place.
    pub life: u32,
    /// Recipient.
    pub handle: u32,
    /// Of its registration.
    pub generation: u32,
    /// How long before the target moment it leaves, microseconds.
    pub lead_us: u32,
    /// Processing time expected, microseconds.
    pub expected_us: u32,
    /// 0 to 1.
    pub confidence: f32,
}

/// What a shard did with its part of a volley, once nothing of it is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolleyReport {
    /// Number of the volley.
    pub number: u32,
    /// The shard.
    pub shard: u16,
    /// Copies that left.
    pub sent: u32,
    /// Copies dropped because the message had expired.
    pub expired: u32,
    /// Copies whose connection was gone.
    pub gone: u32,
    /// Copies that the queue had no room for.
    pub refused: u32,
    /// How late copies left: pairs of nanoseconds and how many.
    pub fire_error: Vec<(Time, u64)>,
}

/// A heartbeat, decoded.
pub type Beat = AgentHeartbeat;

/// An answer, decoded. Fields as in [`wire::payload::mesh::Ack`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the wire type has the words")]
pub struct AckView<'a> {
    pub conflict_detail: &'a str,
    pub message_id: [u8; 16],
    pub handle: u32,
    pub generation: u32,
    pub hlc: u64,
    pub origin_ns: u64,
    pub received_ns: u64,
    pub ready_ns: u64,
    pub acted_ns: u64,
    pub sent_ns: u64,
    pub target_own_ns: u64,
    pub processing_ns: u64,
    pub context_hash: u64,
    pub queue_found: u32,
    pub queue_depth: u32,
    pub state: u8,
}

impl<'a> From<&'a ArchivedAck> for AckView<'a> {
    fn from(ack: &'a ArchivedAck) -> Self {
        Self {
            conflict_detail: &ack.conflict_detail,
            message_id: ack.message_id,
            handle: ack.handle.to_native(),
            generation: ack.generation.to_native(),
            hlc: ack.hlc.to_native(),
            origin_ns: ack.origin_ns.to_native(),
            received_ns: ack.received_ns.to_native(),
            ready_ns: ack.ready_ns.to_native(),
            acted_ns: ack.acted_ns.to_native(),
            sent_ns: ack.sent_ns.to_native(),
            target_own_ns: ack.target_own_ns.to_native(),
            processing_ns: ack.processing_ns.to_native(),
            context_hash: ack.context_hash.to_native(),
            queue_found: ack.queue_found.to_native(),
            queue_depth: ack.queue_depth.to_native(),
            state: ack.state,
        }
    }
}

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names the node to others.
    pub node_id: [u8; 16],
    /// For people.
    pub name: String,
    /// Whether something is above it.
    pub role: Role,
    /// Agents there is room for.
    pub agents: u32,
    /// Gathers that may run at once.
    pub gathers: usize,
    /// Targets of one gather, at most.
    pub targets: u32,
    /// Nodes that may join below, at most (HIER-02: 100).
    pub children: usize,
    /// Least distance between two sends of one shard: spreads what one bucket would send at once
    /// (SCHED-08, Y-12).
    pub send_gap: Time,
    /// Whose orders count, and the node's own key.
    pub trust: Trust,
    /// How often the registry is handed out to be kept; 0 for never.
    pub snapshot_every: Time,
    /// Measures how long plans take, for reports; nothing is decided by it. In virtual time it
    /// always says the same.
    pub stopwatch: fn() -> Time,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_id: [0; 16],
            name: String::new(),
            role: Role::Orchestrator,
            agents: 30_000,
            gathers: 32,
            targets: 30_000,
            children: 100,
            send_gap: 0,
            trust: Trust::default(),
            snapshot_every: 0,
            stopwatch: || 0,
        }
    }
}
