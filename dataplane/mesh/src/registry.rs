//! The registry of a node's agents (IMPED-01..15): who they are, where their connections are, how
//! fast they are, where they sit.
//!
//! Struct of arrays of a capacity fixed at the start; nothing is allocated for a heartbeat or an
//! answer. An agent is a *handle* (its index) and a *generation*: whoever holds a pair from an
//! earlier life is told so.

use wire::mesh::AgentState;

use crate::cluster::{Clusters, NONE, Name};
use crate::limits::REGISTRY_AGENTS;

mod beat;
mod columns;
mod gates;
mod index;
mod join;
mod lead;
mod names;
mod row;
mod select;
mod snapshot;
mod standing;
mod sweep;

pub use beat::{Impedance, score_of};
pub use gates::{Circuit, Gate, Place};
pub use join::{Joined, Newcomer, RegisterFault};
pub use row::AgentRow;
pub use select::{By, Capability, Selection, Skipped};
pub use snapshot::SnapshotFault;
pub use sweep::Swept;

use columns::Columns;
use gates::Gates;
use index::{Index, hash_id};
use names::Names;

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
