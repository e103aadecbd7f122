//! The registry of a node's agents (IMPED-01..15): who they are, where their connections are, how
//! fast they are, where they sit.
//!
//! Struct of arrays of a capacity fixed at the start; nothing is allocated for a heartbeat or an
//! answer. An agent is a *handle* (its index) and a *generation*: whoever holds a pair from an
//! earlier life is told so.

use wire::mesh::{AgentClass, AgentState};

use crate::Time;
use crate::cluster::{Clusters, NONE, Name, Seat};
use crate::limits::{FRESH_FOR, REGISTRY_AGENTS, SPIKE, UNSTABLE_DRIFT};

mod beat;
mod columns;
mod gates;
mod index;
mod join;
mod lead;
mod names;
mod select;
mod snapshot;
mod sweep;

pub use beat::{Impedance, score_of};
pub use gates::{Circuit, Gate, Place};
pub use join::{Joined, Newcomer, RegisterFault};
pub use select::{By, Selection, Skipped};
pub use snapshot::SnapshotFault;
pub use sweep::Swept;

use columns::Columns;
use gates::Gates;
use index::{Index, hash_id};
use names::{NO_CAPABILITY, Names};

/// An agent as others refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentRef {
    /// Index in the registry.
    pub handle: u32,
    /// Which life of this index: a new one begins with every registration.
    pub generation: u32,
}

/// Where an agent's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    /// The shard that has the connection.
    pub shard: u16,
    /// The connection's place in the shard.
    pub conn: u32,
    /// Which life of that place.
    pub life: u32,
}

const NO_LINK: Link = Link { shard: u16::MAX, conn: u32::MAX, life: u32::MAX };

/// What is wrong with a reference to an agent. The caller counts these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefFault {
    /// No agent has this handle.
    Unknown,
    /// The handle has had another registration since.
    Stale,
    /// The agent belongs to another connection: somebody speaks for others.
    Foreign,
    /// The agent has no connection now.
    Gone,
}

/// One agent, for reports.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRow {
    /// Handle and generation.
    pub agent: AgentRef,
    /// 128-bit id.
    pub id: [u8; 16],
    /// Impedance class.
    pub class: AgentClass,
    /// Operational state.
    pub state: AgentState,
    /// Sector, cluster, place: `S07-C04-A12`.
    pub name: Name,
    /// True where it leads its cluster.
    pub lead: bool,
    /// Its connection, if it has one.
    pub link: Option<Link>,
    /// Round trip, rolling average.
    pub latency: Time,
    /// Processing time, rolling average.
    pub processing: Time,
    /// Pending operations.
    pub queue: u32,
    /// Last heartbeat (or registration).
    pub heartbeat: Time,
    /// Impedance score, 0 to 1000 ms.
    pub score: f32,
    /// The score's historical average.
    pub average: f32,
    /// Success rate of the last hour, 0 to 1.
    pub reliability: f32,
    /// Coefficient of variation of its latency.
    pub drift: f32,
    /// True above a drift of 0.5.
    pub unstable: bool,
    /// Hash of its context.
    pub context: u64,
    /// What it can do.
    pub capabilities: Vec<String>,
}

/// All agents of a node.
#[derive(Debug)]
pub struct Registry {
    columns: Columns,
    ids: Index,
    /// Finds the first agent of a link's list.
    links: Index,
    seed: u64,
    clusters: Clusters,
    gates: Gates,
    names: Names,
    /// First of the free handles that were used before.
    free: u32,
    /// No handle from here on was ever used.
    fresh: u32,
    /// First and last of the agents without connection, by the time they lost it.
    gone: (u32, u32),
    /// Agents by state.
    counts: [u32; AgentState::ALL.len()],
    /// Number of the last selection.
    selection: u32,
}

impl Registry {
    /// Room for that many agents (1 to [`REGISTRY_AGENTS`]; outside, the nearest of them). `seed`
    /// keys the hashes: peers should not be able to guess it.
    #[must_use]
    pub fn new(agents: u32, seed: u64) -> Self {
        let agents = agents.clamp(1, REGISTRY_AGENTS);
        let clusters = Clusters::new(agents);
        Self {
            columns: Columns::new(agents as usize),
            ids: Index::new(agents),
            links: Index::new(agents),
            seed,
            gates: Gates::new(clusters.count(), clusters.sectors()),
            clusters,
            names: Names::default(),
            free: NONE,
            fresh: 0,
            gone: (NONE, NONE),
            counts: [0; AgentState::ALL.len()],
            selection: 0,
        }
    }

    /// Agents there is room for.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.columns.known.len() as u32
    }

    /// Agents known, connected or not.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// True where no agent is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Agents in a state.
    #[must_use]
    pub const fn count(&self, state: AgentState) -> u32 {
        self.counts[state.code() as usize]
    }

    /// Handles of all known agents, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.fresh).filter(|handle| self.columns.known[*handle as usize])
    }

    /// Clusters, seats, leads.
    #[must_use]
    pub const fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// The present reference of a handle.
    #[must_use]
    pub fn reference(&self, handle: u32) -> Option<AgentRef> {
        let at = self.at(handle)?;
        Some(AgentRef { handle, generation: self.columns.generation[at] })
    }

    /// The handle of a reference, if it is the present one.
    ///
    /// # Errors
    /// [`RefFault::Unknown`] and [`RefFault::Stale`].
    #[inline]
    pub fn get(&self, agent: AgentRef) -> Result<u32, RefFault> {
        let at = self.at(agent.handle).ok_or(RefFault::Unknown)?;
        if self.columns.generation[at] == agent.generation {
            Ok(agent.handle)
        } else {
            Err(RefFault::Stale)
        }
    }

    /// As [`Self::get`], for somebody who speaks as this agent on this connection.
    ///
    /// # Errors
    /// All of [`RefFault`].
    #[inline]
    pub fn verify(&self, agent: AgentRef, link: Link) -> Result<u32, RefFault> {
        let handle = self.get(agent)?;
        match self.link(handle) {
            None => Err(RefFault::Gone),
            Some(own) if own != link => Err(RefFault::Foreign),
            Some(_) => Ok(handle),
        }
    }

    /// The agent with this id.
    #[must_use]
    pub fn by_id(&self, id: &[u8; 16]) -> Option<AgentRef> {
        let handle =
            self.ids.find(hash_id(self.seed, id), |it| self.columns.id[it as usize] == *id)?;
        self.reference(handle)
    }

    /// The agent with this name or alias; none where the text names another class than it has.
    #[must_use]
    pub fn by_name(&self, text: &str) -> Option<AgentRef> {
        let named = Name::parse(text)?;
        let handle = self.clusters.at(named.name.seat())?;
        let fits = named.class.is_none_or(|class| class == self.class(handle));
        if fits { self.reference(handle) } else { None }
    }

    /// All about one agent. `now` is for its success rate.
    #[must_use]
    pub fn row(&self, now: Time, handle: u32) -> Option<AgentRow> {
        let at = self.at(handle)?;
        let columns = &self.columns;
        let seat = columns.seat(at);
        let held = columns.capabilities[at].iter().filter(|id| **id != NO_CAPABILITY);
        Some(AgentRow {
            agent: AgentRef { handle, generation: columns.generation[at] },
            id: columns.id[at],
            class: columns.class[at],
            state: columns.state[at],
            name: seat.name(),
            lead: self.clusters.lead(seat.cluster) == Some(handle),
            link: self.link(handle),
            latency: columns.latency[at],
            processing: columns.processing[at],
            queue: columns.queue[at],
            heartbeat: columns.heartbeat[at],
            score: columns.score[at],
            average: columns.average[at],
            reliability: self.reliability(now, handle),
            drift: columns.drift[at],
            unstable: self.unstable(handle),
            context: columns.context[at],
            capabilities: held.filter_map(|id| self.names.text(*id)).map(String::from).collect(),
        })
    }

    /// Index of a known agent.
    #[inline]
    fn at(&self, handle: u32) -> Option<usize> {
        let at = handle as usize;
        (*self.columns.known.get(at)?).then_some(at)
    }

    /// Bytes per agent of everything whose size grows with the capacity.
    #[must_use]
    pub fn bytes_per_agent(&self) -> usize {
        let bytes = self.columns.bytes()
            + self.ids.bytes()
            + self.links.bytes()
            + self.clusters.bytes()
            + self.gates.bytes();
        bytes.div_ceil(self.capacity() as usize)
    }
}

/// Single properties, for loops over many agents. Handles come from this registry: an unknown one
/// has the values of an agent that is offline, a handle outside the capacity panics.
impl Registry {
    /// Impedance class.
    #[must_use]
    #[inline]
    pub fn class(&self, handle: u32) -> AgentClass {
        self.columns.class[handle as usize]
    }

    /// Operational state.
    #[must_use]
    #[inline]
    pub fn state(&self, handle: u32) -> AgentState {
        self.columns.state[handle as usize]
    }

    /// 128-bit id.
    #[must_use]
    #[inline]
    pub fn id(&self, handle: u32) -> &[u8; 16] {
        &self.columns.id[handle as usize]
    }

    /// Present generation.
    #[must_use]
    #[inline]
    pub fn generation(&self, handle: u32) -> u32 {
        self.columns.generation[handle as usize]
    }

    /// Its connection, if it has one.
    #[must_use]
    #[inline]
    pub fn link(&self, handle: u32) -> Option<Link> {
        let link = self.columns.link[handle as usize];
        (link != NO_LINK).then_some(link)
    }

    /// Its place.
    #[must_use]
    #[inline]
    pub fn seat(&self, handle: u32) -> Seat {
        self.columns.seat(handle as usize)
    }

    /// Round trip, rolling average.
    #[must_use]
    #[inline]
    pub fn latency(&self, handle: u32) -> Time {
        self.columns.latency[handle as usize]
    }

    /// Processing time, rolling average.
    #[must_use]
    #[inline]
    pub fn processing(&self, handle: u32) -> Time {
        self.columns.processing[handle as usize]
    }

    /// Pending operations.
    #[must_use]
    #[inline]
    pub fn queue(&self, handle: u32) -> u32 {
        self.columns.queue[handle as usize]
    }

    /// Impedance score, 0 to 1000 ms (IMPED-07).
    #[must_use]
    #[inline]
    pub fn score(&self, handle: u32) -> f32 {
        self.columns.score[handle as usize]
    }

    /// Coefficient of variation of its latency (IMPED-09).
    #[must_use]
    #[inline]
    pub fn drift(&self, handle: u32) -> f32 {
        self.columns.drift[handle as usize]
    }

    /// Hash of its context (IMPED-11).
    #[must_use]
    #[inline]
    pub fn context(&self, handle: u32) -> u64 {
        self.columns.context[handle as usize]
    }

    /// Last heartbeat, or registration (IMPED-06).
    #[must_use]
    #[inline]
    pub fn last_heartbeat(&self, handle: u32) -> Time {
        self.columns.heartbeat[handle as usize]
    }

    /// True where the last heartbeat is under 10 s old (SCHED-07).
    #[must_use]
    #[inline]
    pub fn fresh(&self, now: Time, handle: u32) -> bool {
        now.saturating_sub(self.last_heartbeat(handle)) < FRESH_FOR
    }

    /// Success rate of the last hour, 0 to 1 (IMPED-08): what was seen here, or what the agent
    /// says while nothing was.
    #[must_use]
    #[inline]
    pub fn reliability(&self, now: Time, handle: u32) -> f32 {
        let seen = self.columns.outcomes[handle as usize].rate(now);
        seen.unwrap_or(self.columns.reported[handle as usize])
    }

    /// True above a drift of 0.5 (CLUST-02).
    #[must_use]
    #[inline]
    pub fn unstable(&self, handle: u32) -> bool {
        self.drift(handle) > UNSTABLE_DRIFT
    }

    /// True where the score is over twice its historical average (FAIL-03).
    #[must_use]
    #[inline]
    pub fn spiked(&self, handle: u32) -> bool {
        self.score(handle) > SPIKE * self.columns.average[handle as usize]
    }
}
