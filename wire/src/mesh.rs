//! What the mesh's messages (0x01xx) are made of besides their payloads: closed registries, ids.

mod histogram;
mod ids;
mod template;
mod text;

pub use histogram::{bin_middle, bin_of, bin_start, coarse, quantile};
pub use ids::{MessageId, message_id};
pub use template::{BEAT_LEN, PerAgent, Template, write_beat_reply};
pub use text::{LineFault, NotASelection, Selection, Who, id_text, parse_id, parse_lines};

use crate::kind::registry;

/// Most bytes of a COORDINATE's payload.
pub const MESSAGE_MAX: usize = 16 << 10;

/// Most agents of one AGENT_REGISTRATION, and of one connection.
pub const REGISTRATION_MAX: usize = 256;

/// Most capabilities of an agent, or required by a message.
pub const CAPABILITIES_MAX: usize = 16;

/// Most bytes of a capability's name.
pub const CAPABILITY_LEN_MAX: usize = 64;

/// Most ids that a GATHER names.
pub const TARGET_IDS_MAX: usize = 65_536;

/// Most bytes of a reason, a detail, a node's name.
pub const DETAIL_LEN_MAX: usize = 256;

/// Most stragglers, and most conflicts, that a GATHER_REPORT names.
pub const NAMES_MAX: usize = 32;

/// Most gathers of a MESH_VIEW.
pub const GATHERS_MAX: usize = 32;

/// Bins of a histogram.
pub const BINS_MAX: usize = 2_113;

/// Most clusters of a MESH_SUMMARY.
pub const SUMMARY_CLUSTERS_MAX: usize = 65_536;

/// Most signatures of an order.
pub const SIGNATURES_MAX: usize = 4;

/// The highest priority of a message. Conflicts between agents have a scale of their own.
pub const PRIORITY_MAX: u8 = 3;

registry! {
    /// Impedance classes (CLASS-01..06): what an agent is, and so how long it may take.
    pub enum AgentClass: u8 {
        /// Edge functions: 5 to 20 ms.
        Edge = 0, "A";
        /// Serverless functions: 50 to 150 ms.
        Serverless = 1, "B";
        /// Persistent containers: 100 to 300 ms.
        Persistent = 2, "C";
        /// GPU hosts: 200 to 500 ms.
        Gpu = 3, "D";
        /// Local devices: variable.
        Local = 4, "E";
        /// People: seconds to hours.
        Human = 5, "F";
    }
}

registry! {
    /// Operational states (IMPED-10).
    pub enum AgentState: u8 {
        /// Serves.
        Active = 0, "active";
        /// Serves, slowly or unreliably.
        Degraded = 1, "degraded";
        /// Not connected, or silent for too long.
        Offline = 2, "offline";
        /// Serves nothing until released.
        Quarantined = 3, "quarantined";
    }
}

registry! {
    /// What a message asks of its recipients (MESHMSG-11).
    pub enum Verb: u8 {
        /// Look.
        Observe = 0, "observe";
        /// Take a position.
        Orient = 1, "orient";
        /// Choose.
        Decide = 2, "decide";
        /// Do.
        Act = 3, "act";
        /// Write down.
        Record = 4, "record";
        /// Take over state.
        Sync = 5, "sync";
    }
}

registry! {
    /// Answers (TRIN-01). Read as a signed byte the codes are +1, 0 and -1.
    pub enum Trinary: u8 {
        /// Under way, not there yet.
        Transit = 0, "transit";
        /// Done, or able to.
        Ready = 1, "ready";
        /// Knows better: information, not failure.
        Conflict = 255, "conflict";
    }
}

registry! {
    /// How a message travels (MESHMSG-03).
    pub enum Routing: u8 {
        /// To one.
        Direct = 0, "direct";
        /// To all, answers not waited for.
        Broadcast = 1, "broadcast";
        /// To many, answers gathered in a window.
        ScatterGather = 2, "scatter_gather";
        /// Through one after the other.
        Pipeline = 3, "pipeline";
    }
}

registry! {
    /// The order in which a cascade reaches its levels (CASCADE-01, -05, -06).
    pub enum Strategy: u8 {
        /// Sectors, then clusters, then agents, each level confirmed first.
        Wave = 0, "wave";
        /// All at once.
        Parallel = 1, "parallel";
        /// Class by class: D, C, B, A, E.
        Priority = 2, "priority";
    }
}

registry! {
    /// What a gather decides in the end (TRIN-03..06), and what stopped it.
    pub enum Decision: u8 {
        /// Enough are ready, few enough conflict.
        Proceed = 0, "proceed";
        /// Too many are still under way: a larger window may do.
        Wait = 1, "wait";
        /// Too many know better.
        ResolveConflicts = 2, "resolve_conflicts";
        /// Neither: correct the predictions and try again.
        Retry = 3, "retry";
        /// Nobody was chosen, or nobody could be reached in time.
        NoTargets = 4, "no_targets";
        /// A level of the cascade did not confirm (CASCADE-02).
        FailedAtSector = 5, "failed_at_sector";
    }
}

registry! {
    /// Whom a gather is for.
    pub enum SelectBy: u8 {
        /// Everyone.
        All = 0, "all";
        /// One class.
        Class = 1, "class";
        /// One sector.
        Sector = 2, "sector";
        /// One cluster of a sector.
        Cluster = 3, "cluster";
        /// Whoever can do something.
        Capability = 4, "capability";
        /// These.
        Ids = 5, "ids";
    }
}

registry! {
    /// Why a target got no message (SCHED-05 and its neighbours).
    pub enum SkipReason: u8 {
        /// Its lead is longer than the time that is left.
        InsufficientLeadTime = 0, "insufficient_lead_time";
        /// Its lead is over the compensation range (SCHED-09).
        OverRange = 1, "over_range";
        /// Not connected, or silent.
        Offline = 2, "offline";
        /// Quarantined.
        Quarantined = 3, "quarantined";
        /// A breaker above it is open.
        CircuitOpen = 4, "circuit_open";
        /// Frozen.
        Frozen = 5, "frozen";
        /// Lacks a capability that the message requires.
        Incapable = 6, "incapable";
        /// The send queue has no room.
        QueueFull = 7, "queue_full";
        /// The message's time to live ended before its send time.
        Expired = 8, "expired";
        /// Unknown id.
        Unknown = 9, "unknown";
        /// Its connection ended before the send.
        Gone = 10, "gone";
        /// A level of the cascade above it did not confirm, or its phase never came.
        Unconfirmed = 11, "unconfirmed";
    }
}

registry! {
    /// What an order to a breaker says (MESHMSG-17).
    pub enum CircuitAction: u8 {
        /// Nothing passes.
        Open = 0, "open";
        /// Probes pass.
        HalfOpen = 1, "half_open";
        /// All passes.
        Close = 2, "close";
    }
}

registry! {
    /// How far CIRCUIT and FREEZE reach.
    pub enum Scope: u8 {
        /// One cluster.
        Cluster = 0, "cluster";
        /// One sector.
        Sector = 1, "sector";
        /// All.
        Global = 2, "global";
    }
}

registry! {
    /// What a node is within a tree of nodes.
    pub enum Role: u8 {
        /// Nothing above it.
        Orchestrator = 0, "orchestrator";
        /// Coordinates its own agents for a parent.
        Sector = 1, "sector";
    }
}

registry! {
    /// What a MESH_QUERY asks for.
    pub enum View: u8 {
        /// Agents, one row each.
        Agents = 0, "agents";
        /// The global map: sectors and clusters.
        Map = 1, "map";
        /// The last gathers that ended.
        Gathers = 2, "gathers";
    }
}

registry! {
    /// How a mesh is run now (CONS-01).
    pub enum Mode: u8 {
        /// Nothing is frozen, and the node above, if there is one, is there.
        Normal = 0, "normal";
        /// All of it is frozen.
        Frozen = 1, "frozen";
        /// Some sectors or clusters are frozen.
        PartlyFrozen = 2, "partly_frozen";
        /// The node above is away.
        Alone = 3, "alone";
    }
}

registry! {
    /// How an agent stands, from the top of the status bar to its bottom (BAR-01): in exactly one
    /// of these ways. A label value of figures; it does not travel as a code.
    pub enum Standing: u8 {
        /// Idle, can be asked. Green.
        Ready = 0, "ready";
        /// Idle, and of proven reliability. White.
        Trusted = 1, "trusted";
        /// At work. Red.
        Busy = 2, "busy";
        /// Nothing certain is known of it. Yellow.
        Unknown = 3, "unknown";
        /// Gone. Grey.
        Offline = 4, "offline";
    }
}

registry! {
    /// What a list of agents is sorted by.
    pub enum SortBy: u8 {
        /// Sector, cluster, position.
        Name = 0, "name";
        /// Impedance score, highest first.
        Impedance = 1, "impedance";
        /// Success rate, lowest first.
        Reliability = 2, "reliability";
        /// Drift, highest first.
        Drift = 3, "drift";
    }
}
